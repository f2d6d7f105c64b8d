import JournalModel
import JournalStore
import WireProtocol

@testable import ServerCore

/// Servers that are one another's peers, each in a world of its own, and what they say to one another: late, in any order
/// among them, until it is cut.
final class FakeFleet {
  private struct End: Hashable {
    var place: Int
    var id: ConnectionID
  }
  private struct Direction {
    var to: End
    var frames: [HostFrame] = []
  }

  let worlds: [FakeWorld]
  private var directions: [End: Direction] = [:]
  private var next: UInt64 = 1 << 40
  var generator: SeededGenerator
  /// Pairs of servers that can't reach one another.
  var partitions: Set<Set<Int>> = []
  /// Payload that came to each server from peers.
  private(set) var suppliedBytes: [Int]
  /// Of which files, in the order in which it was sent.
  private(set) var supplied: [FileUUID] = []
  private(set) var announced = 0
  /// Frames of records that each server sent to peers.
  private(set) var recordFrames: [Int]
  /// One in so many steps a connection between two of them is cut; one of them loses its power.
  var cutOneIn = 0
  var powerCutOneIn = 0
  static let names = ["logs-a", "logs-b", "logs-c"]

  init(_ hosts: [[FakeHost]], limits: Limits, seed: UInt64 = 1, mode: FakeWorld.Mode = .random) {
    generator = SeededGenerator(seed: seed)
    suppliedBytes = hosts.map { _ in 0 }
    recordFrames = suppliedBytes
    worlds = hosts.enumerated().map { place, hosts in
      FakeWorld(
        hosts: hosts, limits: limits, seed: seed &* 31 &+ UInt64(place), mode: mode, name: Self.names[place],
        peers: Self.names.prefix(hosts.count + 3).filter { $0 != Self.names[place] })
    }
    for (place, world) in worlds.enumerated() {
      world.settings.peers = Self.names.prefix(worlds.count).filter { $0 != Self.names[place] }
      world.place = place
      world.fleet = self
    }
  }

  func start() { for world in worlds { world.start() } }

  // MARK: Cables

  func dial(_ peer: Int, from world: FakeWorld) {
    let name = world.settings.peers[peer]
    guard let other = worlds.first(where: { $0.settings.name == name }), other.isServing,
      !partitions.contains([world.place, other.place])
    else { return world.feed(.undialed(peer, "unreachable")) }
    next += 2
    let (here, there) = (
      End(place: world.place, id: ConnectionID(next)), End(place: other.place, id: ConnectionID(next + 1))
    )
    directions[here] = Direction(to: there)
    directions[there] = Direction(to: here)
    other.feed(.accepted(there.id, Peer(names: [], servers: [world.settings.name], address: "here")))
    world.feed(.dialed(peer, here.id, Peer(names: [], servers: [name], address: "there")))
  }

  /// False when it isn't a connection between servers.
  func carry(_ frame: HostFrame, from world: FakeWorld, _ id: ConnectionID) -> Bool {
    guard id.value > 1 << 40 else { return false }
    switch frame {
    case .frame(.announce(let announcement)): announced += announcement.changes.count
    case .frame(.records): recordFrames[world.place] += 1
    case .payload(let header, _): supplied.append(header.file)
    default: break
    }
    directions[End(place: world.place, id: id)]?.frames.append(frame)
    return true
  }

  func cut(_ id: ConnectionID, of world: FakeWorld) { cut(End(place: world.place, id: id), tells: false) }

  func cut(all world: FakeWorld) {
    for end in directions.keys.filter({ $0.place == world.place }).sorted(by: { $0.id < $1.id }) {
      cut(end, tells: false)
    }
  }

  private func cut(_ end: End, tells: Bool) {
    guard let direction = directions.removeValue(forKey: end) else { return }
    directions[direction.to] = nil
    if tells { worlds[end.place].feed(.closed(end.id)) }
    worlds[direction.to.place].feed(.closed(direction.to.id))
  }

  func partition(_ one: Int, _ two: Int) {
    partitions.insert([one, two])
    for end in directions.keys.filter({ $0.place == one && directions[$0]?.to.place == two }) { cut(end, tells: true) }
  }

  // MARK: Turns

