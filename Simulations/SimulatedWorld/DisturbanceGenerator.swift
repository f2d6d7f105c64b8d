/// Draws the rarer operations of a plan from a stream of their own: whatever is added here shifts nothing else. Most
/// kinds are switched off in most seeds.
struct DisturbanceGenerator {
  private typealias Make = (inout DisturbanceGenerator) -> [(UInt64, Operation)]
  private var random: RandomStream
  private let knobs: Knobs
  private let paths: [String]
  private let end: UInt64
  private let hosts: Int
  private let servers: Int
  /// The one server that damage and setbacks strike.
  private let sufferer: Int
  private let millisecond: UInt64 = 1_000_000

  /// In no order.
  static func operations(seed: UInt64, knobs: Knobs, paths: [String]) -> [(UInt64, Operation)] {
    var generator = DisturbanceGenerator(seed: seed, knobs: knobs, paths: paths)
    return generator.generate(seed)
  }

  private init(seed: UInt64, knobs: Knobs, paths: [String]) {
    random = RandomStream(seed: seed, entity: "plan", purpose: "disturbances")
    self.knobs = knobs
    self.paths = paths
    end = knobs[.loadEnd]
    hosts = Int(knobs[.hosts])
    servers = Int(knobs[.servers])
    sufferer = random.below(servers)
  }

  /// How many of 100 seeds have the kind.
  private static var kinds: [(name: String, share: UInt64, make: Make)] {
    [
      ("hole", 30, hole), ("compress", 20, compress), ("overwrite", 5, overwrite),
      ("spoil", 25, spoil), ("readError", 20, readError), ("interrupted", 20, interrupted), ("stale", 20, stale),
      ("syncs", 30, syncs), ("rot", 5, rot), ("misplace", 5, misplace), ("restore", 10, restore),
      ("replace", 5, replace),
      ("boundaries", 20, boundaries), ("dribble", 10, dribble), ("cutFrame", 40, cutFrame), ("drain", 30, drain),
      ("swizzle", 15, swizzle), ("longClog", 3, longClog), ("runClock", 30, runClock), ("configure", 8, configure),
      ("attack", 30, attack), ("hang", 25, hang), ("deploy", 25, deploy), ("refuseRow", 15, refuseRow),
      ("betweenServers", 80, betweenServers), ("reach", 60, reach),
    ]
  }

  /// A stream for each kind: adding one shifts no other.
  private mutating func generate(_ seed: UInt64) -> [(UInt64, Operation)] {
    var result: [(UInt64, Operation)] = []
    for kind in Self.kinds {
      random = RandomStream(seed: seed, entity: "plan", purpose: "disturbance \(kind.name)")
      guard random.below(100 as UInt64) < kind.share else { continue }
      if Self.kindsOfPeers.contains(kind.name), knobs[.peers] == 0 { continue }
      for _ in 0..<random.within(1...4) {
        // What a host reaches from the start.
        let time = kind.name == "reach" && random.chance(600_000) ? 0 : random.below(end)
        let isLong = kind.name == "longClog"
        result += kind.make(&self).map { (isLong ? time + $0.0 : min(end, time + $0.0), $0.1) }
      }
    }
    return result
  }

  /// A link on the path of a base moves on to the next release, by a chain of links now and then; or what holds it is
  /// renamed away and made anew.
  private static func deploy(_ g: inout DisturbanceGenerator) -> [(UInt64, Operation)] {
    let host = g.random.below(g.hosts)
    let release = "/rel/\(g.random.below(3))"
    let writer = 20 + g.random.below(3)
    let name = "x\(g.random.below(2)).log"
    let pause = g.random.below(g.random.pick([1_000, 30 * g.millisecond, 2_000 * g.millisecond]))
    var operations: [(UInt64, Operation)] = [
      (0, .makeDirectory(host: host, path: release + "/log")), (0, .makeDirectory(host: host, path: "/cur")),
    ]
    if g.random.chance(300_000) {
      operations += [
        (pause, .rename(host: host, from: "/cur", to: "/old\(g.random.below(100))")),
        (2 * pause, .makeDirectory(host: host, path: "/cur")),
      ]
    }
    if g.random.chance(300_000) {
      operations.append((2 * pause, .symbolicLink(host: host, target: release, path: "/rel/latest")))
      operations.append((2 * pause, .symbolicLink(host: host, target: "/rel/latest", path: "/cur/now")))
    } else {
      operations.append((2 * pause, .symbolicLink(host: host, target: release, path: "/cur/now")))
    }
    let path = g.random.chance(500_000) ? "\(release)/log/\(name)" : "/cur/now/log/\(name)"
    return operations + [
      (3 * pause, .open(host: host, writer: writer, path: path)),
      (3 * pause, .append(host: host, writer: writer, count: g.random.within(1...200), kind: .unique)),
      (3 * pause + g.duration(), .append(host: host, writer: writer, count: g.random.within(1...200), kind: .unique)),
    ]
  }

