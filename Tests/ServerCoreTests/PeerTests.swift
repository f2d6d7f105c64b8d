import JournalModel
import JournalStore
import Testing
import WireProtocol

@testable import ServerCore

/// G4, M1, M3: servers that can reach each other end with equal sets, by whatever way, and move each byte once.
@Suite struct PeerTests {
  /// With room for a few things at a time.
  private func narrowLimits() -> Limits {
    var limits = smallLimits()
    limits.announcementsAhead = 4
    limits.wantsAhead = 2
    limits.payloadPatience = Limits().payloadPatience
    return limits
  }

  private func stories(_ limits: Limits) -> [[FakeHost]] { [[firstStory(limits)], [smallAppends(limits)]] }

  private func expectConvergence(_ fleet: FakeFleet, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(fleet.run(), sourceLocation: sourceLocation)
    #expect(Array(fleet.verdict().prefix(3)) == [], sourceLocation: sourceLocation)
  }

  private func bytes(_ host: FakeHost) -> Int { host.files.reduce(0) { $0 + $1.bytes.count } }

  @Test func `G4 each of two servers gets from the other what its hosts delivered there, each byte once`() throws {
    let limits = smallLimits()
    let fleet = FakeFleet(stories(limits), limits: limits, mode: .inOrder)
    fleet.start()
    expectConvergence(fleet)
    #expect(fleet.suppliedBytes[1] == bytes(firstStory(limits)))
    #expect(fleet.suppliedBytes[0] == bytes(smallAppends(limits)))
  }

  @Test(arguments: UInt64(0)..<16) func `G4 in any order of answers, with cuts`(seed: UInt64) {
    let limits = seed % 2 == 0 ? smallLimits() : narrowLimits()
    let fleet = FakeFleet(seed % 3 == 0 ? stories(limits) + [[]] : stories(limits), limits: limits, seed: seed)
    if seed % 4 > 1 { fleet.cutOneIn = 200 }
    fleet.start()
    expectConvergence(fleet)
  }

  /// What isn't in the window is behind what waits for it.
  @Test(arguments: UInt64(0)..<6) func `M3 many files stand before the journal that promises them`(seed: UInt64) {
    let limits = narrowLimits()
    let host = FakeHost("web1", limits: limits)
    for file in 0..<40 {
      host.bear(FakeHost.uuid(UInt64(file + 1)), "/var/log/\(file).log")
      host.write(file, text(5 + file % 9, file))
    }
    host.bear(FakeHost.uuid(100), "/var/log/last.log")
    let fleet = FakeFleet([[host], []], limits: limits, seed: seed)
    fleet.partitions = [[0, 1]]
    fleet.start()
    _ = fleet.run(steps: 20_000)
    fleet.partitions = []
    expectConvergence(fleet)
  }

  @Test(arguments: UInt64(0)..<4) func `M3 more journals than channels`(seed: UInt64) {
    let limits = smallLimits()
    let hosts = (0..<90).map { number in
      let host = FakeHost("web\(number)", limits: limits)
      host.bear(FakeHost.uuid(UInt64(number + 1)), "/a")
      host.write(0, text(4, number))
      return host
    }
    let fleet = FakeFleet([hosts, []], limits: limits, seed: seed)
    fleet.start()
    expectConvergence(fleet)
  }

  @Test(arguments: UInt64(0)..<10) func `G4 G2 through power cuts of any of them, and failures`(seed: UInt64) {
    let limits = smallLimits()
    let fleet = FakeFleet(stories(limits) + [[]], limits: limits, seed: seed)
    for world in fleet.worlds {
      for fault in FaultTests.faults {
        world.faults[fault] = Set((0..<4).map { _ in Int.random(in: 1...80, using: &world.generator) })
      }
    }
    fleet.cutOneIn = 300
    fleet.powerCutOneIn = 250
    fleet.start()
    _ = fleet.run(steps: 4_000)
    fleet.powerCutOneIn = 0
    fleet.cutOneIn = 0
    expectConvergence(fleet)
  }

  /// Lines of a host come to whom it doesn't reach while a backlog of its is on its way.
  @Test(arguments: UInt64(0)..<6) func `P2 what fits a frame goes beside what is long`(seed: UInt64) throws {
    let limits = smallLimits()
    let host = FakeHost("web1", limits: limits)
    for file in 0..<5 { host.bear(FakeHost.uuid(UInt64(file + 1)), "/\(file)") }
    for piece in 0..<10 { for file in 0..<2 { host.write(file, text(200, piece + file)) } }
    for file in 2..<5 { host.write(file, text(30, file)) }
    let fleet = FakeFleet([[host], []], limits: limits, seed: seed)
    fleet.partitions = [[0, 1]]
    fleet.start()
    _ = fleet.run(steps: 40_000)
    fleet.partitions = []
    expectConvergence(fleet)
    let order = fleet.supplied.reduce(into: [FileUUID]()) { if $0.last != $1 { $0.append($1) } }
    for file in 2..<5 {
      let short = try #require(order.firstIndex(of: FakeHost.uuid(UInt64(file + 1))))
      #expect(short < order.endIndex - 1, "\(order)")
      #expect(order[short...].contains(FakeHost.uuid(1)) || order[short...].contains(FakeHost.uuid(2)))
    }
    // Of long ones one comes after the other.
    let long = fleet.supplied.filter { $0 == FakeHost.uuid(1) || $0 == FakeHost.uuid(2) }
    #expect(zip(long, long.dropFirst()).count { $0 != $1 } == 1)
  }

