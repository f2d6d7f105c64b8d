import Glibc
import HostCore
import JournalModel

/// Whether others than the node's user and root could change what it keeps or goes by: the thing itself, or by putting
/// another in its place somewhere above it.
enum DirectoryRights {
  /// Findings about a configuration's directories and files, and its control socket; empty when all is well. What doesn't
  /// exist yet is judged by what it will be made in.
  static func findings(for configuration: Configuration) -> [Finding] {
    let tls = configuration.tls
    var places = [
      ("node.data", configuration.node.data), ("configuration", configuration.file),
      ("tls.certificate", tls.certificate), ("tls.key", tls.key), ("tls.authorities", tls.authorities),
    ]
    if let server = configuration.server { places.insert(("server.logs", server.logs), at: 1) }
    var said: Set<String> = []
    let findings = places.flatMap { key, path in
      // What is wrong above several of them is said once.
      objections(to: path).filter { said.insert($0).inserted }.map { Finding(.warn, key, $0) }
    }
    return findings + controlSocket(configuration.controlSocket)
  }

  /// What others may do to `path`, one sentence for each of its components where they may do something.
  static func objections(to path: String) -> [String] {
    var result = judge(path)
    // Where links lead elsewhere, that place counts as well as the way to it.
    if let real = realpath(path, nil) {
      defer { free(real) }
      let target = String(cString: real)
      if target != path { result += judge(target).filter { !result.contains($0) } }
    }
    return result
  }

  private static func judge(_ path: String) -> [String] {
    var result: [String] = []
    var component = path
    while true {
      if let objection = objection(to: component, isItself: component == path) { result.append(objection) }
      if component == "/" || component.isEmpty { return result }
      component = String(BytePath(component).directory)
    }
  }

  private static func objection(to path: String, isItself: Bool) -> String? {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    let harm =
      isItself
      ? status.st_mode & S_IFMT == S_IFDIR
        ? "others could change or remove what the node keeps there" : "others could change it"
      : "others could put something else in the place of what lies below"
    if status.st_uid != 0, status.st_uid != geteuid() {
      return "\(path) belongs to user \(status.st_uid), neither root nor the node's: \(harm)"
    }
    // A sticky directory such as /tmp lets nobody rename or remove what isn't theirs.
    guard status.st_mode & 0o022 != 0, isItself || status.st_mode & S_ISVTX == 0 else { return nil }
    let mode = String(status.st_mode & 0o7777, radix: 8)
    return "\(path) has mode \(mode): \(harm) (chmod go-w \(path))"
  }

  private static func controlSocket(_ path: String) -> [Finding] {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & 0o077 != 0 else { return [] }
    let mode = String(status.st_mode & 0o777, radix: 8)
    return [Finding(.warn, "node.data", "\(path) has mode \(mode): others may ask the node (chmod 600 \(path))")]
  }
}
