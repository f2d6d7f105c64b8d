package import JournalModel
package import MerkleLog

/// What a server's core asks of its store (K1).
package enum StoreQuery: Hashable, Sendable {
  /// All that the store has of these files, but of each only the next `promises` promises.
  case files([FileKey], promises: Int)
  /// The next `count` promises of a file beyond a length.
  case promises(FileKey, beyond: UInt64, count: Int)
  /// Their rows, for answers to resume queries.
  case rows([FileKey])
  /// The keys of the next `count` files behind this one.
  case keys(after: FileKey?, count: Int)
  /// Heads of a journal up to a length: that of each sequence there, or at its end, and below at distances that double.
  case heads(HostJournal, upTo: UInt64)
  /// What sequences of a journal have in their first so many records.
  case beginnings(HostJournal, length: UInt64)
  /// The records of a sequence from one on.
  case records(SequenceKey, from: UInt64, count: Int, bytes: Int)
  /// The next `count` changes behind a number, and the feed that they stand in (M3).
  case changes(after: UInt64, count: Int)
  /// The records of a sequence up to the next checkpoint of the host's own that is kept, with it: what a frame of them
  /// takes (J2).
  case frame(SequenceKey, from: UInt64)
  /// Roots of a sequence over its first so many records.
  case roots(SequenceKey, lengths: [UInt64])
  /// The digest of all that is held, as far as its trie has followed the feed, and the feed (M2).
  case digest
  /// What stands under a part of the trie, with the digest.
  case subtrie(TriePrefix)
  /// The digests of the 16 parts under one, with the digest.
  case triePart(TriePrefix)
}

extension StoreQuery {
  /// Whose alone it is about.
  package var host: HostName? {
    switch self {
    case .promises(let key, _, _): key.host
    case .heads(let journal, _), .beginnings(let journal, _): journal.host
    case .records(let key, _, _, _), .frame(let key, _), .roots(let key, _): key.journal.host
    case .files, .rows, .keys, .changes, .digest, .subtrie, .triePart: nil
    }
  }
}

package struct StoreAnswer: Hashable, Sendable {
  /// What the store had committed (`ServerHoldingsStore.number`).
  package var number: UInt64
  /// In the order of the query.
  package var files: [LoadedFile]
  package var heads: [TreeHead] = []
  package var beginnings: [JournalBeginning] = []
  package var records: [[UInt8]] = []
  package var checkpoint: Checkpoint?
  package var changes: [Change] = []
  package var feed: Feed?
  package var digest: HoldingsDigest?
  package var subtrie: Subtrie?
  package var trieParts: [Digest] = []
  package init(number: UInt64, files: [LoadedFile] = []) {
    self.number = number
    self.files = files
  }
}

/// The first records of a sequence.
package struct JournalBeginning: Hashable, Sendable {
  package var sequence: UInt32
  package var length: UInt64
  package var frontier: [Digest]
  package var kept: KeptCheckpoint
  package init(sequence: UInt32, length: UInt64, frontier: [Digest], kept: KeptCheckpoint) {
    self.sequence = sequence
    self.length = length
    self.frontier = frontier
    self.kept = kept
  }
}

/// A file as the store has it.
package struct LoadedFile: Hashable, Sendable {
  package var key: FileKey
  /// String 0; nil when no birth is recorded, and when only keys were asked for.
  /// Of one that was set apart the row may know of less than was promised: it has the greatest promised length here.
  package var row: StoredString?
  /// Its other strings, in their order.
  package var branches: [LoadedBranch] = []
  /// Those beyond string 0's committed length, or the one that was asked for, ordered by length.
  package var promises: [Promise]
  /// Up to here they are all that there are; nil when there are no more.
  package var promisesEnd: UInt64?
  package var isUnfinished: Bool
  package init(
    key: FileKey, row: StoredString?, branches: [LoadedBranch] = [], promises: [Promise] = [],
    promisesEnd: UInt64? = nil, isUnfinished: Bool = false
  ) {
    self.key = key
    self.row = row
    self.branches = branches
    self.promises = promises
    self.promisesEnd = promisesEnd
    self.isUnfinished = isUnfinished
  }
}

