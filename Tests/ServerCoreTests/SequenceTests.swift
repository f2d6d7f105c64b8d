import JournalModel
import JournalStore
import MerkleLog
import Testing
import WireProtocol

@testable import ServerCore

/// Machines that have one name, one key and one journal, which began alike: clones, and one that was rolled back.
private func clones(_ limits: Limits, _ count: Int = 3) -> [FakeHost] {
  (0..<count).map { clone in
    let host = FakeHost("web1", limits: limits)
    host.isClone = true
    host.bear(FakeHost.uuid(1), "/shared")
    for piece in 0..<9 { host.write(0, text(7 + piece, piece)) }
    // The second and the third have more in common than with the first.
    let salt = clone == 0 ? 1 : 2
    host.bear(FakeHost.uuid(UInt64(10 + salt)), "/a\(salt)")
    for piece in 0..<5 { host.write(1, text(20, salt + piece)) }
    host.bear(FakeHost.uuid(UInt64(20 + clone)), "/b\(clone)")
    for piece in 0..<4 { host.write(2, text(11, clone + piece)) }
    return host
  }
}

/// M1: other records of a journal are kept beside those that are held, whoever comes first, whatever dies.
@Suite struct SequenceTests {
  @Test func `M1 clones' records are held beside the first ones, each once`() throws {
    let limits = smallLimits()
    let world = FakeWorld(hosts: clones(limits), limits: limits)
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
    let rows = try world.store.journals()
    #expect(Set(rows.compactMap { $0.fork?.start }) == [11, 17])
    #expect(world.machine.status.hosts.first?.totals.forks == 2)
    let forked = world.reports.count { if case .forked = $0 { true } else { false } }
    #expect(forked == 2)
  }

  @Test(arguments: UInt64(0)..<60) func `M1 holds among clones in any order of answers, with cuts`(seed: UInt64) {
    let limits = smallLimits()
    let world = FakeWorld(hosts: clones(limits), limits: limits, seed: seed, mode: .random)
    if seed % 2 == 1 { world.cutOneIn = 40 }
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
  }

  @Test func `M1 survives a power cut before every third effect`() {
    let limits = smallLimits()
    expectSurvival(ofPowerCutsEvery: 3, moreThan: 150, mode: .random, limits) { clones(limits, 2) }
  }

  @Test(arguments: UInt64(0)..<40) func `M1 survives many power cuts and failures`(seed: UInt64) {
    let limits = smallLimits()
    expectSurvival(ofFailures: FaultTests.faults + [.loadFails, .loadStale], seed: seed, limits, clones(limits))
  }

  // MARK: By hand

  /// A world in which the first clone's records are held.
  private func held(_ hosts: [FakeHost]) -> FakeWorld {
    let world = FakeWorld.empty()
    let first = ScriptedClient(world, hosts[0])
    send(hosts[0], from: 0, on: first)
    #expect(first.recordsDurable == UInt64(hosts[0].records.count))
    return world
  }

  private func send(_ host: FakeHost, from first: UInt64, on client: ScriptedClient) {
    for first in stride(from: Int(first), to: host.records.count, by: 8) {
      client.send(host.recordFrame(UInt64(first)..<UInt64(min(first + 8, host.records.count))))
      client.settle()
    }
  }

