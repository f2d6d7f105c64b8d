import Glibc
import HostCore
import JournalModel
import LinuxIO

/// Whether inotify(7) has watches for all directories that patterns reach.
enum WatchLimits {
  /// Directories are counted up to here; more is more than any limit.
  private static let counted = 1_000_000
  /// And for so long: a pattern for everything reaches file systems of any size and slowness.
  private static let patience = Interval.seconds(5)

  static func check(_ rules: [FollowRule], _ show: NodeCheck.Show) {
    let deadline = Clocks.now() + patience
    let patterns = rules.flatMap(\.include).map { String($0) }
    let needed = directories(of: patterns, until: deadline) + ways(of: patterns)
    let atLeast = Clocks.now() < deadline ? "" : "at least "
    guard let limit = number("/proc/sys/fs/inotify/max_user_watches") else {
      show(Finding(.warn, "inotify", "its limits can't be read: without watches directories are polled"))
      return
    }
    if needed > limit / 2 {
      show(
        Finding(
          .warn, "inotify",
          "\(atLeast)\(needed) directories to watch, and \(limit) watches for all of this user's processes; beyond that, "
            + "directories are polled: sysctl fs.inotify.max_user_watches=\(max(needed * 4, 65_536))"))
    } else {
      show(Finding(.ok, "inotify", "\(atLeast)\(needed) directories to watch, \(limit) watches"))
    }
    if let instances = number("/proc/sys/fs/inotify/max_user_instances"), instances < 8 {
      show(
        Finding(
          .warn, "inotify", "only \(instances) instances for each user: sysctl fs.inotify.max_user_instances=128"))
    }
    checkDescriptors(show)
  }

  private static func checkDescriptors(_ show: NodeCheck.Show) {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < 1_024 else { return }
    show(Finding(.warn, "descriptors", "only \(limit.rlim_cur) may be open: ulimit -n 65536 (LimitNOFILE= in systemd)"))
  }

  private static func number(_ path: String) -> Int? {
    guard let bytes = try? SmallFile.read(path, limit: 4_096) else { return nil }
    return Int(String(decoding: bytes, as: UTF8.self).filter(\.isNumber))
  }

  /// At most how many directories the patterns reach: whole trees where a pattern has a wildcard before its last
  /// component, else one. Those that were found by the deadline.
  static func directories(of patterns: [String], until deadline: Instant = Clocks.now() + patience) -> Int {
    let flat = Set(patterns.filter { !isDeep($0) }.map(FollowPattern.base))
    // Sorted so that what lies in a directory follows it at once.
    let deep = Set(patterns.filter(isDeep).map { FollowPattern.base(of: $0) }).sorted { $0 + "/" < $1 + "/" }
    let roots = deep.reduce(into: [String]()) { roots, path in
      if !(roots.last.map { ConfigurationReader.lies(path, in: $0) } ?? false) { roots.append(path) }
    }
    var count = flat.filter { path in !roots.contains { $0 == path || ConfigurationReader.lies(path, in: $0) } }.count
    for root in roots { count += tree(root, limit: counted - count, until: deadline) }
    return count
  }

  /// The directories above the bases: what leads to a base is watched too.
  static func ways(of patterns: [String]) -> Int { Set(patterns.map(FollowPattern.base).flatMap(ancestors)).count }

  private static func ancestors(_ path: String) -> [String] {
    let names = path.split(separator: "/").dropLast()
    return ["/"] + names.indices.map { "/" + names[...$0].joined(separator: "/") }
  }

  private static func isDeep(_ pattern: String) -> Bool {
    pattern.split(separator: "/").dropLast().contains { FollowPattern.isGlob($0) }
  }

  /// Directories in a tree, its root counted; links aren't followed.
  private static func tree(_ root: String, limit: Int, until deadline: Instant) -> Int {
    var waiting = [root]
    var count = 0
    while let path = waiting.popLast(), count < limit, Clocks.now() < deadline {
      guard let directory = opendir(path) else { continue }
      defer { closedir(directory) }
      count += 1
      while let entry = readdir(directory) {
        guard entry.pointee.d_type == UInt8(DT_DIR) else { continue }
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { waiting.append(path == "/" ? "/" + name : path + "/" + name) }
      }
    }
    return count
  }
}
