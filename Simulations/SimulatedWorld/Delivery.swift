import JournalModel

/// One way to bring all hosts' cargo to a server.
final class Delivery {
  enum Order { case payloadFirst, recordsFirst, any }

  struct Habits {
    var name: String
    var order = Order.any
    /// Hosts come one after the other, the last one first; else side by side.
    var areHostsInTurn = false
    /// How often what was sent is sent again, in millionths.
    var repeats: UInt64 = 0
    /// How often a courier's connection breaks, and the server dies, at most.
    var breaks = 0
    var deaths = 0
    /// How often all payload is brought again when all is held.
    var laps = 0

    static let all = [
      Habits(name: "in order", order: .payloadFirst),
      Habits(name: "records first", order: .recordsFirst, areHostsInTurn: true),
      Habits(name: "mixed"),
      Habits(name: "repeated", repeats: 200_000, laps: 1),
      Habits(name: "reconnected", repeats: 100_000, breaks: 12),
      Habits(name: "through crashes", repeats: 50_000, breaks: 4, deaths: 6, laps: 1),
    ]
  }

  private let habits: Habits
  private let server: Int
  private unowned let world: World
  private let couriers: [Courier]
  private var random: RandomStream
  private var deathsLeft: Int
  /// The virtual time that a delivery may take.
  private static let within: UInt64 = 3_600_000_000_000

  init(_ cargos: [Cargo], to server: Int, _ habits: Habits, _ world: World) {
    self.habits = habits
    self.server = server
    self.world = world
    random = RandomStream(seed: world.plan.seed, entity: "delivery", purpose: habits.name)
    deathsLeft = habits.deaths
    couriers = cargos.map { cargo in
      let stream = RandomStream(
        seed: world.plan.seed, entity: "courier \(cargo.host.name.text)", purpose: habits.name)
      return Courier(cargo, to: server, habits, stream, world)
    }
  }

  var frames: Int { couriers.reduce(0) { $0 + $1.frames } }
  var repeats: Int { couriers.reduce(0) { $0 + $1.repeats } }

  func run() {
    var time = world.kernel.now.nanoseconds
    let deadline = time + Self.within
    while world.oracle.failure == nil, !couriers.allSatisfy(\.isDone) {
      guard time < deadline else {
        let missing = couriers.filter { !$0.isDone }.map(\.missing).joined(separator: "; ")
        return world.oracle.fail(.liveness, "\(habits.name): not delivered: \(missing)")
      }
      time += step() ? random.below(400_000 as UInt64) : 20_000_000
      world.kernel.at(Instant(nanoseconds: time)) {}
      world.advance(to: time)
    }
    for courier in couriers { courier.leave() }
    world.rest()
  }

  private func step() -> Bool {
    if deathsLeft > 0, frames > 0, random.chance(10_000) { kill() }
    let waiting = couriers.filter { !$0.isDone }
    if habits.areHostsInTurn { return waiting.last?.step() ?? false }
    // Each of them tries, the order is drawn.
    var isBusy = false
    for courier in waiting.shuffled(using: &random) where random.chance(700_000) {
      isBusy = courier.step() || isBusy
    }
    return isBusy
  }

  private func kill() {
    deathsLeft -= 1
    if random.chance(500_000) { world.powerCut(.server(server)) } else { world.crash(.server(server)) }
    world.kernel.after(random.below(50_000_000 as UInt64)) { [world, server] in world.start(.server(server)) }
  }
}
