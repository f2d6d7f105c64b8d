/// Open descriptors by key, bounded: beyond the limit one that wasn't used lately is let go (second chance, an
/// approximation of LRU in constant time). Pinned ones are never let go. Not for two threads at a time.
struct DescriptorCache<Key: Hashable> {
  private struct Entry {
    var key: Key
    var descriptor: Descriptor
    var isPinned: Bool
    var wasUsed = true
  }
  let limit: Int
  private var entries: [Entry] = []
  private var positions: [Key: Int] = [:]
  private var hand = 0

  init(limit: Int) { self.limit = max(1, limit) }

  var count: Int { entries.count }
  var hasRoom: Bool { entries.count < limit }

  mutating func descriptor(_ key: Key) -> Descriptor? {
    guard let position = positions[key] else { return nil }
    entries[position].wasUsed = true
    return entries[position].descriptor
  }

  /// Returns those that were let go for it: they are closed when the caller lets go of them.
  @discardableResult
  mutating func insert(_ descriptor: Descriptor, _ key: Key, isPinned: Bool = false) -> [(key: Key, Descriptor)] {
    var gone = remove(key).map { [(key, $0)] } ?? []
    while !hasRoom, let evicted = evict() { gone.append(evicted) }
    positions[key] = entries.count
    entries.append(Entry(key: key, descriptor: descriptor, isPinned: isPinned))
    return gone
  }

  mutating func setPinned(_ key: Key, _ isPinned: Bool) {
    if let position = positions[key] { entries[position].isPinned = isPinned }
  }

  mutating func rename(_ key: Key, to next: Key) {
    guard let position = positions.removeValue(forKey: key) else { return }
    entries[position].key = next
    positions[next] = position
  }

  @discardableResult
  mutating func remove(_ key: Key) -> Descriptor? {
    guard let position = positions.removeValue(forKey: key) else { return nil }
    entries.swapAt(position, entries.count - 1)
    let removed = entries.removeLast()
    if position < entries.count { positions[entries[position].key] = position }
    return removed.descriptor
  }

  /// Lets one go; nil when all are pinned.
  mutating func evict() -> (key: Key, Descriptor)? {
    for _ in 0..<(2 * entries.count) {
      if hand >= entries.count { hand = 0 }
      if !entries[hand].isPinned, !entries[hand].wasUsed {
        let key = entries[hand].key
        return remove(key).map { (key, $0) }
      }
      entries[hand].wasUsed = false
      hand += 1
    }
    return nil
  }
}