/// A string beside the first one of its file.
package struct LoadedBranch: Hashable, Sendable {
  package var row: StoredString
  package var isUnfinished: Bool
  package init(row: StoredString, isUnfinished: Bool = false) {
    self.row = row
    self.isUnfinished = isUnfinished
  }
}

/// Promises of a file, in the order of their lengths.
package struct PromisePage: Hashable, Sendable {
  package private(set) var promises: [Promise] = []
  /// Up to here they are all that there are; nil when there are no more.
  package private(set) var end: UInt64?
  package init() {}

  /// Adds the next one; false if the page is full: a length isn't split.
  package mutating func add(_ promise: Promise, upTo count: Int) -> Bool {
    if let last = promises.last, promises.count >= count, last.length < promise.length {
      end = last.length
      return false
    }
    promises.append(promise)
    return true
  }
}

/// What answers are read from: one snapshot of a store.
package protocol StoreSnapshot: ~Copyable {
  var number: UInt64 { get }
  func string(_ key: StringKey) throws(StoreError) -> StoredString?
  /// Its strings above 0, in their order.
  func branches(of key: FileKey) throws(StoreError) -> [StoredString]
  /// At least so many, of a length all or none.
  func promises(of key: FileKey, beyond length: UInt64, count: Int) throws(StoreError) -> PromisePage
  func greatestPromise(of key: FileKey) throws(StoreError) -> UInt64?
  func isUnfinished(_ key: StringKey) throws(StoreError) -> Bool
  func keys(after key: FileKey?, count: Int) throws(StoreError) -> [FileKey]
  func journal(_ key: SequenceKey) throws(StoreError) -> HeldJournal?
  /// All sequences of a journal, in their order.
  func sequences(of journal: HostJournal) throws(StoreError) -> [HeldJournal]
  /// A sequence's own: see `ServerHoldingsStore.records`.
  func ownRecords(
    of key: SequenceKey, from first: UInt64, count: Int, bytes: Int
  ) throws(StoreError) -> [[UInt8]]
  /// The row of the record with that number, if it completes something (`JournalNodes`).
  func ownNodes(of key: SequenceKey, at number: UInt64) throws(StoreError) -> [Digest]?
  /// Of a sequence's own checkpoints that are kept, the greatest over so many records at most, and the least over more.
  func ownCheckpoint(of key: SequenceKey, upTo length: UInt64) throws(StoreError) -> Checkpoint?
  func ownCheckpoint(of key: SequenceKey, beyond length: UInt64) throws(StoreError) -> Checkpoint?
  func feed() throws(StoreError) -> Feed
  /// What the next `count` numbers behind one were given to.
  func changed(
    after number: UInt64, count: Int
  ) throws(StoreError) -> [(number: UInt64, subject: ChangedSubject)]
  /// The number of its last change, 0 if it had none; nil if nothing is held of it.
  func changeNumber(of subject: ChangedSubject) throws(StoreError) -> UInt64?
  /// Nil before the first fold.
  func trieDigest() throws(StoreError) -> HoldingsDigest?
  /// Nil if it isn't divided.
  func trieChildren(of prefix: TriePrefix) throws(StoreError) -> [Digest]?
  /// The first `count`, ordered by position.
  func trieLeaves(under prefix: TriePrefix, count: Int) throws(StoreError) -> [TrieLeaf]
}

