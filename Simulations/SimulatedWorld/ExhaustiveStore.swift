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
    var told: Told?
  }
  /// What a server with peers tells them, and how far it has what they tell.
  struct Told: Hashable {
    var feed: Feed
    var changes: [Change]
    var digest: HoldingsDigest?
    var cursors: [FeedCursor?]
  }
  let state: InMemoryServerStore<SimulatedTree>.State
  let contents: Contents
  let digest: Digest128

  init(_ state: InMemoryServerStore<SimulatedTree>.State, leafSize: Int, peers: [String]) throws(StoreError) {
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
      },
      told: peers.isEmpty ? nil : try Self.told(store, peers))
    digest = Digest128(contents)
  }

  private static func told(_ store: InMemoryServerStore<SimulatedTree>, _ peers: [String]) throws(StoreError) -> Told {
    Told(
      feed: try store.feed(), changes: try store.answer(.changes(after: 0, count: 1_000)).changes,
      digest: try store.answer(.digest).digest,
      cursors: try peers.map { (peer) throws(StoreError) in try store.cursor(of: peer) })
  }

  /// Whether this, or what begins with it, is held.
  func holds(_ subject: ChangedSubject, _ head: TreeHead) -> Bool {
    let heads: [TreeHead] =
      switch subject {
      case .journal(let journal):
        contents.journals.filter { $0.key.journal == journal }
          .map { TreeHead(length: $0.length, root: $0.checkpoint?.root ?? .zero) }
      case .file(let key):
        contents.strings.filter { $0.key.key == key }.map { TreeHead(length: $0.committed, root: $0.root) }
      }
    return heads.contains { $0 == head || $0.length > head.length }
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

  init(high: Int, low: Int) { (self.high, self.low) = (high, low) }

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
