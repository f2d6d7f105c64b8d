import HostCore
import JournalModel
import JournalStore
import MerkleLog
import ServerCore

/// A server: its disk and its store, which outlive its processes.
package final class SimulatedServer {
  let index: Int
  let name: String
  package private(set) var disk: SimulatedDisk
  private(set) var store = InMemoryServerStore<SimulatedTree>()
  let settings: ServerSettings
  var process: ServerProcess?
  var lives = 0
  var clock = WallClock()
  var faultUntil: [FaultKind: UInt64] = [:]
  var once: Set<FaultKind> = []
  /// What the store refuses until the next start.
  var refused: Set<StoreSubject> = []
  /// What stands beside the plain files (P3); the other one is in the store.
  private var mark: StartMark?
  private var backup: InMemoryServerStore<SimulatedTree>.State?
  /// How many times it lost what it held: restored, or replaced by an empty one.
  private(set) var setbacks = 0
  private(set) var wasReplaced = false
  /// Payload that came from peers, since it was last replaced.
  var suppliedBytes = 0
  /// Of its own, so that what one server reads shifts no draw of another (isolation).
  private var staleness: RandomStream
  private unowned let world: World

  init(index: Int, world: World) {
    self.index = index
    name = "logs\(index)"
    self.world = world
    staleness = RandomStream(seed: world.plan.seed, entity: "server\(index)", purpose: "stale readings")
    disk = Self.makeDisk(index, 0, world)
    let knobs = world.plan.knobs
    let others = knobs[.peers] > 0 ? (0..<Int(knobs[.servers])).filter { $0 != index } : []
    settings = ServerSettings(
      name: name, limits: world.limits, totalCredit: Int(knobs[.totalCredit]), peers: others.map { "logs\($0)" })
  }

  private static func makeDisk(_ index: Int, _ generation: Int, _ world: World) -> SimulatedDisk {
    let name = generation == 0 ? "server\(index)" : "server\(index).\(generation)"
    let disk = SimulatedDisk(seed: world.plan.seed, name: name, isWriteThrough: false)
    disk.pageSize = Int(world.plan.knobs[.pageSize])
    disk.clock = { [unowned world] in world.wall(.server(index)) }
    disk.struck = { [unowned world] in world.faults["\($0) server", default: 0] += 1 }
    return disk
  }

  // MARK: The store and its backup

  /// As `StartCounter` has it: the store counts first (P3).
  func isStoreCurrent() throws(StoreError) -> Bool {
    guard let mark else { return true }
    return try store.startMarks()?.matches(mark) ?? false
  }

  var life: UUIDBytes { UUIDBytes(high: UInt64(index), low: UInt64(lives)) }

  func advanceCounter() throws(StoreError) {
    let next = StartMarks.next(after: try store.startMarks(), beside: mark, in: life)
    try store.setStartMarks(next)
    mark = next.present
  }

  func backUp() { backup = store.snapshot() }

  /// The store as it was at the backup, beside the plain files as they are. False if there is none.
  func restoreStore() -> Bool {
    guard let backup else { return false }
    store = InMemoryServerStore(state: backup)
    setbacks += 1
    return true
  }

  /// Lost for ever; an empty one takes its name.
  func replace() {
    setbacks += 1
    wasReplaced = true
    suppliedBytes = 0
    store = InMemoryServerStore()
    disk = Self.makeDisk(index, setbacks, world)
    mark = nil
    backup = nil
  }

  /// Whether its store answers from an old snapshot.
  func isStale() -> Bool { staleness.chance(world.plan.knobs[.staleLoad]) }

  func has(_ fault: FaultKind) -> Bool { (faultUntil[fault] ?? 0) > world.kernel.now.nanoseconds }
  func take(_ fault: FaultKind) -> Bool { once.remove(fault) != nil }
}
