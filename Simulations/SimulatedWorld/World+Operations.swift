import HostCore
import JournalModel
import ServerCore

extension Operation {
  /// The host whose log files change, if it is a writer's or rotator's operation.
  var writesOn: Int? {
    switch self {
    case .open(let host, _, _), .append(let host, _, _, _), .close(let host, _), .rename(let host, _, _),
      .unlink(let host, _), .hardLink(let host, _, _), .symbolicLink(let host, _, _), .makeDirectory(let host, _),
      .removeDirectory(let host, _), .truncate(let host, _, _), .copyTruncate(let host, _, _, _),
      .rotate(let host, _, _, _, _):
      host
    case .disturb(let disturbance): disturbance.writesOn
    default: nil
    }
  }

  var isRotation: Bool {
    switch self {
    case .rename, .rotate: true
    default: false
    }
  }

  /// What it counts as among the faults of a run; nil for the writers' ordinary life.
  package var faultName: String? {
    switch self {
    case .kill(let node): node.isHost ? "kill host" : "kill server"
    case .powerCut(let node): node.isHost ? "power cut host" : "power cut server"
    case .killAfter(let node, _): node.isHost ? "crash host at effect" : "crash server at effect"
    case .stop(let node): node.isHost ? "stop host" : "stop server"
    case .pause(let node, let duration):
      (node.isHost ? "pause host" : "pause server") + (duration >= 3_600_000_000_000 ? " for hours" : "")
    case .stepClock: "clock step"
    case .reset: "reset"
    case .partition: "partition"
    case .clog: "clog"
    case .shred: "shred"
    case .overflow: "overflow"
    case .dropHints: "drop hints"
    case .duplicateHints: "duplicate hints"
    case .delayHints: "delay hints"
    case .fault(let node, let kind, _): "\(kind.rawValue) \(node.isHost ? "host" : "server")"
    case .deny: "deny"
    case .truncate(_, _, let length): length > 0 ? "truncate to non-zero" : "truncate"
    case .copyTruncate: "copytruncate"
    case .rotate: "rotate"
    case .unlink: "unlink"
    case .rename: "rename"
    case .hardLink: "hard link"
    case .symbolicLink: "symbolic link swap"
    case .disturb(let disturbance): disturbance.faultName
    default: nil
    }
  }
}

extension Node {
  var isHost: Bool { if case .host = self { true } else { false } }
}

extension BytePath {
  /// A plan's path: text in which `%xx` stands for a byte.
  init(escaped text: String) {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: "%"), rest.count >= 2,
        let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
      {
        bytes.append(value)
        rest = rest.dropFirst(2)
      } else {
        bytes.append(byte)
      }
    }
    self.init(bytes)
  }
}

extension World {
  /// Does what the operation says; nothing if it makes no sense now.
  func perform(_ operation: Operation) {
    kernel.trace.mix(UInt64(nextOperation))
    observe(nil, operation)
    if let name = operation.faultName {
      count(name)
      if operation.isBetweenServers(hosts.count) { count("fault between servers") }
      plannedFaults += 1
    }
    if let host = operation.writesOn {
      guard hosts.indices.contains(host) else { return }
      if hosts[host].process == nil { count("writers while the node is down") }
      do { try write(hosts[host], operation) } catch { kernel.trace.mix(1) }
    } else {
      performFault(operation)
    }
  }

