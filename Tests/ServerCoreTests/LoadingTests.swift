import JournalModel
import JournalStore
import MerkleLog
import Testing
import WireProtocol

@testable import ServerCore

/// K1: a server's memory follows what is going on. In every test of the server's core one file is kept in memory beside
/// those about which something is going on (`smallLimits`); the answers of the store come at once where the world acts in
/// order, and in any order elsewhere.
@Suite struct LoadingTests {
  private func limits(resident: Int) -> Limits {
    var limits = smallLimits()
    limits.residentStrings = resident
    return limits
  }

  /// Some files, each of some lines.
  private func manyFiles(_ count: Int, _ limits: Limits) -> FakeHost {
    let host = FakeHost("web1", limits: limits)
    for file in 0..<count {
      host.bear(FakeHost.uuid(UInt64(file + 1)), "/\(file)")
      host.write(file, text(7 + file % 60, file))
    }
    return host
  }

  private func promises(inMemoryOf world: FakeWorld) -> Int {
    world.machine.stringIndex.values.reduce(0) { $0 + world.machine.strings[$1].promises.count }
  }

  private func forgetAll(_ world: FakeWorld) {
    for _ in 0..<3 { world.feed(.tick) }
    #expect(world.machine.status.resident == 0)
  }

  private func ready(_ world: FakeWorld, _ host: FakeHost) -> ScriptedClient {
    let client = ScriptedClient(world, host)
    client.sendRecords()
    client.settle()
    return client
  }

  @Test(arguments: [0, 4, 64]) func `K1 memory has what is going on and so many files more`(resident: Int) throws {
    let limits = limits(resident: resident)
    let host = manyFiles(200, limits)
    let world = FakeWorld(hosts: [host], limits: limits)
    world.start()
    #expect(world.run())
    world.advance(by: .seconds(60))
    world.drain()
    #expect(world.machine.status.resident <= resident + 4)
    // All of it comes back when it is needed.
    for file in 0..<200 { host.write(file, text(5, file)) }
    #expect(world.run())
    #expect(world.verdict() == [])
    world.crash(powerCut: true)
    #expect(world.run())
    #expect(world.machine.status.resident <= resident + 4)
    #expect(world.verdict() == [])
  }

  /// Signed lengths that nobody sends bytes for are rows.
  @Test func `K1 what is promised and doesn't come stays out of memory, and is there when it comes`() throws {
    let limits = limits(resident: 2)
    let host = manyFiles(100, limits)
    let world = FakeWorld.empty(limits)
    let client = ScriptedClient(world, host)
    for first in stride(from: 0, to: host.records.count, by: 8) {
      client.send(host.recordFrame(UInt64(first)..<UInt64(min(first + 8, host.records.count))))
      client.settle()
    }
    #expect(world.machine.status.resident <= 6)
    #expect(try world.store.promises().count == 100)
    client.payload(3, 0..<10)
    client.settle()
    #expect(client.durable(3) == 10)
    #expect(world.problems == [])
  }

  @Test func `K1 a reading that fails is tried again and said, and everything waits for it in order`() {
    let world = FakeWorld.empty()
    let client = ready(world, manyFiles(3, smallLimits()))
    let before = world.performed[.loadFails] ?? 0
    world.faults[.loadFails] = [before + 1, before + 2]
    client.payload(0, 0..<7)
    client.send(.ping(nonce: 5))
    client.settle()
    #expect(client.durable(0) == 0 && client.closed == nil)
    #expect(!client.frames.contains(.pong(nonce: 5)))
    #expect(world.reports.filter { if case .storeBlocked = $0 { true } else { false } }.count == 1)
    world.advance(by: world.settings.limits.retry)
    world.advance(by: world.settings.limits.retry)
    client.settle()
    #expect(client.durable(0) == 7)
    #expect(client.frames.contains(.pong(nonce: 5)))
    #expect(world.reports.contains(.storeUnblocked))
    #expect(world.problems == [])
  }

  @Test func `K1 an answer that is older than the last commit is asked for again`() {
    let world = FakeWorld.empty()
    let client = ready(world, manyFiles(3, smallLimits()))
    let before = world.performed[.loadStale] ?? 0
    world.faults[.loadStale] = [before + 1]
    // An older store has no such file: it would be born again, or its payload be refused.
    client.payload(0, 0..<7)
    client.settle()
    #expect(world.performed[.loadStale] == before + 2)
    #expect(client.durable(0) == 7 && client.refusals == [])
    #expect(world.problems == [])
  }

