import JournalModel

/// What the last commits of a server's store brought. Right behind a commit peers are told of it, and ask for its records:
/// what they ask is answered from memory as the store would, as of the last commit that was noted.
package struct RecentCommits {
  /// What the feed has behind a number, as it is read right after a commit.
  package struct News: Sendable {
    fileprivate var after: UInt64
    fileprivate var answer: StoreAnswer
    /// Nothing more is behind it.
    fileprivate var isWhole: Bool

    /// Nil if it can't be read; of a large commit it isn't worth it. Then the store is asked.
    package init?(after number: UInt64, with batch: ServerBatch, in store: some ServerHoldingsStore) {
      let most = batch.records.count + batch.strings.count
      let count = most <= 64 ? most + 1 : 0
      guard let answer = try? store.answer(.changes(after: number, count: count)) else { return nil }
      after = number
      self.answer = answer
      isWhole = answer.changes.count < count
    }
  }

  /// The last records of a sequence, with those of the checkpoints after each of them that stay.
  private struct Tail {
    var first: UInt64
    var encoded: [[UInt8]] = []
    var byteCount = 0
    var kept: [Checkpoint] = []
    var last: Checkpoint
  }

  private var number: UInt64 = 0
  private var news: News?
  /// In two halves: the older one goes when the younger is full.
  private var young: [SequenceKey: Tail] = [:]
  private var old: [SequenceKey: Tail] = [:]
  private var youngBytes = 0
  /// Up to where the feed was read.
  package private(set) var seen: UInt64

  private static let limit = 1 << 20
  private static let mostOfOne = 16 << 10
  /// Of a tail, beside its records, and of a record beside its bytes.
  private static let overhead = 512
  private static let recordOverhead = 64

  /// - Parameter seen: the last number that the feed has.
  package init(seen: UInt64) { self.seen = seen }

  /// That commit was the store's `number`.
  package mutating func note(_ batch: ServerBatch, number: UInt64, _ news: News?) {
    self.number = number
    self.news = news.flatMap { $0.isWhole ? $0 : nil }
    seen = max(seen, news?.answer.feed?.last ?? 0)
    for run in batch.records { note(run) }
  }

  private mutating func note(_ run: ServerBatch.RecordRun) {
    let key = run.after.key
    let before = remove(key)
    guard let last = run.after.checkpoint, !run.encoded.isEmpty else { return }
    let byteCount = run.encoded.reduce(0) { $0 + $1.count + Self.recordOverhead }
    guard byteCount <= Self.mostOfOne else { return }
    var tail = Tail(first: run.first, last: last)
    if let before, before.last.length == run.first, before.byteCount + byteCount <= Self.mostOfOne { tail = before }
    tail.encoded += run.encoded
    tail.byteCount += byteCount
    tail.kept += run.checkpoints
    tail.last = last
    youngBytes += tail.byteCount + Self.overhead
    young[key] = tail
    guard youngBytes > Self.limit / 2 else { return }
    old = young
    young = [:]
    youngBytes = 0
  }

  private mutating func remove(_ key: SequenceKey) -> Tail? {
    guard let tail = young.removeValue(forKey: key) else { return old.removeValue(forKey: key) }
    youngBytes -= tail.byteCount + Self.overhead
    return tail
  }

  /// Nil where the store has to be asked.
  package func answer(_ query: StoreQuery) -> StoreAnswer? {
    switch query {
    case .changes(let after, let count):
      guard let news, after >= news.after else { return nil }
      var answer = news.answer
      answer.changes = Array(answer.changes.lazy.filter { $0.number > after }.prefix(count))
      return answer
    case .frame(let key, let first):
      guard let tail = young[key] ?? old[key], first >= tail.first, first < tail.last.length else { return nil }
      let checkpoint = tail.kept.first { $0.length > first } ?? tail.last
      var answer = StoreAnswer(number: number)
      answer.checkpoint = checkpoint
      answer.records = Array(tail.encoded[Int(first - tail.first)..<Int(checkpoint.length - tail.first)])
      return answer
    case .files, .promises, .rows, .keys, .heads, .beginnings, .records, .roots, .digest, .subtrie, .triePart:
      return nil
    }
  }
}
