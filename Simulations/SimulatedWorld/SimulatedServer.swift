import HostCore
import JournalModel
import JournalStore
import MerkleLog
import ServerCore

/// A server: its disk and its store, which outlive its processes.
package final class SimulatedServer {
  let index: Int
  let name: String
  package let disk: SimulatedDisk
  let store = InMemoryServerStore<SimulatedTree>()
  let settings: ServerSettings
  var process: ServerProcess?
  var lives = 0
  var wallOffset: Int64 = 0
  var faultUntil: [FaultKind: UInt64] = [:]
  var once: Set<FaultKind> = []
  /// The start counter beside the plain files (P3); the other one is in the store.
  var counter: UInt64 = 0
  private unowned let world: World

  init(index: Int, world: World) {
    self.index = index
    name = "logs\(index)"
    self.world = world
    disk = SimulatedDisk(seed: world.plan.seed, name: "server\(index)", isWriteThrough: false)
    disk.pageSize = Int(world.plan.knobs[.pageSize])
    settings = ServerSettings(
      name: name, limits: world.limits, totalCredit: Int(world.plan.knobs[.totalCredit]))
    disk.clock = { [unowned world] in world.wall(.server(index)) }
  }

  func has(_ fault: FaultKind) -> Bool { (faultUntil[fault] ?? 0) > world.kernel.now.nanoseconds }
  func take(_ fault: FaultKind) -> Bool { once.remove(fault) != nil }
}
