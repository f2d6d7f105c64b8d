import JournalModel

/// The next few signed lengths of one file that payload has not reached (W3), by length. The store has them all (K4).
///
/// Of one length the first few roots are kept, and bytes may have any of them.
struct PromiseWindow {
  struct Item: Hashable {
    var length: UInt64
    var root: Digest
  }
  enum Insertion {
    case new, known
    /// There is another root of this length.
    case conflict
    /// There are as many as are used.
    case surplus
    /// It lies outside the window.
    case outside
  }
  enum Next: Hashable {
    case at(UInt64)
    case none
    /// The store has to be asked.
    case unread
  }

  /// Ordered by length; of one length in the order in which they came.
  private var items: [Item] = []
  /// Nothing up to here is kept: bytes that are committed have met it.
  private var base: UInt64
  /// Bytes have met what is asked of them up to here.
  private var met: UInt64
  /// Everything from `met` up to here is in memory; `.max` when there is nothing more.
  private(set) var horizon: UInt64
  /// While the store is asked for what lies beyond the horizon: up to here, what came since then is in memory too.
  private var readingUpTo: UInt64?

  /// `promises` are what lies beyond `base`, up to `end`, or all when that is nil.
  init(beyond base: UInt64 = 0, _ promises: [Promise] = [], end: UInt64? = nil) {
    self.base = base
    met = base
    horizon = max(base, end ?? .max)
    for promise in promises { _ = insert(promise.length, promise.root) }
  }

  var count: Int { items.count }
  var isReading: Bool { readingUpTo != nil }

  mutating func insert(_ length: UInt64, _ root: Digest) -> Insertion {
    guard length > base, length <= max(horizon, readingUpTo ?? 0) else { return .outside }
    let end = position(after: length)
    var begin = end
    while begin > 0, items[begin - 1].length == length {
      begin -= 1
      if items[begin].root == root { return .known }
    }
    guard end - begin < Promise.mostRoots else { return .surplus }
    items.insert(Item(length: length, root: root), at: end)
    return begin == end ? .new : .conflict
  }

  /// Bytes have met what is asked of them up to here. It is kept until they are committed: another root is a conflict.
  mutating func pass(_ length: UInt64) {
    met = max(met, length)
    horizon = max(horizon, met)
  }

  mutating func removeThrough(_ length: UInt64) {
    guard length > base else { return }
    base = length
    pass(length)
    items.removeSubrange(..<position(after: length))
  }

  /// Keeps `count` items beyond `length` when there are twice as many; a length isn't split.
  mutating func trim(beyond length: UInt64, to count: Int) {
    let first = position(after: length)
    guard items.count - first > 2 * count else { return }
    var end = first + max(1, count)
    while end < items.count, items[end].length == items[end - 1].length { end += 1 }
    guard end < items.count else { return }
    let last = items[end - 1].length
    items.removeSubrange(end...)
    horizon = min(horizon, last)
    readingUpTo = readingUpTo.map { min($0, last) }
  }

  func contains(_ length: UInt64) -> Bool {
    let index = position(after: length)
    return index > 0 && items[index - 1].length == length
  }

  func next(after length: UInt64) -> Next {
    let index = position(after: length)
    if index < items.count, items[index].length <= horizon { return .at(items[index].length) }
    return horizon == .max ? .none : .unread
  }

  func last(before length: UInt64) -> UInt64? {
    guard length > 0 else { return nil }
    let index = position(after: length - 1)
    return index > 0 ? items[index - 1].length : nil
  }

  /// What bytes `from ..< received` can be verified against: of a length all roots; beyond `from + span` only the first
  /// length.
  func verifiable(from: UInt64, received: UInt64, span: UInt64) -> [Item] {
    let limit = min(received, from.saturatingAdding(span))
    var found: [Item] = []
    for item in items[position(after: from)...] where item.length <= min(received, horizon) {
      if let last = found.last, last.length < item.length, item.length > limit { break }
      found.append(item)
    }
    return found
  }

  // MARK: The store

  /// Whether there is more in the store, and fewer than `count` items are left beyond `length`.
  func isShort(of count: Int, beyond length: UInt64) -> Bool {
    horizon < .max && !isReading && items.count - position(after: length) < count
  }

  /// The store is asked for what lies beyond the horizon; `waiting` is what no commit has made durable.
  mutating func beginReading(_ waiting: [Promise]) {
    readingUpTo = .max
    for promise in waiting where promise.length > horizon { _ = insert(promise.length, promise.root) }
  }

  /// The store's answer: all that it had beyond the horizon, up to `end`, or to the last when that is nil.
  mutating func endReading(_ promises: [Promise], end: UInt64?) {
    guard let readingUpTo else { return }
    for promise in promises { _ = insert(promise.length, promise.root) }
    self.readingUpTo = nil
    horizon = max(met, min(end ?? .max, readingUpTo))
    items.removeSubrange(position(after: horizon)...)
  }

  /// Index of the first item beyond `length`.
  private func position(after length: UInt64) -> Int {
    if let last = items.last, last.length <= length { return items.count }
    var low = 0
    var high = items.count
    while low < high {
      let middle = (low + high) / 2
      if items[middle].length <= length { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
