package import JournalModel

/// What a server's store promises; durability, checksums and threads as for `HostJournalStore`.
///
/// Nothing that it holds is ever changed or removed by a batch, save log payload that was folded and synced (`trims`),
/// promises that payload has met, and names of plain files that could not be made.
package protocol ServerHoldingsStore: AnyObject, Sendable {
  /// Nil until first set (P3).
  func startMarks() throws(StoreError) -> StartMarks?
  /// A life that isn't the last epoch's begins an epoch of the feed with it (M3).
  func setStartMarks(_ marks: StartMarks) throws(StoreError)
  /// The life in which numbers are given from now on. Nothing is written: its epoch begins in the commit that gives the
  /// first one, so that it also does while marks stay as they are, or can't be written.
  func begin(_ life: UUIDBytes)
  /// Without epochs until the marks of a start were set, or a life gave a number.
  func feed() throws(StoreError) -> Feed
  /// How far this server has what that peer announced.
  func cursor(of peer: String) throws(StoreError) -> FeedCursor?
  func journals() throws(StoreError) -> [HeldJournal]
  /// Every string of every file, ordered by (host, file, string).
  func strings() throws(StoreError) -> [StoredString]
  /// Signed lengths and roots that no bytes have met, ordered by length within a file.
  func promises() throws(StoreError) -> [Promise]
  /// Strings whose plain file may hold bytes that are neither committed nor in the log (K2), in the strings' order.
  func unfinished() throws(StoreError) -> [StringKey]
  /// Ranges of payload in the log, ordered by (host, file, offset).
  func logRanges() throws(StoreError) -> [LogRange]
  func logRanges(of key: StringKey) throws(StoreError) -> [LogRange]
  func logPayload(of key: StringKey, offset: UInt64) throws(StoreError) -> [UInt8]
  @discardableResult func commit(_ batch: ServerBatch) throws(StoreError) -> ServerCommitted
  /// Of every host of which anything is held.
  func totals() throws(StoreError) -> [HostName: HostTotals]
  /// Grows with every commit, and never within a process otherwise: what an answer has of it tells how old it is.
  var number: UInt64 { get }
  /// From one snapshot.
  func answer(_ query: StoreQuery) throws(StoreError) -> StoreAnswer
  /// The newest plain file that has this name under `latest`, by its birth (P1).
  func newest(host: HostName, latest: BytePath) throws(StoreError) -> StoredString?
  /// Those that a sequence shares with another one too. At least one if there is one, about `bytes` in all at most.
  func records(of key: SequenceKey, from first: UInt64, count: Int, bytes: Int) throws(StoreError) -> [[UInt8]]
  /// The least of the host's own checkpoints over more than so many records of a sequence that is kept: at most a frame's
  /// worth of records lies between two (J2). Nil beyond its end.
  func checkpoint(of key: SequenceKey, beyond length: UInt64) throws(StoreError) -> Checkpoint?
  func leaves(of key: StringKey, count: UInt64) throws(StoreError) -> [Digest]
  /// Files that the host ever recorded under this identity (D3).
  func files(host: HostName, identity: InodeIdentity) throws(StoreError) -> [FileUUID]
}

/// What a commit brought.
package struct ServerCommitted: Hashable, Sendable {
  /// Those that it changed, as they are now.
  package var totals: [HostName: HostTotals]
  /// Where the feed is now. Nil: nothing was added to it.
  package var position: FeedPosition?
  package init(totals: [HostName: HostTotals] = [:], position: FeedPosition? = nil) {
    self.totals = totals
    self.position = position
  }
}

