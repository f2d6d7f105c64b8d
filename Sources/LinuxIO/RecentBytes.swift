/// The last bytes of what grew lately, each only a little, for whoever wants them right after: within a bound, and what
/// isn't here any more is read.
///
/// In two halves, as `RecentPaths`: the older one goes when the younger is full.
struct RecentBytes<Key: Hashable & Sendable>: Sendable {
  private struct Tail {
    var offset: UInt64
    var bytes: [UInt8]
    var end: UInt64 { offset + UInt64(bytes.count) }
  }
  private let limit: Int
  private let mostOfOne: Int
  private var young: [Key: Tail] = [:]
  private var old: [Key: Tail] = [:]
  private var youngBytes = 0
  /// Of a tail, beside its bytes.
  private static var overhead: Int { 128 }

  /// - Parameter limit: bytes that both halves may occupy, about.
  init(limit: Int, mostOfOne: Int) {
    self.limit = limit
    self.mostOfOne = mostOfOne
  }

  /// What stands at `offset`. It goes on with what is known, or takes its place.
  mutating func note(_ bytes: some Collection<UInt8>, of key: Key, at offset: UInt64) {
    var tail = remove(key) ?? Tail(offset: offset, bytes: [])
    guard bytes.count <= mostOfOne else { return }
    if tail.end != offset || tail.bytes.count + bytes.count > mostOfOne { tail = Tail(offset: offset, bytes: []) }
    tail.bytes += bytes
    youngBytes += tail.bytes.count + Self.overhead
    young[key] = tail
    guard youngBytes > limit / 2 else { return }
    old = young
    young = [:]
    youngBytes = 0
  }

  mutating func forget(_ key: Key) { _ = remove(key) }

  private mutating func remove(_ key: Key) -> Tail? {
    guard let tail = young.removeValue(forKey: key) else { return old.removeValue(forKey: key) }
    youngBytes -= tail.bytes.count + Self.overhead
    return tail
  }

  /// Nil unless all of them are here.
  func bytes(of key: Key, at offset: UInt64, count: Int) -> ArraySlice<UInt8>? {
    guard let tail = young[key] ?? old[key], offset >= tail.offset, count >= 0 else { return nil }
    let (end, overflow) = offset.addingReportingOverflow(UInt64(count))
    guard !overflow, end <= tail.end else { return nil }
    let first = Int(offset - tail.offset)
    return tail.bytes[first..<(first + count)]
  }
}
