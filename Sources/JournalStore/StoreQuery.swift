package import JournalModel

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
}

package struct StoreAnswer: Hashable, Sendable {
  /// What the store had committed (`ServerHoldingsStore.number`).
  package var number: UInt64
  /// In the order of the query.
  package var files: [LoadedFile]
  package init(number: UInt64, files: [LoadedFile]) {
    self.number = number
    self.files = files
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
}

extension StoreSnapshot where Self: ~Copyable {
  package func answer(_ query: StoreQuery) throws(StoreError) -> StoreAnswer {
    var files: [LoadedFile] = []
    switch query {
    case .files(let keys, let count): for key in keys { files.append(try load(key, count)) }
    case .promises(let key, let length, let count):
      let page = try promises(of: key, beyond: length, count: count)
      files = [LoadedFile(key: key, row: nil, promises: page.promises, promisesEnd: page.end)]
    case .rows(let keys):
      for key in keys {
        let row = try string(key.first)
        let branches = row == nil ? [] : try self.branches(of: key)
        files.append(LoadedFile(key: key, row: row, branches: branches.map { LoadedBranch(row: $0) }))
      }
    case .keys(let after, let count):
      files = try keys(after: after, count: count).map { LoadedFile(key: $0, row: nil) }
    }
    return StoreAnswer(number: number, files: files)
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
