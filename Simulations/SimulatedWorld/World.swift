import HostCore
package import JournalModel
import MerkleLog
import ServerCore
import WireProtocol

/// Hosts, servers, the network between them, and all that befalls them: one plan, run once, in one thread.
package final class World {
  package let plan: Plan
  package let mutant: Mutant?
  package let kernel = Kernel()
  package let limits: Limits
  package private(set) var hosts: [SimulatedHost] = []
  package private(set) var servers: [SimulatedServer] = []
  package private(set) var oracle: Oracle!
  private(set) var network: SimulatedNetwork
  private(set) var adversary: Adversary?
  /// Inputs that the machines took.
  package internal(set) var steps: UInt64 = 0
  package internal(set) var payloadBytes: UInt64 = 0
  package internal(set) var faults: [String: Int] = [:]
  /// Those of them that stand in the plan.
  var plannedFaults = 0
  package internal(set) var marks: [Mark: Int] = [:]
  var nextOperation = 0
  /// Only where somebody asks: a strike, or a census of effects.
  var effects: EffectCounter?
  /// Is told every input and effect, and every operation.
  package var observer: ((String) -> Void)?
  private let isSteady: Bool
  /// What servers hear and say, for those who compare runs.
  var timeline: Timeline?
  /// For those who look at what a run leaves.
  var atRest: (World) -> Void = { _ in }
  private var latencies: RandomStream
  private var luck: RandomStream
  var payloads: RandomStream
  var powerCuts: RandomStream
  package private(set) var isHealed = false
  /// No latency has its long tail.
  var isCalm = false
  /// The one server whose medium or store may lose what it holds.
  var sufferer: Int?
  private var isInterleaving = false

  package init(_ plan: Plan, mutant: Mutant? = nil) throws {
    self.plan = plan
    self.mutant = mutant
    limits = plan.knobs.limits
    isSteady = plan.knobs[.steady] > 0
    network = SimulatedNetwork(kernel: kernel, seed: plan.seed, knobs: plan.knobs)
    latencies = RandomStream(seed: plan.seed, entity: "world", purpose: "latency")
    luck = RandomStream(seed: plan.seed, entity: "world", purpose: "luck")
    payloads = RandomStream(seed: plan.seed, entity: "world", purpose: "payload")
    powerCuts = RandomStream(seed: plan.seed, entity: "world", purpose: "power")
    if plan.strike != nil { effects = EffectCounter(strike: plan.strike) }
    oracle = Oracle(world: self)
    for index in 0..<Int(plan.knobs[.hosts]) {
      guard let host = SimulatedHost(index: index, world: self) else { continue }
      try host.prepare()
      oracle.modelPrepared(host)
      hosts.append(host)
    }
    servers = (0..<Int(plan.knobs[.servers])).map { SimulatedServer(index: $0, world: self) }
    network.struck = { [unowned self] in count($0) }
    // The adversary's links are those after the last host's.
    network.isHostUp = { [unowned self] in
      if let server = dialingServer($0) { return servers[server].process != nil }
      return $0 >= hosts.count || hosts[$0].process != nil
    }
    adversary = Adversary(world: self)
    network.isServerUp = { [unowned self] in servers[$0].process != nil }
  }

  // MARK: A run

  /// Runs the plan, heals the world, waits until it has settled, and looks at what is there.
  package func run() -> Outcome {
    defer { takeDown() }
    for index in servers.indices { start(.server(index)) }
    for index in hosts.indices { start(.host(index)) }
    scheduleNextOperation()
    let loadEnd = max(plan.knobs[.loadEnd], plan.operations.last?.time ?? 0)
    advance(to: loadEnd)
    heal()
    let deadline = loadEnd + plan.knobs[.settleWithin]
    var time = loadEnd
    while oracle.failure == nil, !isSettled || oracle.peersLack() != nil, time < deadline {
      for host in hosts where isAskedTwice { host.process?.askAgain(Self.secondToken) }
      time += 1_000_000_000
      advance(to: time)
    }
    if oracle.failure == nil, !isSettled, !oracle.maySettleNever { oracle.fail(.liveness, oracle.unsettled()) }
    if oracle.failure == nil, let lack = oracle.peersLack() { oracle.fail(.liveness, lack) }
    // A strike may fall into it.
    rest()
    if let back = effects?.backAt, back > 0 { rest(from: back) }
    settleBranches()
    if oracle.failure == nil { oracle.checkAtRest() }
    atRest(self)
    if isSettled, !isSteady {
      probePromptness()
      probeHanging()
    }
    return outcome(load: loadEnd)
  }

  func advance(to time: UInt64) {
    let limit = Instant(nanoseconds: time)
    while oracle.failure == nil, kernel.step(until: limit) {
      if kernel.eventCount > Self.mostEvents { oracle.fail(.liveness, "more than \(Self.mostEvents) events") }
    }
  }

  /// What the servers still have to write (a slow disk may be long about it), to fold, to sync and to try again in the
  /// background.
  func rest(from time: UInt64? = nil) {
    var time = time ?? kernel.now.nanoseconds
    let deadline = time + plan.knobs[.settleWithin]
    while oracle.failure == nil, servers.contains(where: { $0.process?.unanswered ?? 0 > 0 }), time < deadline {
      time += 1_000_000_000
      advance(to: time)
    }
    advance(to: time + 2_000_000_000 + plan.knobs[.retry])
  }

  /// An adversary that had other bytes for its files, or other records of its journal, delivers them all in the end, to
  /// every server: all are held (M1), and every one of its connections is told so.
  private func settleBranches() {
    guard oracle.failure == nil, isSettled,
      [Attack.branch, .equivocate].contains(where: { faults["attack \($0.rawValue)"] ?? 0 > 0 }),
      !servers.contains(where: { $0.disk.everyFile.contains(where: \.isDamaged) })
    else { return }
    adversary?.deliverAll()
    var time = kernel.now.nanoseconds
    let deadline = time + plan.knobs[.settleWithin]
    while oracle.failure == nil, adversaryLacks ?? oracle.peersLack() != nil, time < deadline {
      time += 1_000_000_000
      advance(to: time)
    }
    if oracle.failure == nil, let lacks = adversaryLacks ?? oracle.peersLack() { oracle.fail(.liveness, lacks) }
    adversary?.leave()
    rest(from: time)
  }

  private var adversaryLacks: String? { adversary?.lacks ?? oracle.unheldOfAdversary() }

  private static let mostEvents: UInt64 = 20_000_000
  static let settleToken: UInt64 = 1
  private static let secondToken: UInt64 = 3
  /// Of those under load.
  var lastToken: UInt64 = 1_000
  private var isAskedTwice: Bool { servers.contains { $0.setbacks > 0 } }

  private var isSettled: Bool {
    let tokens: Set = isAskedTwice ? [Self.settleToken, Self.secondToken] : [Self.settleToken]
    return hosts.allSatisfy { $0.process?.settledTokens.isSuperset(of: tokens) ?? false }
  }

  private func outcome(load: UInt64) -> Outcome {
    for host in hosts { count(host.process?.hintCounts) }
    if plan.knobs[.bandwidth] < 1_000_000 { count("bandwidth capped") }
    var outcome = Outcome(seed: plan.seed, failure: oracle.failure)
    outcome.events = kernel.eventCount
    outcome.steps = steps
    outcome.simulated = kernel.now.nanoseconds
    outcome.load = load
    outcome.operations = plan.operations.count
    outcome.digest = kernel.trace.value
    outcome.faults = faults
    outcome.plannedFaults = plannedFaults
    outcome.marks = Dictionary(uniqueKeysWithValues: marks.map { ($0.key.rawValue, $0.value) })
    outcome.bytes = payloadBytes
    return outcome
  }

  func count(_ hints: WatchQueue.Counts?) {
    guard let hints else { return }
    for (name, count) in [
      ("hint lost", hints.lost), ("hint duplicated", hints.duplicated), ("hint overflow", hints.overflowed),
      ("watch refused", hints.refused), ("hint coalesced", hints.merged),
    ] where count > 0 { faults[name, default: 0] += count }
  }

  private func takeDown() {
    for host in hosts { host.process?.end() }
    for server in servers { server.process?.end() }
    kernel.clear()
    for connection in network.connections { connection.dissolve() }
    for host in hosts { host.process = nil }
    for server in servers { server.process = nil }
  }

  // MARK: Nodes

  func start(_ node: Node) {
    switch node {
    case .host(let index):
      guard hosts.indices.contains(index), hosts[index].process == nil else { return }
      hosts[index].lives += 1
      hosts[index].refused = []
      let process = HostProcess(host: hosts[index], world: self)
      hosts[index].process = process
      if hosts[index].lives > 1 { mark(.hostRestarted) }
      process.start()
      if isHealed { process.ask(Self.settleToken) }
    case .server(let index):
      guard servers.indices.contains(index), servers[index].process == nil else { return }
      servers[index].lives += 1
      servers[index].refused = []
      let process = ServerProcess(server: servers[index], world: self)
      servers[index].process = process
      if servers[index].lives > 1 { mark(.serverRestarted) }
      process.start()
    }
  }

  /// The process dies; what the kernel has survives.
  func crash(_ node: Node, silently: Bool = false) {
    switch node {
    case .host(let index):
      count(hosts[index].process?.hintCounts)
      hosts[index].process?.die(silently: silently)
      hosts[index].process = nil
    case .server(let index):
      servers[index].process?.die(silently: silently)
      servers[index].process = nil
    }
  }

  func powerCut(_ node: Node) {
    crash(node, silently: true)
    switch node {
    case .host(let index):
      for writer in hosts[index].writers.keys.sorted() {
        hosts[index].writers[writer]?.descriptor.map(hosts[index].disk.close)
      }
      hosts[index].writers = [:]
    case .server(let index):
      servers[index].disk.powerCut()
      oracle.powerWasCut(servers[index])
    }
  }

  /// A node stopped itself (P4); the service manager starts it again.
  func halted(_ node: Node, _ reason: String) {
    mark(.halted)
    crash(node)
    kernel.after(1_000_000_000) { [self] in start(node) }
  }

  func process(_ node: Node) -> SimulatedProcess? {
    switch node {
    case .host(let index): hosts.indices.contains(index) ? hosts[index].process : nil
    case .server(let index): servers.indices.contains(index) ? servers[index].process : nil
    }
  }

  /// Every fault ends, every node runs, and every host is asked to say when all is delivered.
  private func heal() {
    isHealed = true
    for host in hosts { oracle.model.ask(host.index) }
    adversary?.leave()
    network.heal()
    for host in hosts {
      host.faultUntil = [:]
      host.once = []
      host.hintFaults = WatchQueue.Faults()
      unhang(host)
      for inode in host.disk.deniedInodes { host.disk.allow(inode) }
      host.disk.mendPages()
      host.process?.applyFaults()
      host.process?.effectsToLive = nil
    }
    for server in servers {
      server.faultUntil = [:]
      server.once = []
      server.disk.heal()
      server.process?.applyFaults()
      server.process?.effectsToLive = nil
    }
    for index in servers.indices {
      if !servers[index].refused.isEmpty { crash(.server(index)) }
      start(.server(index))
      servers[index].process?.resume()
    }
    for index in hosts.indices {
      if !hosts[index].refused.isEmpty { crash(.host(index)) }
      // Where servers bring it to one another, a host may reach some of them only.
      if !hosts[index].isFullyConfigured, !hasPeers || hosts[index].configured.isEmpty {
        crash(.host(index))
        for server in servers.indices { hosts[index].configure(server, true) }
      }
      hosts[index].process?.resume()
      if let process = hosts[index].process {
        process.ask(Self.settleToken)
      } else {
        start(.host(index))
      }
    }
  }

  // MARK: Connections

  /// How long a connection attempt takes, and whether the way is free.
  func connect(host: Int, server: Int) -> (delay: UInt64, isPossible: Bool) {
    let isFree =
      network.passes(host: host, server: server, .toServer) && network.passes(host: host, server: server, .toHost)
    guard isFree else { return (10_000_000_000, false) }
    return (3 * network.latency(), servers[server].process?.isServing ?? false)
  }

  func accept(host: Int, server: Int, _ isPossible: Bool) -> Connection? {
    guard isPossible, let process = servers[server].process, process.isServing else { return nil }
    let connection = network.connect(host: host, server: server)
    process.accept(connection, host: host, peer: Peer(names: [hosts[host].name.text], address: "10.0.0.\(host)"))
    return connection
  }

  func intrude(_ server: Int, _ adversary: Adversary) -> Connection? {
    guard let process = servers[server].process, process.isServing else { return nil }
    let connection = network.connect(host: adversary.index, server: server)
    process.accept(connection, host: adversary.index, peer: Peer(names: [Adversary.name], address: "10.0.1.1"))
    return connection
  }

  // MARK: Chance

  func wall(_ node: Node) -> WallTime {
    let clock: WallClock =
      switch node {
      case .host(let index): hosts.indices.contains(index) ? hosts[index].clock : WallClock()
      case .server(let index): servers.indices.contains(index) ? servers[index].clock : WallClock()
      }
    return WallTime(nanoseconds: Self.epoch + clock.reading(kernel.now.nanoseconds))
  }

  /// 2026-01-01.
  static let epoch: Int64 = 1_767_225_600_000_000_000

  /// What takes so many times as long on a slow disk.
  static let slowness: UInt64 = 100

  func latency(_ node: Node, _ typical: UInt64) -> UInt64 {
    let isSlow =
      switch node {
      case .host(let index): hosts[index].has(.slowDisk)
      case .server(let index): servers[index].has(.slowDisk)
      }
    guard !isCalm else { return typical / 2 * 3 }
    return (isSteady ? typical : latencies.latency(typical)) * (isSlow ? Self.slowness : 1)
  }

  func chance(_ knob: Knobs.Name) -> Bool { luck.chance(plan.knobs[knob]) }

  /// Lets the next operation of a writer come early, in the middle of what the node is doing.
  func interleave(_ host: Int) {
    guard !isInterleaving, !isHealed, nextOperation < plan.operations.count, luck.chance(plan.knobs[.interleave]) else {
      return
    }
    let next = plan.operations[nextOperation]
    guard next.operation.writesOn == host, next.time < kernel.now.nanoseconds + 20_000_000 else { return }
    isInterleaving = true
    defer { isInterleaving = false }
    mark(.interleaved)
    if hosts[host].process?.plane.isListing == true, next.operation.isRotation { count("rotation during a listing") }
    nextOperation += 1
    perform(next.operation)
  }

  func scheduleNextOperation() {
    guard nextOperation < plan.operations.count else { return }
    let due = nextOperation
    kernel.at(Instant(nanoseconds: plan.operations[due].time)) { [self] in
      // One that came early has been performed already.
      while nextOperation < plan.operations.count, plan.operations[nextOperation].time <= kernel.now.nanoseconds {
        let operation = plan.operations[nextOperation].operation
        nextOperation += 1
        perform(operation)
      }
      scheduleNextOperation()
    }
  }

  func observe(_ who: @autoclosure () -> Node?, _ what: @autoclosure () -> Any) {
    guard let observer else { return }
    let name = who().map { "\($0)" } ?? "world"
    observer("\(kernel.now.nanoseconds) \(name) \(what())")
  }

  func mark(_ mark: Mark) { marks[mark, default: 0] += 1 }

  func note(_ frame: Frame) {
    switch frame {
    case .refusal(let refusal): if refusal.file != nil { mark(.fileRefused) }
    case .resumeAnswer(let files):
      if files.contains(where: { !$0.strings.isEmpty }) { mark(.resumedInTheMiddle) }
    case .goodbye(.superseded, _): mark(.superseded)
    case .goodbye(.silence, _): mark(.silence)
    default: break
    }
  }
}

