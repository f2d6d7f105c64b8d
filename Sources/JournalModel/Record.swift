/// One event of a journal. Encodings: `design/formats.md`, vectors in `Tests/JournalModelTests`.
package struct Record: Hashable, Sendable {
  /// When the host journaled it. Metadata.
  package var time: WallTime
  package var body: RecordBody

  package init(time: WallTime, body: RecordBody) {
    self.time = time
    self.body = body
  }
}

package enum RecordBody: Hashable, Sendable {
  case journalOpened(JournalOpened)
  case fileBorn(FileBorn)
  case bytesAppended(BytesAppended)
  case rotated(Rotated)
  case fileClosed(FileClosed)
  case gap(Gap)
  /// A type that this version does not know: stored, hashed and passed on as it is (J7).
  case unknown(type: UInt16, body: [UInt8])
}

/// The first record of every journal.
package struct JournalOpened: Hashable, Sendable {
  package var host: HostName
  package var journal: JournalID
  /// Ed25519 public key (RFC 8032), 32 bytes.
  package var publicKey: Digest
  package var binding: Binding
  /// Heads of earlier journals of this host, when known (J6).
  package var earlier: [JournalHead]
  /// All files followed or still owed when a journal succeeds another (J6). Empty in a host's first journal.
  package var files: [FileHead]
  /// After a loss: the host may have missed bytes since this wall time.
  package var gapSince: WallTime?

  package init(
    host: HostName, journal: JournalID, publicKey: Digest, binding: Binding, earlier: [JournalHead] = [],
    files: [FileHead] = [], gapSince: WallTime? = nil
  ) {
    self.host = host
    self.journal = journal
    self.publicKey = publicKey
    self.binding = binding
    self.earlier = earlier
    self.files = files
    self.gapSince = gapSince
  }
}

/// Who vouches that the journal key belongs to the host name (W5, W6).
package enum Binding: Hashable, Sendable {
  /// The host's certificate chain (DER, leaf first) and the leaf key's signature over host name, journal id and
  /// journal public key.
  case certificate(chain: [[UInt8]], signature: [UInt8])
  /// The journal key's own signature over the three (server-only mode).
  case journalKey(signature: [UInt8])
}

package struct JournalHead: Hashable, Sendable {
  package var journal: JournalID
  package var length: UInt64
  package var root: Digest
  package init(journal: JournalID, length: UInt64, root: Digest) {
    self.journal = journal
    self.length = length
    self.root = root
  }
}

package struct FileHead: Hashable, Sendable {
  package var file: FileUUID
  package var identity: InodeIdentity
  package var length: UInt64
  package var root: Digest
  package init(file: FileUUID, identity: InodeIdentity, length: UInt64, root: Digest) {
    self.file = file
    self.identity = identity
    self.length = length
    self.root = root
  }
}

package struct FileBorn: Hashable, Sendable {
  package var file: FileUUID
  package var identity: InodeIdentity
  /// True for incarnation 0 with a usable identity: the uuid is derived from it (D1).
  package var isDerived: Bool
  /// The path by which a pattern found the file, and its real path.
  package var path: BytePath
  package var realPath: BytePath
  /// `st_mode`, owner and group as `stat(2)` gives them.
  package var mode: UInt32
  package var owner: UInt32
  package var group: UInt32
  /// The incarnation's birth: the inode's birth time for incarnation 0 where known, else when the node saw it begin.
  package var born: WallTime
  package var modified: WallTime
  package var parent: Parent?

  package init(
    file: FileUUID, identity: InodeIdentity, isDerived: Bool, path: BytePath, realPath: BytePath, mode: UInt32,
    owner: UInt32, group: UInt32, born: WallTime, modified: WallTime, parent: Parent? = nil
  ) {
    self.file = file
    self.identity = identity
    self.isDerived = isDerived
    self.path = path
    self.realPath = realPath
    self.mode = mode
    self.owner = owner
    self.group = group
    self.born = born
    self.modified = modified
    self.parent = parent
  }
}

