/// Draws a plan from a seed: first the swarm's options (which operations and faults occur at all, how often, how large
/// everything is), then the operations. A random subset of everything is switched off, so that some seeds reach states
/// that others keep disturbing.
package struct PlanGenerator {
  private var random: RandomStream
  private var plan: Plan
  private let end: UInt64
  private let hosts: Int
  private let servers: Int
  private let millisecond: UInt64 = 1_000_000
  private var weights: [(weight: Int, make: (inout PlanGenerator, Int) -> [(UInt64, Operation)])] = []
  private var paths: [String] = []
  private var kinds: [PayloadKind] = []

  package static func plan(seed: UInt64) -> Plan {
    var generator = PlanGenerator(seed: seed)
    return generator.generate()
  }

  private init(seed: UInt64) {
    var options = RandomStream(seed: seed, entity: "plan", purpose: "options")
    var plan = Plan(seed: seed)
    Self.drawKnobs(&plan.knobs, &options)
    // From a stream of their own: what else is drawn stays as it was.
    var hanging = RandomStream(seed: seed, entity: "plan", purpose: "options of hanging")
    plan.knobs[.readsAtOnce] = hanging.pick([1, 2, 8])
    plan.knobs[.hungAfter] = hanging.pick([1_000_000_000, 5_000_000_000])
    plan.knobs[.residentStrings] = hanging.pick([0, 1, 4, 64])
    plan.knobs[.loadLatency] = hanging.pick([20_000, 100_000, 5_000_000])
    plan.knobs[.staleLoad] = hanging.pick([0, 10_000, 300_000])
    var windows = RandomStream(seed: seed, entity: "plan", purpose: "options of windows")
    plan.knobs[.promiseWindow] = windows.pick([1, 2, 64])
    var rows = RandomStream(seed: seed, entity: "plan", purpose: "options of rows")
    plan.knobs[.residentFiles] = rows.pick([0, 0, 1, 4, 64])
    plan.knobs[.failedLoad] = rows.pick([0, 0, 20_000, 200_000])
    var times = RandomStream(seed: seed, entity: "plan", purpose: "options of times")
    plan.knobs[.directoryStep] = times.pick([1, 4_000_000, 100_000_000, 2_000_000_000])
    plan.knobs[.timeMargin] = plan.knobs[.directoryStep] * 2 + times.pick([1_000_000, 1_000_000, 1_000_000_000])
    if plan.knobs[.servers] > 1 { Self.drawPeers(&plan.knobs, seed) }
    hosts = Int(plan.knobs[.hosts])
    servers = Int(plan.knobs[.servers])
    end = plan.knobs[.loadEnd]
    self.plan = plan
    random = RandomStream(seed: seed, entity: "plan", purpose: "operations")
    paths = Self.drawPaths(&options)
    kinds = PayloadKind.allCases.filter { _ in options.chance(600_000) } + [.unique]
    weights = Self.drawWeights(&options)
  }

  private static func drawKnobs(_ knobs: inout Knobs, _ random: inout RandomStream) {
    func draw(_ name: Knobs.Name, _ choices: [UInt64]) { knobs[name] = random.pick(choices) }
    let ms: UInt64 = 1_000_000
    draw(.hosts, [1, 1, 1, 2])
    draw(.servers, [1, 2, 2, 3])
    draw(.leafSize, [16, 64, 64, 64, 128])
    draw(.extentSize, [64, 256, 1_024, 4_096])
    draw(.payloadFrameSize, [7, 17, 64, 200, 1_024])
    draw(.connectionCredit, [1_024, 2_048, 8_192, 65_536])
    draw(.totalCredit, [2_048, 8_192, 131_072])
    // An extent is verified as a whole: less credit than that could never do.
    let extent = knobs[.extentSize]
    knobs[.connectionCredit] = max(knobs[.connectionCredit], 2 * extent)
    knobs[.totalCredit] = max(knobs[.totalCredit], 4 * extent)
    draw(.recordsPerFrame, [1, 3, 16, 512])
    draw(.recordBytesPerFrame, [512, 4_096, 65_536])
    draw(.recordWindow, [1, 8, 64, 8_192])
    draw(.resumePage, [1, 2, 16])
    draw(.logPayloadSize, [0, 64, 256, 1_024])
    draw(.logCapacity, [256, 1_024, 4_096, 1 << 20])
    draw(.syncSlice, [64, 256, 1_024, 16_384])
    draw(.tailSize, [8, 32, 32, 64])
    draw(.coalescing, [0, ms, 10 * ms, 50 * ms])
    draw(.rescanInterval, [1_000 * ms, 10_000 * ms, 60_000 * ms])
    draw(.pollInterval, [100 * ms, 500 * ms, 2_000 * ms])
    draw(.backoffFirst, [10 * ms, 200 * ms])
    draw(.backoffLast, [1_000 * ms, 30_000 * ms])
    draw(.heartbeat, [500 * ms, 5_000 * ms])
    knobs[.silence] = knobs[.heartbeat] * 4
    draw(.retry, [200 * ms, 5_000 * ms])
    draw(.pageSize, [16, 64, 512])
    draw(.hintQueue, [4, 64, 4_096])
    draw(.watchLimit, [1, 3, 1_000, 1_000])
    draw(.hintLoss, [0, 0, 0, 20_000, 300_000])
    draw(.hintDuplicate, [0, 0, 100_000])
    draw(.hintLatency, [1_000, 50_000, 20 * ms])
    draw(.shortRead, [0, 500_000])
    draw(.interleave, [0, 0, 20_000, 200_000])
    draw(.networkLatency, [20_000, 200_000, 5 * ms, 80 * ms])
    draw(.bandwidth, [20_000, 1_000_000, 100_000_000])
    draw(.sendBuffer, [256, 4_096, 65_536])
    draw(.splitFrames, [0, 100_000, 900_000])
    draw(.diskLatency, [5_000, 50_000, 2 * ms])
    draw(.commitLatency, [50_000, 300_000, 10 * ms])
    // What is on its way must arrive well before silence is called.
    if knobs[.networkLatency] > ms { knobs[.heartbeat] = 10_000 * ms }
    if knobs[.bandwidth] < 1_000_000 { knobs[.sendBuffer] = min(knobs[.sendBuffer], 4_096) }
    knobs[.silence] = knobs[.heartbeat] * 4
    // A few hundred bytes a round trip, and now and then one of seconds: under 1 KB/s, which takes its time.
    if knobs[.networkLatency] > 10 * ms, knobs[.sendBuffer] < 1_024 { knobs[.settleWithin] = 10_800_000 * ms }
    draw(.loadEnd, [1_500 * ms, 3_000 * ms, 10_000 * ms, 60_000 * ms])
  }

  private static func drawPeers(_ knobs: inout Knobs, _ seed: UInt64) {
    var random = RandomStream(seed: seed, entity: "plan", purpose: "options of peers")
    guard random.chance(350_000) else { return }
    knobs[.peers] = 1
    knobs[.peerPatience] = random.pick([20_000_000, 200_000_000, 2_000_000_000])
    knobs[.peerPatienceMost] = knobs[.peerPatience] * random.pick([2, 20])
    knobs[.announcementsAhead] = random.pick([1, 4, 16, 4_096])
    knobs[.wantsAhead] = random.pick([1, 2, 16, 256])
  }

  private static func drawPaths(_ random: inout RandomStream) -> [String] {
    let all = [
      "/log/app.log", "/log/b.log", "/log/deep/er/c.log", "/log/deep/d.log", "/srv/one/app", "/srv/two/app-x",
      "/log/we%20ird%0a%ff.log", "/log/late/e.log", "/log/.logrotate.log",
    ]
    return all.filter { _ in random.chance(500_000) } + ["/log/main.log"]
  }
}

