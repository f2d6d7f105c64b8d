package import JournalModel

/// What travels between a host and a server, and between two servers. Layout, limits and rules: `design/protocol.md`. A host
/// sends `hello`, `records`, `journalQuery`, `extendJournal`, `resumeQuery`, `extend`, `payload`; a server answers with the
/// others before `peerHello`; `ping`, `pong` and `goodbye` go both ways. Servers send one another those from `peerHello` on,
/// and on channels what hosts and servers do.
package enum Frame: Hashable, Sendable {
  case hello(Hello)
  case welcome(Welcome)
  case records(Records)
  /// The server durably holds the first records of the connection's journal, as many as the host's own checkpoint covers.
  case recordsDurable(Checkpoint)
  /// The host asks for heads of the sequences of its journal, which has so many records, and is answered.
  case journalQuery(length: UInt64)
  case journalAnswer([TreeHead])
  /// Records on this connection go on from here, of all that the server's sequences have: see `Welcome.heads`.
  case extendJournal(TreeHead)
  case resumeQuery([FileUUID])
  case resumeAnswer([HeldFile])
  /// What follows of this file goes on from these bytes, of several strings that the server holds; of length 0: from the
  /// beginning, and its bytes are others than those held.
  case extend(DurablePrefix)
  /// The header; `length` payload bytes follow it in the same frame and never pass through the core.
  case payload(PayloadHeader)
  /// What the server durably holds of each file, whoever supplied it.
  case payloadDurable([DurablePrefix])
  /// Where the server's feed is: what it tells of itself from here on may be so since then.
  case position(FeedPosition)
  /// All payload bytes that the host may send on this connection since it began. Never shrinks.
  case credit(total: UInt64)
  case refusal(Refusal)
  case ping(nonce: UInt64)
  case pong(nonce: UInt64)
  case goodbye(code: RefusalCode, text: String)
  // Between servers (`Frame+Peers`)
  case peerHello(PeerHello)
  case feed(FeedStart)
  case announce(Announcement)
  case noted(Noted)
  case openChannel(ChannelOpening)
  /// The next frame is of this channel.
  case channel(UInt32)
  case closeChannel(ChannelEnd)
  case wantRecords(WantedRecords)
  case wantBytes(WantedBytes)
  /// What stands under this part of the other side's trie? Answered in order.
  case askTrie(TriePrefix)
  /// The digests of its 16 parts.
  case trieParts([Digest])
  case trieBucket(TrieBucket)
  /// The digest of all that the sender durably holds.
  case holdings(HoldingsDigest)
}

package struct Hello: Hashable, Sendable {
  /// Protocol versions that the host speaks.
  package var oldest: UInt16
  package var newest: UInt16
  package var host: HostName
  package var journal: JournalID
  package var publicKey: Digest
  /// Where the server's feed was when it last told this host what it holds; nil: it never did.
  package var position: FeedPosition?
  /// Names of optional features that the host offers; at most 64 of at most 64 bytes.
  package var features: [String]
  package init(
    oldest: UInt16, newest: UInt16, host: HostName, journal: JournalID, publicKey: Digest,
    position: FeedPosition? = nil, features: [String] = []
  ) {
    self.oldest = oldest
    self.newest = newest
    self.host = host
    self.journal = journal
    self.publicKey = publicKey
    self.position = position
    self.features = features
  }
}

package struct Welcome: Hashable, Sendable {
  package var version: UInt16
  package var server: String
  /// Where the server's feed is; nil: it holds nothing of anybody.
  package var position: FeedPosition?
  /// The position that the host showed is one of this feed: all that was acknowledged up to there is still held.
  package var isContinued: Bool
  /// The host's own checkpoint over all records of each sequence of its journal that the server durably holds (J6); none
  /// when it holds nothing. Where there is one, records go on from it; the host says so where they don't, or where there
  /// are several.
  package var heads: [Checkpoint]
  /// First value of `credit`.
  package var credit: UInt64
  package var features: [String]
  package init(
    version: UInt16, server: String, position: FeedPosition? = nil, isContinued: Bool = false, heads: [Checkpoint],
    credit: UInt64, features: [String] = []
  ) {
    self.version = version
    self.server = server
    self.position = position
    self.isContinued = isContinued
    self.heads = heads
    self.credit = credit
    self.features = features
  }
}

