import CLinux
import Glibc
package import JournalModel

/// `latest/<host>/<path>`: symbolic links to the newest plain file of each path (P1).
extension LinuxServerFiles {
  /// What is no link stays. Which file is the newest of its path the core knows: names carry what hosts say of births.
  package func link(host: HostName, path: BytePath, to stored: BytePath) -> String? {
    linking.withLock { _ in
      do { return try point(latest(path, of: host), to: stored) } catch { return "\(error)" }
    }
  }

  func latest(_ path: BytePath, of host: HostName) -> BytePath {
    BytePath(BytePath("latest/\(host)/").bytes + path.bytes)
  }

  private func point(_ place: BytePath, to stored: BytePath) throws -> String? {
    let top = try directory(BytePath("latest"))
    let directory = try directory(place.directory)
    let above = place.bytes.count { $0 == UInt8(ascii: "/") }
    let target = Array(String(repeating: "../", count: above).utf8) + stored.bytes
    if let present = try Self.linkTarget(place.name, in: directory) {
      guard let present else { return "a file or directory that is no link has the name" }
      // As after each start, for nearly all files.
      if present == target { return nil }
    }
    // The temporary name begins with a dot, as no host's name does.
    let temporary = ".new"
    unlinkat(top.number, temporary, 0)
    _ = try checkedErrno("symlink", withCString(target) { symlinkat($0, top.number, temporary) })
    let renamed = withCString(place.name) { linux_rename(top.number, temporary, directory.number, $0, 0) }
    do { _ = try checked("rename", renamed) } catch { throw files.root.misplaced(place, error) ?? error }
    return nil
  }

  private func directory(_ path: BytePath) throws -> Descriptor {
    var paving = Paving(path, isDurable: false)
    while try !files.pave(&paving) {}
    do { return try files.root.directory(path) } catch { throw files.root.misplaced(path, error) ?? error }
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