  @Test func `M1 what equals is acknowledged with the host's own checkpoints, the rest begins a sequence`() throws {
    let hosts = clones(smallLimits())
    let world = held(hosts)
    let client = ScriptedClient(world, hosts[1])
    client.send(.journalQuery(length: UInt64(hosts[1].records.count)))
    client.settle()
    guard case .journalAnswer(let heads) = client.frames.last else { return #expect(Bool(false)) }
    // It has 22 records: 1, 2, 4, 8 and 16 before its end.
    #expect(heads.map(\.length) == [6, 14, 18, 20, 21, 22])
    client.send(.extendJournal(hosts[1].head(at: 6)))
    client.send(hosts[1].recordFrame(6..<10))
    client.settle()
    #expect(client.frames.contains(.recordsDurable(hosts[1].checkpoint(at: 10))))
    #expect(try world.store.journals().count == 1)
    send(hosts[1], from: 10, on: client)
    #expect(client.recordsDurable == UInt64(hosts[1].records.count))
    #expect(client.frames.contains(.recordsDurable(hosts[1].checkpoint(at: UInt64(hosts[1].records.count)))))
    #expect(try world.store.journals().map(\.fork) == [nil, ForkPoint(start: 11)])
    #expect(world.histories(of: hosts[0]) == [hosts[0].records, hosts[1].records])
    #expect(client.closed == nil && world.problems == [])
  }

  @Test func `M1 the first connection stays while another goes on with a sequence of its own`() throws {
    let hosts = clones(smallLimits())
    let world = held(hosts)
    let second = ScriptedClient(world, hosts[1])
    second.send(.extendJournal(TreeHead(length: 0, root: .zero)))
    send(hosts[1], from: 0, on: second)
    let first = ScriptedClient(world, hosts[0])
    let own = UInt64(hosts[0].records.count)
    guard case .welcome(let welcome) = first.frames.first else { return #expect(Bool(false)) }
    #expect(welcome.heads == [hosts[0].checkpoint(at: own), hosts[1].checkpoint(at: UInt64(hosts[1].records.count))])
    first.send(.extendJournal(hosts[0].head(at: own)))
    hosts[0].write(0, text(3, 3))
    hosts[1].write(0, text(4, 4))
    send(hosts[0], from: own, on: first)
    send(hosts[1], from: UInt64(hosts[1].records.count) - 1, on: second)
    #expect(first.recordsDurable == UInt64(hosts[0].records.count) && first.closed == nil)
    #expect(second.recordsDurable == UInt64(hosts[1].records.count) && second.closed == nil)
    #expect(world.histories(of: hosts[0]) == [hosts[0].records, hosts[1].records])
    // Another connection of the second one takes over from that, and from no other.
    let again = ScriptedClient(world, hosts[1])
    again.send(.extendJournal(hosts[1].head(at: UInt64(hosts[1].records.count))))
    #expect(second.closed == nil)
    again.send(.resumeQuery([FakeHost.uuid(1)]))
    #expect(second.closed == .superseded && first.closed == nil && again.closed == nil)
    #expect(world.problems == [])
  }

  @Test func `M1 a host that was rolled back goes on where its journal ends`() throws {
    let hosts = clones(smallLimits())
    let world = held(hosts)
    // As the first one was after twelve records.
    let old = FakeHost("web1", limits: smallLimits())
    old.bear(FakeHost.uuid(1), "/shared")
    for piece in 0..<9 { old.write(0, text(7 + piece, piece)) }
    let client = ScriptedClient(world, old)
    client.send(.journalQuery(length: UInt64(old.records.count)))
    client.settle()
    guard case .journalAnswer(let heads) = client.frames.last else { return #expect(Bool(false)) }
    #expect(heads.contains(old.head(at: UInt64(old.records.count))))
    client.send(.extendJournal(old.head(at: UInt64(old.records.count))))
    client.settle()
    #expect(try world.store.journals().count == 1)
    old.write(0, text(5, 50))
    send(old, from: UInt64(old.records.count) - 1, on: client)
    #expect(client.recordsDurable == UInt64(old.records.count))
    #expect(try world.store.journals().last?.fork == ForkPoint(start: UInt64(old.records.count) - 1))
    #expect(world.histories(of: old) == [hosts[0].records, old.records])
    #expect(world.problems == [])
  }

  @Test func `J2 other records that nobody signed begin nothing`() throws {
    let hosts = clones(smallLimits())
    let world = held(hosts)
    let client = ScriptedClient(world, hosts[1])
    client.send(.extendJournal(hosts[1].head(at: 6)))
    guard case .records(var frame) = hosts[1].recordFrame(6..<14) else { return }
    frame.checkpoint.signature[0] ^= 1
    client.send(.records(frame))
    client.settle()
    #expect(client.closed == .badSignature)
    #expect(try world.store.journals().count == 1)
    // And the true ones do.
    let again = ScriptedClient(world, hosts[1])
    again.send(.extendJournal(hosts[1].head(at: 6)))
    send(hosts[1], from: 6, on: again)
    #expect(world.histories(of: hosts[0]) == [hosts[0].records, hosts[1].records])
    #expect(world.problems == [])
  }

  @Test func `W1 records go on from a head that is held, once`() {
    let hosts = clones(smallLimits())
    func refused(_ frames: [Frame], _ code: RefusalCode, _ location: SourceLocation = #_sourceLocation) {
      let world = held(hosts)
      let client = ScriptedClient(world, hosts[1])
      for frame in frames {
        client.send(frame)
        client.settle()
      }
      #expect(client.closed == code, sourceLocation: location)
      #expect(world.histories(of: hosts[0]) == [hosts[0].records], sourceLocation: location)
      #expect(world.problems == [], sourceLocation: location)
    }
    let head = hosts[1].head(at: 6)
    refused([.extendJournal(head), .extendJournal(head)], .protocolViolation)
    refused([.extendJournal(TreeHead(length: 6, root: .zero))], .protocolViolation)
    refused([.extendJournal(TreeHead(length: .max >> 1, root: .zero))], .protocolViolation)
    refused([.extendJournal(head), hosts[1].recordFrame(7..<9)], .protocolViolation)
    refused([.extendJournal(head), hosts[1].recordFrame(2..<5)], .protocolViolation)
    guard case .records(var wrong) = hosts[1].recordFrame(6..<9) else { return }
    wrong.checkpoint = hosts[1].checkpoint(at: 8)
    refused([.extendJournal(head), .records(wrong)], .journalFork)
    // Those of the first are none of its own.
    refused([hosts[1].recordFrame(20..<22)], .protocolViolation)
    hosts[1].write(0, text(5, 5))
    refused([hosts[1].recordFrame(22..<23)], .journalFork)
  }

  @Test func `M1 where several sequences are held a host says which is its own`() {
    let hosts = clones(smallLimits())
    let world = held(hosts)
    let second = ScriptedClient(world, hosts[1])
    second.send(.extendJournal(TreeHead(length: 0, root: .zero)))
    send(hosts[1], from: 0, on: second)
    let client = ScriptedClient(world, hosts[0])
    client.send(hosts[0].recordFrame(0..<4))
    client.settle()
    #expect(client.closed == .protocolViolation)
    #expect(second.closed == nil)
  }

  /// It said hello before anything of the journal was held.
  @Test func `M1 a sequence under another key is no sequence of the journal`() throws {
    let hosts = clones(smallLimits())
    let world = FakeWorld.empty()
    let thief = ScriptedClient(world, hosts[1], hello: false)
    thief.send(.hello(Hello(oldest: 1, newest: 1, host: hosts[1].name, journal: hosts[1].journal, publicKey: .zero)))
    let first = ScriptedClient(world, hosts[0])
    send(hosts[0], from: 0, on: first)
    thief.send(hosts[1].recordFrame(0..<2))
    thief.settle()
    #expect(thief.closed == .journalFork && first.closed == nil)
    #expect(world.histories(of: hosts[0]) == [hosts[0].records])
    #expect(world.machine.status.apartCount == 0 && world.problems == [])
  }

  @Test func `P5 payload on a connection whose journal was set apart meanwhile is dropped`() throws {
    let limits = smallLimits()
    let world = FakeWorld.empty(limits)
    let host = smallAppends(limits)
    let first = ScriptedClient(world, host)
    send(host, from: 0, on: first)
    let second = ScriptedClient(world, host)
    world.poisoned.insert(.journal(host.sequence(0)))
    host.write(0, text(9, 1))
    first.send(host.recordFrame(UInt64(host.records.count - 1)..<UInt64(host.records.count)))
    first.settle()
    #expect(first.closed == .other && second.closed == nil)
    second.payload(0, 0..<5)
    second.settle()
    #expect(second.closed == .other)
    #expect(world.machine.status.pendingBytes == 0 && world.problems == [])
  }

  @Test func `P6 no more than 64 sequences of a journal are held`() throws {
    let limits = smallLimits()
    let world = FakeWorld.empty()
    for clone in 0..<66 {
      let host = FakeHost("web1", limits: limits)
      host.bear(FakeHost.uuid(UInt64(clone + 1)), "/a")
      let client = ScriptedClient(world, host)
      if clone > 0 { client.send(.extendJournal(TreeHead(length: 0, root: .zero))) }
      client.send(host.recordFrame(0..<2))
      client.settle()
      #expect(client.closed == (clone < 64 ? nil : .quota))
      world.feed(.closed(client.id))
      // What reading for it costs is paid by then.
      world.advance(by: .seconds(60))
    }
    #expect(try world.store.journals().count == 64)
    #expect(world.problems == [])
  }

  @Test func `J2 of a held journal at most a frame's worth lies between two kept checkpoints`() throws {
    let limits = smallLimits()
    let host = FakeHost("web1", limits: limits)
    host.bear(FakeHost.uuid(1), "/a")
    for piece in 0..<120 { host.write(0, text(1 + piece % 7, piece)) }
    let world = FakeWorld(hosts: [host], limits: limits, seed: 3, mode: .random)
    world.start()
    #expect(world.run())
    var length: UInt64 = 0
    while length < UInt64(host.records.count) {
      let next = try #require(try world.store.checkpoint(of: host.sequence(0), beyond: length))
      #expect(next == host.checkpoint(at: next.length))
      #expect(next.length - length <= UInt64(limits.recordsPerFrame))
      length = next.length
    }
    #expect(world.verdict() == [])
  }
}
