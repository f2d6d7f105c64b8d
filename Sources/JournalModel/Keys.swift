/// A followed incarnation of an inode, while the process runs. Never reused. Public, as `FileSlots` is.
public struct FileID: Hashable, Sendable, Comparable {
  public var value: UInt32
  @inlinable public init(_ value: UInt32) { self.value = value }
  @inlinable public static func < (l: FileID, r: FileID) -> Bool { l.value < r.value }
}

/// The bytes of one received payload frame, held by the data plane until the core says what becomes of them.
package struct PayloadID: Hashable, Sendable {
  package var value: UInt64
  package init(_ value: UInt64) { self.value = value }
}

package struct FileKey: Hashable, Sendable, Comparable {
  package var host: HostName
  package var file: FileUUID
  package init(host: HostName, file: FileUUID) {
    self.host = host
    self.file = file
  }
  package static func < (l: FileKey, r: FileKey) -> Bool { (l.host, l.file) < (r.host, r.file) }
}

/// One of the strings of a file: 0 is the one first received, others are branches.
package struct StringKey: Hashable, Sendable, Comparable {
  package var key: FileKey
  package var string: UInt32
  package init(key: FileKey, string: UInt32) {
    self.key = key
    self.string = string
  }
  package static func < (l: StringKey, r: StringKey) -> Bool { (l.key, l.string) < (r.key, r.string) }
}

/// A plain file, and the first byte of its string that it has: what lies below is in another string's. 0 but for branches.
package struct Segment: Hashable, Sendable {
  /// Relative to the log root.
  package var path: BytePath
  package var start: UInt64
  /// The string of the same file that has the bytes below.
  package var base: UInt32
  package init(_ path: BytePath, from start: UInt64 = 0, base: UInt32 = 0) {
    self.path = path
    self.start = start
    self.base = base
  }

  /// Of which string the leaves below `length` are: a branch that has nothing yet needn't be known to a store.
  package func holder(of key: StringKey, at length: UInt64) -> StringKey {
    start > 0 && length == start ? StringKey(key: key.key, string: base) : key
  }
}

/// Where a string above 0 leaves another one of its file, `base`, which holds that much: `divergence` is the first byte that
/// differs, `start` the beginning of the leaf that it lies in. Of the string's own bytes the first is that at `start`.
package struct BranchPoint: Hashable, Sendable {
  package var base: UInt32
  package var start: UInt64
  package var divergence: UInt64
  package init(base: UInt32 = 0, start: UInt64, divergence: UInt64) {
    self.base = base
    self.start = start
    self.divergence = divergence
  }
}

/// So much of a file or a journal, in bytes or records, and the root over that (the 'tree head' of RFC 6962, 3.5).
package struct TreeHead: Hashable, Sendable {
  package var length: UInt64
  package var root: Digest
  package init(length: UInt64, root: Digest) {
    self.length = length
    self.root = root
  }
}

/// Names one journal on a server.
package struct HostJournal: Hashable, Sendable, Comparable {
  package var host: HostName
  package var journal: JournalID
  package init(host: HostName, journal: JournalID) {
    self.host = host
    self.journal = journal
  }
  package static func < (l: HostJournal, r: HostJournal) -> Bool { (l.host, l.journal) < (r.host, r.journal) }
}

/// One of the sequences of a journal: 0 is the one first received, others disagree with it. The numbers are local.
package struct SequenceKey: Hashable, Sendable, Comparable {
  package var journal: HostJournal
  package var sequence: UInt32
  package init(journal: HostJournal, sequence: UInt32 = 0) {
    self.journal = journal
    self.sequence = sequence
  }
  package static func < (l: SequenceKey, r: SequenceKey) -> Bool { (l.journal, l.sequence) < (r.journal, r.sequence) }
}

/// Where a sequence above 0 leaves another one of its journal, `base`: the number of the first record that differs. The
/// ones below are that one's.
package struct ForkPoint: Hashable, Sendable {
  package var base: UInt32
  package var start: UInt64
  package init(base: UInt32 = 0, start: UInt64) {
    self.base = base
    self.start = start
  }
}

/// A host-signed root that no byte has met yet (W3).
package struct Promise: Hashable, Sendable {
  package var key: FileKey
  package var length: UInt64
  package var root: Digest
  /// Roots of one length that are used, the first that came; more stay in their journals (K4).
  package static var mostRoots: Int { 8 }
  package init(key: FileKey, length: UInt64, root: Digest) {
    self.key = key
    self.length = length
    self.root = root
  }
}

package struct LeafRange: Hashable, Sendable {
  package var file: FileUUID
  package var first: UInt64
  package var hashes: [Digest]
  package init(file: FileUUID, first: UInt64, hashes: [Digest]) {
    self.file = file
    self.first = first
    self.hashes = hashes
  }
}