  private mutating func duration() -> UInt64 {
    random.below(random.pick([10 * millisecond, 300 * millisecond, 3_000 * millisecond, end]))
  }
  private mutating func host() -> Int { random.below(hosts) }
  private mutating func server() -> Int { random.below(servers) }
  private mutating func node() -> Node { random.chance(500_000) ? .host(host()) : .server(server()) }
  private mutating func path() -> String { random.pick(paths) }
  private mutating func size() -> Int {
    random.pick([1, Int(knobs[.leafSize]), random.within(1...100), random.within(1...2_000)])
  }

  // MARK: Writers

  private static func hole(_ g: inout Self) -> [(UInt64, Operation)] {
    [(0, .disturb(.extend(host: g.host(), path: g.path(), count: g.size())))]
  }

  private static func compress(_ g: inout Self) -> [(UInt64, Operation)] {
    let path = "\(g.path()).\(g.random.within(1...4))"
    return [(0, .disturb(.compress(host: g.host(), path: path, delay: g.duration())))]
  }

  private static func overwrite(_ g: inout Self) -> [(UInt64, Operation)] {
    let position = g.random.below(4_000)
    return [(0, .disturb(.overwrite(host: g.host(), path: g.path(), position: position, count: g.size())))]
  }

  // MARK: Reads and syncs

  private static func spoil(_ g: inout Self) -> [(UInt64, Operation)] {
    let duration = g.random.chance(500_000) ? 0 : g.duration()
    let file = g.random.below(100)
    let node = g.node()
    guard case .server = node else {
      return [(0, .disturb(.spoil(node, file: file, page: g.random.below(50), duration: duration)))]
    }
    // A server reads little but the end of a file, after a start.
    let spoilt: [(UInt64, Operation)] = (0..<10).map {
      (0, .disturb(.spoil(node, file: $0, page: 0, duration: duration)))
    }
    return [(0, .kill(node))] + spoilt + [(g.millisecond, .start(node))]
  }

  private static func readError(_ g: inout Self) -> [(UInt64, Operation)] {
    let server = g.server()
    guard g.random.chance(500_000) else { return [(0, .fault(.server(server), .readError, duration: g.duration()))] }
    // At a start, when plain files are repaired.
    return [
      (0, .fault(.server(server), .readError, duration: g.duration())), (0, .powerCut(.server(server))),
      (g.millisecond, .start(.server(server))),
    ]
  }

  private static func interrupted(_ g: inout Self) -> [(UInt64, Operation)] {
    [(0, .fault(.host(g.host()), .interrupted, duration: g.duration()))]
  }

  private static func stale(_ g: inout Self) -> [(UInt64, Operation)] {
    [(0, .fault(.host(g.host()), .stale, duration: 0))]
  }

  /// For moments, or for as long as work may take before it is called hung, and longer.
  private static func hang(_ g: inout Self) -> [(UInt64, Operation)] {
    let duration = g.random.chance(500_000) ? g.duration() : g.random.below(30_000) * g.millisecond
    return [(0, .disturb(.hang(host: g.host(), fileSystem: g.random.within(1...2), duration: duration)))]
  }

  private static func syncs(_ g: inout Self) -> [(UInt64, Operation)] {
    let server = g.server()
    let kind: FaultKind = g.random.chance(500_000) ? .failSync : .failDirectorySync
    let fails: (UInt64, Operation) = (0, .fault(.server(server), kind, duration: 0))
    guard g.random.chance(700_000) else { return [fails] }
    return [fails, (0, .powerCut(.server(server))), (g.millisecond, .start(.server(server)))]
  }

  private static func refuseRow(_ g: inout Self) -> [(UInt64, Operation)] {
    [(0, .fault(g.node(), .refuseRow, duration: 0))]
  }

  // MARK: Network, time, operator

  private static func boundaries(_ g: inout Self) -> [(UInt64, Operation)] {
    [(0, .disturb(.boundaries(host: g.host(), server: g.server(), duration: g.duration())))]
  }

  private static func dribble(_ g: inout Self) -> [(UInt64, Operation)] {
    let duration = min(g.duration(), 500 * g.millisecond)
    return [(0, .disturb(.dribble(host: g.host(), server: g.server(), duration: duration)))]
  }

  private static func cutFrame(_ g: inout Self) -> [(UInt64, Operation)] {
    let toServer = g.random.chance(700_000)
    let frames = g.random.within(1...12)
    let offset = g.random.within(0...2) - 1
    return [
      (
        0,
        .disturb(
          .cutFrame(host: g.host(), server: g.server(), toServer: toServer, frames: frames, offset: offset))
      )
    ]
  }

