import Dispatch
import HostCore
package import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
import SecureTransport
import ServerCore
import Synchronization

// What the running node says of itself.

extension Node: NodeControl {
  /// How long one who asks waits for the loop's turn.
  private static let patience = DispatchTimeInterval.seconds(5)

  package func snapshot() -> NodeStatus { sayingTrouble(concluded(listingGaps(look()))) }
  package func glance() -> NodeStatus { sayingTrouble(concluded(look())) }

  private func look() -> NodeStatus {
    let answer = Box<NodeStatus?>(nil)
    let ready = DispatchSemaphore(value: 0)
    loop.post { [weak self] in
      answer.value = self?.status()
      ready.signal()
    }
    if ready.wait(timeout: .now() + Self.patience) == .success, let status = answer.value { return status }
    var status = NodeStatus(name: configuration.node.name.text, roles: configuration.roles, settled: false)
    status.alarms = ["the node doesn't answer: its loop has been busy for 5 s"]
    return status
  }

  package func settle(
    timeout: Interval, done told: @escaping @Sendable (SettleResult) -> Void
  ) -> @Sendable () -> Void {
    let done: @Sendable (SettleResult) -> Void = { [self] result in
      // Not on a worker: all of them may wait for a disk that hangs.
      startThread {
        var result = result
        result.status = self.sayingTrouble(self.concluded(self.listingGaps(result.status)))
        told(result)
      }
    }
    // Belongs to the loop's thread.
    let begun = Box<UInt64?>(nil)
    loop.post { [self] in
      let peered = configuration.server?.peers.isEmpty == false ? server : nil
      let parts: Set<Settlements.Part> = Set((host == nil ? [] : [.servers]) + (peered == nil ? [] : [.peers]))
      guard !parts.isEmpty else {
        // Without peers a server owes nothing to anyone; what hosts are still sending isn't its own yet.
        let status = status()
        return done(SettleResult(reached: status.settled, unsettled: [], status: status))
      }
      let token = settlements.nextToken()
      begun.value = token
      let limit = loop.schedule(after: timeout) { [unowned self] in
        endSettling(token, SettleResult(reached: false, unsettled: unsettled(token), status: status()))
      }
      settlements.wait(token, for: parts, until: limit, done: done)
      host?.onSettled = { [unowned self] in settled($0, .servers) }
      peered?.onSettled = { [unowned self] in settled($0, .peers) }
      host?.take(.settle(token: token))
      peered?.take(.settle(token: token))
    }
    return { [self] in
      loop.post { [self] in
        guard let token = begun.value, settlements.isWaiting(token) else { return }
        endSettling(token, SettleResult(reached: false, unsettled: [], status: status()))
      }
    }
  }

  private func settled(_ token: UInt64, _ part: Settlements.Part) {
    guard settlements.reached(token, part) else { return }
    settlements.end(token, SettleResult(reached: true, unsettled: [], status: status()))
  }

  private func endSettling(_ token: UInt64, _ result: SettleResult) {
    host?.take(.cancelSettle(token: token))
    server?.take(.cancelSettle(token: token))
    settlements.end(token, result)
  }

  /// With the gaps, their number and their list from one reading, which may take long and would keep the loop from
  /// delivering.
  private func listingGaps(_ status: NodeStatus) -> NodeStatus {
    var status = status
    if status.gapCount > 0, let host {
      do {
        (status.gapCount, status.gaps) = try host.gaps(limit: NodeStatus.listed)
      } catch {
        status.alarms.append("the gaps can't be read: \(error)")
      }
    }
    return status
  }

  /// With what follows from all of it together.
  private func concluded(_ status: NodeStatus) -> NodeStatus {
    var status = status
    status.settled = status.settled && status.objections.isEmpty && status.alarms.isEmpty
    return status
  }

