import JournalModel
import JournalStore
import MerkleLog
import Testing
import WireProtocol

@testable import ServerCore

/// Hosts that have one name, and other bytes under the uuids of one another's files: clones, journals that were lost.
private func clones(_ limits: Limits, _ count: Int = 2) -> [FakeHost] {
  (0..<count).map { clone in
    let host = FakeHost("web1", journal: UInt64(clone + 1), limits: limits)
    host.isClone = true
    // From the first byte on; within a leaf; at its end; far behind; equal; the beginning of the other's.
    let shared = [0, 21, 32, 150, 90]
    for (file, shared) in shared.enumerated() {
      host.bear(FakeHost.uuid(UInt64(file + 1)), "/var/log/\(file).log")
      for piece in pieces(shared) { host.write(file, piece) }
      if file < 4 { host.write(file, text(9 + 37 * clone, 50 + clone)) }
      if file < 4 { host.write(file, text(70, 60 + clone)) }
    }
    host.bear(FakeHost.uuid(6), "/var/log/5.log")
    for piece in pieces(clone == 0 ? 130 : 50) { host.write(5, piece) }
    host.close(3)
    // The second and the third have more in common than with the first.
    host.bear(FakeHost.uuid(7), "/var/log/6.log")
    host.write(6, text(30, clone == 0 ? 20 : 21))
    host.write(6, text(70, clone == 0 ? 20 : 21))
    host.write(6, text(20, 30 + clone))
    return host
  }
}

/// The same lengths are recorded by all.
private func pieces(_ count: Int) -> [[UInt8]] {
  let bytes = text(count, 1)
  return stride(from: 0, to: count, by: 50).map { Array(bytes[$0..<min(count, $0 + 50)]) }
}

/// W3, M1: other bytes for what is held are kept beside it, whoever comes first, whatever dies.
@Suite struct BranchTests {
  @Test func `M1 a clone's bytes are held beside the first ones, each string once`() throws {
    let limits = smallLimits()
    let world = FakeWorld(hosts: clones(limits), limits: limits)
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
    let rows = try world.store.strings()
    // Five files leave one another, one is equal, of one the shorter is the beginning of the longer.
    #expect(rows.count == 7 + 5)
    #expect(rows.compactMap(\.branch).map(\.divergence).sorted() == [0, 0, 21, 32, 150])
    let branched = world.reports.count { if case .branched = $0 { true } else { false } }
    #expect(branched == 5)
    #expect(world.machine.status.hosts.first?.totals.branches == 5)
  }

