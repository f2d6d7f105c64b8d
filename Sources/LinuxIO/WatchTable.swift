import CLinux
import DataPlane
import Glibc
import JournalModel

/// Watches on directories (`inotify(7)`): to hear of what is in them, and of the names by which a way leads on. Several
/// paths and ways may lead through one directory: it then has one watch. Not for two threads at a time.
struct WatchTable {
  /// What has to be looked at again when a name on the way to it comes, goes or changes.
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
    /// The paths under which the directory is listed.
    var paths: [BytePath] = []
    /// Whose ways lead on by which name.
    var names: [[UInt8]: Set<Goal>] = [:]
    var isIdle: Bool { paths.isEmpty && names.isEmpty }
  }
  fileprivate struct Step: Hashable {
    var watch: Int32
    var name: [UInt8]
  }

  /// Nil when no inotify instance could be had: then nothing is watched, and everything polled (F1).
  let descriptor: Descriptor?
  private var watches: [Int32: Watch] = [:]
  private var listed: [BytePath: (watch: Int32, inode: InodeKey)] = [:]
  private var ways: [Goal: Set<Step>] = [:]
  /// The links in a directory that have a way.
  private var links: [BytePath: Set<[UInt8]>] = [:]
  /// Watches that ended here while the kernel's last word on them (IN_IGNORED) is still to be read: how many for each
  /// number. Until then events under that number are old ones, even if the number was given out again (S05).
  private var retired: [Int32: Int] = [:]

  /// Who names links in a directory can't make the table grow without end: more are polled.
  private static let mostWays = 16_384
  private static let ofNames =
    UInt32(IN_CREATE) | UInt32(IN_MOVED_FROM) | UInt32(IN_MOVED_TO) | UInt32(IN_DELETE) | UInt32(IN_ATTRIB)
    | UInt32(IN_DELETE_SELF) | UInt32(IN_MOVE_SELF) | UInt32(IN_ONLYDIR) | UInt32(IN_EXCL_UNLINK)
  private static let ofBytes = UInt32(IN_MODIFY) | UInt32(IN_CLOSE_WRITE)

  init() {
    let number = inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
    descriptor = number >= 0 ? Descriptor(owning: number) : nil
  }

  // MARK: Listings

  /// Watches the directory that is open, under the path that led to it. False at the watch limit and the like.
  mutating func watch(_ path: BytePath, _ directory: Descriptor, _ inode: InodeKey) -> Bool {
    note(path, inode, descriptor.flatMap { Self.place($0, on: directory) })
  }

  /// Asks the file system for permission, which may hang. Nil when no watch stands.
  static func place(_ inotify: Descriptor, on directory: Descriptor) -> Int32? {
    place(inotify, on: directory, ofNames | ofBytes)
  }

  /// A watch was placed on the directory to which the path leads, or none could be.
  mutating func note(_ path: BytePath, _ inode: InodeKey, _ number: Int32?) -> Bool {
    if let old = listed[path], old.watch != number { forget(path) }
    guard let number else { return false }
    listed[path] = (number, inode)
    if watches[number]?.paths.contains(path) != true { watches[number, default: Watch()].paths.append(path) }
    return true
  }

  func isWatched(_ path: BytePath) -> Bool { listed[path] != nil }

  /// Nothing is there: the watch of the directory and those of its links end, while the way is watched on.
  mutating func lose(_ path: BytePath) {
    forget(path)
    for name in links[path] ?? [] { take([], for: .link(directory: path, name: name)) }
  }

  /// Whether the watch of this path stands, and on this directory.
  func isWatched(_ path: BytePath, _ inode: InodeKey) -> Bool { listed[path]?.inode == inode }

  /// Ends what stands for the path: the watch of its directory, its way, and those of the links in it.
  mutating func unwatch(_ path: BytePath) {
    lose(path)
    take([], for: .directory(path))
  }

  private mutating func forget(_ path: BytePath) {
    guard let (number, _) = listed.removeValue(forKey: path) else { return }
    watches[number]?.paths.removeAll { $0 == path }
    retireIfIdle(number)
  }

  // MARK: Ways

  /// A way that is being walked. Each step is watched before it is taken, so that no change is missed.
  struct Tracing {
    fileprivate let goal: Goal
    fileprivate var steps: Set<Step> = []
    /// Every step so far is watched, and its file system tells inotify what happens.
    fileprivate(set) var isComplete = true
  }

  /// Nil where there are too many.
  func tracing(_ goal: Goal) -> Tracing? {
    ways[goal] != nil || ways.count < Self.mostWays ? Tracing(goal: goal) : nil
  }

  mutating func step(_ tracing: inout Tracing, in directory: Descriptor, _ name: [UInt8], isNotified: Bool) {
    // What else is watched there stays so.
    guard isNotified, let descriptor,
      let number = Self.place(descriptor, on: directory, Self.ofNames | UInt32(IN_MASK_ADD))
    else { return tracing.isComplete = false }
    watches[number, default: Watch()].names[name, default: []].insert(tracing.goal)
    tracing.steps.insert(Step(watch: number, name: name))
  }

  /// What was traced is the goal's way from now on.
  mutating func end(_ tracing: Tracing) { take(tracing.steps, for: tracing.goal) }

  /// Whether the way is watched still: it isn't any more once something happened on it.
  func isTraced(_ goal: Goal) -> Bool { ways[goal] != nil }

  private mutating func take(_ steps: Set<Step>, for goal: Goal) {
    let old = ways.removeValue(forKey: goal) ?? []
    if !steps.isEmpty { ways[goal] = steps }
    if case .link(let directory, let name) = goal {
      if steps.isEmpty { links[directory]?.remove(name) } else { links[directory, default: []].insert(name) }
      if links[directory]?.isEmpty == true { links[directory] = nil }
    }
    for step in old where !steps.contains(step) {
      watches[step.watch]?.names[step.name]?.remove(goal)
      if watches[step.watch]?.names[step.name]?.isEmpty == true { watches[step.watch]?.names[step.name] = nil }
      retireIfIdle(step.watch)
    }
  }

  // MARK: Watches

  private static func place(_ inotify: Descriptor, on directory: Descriptor, _ events: UInt32) -> Int32? {
    // By the descriptor, so that the directory that is watched is the one that is listed.
    let number = inotify_add_watch(inotify.number, "/proc/self/fd/\(directory.number)", events)
    return number >= 0 ? number : nil
  }

  private mutating func retireIfIdle(_ number: Int32) {
    guard watches[number]?.isIdle == true else { return }
    watches[number] = nil
    retired[number, default: 0] += 1
    // Fails when the kernel ended it already; then too its last word is waiting to be read.
    if let descriptor { inotify_rm_watch(descriptor.number, number) }
  }

  /// What was said since the last call, each hint once.
  mutating func hints() -> [WatchHint] {
    guard let descriptor else { return [] }
    var hints = Hints()
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
    defer { buffer.deallocate() }
    // Bounded, so that a storm of events doesn't keep the caller; what is left stays readable.
    for _ in 0..<16 {
      let count = Glibc.read(descriptor.number, buffer.baseAddress, buffer.count)
      if count < 0, errno == EINTR { continue }
      if count <= 0 { break }
      parse(UnsafeRawBufferPointer(rebasing: buffer[..<count]), into: &hints)
    }
    return hints.all
  }

  /// struct inotify_event: s32 watch, u32 mask, u32 cookie, u32 length, name padded with NUL
  mutating func parse(_ events: UnsafeRawBufferPointer, into hints: inout Hints) {
    var offset = 0
    while offset + 16 <= events.count {
      let number = events.loadUnaligned(fromByteOffset: offset, as: Int32.self)
      let mask = events.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self)
      let length = Int(events.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
      let name = Array(events[(offset + 16)..<(offset + 16 + length)].prefix { $0 != 0 })
      take(number, mask, name, into: &hints)
      offset += 16 + length
    }
  }

  private mutating func take(_ number: Int32, _ mask: UInt32, _ name: [UInt8], into hints: inout Hints) {
    if mask & UInt32(IN_Q_OVERFLOW) != 0 { return hints.append(.overflow) }
    if let count = retired[number] {
      if mask & UInt32(IN_IGNORED) != 0 { retired[number] = count > 1 ? count - 1 : nil }
      return
    }
    guard let watch = watches[number] else { return }
    if mask & UInt32(IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT) != 0 {
      return lose(watch, number, isEnded: mask & UInt32(IN_IGNORED) != 0, into: &hints)
    }
    guard !name.isEmpty else { return }  // the directory's own attributes
    let isOfBytes = mask & Self.ofBytes != 0
    for path in watch.paths {
      hints.append(
        isOfBytes ? .modified(directory: path, name: name) : .changed(directory: path, name: name))
    }
    if !isOfBytes { stray(watch.names[name] ?? [], into: &hints) }
  }

  /// The directory went away, was moved or unmounted: nothing that led there or through it does so any more.
  private mutating func lose(_ watch: Watch, _ number: Int32, isEnded: Bool, into hints: inout Hints) {
    // Its last word has come: there is nothing to retire.
    if isEnded { watches[number] = nil }
    for path in watch.paths {
      forget(path)
      hints.append(.lost(directory: path))
    }
    for goals in watch.names.values { stray(goals, into: &hints) }
  }

  /// Something happened on the way to the goals. Each is told once, until its way was walked again.
  private mutating func stray(_ goals: Set<Goal>, into hints: inout Hints) {
    for goal in goals {
      hints.append(goal.hint)
      take([], for: goal)
    }
  }

  /// Hints in the order of their first appearance.
  struct Hints {
    private(set) var all: [WatchHint] = []
    private var known: Set<WatchHint> = []
    mutating func append(_ hint: WatchHint) {
      if known.insert(hint).inserted { all.append(hint) }
    }
  }
}