/// Encoded records `first ..< first + count` with a checkpoint over `first + count` records (J2).
package struct Records: Hashable, Sendable {
  package var first: UInt64
  package var encoded: [[UInt8]]
  package var checkpoint: Checkpoint
  package init(first: UInt64, encoded: [[UInt8]], checkpoint: Checkpoint) {
    self.first = first
    self.encoded = encoded
    self.checkpoint = checkpoint
  }
}

/// All strings held of a file; none when the server holds nothing of it.
package struct HeldFile: Hashable, Sendable {
  package var file: FileUUID
  package var strings: [TreeHead]
  package init(file: FileUUID, strings: [TreeHead]) {
    self.file = file
    self.strings = strings
  }
}

package struct PayloadHeader: Hashable, Sendable {
  package var file: FileUUID
  package var offset: UInt64
  /// 1 ... `Limits.payloadFrameSize`.
  package var length: Int
  package var end: UInt64 { offset + UInt64(length) }
  package init(file: FileUUID, offset: UInt64, length: Int) {
    self.file = file
    self.offset = offset
    self.length = length
  }
}

/// The first `length` bytes of a file, whose root is `root`.
package struct DurablePrefix: Hashable, Sendable {
  package var file: FileUUID
  package var length: UInt64
  package var root: Digest
  package init(file: FileUUID, length: UInt64, root: Digest) {
    self.file = file
    self.length = length
    self.root = root
  }

  /// Length 0; the root says nothing, and is written as zeros.
  package static func nothing(of file: FileUUID) -> DurablePrefix {
    DurablePrefix(file: file, length: 0, root: Digest(words: 0, 0, 0, 0))
  }
}

/// An answer with a reason, about one file or about the journal's records (W4). The connection goes on.
package struct Refusal: Hashable, Sendable {
  /// Nil: the records, not a file.
  package var file: FileUUID?
  package var code: RefusalCode
  /// What the server durably holds of the file, where the host may resume.
  package var length: UInt64
  /// For operators; at most 512 bytes of UTF-8.
  package var text: String
  package init(file: FileUUID?, code: RefusalCode, length: UInt64, text: String) {
    self.file = file
    self.code = code
    self.length = length
    self.text = text
  }
}

package enum RefusalCode: UInt16, Hashable, Sendable, CaseIterable {
  /// Bytes don't hash to the host's signed root (W3): the host looks at the file again.
  case rootMismatch = 1
  /// Other bytes are held for the range: a branch (W3). Nothing is changed.
  case conflict = 2
  /// The records disagree with the ones held: equivocation (M1).
  case journalFork = 3
  /// A record, checkpoint or binding doesn't verify.
  case badSignature = 4
  /// The certificate doesn't name this host (W5).
  case nameNotYours = 5
  case diskFull = 6
  case quota = 7
  /// Payload of a file whose birth isn't recorded, or beyond every recorded length.
  case unknownFile = 8
  /// The other side broke a rule of `design/protocol.md`.
  case protocolViolation = 9
  case versionUnsupported = 10
  /// Another connection is delivering this file; ask again later.
  case busy = 11
  /// A newer connection of the same host and journal took over.
  case superseded = 12
  case shuttingDown = 13
  case silence = 14
  /// The name can't be stored.
  case badName = 15
  /// There is room, but the file's place on the server can't be used: somebody removed it, it is of another kind, may
  /// not be opened, or lies below a mount. The text says which, and what helps.
  case unstorable = 16
  /// A code of a later version.
  case other = 65_535
}
