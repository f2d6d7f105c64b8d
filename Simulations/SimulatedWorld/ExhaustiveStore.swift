import JournalModel
import JournalStore

/// A server's store at one moment, with all that is in it, by which two are told apart.
final class ExhaustiveStore: Sendable {
  struct Contents: Hashable {
    var journals: [HeldJournal]
    var strings: [StoredString]
    var promises: [Promise]
    var ranges: [LogRange]
    var payload: [[UInt8]]
    var unfinished: [StringKey]
    var totals: [HostName: HostTotals]
    var records: [[[UInt8]]]
    var leaves: [[Digest]]
  }
  let state: InMemoryServerStore<SimulatedTree>.State
  let contents: Contents
  let digest: Digest128

  init(_ state: InMemoryServerStore<SimulatedTree>.State, leafSize: Int) throws(StoreError) {
    self.state = state
    let store = InMemoryServerStore<SimulatedTree>(state: state)
    let (journals, strings, ranges) = (try store.journals(), try store.strings(), try store.logRanges())
    contents = Contents(
      journals: journals, strings: strings, promises: try store.promises(), ranges: ranges,
      payload: try ranges.map { (range) throws(StoreError) in
        try store.logPayload(of: range.key, offset: range.offset)
      },
      unfinished: try store.unfinished(), totals: try store.totals(),
      records: try journals.map { (row) throws(StoreError) in
        try store.records(of: row.key, from: 0, count: 1_000, bytes: 1 << 20)
      },
      leaves: try strings.map { (row) throws(StoreError) in
        try store.leaves(of: row.key, count: row.committed / UInt64(leafSize))
      })
    digest = Digest128(contents)
  }

  func row(_ key: StringKey) -> StoredString? { contents.strings.first { $0.key == key } }

  func log(of key: StringKey) -> [(offset: UInt64, bytes: [UInt8])] {
    zip(contents.ranges, contents.payload).filter { $0.0.key == key }.map { (offset: $0.0.offset, bytes: $0.1) }
  }
}

/// Two independent keyed hashes of one value: two states out of ten million agree by chance once in 10^24.
struct Digest128: Hashable, Sendable {
  let high: Int
  let low: Int

  init(_ value: some Hashable) {
    func hash(_ key: Int) -> Int {
      var hasher = Hasher()
      hasher.combine(key)
      hasher.combine(value)
      return hasher.finalize()
    }
    (high, low) = (hash(1), hash(2))
  }
}
