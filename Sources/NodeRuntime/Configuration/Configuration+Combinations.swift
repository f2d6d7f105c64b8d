import HostCore
import JournalModel
import SecureTransport

extension ConfigurationReader {
  /// What each key allows by itself, but not together.
  mutating func checkCombinations(_ configuration: Configuration, in root: Section) {
    let serverLine = root.entries["server"]?.line
    if let server = configuration.server {
      let data = configuration.node.data
      if server.logs == data {
        complain(serverLine, "server.logs", "is the same directory as node.data: plain files need a place of their own")
      } else if Self.lies(server.logs, in: data) {
        warn(serverLine, "server.logs", "lies in node.data, which only the node itself may read")
      } else if Self.lies(data, in: server.logs) {
        warn(serverLine, "node.data", "lies in server.logs: back up and clean up the one without the other with care")
      }
      if let status = configuration.status, status.listen == server.listen {
        complain(root.entries["status"]?.line, "status.listen", "\(status.listen) is taken by server.listen")
      }
      if let peer = server.peers.first(where: { $0.name == configuration.node.name }) {
        complain(serverLine, "server.peers", "\(peer.name) is this node itself")
      }
    }
    if let status = configuration.status, !status.listen.isLoopback {
      warn(
        root.entries["status"]?.line, "status.listen",
        "\(status.listen) can be reached from other machines, and nobody is asked who they are: whoever reaches it sees "
          + "names of hosts and files; listen on 127.0.0.1, or let only those in who should see them")
    }
    if let host = configuration.host {
      checkFollowed(host, configuration, line: root.entries["host"]?.line)
    }
  }

  /// D9: the node never follows its own data or log root. A pattern that matches only there follows nothing.
  private mutating func checkFollowed(_ host: Configuration.HostSection, _ configuration: Configuration, line: Int?) {
    let own = [("node.data", configuration.node.data)] + (configuration.server.map { [("server.logs", $0.logs)] } ?? [])
    for (index, rule) in host.follow.enumerated() {
      for (position, pattern) in rule.include.enumerated() {
        let base = FollowPattern.base(of: String(decoding: pattern.bytes, as: UTF8.self))
        for (key, directory) in own where base == directory || Self.lies(base, in: directory) {
          complain(
            line, "host.follow[\(index)].include[\(position)]",
            "lies in \(key) (\(shown(directory))), and the node never follows its own files")
        }
      }
    }
  }

  static func lies(_ path: String, in directory: String) -> Bool {
    directory == "/" ? path != "/" : path.hasPrefix(directory + "/")
  }
}
