import Glibc
package import JournalModel

/// A file system where it is mounted. All that lies on it shares what is known of it.
package struct Mount: Hashable, Sendable {
  private final class Facts: Sendable {
    let number: Int
    let parent: Int
    let point: BytePath
    let type: String

    init(number: Int, parent: Int, point: BytePath, type: String) {
      self.number = number
      self.parent = parent
      self.point = point
      self.type = type
    }
  }
  private let facts: Facts

  /// The kernel's number of this mount and of the one that it lies on; 0 where nothing is known.
  package var number: Int { facts.number }
  package var parent: Int { facts.parent }
  package var point: BytePath { facts.point }
  /// As in `/proc/filesystems`: `ext4`, `nfs4`, `fuse.sshfs`.
  package var type: String { facts.type }

  package init(number: Int, parent: Int, point: BytePath, type: String) {
    facts = Facts(number: number, parent: parent, point: point, type: type)
  }

  package static func == (l: Mount, r: Mount) -> Bool {
    l.facts === r.facts
      || (l.number, l.parent) == (r.number, r.parent) && l.point == r.point && l.type == r.type
  }

  /// Somebody else answers for it, another machine or a process: it may hang as long as that does, and closing a file of
  /// it too.
  package var isRemote: Bool {
    let kind = type.prefix { $0 != "." }
    return ["fuse", "fuseblk", "virtiofs", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "gfs2", "ocfs2"]
      .contains(kind)
  }

  package func hash(into hasher: inout Hasher) { hasher.combine(number) }

  package static let unknown = Mount(number: 0, parent: 0, point: BytePath("/"), type: "unknown")
}

extension Mount {
  /// All mounts of the calling thread, in the order in which they were made, from `mountinfo` as it was opened
  /// (proc_pid_mountinfo(5)).
  static func all(in file: Descriptor) throws -> [Mount] { all(in: try file.bytes(at: 0, count: 4 << 20)) }
  static func all(in text: [UInt8]) -> [Mount] {
    text.split(separator: UInt8(ascii: "\n")).compactMap { Mount($0) }
  }
  static func openTable() throws(SystemError) -> Descriptor {
    try Descriptor.open(BytePath("/proc/thread-self/mountinfo"), O_RDONLY)
  }
}

/// Where file systems are mounted (`mountinfo`), kept until that changes. Asking it asks no file system.
package final class MountTable: Sendable {
  private struct State {
    var byPoint: [BytePath: Mount] = [:]
    var generation: UInt64 = 0
  }
  private let state = Monitor(State())
  private let file: Descriptor?

  package init() {
    file = try? Mount.openTable()
    state.withLock { read(into: &$0) }
  }

  /// The file system of a path whose components are no symbolic links.
  package func mount(of path: BytePath) -> Mount {
    state.withLock { state in
      refresh(&state)
      var path = path
      while true {
        if let mount = state.byPoint[path] { return mount }
        guard path.bytes.count > 1 else { return .unknown }
        path = path.directory
      }
    }
  }

  package func mount(numbered number: Int) -> Mount? {
    state.withLock { state in
      refresh(&state)
      return state.byPoint.values.first { $0.number == number }
    }
  }

  /// Counts how often mounts have changed.
  var generation: UInt64 {
    state.withLock { state in
      refresh(&state)
      return state.generation
    }
  }

  /// The kernel says once for each reader that mounts have changed.
  private func refresh(_ state: inout State) {
    guard let file else { return }
    var entry = pollfd(fd: file.number, events: Int16(POLLPRI), revents: 0)
    if poll(&entry, 1, 0) > 0 { read(into: &state) }
  }

  private func read(into state: inout State) {
    guard let file, let mounts = try? Mount.all(in: file) else { return }
    state.generation += 1
    // One that lies over another comes after it.
    state.byPoint = Dictionary(mounts.map { ($0.point, $0) }, uniquingKeysWith: { $1 })
  }
}

extension Mount {
  /// number, parent, device, root, point, options, optional fields, `-`, type, source, options of the file system
  init?(_ line: ArraySlice<UInt8>) {
    let fields = line.split(separator: UInt8(ascii: " "))
    guard fields.count > 6, let number = Int(String(decoding: fields[0], as: UTF8.self)),
      let parent = Int(String(decoding: fields[1], as: UTF8.self)),
      let dash = fields.dropFirst(6).firstIndex(where: { $0.elementsEqual([UInt8(ascii: "-")]) }),
      dash + 1 < fields.count
    else { return nil }
    self.init(
      number: number, parent: parent, point: BytePath(Self.unescaped(fields[4])),
      type: String(decoding: fields[dash + 1], as: UTF8.self))
  }

  /// Space, tab, newline and backslash are written as `\` and three octal digits.
  private static func unescaped(_ field: ArraySlice<UInt8>) -> [UInt8] {
    var result: [UInt8] = []
    var rest = field
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3).compactMap { (0x30...0x37).contains($0) ? UInt16($0 - 0x30) : nil }
      guard byte == UInt8(ascii: "\\"), digits.count == 3 else {
        result.append(byte)
        continue
      }
      result.append(UInt8(truncatingIfNeeded: digits.reduce(0) { $0 << 3 | $1 }))
      rest = rest.dropFirst(3)
    }
    return result
  }
}