/// A sequence of a journal (M1).
package struct HeldJournal: Hashable, Sendable {
  package var key: SequenceKey
  package var publicKey: Digest
  /// Records from the journal's first on, those that are another sequence's among them.
  package var length: UInt64
  /// The host's own checkpoint over `length` records; nil when there are none.
  package var checkpoint: Checkpoint?
  /// Roots of the perfect subtrees of the first `length` records (`Frontier`).
  package var frontier: [Digest]
  /// Where it leaves another one; nil for sequence 0. It never changes.
  package var fork: ForkPoint?
  /// Up to where checkpoints are kept, and the encoded bytes of the records behind.
  package var kept: KeptCheckpoint
  package init(
    key: SequenceKey, publicKey: Digest, length: UInt64, checkpoint: Checkpoint?, frontier: [Digest],
    kept: KeptCheckpoint = KeptCheckpoint(), fork: ForkPoint? = nil
  ) {
    self.key = key
    self.publicKey = publicKey
    self.length = length
    self.checkpoint = checkpoint
    self.frontier = frontier
    self.fork = fork
    self.kept = kept
  }

  package var host: HostName { key.journal.host }
  package var journal: JournalID { key.journal.journal }
  /// The number of the first record of its own.
  package var start: UInt64 { fork?.start ?? 0 }
}

/// The last checkpoint below a sequence's own that stays (J2): whoever supplies records later needs one for each frame.
package struct KeptCheckpoint: Hashable, Sendable {
  /// Of how many records; 0 while there is none.
  package var length: UInt64
  /// What the records behind it take, encoded.
  package var bytesSince: UInt64
  package init(length: UInt64 = 0, bytesSince: UInt64 = 0) {
    self.length = length
    self.bytesSince = bytesSince
  }
}

/// The perfect subtrees, of as many records as a row is kept for or more, that one record completes, the smallest first.
package struct JournalNodes: Hashable, Sendable {
  /// The record's.
  package var number: UInt64
  package var subtrees: [Digest]
  package init(number: UInt64, subtrees: [Digest]) {
    self.number = number
    self.subtrees = subtrees
  }
  /// Subtrees of 2 to the power of this many records: what is smaller follows from the records.
  package static var leastLevel: UInt8 { 6 }
}

/// A row of the server's file table.
package struct StoredString: Hashable, Sendable {
  package var key: StringKey
  package var identity: InodeIdentity
  package var isDerived: Bool
  package var path: BytePath
  /// What the host says of its birth, and when this server recorded that, by its own clock.
  package var born: WallTime
  package var received: WallTime
  package var parent: Parent?
  /// Bytes durably held, and their root.
  package var committed: UInt64
  package var root: Digest
  /// Bytes of the plain file that are known to be on the disk; the log holds `synced ..< committed`.
  package var synced: UInt64
  /// The name of its plain file, relative to the log root: no other string of this store has it (K5).
  package var stored: BytePath
  /// False while the file is being made: something else may turn out to have the name, then another is claimed. A row
  /// that says 'made' proves that the file is this string's own, so that a repair never cuts one that someone else put
  /// there. From then on the name never changes.
  package var isMade: Bool
  /// What the host's records say: greatest recorded length, whether it was closed there, what it can't supply (J4).
  package var recorded: UInt64
  package var closed: FileClosed.Reason?
  package var gap: StoredGap?
  /// Where it leaves another string of its file; nil for string 0. It never changes.
  package var branch: BranchPoint?

  package init(
    key: StringKey, identity: InodeIdentity, isDerived: Bool, path: BytePath, born: WallTime, received: WallTime,
    parent: Parent?, committed: UInt64, root: Digest, synced: UInt64, stored: BytePath, isMade: Bool = true,
    recorded: UInt64,
    closed: FileClosed.Reason? = nil, gap: StoredGap? = nil, branch: BranchPoint? = nil
  ) {
    self.key = key
    self.identity = identity
    self.isDerived = isDerived
    self.path = path
    self.born = born
    self.received = received
    self.parent = parent
    self.committed = committed
    self.root = root
    self.synced = synced
    self.stored = stored
    self.isMade = isMade
    self.recorded = recorded
    self.closed = closed
    self.gap = gap
    self.branch = branch
  }

  /// Of its bytes, those below are another string's, and stand in that one's plain file.
  package var start: UInt64 { branch?.start ?? 0 }
  package var segment: Segment { Segment(stored, from: start, base: branch?.base ?? 0) }
  /// It holds something that no other string of its file does.
  package var isDistinct: Bool { committed > branch?.divergence ?? 0 }

  /// From which offset on bytes are lacking that the host said it can't supply; nil once they came all the same.
  package var gapFrom: UInt64? {
    gap.flatMap { committed < $0.upper ? max($0.lower, committed) : nil }
  }
}

