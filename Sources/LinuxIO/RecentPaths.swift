import JournalModel

/// The paths that were noted or asked about last, within a bound of bytes: what is forgotten is found out again.
///
/// In two halves: the older one goes when the younger is full, but for what was asked about meanwhile.
struct RecentPaths: Sendable {
  private let limit: Int
  private var young: Set<BytePath> = []
  private var old: Set<BytePath> = []
  private var youngBytes = 0
  /// Of a path in a set, beside its bytes.
  private static let overhead = 64

  /// - Parameter limit: bytes that both halves may occupy, about.
  init(limit: Int) { self.limit = limit }

  var count: Int { young.count + old.count }

  mutating func contains(_ path: BytePath) -> Bool {
    if young.contains(path) { return true }
    guard old.remove(path) != nil else { return false }
    insert(path)
    return true
  }

  mutating func insert(_ path: BytePath) {
    guard young.insert(path).inserted else { return }
    youngBytes += path.bytes.count + Self.overhead
    guard youngBytes > limit / 2 else { return }
    old = young
    young = []
    youngBytes = 0
  }

  mutating func remove(_ path: BytePath) {
    if young.remove(path) != nil { youngBytes -= path.bytes.count + Self.overhead }
    old.remove(path)
  }
}