  private func write(_ host: SimulatedHost, _ operation: Operation) throws {
    let disk = host.disk
    switch operation {
    case .open(_, let writer, let path):
      noteUnwatched(host, BytePath(escaped: path))
      let opened = try disk.open(BytePath(escaped: path), writing: true, creating: true)
      if opened.inode.writers > 1 { count("several writers on one file") }
      host.writers[writer]?.descriptor.map(disk.close)
      host.writers[writer, default: SimulatedHost.Writer()].descriptor = opened
      host.writers[writer]?.name = BytePath(escaped: path).name
      if SimulatedHost.isFollowed(BytePath(escaped: path)) { noteReuse(disk, opened.inode) }
    case .append(let index, let writer, let count, let kind):
      guard var state = host.writers[writer], let descriptor = state.descriptor else { return }
      state.sequence += 1
      host.writers[writer] = state
      try disk.append(
        descriptor, Payload.bytes(kind, host: index, writer: writer, sequence: state.sequence, count: count))
      noteAppend(descriptor, state)
    case .close(_, let writer):
      host.writers.removeValue(forKey: writer)?.descriptor.map(disk.close)
    case .rename(_, let from, let to): try disk.rename(BytePath(escaped: from), BytePath(escaped: to))
    case .unlink(_, let path):
      if let inode = disk.inode(BytePath(escaped: path)), inode.links == 1, inode.writers > 0 {
        count("delete while open")
      }
      try disk.unlink(BytePath(escaped: path))
    case .hardLink(_, let from, let to): try disk.hardLink(BytePath(escaped: from), BytePath(escaped: to))
    case .symbolicLink(_, let target, let path):
      // One to another file system is left out: after a restart nobody knows that its target was there (D10), so that a
      // file which is gone by then is waited for without end.
      guard disk.mount(of: BytePath(escaped: target)) == 1 else { return }
      if disk.inode(BytePath(escaped: path), followLast: false)?.kind == .symbolicLink {
        try disk.unlink(BytePath(escaped: path))
      }
      // A path leads elsewhere, as after a rename of a directory.
      if disk.inode(BytePath(escaped: target))?.kind == .directory { disk.era += 1 }
      try disk.symbolicLink(BytePath(escaped: target), at: BytePath(escaped: path))
    case .makeDirectory(_, let path): try disk.makeDirectories(BytePath(escaped: path))
    case .removeDirectory(_, let path): try disk.removeDirectory(BytePath(escaped: path))
    case .truncate(_, let path, let length): truncate(disk, BytePath(escaped: path), length)
    case .copyTruncate(_, let path, let copy, let delay):
      try copyTruncate(disk, BytePath(escaped: path), BytePath(escaped: copy), delay)
    case .rotate(_, let path, let keep, let pause, let creates):
      rotate(disk, path, keep: keep, pause: pause, creates: creates)
    case .disturb(let disturbance): try disturb(host, disturbance)
    default: break
    }
  }

  private func noteReuse(_ disk: SimulatedDisk, _ inode: SimulatedDisk.Inode) {
    if inode.bytes.isEmpty, disk.everyFile.contains(where: { $0 !== inode && $0.number == inode.number }) {
      mark(.numberReused)
      count("inode number reused")
    }
  }

  private func noteUnwatched(_ host: SimulatedHost, _ path: BytePath) {
    guard let process = host.process, host.disk.inode(path) == nil, host.disk.inode(path.directory) != nil,
      !process.isWatching(path.directory)
    else { return }
    count("file in an unwatched directory")
  }

  private func noteAppend(_ descriptor: SimulatedDisk.Descriptor, _ writer: SimulatedHost.Writer) {
    let inode = descriptor.inode
    if let entry = descriptor.entry, entry.name != writer.name, inode.links > 0 { count("append after rename") }
    if inode.incarnations.count > 1, inode.incarnations[inode.incarnations.count - 2].final?.count == inode.bytes.count
    {
      count("refill to the same size")
    }
  }

  private func truncate(_ disk: SimulatedDisk, _ path: BytePath, _ length: Int) {
    guard let inode = disk.inode(path), inode.kind == .regular, length < inode.bytes.count else { return }
    disk.truncate(inode, to: length, entryPath: path)
  }

  private func copyTruncate(_ disk: SimulatedDisk, _ path: BytePath, _ copy: BytePath, _ delay: UInt64) throws {
    guard let inode = disk.inode(path), inode.kind == .regular else { return }
    let target = try disk.open(copy, writing: true, creating: true)
    defer { disk.close(target) }
    guard target.inode !== inode else { return }
    if !target.inode.bytes.isEmpty { disk.truncate(target.inode, to: 0) }
    try disk.append(target, inode.bytes)
    let copied = inode.bytes.count
    kernel.after(delay) { [self] in
      if inode.bytes.count > copied { count("copytruncate with writes between") }
      disk.truncate(inode, to: 0, entryPath: path)
    }
  }

  private func rotate(_ disk: SimulatedDisk, _ path: String, keep: Int, pause: UInt64, creates: Bool) {
    func name(_ generation: Int) -> BytePath {
      BytePath(escaped: generation == 0 ? path : "\(path).\(generation)")
    }
    var at: UInt64 = 0
    func soon(_ action: @escaping () -> Void) {
      if at == 0 { action() } else { kernel.after(at, action) }
      at += pause
    }
    soon { try? disk.unlink(name(keep)) }
    for generation in (0..<max(1, keep)).reversed() {
      soon { try? disk.rename(name(generation), name(generation + 1)) }
    }
    if creates { soon { _ = try? disk.create(name(0)) } }
  }

  // MARK: Faults

