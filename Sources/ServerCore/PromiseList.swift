import JournalModel

/// The signed lengths of one file that payload has not reached (W3), by length.
///
/// For a length the root that came first stays. A second one is recorded in its journal and reported, never used: it is
/// a branch, and until branches are kept its bytes are refused. A promise that bytes failed to meet is *doubted*: bytes
/// that fail it again are kept as long as a later one is known, so that a root that nobody can meet blocks nothing for
/// ever (J4).
struct PromiseList {
  struct Item: Hashable {
    var length: UInt64
    var root: Digest
    var isDoubted = false
  }
  enum Insertion { case new, known, conflict }

  private var items: [Item] = []
  /// Items before it are met.
  private var head = 0

  var isEmpty: Bool { head == items.count }
  var count: Int { items.count - head }
  var hasDoubts: Bool { items[head...].contains(where: \.isDoubted) }
  var greatest: UInt64? { isEmpty ? nil : items[items.count - 1].length }

  mutating func insert(_ length: UInt64, _ root: Digest) -> Insertion {
    let index = position(after: length)
    if index > head, items[index - 1].length == length { return items[index - 1].root == root ? .known : .conflict }
    items.insert(Item(length: length, root: root), at: index)
    return .new
  }

  mutating func removeThrough(_ length: UInt64) {
    head = position(after: length)
    if head > 64, head * 2 > items.count {
      items.removeSubrange(..<head)
      head = 0
    }
  }

  func root(at length: UInt64) -> Digest? {
    let index = position(after: length)
    return index > head && items[index - 1].length == length ? items[index - 1].root : nil
  }

  func first(after length: UInt64) -> UInt64? {
    let index = position(after: length)
    return index < items.count ? items[index].length : nil
  }

  func last(before length: UInt64) -> UInt64? {
    guard length > 0 else { return nil }
    let index = position(after: length - 1)
    return index > head ? items[index - 1].length : nil
  }

  /// Bytes failed to meet this promise. Returns whether some did before.
  mutating func doubt(_ length: UInt64) -> Bool {
    let index = position(after: length)
    guard index > head, items[index - 1].length == length else { return false }
    defer { items[index - 1].isDoubted = true }
    return items[index - 1].isDoubted
  }

  /// What bytes `from ..< received` can be verified against: at most `count` promises; beyond `from + span` only the
  /// first one.
  func verifiable(from: UInt64, received: UInt64, span: UInt64, count: Int) -> [Item] {
    let (soft, overflow) = from.addingReportingOverflow(span)
    let limit = min(received, overflow ? received : soft)
    var found: [Item] = []
    var index = position(after: from)
    while index < items.count, items[index].length <= received, found.count < count {
      let item = items[index]
      if !found.isEmpty, item.length > limit { break }
      found.append(item)
      index += 1
    }
    return found
  }

  /// Index of the first item beyond `length`.
  private func position(after length: UInt64) -> Int {
    if let last = items.last, last.length <= length { return items.count }
    var low = head
    var high = items.count
    while low < high {
      let middle = (low + high) / 2
      if items[middle].length <= length { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