  // MARK: Bounds

  /// Whatever may be announced or asked for at once, and however the journal moved behind its files in the feed.
  @Test(arguments: [1, 3], UInt64(0)..<6)
  func `M3 P2 equal sets within small bounds, and nobody is accused`(ahead: Int, seed: UInt64) {
    var limits = smallLimits()
    limits.announcementsAhead = ahead
    limits.wantsAhead = ahead
    limits.peerPatience = .milliseconds(20)
    let here = [firstStory(limits), smallAppends(limits), smallAppends(limits, host: "web3")]
    let fleet = FakeFleet([here, [], [smallAppends(limits, host: "web4")]], limits: limits, seed: seed)
    if seed % 2 == 1 { fleet.cutOneIn = 300 }
    fleet.start()
    expectConvergence(fleet)
    fleet.put((InMemoryServerStore<MixHasher>.State(), FakeDisk()), in: 1)
    expectConvergence(fleet)
    expectNobodyAccused(fleet)
  }

  /// P6: who acknowledges what it doesn't read would have all of it in this side's memory.
  @Test func `W6 records that the transport doesn't take are bounded, whatever is acknowledged`() {
    let limits = smallLimits()
    let hosts = (0..<2 * RecordSupply.mostAheadOfAll).map { smallAppends(limits, host: "web\($0)") }
    let fleet = FakeFleet([hosts, []], limits: limits, mode: .inOrder)
    fleet.worlds[0].takesOutput = false
    fleet.start()
    _ = fleet.run(steps: 4_000)
    #expect(fleet.recordFrames[0] == RecordSupply.mostAheadOfAll)
    fleet.worlds[0].takesOutput = true
    expectConvergence(fleet)
  }

  private func expectNobodyAccused(_ fleet: FakeFleet, sourceLocation: SourceLocation = #_sourceLocation) {
    for world in fleet.worlds {
      let accused = world.reports.filter {
        switch $0 {
        case .peerRefused(let peer, .protocolViolation, _): !peer.servers.isEmpty
        default: false
        }
      }
      #expect(Array(accused.prefix(2)) == [], sourceLocation: sourceLocation)
    }
  }

  /// W4: the other side takes no goodbye from somebody who didn't say who he is.
  @Test func `W6 a connection that isn't needed any more is greeted before it ends`() {
    let peer = Peer(names: [], servers: ["logs-b"], address: "there")
    var machine = ServerMachine<MixHasher>(
      settings: ServerSettings(name: "logs-a", peers: ["logs-b"]), verifier: FakeVerifier())
    var effects: [ServerEffect] = []
    for input: ServerInput in [
      .started(journals: [], left: [], totals: [:], counterMatches: true, number: 0), .stop,
      .dialed(0, ConnectionID(7), peer),
    ] {
      machine.step(input, at: Instant(nanoseconds: 1), wall: WallTime(nanoseconds: 1), into: &effects)
    }
    #expect(effects.contains(.dial(0)))
    let said = effects.compactMap { if case .send(ConnectionID(7), let frame) = $0 { frame } else { nil } }
    #expect(said == [.peerHello(PeerHello(oldest: 1, newest: 1, name: "logs-a", cursor: nil))])
    #expect(effects.contains { if case .close(ConnectionID(7), _, _) = $0 { true } else { false } })
  }

  // MARK: Hosts that reach both

  @Test(arguments: UInt64(0)..<6) func `M3 what a host delivers to both itself isn't moved between them`(seed: UInt64) {
    var limits = smallLimits()
    limits.peerPatience = .seconds(3_600)
    limits.peerPatienceMost = .seconds(7_200)
    let fleet = FakeFleet([[firstStory(limits)], [firstStory(limits)]], limits: limits, seed: seed)
    fleet.start()
    expectConvergence(fleet)
    #expect(fleet.suppliedBytes == [0, 0])
  }

  // MARK: Sets

