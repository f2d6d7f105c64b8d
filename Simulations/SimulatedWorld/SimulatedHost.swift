import HostCore
import JournalModel
import JournalStore
import MerkleLog

/// A host: its disk and its journal, which outlive its processes.
///
/// Fault model of the journal: a commit is atomic and durable or didn't happen; a process that dies while one is under
/// way may find it either way. Log bytes survive a power cut of the host (rewinds come with issue D).
package final class SimulatedHost {
  let index: Int
  let name: HostName
  package let disk: SimulatedDisk
  let store = InMemoryHostStore<SimulatedTree>()
  let identity: JournalIdentity
  private(set) var settings: HostSettings
  /// Servers in the configuration, and those that were ever taken out of it.
  private(set) var configured: [Int]
  private(set) var everRemoved: Set<Int> = []
  var process: HostProcess?
  var lives = 0
  var clock = WallClock()
  var faultUntil: [FaultKind: UInt64] = [:]
  var once: Set<FaultKind> = []
  /// What the store refuses until the next start.
  var refused: Set<FileUUID> = []
  var hintFaults = WatchQueue.Faults()
  var hintsDelayed: (until: UInt64, by: UInt64) = (0, 0)
  var writers: [Int: Writer] = [:]
  /// File systems that don't answer, until when.
  var hangsUntil: [UInt64: UInt64] = [:]
  /// Not of what servers speak of: one of them would shift what another is told.
  private var staleness: RandomStream
  private unowned let world: World

  /// A writer keeps one descriptor, also when its file is renamed or unlinked.
  struct Writer {
    var descriptor: SimulatedDisk.Descriptor?
    /// The name that it opened.
    var name: [UInt8] = []
    var sequence = 0
  }

  init?(index: Int, world: World) {
    guard let name = HostName("web\(index)") else { return nil }
    self.index = index
    self.name = name
    self.world = world
    let seed = world.plan.seed
    staleness = RandomStream(seed: seed, entity: "host\(index)", purpose: "stale readings")
    disk = SimulatedDisk(seed: seed, name: "host\(index)", isWriteThrough: true)
    disk.pageSize = Int(world.plan.knobs[.pageSize])
    disk.reusesNumbers = world.plan.knobs[.steady] == 0
    disk.mounts = [Array("srv".utf8): 2]
    disk.birthStep = Int64(world.plan.knobs[.birthStep])
    disk.directoryStep = Int64(world.plan.knobs[.directoryStep])
    var random = RandomStream(seed: seed, entity: "host\(index)", purpose: "identity")
    let journal = JournalID(UUIDBytes(high: random.next(), low: random.next()).marked(version: 4))
    let key = SimulatedSignatures.publicKey(of: name, seed: seed)
    identity = JournalIdentity(host: name, journal: journal, publicKey: key)
    configured = Array(0..<Int(world.plan.knobs[.servers]))
    settings = HostSettings(
      host: name, journal: journal, publicKey: key, servers: (0..<Int(world.plan.knobs[.servers])).map { "logs\($0)" },
      follow: [FollowRule(include: Self.patterns.map { BytePath($0) }, exclude: [BytePath("/**/*.tmp")])],
      limits: world.limits, jitterSeed: random.next())
    disk.clock = { [unowned world] in world.wall(.host(index)) }
    disk.struck = { [unowned world] in world.faults["\($0) host", default: 0] += 1 }
  }

  var isFullyConfigured: Bool { configured.count == Int(world.plan.knobs[.servers]) }

  /// For the node's next start.
  func configure(_ server: Int, _ isConfigured: Bool) {
    configured.removeAll { $0 == server }
    if isConfigured { configured.append(server) } else { everRemoved.insert(server) }
    configured.sort()
    settings.servers = configured.map { "logs\($0)" }
  }

  static let patterns = ["/log/**/*.log*", "/log/current", "/srv/*/app*", "/cur/now/log/*.log"]

  /// Whether a name is followed: what `patterns` say, for the oracle.
  static func isFollowed(_ path: BytePath) -> Bool {
    let components = path.bytes.split(separator: UInt8(ascii: "/")).map { Array($0) }
    guard let last = components.last, !last.ends(with: ".tmp") else { return false }
    switch components[0] {
    case Array("log".utf8): return last.contains(".log") || path == BytePath("/log/current")
    case Array("srv".utf8): return components.count == 3 && last.starts(with: Array("app".utf8))
    case Array("cur".utf8):
      return components.count == 4 && path.directory == BytePath("/cur/now/log") && last.ends(with: ".log")
    default: return false
    }
  }

  /// Makes the journal with its first record, as `NodeRuntime` does before a node's first start.
  func prepare() throws {
    try store.create(identity)
    var opened = JournalOpened(
      host: name, journal: identity.journal, publicKey: identity.publicKey, binding: .journalKey(signature: []))
    opened.binding = .journalKey(
      signature: SimulatedSignatures.sign(opened.bindingBytes, publicKey: identity.publicKey))
    var batch = HostBatch()
    batch.records = [Record(time: world.wall(.host(index)), body: .journalOpened(opened)).encoded()]
    _ = try store.commit(batch)
    for directory in ["/log", "/srv"] { try disk.makeDirectories(BytePath(directory)) }
  }

  func checkpoint(_ length: UInt64, _ root: Digest) -> Checkpoint {
    var checkpoint = Checkpoint(host: name, journal: identity.journal, length: length, root: root, signature: [])
    checkpoint.signature = SimulatedSignatures.sign(checkpoint.signedBytes, publicKey: identity.publicKey)
    return checkpoint
  }

  /// Whether its store answers from an old snapshot, or not at all.
  func isStale(_ query: HostQuery) -> Bool { goesWrong(query, .staleLoad) }
  func isUnreadable(_ query: HostQuery) -> Bool { goesWrong(query, .failedLoad) }

  private func goesWrong(_ query: HostQuery, _ knob: Knobs.Name) -> Bool {
    // What servers give reason to ask draws nothing, else one would decide what befalls another's files (G3).
    switch query {
    case .files, .ended: return false
    case .inodes: break
    }
    return !world.isCalm && staleness.chance(world.plan.knobs[knob])
  }

  func hangs(_ fileSystem: UInt64?) -> Bool {
    fileSystem.flatMap { hangsUntil[$0] }.map { $0 > world.kernel.now.nanoseconds } ?? false
  }
  func has(_ fault: FaultKind) -> Bool { (faultUntil[fault] ?? 0) > world.kernel.now.nanoseconds }
  /// A fault that strikes once.
  func take(_ fault: FaultKind) -> Bool { once.remove(fault) != nil }

  func hintDelay(_ now: Instant) -> UInt64 { now.nanoseconds < hintsDelayed.until ? hintsDelayed.by : 0 }
}

extension Array where Element == UInt8 {
  func ends(with text: String) -> Bool { suffix(text.utf8.count).elementsEqual(text.utf8) }

  func contains(_ text: String) -> Bool {
    let needle = Array(text.utf8)
    guard count >= needle.count else { return false }
    return (0...(count - needle.count)).contains { self[$0..<($0 + needle.count)].elementsEqual(needle) }
  }
}
