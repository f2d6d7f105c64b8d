/// Files by a hash of what stands in themselves: eight bytes and some room for each, in place of their keys once more.
/// Those of one hash are found in the order in which they came.
package struct FileIndex: Sendable {
  /// 0: free. Else the uppermost bit, 31 bits of the hash, and the file. One that isn't in its own place stands in the
  /// next free one behind it, at the beginning again after the end.
  private var slots: [UInt64] = []
  private var count = 0

  package init() {}

  /// The first that has the hash and is meant.
  package func first(_ hash: UInt64, where isMeant: (FileID) -> Bool) -> FileID? {
    guard count > 0 else { return nil }
    let entry = Self.entry(hash, FileID(0))
    var place = self.place(of: entry)
    while slots[place] != 0 {
      if slots[place] >> 32 == entry >> 32, isMeant(Self.file(slots[place])) { return Self.file(slots[place]) }
      place = next(place)
    }
    return nil
  }

  package mutating func insert(_ id: FileID, _ hash: UInt64) {
    if 4 * (count + 1) > 3 * slots.count { resize(to: max(16, 2 * slots.count)) }
    put(Self.entry(hash, id))
    count += 1
  }

  /// Of a file that is there with this hash.
  package mutating func remove(_ id: FileID, _ hash: UInt64) {
    guard count > 0 else { return }
    let entry = Self.entry(hash, id)
    var hole = place(of: entry)
    while slots[hole] != entry {
      if slots[hole] == 0 { return }
      hole = next(hole)
    }
    // What stands behind it moves up, unless it stands in its own place, or the hole lies before that.
    var place = next(hole)
    while slots[place] != 0 {
      let own = self.place(of: slots[place])
      if (place &- own) & (slots.count - 1) >= (place &- hole) & (slots.count - 1) {
        slots[hole] = slots[place]
        hole = place
      }
      place = next(place)
    }
    slots[hole] = 0
    count -= 1
    if slots.count > 16, 8 * count < slots.count { resize(to: slots.count / 2) }
  }

  private mutating func resize(to size: Int) {
    let old = slots
    slots = [UInt64](repeating: 0, count: size)
    // From a free place on, so that none is passed by another one of its hash.
    guard let start = old.firstIndex(of: 0) else { return }
    for entry in old[start...] where entry != 0 { put(entry) }
    for entry in old[..<start] where entry != 0 { put(entry) }
  }

  private mutating func put(_ entry: UInt64) {
    var place = self.place(of: entry)
    while slots[place] != 0 { place = next(place) }
    slots[place] = entry
  }

  private func place(of entry: UInt64) -> Int { Int(entry >> 32) & (slots.count - 1) }
  private func next(_ place: Int) -> Int { (place + 1) & (slots.count - 1) }

  private static func file(_ entry: UInt64) -> FileID { FileID(UInt32(truncatingIfNeeded: entry)) }
  private static func entry(_ hash: UInt64, _ id: FileID) -> UInt64 {
    // Numbers in a row, or with a factor in common, lie apart.
    let mixed = (hash ^ (hash >> 32)) &* 0x9E37_79B9_7F4A_7C15
    return mixed >> 1 & 0x7FFF_FFFF_0000_0000 | 1 << 63 | UInt64(id.value)
  }
}