// MARK: Operations

extension PlanGenerator {
  fileprivate mutating func generate() -> Plan {
    var operations: [(UInt64, Int, Operation)] = []
    func add(_ time: UInt64, _ operation: Operation) { operations.append((time, operations.count, operation)) }
    for host in 0..<hosts {
      for path in paths {
        // Some directories are filled before the node starts, some long after.
        let at = random.chance(500_000) ? 0 : random.below(end / 2)
        add(at, .makeDirectory(host: host, path: Self.directory(path)))
      }
      for writer in 0..<4 { add(random.below(end / 4), .open(host: host, writer: writer, path: random.pick(paths))) }
    }
    let count = 100 + random.below(random.pick([60, 200, 600]))
    let total = weights.reduce(0) { $0 + $1.weight }
    for _ in 0..<count {
      let time = random.below(end)
      var draw = random.below(total)
      for (weight, make) in weights {
        draw -= weight
        guard draw < 0 else { continue }
        for (delay, operation) in make(&self, random.below(hosts)) { add(min(end, time + delay), operation) }
        break
      }
    }
    // The world is not left alone, whatever the weights say.
    for _ in 0..<10 { for operation in Self.anyFault(&self) { add(random.below(end), operation) } }
    for (time, operation) in DisturbanceGenerator.operations(seed: plan.seed, knobs: plan.knobs, paths: paths) {
      add(time, operation)
    }
    operations.sort { ($0.0, $0.1) < ($1.0, $1.1) }
    plan.operations = operations.map { TimedOperation(time: $0.0, operation: $0.2) }
    plan.knobs[.loadEnd] = end + 1_000 * millisecond
    return plan
  }

