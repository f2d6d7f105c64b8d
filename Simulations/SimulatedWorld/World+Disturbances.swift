import JournalModel

extension World {
  func count(_ fault: String) { faults[fault, default: 0] += 1 }

  // MARK: Writers

  func disturb(_ host: SimulatedHost, _ disturbance: Disturbance) throws {
    let disk = host.disk
    switch disturbance {
    case .extend(_, let path, let count):
      let path = BytePath(escaped: path)
      guard let inode = disk.inode(path), inode.kind == .regular else { return }
      disk.truncate(inode, to: inode.bytes.count + count, entryPath: path)
    case .overwrite(_, let path, let position, let length):
      let path = BytePath(escaped: path)
      guard let inode = disk.inode(path), inode.kind == .regular, !inode.bytes.isEmpty else { return }
      disk.overwrite(inode, at: position % inode.bytes.count, length, entryPath: path)
      count("overwrite in place")
    case .compress(_, let path, let delay):
      let original = BytePath(escaped: path)
      guard let inode = disk.inode(original), inode.kind == .regular else { return }
      let packed = try disk.open(BytePath(original.bytes + Array(".gz".utf8)), writing: true, creating: true)
      defer { disk.close(packed) }
      guard packed.inode.bytes.isEmpty else { return }
      try disk.append(
        packed, [0x1F, 0x8B] + inode.bytes.enumerated().filter { $0.offset % 3 != 2 }.map { ~$0.element })
      // Not at rest, when nothing changes any more.
      kernel.after(delay) { [self] in
        if !isHealed, disk.inode(original) === inode { try? disk.unlink(original) }
      }
    default: break
    }
  }

  /// Nothing on the file system is answered; what was asked is when it comes back.
  func hang(_ host: SimulatedHost, _ fileSystem: UInt64, for duration: UInt64) {
    let until = kernel.now.nanoseconds + duration
    host.hangsUntil[fileSystem] = max(until, host.hangsUntil[fileSystem] ?? 0)
    kernel.after(duration) { host.process?.run { host.process?.releaseHeld() } }
  }

  /// Everything answers again.
  func unhang(_ host: SimulatedHost) {
    host.hangsUntil = [:]
    host.process?.run { host.process?.releaseHeld() }
  }

  // MARK: Media and servers

  func disturb(_ disturbance: Disturbance) {
    switch disturbance {
    case .spoil(let node, let file, let page, let duration):
      guard exists(node), let mend = disk(node).spoil(file: file, page: page, isOnce: duration == 0) else { return }
      if duration > 0 { kernel.after(duration, mend) }
    case .hang(let host, let fileSystem, let duration):
      if exists(.host(host)) { hang(hosts[host], UInt64(fileSystem), for: duration) }
    case .rot(let server, let file, let position):
      guard maySuffer(server) else { return }
      servers[server].disk.rot(file: file, position: position)
    case .misplace(let server, let isLost):
      guard maySuffer(server) else { return }
      servers[server].disk.nextWriteIs = isLost ? .lost : .misdirected
    case .backUp(let server): if exists(.server(server)) { servers[server].backUp() }
    case .restore(let server, let pause): restore(server, pause)
    case .replace(let server, let pause):
      guard maySuffer(server) else { return }
      crash(.server(server), silently: true)
      replaceEmpty(server)
      mark(.replacedEmpty)
      count("server replaced empty")
      startAgain(server, after: pause)
    case .boundaries(let host, let server, let duration):
      if areLinked(host, server) { network.boundaries(host: host, server: server, duration: duration) }
    case .dribble(let host, let server, let duration):
      if areLinked(host, server) { network.dribble(host: host, server: server, duration: duration) }
    case .cutFrame(let host, let server, let toServer, let frames, let offset):
      for connection in network.connections(host, server) {
        connection.cut(afterFrames: frames, offset: offset, toServer ? .toServer : .toHost)
      }
    case .drain(let host, let server, let duration):
      for connection in network.connections(host, server) { connection.drain(until: kernel.now.nanoseconds + duration) }
    case .swizzle(let salt, let duration): swizzle(salt, duration)
    case .runClock(let node, let permille, let duration):
      runClock(node, permille)
      kernel.after(duration) { [self] in runClock(node, 1_000) }
    case .configure(let host, let server, let isConfigured): configure(host, server, isConfigured)
    case .attack(let server, let attack): if exists(.server(server)) { adversary?.attack(server, attack) }
    case .extend, .overwrite, .compress: break
    }
  }

  func replaceEmpty(_ server: Int) {
    servers[server].replace()
    oracle.salvage = []
    oracle.setBack(servers[server])
  }

  private func swizzle(_ salt: UInt64, _ duration: UInt64) {
    var random = RandomStream(seed: salt, entity: "network", purpose: "swizzle")
    var links = (Array(hosts.indices) + dialingHosts).flatMap { host in
      servers.indices.flatMap { server in Direction.all.map { (host: host, server: server, direction: $0) } }
    }.filter { _ in random.chance(600_000) }
    links.shuffle(using: &random)
    let ends = Array(links.indices).shuffled(using: &random)
    let step = duration / UInt64(2 * max(1, links.count))
    for (index, link) in links.enumerated() {
      let begin = UInt64(index) * step
      let end = duration / 2 + UInt64(ends[index]) * step
      kernel.after(begin) { [self] in
        guard !isHealed else { return }
        network.clog(host: link.host, server: link.server, link.direction, duration: end - begin)
      }
    }
  }

  private func runClock(_ node: Node, _ permille: Int) {
    let now = kernel.now.nanoseconds
    switch node {
    case .host(let index):
      if hosts.indices.contains(index) { hosts[index].clock.run(permille: Int64(permille), now: now) }
    case .server(let index):
      if servers.indices.contains(index) { servers[index].clock.run(permille: Int64(permille), now: now) }
    }
  }

  private func configure(_ host: Int, _ server: Int, _ isConfigured: Bool) {
    guard areLinked(host, server), hosts[host].configured.contains(server) != isConfigured, !isHealed else { return }
    count(isConfigured ? "server added" : "server removed")
    crash(.host(host))
    hosts[host].configure(server, isConfigured)
    kernel.after(50_000_000) { [self] in start(.host(host)) }
  }

  private func restore(_ server: Int, _ pause: UInt64) {
    guard maySuffer(server) else { return }
    crash(.server(server))
    let before = oracle.remember(servers[server])
    if servers[server].restoreStore() {
      oracle.setBack(servers[server])
      if (try? servers[server].isStoreCurrent()) == false {
        oracle.salvage += before.map { (server: server, bytes: $0) }
      }
      mark(.restored)
      count("store restored from a backup")
    }
    startAgain(server, after: pause)
  }

  /// A server that lost something comes back, and hosts are asked what is settled then, while it gets what it lacks.
  private func startAgain(_ server: Int, after pause: UInt64) {
    kernel.after(pause) { [self] in
      start(.server(server))
      for delay in [50_000_000, 400_000_000, 2_000_000_000] as [UInt64] {
        kernel.after(delay) { [self] in
          guard !isHealed else { return }
          lastToken += 1
          for host in hosts { host.process?.ask(lastToken) }
        }
      }
    }
  }

  private func disk(_ node: Node) -> SimulatedDisk {
    switch node {
    case .host(let index): hosts[index].disk
    case .server(let index): servers[index].disk
    }
  }

  /// One server of a run may lose what it acknowledged, and never the only one.
  private func maySuffer(_ server: Int) -> Bool {
    guard servers.count > 1, exists(.server(server)), !isHealed else { return false }
    if sufferer == nil { sufferer = server }
    return sufferer == server
  }
}
