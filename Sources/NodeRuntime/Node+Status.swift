import Dispatch
import HostCore
package import JournalModel
import JournalStore
import LinuxIO
import SecureTransport
import ServerCore

// What the running node says of itself.

extension Node: NodeControl {
  /// How long one who asks waits for the loop's turn.
  private static let patience = DispatchTimeInterval.seconds(5)

  package func snapshot() -> NodeStatus {
    let answer = Box<NodeStatus?>(nil)
    let ready = DispatchSemaphore(value: 0)
    loop.post { [weak self] in
      answer.value = self?.status()
      ready.signal()
    }
    if ready.wait(timeout: .now() + Self.patience) == .success, let status = answer.value { return listingGaps(status) }
    var status = NodeStatus(name: configuration.node.name.text, roles: configuration.roles, settled: false)
    status.alarms = ["the node doesn't answer: its loop has been busy for 5 s"]
    return status
  }

  package func settle(timeout: Interval, done told: @escaping @Sendable (SettleResult) -> Void) {
    let done: @Sendable (SettleResult) -> Void = { [self] result in
      guard result.status.gapCount > 0 else { return told(result) }
      // Not on a worker: all of them may wait for a disk that hangs.
      startThread {
        var result = result
        result.status = self.listingGaps(result.status)
        told(result)
      }
    }
    loop.post { [self] in
      guard let host else {
        // Without peers a server owes nothing to anyone; what hosts are still sending isn't its own yet.
        let status = status()
        return done(SettleResult(reached: status.settled && status.alarms.isEmpty, unsettled: [], status: status))
      }
      let token = settlements.nextToken()
      let limit = loop.schedule(after: timeout) { [unowned self] in
        let result = SettleResult(reached: false, unsettled: unsettled(token), status: status())
        host.take(.cancelSettle(token: token))
        settlements.end(token, result)
      }
      settlements.wait(token, until: limit, done: done)
      host.onSettled = { [unowned self] token in
        settlements.end(token, SettleResult(reached: true, unsettled: [], status: status()))
      }
      host.take(.settle(token: token))
    }
  }

  /// With the gaps themselves: that reads the whole file table, which would keep the loop from delivering.
  private func listingGaps(_ status: NodeStatus) -> NodeStatus {
    guard status.gapCount > 0, let host else { return status }
    var status = status
    status.gaps = host.gaps(limit: NodeStatus.listed)
    return status
  }

  // MARK: On the loop's thread

  /// All but the list of the gaps.
  func status() -> NodeStatus {
    var status = NodeStatus(name: configuration.node.name.text, roles: configuration.roles, settled: true)
    status.uptimeSeconds = seconds(Clocks.now() - began)
    reviewHanging(at: Clocks.now())
    let hung = host.map { add($0, to: &status) } ?? []
    if let server { add(server, to: &status) }
    addHanging(hung, to: &status)
    return status
  }

  /// Returns what the host waits for in vain.
  private func add(_ host: HostDriver, to status: inout NodeStatus) -> [HostStatus.Hung] {
    let now = Clocks.now()
    let seen = host.machine.status
    status.journalRecords = seen.journalLength
    status.files = .init(
      followed: seen.filesFollowed, open: seen.filesOpen, held: seen.filesHeld, heldBytes: seen.bytesHeld)
    status.sentBytes = host.sentBytes
    for (server, section) in zip(seen.servers, configuration.host?.servers ?? []) {
      status.servers.append(
        NodeStatus.Server(
          name: server.name, address: section.address.description, connected: server.isConnected,
          lagBytes: server.lagBytes, lagEvents: server.lagEvents,
          lagSeconds: server.oldestUndelivered.map { seconds(now - $0) } ?? 0, lastError: server.lastError,
          refusals: server.refusals))
      for file in server.waiting where status.waiting.count < NodeStatus.listed {
        status.waiting.append(
          .init(server: server.name, file: file.file.text, path: file.path.escaped, reason: file.reason))
      }
    }
    for file in seen.unreadable where status.waiting.count < NodeStatus.listed {
      status.waiting.append(
        .init(server: nil, file: file.file.text, path: file.path.escaped, reason: "can't be read: \(file.reason)"))
    }
    status.waitingCount = seen.servers.reduce(seen.unreadableCount) { $0 + $1.waitingCount }
    status.gapCount = seen.gaps
    if let blocked = seen.journalBlocked { status.alarms.append("journal blocked: \(blocked)") }
    for path in seen.unreadableDirectories.prefix(10) { status.alarms.append("can't be listed: \(path.escaped)") }
    // What can't be read may hold bytes that nobody knows of.
    status.settled = seen.isSettled && seen.unreadableCount == 0 && status.alarms.isEmpty
    return seen.hung
  }

  private func add(_ server: ServerDriver, to status: inout NodeStatus) {
    let now = Clocks.now()
    let seen = server.machine.status
    let wall = Clocks.wall()
    status.hosts = seen.hosts.map { host in
      let lastSeen = host.lastSeen.map {
        WallTime(nanoseconds: wall.nanoseconds - Int64(clamping: (now - $0).nanoseconds)).rfc3339
      }
      return .init(
        name: host.name.text, connected: host.connections > 0, lastSeen: lastSeen, files: host.files,
        bytes: host.bytes)
    }
    if configuration.host == nil {
      status.files = .init(
        followed: seen.hosts.reduce(0) { $0 + $1.files }, open: seen.hosts.reduce(0) { $0 + $1.open })
      status.settled = seen.hosts.allSatisfy { $0.pendingBytes == 0 }
    }
    status.receivedBytes = server.receivedBytes
    status.refusals = seen.refusals
    if !seen.isServing { status.alarms.append("not serving yet: plain files are being checked after the start") }
    if let blocked = seen.blocked { status.alarms.append("store blocked: \(blocked)") }
    if seen.failing > 0 { status.alarms.append("\(seen.failing) plain files can't be written at present") }
    if configuration.host == nil { status.settled = status.settled && status.alarms.isEmpty }
    for peer in configuration.server?.peers ?? [] {
      status.peers.append(
        .init(
          name: peer.name.text, address: peer.address.description, connected: false,
          lastError: "synchronisation between servers is not part of this version"))
    }
  }

  private func unsettled(_ token: UInt64) -> [SettleResult.Unsettled] {
    guard let host, let seen = host.machine.status.settlements.first(where: { $0.token == token }) else { return [] }
    return seen.unsettled.map {
      .init(
        server: $0.lack.server.map { host.machine.settings.servers[$0.value] }, file: $0.file.text,
        path: $0.path.escaped, noted: $0.lack.noted, durable: $0.lack.durable, reason: $0.lack.reason)
    }
  }

  private func seconds(_ interval: Interval) -> Double { Double(interval.nanoseconds) / 1e9 }
}

/// Hands a value from one thread to another that waits for it.
private final class Box<Value>: @unchecked Sendable {
  var value: Value
  init(_ value: Value) { self.value = value }
}