  @Test func `K1 damage found by a reading ends the process with its words`() throws {
    for error in [StoreError.corrupt("strings 77: checksum at byte 3"), .damaged("page"), .failedSync("EIO")] {
      let world = FakeWorld.empty()
      world.readsLate = true
      let client = ScriptedClient(world, manyFiles(1, smallLimits()))
      client.sendRecords()
      world.feed(.unreadable(try #require(world.lastReading), error))
      #expect(world.haltReason?.contains("\(error)") == true)
    }
  }

  @Test func `K1 a row that can't be ends the process, and isn't taken for a file that nobody knows`() throws {
    let world = FakeWorld.empty(limits(resident: 0))
    let client = ready(world, manyFiles(1, smallLimits()))
    forgetAll(world)
    world.readsLate = true
    client.payload(0, 0..<7)
    var row = try world.store.strings()[0]
    row.synced = row.committed + 1
    let answer = StoreAnswer(number: .max, files: [LoadedFile(key: row.key.key, row: row)])
    world.feed(.loaded(try #require(world.lastReading), answer))
    #expect(world.haltReason?.contains("the row of") == true)
    #expect(client.refusals == [])
  }

  @Test func `K1 a frame of records is taken when all that it is about is loaded, and later ones behind it`() throws {
    let limits = limits(resident: 0)
    let host = manyFiles(6, limits)
    let world = FakeWorld.empty(limits)
    let client = ready(world, host)
    forgetAll(world)
    world.readsLate = true
    let first = UInt64(host.records.count)
    for file in 0..<6 { host.write(file, text(3, file)) }
    let held = try world.store.journals()[0].length
    client.send(host.recordFrame(first..<(first + 4)))
    client.send(host.recordFrame((first + 4)..<(first + 6)))
    client.payload(0, 0..<7)
    // Nothing of it is in a commit.
    #expect(try world.store.journals()[0].length == held)
    #expect(client.recordsDurable == held && client.durable(0) == 0)
    client.settle()
    #expect(client.recordsDurable == held + 6)
    #expect(client.durable(0) == 7 && client.closed == nil)
    #expect(client.refusals == [] && world.problems == [])
  }

  /// One that sends on is not read for long, and loses nothing by it.
  @Test func `K1 P6 a connection on which much waits isn't read, nor thought silent`() {
    let world = FakeWorld.empty(limits(resident: 0))
    let client = ready(world, manyFiles(1, smallLimits()))
    forgetAll(world)
    world.readsLate = true
    client.payload(0, 0..<7)
    for nonce in 0..<40 { client.send(.ping(nonce: UInt64(nonce))) }
    #expect(world.paused == [client.id])
    for _ in 0..<8 { world.advance(by: Interval(nanoseconds: world.settings.limits.silence.nanoseconds / 4)) }
    #expect(client.closed == nil && client.pings > 0)
    client.settle()
    #expect(world.paused.isEmpty && client.durable(0) == 7)
    #expect(client.frames.count { if case .pong = $0 { true } else { false } } == 40)
    #expect(world.problems == [])
  }

  @Test func `K1 what came before a connection ended is taken`() {
    let world = FakeWorld.empty(limits(resident: 0))
    let client = ready(world, manyFiles(1, smallLimits()))
    forgetAll(world)
    world.readsLate = true
    client.payload(0, 0..<7)
    world.feed(.closed(client.id))
    client.settle()
    #expect(client.stored(0)?.count == 7)
    #expect(world.machine.status.pendingBytes == 0 && world.machine.status.connections == 0)
  }

  /// The store has the promises, memory the next few: files of many lines that come long after their records.
  @Test(arguments: [1, 2, 5]) func `K4 memory has the next few promises, and what comes meets all of them`(
    window: Int
  ) throws {
    var limits = limits(resident: 0)
    limits.promiseWindow = window
    let host = FakeHost("web1", limits: limits)
    for file in 0..<3 { host.bear(FakeHost.uuid(UInt64(file + 1)), "/\(file)") }
    for line in 0..<60 { for file in 0..<3 { host.write(file, text(1 + (line * 3 + file) % 9, line)) } }
    let world = FakeWorld.empty(limits)
    let client = ScriptedClient(world, host)
    for first in stride(from: 0, to: host.records.count, by: 8) {
      client.send(host.recordFrame(UInt64(first)..<UInt64(min(first + 8, host.records.count))))
      client.settle()
      #expect(promises(inMemoryOf: world) <= 3 * 2 * window)
    }
    #expect(try world.store.promises().count == 180)
    for file in 0..<3 {
      let length = host.files[file].bytes.count
      for from in stride(from: 0, to: length, by: 48) {
        client.payload(file, from..<min(from + 48, length))
        client.settle()
      }
      #expect(client.durable(file) == UInt64(length))
    }
    world.advance(by: .seconds(60))
    world.drain()
    #expect(world.verdict() == [])
  }

  @Test func `K4 what is promised while the window is read isn't missed, whatever commits make durable`() throws {
    let limits = limits(resident: 0)
    let host = FakeHost("web1", limits: limits)
    host.bear(FakeHost.uuid(1), "/0")
    for line in 0..<20 { host.write(0, text(3, line)) }
    let world = FakeWorld.empty(limits)
    let client = ready(world, host)
    forgetAll(world)
    client.payload(0, 0..<9)
    client.settle()
    world.readsLate = true
    // The window ends at 6 or 9: the next bytes ask for more.
    client.payload(0, 9..<27)
    let first = UInt64(host.records.count)
    for line in 20..<30 { host.write(0, text(3, line)) }
    client.send(host.recordFrame(first..<(first + 5)))
    world.drain()
    client.send(host.recordFrame((first + 5)..<(first + 10)))
    client.settle()
    client.payload(0, 27..<60)
    client.settle()
    client.payload(0, 60..<90)
    client.settle()
    #expect(client.durable(0) == 90 && client.refusals == [])
    world.advance(by: .seconds(60))
    world.drain()
    #expect(world.verdict() == [])
  }

  /// A host that signs whatever it likes of one file: in falling order, and many roots of one length.
  @Test func `K4 lengths in any order and roots without end take no memory`() throws {
    let limits = limits(resident: 0)
    let host = FakeHost("web1", limits: limits)
    host.bear(FakeHost.uuid(1), "/0")
    host.write(0, text(30, 1))
    let world = FakeWorld.empty(limits)
    let client = ready(world, host)
    let file = FakeHost.uuid(1)
    var signed: UInt64 = 0
    func sign(_ lengths: [UInt64]) {
      for first in stride(from: 0, to: lengths.count, by: 8) {
        let from = UInt64(host.records.count)
        for length in lengths[first..<min(first + 8, lengths.count)] {
          signed += 1
          let root = Digest(words: signed, 7, 7, 7)
          host.append(.bytesAppended(BytesAppended(file: file, offset: 0, length: length, root: root)), nil)
        }
        client.send(host.recordFrame(from..<UInt64(host.records.count)))
        client.settle()
        #expect(promises(inMemoryOf: world) <= 4 + Promise.mostRoots)
      }
    }
    sign((100..<400).reversed())
    sign([UInt64](repeating: 50, count: 40))
    #expect(try world.store.promises().count == 1 + 300 + 8)
    client.payload(0, 0..<30)
    client.settle()
    #expect(client.durable(0) == 30)
    #expect(world.problems == [])
  }

  @Test func `K1 answers to resume queries come from the store, and load nothing`() throws {
    let limits = limits(resident: 0)
    let host = manyFiles(9, limits)
    let world = FakeWorld(hosts: [host], limits: limits)
    world.start()
    #expect(world.run())
    forgetAll(world)
    let asking = ScriptedClient(world, FakeHost("web1", journal: 2, limits: limits))
    asking.send(.resumeQuery(host.files[3..<6].map(\.uuid)))
    asking.send(.resumeQuery([host.files[8].uuid, FakeHost.uuid(77)]))
    asking.settle()
    let expected = [Array(host.files[3..<6]), [host.files[8]]].map { files in
      files.map {
        HeldFile(file: $0.uuid, strings: [TreeHead(length: UInt64($0.bytes.count), root: $0.tree.root)])
      }
    }
    #expect(asking.answers == [expected[0], expected[1] + [HeldFile(file: FakeHost.uuid(77), strings: [])]])
    #expect(world.machine.status.resident == 0)
  }
}