  private static func directory(_ path: String) -> String {
    path.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }
  }

  private typealias Make = (inout PlanGenerator, Int) -> [(UInt64, Operation)]

  fileprivate static func drawWeights(
    _ random: inout RandomStream
  ) -> [(weight: Int, make: (inout PlanGenerator, Int) -> [(UInt64, Operation)])] {
    var result: [(weight: Int, make: Make)] = [(30, append), (5, open), (10, burst)]
    let ofFiles: [(Int, Make)] = [
      (4, rotate), (3, rename), (3, unlink), (2, replace), (2, truncate), (2, refill), (1, copyTruncate), (1, link),
      (2, close), (1, directories), (2, late), (3, shortLived),
    ]
    for entry in ofFiles where random.chance(600_000) { result.append((entry.0 * random.within(1...3), entry.1)) }
    let scale = random.pick([0, 1, 1, 2, 4])
    for make in allFaults where random.chance(500_000) { result.append((scale, { generator, _ in make(&generator) })) }
    return result.filter { $0.weight > 0 }
  }

  private mutating func size() -> Int {
    let leaf = Int(plan.knobs[.leafSize])
    return switch random.below(10) {
    case 0: 1
    case 1: leaf
    case 2: 2 * leaf
    case 3: leaf - 1
    case 4: leaf + 1
    case 5: random.within(1...8) * leaf
    case 6: random.within(1...3_000)
    default: random.within(1...120)
    }
  }

  private mutating func writer() -> Int { random.below(4) }
  private mutating func path() -> String { random.pick(paths) }
  private mutating func someName() -> String {
    let base = path()
    return random.chance(300_000) ? "\(base).\(random.within(1...4))" : base
  }

  private static func append(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    [(0, .append(host: host, writer: g.writer(), count: g.size(), kind: g.random.pick(g.kinds)))]
  }

  private static func burst(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    let writer = g.writer()
    return (0..<g.random.within(2...8)).map { step in
      (
        UInt64(step) * g.random.below(20 * g.millisecond),
        .append(host: host, writer: writer, count: g.size(), kind: g.random.pick(g.kinds))
      )
    }
  }

  private static func open(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    [(0, .open(host: host, writer: g.writer(), path: g.path()))]
  }

  private static func close(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    [(0, .close(host: host, writer: g.writer()))]
  }

  /// A rename chain; a writer goes on with the old descriptor and reopens later.
  private static func rotate(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    let path = g.path()
    let keep = g.random.within(1...4)
    let pause = g.random.below(g.random.pick([1_000, g.millisecond, 50 * g.millisecond]))
    let writer = g.writer()
    let reopen = g.random.below(g.random.pick([g.millisecond, 300 * g.millisecond, 10_000 * g.millisecond]))
    return [
      (0, .rotate(host: host, path: path, keep: keep, pause: pause, creates: g.random.chance(700_000))),
      (reopen / 2, .append(host: host, writer: writer, count: g.size(), kind: g.random.pick(g.kinds))),
      (reopen, .open(host: host, writer: writer, path: path)),
      (reopen + 1_000, .append(host: host, writer: writer, count: g.size(), kind: g.random.pick(g.kinds))),
    ]
  }

  private static func rename(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    let from = g.someName()
    let to = g.random.chance(200_000) ? "/log/away/\(g.random.below(5))" : g.someName()
    let there: (UInt64, Operation) = (0, .rename(host: host, from: from, to: to))
    guard g.random.chance(300_000) else { return [there] }
    return [there, (g.random.below(g.millisecond), .rename(host: host, from: to, to: from))]
  }

  private static func unlink(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    [(0, .unlink(host: host, path: g.someName()))]
  }

  /// Deleted and made anew at once: the same inode number (S16).
  private static func replace(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    let path = g.path()
    let writer = g.writer()
    return [
      (0, .close(host: host, writer: writer)), (0, .unlink(host: host, path: path)),
      (0, .open(host: host, writer: writer, path: path)),
      (0, .append(host: host, writer: writer, count: g.size(), kind: g.random.pick(g.kinds))),
    ]
  }

  private static func truncate(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    let length = g.random.chance(500_000) ? 0 : g.size()
    return [(0, .truncate(host: host, path: g.path(), length: length))]
  }

  /// Truncated and filled again, often to the same size or a multiple of the leaf (S26, S27, S30).
  private static func refill(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    let path = g.path()
    let writer = g.writer()
    let size = g.random.within(1...6) * Int(g.plan.knobs[.leafSize])
    let kind = g.random.pick(g.kinds)
    let wait = g.random.below(g.random.pick([1_000, 100 * g.millisecond, 1_000 * g.millisecond]))
    return [
      (0, .open(host: host, writer: writer, path: path)), (0, .truncate(host: host, path: path, length: 0)),
      (0, .append(host: host, writer: writer, count: size, kind: kind)),
      (wait, .truncate(host: host, path: path, length: 0)),
      (wait, .append(host: host, writer: writer, count: size, kind: g.random.chance(500_000) ? kind : .unique)),
    ]
  }

  private static func copyTruncate(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    let path = g.path()
    let copy = "\(path).\(g.random.within(1...4))"
    return [(0, .copyTruncate(host: host, path: path, copy: copy, delay: g.random.below(100 * g.millisecond)))]
  }

  private static func link(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    if g.random.chance(500_000) { return [(0, .hardLink(host: host, from: g.path(), to: g.someName()))] }
    return [(0, .symbolicLink(host: host, target: g.path(), path: "/log/current"))]
  }

  private static func directories(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    let path = "/log/new\(g.random.below(3))"
    let writer = g.writer()
    switch g.random.below(3) {
    case 0:
      return [
        (0, .makeDirectory(host: host, path: path)), (0, .open(host: host, writer: writer, path: path + "/x.log")),
        (0, .append(host: host, writer: writer, count: g.size(), kind: g.random.pick(g.kinds))),
      ]
    case 1: return [(0, .rename(host: host, from: path, to: "/log/moved\(g.random.below(2))"))]
    default: return [(0, .unlink(host: host, path: path + "/x.log")), (0, .removeDirectory(host: host, path: path))]
    }
  }

  /// A writer that keeps its descriptor long after the rename (S01, S03).
  private static func late(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    let writer = 4 + g.random.below(3)
    let path = g.path()
    return [
      (0, .open(host: host, writer: writer, path: path)),
      (1_000, .append(host: host, writer: writer, count: g.size(), kind: g.random.pick(g.kinds))),
      (2_000, .rename(host: host, from: path, to: "\(path).\(g.random.within(1...4))")),
      (g.random.below(g.end), .append(host: host, writer: writer, count: g.size(), kind: g.random.pick(g.kinds))),
      (g.random.below(g.end), .close(host: host, writer: writer)),
    ]
  }

  private static func shortLived(_ g: inout PlanGenerator, _ host: Int) -> [(UInt64, Operation)] {
    let writer = 7
    let path = "/log/short\(g.random.below(3)).log"
    let life = g.random.below(g.random.pick([g.millisecond, 50 * g.millisecond]))
    return [
      (0, .open(host: host, writer: writer, path: path)),
      (0, .append(host: host, writer: writer, count: g.size(), kind: g.random.pick(g.kinds))),
      (life, .unlink(host: host, path: path)), (life + g.random.below(1_000), .close(host: host, writer: writer)),
    ]
  }
}