/// The file that this one continues or replaces: its first `length` bytes, with their root, and why.
/// After a truncation `length` is the parent's journaled length and nothing of it is shared; after a rewind the child
/// begins with those bytes by reference (D5).
package struct Parent: Hashable, Sendable {
  package enum Why: UInt8, Hashable, Sendable {
    case truncated = 1
    case rewound = 2
    case journalLost = 3
  }
  package var file: FileUUID
  package var length: UInt64
  package var root: Digest
  package var why: Why
  package init(file: FileUUID, length: UInt64, root: Digest, why: Why) {
    self.file = file
    self.length = length
    self.root = root
    self.why = why
  }
}

/// Bytes `offset ..< offset + length` of the file exist; `root` covers the first `offset + length` bytes.
package struct BytesAppended: Hashable, Sendable {
  package var file: FileUUID
  package var offset: UInt64
  package var length: UInt64
  package var root: Digest
  package var end: UInt64 { offset + length }
  package init(file: FileUUID, offset: UInt64, length: UInt64, root: Digest) {
    self.file = file
    self.offset = offset
    self.length = length
    self.root = root
  }
}

/// `to` is nil when no name is left that the host knows, while the file may still grow.
package struct Rotated: Hashable, Sendable {
  package var file: FileUUID
  package var from: BytePath
  package var to: BytePath?
  package init(file: FileUUID, from: BytePath, to: BytePath?) {
    self.file = file
    self.from = from
    self.to = to
  }
}

/// A statement, not a bar: a closed file may grow.
package struct FileClosed: Hashable, Sendable {
  package enum Reason: UInt8, Hashable, Sendable {
    /// Nameless, every byte read, and no writer has it open.
    case deleted = 1
    /// Truncated or replaced in place: the next incarnation follows.
    case truncated = 2
    /// Its name was gone when the node came back, or it was moved to where nobody looks; nothing was owed.
    case vanished = 3
  }
  package var file: FileUUID
  package var length: UInt64
  package var root: Digest
  package var reason: Reason
  package init(file: FileUUID, length: UInt64, root: Digest, reason: Reason) {
    self.file = file
    self.length = length
    self.root = root
    self.reason = reason
  }
}

/// A range known to be missing, or possibly missing, and why (G7, J4).
package struct Gap: Hashable, Sendable {
  package enum Subject: Hashable, Sendable {
    case file(FileUUID)
    case path(BytePath)
  }
  package enum Reason: UInt8, Hashable, Sendable {
    /// The file was truncated or rewritten before every server had the range.
    case truncated = 1
    /// The file's last name was gone when the node came back.
    case vanished = 2
    /// A byte below the known length changed in place (D6).
    case changedInPlace = 3
    /// The journaled bytes can no longer be read (EIO that lasts, ESTALE).
    case unreadable = 4
  }
  package var subject: Subject
  /// Half open; `upper` is `UInt64.max` where the end is unknown.
  package var lower: UInt64
  package var upper: UInt64
  package var reason: Reason
  /// The greatest length that the host can still prove from the file itself, with its root.
  package var provenLength: UInt64
  package var provenRoot: Digest
  package init(
    subject: Subject, lower: UInt64, upper: UInt64, reason: Reason, provenLength: UInt64, provenRoot: Digest
  ) {
    self.subject = subject
    self.lower = lower
    self.upper = upper
    self.reason = reason
    self.provenLength = provenLength
    self.provenRoot = provenRoot
  }
}

/// The journal key's signature over host name, journal id, length and root (see `Checkpoint+Encoding`).
package struct Checkpoint: Hashable, Sendable {
  package var host: HostName
  package var journal: JournalID
  package var length: UInt64
  package var root: Digest
  /// Ed25519, 64 bytes.
  package var signature: [UInt8]
  package init(host: HostName, journal: JournalID, length: UInt64, root: Digest, signature: [UInt8]) {
    self.host = host
    self.journal = journal
    self.length = length
    self.root = root
    self.signature = signature
  }
}