  /// Machines with one name: other bytes under the uuids of one another's files, other records in one journal.
  private func clones(_ limits: Limits, oneJournal: Bool) -> [[FakeHost]] {
    (0..<2).map { clone in
      let host = FakeHost("web1", journal: oneJournal ? 1 : UInt64(clone + 1), limits: limits)
      host.isClone = true
      for (file, shared) in [0, 21, 32, 150].enumerated() {
        host.bear(FakeHost.uuid(UInt64(file + 1)), "/var/log/\(file).log")
        let bytes = text(shared, 1)
        for start in stride(from: 0, to: shared, by: 50) {
          host.write(file, Array(bytes[start..<min(shared, start + 50)]))
        }
      }
      for file in 0..<4 {
        host.write(file, text(9 + 37 * clone, 50 + clone))
        host.write(file, text(70, 60 + clone))
      }
      return [host]
    }
  }

  @Test(arguments: [false, true], UInt64(0)..<6)
  func `M1 both sides of every disagreement are on every server`(oneJournal: Bool, seed: UInt64) throws {
    let limits = smallLimits()
    let fleet = FakeFleet(
      clones(limits, oneJournal: oneJournal) + (seed % 2 == 0 ? [] : [[]]), limits: limits, seed: seed)
    if seed % 3 == 2 { fleet.cutOneIn = 300 }
    fleet.start()
    #expect(fleet.run())
    #expect(fleet.differences() == [])
    for world in fleet.worlds {
      #expect(world.complaints + world.disk.complaints == [])
      #expect(try world.store.strings().count { $0.isDistinct } == 8)
      #expect(try world.store.journals().count == 2)
    }
  }

  // MARK: Lost, replaced, put back

  @Test(arguments: UInt64(0)..<6) func `M3 a server that is replaced by an empty one gets everything`(seed: UInt64) {
    let limits = smallLimits()
    let fleet = FakeFleet([[firstStory(limits)], []], limits: limits, seed: seed)
    fleet.start()
    expectConvergence(fleet)
    // The host is off: what it had delivered comes from the peer.
    fleet.put((InMemoryServerStore<MixHasher>.State(), FakeDisk()), in: 1)
    expectConvergence(fleet)
    #expect(fleet.suppliedBytes[1] >= 2 * bytes(firstStory(limits)))
  }

  @Test(arguments: UInt64(0)..<8)
  func `M3 a server that is put back to a copy gets what it lost, and asks for no more`(
    seed: UInt64
  ) {
    let limits = smallLimits()
    let story = smallAppends(limits)
    let fleet = FakeFleet([[story], []], limits: limits, seed: seed)
    fleet.start()
    _ = fleet.run(steps: 300 + Int(seed) * 40)
    let copy = fleet.copy(of: 1)
    expectConvergence(fleet)
    let before = fleet.suppliedBytes[1]
    fleet.put(copy, in: 1)
    expectConvergence(fleet)
    #expect(fleet.suppliedBytes[1] - before <= bytes(story))
  }

  /// The peer's cursor is one into the lost history: what the server got since under those numbers is not skipped.
  @Test(arguments: UInt64(0)..<12) func `M3 a store that is put back and grew past its peer's cursor is told again`(
    seed: UInt64
  ) {
    let limits = smallLimits()
    let fleet = FakeFleet([[firstStory(limits), smallAppends(limits)], []], limits: limits, seed: seed)
    fleet.start()
    _ = fleet.run(steps: 200 + Int(seed) * 60)
    let copy = fleet.copy(of: 0)
    _ = fleet.run(steps: 600 + Int(seed) * 30)
    fleet.partition(0, 1)
    fleet.put(copy, in: 0)
    // Its hosts deliver again what it lost, in another order.
    _ = fleet.run(steps: 6_000)
    fleet.partitions = []
    expectConvergence(fleet)
  }

  // MARK: Settled

  @Test(arguments: UInt64(0)..<6) func `G4 a server says settled when all that both held is held by both`(seed: UInt64)
  {
    let limits = smallLimits()
    let fleet = FakeFleet(stories(limits) + [[]], limits: limits, seed: seed)
    fleet.start()
    _ = fleet.run(steps: 100 + 40 * Int(seed))
    var held: [FileKey: UInt64] = [:]
    for world in fleet.worlds {
      for row in (try? world.store.strings()) ?? [] { held[row.key.key] = max(held[row.key.key] ?? 0, row.committed) }
    }
    for world in fleet.worlds { world.feed(.settle(token: 1)) }
    for _ in 0..<2_000 where !fleet.worlds.allSatisfy({ $0.settled.contains(1) }) {
      _ = fleet.run(steps: 20)
      for world in fleet.worlds where world.settled.contains(1) {
        for (key, length) in held where world.place == 0 || !fleet.worlds[0].settled.contains(1) {
          #expect(world.store.snapshot().string(key.first)?.committed ?? 0 >= length)
        }
      }
    }
    #expect(fleet.worlds.allSatisfy { $0.settled.contains(1) })
    fleet.partition(0, 1)
    fleet.worlds[0].feed(.settle(token: 2))
    _ = fleet.run(steps: 3_000)
    #expect(!fleet.worlds[0].settled.contains(2))
  }
}
