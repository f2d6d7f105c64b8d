package import DataPlane
package import JournalModel

/// inotify of one process: watches on directories' inodes, a bounded queue of events, and the faults of both.
///
/// Events may be lost, doubled, late; equal neighbours are merged as the kernel does it; a full queue becomes one
/// `overflow`.
package final class WatchQueue {
  package struct Faults: Sendable {
    package var loss: UInt64 = 0
    package var duplicate: UInt64 = 0
    package init() {}
  }

  package var faults = Faults()
  package var queueLimit = 64
  package var watchLimit = 1_000
  /// Called when the queue stops being empty.
  package var wake: () -> Void = {}
  package struct Counts: Sendable {
    package var lost = 0, duplicated = 0, overflowed = 0, refused = 0, merged = 0
  }
  package private(set) var counts = Counts()

  private var watches: [ObjectIdentifier: (inode: SimulatedDisk.Inode, paths: [BytePath])] = [:]
  private var queue: [WatchHint] = []
  private var random: RandomStream

  package init(seed: UInt64, name: String) {
    random = RandomStream(seed: seed, entity: name, purpose: "inotify")
  }

  /// False when there are too many.
  package func watch(_ directory: SimulatedDisk.Inode, _ path: BytePath) -> Bool {
    let id = ObjectIdentifier(directory)
    if watches[id] == nil {
      guard watches.count < watchLimit else {
        counts.refused += 1
        return false
      }
      watches[id] = (directory, [])
    }
    if watches[id]?.paths.contains(path) == false { watches[id]?.paths.append(path) }
    return true
  }

  package func unwatch(_ path: BytePath) {
    guard let id = watches.first(where: { $0.value.paths.contains(path) })?.key else { return }
    watches[id]?.paths.removeAll { $0 == path }
    if watches[id]?.paths.isEmpty == true { watches[id] = nil }
  }

  package func isWatched(_ path: BytePath) -> Bool { watches.values.contains { $0.paths.contains(path) } }

  package func drain() -> [WatchHint] {
    defer { queue = [] }
    return queue
  }

  package func overflow() {
    counts.overflowed += 1
    let wasEmpty = queue.isEmpty
    queue = [.overflow]
    if wasEmpty { wake() }
  }

  func changed(_ directory: SimulatedDisk.Inode, _ name: [UInt8]) {
    for path in watches[ObjectIdentifier(directory)]?.paths ?? [] { push(.changed(directory: path, name: name)) }
  }

  func modified(_ directory: SimulatedDisk.Inode, _ name: [UInt8]) {
    for path in watches[ObjectIdentifier(directory)]?.paths ?? [] { push(.modified(directory: path, name: name)) }
  }

  /// A watched directory was removed or moved: the watch is gone with it.
  func vanished(_ directory: SimulatedDisk.Inode) {
    guard let watch = watches.removeValue(forKey: ObjectIdentifier(directory)) else { return }
    for path in watch.paths { push(.lost(directory: path)) }
  }

  private func push(_ hint: WatchHint) {
    if random.chance(faults.loss) {
      counts.lost += 1
      return
    }
    guard queue.last != hint else {
      counts.merged += 1
      return
    }
    guard queue.count < queueLimit else {
      if queue.last != .overflow {
        queue.append(.overflow)
        counts.overflowed += 1
      }
      return
    }
    let wasEmpty = queue.isEmpty
    queue.append(hint)
    if random.chance(faults.duplicate) {
      queue.append(hint)
      counts.duplicated += 1
    }
    if wasEmpty { wake() }
  }
}