extension StoreSnapshot where Self: ~Copyable {
  package func answer<H: TreeHasher>(
    _ query: StoreQuery, hasher: H.Type
  ) throws(StoreError) -> StoreAnswer where H.Value == Digest {
    var files: [LoadedFile] = []
    switch query {
    case .heads(let journal, let length):
      var answer = StoreAnswer(number: number)
      answer.heads = try heads(of: journal, upTo: length, hasher: hasher)
      return answer
    case .beginnings(let journal, let length):
      var answer = StoreAnswer(number: number)
      answer.beginnings = try beginnings(of: journal, length: length, hasher: hasher)
      return answer
    case .records(let key, let first, let count, let bytes):
      var answer = StoreAnswer(number: number)
      answer.records = try records(of: key, from: first, count: count, bytes: bytes)
      return answer
    case .changes(let after, let count):
      var answer = StoreAnswer(number: number)
      answer.feed = try feed()
      answer.changes = try changes(after: after, count: count)
      return answer
    case .digest, .subtrie, .triePart: return try trieAnswer(query, hasher: hasher)
    case .frame(let key, let first):
      var answer = StoreAnswer(number: number)
      guard let checkpoint = try checkpoint(of: key, beyond: first) else { return answer }
      answer.checkpoint = checkpoint
      answer.records = try records(of: key, from: first, count: Int(clamping: checkpoint.length - first), bytes: .max)
      return answer
    case .roots(let key, let lengths):
      var answer = StoreAnswer(number: number)
      for length in lengths {
        let root = try frontier(of: key, at: length, hasher: hasher).root
        answer.heads.append(TreeHead(length: length, root: root))
      }
      return answer
    case .files(let keys, let count): for key in keys { files.append(try load(key, count)) }
    case .promises(let key, let length, let count):
      let page = try promises(of: key, beyond: length, count: count)
      files = [LoadedFile(key: key, row: nil, promises: page.promises, promisesEnd: page.end)]
    case .rows(let keys):
      for key in keys {
        var row = try string(key.first)
        if let recorded = row?.recorded { row?.recorded = max(recorded, try greatestPromise(of: key) ?? 0) }
        let branches = row == nil ? [] : try self.branches(of: key)
        files.append(LoadedFile(key: key, row: row, branches: branches.map { LoadedBranch(row: $0) }))
      }
    case .keys(let after, let count):
      files = try keys(after: after, count: count).map { LoadedFile(key: $0, row: nil) }
    }
    return StoreAnswer(number: number, files: files)
  }

  private func trieAnswer<H: TreeHasher>(
    _ query: StoreQuery, hasher: H.Type
  ) throws(StoreError) -> StoreAnswer where H.Value == Digest {
    var answer = StoreAnswer(number: number)
    answer.feed = try feed()
    answer.digest = try digest(hasher)
    switch query {
    case .subtrie(let prefix): answer.subtrie = try subtrie(at: prefix, hasher)
    case .triePart(let prefix): answer.trieParts = try children(of: prefix, hasher)
    default: break
    }
    return answer
  }

  private func load(_ key: FileKey, _ count: Int) throws(StoreError) -> LoadedFile {
    guard var row = try string(key.first) else { return LoadedFile(key: key, row: nil) }
    let page = try promises(of: key, beyond: row.committed, count: count)
    let greatest = page.end == nil ? page.promises.last?.length : try greatestPromise(of: key)
    if let greatest, greatest > row.recorded {
      row.recorded = greatest
      row.closed = nil
    }
    var branches: [LoadedBranch] = []
    for row in try self.branches(of: key) {
      branches.append(LoadedBranch(row: row, isUnfinished: try isUnfinished(row.key)))
    }
    return LoadedFile(
      key: key, row: row, branches: branches, promises: page.promises, promisesEnd: page.end,
      isUnfinished: try isUnfinished(key.first))
  }
}

extension ServerHoldingsStore {
  /// What a start looks at before anything is served: files for which the log holds bytes, and unfinished ones (K2).
  package func leftUnfinished(promises count: Int) throws(StoreError) -> [LoadedFile] {
    let keys = Set(try unfinished().map(\.key) + logRanges().map(\.key.key))
    return try answer(.files(keys.sorted(), promises: count)).files
  }
}

extension StoredString {
  /// The string that it leaves.
  package var base: StringKey? { branch.map { StringKey(key: key.key, string: $0.base) } }
}

extension FileKey {
  /// Its string 0.
  package var first: StringKey { StringKey(key: self, string: 0) }
}