  private static func drain(_ g: inout Self) -> [(UInt64, Operation)] {
    [(0, .disturb(.drain(host: g.host(), server: g.server(), duration: g.duration())))]
  }

  private static func swizzle(_ g: inout Self) -> [(UInt64, Operation)] {
    [(0, .disturb(.swizzle(salt: g.random.next() >> 1, duration: g.duration())))]
  }

  /// Nothing passes for minutes; the last operation keeps the load going until then.
  private static func longClog(_ g: inout Self) -> [(UInt64, Operation)] {
    let host = g.host()
    let server = g.server()
    let duration = g.random.within(90...240) * 1_000 * g.millisecond
    return [
      (0, .clog(host: host, server: server, toServer: true, duration: duration)),
      (duration + 1_000 * g.millisecond, .reset(host: host, server: server)),
    ]
  }

  private static func runClock(_ g: inout Self) -> [(UInt64, Operation)] {
    let permille = g.random.pick([0, 0, 500, 999, 1_001, 1_100, 3_000])
    return [(0, .disturb(.runClock(g.node(), permille: permille, duration: g.duration())))]
  }

  private static func configure(_ g: inout Self) -> [(UInt64, Operation)] {
    let host = g.host()
    let server = g.server()
    return [
      (0, .disturb(.configure(host: host, server: server, isConfigured: false))),
      (100 * g.millisecond + g.duration(), .disturb(.configure(host: host, server: server, isConfigured: true))),
    ]
  }

  // MARK: The adversary

  private static func attack(_ g: inout Self) -> [(UInt64, Operation)] {
    let server = g.server()
    return (0..<g.random.within(1...6)).map { _ in
      (g.duration(), .disturb(.attack(server: server, g.random.pick(Attack.allCases))))
    }
  }

  // MARK: Between servers

  private static let kindsOfPeers: Set = ["betweenServers", "reach"]

  /// What befalls the link on which one server connected to another.
  private static func betweenServers(_ g: inout Self) -> [(UInt64, Operation)] {
    let dialing = g.server()
    let server = (dialing + 1 + g.random.below(g.servers - 1)) % g.servers
    let host = g.hosts + 1 + dialing
    return (0..<g.random.within(1...3)).map { _ in
      let at = g.duration()
      let isUp = g.random.chance(500_000)
      let duration = g.duration()
      let frames = g.random.within(1...12)
      let offset = g.random.within(0...2) - 1
      let operation: Operation = g.random.pick([
        .reset(host: host, server: server),
        .partition(host: host, server: server, toServer: isUp, duration: duration),
        .clog(host: host, server: server, toServer: isUp, duration: duration),
        .shred(host: host, server: server, duration: duration),
        .disturb(.boundaries(host: host, server: server, duration: duration)),
        .disturb(.dribble(host: host, server: server, duration: min(duration, 500 * g.millisecond))),
        .disturb(.cutFrame(host: host, server: server, toServer: isUp, frames: frames, offset: offset)),
        .disturb(.cutFrame(host: host, server: server, toServer: isUp, frames: frames, offset: offset)),
        .disturb(.drain(host: host, server: server, duration: duration)),
      ])
      return (at, operation)
    }
  }

  /// A host reaches some of the servers only, from the start or from some moment on.
  private static func reach(_ g: inout Self) -> [(UInt64, Operation)] {
    let host = g.host()
    let kept = g.server()
    let isAtOnce = g.random.chance(600_000)
    return (0..<g.servers).filter { $0 != kept && (g.servers == 2 || g.random.chance(600_000)) }.map {
      (isAtOnce ? 0 : g.duration(), .disturb(.configure(host: host, server: $0, isConfigured: false)))
    }
  }

  // MARK: Damage and setbacks

  private static func rot(_ g: inout Self) -> [(UInt64, Operation)] {
    let file = g.random.below(100)
    return [(0, .disturb(.rot(server: g.sufferer, file: file, position: g.random.below(10_000))))]
  }

  private static func misplace(_ g: inout Self) -> [(UInt64, Operation)] {
    [(0, .disturb(.misplace(server: g.sufferer, isLost: g.random.chance(500_000))))]
  }

  private static func restore(_ g: inout Self) -> [(UInt64, Operation)] {
    let age = g.random.below(g.random.pick([300 * g.millisecond, g.end]))
    let pause = g.duration()
    let isUnreadable = g.random.chance(400_000)
    let unreadable: (UInt64, Operation) = (
      age, .fault(.server(g.sufferer), .readError, duration: pause + g.duration())
    )
    return [
      (0, .disturb(.backUp(server: g.sufferer))), (age, .disturb(.restore(server: g.sufferer, pause: pause))),
    ] + (isUnreadable ? [unreadable] : [])
  }

  private static func replace(_ g: inout Self) -> [(UInt64, Operation)] {
    [(0, .disturb(.replace(server: g.sufferer, pause: g.duration())))]
  }
}