  @Test func `M1 what two clones share is held once, whatever the first one had`() throws {
    let limits = smallLimits()
    let world = FakeWorld(hosts: clones(limits, 3), limits: limits)
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
    let rows = try world.store.strings().filter { $0.key.key.file == FakeHost.uuid(7) }
    #expect(
      rows.map(\.branch) == [
        nil, BranchPoint(start: 0, divergence: 0), BranchPoint(base: 1, start: 96, divergence: 100),
      ])
  }

  @Test(arguments: UInt64(0)..<60) func `M1 G1 hold among three clones in any order of answers, with cuts`(seed: UInt64)
  {
    let limits = smallLimits()
    let world = FakeWorld(hosts: clones(limits, 3), limits: limits, seed: seed, mode: .random)
    if seed % 2 == 1 { world.cutOneIn = 40 }
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
  }

  @Test func `M1 G5 survive a power cut before every third effect`() {
    let limits = smallLimits()
    expectSurvival(ofPowerCutsEvery: 3, moreThan: 200, mode: .random, limits) { clones(limits) }
  }

  @Test(arguments: UInt64(0)..<40) func `M1 G5 survive many power cuts and failures`(seed: UInt64) {
    let limits = smallLimits()
    expectSurvival(ofFailures: FaultTests.faults, seed: seed, limits, clones(limits, 3))
  }

  // MARK: By hand

  /// A world in which `one` is delivered; a client of `two`, whose records are durable.
  private func delivered(_ one: FakeHost, _ two: FakeHost) -> (FakeWorld, ScriptedClient) {
    let world = FakeWorld.empty()
    let first = ScriptedClient(world, one)
    first.sendRecords()
    first.settle()
    for (index, file) in one.files.enumerated() {
      for start in stride(from: 0, to: file.bytes.count, by: 40) {
        first.payload(index, start..<min(file.bytes.count, start + 40))
      }
      first.settle()
      #expect(first.durable(index) == UInt64(file.bytes.count))
    }
    let client = ScriptedClient(world, two)
    client.sendRecords()
    client.settle()
    return (world, client)
  }

  private func pair(shared: Int, _ one: Int, _ two: Int) -> (FakeHost, FakeHost) {
    let hosts = [one, two].enumerated().map { clone, count in
      let host = FakeHost("web1", journal: UInt64(clone + 1), limits: smallLimits())
      host.bear(FakeHost.uuid(1), "/a")
      host.write(0, text(shared, 1) + text(count, 10 + clone))
      return host
    }
    return (hosts[0], hosts[1])
  }

  @Test func `W3 who doesn't say that its bytes are others is refused, and nothing is begun`() throws {
    let (one, two) = pair(shared: 20, 10, 10)
    let (world, client) = delivered(one, two)
    client.payload(0, 0..<30)
    client.settle()
    #expect(client.refusals == [.conflict])
    #expect(try world.store.strings().count == 1)
    #expect(client.stored(0) == one.files[0].bytes)
    client.send(.resumeQuery([FakeHost.uuid(1)]))
    client.send(.extend(.nothing(of: FakeHost.uuid(1))))
    client.payload(0, 0..<30)
    client.settle()
    #expect(client.durable(0) == 30)
    #expect(try world.store.strings().map(\.start) == [0, 16])
    #expect(client.stored(0) == one.files[0].bytes)
    #expect(world.problems == [])
  }

  @Test func `W3 other bytes that no record signed begin nothing`() throws {
    let (one, two) = pair(shared: 20, 10, 10)
    let (world, client) = delivered(one, two)
    client.send(.extend(.nothing(of: FakeHost.uuid(1))))
    client.payload(0, 0..<30, [UInt8](repeating: 7, count: 30))
    client.settle()
    #expect(client.refusals == [.rootMismatch])
    #expect(try world.store.strings().count == 1)
    #expect(world.machine.status.pendingBytes == 0)
    // And the true ones do, on the same connection.
    client.send(.extend(.nothing(of: FakeHost.uuid(1))))
    client.payload(0, 0..<30)
    client.settle()
    #expect(client.durable(0) == 30)
    #expect(try world.store.strings().count == 2)
    #expect(world.problems == [])
  }

  @Test func `W2 a string goes on where its host says, whatever the others' lengths`() throws {
    let (one, two) = pair(shared: 20, 10, 10)
    let (world, client) = delivered(one, two)
    client.send(.extend(.nothing(of: FakeHost.uuid(1))))
    client.payload(0, 0..<30)
    client.settle()
    two.write(0, text(25, 30))
    let again = ScriptedClient(world, two)
    again.send(two.recordFrame(3..<UInt64(two.records.count)))
    again.send(.resumeQuery([FakeHost.uuid(1)]))
    again.settle()
    let strings = try #require(again.answers.last?.first?.strings)
    #expect(strings.map(\.length) == [30, 30])
    again.send(.extend(DurablePrefix(file: FakeHost.uuid(1), length: 30, root: strings[1].root)))
    again.payload(0, 30..<55)
    again.settle()
    #expect(again.durable(0) == 55)
    #expect(try world.store.strings().map(\.committed) == [30, 55])
    // No string of it has that root.
    again.send(.extend(DurablePrefix(file: FakeHost.uuid(1), length: 30, root: strings[1].root)))
    again.settle()
    #expect(again.refusals == [.busy])
    #expect(world.problems == [])
  }

  @Test func `M1 the beginning of what is held is acknowledged as that`() throws {
    let (one, two) = pair(shared: 45, 30, 0)
    let (world, client) = delivered(one, two)
    client.send(.extend(.nothing(of: FakeHost.uuid(1))))
    client.payload(0, 0..<40)
    client.payload(0, 40..<45)
    client.settle()
    #expect(client.durable(0) == 45)
    #expect(client.refusals == [])
    #expect(try world.store.strings().count == 1)
    #expect(world.machine.status.pendingBytes == 0)
    #expect(world.problems == [])
  }

  @Test func `M1 what is held and more goes on with it`() throws {
    let (one, two) = pair(shared: 45, 0, 30)
    let (world, client) = delivered(one, two)
    client.send(.extend(.nothing(of: FakeHost.uuid(1))))
    client.payload(0, 0..<40)
    client.payload(0, 40..<75)
    client.settle()
    #expect(client.durable(0) == 75)
    #expect(try world.store.strings().map(\.committed) == [75])
    #expect(world.problems == [])
  }

  @Test func `P6 no more than 64 strings of a file are held`() throws {
    let limits = smallLimits()
    let world = FakeWorld.empty()
    for clone in 0..<66 {
      let host = FakeHost("web1", journal: UInt64(clone + 1), limits: limits)
      host.bear(FakeHost.uuid(1), "/a")
      host.write(0, [UInt8(clone)] + text(20, clone))
      let client = ScriptedClient(world, host)
      client.sendRecords()
      client.settle()
      if clone > 0 { client.send(.extend(.nothing(of: FakeHost.uuid(1)))) }
      client.payload(0, 0..<21)
      client.settle()
      #expect(client.refusals == (clone < 64 ? [] : [.quota]))
      world.feed(.closed(client.id))
    }
    #expect(try world.store.strings().count == 64)
    #expect(world.machine.status.pendingBytes == 0)
    #expect(world.problems == [])
  }
}