  private func deliver(_ end: End) {
    guard var direction = directions[end], !direction.frames.isEmpty else { return }
    let frame = direction.frames.removeFirst()
    directions[end] = direction
    let world = worlds[direction.to.place]
    switch frame {
    case .frame(let frame): world.send(frame, on: direction.to.id)
    case .payload(let header, let bytes):
      suppliedBytes[direction.to.place] += bytes.count
      world.send(header, bytes, on: direction.to.id)
    }
  }

  /// Until all hold the same, and nothing is under way. False when that doesn't come.
  func run(steps: Int = 400_000) -> Bool {
    for _ in 0..<steps {
      if worlds.contains(where: { !$0.complaints.isEmpty || !$0.disk.complaints.isEmpty }) { return false }
      if cutOneIn > 0, Int.random(in: 0..<cutOneIn, using: &generator) == 0,
        let end = directions.keys.min(by: { $0.id < $1.id })
      {
        cut(end, tells: true)
      }
      if powerCutOneIn > 0, Int.random(in: 0..<powerCutOneIn, using: &generator) == 0 {
        worlds[Int.random(in: worlds.indices, using: &generator)].crash(powerCut: true)
      }
      var choices: [() -> Bool] = worlds.map { world in { world.step() } }
      for end in directions.filter({ !$0.value.frames.isEmpty }).keys.sorted(by: { $0.id < $1.id }) {
        choices.append {
          self.deliver(end)
          return true
        }
      }
      if choices[Int.random(in: choices.indices, using: &generator)]() { continue }
      if directions.values.contains(where: { !$0.frames.isEmpty }) { continue }
      if worlds.contains(where: { $0.step() }) { continue }
      if isSettled { return true }
      guard let next = worlds.compactMap(\.deadline).min() else { return false }
      for world in worlds { world.pass(to: next + Interval(nanoseconds: 1)) }
    }
    return false
  }

  var isSettled: Bool { partitions.isEmpty && worlds.allSatisfy(\.isSettled) && differences().isEmpty && areTold }

  /// Each knows that it has all of the other's feed.
  private var areTold: Bool {
    worlds.allSatisfy { world in
      world.machine.links.count == worlds.count - 1
        && world.machine.links.values.allSatisfy {
          $0.intake.count == 0 && $0.intake.held == $0.intake.end && $0.feed.held == $0.feed.last
        }
    }
  }

  /// A copy of a server's store with its plain files.
  func copy(of place: Int) -> (store: InMemoryServerStore<MixHasher>.State, disk: FakeDisk) {
    (worlds[place].store.snapshot(), worlds[place].disk)
  }

  /// The server's node ends, and starts on a copy.
  func put(_ copy: (store: InMemoryServerStore<MixHasher>.State, disk: FakeDisk), in place: Int) {
    worlds[place].store = InMemoryServerStore(state: copy.store)
    worlds[place].disk = copy.disk
    worlds[place].crash(powerCut: false)
  }

  // MARK: What is held

  private func strings(_ world: FakeWorld) -> [FileKey: Set<TreeHead>] {
    var heads: [FileKey: Set<TreeHead>] = [:]
    for row in (try? world.store.strings()) ?? [] where row.isDistinct {
      heads[row.key.key, default: []].insert(row.head)
    }
    return heads
  }

  private func sequences(_ world: FakeWorld) -> [HostJournal: Set<TreeHead>] {
    var heads: [HostJournal: Set<TreeHead>] = [:]
    for row in (try? world.store.journals()) ?? [] {
      heads[row.key.journal, default: []].insert(TreeHead(length: row.length, root: row.checkpoint?.root ?? .zero))
    }
    return heads
  }

  /// In what the servers differ.
  func differences() -> [String] {
    var wrong: [String] = []
    for world in worlds.dropFirst() {
      if strings(world) != strings(worlds[0]) { wrong.append("\(world.settings.name) holds other strings than logs-a") }
      if sequences(world) != sequences(worlds[0]) {
        wrong.append("\(world.settings.name) holds other records than logs-a")
      }
    }
    return wrong
  }

  func verdict() -> [String] {
    var wrong = differences()
    for world in worlds {
      wrong += world.verdict().map { "\(world.settings.name): \($0)" }
      // What no host of its own is there to judge is judged by the rows' roots (`verdict`), and by the others' bytes.
      wrong += world.machine.peers.filter { $0.link == nil }.map {
        "\(world.settings.name) isn't connected to \($0.name)"
      }
    }
    return wrong
  }
}
