import Glibc
import HostCore
import JournalModel
import LMDBStore
import LinuxIO
import SecureTransport

/// One line of `check`.
package struct Finding: Sendable, Hashable, CustomStringConvertible {
  package enum Grade: String, Sendable { case ok, warn, fail = "FAIL" }
  package var grade: Grade
  package var subject: String
  package var message: String

  package init(_ grade: Grade, _ subject: String, _ message: String) {
    self.grade = grade
    self.subject = subject
    self.message = message
  }

  package var description: String {
    let word = grade.rawValue + String(repeating: " ", count: 4 - grade.rawValue.count)
    return "\(word)  \(shown(subject, limit: 200)): \(shown(message, limit: 1_000))"
  }
}

/// Whether a node with this configuration can do its work on this machine as this user. Changes nothing.
package struct NodeCheck {
  typealias Show = (Finding) -> Void
  let configuration: Configuration

  package init(_ configuration: Configuration) { self.configuration = configuration }

  /// Tells each finding as soon as it is known.
  package func run(offline: Bool, _ show: (Finding) -> Void) {
    show(
      Finding(
        .ok, "configuration",
        "\(configuration.node.name), \(configuration.roles.joined(separator: " and ")), \(configuration.file)"))
    for problem in configuration.warnings { show(Finding(.warn, "configuration", problem.description)) }
    checkKeys(show)
    if configuration.host != nil { checkJournalKey(show) }
    checkData(show)
    checkStores(show)
    checkLogs(show)
    for finding in DirectoryRights.findings(for: configuration) { show(finding) }
    if let host = configuration.host {
      checkFollowed(host, show)
      WatchLimits.check(host.follow, show)
      if !offline { checkServers(host.servers, "server", show) }
    }
    if let server = configuration.server, !server.peers.isEmpty, !offline { checkServers(server.peers, "peer", show) }
  }

  // MARK: Keys

  private static let secondsOfDay: Int64 = 86_400
  private static let warnedDays: Int64 = 30

  private func checkKeys(_ show: Show) {
    let sides: [(TLSContext.Side, Bool)] = [
      (.client, configuration.connects), (.server, configuration.server != nil),
    ]
    var identity: CertificateIdentity?
    for (side, isNeeded) in sides where isNeeded {
      do throws(TransportError) {
        let context = try TLSContext(side, configuration.credentials)
        if let objection = context.objection() { throw objection }
        identity = context.identity
      } catch {
        show(Finding(.fail, "keys", error.description))
        return
      }
    }
    guard let identity else { return }
    if let objection = configuration.objection(to: identity) {
      show(Finding(.fail, "keys", objection))
    } else {
      checkExpiry(identity, show)
    }
  }

  private func checkExpiry(_ identity: CertificateIdentity, _ show: Show) {
    let left =
      identity.notAfter.nanoseconds.saturatingSubtracting(WallTime.now.nanoseconds) / 1_000_000_000 / Self.secondsOfDay
    let text = "\(configuration.tls.certificate) is valid until \(identity.notAfter.rfc3339)"
    show(Finding(left < Self.warnedDays ? .warn : .ok, "keys", left < Self.warnedDays ? "\(text): \(left) days" : text))
  }

  private func checkJournalKey(_ show: Show) {
    let path = configuration.dataFolder.journalKey
    guard SmallFile.exists(path) else {
      let journal = try? LMDBHostStore<SHA256Tree>(readingAt: configuration.dataFolder.hostStore).identity()
      if journal != nil { show(Finding(.fail, "keys", configuration.dataFolder.missingKey)) }
      return
    }
    do {
      _ = try SecureTransport.JournalKey.load(path)
      show(Finding(.ok, "keys", "\(path) is readable"))
    } catch {
      show(Finding(.fail, "keys", error.description))
    }
  }

  // MARK: Directories

  private func checkData(_ show: Show) {
    let path = configuration.node.data
    guard checkDirectory("node.data", path, show) else { return }
    var status = stat()
    if stat(path, &status) == 0, status.st_mode & 0o055 != 0 {
      show(
        Finding(
          .warn, "node.data",
          "\(path) has mode \(String(status.st_mode & 0o777, radix: 8)): others may look into it (chmod 700 \(path))"))
    }
  }

  private func checkLogs(_ show: Show) {
    guard let server = configuration.server, checkDirectory("server.logs", server.logs, show) else { return }
    for point in LogRootMounts.of(BytePath(server.logs))?.below ?? [] {
      show(Finding(.warn, "server.logs", "\(point.escaped) \(LogRootMounts.belowRemedy)"))
    }
  }

  /// True when it exists and can be used.
  private func checkDirectory(_ key: String, _ path: String, _ show: Show) -> Bool {
    var status = stat()
    if stat(path, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFDIR else {
        show(Finding(.fail, key, "\(path) is not a directory"))
        return false
      }
      guard access(path, R_OK | W_OK | X_OK) == 0 else {
        show(Finding(.fail, key, "\(path) can't be written by this user: \(SmallFile.describe(errno))"))
        return false
      }
      show(Finding(.ok, key, path))
      return true
    }
    guard errno == ENOENT else {
      show(Finding(.fail, key, "\(path): \(SmallFile.describe(errno))"))
      return false
    }
    var parent = path
    repeat { parent = String(BytePath(parent).directory) } while !SmallFile.exists(parent) && parent != "/"
    if access(parent, W_OK | X_OK) == 0 {
      show(Finding(.ok, key, "\(path) is missing and will be made"))
    } else {
      show(Finding(.fail, key, "\(path) is missing and can't be made in \(parent): \(SmallFile.describe(errno))"))
    }
    return false
  }

  private func checkFollowed(_ host: Configuration.HostSection, _ show: Show) {
    checkRotated(host.follow, show)
    checkLeases(show)
    var seen: Set<String> = []
    for pattern in host.follow.flatMap(\.include) {
      let base = FollowPattern.base(of: String(pattern))
      guard seen.insert(base).inserted else { continue }
      if access(base, R_OK | X_OK) == 0 {
        show(Finding(.ok, "host.follow", base))
      } else if errno == ENOENT {
        show(Finding(.warn, "host.follow", "\(base) does not exist; it will be followed when it does"))
      } else {
        show(Finding(.fail, "host.follow", "\(base) can't be listed by this user: \(SmallFile.describe(errno))"))
      }
    }
  }

  /// Each costs a look at all patterns, and nobody reads more.
  private static let rotatedShown = 20

  /// A file that is created and renamed away while the node is down has only its new name: if no pattern finds that
  /// name, nobody ever knows of the file.
  private func checkRotated(_ follow: [FollowRule], _ show: Show) {
    let includes = follow.flatMap(\.include)
    let patterns = includes.map { PathPattern($0) }
    var said = 0
    // A pattern for names that end in a digit is one for rotated names already.
    let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
    for (text, pattern) in zip(includes, patterns) where !digits.contains(pattern.sample.bytes.last ?? 0) {
      let rotated = [".1", "-20260101"].map { BytePath(pattern.sample.bytes + Array($0.utf8)) }
      guard !rotated.contains(where: { name in pattern.matches(name) || patterns.contains { $0.matches(name) } })
      else { continue }
      said += 1
      guard said <= Self.rotatedShown else {
        return show(Finding(.warn, "host.follow", "the same may hold for more patterns, which were not looked at"))
      }
      show(
        Finding(
          .warn, "host.follow",
          "\(text.escaped) finds no rotated names (\(rotated[0].escaped)): a file that is made and renamed while the "
            + "node is down would not be known; \(text.escaped)* finds it"))
    }
  }

  // MARK: Servers

  private func checkServers(_ servers: [Configuration.Destination], _ what: String, _ show: Show) {
    guard let context = try? TLSContext(.client, configuration.credentials) else {
      show(Finding(.warn, "\(what)s", "not asked, since the own keys can't be used"))
      return
    }
    ignoreSIGPIPE()
    for server in servers {
      do {
        let peer = try ServerProbe.reach(server, context)
        show(Finding(.ok, "\(what) \(server.name)", peer))
      } catch {
        show(Finding(.fail, "\(what) \(server.name)", error.description))
      }
    }
  }
}

extension String {
  /// For paths that were text to begin with.
  init(_ path: BytePath) { self.init(decoding: path.bytes, as: UTF8.self) }
}