  private func performFault(_ operation: Operation) {
    switch operation {
    case .start(let node): start(node)
    case .kill(let node): if process(node) != nil { crash(node) }
    case .powerCut(let node): if exists(node) { powerCut(node) }
    case .killAfter(let node, let effects):
      guard let process = process(node) else { return }
      process.effectsToLive = effects
      kernel.after(2_000_000_000) { [self] in start(node) }
    case .stop(let node): stop(node)
    case .pause(let node, let duration): process(node)?.pause(for: duration)
    case .stepClock(let node, let seconds): stepClock(node, Int64(seconds) * 1_000_000_000)
    case .reset(let host, let server): if areLinked(host, server) { network.reset(host: host, server: server) }
    case .partition(let host, let server, let toServer, let duration):
      guard areLinked(host, server) else { return }
      network.partition(host: host, server: server, toServer ? .toServer : .toHost, duration: duration)
    case .clog(let host, let server, let toServer, let duration):
      guard areLinked(host, server) else { return }
      network.clog(host: host, server: server, toServer ? .toServer : .toHost, duration: duration)
    case .shred(let host, let server, let duration):
      if areLinked(host, server) { network.shred(host: host, server: server, duration: duration) }
    case .overflow(let host): if hosts.indices.contains(host) { hosts[host].process?.overflowHints() }
    case .dropHints(let host, let duration):
      hintFault(host, duration) { $0.hintFaults.loss = 700_000 }
    case .duplicateHints(let host, let duration):
      hintFault(host, duration) { $0.hintFaults.duplicate = 700_000 }
    case .delayHints(let host, let duration):
      guard hosts.indices.contains(host) else { return }
      hosts[host].hintsDelayed = (kernel.now.nanoseconds + duration, duration / 2)
    case .fault(let node, let kind, let duration): fault(node, kind, duration)
    case .deny(let host, let path, let duration): deny(host, BytePath(escaped: path), duration)
    case .disturb(let disturbance): disturb(disturbance)
    default: break
    }
  }

  func exists(_ node: Node) -> Bool {
    switch node {
    case .host(let index): hosts.indices.contains(index)
    case .server(let index): servers.indices.contains(index)
    }
  }

  func areLinked(_ host: Int, _ server: Int) -> Bool {
    if let dialing = dialingServer(host) { return servers.indices.contains(server) && dialing != server }
    return hosts.indices.contains(host) && servers.indices.contains(server)
  }

  private func stop(_ node: Node) {
    guard let process = process(node) else { return }
    process.run { [self] in
      switch node {
      case .host(let index): hosts[index].process?.input(.stop)
      case .server(let index): servers[index].process?.input(.stop)
      }
    }
    kernel.after(200_000_000) { [self] in
      if self.process(node) === process { crash(node) }
    }
  }

  private func stepClock(_ node: Node, _ offset: Int64) {
    switch node {
    case .host(let index): if hosts.indices.contains(index) { hosts[index].clock.step(offset) }
    case .server(let index): if servers.indices.contains(index) { servers[index].clock.step(offset) }
    }
  }

  private func hintFault(_ index: Int, _ duration: UInt64, _ change: (SimulatedHost) -> Void) {
    guard hosts.indices.contains(index) else { return }
    let host = hosts[index]
    change(host)
    host.process?.applyFaults()
    kernel.after(duration) {
      host.hintFaults = WatchQueue.Faults()
      host.process?.applyFaults()
    }
  }

  private func fault(_ node: Node, _ kind: FaultKind, _ duration: UInt64) {
    guard exists(node) else { return }
    let until = kernel.now.nanoseconds + duration
    let isOnce = [.failSync, .failDirectorySync, .failStoreSync, .refuseRow].contains(kind)
    switch node {
    case .host(let index):
      if kind == .stale { hosts[index].process?.plane.staleDescriptors() }
      if isOnce { hosts[index].once.insert(kind) } else { hosts[index].faultUntil[kind] = until }
      hosts[index].process?.applyFaults()
      kernel.after(duration) { [self] in hosts[index].process?.applyFaults() }
    case .server(let index):
      if isOnce { servers[index].once.insert(kind) } else { servers[index].faultUntil[kind] = until }
      servers[index].process?.applyFaults()
      kernel.after(duration) { [self] in servers[index].process?.applyFaults() }
    }
  }

  private func deny(_ index: Int, _ path: BytePath, _ duration: UInt64) {
    guard hosts.indices.contains(index), let inode = hosts[index].disk.inode(path), inode.number != 1 else { return }
    hosts[index].disk.deny(inode)
    let disk = hosts[index].disk
    kernel.after(duration) { disk.allow(inode) }
  }
}