// MARK: Faults

extension PlanGenerator {
  fileprivate typealias Fault = (inout PlanGenerator) -> [(UInt64, Operation)]

  fileprivate static func anyFault(_ g: inout PlanGenerator) -> [Operation] {
    let make = g.random.pick(allFaults)
    return make(&g).map(\.1)
  }

  fileprivate static var allFaults: [Fault] {
    [
      killed, killed, powerCut, paused, clock, reset, reset, partition, clog, shred, hints, hints, disk, disk, deny,
      effects, effects, stopped,
    ]
  }

  private mutating func node() -> Node {
    random.chance(500_000) ? .host(random.below(hosts)) : .server(random.below(servers))
  }

  private mutating func duration() -> UInt64 {
    random.below(random.pick([10 * millisecond, 300 * millisecond, 3_000 * millisecond, end]))
  }

  private static func killed(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    let node = g.node()
    return [(0, .kill(node)), (g.duration(), .start(node))]
  }

  private static func powerCut(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    let node = g.node()
    return [(0, .powerCut(node)), (g.duration(), .start(node))]
  }

  private static func stopped(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    let node = g.node()
    return [(0, .stop(node)), (300 * g.millisecond + g.duration(), .start(node))]
  }

  private static func effects(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    [(0, .killAfter(g.node(), effects: g.random.below(60)))]
  }