/// Rare states that a swarm must have reached (sometimes-assertions).
package enum Mark: String, Hashable, Sendable, CaseIterable {
  case hostRestarted, serverRestarted, halted, interleaved, stoodStill, fileRefused, resumedInTheMiddle
  case superseded, silence, truncated, rotatedAway, gap, vanished, deleted, reborn, mixed, acknowledgedFromLog
  case acknowledgedFromFile, repairedByLog, numberReused, diverged, shrunk, storeBlocked, journalBlocked
  case resumedAtLeafBoundary, emptyFile, hardLinked, setAside
  case syncFailedInCreate, syncFailedInRepair, unreadableInVerify, unreadableInRepair
  case hung, rowLoaded, staleRow, staleLoad, windowRead, setApart, setApartByServer, paused
  case storeFoundOld, replacedEmpty, restored, damaged, attackRefused, rewriteRefused, branchHeld, forkHeld
  // Between servers.
  case peerConnected, announced, suppliedByPeer, recordsByPeer, comparedWithLonger, channelCut, cursorRefused
  case trieDivided, foundByTrie, branchByPeer, forkByPeer, replacedAndHealed
}

package struct Failure: Hashable, Sendable, Error {
  package var oracle: OracleName
  package var event: UInt64
  package var time: UInt64
  package var text: String
  package init(oracle: OracleName, event: UInt64, time: UInt64, text: String) {
    self.oracle = oracle
    self.event = event
    self.time = time
    self.text = text
  }
}

package enum OracleName: String, Hashable, Sendable, CaseIterable {
  case storedBytes, durability, durabilityOrder, overwrite, identity, falseTruncation, lost, missing, liveness, port
  case storeContract, wire, bounds, crash, determinism, foreign, silence, doubled, model, promptness, merge
}

package struct Outcome: Sendable {
  package var seed: UInt64
  package var failure: Failure?
  package var events: UInt64 = 0
  /// Inputs that the machines took.
  package var steps: UInt64 = 0
  /// Virtual nanoseconds in all, and until the load ended.
  package var simulated: UInt64 = 0
  package var load: UInt64 = 0
  package var operations = 0
  package var digest: UInt64 = 0
  package var faults: [String: Int] = [:]
  package var plannedFaults = 0
  package var marks: [String: Int] = [:]
  package var bytes: UInt64 = 0

  package init(seed: UInt64, failure: Failure?) {
    self.seed = seed
    self.failure = failure
  }
}
