package import JournalModel

/// What a host's journal store promises. Two implementations (`InMemoryHostStore`, LMDB) pass one conformance suite.
///
/// - Every value is stored with a version and a checksum; a value that fails either is `StoreError.corrupt`, never data.
/// - `commit` is atomic and durable: when it returns, all of the batch survives a power cut; when it throws, none of it
///   is visible, now or after a restart, unless the error is `.failedSync`, after which the store accepts nothing more.
/// - Records are numbered from 0 without holes and are never changed or removed.
/// - Calls come from one thread at a time for `commit`; reads may run beside a commit on other threads and see the
///   state before or after it, never between.
package protocol HostJournalStore: AnyObject, Sendable {
  /// Nil until `create`.
  func identity() throws(StoreError) -> JournalIdentity?
  /// Begins the journal. Throws `.alreadyExists` when there is one.
  func create(_ identity: JournalIdentity) throws(StoreError)
  /// How many records the journal holds.
  func length() throws(StoreError) -> UInt64
  func commit(_ batch: HostBatch) throws(StoreError) -> JournalPosition
  /// Encoded records from `first`, at least one if there is one, at most `count` and about `bytes` bytes.
  func records(from first: UInt64, count: Int, bytes: Int) throws(StoreError) -> [[UInt8]]
  /// The tree's root over the first `length` records. Throws `.outOfRange` beyond the journal's length.
  func root(at length: UInt64) throws(StoreError) -> Digest
  /// Every file of the file table, in the order of the uuids.
  func files() throws(StoreError) -> [KnownFile]
  /// Hashes of the file's complete leaves `0 ..< count`. Throws `.outOfRange` when fewer are stored.
  func leaves(of file: FileUUID, count: UInt64) throws(StoreError) -> [Digest]
  /// What each server had acknowledged of each file when last noted, since it last lost anything; a hint that may be old,
  /// never ahead.
  func delivered(to server: String) throws(StoreError) -> [FileUUID: UInt64]
  /// The same of one file.
  func delivered(to server: String, of file: FileUUID) throws(StoreError) -> UInt64?
  /// Where that server's feed was when it had acknowledged all of that at least. Nil: nothing is noted.
  func position(of server: String) throws(StoreError) -> FeedPosition?
  /// Servers of which anything was ever noted, in the order of the bytes of their names.
  func notedServers() throws(StoreError) -> [String]
  /// A file's row.
  func file(_ file: FileUUID) throws(StoreError) -> KnownFile?
  /// Files of which no end is journaled, in the order of the uuids: what a start reads (K1).
  func living(servers: [String]) throws(StoreError) -> [StoredFile]
  /// Grows with every commit, and never within a process otherwise: what an answer has of it tells how old it is.
  var number: UInt64 { get }
  /// From one snapshot.
  func answer(_ query: HostQuery, servers: [String]) throws(StoreError) -> HostAnswer
  /// The gaps that are recorded and not healed, in the order of their records.
  func gaps() throws(StoreError) -> [StandingGap]
}

package struct JournalIdentity: Hashable, Sendable {
  package var host: HostName
  package var journal: JournalID
  package var publicKey: Digest
  package init(host: HostName, journal: JournalID, publicKey: Digest) {
    self.host = host
    self.journal = journal
    self.publicKey = publicKey
  }
}

package struct JournalPosition: Hashable, Sendable {
  package var length: UInt64
  package var root: Digest
  package init(length: UInt64, root: Digest) {
    self.length = length
    self.root = root
  }
}

/// One group commit of a host.
package struct HostBatch: Hashable, Sendable {
  /// Canonical encodings, appended in order.
  package var records: [[UInt8]] = []
  /// New or changed rows of the file table.
  package var files: [KnownFile] = []
  /// Hashes of leaves that appends completed. A leaf that is stored already must be equal, else `.refused`.
  package var leaves: [LeafRange] = []
  /// Servers that lost what they had: nothing that was noted of them before counts any more, for no file.
  package var forgotten: [String] = []
  package var delivered: [Delivered] = []
  /// Where the servers' feeds were when they had acknowledged that at least.
  package var positions: [ServerPosition] = []
  /// Gaps among `records`, and the numbers of earlier ones whose bytes turned up after all.
  package var gaps: [StandingGap] = []
  package var healed: [UInt64] = []
  package init() {}
  package var isEmpty: Bool {
    records.isEmpty && files.isEmpty && leaves.isEmpty && forgotten.isEmpty && delivered.isEmpty
      && positions.isEmpty && gaps.isEmpty && healed.isEmpty
  }
}

