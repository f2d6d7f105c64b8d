import CLinux
import Glibc
package import JournalModel

/// A plain file that is not where or what it should be, in words for operators: what is wrong and what helps.
struct Misplaced: Error, Hashable, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }

  static let removed = Misplaced(
    "somebody removed the plain file: put it back from a backup or another server, it is tried again by itself")
}

/// Where mounts stand in the way of a log root.
package struct LogRootMounts: Hashable, Sendable {
  /// Mount points below the root, reached from it: nothing is stored behind them.
  package var below: [BytePath] = []
  /// A mount point at or above the root that came after it was opened: its path leads elsewhere now.
  package var over: BytePath?
  package init(below: [BytePath] = [], over: BytePath? = nil) {
    self.below = below
    self.over = over
  }

  package var isEmpty: Bool { below.isEmpty && over == nil }

  /// Mounts of the directory that `path` leads to now; nil when there is none, or no `/proc`.
  package static func of(_ path: BytePath) -> LogRootMounts? {
    guard let root = try? LogRoot(path) else { return nil }
    return root.mounts()
  }
}

extension LogRoot {
  /// What an error at `path` means where it isn't the disk's: nil for all others.
  func misplaced(_ path: BytePath, _ error: SystemError) -> Misplaced? {
    switch error.code {
    case ENOENT: return .removed
    case EXDEV, EBUSY: return acrossMount(path)
    case EACCES, EPERM, EROFS:
      return Misplaced("\(error): the node's user must be able to write it; is it immutable, or owned by another user?")
    case ENOTDIR, ELOOP, EISDIR:
      return Misplaced(
        "\(error): something else has the name of the plain file or of a directory on its way: move it away")
    default: return nil
    }
  }

  private func acrossMount(_ path: BytePath) -> Misplaced {
    let own = self.path
    let point = mounts()?.below.first { own.appending(path.bytes).lies(within: $0) }
    return Misplaced(
      "\(point.map(\.printable) ?? "something") is mounted below server.logs, where nothing is stored across a mount: "
        + "unmount it, or mount it as server.logs itself")
  }

  /// The root's own path as the kernel has it now.
  var path: BytePath { Self.target(of: "/proc/self/fd/\(descriptor.number)") }

  /// Nil without `/proc`.
  func mounts() -> LogRootMounts? {
    guard let mounts = try? Mount.all(in: Mount.openTable()), let own = mountNumber else { return nil }
    return LogRootMounts(mounts, around: path, in: own)
  }

  private static func target(of link: String) -> BytePath {
    var buffer = [CChar](repeating: 0, count: BytePath.maximumByteCount + 1)
    let count = readlink(link, &buffer, buffer.count)
    return BytePath(buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) })
  }

  private var mountNumber: Int? {
    guard let file = try? Descriptor.open(BytePath("/proc/self/fdinfo/\(descriptor.number)"), O_RDONLY),
      let bytes = try? file.bytes(at: 0, count: 4_096)
    else { return nil }
    let words = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
    guard let label = words.firstIndex(of: "mnt_id:"), words.indices.contains(label + 1) else { return nil }
    return Int(words[label + 1])
  }
}

extension LogRootMounts {
  /// - Parameter own: the mount in which `root` was opened.
  init(_ mounts: [Mount], around root: BytePath, in own: Int) {
    // The mounts that lead to the root. One that hangs on any of them at or above the root's path hides it.
    let parents = Dictionary(mounts.map { ($0.number, $0.parent) }, uniquingKeysWith: { first, _ in first })
    var chain: Set<Int> = [own]
    var last = own
    while let parent = parents[last], chain.insert(parent).inserted { last = parent }
    self.init(
      below: mounts.filter { $0.parent == own && $0.point != root && $0.point.lies(within: root) }.map(\.point)
        .sorted(),
      over: mounts.first { chain.contains($0.parent) && !chain.contains($0.number) && root.lies(within: $0.point) }?
        .point)
  }
}

extension BytePath {
  /// This path is `directory` or lies below it.
  func lies(within directory: BytePath) -> Bool {
    if directory.bytes == [UInt8(ascii: "/")] { return true }
    return self == directory || bytes.starts(with: directory.bytes + [UInt8(ascii: "/")])
  }

  /// For messages that end in a log line, which quotes what needs it.
  var printable: String { String(decoding: bytes, as: UTF8.self) }
}
