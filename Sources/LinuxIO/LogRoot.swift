import CLinux
import Glibc
import JournalModel

/// A server's log root. Paths are relative to it, and nothing outside of it is ever reached: `openat2(2)` refuses `..`,
/// absolute paths and symbolic links in every component (P1), and mount points: one `syncfs` covers one file system, so
/// that what lies across a mount would be acknowledged before it is durable (G2, P4).
final class LogRoot: Sendable {
  let descriptor: Descriptor
  /// Directories whose own entry is known to be on the disk. One that was only found may have been made a moment before
  /// a crash, and not synced. Paths come from hosts: only so many are kept, others are synced again.
  private let durable = Monitor(RecentPaths(limit: 1 << 20))

  /// Opens the directory, which must exist.
  init(_ path: BytePath) throws(SystemError) {
    descriptor = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
  }

  func open(_ path: BytePath, _ flags: Int32, mode: UInt32 = 0) throws(SystemError) -> Descriptor {
    if path.bytes.isEmpty { return descriptor }
    guard !path.bytes.contains(0) else { throw SystemError("open", code: EINVAL) }
    return try open(path.bytes, in: descriptor, flags, mode: mode)
  }

  private func open(
    _ path: [UInt8], in directory: Descriptor, _ flags: Int32, mode: UInt32 = 0
  ) throws(SystemError) -> Descriptor {
    let number = withCString(path) { linux_open_beneath(directory.number, $0, flags | O_CLOEXEC | O_NOFOLLOW, mode) }
    return Descriptor(owning: try checked("open", number))
  }

  func directory(_ path: BytePath) throws(SystemError) -> Descriptor { try open(path, O_RDONLY | O_DIRECTORY) }

  /// Makes the directory and those above it, as needed, and syncs each of their entries.
  func makeDirectories(_ path: BytePath) throws(SystemError) -> Descriptor {
    var paving = Paving(path)
    while try !pave(&paving, most: Self.directoriesAtOnce) {}
    return try directory(path)
  }

  /// Directories that are made and synced together: many cost little more than one then, since the first sync's journal
  /// commit brings them all. They are open meanwhile.
  static var directoriesAtOnce: Int { 64 }

  /// Goes on with making the directories of a path, by `most` of them at most, which are durable then if they are to be.
  /// True when all are there.
  func pave(_ paving: inout Paving, most: Int) throws(SystemError) -> Bool {
    if paving.position == 0, try isThere(&paving) { return true }
    var parent = try directory(paving.made)
    var parents: [Descriptor] = []
    var made: [BytePath] = []
    while made.count < most, let next = paving.next {
      guard !next.name.isEmpty, next.name != Array(".".utf8), next.name != Array("..".utf8), !next.name.contains(0)
      else { throw SystemError("mkdir", code: EINVAL) }
      if withCString(next.name, { mkdirat(parent.number, $0, 0o750) }) < 0, errno != EEXIST {
        throw SystemError("mkdir", code: errno)
      }
      let child = try open(next.name, in: parent, O_RDONLY | O_DIRECTORY)
      if paving.isDurable { parents.append(parent) }
      made.append(next.path)
      parent = child
      paving.position = next.path.bytes.count
    }
    for parent in parents { try parent.sync() }
    if paving.isDurable { durable.withLock { known in for path in made { known.insert(path) } } }
    return paving.next == nil
  }

  /// Whether nothing is to be made; else goes to where the known ones end.
  private func isThere(_ paving: inout Paving) throws(SystemError) -> Bool {
    guard paving.isDurable else { return try existing(paving.path) != nil }
    if durable.withLock({ $0.contains(paving.path) }) {
      if try existing(paving.path) != nil { return true }
      // Somebody removed it, and who knows how many above it.
      return false
    }
    while let next = paving.next, durable.withLock({ $0.contains(next.path) }) {
      paving.position = next.path.bytes.count
    }
    if try existing(paving.made) == nil { paving.position = 0 }
    return paving.next == nil
  }

  /// Nil when somebody removed it.
  private func existing(_ path: BytePath) throws(SystemError) -> Descriptor? {
    do { return try directory(path) } catch {
      if error.code == ENOENT { return nil }
      throw error
    }
  }

  /// Swaps two names atomically; returns the two directories, which are not synced yet.
  func exchange(_ one: BytePath, _ other: BytePath) throws(SystemError) -> [Descriptor] {
    let from = try directory(one.directory)
    let to = try directory(other.directory)
    let result = withCString(one.name) { old in
      withCString(other.name) { linux_rename(from.number, old, to.number, $0, UInt32(RENAME_EXCHANGE)) }
    }
    _ = try checked("rename", result)
    return [from, to]
  }

  func syncFileSystem() throws(SystemError) {
    _ = try checked("syncfs", linux_syncfs(descriptor.number))
  }
}

/// How far the directories of a path are made, from the top: a path with thousands of them is made a turn at a time.
package struct Paving: Sendable {
  let path: BytePath
  /// Whether they are to be on the disk.
  let isDurable: Bool
  /// Bytes of the path that are done with.
  fileprivate(set) var position = 0

  init(_ path: BytePath, isDurable: Bool = true) {
    self.path = path
    self.isDurable = isDurable
  }

  fileprivate var made: BytePath { BytePath(Array(path.bytes[..<position])) }

  /// The next one to make; nil when there is none.
  fileprivate var next: (path: BytePath, name: [UInt8])? {
    guard position < path.bytes.count else { return nil }
    let start = position == 0 ? 0 : position + 1
    let rest = path.bytes[start...]
    let end = rest.firstIndex(of: UInt8(ascii: "/")) ?? path.bytes.count
    return (BytePath(Array(path.bytes[..<end])), Array(path.bytes[start..<end]))
  }
}
