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
    guard let table = MountTable(), let own = Self.mountID(of: descriptor.number) else { return nil }
    return table.mounts(around: path, in: own)
  }

  private static func target(of link: String) -> BytePath {
    var buffer = [CChar](repeating: 0, count: BytePath.maximumByteCount + 1)
    let count = readlink(link, &buffer, buffer.count)
    return BytePath(buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) })
  }

  private static func mountID(of number: Int32) -> Int? {
    guard let bytes = ProcFile.read("/proc/self/fdinfo/\(number)") else { return nil }
    let words = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
    guard let label = words.firstIndex(of: "mnt_id:"), words.indices.contains(label + 1) else { return nil }
    return Int(words[label + 1])
  }
}

/// `/proc/self/mountinfo`, of the calling thread: see proc_pid_mountinfo(5).
struct MountTable {
  struct Mount: Hashable {
    var id: Int
    var parent: Int
    var point: BytePath
  }
  var mounts: [Mount]

  init(_ mounts: [Mount]) { self.mounts = mounts }

  init?() {
    guard let text = ProcFile.read("/proc/thread-self/mountinfo") else { return nil }
    self.init(parsing: text)
  }

  init(parsing text: [UInt8]) {
    mounts = text.split(separator: UInt8(ascii: "\n")).compactMap { line in
      let fields = line.split(separator: UInt8(ascii: " "), maxSplits: 5)
      guard fields.count > 4, let id = Int(String(decoding: fields[0], as: UTF8.self)),
        let parent = Int(String(decoding: fields[1], as: UTF8.self))
      else { return nil }
      return Mount(id: id, parent: parent, point: BytePath(Self.unescaped(fields[4])))
    }
  }

  /// Blanks, tabs, line ends and backslashes stand as three octal digits behind a backslash.
  private static func unescaped(_ field: ArraySlice<UInt8>) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = field
    while let first = rest.first {
      let digits = rest.dropFirst().prefix(3)
      if first == UInt8(ascii: "\\"), digits.count == 3,
        let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
      {
        bytes.append(value)
        rest = rest.dropFirst(4)
      } else {
        bytes.append(first)
        rest = rest.dropFirst()
      }
    }
    return bytes
  }

  /// - Parameter own: the mount in which `root` was opened.
  func mounts(around root: BytePath, in own: Int) -> LogRootMounts {
    // The mounts that lead to the root. One that hangs on any of them at or above the root's path hides it.
    let parents = Dictionary(mounts.map { ($0.id, $0.parent) }, uniquingKeysWith: { first, _ in first })
    var chain: Set<Int> = [own]
    var last = own
    while let parent = parents[last], chain.insert(parent).inserted { last = parent }
    return LogRootMounts(
      below: mounts.filter { $0.parent == own && $0.point != root && $0.point.lies(within: root) }.map(\.point)
        .sorted(),
      over: mounts.first { chain.contains($0.parent) && !chain.contains($0.id) && root.lies(within: $0.point) }?.point)
  }
}

/// A file of `/proc`, whole.
private enum ProcFile {
  static func read(_ path: String) -> [UInt8]? {
    guard let file = try? Descriptor.open(BytePath(path), O_RDONLY) else { return nil }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = Glibc.read(file.number, &piece, piece.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { return nil }
      if count == 0 { return bytes }
      bytes += piece[..<count]
    }
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
