import CLinux
import DataPlane
import Glibc
import JournalModel

/// Watches on directories (`inotify(7)`). Several paths may lead to one directory: it then has one watch.
/// Not for two threads at a time.
struct WatchTable {
  /// Nil when no inotify instance could be had: then nothing is watched, and everything polled (F1).
  let descriptor: Descriptor?
  private var paths: [Int32: [BytePath]] = [:]
  private var watches: [BytePath: Int32] = [:]
  /// Watches that ended here while the kernel's last word on them (IN_IGNORED) is still to be read: how many for each
  /// number. Until then events under that number are old ones, even if the number was given out again (S05).
  private var retired: [Int32: Int] = [:]

  private static let events =
    UInt32(IN_CREATE) | UInt32(IN_MOVED_FROM) | UInt32(IN_MOVED_TO) | UInt32(IN_DELETE) | UInt32(IN_MODIFY)
    | UInt32(IN_CLOSE_WRITE) | UInt32(IN_ATTRIB) | UInt32(IN_DELETE_SELF) | UInt32(IN_MOVE_SELF)
    | UInt32(IN_ONLYDIR) | UInt32(IN_EXCL_UNLINK)

  init() {
    let number = inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
    descriptor = number >= 0 ? Descriptor(owning: number) : nil
  }

  /// Watches the directory that is open, under the path that led to it. False at the watch limit and the like.
  mutating func watch(_ path: BytePath, _ directory: Descriptor) -> Bool {
    guard let descriptor else { return false }
    return note(path, Self.place(descriptor, on: directory))
  }

  /// Asks the file system for permission, which may hang. Negative when no watch stands.
  static func place(_ inotify: Descriptor, on directory: Descriptor) -> Int32 {
    // By the descriptor, so that the directory that is watched is the one that is listed.
    inotify_add_watch(inotify.number, "/proc/self/fd/\(directory.number)", events)
  }

  mutating func note(_ path: BytePath, _ number: Int32) -> Bool {
    if watches[path] != number { unwatch(path) }
    guard number >= 0 else { return false }
    watches[path] = number
    if paths[number]?.contains(path) != true { paths[number, default: []].append(path) }
    return true
  }

  func isWatched(_ path: BytePath) -> Bool { watches[path] != nil }

  mutating func unwatch(_ path: BytePath) {
    guard let number = watches.removeValue(forKey: path) else { return }
    paths[number]?.removeAll { $0 == path }
    if paths[number]?.isEmpty == true { retire(number) }
  }

  private mutating func retire(_ number: Int32) {
    paths[number] = nil
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
    guard let paths = paths[number] else { return }
    for path in paths {
      if mask & UInt32(IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT) != 0 {
        watches[path] = nil
        hints.append(.lost(directory: path))
      } else if name.isEmpty {
        continue  // the directory's own attributes
      } else if mask & UInt32(IN_MODIFY | IN_CLOSE_WRITE) != 0 {
        hints.append(.modified(directory: path, name: name))
      } else {
        hints.append(.changed(directory: path, name: name))
      }
    }
    guard watches[paths[0]] == nil else { return }
    if mask & UInt32(IN_IGNORED) != 0 { self.paths[number] = nil } else { retire(number) }
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
