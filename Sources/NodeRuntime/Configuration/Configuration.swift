package import HostCore
package import JournalModel
package import SecureTransport

/// What an operator wrote into the configuration file, checked, with every path absolute. The keys are a contract
/// (`design/interfaces.md`); `Configuration.read` makes one.
package struct Configuration: Sendable, Hashable {
  /// The configuration file, absolute. Relative paths in it are relative to its directory.
  package var file: String
  package var node: NodeSection
  package var tls: TLSSection
  /// The role host, if the file has it. At least one of `host` and `server` is there.
  package var host: HostSection?
  /// The role server, if the file has it.
  package var server: ServerSection?
  package var status: StatusSection?
  /// What is allowed, but hardly meant, or not built yet: `check` shows it and a starting node logs it.
  package var warnings: [ConfigurationProblem]

  package struct NodeSection: Sendable, Hashable {
    /// The name in the certificate; the host name in the merge key.
    package var name: HostName
    /// Journal, journal key, control socket (mode 0700).
    package var data: String
  }

  /// Files in PEM.
  package struct TLSSection: Sendable, Hashable {
    package var certificate: String
    package var key: String
    package var authorities: String
  }

  package struct HostSection: Sendable, Hashable {
    package var follow: [FollowRule]
    package var servers: [Destination]
    /// Time between two full rescans (F1): 1 s ... 1 d.
    package var rescan: Interval
    /// How often files are looked at that inotify can't see: 10 ms ... 1 h.
    package var poll: Interval
  }

  package struct ServerSection: Sendable, Hashable {
    package var listen: Address
    /// Root of the plain files.
    package var logs: String
    /// Payload that may be on its way over all connections, in bytes: 1 MiB ... 64 GiB.
    package var credit: Int
    package var peers: [Destination]
  }

  package struct StatusSection: Sendable, Hashable {
    package var listen: Address
  }

  /// A server as hosts and peers know it: its name must be in its certificate.
  package struct Destination: Sendable, Hashable {
    package var name: HostName
    package var address: Address
  }

  /// The bounds of the core with what the file says about them.
  package var limits: Limits {
    var limits = Limits()
    if let host {
      limits.rescanInterval = host.rescan
      limits.pollInterval = host.poll
    }
    return limits
  }

  package var roles: [String] { (host == nil ? [] : ["host"]) + (server == nil ? [] : ["server"]) }

  /// It connects to others: a host to servers, a server to peers.
  package var connects: Bool { host != nil || server?.peers.isEmpty == false }

  package var dataFolder: DataFolder { DataFolder(path: node.data) }
  /// Where the running node answers `status`.
  package var controlSocket: String { dataFolder.controlSocket }

  package static let maximumByteCount = 1 << 20
  package static let maximumPatterns = 1_000
  package static let maximumServers = 64
}

/// One thing wrong (or odd) in a configuration file, and where.
package struct ConfigurationProblem: Sendable, Hashable, CustomStringConvertible {
  package var file: String
  /// Counted from 1; nil when it concerns the file as a whole.
  package var line: Int?
  /// The key, from the root: `host.servers[1].address`. Empty for the file as a whole.
  package var key: String
  package var message: String

  package var description: String {
    file + (line.map { ":\($0)" } ?? "") + ": " + (key.isEmpty ? "" : key + ": ") + message
  }
}

/// Everything that is wrong with a configuration file, in the order of its lines.
package struct ConfigurationError: Error, Sendable, CustomStringConvertible {
  package var problems: [ConfigurationProblem]
  package var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// What lies where in `node.data`.
package struct DataFolder: Sendable, Hashable {
  package var path: String
  package init(path: String) { self.path = path }

  /// LMDB environments, one for each role.
  package var hostStore: String { path + "/journal" }
  package var serverStore: String { path + "/holdings" }
  /// Outside LMDB: a restored journal doesn't bring an old key along.
  package var journalKey: String { path + "/journal.key" }
  /// Where the running node answers `status`.
  package var controlSocket: String { path + "/control.sock" }
}
