import JournalModel

/// What was asked of the world and isn't answered yet, oldest first. What takes longer than `Limits.hungAfter` is called
/// hung: nothing waits for it any more, and its answer is taken whenever it comes (D10).
struct Unanswered<Key: Hashable> {
  private var since: [Key: Instant] = [:]
  private var order = Fifo<(key: Key, since: Instant)>()
  private(set) var hung: Set<Key> = []

  /// When those called hung were asked; in no order.
  var hungSince: [(key: Key, since: Instant)] { hung.compactMap { key in since[key].map { (key, $0) } } }
  /// When the oldest that isn't called hung was asked.
  var oldest: Instant? { order.first?.since }

  func isHung(_ key: Key) -> Bool { hung.contains(key) }

  mutating func ask(_ key: Key, at now: Instant) {
    since[key] = now
    order.append((key, now))
  }

  mutating func answer(_ key: Key) {
    since[key] = nil
    hung.remove(key)
    while let first = order.first, since[first.key] != first.since { _ = order.popFirst() }
  }

  /// The next of those asked not after `limit`, called hung from now on.
  mutating func nextHung(askedBy limit: Instant) -> Key? {
    while let first = order.first, first.since <= limit {
      _ = order.popFirst()
      guard since[first.key] == first.since, hung.insert(first.key).inserted else { continue }
      return first.key
    }
    return nil
  }
}

/// Reads that wait for their turn, a queue for each file system: one that hangs keeps nobody else's files waiting.
struct ReadQueues {
  private struct Queue {
    var waiting = Fifo<FileID>()
    var underWay = 0
    var hung = 0
  }
  private let atOnce: Int
  private var queues: [UInt64: Queue] = [:]
  /// In the order in which they were first seen.
  private var order: [UInt64] = []
  private var last = 0
  private var places: [FileID: UInt64] = [:]

  init(limits: Limits) { atOnce = max(1, limits.readsAtOnce) }

  mutating func append(_ id: FileID, on fileSystem: UInt64) {
    if queues[fileSystem] == nil { order.append(fileSystem) }
    queues[fileSystem, default: Queue()].waiting.append(id)
  }

  /// The next file whose turn it is, of each file system in turn. Reads called hung leave their place to others, as many
  /// as may be under way: the rest of a file system that hangs altogether waits behind them.
  mutating func next() -> (FileID, on: UInt64)? {
    for step in 0..<order.count {
      let position = (last + 1 + step) % order.count
      let fileSystem = order[position]
      guard let queue = queues[fileSystem], !queue.waiting.isEmpty,
        queue.underWay - min(queue.hung, atOnce) < atOnce,
        let id = queues[fileSystem]?.waiting.popFirst()
      else { continue }
      last = position
      return (id, fileSystem)
    }
    return nil
  }

  mutating func begin(_ id: FileID, on fileSystem: UInt64) {
    places[id] = fileSystem
    queues[fileSystem]?.underWay += 1
  }

  mutating func hangs(_ id: FileID) {
    if let place = places[id] { queues[place]?.hung += 1 }
  }

  /// False when no read of it is under way.
  mutating func end(_ id: FileID, wasHung: Bool) -> Bool {
    guard let place = places.removeValue(forKey: id), var queue = queues[place] else { return false }
    queue.underWay -= 1
    if wasHung { queue.hung -= 1 }
    let isIdle = queue.underWay == 0 && queue.waiting.isEmpty
    queues[place] = isIdle ? nil : queue
    if isIdle { order.removeAll { $0 == place } }
    return true
  }
}