/// What all gaps of a file cover together: from the least beginning to the greatest end.
package struct StoredGap: Hashable, Sendable {
  package var lower: UInt64
  package var upper: UInt64
  package init(lower: UInt64, upper: UInt64) {
    self.lower = lower
    self.upper = upper
  }
}

package struct LogRange: Hashable, Sendable {
  package var key: StringKey
  package var offset: UInt64
  package var length: Int
  package init(key: StringKey, offset: UInt64, length: Int) {
    self.key = key
    self.offset = offset
    self.length = length
  }
}

/// One group commit of a server.
package struct ServerBatch: Hashable, Sendable {
  package struct RecordRun: Hashable, Sendable {
    package var first: UInt64
    package var encoded: [[UInt8]]
    /// The sequence's row after these records.
    package var after: HeldJournal
    /// Checkpoints that stay beside the row's, in order; one over `first` records may be among them.
    package var checkpoints: [Checkpoint]
    /// What these records complete.
    package var nodes: [JournalNodes]
    package init(
      first: UInt64, encoded: [[UInt8]], after: HeldJournal, checkpoints: [Checkpoint] = [], nodes: [JournalNodes] = []
    ) {
      self.first = first
      self.encoded = encoded
      self.after = after
      self.checkpoints = checkpoints
      self.nodes = nodes
    }
  }
  package struct LogPayload: Hashable, Sendable {
    package var key: StringKey
    package var offset: UInt64
    package var bytes: [UInt8]
    package init(key: StringKey, offset: UInt64, bytes: [UInt8]) {
      self.key = key
      self.offset = offset
      self.bytes = bytes
    }
  }
  package struct Leaves: Hashable, Sendable {
    package var key: StringKey
    package var first: UInt64
    package var hashes: [Digest]
    package init(key: StringKey, first: UInt64, hashes: [Digest]) {
      self.key = key
      self.first = first
      self.hashes = hashes
    }
  }

  package var records: [RecordRun] = []
  /// New or changed rows.
  package var strings: [StoredString] = []
  package var promises: [Promise] = []
  /// Promises that bytes of the file have met: they go. Others stay, also of lengths that are held: other bytes may be
  /// offered that meet them (K4).
  package var met: [Promise] = []
  package var leaves: [Leaves] = []
  package var log: [LogPayload] = []
  /// Log payload of the string below this offset is in its plain file and synced.
  package var trims: [Trim] = []
  /// Plain files that are made now, by their names under `latest`.
  package var named: [NamedFile] = []
  /// Into whose plain files bytes go from now on before they are committed, or that are being made; and for which neither
  /// is so any more (K2).
  package var unfinished: [StringKey] = []
  package var finished: [StringKey] = []
  /// How far this server has what peers announced, in place of what it had.
  package var cursors: [PeerCursor] = []
  /// So many of the changes that the trie hasn't followed yet, those of this batch among them, are taken into it (M2).
  package var folded = 0
  /// The trie is damaged, and begins anew before.
  package var foldsAnew = false
  package init() {}

  package struct NamedFile: Hashable, Sendable {
    package var key: FileKey
    package var latest: BytePath
    package var born: WallTime
    package init(key: FileKey, latest: BytePath, born: WallTime) {
      self.key = key
      self.latest = latest
      self.born = born
    }
  }
  package struct Trim: Hashable, Sendable {
    package var key: StringKey
    package var below: UInt64
    package init(key: StringKey, below: UInt64) {
      self.key = key
      self.below = below
    }
  }
}

extension ServerBatch {
  /// Those whose totals it may change.
  package var hosts: Set<HostName> {
    var hosts = Set(records.map(\.after.host))
    for row in strings { hosts.insert(row.key.key.host) }
    for promise in promises { hosts.insert(promise.key.host) }
    for promise in met { hosts.insert(promise.key.host) }
    return hosts
  }
}