  /// With alarms that make nothing that is durable less so: added last, when `settled` is known.
  private func sayingTrouble(_ status: NodeStatus) -> NodeStatus {
    var status = status
    if let complaint = keys.complaint { status.alarms.append("keys: \(complaint)") }
    if let reader = host?.oldReader { status.alarms.append(reader.alarm(of: configuration.dataFolder.hostStore)) }
    if let reader = server?.oldReader { status.alarms.append(reader.alarm(of: configuration.dataFolder.serverStore)) }
    if let trouble = pageTrouble.withLock({ $0 }) { status.alarms.append("status page: \(trouble)") }
    return status
  }

  // MARK: On the loop's thread

  /// All but what `concluded` adds: `settled` says here that everything was delivered.
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
      followed: seen.filesFollowed, open: seen.filesOpen, held: seen.filesHeld, heldBytes: seen.bytesHeld,
      unprobed: seen.filesUnprobed)
    status.sentBytes = host.sentBytes
    for (server, section) in zip(seen.servers, configuration.host?.servers ?? []) {
      status.servers.append(
        NodeStatus.Server(
          name: server.name, address: section.address.description, connected: server.isConnected,
          lagBytes: server.lagBytes, lagEvents: server.lagEvents,
          lagSeconds: server.oldestUndelivered.map { seconds(now - $0) } ?? 0, lastError: server.lastError,
          refusals: server.refusals, lackingFiles: server.lackedEnded.count))
      for file in server.waiting where status.waiting.count < NodeStatus.listed {
        status.waiting.append(
          .init(server: server.name, file: file.file.text, path: file.path.escaped, reason: file.reason))
      }
    }
    for file in seen.unreadable where status.waiting.count < NodeStatus.listed {
      status.waiting.append(
        .init(server: nil, file: file.file.text, path: file.path.escaped, reason: "can't be read: \(file.reason)"))
    }
    status.waitingCount = seen.unreadableCount + seen.servers.saturatingSum(\.waitingCount)
    status.unfollowed = seen.unfollowed.map {
      .init(path: $0.path.escaped, reason: $0.why.description, owed: $0.why.isOwed)
    }
    status.unfollowedCount = seen.unfollowedCount
    status.setApart += seen.apart.map {
      .init(host: configuration.node.name.text, file: $0.file.text, path: $0.path.escaped, reason: $0.why)
    }
    status.setApartCount += seen.apartCount
    if seen.apartCount > 0 { status.alarms.append(Self.refusedByStore(seen.apartCount, "files of this host")) }
    status.gapCount = seen.gaps
    if let blocked = seen.journalBlocked { status.alarms.append("journal blocked: \(blocked)") }
    for path in seen.unreadableDirectories.prefix(10) { status.alarms.append("can't be listed: \(path.escaped)") }
    status.settled = seen.isSettled
    return seen.hung
  }

  private func add(_ server: ServerDriver, to status: inout NodeStatus) {
    let now = Clocks.now()
    let seen = server.machine.status
    let wall = Clocks.wall()
    status.hosts = seen.hosts.map { host in
      let lastSeen = host.lastSeen.map { (wall - (now - $0)).rfc3339 }
      return .init(
        name: host.name.text, connected: host.connections > 0, lastSeen: lastSeen,
        files: Int(clamping: host.totals.files), bytes: host.totals.bytes, lackingExtents: host.totals.promises)
    }
    status.branches = seen.hosts.filter { $0.totals.branches > 0 }.map {
      .init(host: $0.name.text, count: Int(clamping: $0.totals.branches))
    }
    status.equivocations = seen.hosts.filter { $0.totals.forks > 0 }.map {
      .init(host: $0.name.text, count: Int(clamping: $0.totals.forks))
    }
    if configuration.host == nil {
      status.files = .init(
        followed: seen.hosts.saturatingSum { Int(clamping: $0.totals.files) },
        open: seen.hosts.saturatingSum { Int(clamping: $0.totals.open) })
      status.settled = seen.hosts.allSatisfy { $0.pendingBytes == 0 }
    }
    status.receivedBytes = server.receivedBytes
    status.refusals = seen.refusals
    if !seen.isServing { status.alarms.append("not serving yet: plain files are being checked after the start") }
    if let blocked = seen.blocked { status.alarms.append("store blocked: \(blocked)") }
    status.setApart += seen.apart.map { apart in
      switch apart.subject {
      case .journal(let key): .init(host: key.host.text, journal: key.journal.text, reason: apart.why)
      case .file(let key, let path):
        .init(host: key.host.text, file: key.file.text, path: path.escaped, reason: apart.why)
      }
    }
    status.setApartCount += seen.apartCount
    if seen.apartCount > 0 { status.alarms.append(Self.refusedByStore(seen.apartCount, "journals or files")) }
    if seen.failing > 0 { status.alarms.append("\(seen.failing) plain files can't be written at present") }
    status.alarms += logMounts?.alarms ?? []
    if configuration.host == nil { status.settled = status.settled && status.alarms.isEmpty }
    for (peer, section) in zip(seen.peers, configuration.server?.peers ?? []) {
      var shown = NodeStatus.Peer(
        name: peer.name, address: section.address.description, connected: peer.isConnected, lastError: peer.lastError)
      shown.lagEvents = peer.lackingThere
      shown.lackingEvents = peer.lacking
      shown.lagSeconds = peer.behindSince.map { seconds(Clocks.now() - $0) } ?? 0
      shown.equal = peer.isConnected ? peer.isEqual : nil
      shown.digest = peer.digest?.root.hex
      status.peers.append(shown)
    }
    status.digest = seen.isDigestCurrent ? seen.digest?.root.hex : nil
    if !seen.peers.allSatisfy(\.isEqual) { status.settled = false }
  }

  private static func refusedByStore(_ count: Int, _ what: String) -> String {
    "\(count) \(what) set apart until a restart: the store refuses them"
  }

  private func unsettled(_ token: UInt64) -> [SettleResult.Unsettled] { unsettledByHost(token) + unsettledByPeers() }

  private func unsettledByPeers() -> [SettleResult.Unsettled] {
    let peers = server?.machine.status.peers ?? []
    return peers.filter { !$0.isEqual }.map { peer in
      let why =
        peer.isConnected
        ? "\(peer.lacking) changes of its are not held here, or not compared yet, and \(peer.lackingThere) of this server's there"
        : "not connected" + (peer.lastError.map { ": \($0)" } ?? "")
      return .init(server: peer.name, file: nil, path: "what the two hold", noted: 0, durable: 0, reason: why)
    }
  }

  private func unsettledByHost(_ token: UInt64) -> [SettleResult.Unsettled] {
    guard let host else { return [] }
    let status = host.machine.status
    guard let seen = status.settlements.first(where: { $0.token == token }) else { return [] }
    let files: [SettleResult.Unsettled] = seen.unsettled.map {
      .init(
        server: $0.lack.server.map { host.machine.settings.servers[$0.value] }, file: $0.file.text,
        path: $0.path.escaped, noted: $0.lack.noted, durable: $0.lack.durable, reason: $0.lack.reason)
    }
    let journal: [SettleResult.Unsettled] = seen.journal.map {
      .init(
        server: $0.server.map { host.machine.settings.servers[$0.value] }, file: nil,
        path: $0.isElsewhere ? "files that ended" : nil, noted: $0.noted, durable: $0.durable, reason: $0.reason,
        isElsewhere: $0.isElsewhere)
    }
    return files + journal
      + status.unfollowed.filter(\.why.isOwed).map {
        .init(
          server: nil, file: nil, path: $0.path.escaped, noted: 0, durable: 0,
          reason: "not followed: \($0.why.description)")
      }
  }

  private func seconds(_ interval: Interval) -> Double { Double(interval.nanoseconds) / 1e9 }
}

extension OldReader {
  func alarm(of store: String) -> String {
    "process \(process) has been reading \(store) as it was \(commits) commits ago, so that no room in it can be used "
      + "again and it grows: let that process go on, or end it"
  }
}

/// Hands a value from one thread to another that waits for it.
private final class Box<Value>: @unchecked Sendable {
  var value: Value
  init(_ value: Value) { self.value = value }
}
