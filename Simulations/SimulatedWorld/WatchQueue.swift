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

  /// What has to be looked at again when a name on the way to it changes.
  enum Goal: Hashable {
    case directory(BytePath)
    case link(directory: BytePath, name: [UInt8])
    fileprivate var hint: WatchHint {
      switch self {
      case .directory(let path): .lost(directory: path)
      case .link(let directory, let name): .changed(directory: directory, name: name)
      }
    }
  }
  private struct Watch {
    let inode: SimulatedDisk.Inode
    var paths: [BytePath] = []
    var names: [[UInt8]: [Goal]] = [:]
    var isIdle: Bool { paths.isEmpty && names.isEmpty }
  }
  private var watches: [ObjectIdentifier: Watch] = [:]
  private var ways: [Goal: [(watch: ObjectIdentifier, name: [UInt8])]] = [:]
  private var queue: [WatchHint] = []
  private var random: RandomStream

  package init(seed: UInt64, name: String) {
    random = RandomStream(seed: seed, entity: name, purpose: "inotify")
  }

  /// False when there are too many.
  package func watch(_ directory: SimulatedDisk.Inode, _ path: BytePath) -> Bool {
    let id = ObjectIdentifier(directory)
    guard place(on: directory) else { return false }
    if let old = listed(path), old != id { forget(path) }
    if watches[id]?.paths.contains(path) == false { watches[id]?.paths.append(path) }
    return true
  }

  private func place(on directory: SimulatedDisk.Inode) -> Bool {
    let id = ObjectIdentifier(directory)
    guard watches[id] == nil else { return true }
    guard watches.count < watchLimit else {
      counts.refused += 1
      return false
    }
    watches[id] = Watch(inode: directory)
    return true
  }

  /// The directory that is watched under the path.
  private func listed(_ path: BytePath) -> ObjectIdentifier? {
    watches.first { $0.value.paths.contains(path) }?.key
  }

  package func unwatch(_ path: BytePath) {
    lose(path)
    trace([], for: .directory(path))
  }

  /// As `unwatch`, but that the way to the path is watched on.
  func lose(_ path: BytePath) {
    forget(path)
    for goal in ways.keys {
      if case .link(path, _) = goal { trace([], for: goal) }
    }
  }

  private func forget(_ path: BytePath) {
    guard let id = listed(path) else { return }
    watches[id]?.paths.removeAll { $0 == path }
    if watches[id]?.isIdle == true { watches[id] = nil }
  }

  func isWatched(_ path: BytePath, _ directory: SimulatedDisk.Inode) -> Bool {
    watches[ObjectIdentifier(directory)]?.paths.contains(path) == true
  }

  /// The steps of a way, in place of those before. False when not all of them can be watched.
  @discardableResult func trace(_ steps: [(SimulatedDisk.Inode, [UInt8])], for goal: Goal) -> Bool {
    for step in ways.removeValue(forKey: goal) ?? [] {
      watches[step.watch]?.names[step.name]?.removeAll { $0 == goal }
      if watches[step.watch]?.names[step.name]?.isEmpty == true { watches[step.watch]?.names[step.name] = nil }
      if watches[step.watch]?.isIdle == true { watches[step.watch] = nil }
    }
    var isComplete = true
    for (directory, name) in steps {
      guard place(on: directory) else {
        isComplete = false
        continue
      }
      let id = ObjectIdentifier(directory)
      guard watches[id]?.names[name]?.contains(goal) != true else { continue }
      watches[id]?.names[name, default: []].append(goal)
      ways[goal, default: []].append((id, name))
    }
    return isComplete
  }

  func isTraced(_ goal: Goal) -> Bool { ways[goal] != nil }

  /// Each goal is told once, until its way was walked again.
  private func stray(_ goals: [Goal]) {
    for goal in goals {
      trace([], for: goal)
      push(goal.hint)
    }
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

  /// Something was mounted somewhere, which no watch sees.
  func mounted() {
    let wasEmpty = queue.isEmpty
    queue.append(.mounted)
    if wasEmpty { wake() }
  }

  func changed(_ directory: SimulatedDisk.Inode, _ name: [UInt8]) {
    guard let watch = watches[ObjectIdentifier(directory)] else { return }
    for path in watch.paths { push(.changed(directory: path, name: name)) }
    stray(watch.names[name] ?? [])
  }

  func modified(_ directory: SimulatedDisk.Inode, _ name: [UInt8]) {
    for path in watches[ObjectIdentifier(directory)]?.paths ?? [] { push(.modified(directory: path, name: name)) }
  }

  /// A watched directory was removed or moved: the watch is gone with it.
  func vanished(_ directory: SimulatedDisk.Inode) {
    guard let watch = watches.removeValue(forKey: ObjectIdentifier(directory)) else { return }
    for path in watch.paths { push(.lost(directory: path)) }
    for (_, goals) in watch.names.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) { stray(goals) }
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
