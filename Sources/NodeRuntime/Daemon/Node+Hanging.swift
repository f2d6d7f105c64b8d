import HostCore
import JournalModel
import LinuxIO
import Logging
import SecureTransport

// File systems, disks and name servers that don't answer: seen once a second, said once, shown while it lasts.

extension Node {
  func reviewHanging(at now: Instant) {
    let before = Set(hanging.map(\.lane.subject))
    hanging = workers.review(at: now, limit: configuration.limits.hungAfter)
    let subjects = Set(hanging.map(\.lane.subject))
    for subject in subjects.subtracting(before) {
      logger.warning(
        "doesn't answer; what is on it waits, all else goes on", metadata: ["what": "\(name(of: subject))"])
    }
    for subject in before.subtracting(subjects) {
      logger.notice("answers again", metadata: ["what": "\(name(of: subject))"])
    }
  }

  /// To what else the status says: what hangs may hold bytes that nobody knows of.
  func addHanging(_ files: [HostStatus.Hung], to status: inout NodeStatus) {
    let now = Clocks.now()
    var found: [Lane.Subject: (since: Instant, count: Int)] = [:]
    func note(_ subject: Lane.Subject, since: Instant, count: Int) {
      let known = found[subject] ?? (since, 0)
      found[subject] = (min(known.since, since), known.count + count)
    }
    for hung in hanging { note(hung.lane.subject, since: hung.since, count: 0) }
    if let host {
      for file in files { note(.fileSystem(host.mount(of: file)), since: file.since, count: 1) }
    }
    for (subject, hung) in found.sorted(by: { $0.value.since < $1.value.since }) {
      let seconds = Double((now - hung.since).nanoseconds) / 1e9
      if case .names(let server) = subject {
        let trouble = "its address isn't found: no name server has answered for \(Int(seconds)) s"
        for index in status.servers.indices where status.servers[index].name == server {
          status.servers[index].lastError = trouble
        }
        for index in status.peers.indices where status.peers[index].name == server {
          status.peers[index].lastError = trouble
        }
        continue
      }
      let entry = NodeStatus.Hanging(
        what: name(of: subject), type: type(of: subject), seconds: seconds, count: hung.count)
      status.hanging.append(entry)
      status.alarms.append(entry.line)
      status.settled = false
    }
  }

  private func name(of subject: Lane.Subject) -> String {
    switch subject {
    case .fileSystem(let mount): mount.point.escaped
    case .data: configuration.node.data
    case .logs: configuration.server?.logs ?? "server.logs"
    case .names(let server): "the name server, asked for \(server)"
    }
  }

  private func type(of subject: Lane.Subject) -> String {
    switch subject {
    case .fileSystem(let mount): mount.type
    case .data: "node.data"
    case .logs: "server.logs"
    case .names: "names"
    }
  }
}

extension NodeStatus.Hanging {
  package var line: String {
    "\(shown(what, limit: 300)) (\(type)) hasn't answered for \(Int(seconds)) s"
      + (count > 0 ? ": \(count) \(count == 1 ? "file or directory" : "files and directories")" : "")
  }
}

extension Lane {
  /// What answers, or doesn't.
  enum Subject: Hashable {
    case fileSystem(Mount), data, logs
    case names(String)
  }

  var subject: Subject {
    switch self {
    case .hostCommit, .serverCommit, .holdings, .rows, .journal: .data
    case .received, .plainFiles, .sync, .links: .logs
    case .listings(let mount), .followed(let mount), .sending(let mount): .fileSystem(mount)
    case .names(let server): .names(server)
    }
  }
}

extension HostDriver {
  /// Of a directory or a file.
  func mount(of hung: HostStatus.Hung) -> Mount {
    hung.isDirectory ? mount(of: hung.path) : mount(of: hung.path.directory)
  }
}
