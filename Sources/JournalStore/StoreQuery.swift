package import JournalModel

/// What a server's core asks of its store (K1).
package enum StoreQuery: Hashable, Sendable {
  /// All that the store has of these files.
  case files([FileKey])
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
  /// String 0, the only one until branches are kept; nil when no birth is recorded, and when only keys were asked for.
  package var row: StoredString?
  /// Those beyond the committed length, ordered by length.
  package var promises: [Promise]
  package var isUnfinished: Bool
  package init(key: FileKey, row: StoredString?, promises: [Promise] = [], isUnfinished: Bool = false) {
    self.key = key
    self.row = row
    self.promises = promises
    self.isUnfinished = isUnfinished
  }
}

/// What answers are read from: one snapshot of a store.
package protocol StoreSnapshot: ~Copyable {
  var number: UInt64 { get }
  func string(_ key: StringKey) throws(StoreError) -> StoredString?
  func promises(of key: FileKey, beyond length: UInt64) throws(StoreError) -> [Promise]
  func isUnfinished(_ key: StringKey) throws(StoreError) -> Bool
  func keys(after key: FileKey?, count: Int) throws(StoreError) -> [FileKey]
}

extension StoreSnapshot where Self: ~Copyable {
  package func answer(_ query: StoreQuery) throws(StoreError) -> StoreAnswer {
    var files: [LoadedFile] = []
    switch query {
    case .files(let keys): for key in keys { files.append(try load(key)) }
    case .rows(let keys): for key in keys { files.append(LoadedFile(key: key, row: try string(key.first))) }
    case .keys(let after, let count):
      files = try keys(after: after, count: count).map { LoadedFile(key: $0, row: nil) }
    }
    return StoreAnswer(number: number, files: files)
  }

  private func load(_ key: FileKey) throws(StoreError) -> LoadedFile {
    guard let row = try string(key.first) else { return LoadedFile(key: key, row: nil) }
    return LoadedFile(
      key: key, row: row, promises: try promises(of: key, beyond: row.committed),
      isUnfinished: try isUnfinished(key.first))
  }
}

extension ServerHoldingsStore {
  /// What a start looks at before anything is served: files for which the log holds bytes, and unfinished ones (K2).
  package func leftUnfinished() throws(StoreError) -> [LoadedFile] {
    let keys = Set(try unfinished().map(\.key) + logRanges().map(\.key.key))
    return try answer(.files(keys.sorted())).files
  }
}

extension FileKey {
  /// Its string 0.
  package var first: StringKey { StringKey(key: self, string: 0) }
}