  private static func paused(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    let long: UInt64 = 3 * 3_600 * 1_000 * g.millisecond
    return [(0, .pause(g.node(), duration: g.random.chance(100_000) ? long : g.duration()))]
  }

  private static func clock(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    [(0, .stepClock(g.node(), seconds: g.random.pick([-31_536_000, -3_600, -1, 1, 3_600, 31_536_000])))]
  }

  private static func reset(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    [(0, .reset(host: g.random.below(g.hosts), server: g.random.below(g.servers)))]
  }

  private static func partition(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    let host = g.random.below(g.hosts)
    let server = g.random.below(g.servers)
    return [
      (0, .partition(host: host, server: server, toServer: g.random.chance(500_000), duration: g.duration()))
    ]
  }

  private static func clog(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    let host = g.random.below(g.hosts)
    let server = g.random.below(g.servers)
    return [(0, .clog(host: host, server: server, toServer: g.random.chance(500_000), duration: g.duration()))]
  }

  private static func shred(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    [(0, .shred(host: g.random.below(g.hosts), server: g.random.below(g.servers), duration: g.duration()))]
  }

  private static func hints(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    let host = g.random.below(g.hosts)
    let operation: Operation =
      switch g.random.below(4) {
      case 0: .overflow(host: host)
      case 1: .dropHints(host: host, duration: g.duration())
      case 2: .duplicateHints(host: host, duration: g.duration())
      default: .delayHints(host: host, duration: g.duration())
      }
    return [(0, operation)]
  }

  private static func disk(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    let kind: FaultKind
    let node: Node
    if g.random.chance(500_000) {
      node = .host(g.random.below(g.hosts))
      kind = g.random.pick([.emfile, .readError, .shortReads, .storeFull, .slowDisk, .failStoreSync])
    } else {
      node = .server(g.random.below(g.servers))
      kind = g.random.pick([.diskFull, .writeError, .storeFull, .storeUnreadable, .failSync, .slowDisk, .failStoreSync])
    }
    return [(0, .fault(node, kind, duration: g.duration()))]
  }

  private static func deny(_ g: inout PlanGenerator) -> [(UInt64, Operation)] {
    let path = g.path()
    let target = g.random.chance(500_000) ? path : directory(path)
    return [(0, .deny(host: g.random.below(g.hosts), path: target, duration: g.duration()))]
  }
}
