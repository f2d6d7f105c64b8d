import CLinux
import Glibc
package import JournalModel

/// `latest/<host>/<path>`: symbolic links to the newest plain file of each path (P1).
extension LinuxServerFiles {
  /// Its name is that of the plain file without the suffix, and so is escaped and bounded like it.
  package func link(host: HostName, path: BytePath, to stored: BytePath) -> String? {
    guard let target = LatestTarget(stored), target.name.bytes.starts(with: "\(host)/".utf8) else {
      return "\(String(decoding: stored.bytes, as: UTF8.self)) is not the name of a plain file of \(host)"
    }
    return linking.withLock { _ in
      do { return try point(target) } catch { return "\(error)" }
    }
  }

  private func point(_ target: LatestTarget) throws -> String? {
    let top = try files.makeDirectories(BytePath("latest"))
    let directory = try files.makeDirectories(BytePath("latest").appending(target.name.bytes).directory)
    let name = target.name.name
    if let present = try Self.linkTarget(name, in: directory) {
      guard let present else { return "a file or directory that is no link has the name" }
      if let birth = LatestTarget.birth(present), target.birth.lexicographicallyPrecedes(birth) { return nil }
    }
    // The temporary name begins with a dot, as no host's name does.
    let temporary = ".new"
    unlinkat(top.number, temporary, 0)
    let isMade = withCString(target.relative) { symlinkat($0, top.number, temporary) }
    _ = try checkedErrno("symlink", isMade)
    let result = withCString(name) { linux_rename(top.number, temporary, directory.number, $0, 0) }
    _ = try checked("rename", result)
    return nil
  }

  /// Where the link leads; `.some(nil)` when the name is no link, nil when there is none.
  private static func linkTarget(_ name: [UInt8], in directory: Descriptor) throws(SystemError) -> [UInt8]?? {
    var buffer = [UInt8](repeating: 0, count: BytePath.maximumByteCount + 1)
    let count = buffer.withUnsafeMutableBytes { raw -> Int in
      raw.withMemoryRebound(to: CChar.self) { chars in
        guard let start = chars.baseAddress else { return -1 }
        return withCString(name) { readlinkat(directory.number, $0, start, chars.count) }
      }
    }
    if count >= 0 { return .some(Array(buffer[..<count])) }
    switch errno {
    case ENOENT: return nil
    case EINVAL: return .some(nil)
    default: throw SystemError("readlink", code: errno)
    }
  }
}

/// What a plain file's name `files/<host>/<path>@<birth>-<uuid>` says.
struct LatestTarget {
  /// `<host>/<path>`
  var name: BytePath
  /// Sorts like the birth time.
  var birth: [UInt8]
  /// The link's content.
  var relative: [UInt8]

  init?(_ stored: BytePath) {
    let prefix = Array("files/".utf8)
    guard stored.bytes.starts(with: prefix), let at = stored.bytes.lastIndex(of: UInt8(ascii: "@")),
      let birth = Self.birth(stored.bytes)
    else { return nil }
    name = BytePath(Array(stored.bytes[prefix.count..<at]))
    self.birth = birth
    let depth = name.bytes.count { $0 == UInt8(ascii: "/") } + 1
    relative = Array(String(repeating: "../", count: depth).utf8) + stored.bytes
  }

  /// The birth time in a stored name: what stands between the last `@` and the `-` behind it.
  static func birth(_ stored: [UInt8]) -> [UInt8]? {
    guard let at = stored.lastIndex(of: UInt8(ascii: "@")),
      let dash = stored[at...].firstIndex(of: UInt8(ascii: "-"))
    else { return nil }
    return Array(stored[(at + 1)..<dash])
  }
}