package struct Delivered: Hashable, Sendable {
  package static let longestServerName = 255
  /// In the place of a file: the journal itself, its length in records (the nil uuid of RFC 9562).
  package static let journal = FileUUID(UUIDBytes(high: 0, low: 0))
  /// In the place of a file: 1 in the place of a length when the server has all files whose end is journaled but for what
  /// gaps say, 0 when not any more. As long as the host delivers to it a file's end is journaled only when it has all.
  package static let ended = FileUUID(UUIDBytes(high: 0, low: 1))
  /// 1 ... 255 bytes without NUL.
  package var server: String
  package var file: FileUUID
  package var length: UInt64
  package init(server: String, file: FileUUID, length: UInt64) {
    self.server = server
    self.file = file
    self.length = length
  }
}

/// Where a server's feed was. Unless it is a position of that server's feed still, nothing counts that was noted of it.
package struct ServerPosition: Hashable, Sendable {
  package var server: String
  package var position: FeedPosition
  package init(server: String, position: FeedPosition) {
    self.server = server
    self.position = position
  }
}

/// A gap that stands: the number of its record, its file where it is one's, and where it ends, 2^64 - 1: nobody knows.
package struct StandingGap: Hashable, Sendable {
  package var record: UInt64
  package var file: FileUUID?
  package var upper: UInt64
  package init(record: UInt64, file: FileUUID?, upper: UInt64) {
    self.record = record
    self.file = file
    self.upper = upper
  }
}

/// A row of the host's file table: what must be known of a file to go on with it after a restart.
package struct KnownFile: Hashable, Sendable {
  package var file: FileUUID
  package var inode: InodeKey
  package var isDerived: Bool
  /// Its present name; the last one when it has none.
  package var path: BytePath
  package var born: WallTime
  /// Journaled length with its root.
  package var length: UInt64
  package var root: Digest
  /// Hash of the last min(tailSize, length / 2) bytes before `length` (D6).
  package var tail: Digest
  /// Size and modification time of the inode when `length` was journaled: what has not moved isn't re-read (D4).
  package var size: UInt64
  package var modified: WallTime
  package var closed: FileClosed.Reason?
  /// Bytes from here to `length` are in a gap: settled as far as the host is concerned (J4). Equal to `length` and
  /// beyond where there is none.
  package var gapFrom: UInt64?

  package init(
    file: FileUUID, inode: InodeKey, isDerived: Bool, path: BytePath, born: WallTime, length: UInt64, root: Digest,
    tail: Digest, size: UInt64, modified: WallTime, closed: FileClosed.Reason? = nil, gapFrom: UInt64? = nil
  ) {
    self.file = file
    self.inode = inode
    self.isDerived = isDerived
    self.path = path
    self.born = born
    self.length = length
    self.root = root
    self.tail = tail
    self.size = size
    self.modified = modified
    self.closed = closed
    self.gapFrom = gapFrom
  }
}

package indirect enum StoreError: Error, Hashable, Sendable {
  case alreadyExists
  case outOfRange
  /// ENOSPC, EDQUOT or a full map: nothing was changed, later calls may succeed (P4).
  case full(String)
  /// A stored value has the wrong version or checksum, or disagrees with another: what and where.
  case corrupt(String)
  /// The store's own structure is broken, so that nothing can be told of any value.
  case damaged(String)
  /// A sync or meta write failed: the store accepts nothing more until it is reopened (P4).
  case failedSync(String)
  case failed(String)
  /// One thing in a batch contradicts what is held, or what is held of it is damaged: without it the rest may succeed.
  case refused(StoreSubject, StoreError)
}

/// What a store can refuse by itself: a server's a sequence of a journal or a string, a host's a file.
package enum StoreSubject: Hashable, Sendable {
  case file(FileUUID)
  case journal(SequenceKey)
  case string(StringKey)

  /// What `body` finds wrong with a stored value or a batch is wrong with this.
  package func refusing<R>(_ body: () throws(StoreError) -> R) throws(StoreError) -> R {
    do throws(StoreError) { return try body() } catch {
      switch error {
      case .corrupt, .failed: throw .refused(self, error)
      case .alreadyExists, .outOfRange, .full, .failedSync, .damaged, .refused: throw error
      }
    }
  }
}

extension StoreError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .alreadyExists: "it exists already"
    case .outOfRange: "beyond what is stored"
    case .full(let what): "no room: \(what)"
    case .corrupt(let what), .damaged(let what): "damaged: \(what)"
    case .refused(_, let why): "\(why)"
    case .failedSync(let what): "a sync failed: \(what)"
    case .failed(let what): what
    }
  }
}
