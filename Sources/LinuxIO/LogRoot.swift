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
    let number = withCString(path.bytes) {
      linux_open_beneath(descriptor.number, $0, flags | O_CLOEXEC | O_NOFOLLOW, mode)
    }
    return Descriptor(owning: try checked("open", number))
  }

  func directory(_ path: BytePath) throws(SystemError) -> Descriptor { try open(path, O_RDONLY | O_DIRECTORY) }

  /// Makes the directory and those above it, as needed, each synced into its parent before the next.
  func makeDirectories(_ path: BytePath) throws(SystemError) -> Descriptor {
    if path.bytes.isEmpty || durable.withLock({ $0.contains(path) }) {
      if let found = try existing(path) { return found }
      durable.withLock { $0.remove(path) }
    }
    let name = path.name
    guard !name.isEmpty, name != Array(".".utf8), name != Array("..".utf8), !name.contains(0) else {
      throw SystemError("mkdir", code: EINVAL)
    }
    let parent = try makeDirectories(path.directory)
    if withCString(name, { mkdirat(parent.number, $0, 0o750) }) < 0, errno != EEXIST {
      throw SystemError("mkdir", code: errno)
    }
    let made = try directory(path)
    try parent.sync()
    durable.withLock { $0.insert(path) }
    return made
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
