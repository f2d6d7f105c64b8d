import HostCore
import JournalModel
import JournalStore
import Testing
import WireProtocol

@testable import ServerCore

@Suite struct PayloadTests {
  let host = firstStory(smallLimits())

  /// Records are durable, files are made.
  func ready(_ world: FakeWorld, _ host: FakeHost) -> ScriptedClient {
    let client = ScriptedClient(world, host)
    client.sendRecords()
    client.settle()
    return client
  }

  @Test func `W3 a repeat of equal bytes is a no-op that is acknowledged`() {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    client.payload(0, 0..<35)
    client.settle()
    #expect(client.durable(0) == 35)
    let effects = world.performed[.writeFails]
    client.payload(0, 0..<5)
    client.payload(0, 3..<20)
    client.payload(0, 35..<47)
    client.settle()
    #expect(client.refusals == [])
    #expect(client.durable(0) == 47)
    #expect(world.performed[.writeFails] == effects! + 1)
    #expect(client.stored(0) == Array(host.files[0].bytes[..<47]))
    #expect(world.problems == [])
  }

  @Test func `P3 a plain file that can't be used is refused as that, not as a full disk`() {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    world.faults[.fileUnusable] = [1]
    client.payload(0, 0..<35)
    client.settle()
    // It rode inside the commit: held, and not in its plain file yet.
    #expect(client.durable(0) == 35)
    #expect(world.refusedReports == [.unstorable])
    client.payload(0, 35..<47)
    #expect(client.refusals == [.unstorable])
    #expect(world.problems == [])
  }

  @Test func `W3 held bytes that can't be read back are said, and compared when the host asks anew`() {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    client.payload(0, 0..<35)
    client.settle()
    world.faults[.compareFails] = [1]
    client.payload(0, 4..<10)
    client.settle()
    #expect(client.refusals == [.unstorable])
    #expect(world.refusedReports == [.unstorable])
    client.send(.resumeQuery([host.files[0].uuid]))
    client.payload(0, 4..<47)
    client.settle()
    #expect(client.refusals == [.unstorable])
    #expect(client.durable(0) == 47)
    #expect(world.problems == [])
  }

  @Test func `W3 what overlaps the end is compared below it and taken beyond it`() {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    client.payload(0, 0..<35)
    client.settle()
    client.payload(0, 10..<47)
    client.payload(0, 47..<48)
    client.settle()
    #expect(client.durable(0) == 48)
    #expect(client.stored(0) == host.files[0].bytes)
    #expect(world.machine.status.pendingBytes == 0)
  }

  @Test func `G5 W3 other bytes for a held range change nothing and are reported`() {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    client.payload(0, 0..<35)
    client.settle()
    client.payload(0, 4..<10, [UInt8](repeating: 0xAA, count: 6))
    client.payload(0, 35..<47)
    client.settle()
    #expect(client.refusals == [.conflict])
    #expect(world.refusedReports == [.conflict])
    #expect(client.stored(0) == Array(host.files[0].bytes[..<35]))
    #expect(client.closed == nil)
    // Other files go on; this one after it is asked for anew.
    client.payload(3, 0..<32)
    client.send(.resumeQuery([host.files[0].uuid]))
    client.payload(0, 35..<47)
    client.settle()
    #expect(client.durable(3) == 32)
    #expect(client.durable(0) == 47)
    #expect(world.machine.status.pendingBytes == 0)
  }

  @Test func `W3 bytes that don't hash to a signed root are refused, what was met before them is kept`() {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    client.payload(0, 0..<5)
    client.payload(0, 5..<35, [UInt8](repeating: 1, count: 30))
    client.settle()
    // They may be meant by one of the lengths that follow within an extent.
    #expect(client.refusals == [])
    client.payload(0, 35..<47)
    client.settle()
    #expect(client.refusals == [])
    client.payload(0, 47..<48)
    client.settle()
    #expect(client.refusals == [.rootMismatch])
    #expect(client.durable(0) == 5)
    client.payload(0, 35..<47)
    client.settle()
    #expect(client.durable(0) == 5)
    client.send(.resumeQuery([host.files[0].uuid]))
    #expect(client.answers.last?.first?.strings == [TreeHead(length: 5, root: host.files[0].roots[5]!)])
    client.payload(0, 5..<48)
    client.settle()
    #expect(client.durable(0) == 48)
    #expect(client.stored(0) == host.files[0].bytes)
    #expect(world.machine.status.pendingBytes == 0)
  }

  @Test func `G5 bytes at the end of the road that lie are discarded without a trace`() {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    client.payload(1, 0..<48, [UInt8](repeating: 9, count: 48))
    client.payload(1, 48..<96)
    client.payload(1, 96..<144)
    for start in stride(from: 144, to: 253, by: 40) { client.payload(1, start..<min(253, start + 40)) }
    client.settle()
    #expect(client.refusals == [.rootMismatch])
    #expect(client.stored(1) == [])
    #expect(world.machine.status.pendingBytes == 0)
  }

  @Test func `W4 refusals concern one file: unknown, unrecorded, with a hole`() {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    let unknown = PayloadHeader(file: FakeHost.uuid(99), offset: 0, length: 4)
    world.send(unknown, [1, 2, 3, 4], on: client.id)
    world.send(unknown, [1, 2, 3, 4], on: client.id)
    #expect(client.refusals == [.unknownFile])
    client.payload(0, 10..<20)
    #expect(client.refusals == [.unknownFile, .protocolViolation])
    let beyond = PayloadHeader(file: host.files[3].uuid, offset: 32, length: 4)
    world.send(beyond, [1, 2, 3, 4], on: client.id)
    #expect(client.refusals == [.unknownFile, .protocolViolation, .unknownFile])
    client.payload(1, 0..<48)
    client.payload(1, 48..<96)
    client.payload(1, 96..<144)
    client.payload(1, 144..<150)
    client.settle()
    #expect(client.closed == nil)
    #expect(client.durable(1) == 150)
    #expect(world.machine.status.pendingBytes == 0)
    #expect(world.problems == [])
  }

  @Test(
    arguments: [
      (UInt64.max, 1), (UInt64.max - 3, 4), (UInt64(Int64.max), 48), (0, 49), (0, 0), (0, -5), (5, Int.max),
      (.max, .min),
    ] as [(UInt64, Int)]) func `lying offsets and lengths are refused`(offset: UInt64, length: Int)
  {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    client.world.send(PayloadHeader(file: host.files[0].uuid, offset: offset, length: length), [1], on: client.id)
    client.settle()
    #expect(client.closed == .protocolViolation || client.refusals == [.unknownFile])
    #expect(world.machine.status.pendingBytes == 0)
    #expect(world.problems == [])
  }

  @Test func `P2 payload beyond the credit ends the connection, and memory is given back`() {
    let limits = smallLimits()
    let world = FakeWorld.empty(limits)
    let host = FakeHost("web1", limits: limits)
    host.bear(FakeHost.uuid(1), "/huge")
    host.write(0, text(2_000, 1))
    let client = ready(world, host)
    #expect(client.credit == 48)
    var offset = 0
    while client.closed == nil, offset < 2_000 {
      client.payload(0, offset..<(offset + 40))
      offset += 40
      #expect(world.machine.status.pendingBytes <= 48 + 512)
    }
    #expect(client.closed == .protocolViolation)
    #expect(offset == 600)
    client.settle()
    #expect(world.machine.status.pendingBytes == 0)
    #expect(world.problems == [])
  }

  @Test func `P2 credit comes back with what is committed or dropped`() {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    for offset in stride(from: 0, to: 240, by: 40) {
      client.payload(1, offset..<(offset + 40))
      client.settle()
    }
    // The extent that was begun can be brought to its end.
    #expect(client.credit >= 250)
    #expect(client.durable(1) == 160)
  }

  @Test func `J4 a gap gives up a half-sent extent`() {
    let limits = smallLimits()
    let world = FakeWorld.empty()
    let host = FakeHost("web1", limits: limits)
    host.bear(FakeHost.uuid(1), "/a")
    host.write(0, text(20, 1))
    host.write(0, text(30, 2))
    let client = ready(world, host)
    client.payload(0, 0..<40)
    client.settle()
    #expect(client.durable(0) == 20)
    #expect(world.machine.status.pendingBytes == 20)
    let gap = Gap(
      subject: .file(host.files[0].uuid), lower: 20, upper: 50, reason: .truncated, provenLength: 0,
      provenRoot: MixHasher.empty)
    let first = UInt64(host.records.count)
    host.append(.gap(gap), nil)
    client.sendRecords(from: first)
    client.settle()
    #expect(world.machine.status.pendingBytes == 0)
    #expect((try? world.store.strings())?.first?.gapFrom == 20)
    #expect(world.reports.contains(.gap(host.name, gap)))
    // What was on its way by then is no violation.
    client.payload(0, 40..<50)
    client.settle()
    #expect(client.refusals == [.busy])
    // It is still taken if it comes.
    client.send(.resumeQuery([FakeHost.uuid(1)]))
    client.payload(0, 20..<50)
    client.settle()
    #expect(client.durable(0) == 50)
  }

  @Test func `a closed file that grows again is open, and a gap that was filled is none (J4)`() {
    let world = FakeWorld.empty()
    let host = FakeHost("web1", limits: smallLimits())
    host.bear(FakeHost.uuid(1), "/a")
    host.write(0, text(20, 1))
    host.close(0)
    let gap = Gap(
      subject: .file(host.files[0].uuid), lower: 10, upper: 30, reason: .vanished, provenLength: 0,
      provenRoot: MixHasher.empty)
    host.append(.gap(gap), nil)
    let client = ready(world, host)
    client.settle()
    var row: StoredString? { (try? world.store.strings())?.first }
    #expect(row?.closed == .deleted && row?.gapFrom == 10 && world.machine.status.hosts.first?.totals.open == 0)
    client.payload(0, 0..<20)
    client.settle()
    // What was never journaled is still lacking.
    #expect(row?.closed == .deleted && row?.gapFrom == 20)
    var sent = UInt64(host.records.count)
    host.write(0, text(30, 2))
    client.sendRecords(from: sent)
    client.payload(0, 20..<50)
    client.settle()
    #expect(row?.closed == nil && row?.gapFrom == nil && world.machine.status.hosts.first?.totals.open == 1)
    world.crash(powerCut: false)
    #expect(world.machine.status.hosts.first?.totals.open == 1)
    // A statement about less than is recorded comes from a journal that fell behind.
    let other = FakeHost("web1", journal: 2, limits: smallLimits())
    other.bear(FakeHost.uuid(1), "/a")
    other.write(0, text(20, 1))
    other.close(0)
    let late = ready(world, other)
    late.settle()
    #expect(row?.closed == nil)
    sent = UInt64(host.records.count)
    host.close(0)
    let again = ScriptedClient(world, host)
    again.sendRecords(from: sent)
    again.settle()
    #expect(row?.closed == .deleted && world.machine.status.hosts.first?.totals.open == 0)
    #expect(world.problems == [])
  }

  @Test func `a second birth of a uuid is only a record, the first facts stay`() {
    let limits = smallLimits()
    let world = FakeWorld.empty()
    let lost = FakeHost("web1", journal: 1, limits: limits)
    lost.bear(FakeHost.uuid(1), "/a")
    lost.write(0, text(20, 1))
    let client = ready(world, lost)
    client.payload(0, 0..<20)
    client.settle()
    // The journal is lost; the same inode gives the same uuid under another name.
    let anew = FakeHost("web1", journal: 2, limits: limits)
    anew.bear(FakeHost.uuid(1), "/b", born: 5)
    anew.write(0, text(20, 1) + text(10, 2))
    anew.write(0, text(12, 3))
    let next = ready(world, anew)
    next.send(.resumeQuery([FakeHost.uuid(1)]))
    #expect(
      next.answers == [
        [HeldFile(file: FakeHost.uuid(1), strings: [TreeHead(length: 20, root: lost.files[0].roots[20]!)])]
      ])
    next.payload(0, 20..<42)
    next.settle()
    #expect(next.durable(0) == 42)
    let rows = (try? world.store.strings()) ?? []
    #expect(rows.count == 1)
    #expect(rows.first?.path == BytePath("/a"))
    #expect(rows.first?.recorded == 42)
    #expect(next.stored(0) == anew.files[0].bytes)
    #expect(world.problems == [])
  }

  @Test func `M1 K4 of two signed roots of one length bytes may have either, and the first bytes stay`() {
    let limits = smallLimits()
    let world = FakeWorld.empty()
    let one = FakeHost("web1", journal: 1, limits: limits)
    one.bear(FakeHost.uuid(1), "/a")
    one.write(0, text(20, 1))
    let two = FakeHost("web1", journal: 2, limits: limits)
    two.bear(FakeHost.uuid(1), "/a")
    two.write(0, text(20, 2))
    two.write(0, text(5, 2))
    let first = ready(world, one)
    let second = ready(world, two)
    #expect(world.refusedReports == [.conflict])
    #expect(second.recordsDurable == 4)
    second.payload(0, 0..<20)
    second.settle()
    #expect(second.durable(0) == 20)
    first.payload(0, 0..<20)
    first.settle()
    #expect(first.refusals == [.conflict])
    second.payload(0, 20..<25)
    second.settle()
    #expect(second.durable(0) == 25 && second.refusals == [])
    #expect(first.stored(0) == two.files[0].bytes)
  }

  @Test func `J4 a root that nobody can meet doesn't block a later one`() {
    let limits = smallLimits()
    let world = FakeWorld.empty()
    let one = FakeHost("web1", journal: 1, limits: limits)
    one.bear(FakeHost.uuid(1), "/a")
    one.write(0, text(20, 1))
    let two = FakeHost("web1", journal: 2, limits: limits)
    two.bear(FakeHost.uuid(1), "/a")
    two.write(0, text(30, 2))
    _ = ready(world, one)
    let client = ready(world, two)
    client.payload(0, 0..<25)
    client.settle()
    client.payload(0, 25..<30)
    client.settle()
    #expect(client.refusals == [])
    #expect(client.durable(0) == 30)
    #expect(client.stored(0) == two.files[0].bytes)
    // It waits for other bytes, as long as it costs.
    #expect((try? world.store.promises().map(\.length)) == [20])
  }

  /// The unmet bytes would use up the credit, and every other file of the connection would stand still.
  @Test func `J4 a later root beyond an extent isn't waited for`() {
    let limits = smallLimits()
    let world = FakeWorld.empty()
    let host = FakeHost("web1", limits: limits)
    host.bear(FakeHost.uuid(1), "/a")
    for piece in 0..<3 { host.write(0, text(200, piece)) }
    let client = ready(world, host)
    let other = text(200, 99)
    for offset in stride(from: 0, to: 200, by: 40) {
      client.payload(0, offset..<(offset + 40), Array(other[offset..<(offset + 40)]))
    }
    client.settle()
    #expect(client.refusals == [.rootMismatch])
    client.send(.resumeQuery([FakeHost.uuid(1)]))
    for offset in stride(from: 0, to: 200, by: 40) {
      client.payload(0, offset..<(offset + 40), Array(other[offset..<(offset + 40)]))
    }
    client.settle()
    #expect(client.refusals == [.rootMismatch, .rootMismatch])
    #expect(world.machine.status.pendingBytes == 0)
    #expect(client.credit >= 400 + 256)
    #expect(world.problems == [])
  }

  @Test func `a file that another connection delivers is busy`() {
    let limits = smallLimits()
    let world = FakeWorld.empty()
    let one = FakeHost("web1", journal: 1, limits: limits)
    one.bear(FakeHost.uuid(1), "/a")
    one.write(0, text(40, 1))
    let two = FakeHost("web1", journal: 2, limits: limits)
    two.bear(FakeHost.uuid(1), "/a")
    two.write(0, text(40, 1))
    let first = ready(world, one)
    let second = ready(world, two)
    first.payload(0, 0..<10)
    second.payload(0, 0..<10)
    #expect(second.refusals == [.busy])
    second.send(.resumeQuery([FakeHost.uuid(1)]))
    #expect(second.answers.count == 1)
    // The first connection ends: what no promise reaches is given up, and the other takes over.
    world.feed(.closed(first.id))
    second.send(.resumeQuery([FakeHost.uuid(1)]))
    second.payload(0, 0..<40)
    second.settle()
    #expect(second.durable(0) == 40)
    #expect(world.machine.status.pendingBytes == 0)
  }

  @Test func `W2 a resume answer waits for bytes on their way`() {
    let world = FakeWorld.empty()
    let client = ready(world, host)
    client.payload(0, 0..<35)
    world.feed(.closed(client.id))
    let next = ScriptedClient(world, host)
    next.send(.resumeQuery([host.files[0].uuid, FakeHost.uuid(77), host.files[3].uuid]))
    #expect(next.answers == [])
    next.settle()
    #expect(
      next.answers == [
        [
          HeldFile(file: host.files[0].uuid, strings: [TreeHead(length: 35, root: host.files[0].roots[35]!)]),
          HeldFile(file: FakeHost.uuid(77), strings: []), HeldFile(file: host.files[3].uuid, strings: []),
        ]
      ])
  }

  @Test func `P6 a host can't hold more memory than its own share`() {
    let limits = smallLimits()
    let world = FakeWorld.empty(limits, totalCredit: 600)
    var clients: [ScriptedClient] = []
    for journal in 1...6 {
      let host = FakeHost("web1", journal: UInt64(journal), limits: limits)
      host.bear(FakeHost.uuid(UInt64(journal)), "/f\(journal)")
      host.write(0, text(2_000, journal))
      clients.append(ready(world, host))
    }
    for client in clients {
      for offset in stride(from: 0, to: 400, by: 40) where client.closed == nil {
        client.payload(0, offset..<(offset + 40))
      }
    }
    #expect(world.machine.status.pendingBytes <= 1_024)
    let other = ready(world, smallAppends(limits))
    other.payload(0, 0..<18)
    other.settle()
    #expect(other.durable(0) == 18)
  }
}

@Suite struct PlainFileTests {
  let born = WallTime(nanoseconds: 1_700_000_000_000_000_000)

  @Test func `P1 a name that someone else has is left alone, whenever the power fails`() {
    let limits = smallLimits()
    var index = 0
    while true {
      let host = firstStory(limits)
      let world = FakeWorld(hosts: [host], limits: limits, seed: UInt64(index), mode: .random)
      let file = host.files[0]
      let names = (0..<2).map {
        StoredName<MixHasher>.plain(host: host.name, path: file.path, born: born, file: file.uuid, attempt: $0)
      }
      for name in names { world.disk.plant(name, [1, 2, 3]) }
      world.crashAt = index
      world.start()
      #expect(world.run())
      #expect(world.verdict() == [])
      for name in names { #expect(world.disk[name]?.cache == [1, 2, 3], "crash before effect \(index)") }
      if world.crashes == 0 { break }
      index += 1
    }
  }

  @Test func `P3 nothing is cut when the start counters differ`() {
    let limits = smallLimits()
    let world = FakeWorld(hosts: [firstStory(limits)], limits: limits)
    world.start()
    #expect(world.run())
    let rows = (try? world.store.strings()) ?? []
    let restored = InMemoryServerStore<MixHasher>(state: world.store.snapshot())
    let grown = (world.disk[rows[0].stored]?.cache ?? []) + [7, 7]
    world.disk.plant(rows[0].stored, grown)
    let later = FakeWorld(hosts: [], limits: limits)
    later.disk = world.disk
    later.store = restored
    later.start(counterMatches: false)
    later.drain()
    #expect(later.reports.contains { if case .setAside = $0 { true } else { false } })
    #expect(later.disk.setAside.first.flatMap { later.disk[$0]?.cache } == grown)
    #expect(later.machine.status.isServing)
  }

  @Test func `P3 the start counter stays behind until every plain file beside an old store is repaired`() {
    func isCounting(_ world: FakeWorld) -> Bool { world.machine.mayCountOn }
    let limits = smallLimits()
    let world = FakeWorld(hosts: [firstStory(limits)], limits: limits)
    world.start()
    #expect(world.run())
    #expect(isCounting(world))
    let rows = (try? world.store.strings()) ?? []
    let grown = (world.disk[rows[0].stored]?.cache ?? []) + [7, 7]
    world.disk.plant(rows[0].stored, grown)
    let later = FakeWorld(hosts: [], limits: limits)
    later.disk = world.disk
    later.store = InMemoryServerStore<MixHasher>(state: world.store.snapshot())
    later.faults[.repairFails] = [1]
    later.start(counterMatches: false)
    later.drain()
    // Served with a file that isn't repaired: a crash now must not find the counters equal.
    #expect(later.machine.status.isServing)
    #expect(!isCounting(later))
    later.advance(by: .seconds(60))
    later.drain()
    #expect(later.disk.setAside.count == 1)
    #expect(isCounting(later))
  }

  @Test func `P1 latest leads to the youngest, also after restarts`() {
    let limits = smallLimits()
    let host = FakeHost("web1", limits: limits)
    host.bear(FakeHost.uuid(1), "/a", born: 2_000)
    host.bear(FakeHost.uuid(2), "/a", born: 9_000)
    host.bear(FakeHost.uuid(3), "/a", born: 5_000)
    let world = FakeWorld(hosts: [host], limits: limits)
    world.start()
    #expect(world.run())
    let name = BytePath("latest/web1/a")
    let youngest = (try? world.store.strings())?.first { $0.born.nanoseconds == 9_000 }?.stored
    #expect(youngest != nil && world.disk.links[name] == youngest)
    world.crash(powerCut: false)
    #expect(world.run())
    #expect(world.disk.links[name] == youngest)
  }

  @Test func `P1 a birth in the future gives way to the next one that is heard of`() {
    let host = FakeHost("web1", limits: smallLimits())
    let world = FakeWorld(hosts: [host], limits: smallLimits())
    world.start()
    host.bear(FakeHost.uuid(1), "/a", born: .max)
    #expect(world.run())
    func stored(_ file: UInt64) -> BytePath? {
      (try? world.store.strings())?.first { $0.key.key.file == FakeHost.uuid(file) }?.stored
    }
    let name = BytePath("latest/web1/a")
    #expect(world.disk.links[name] == stored(1))
    world.wall.nanoseconds += 1
    // Its host's clock is right by now; the path's other spelling has the same name.
    host.bear(FakeHost.uuid(2), "//a", born: world.wall.nanoseconds)
    #expect(world.run())
    #expect(world.disk.links[name] == stored(2))
    for _ in 0..<2 {
      world.crash(powerCut: false)
      #expect(world.run())
      #expect(world.disk.links[name] == stored(2))
    }
    // What was born long ago and is heard of only now isn't newer.
    host.bear(FakeHost.uuid(3), "/a", born: 5)
    #expect(world.run())
    #expect(world.disk.links[name] == stored(2))
  }

  @Test func `P5 what the store refuses by itself is set apart, and the rest goes on`() {
    let limits = smallLimits()
    let world = FakeWorld.empty(limits)
    let (bad, good) = (smallAppends(limits, host: "web1"), smallAppends(limits, host: "web2"))
    let file = StringKey(key: FileKey(host: bad.name, file: bad.files[1].uuid), string: 0)
    func deliver(_ host: FakeHost) -> ScriptedClient {
      let client = ScriptedClient(world, host)
      for first in stride(from: 0, to: host.records.count, by: 8) where client.closed == nil {
        client.send(host.recordFrame(UInt64(first)..<UInt64(min(first + 8, host.records.count))))
        client.settle()
      }
      for index in host.files.indices where client.closed == nil {
        client.payload(index, 0..<host.files[index].bytes.count / 3)
      }
      return client
    }
    let one = deliver(bad)
    world.poisoned = [.string(file)]
    let other = deliver(good)
    one.settle()
    // One file of one host: refused with its reason, named once; its records and all others are stored.
    #expect(one.durable(0) > 0 && one.durable(2) > 0 && one.durable(1) == 0)
    #expect(one.refusals == [.other] && one.closed == nil)
    #expect((0..<3).allSatisfy { other.durable($0) > 0 })
    #expect(world.machine.status.apartCount == 1 && world.machine.status.blocked == nil && world.haltReason == nil)
    // A journal: nothing of its host that isn't durable counts, others go on.
    world.poisoned.insert(.journal(bad.sequence(0)))
    let first = UInt64(bad.records.count)
    bad.write(0, text(9, 1))
    one.sendRecords(from: first)
    one.payload(0, Int(one.durable(0))..<bad.files[0].bytes.count - 40)
    one.settle()
    #expect(one.closed == .other && one.recordsDurable == first)
    let after = UInt64(good.records.count)
    good.write(0, text(5, 1))
    other.sendRecords(from: after)
    other.settle()
    #expect(other.recordsDurable == after + 1 && other.closed == nil)
    #expect(ScriptedClient(world, bad).closed == .other)
    // A start tries it again.
    world.poisoned = []
    world.crash(powerCut: true)
    #expect(world.machine.status.apartCount == 0)
    #expect(world.problems == [])
  }

  /// Its records would be durable without what they promise, and nobody would tell of that again.
  @Test func `P5 G1 a journal beside one that is set apart, about the same file, waits for a start as well`() {
    let limits = smallLimits()
    let world = FakeWorld.empty(limits)
    let hosts = (1...2).map { number in
      let host = FakeHost("web1", journal: UInt64(number), limits: limits)
      host.isClone = true
      host.bear(FakeHost.uuid(1), "/var/log/a.log")
      host.write(0, text(20, 1))
      if number == 2 { host.write(0, text(10, 2)) }
      return host
    }
    world.poisoned = [.string(StringKey(key: FileKey(host: hosts[0].name, file: hosts[0].files[0].uuid), string: 0))]
    for host in hosts {
      let client = ScriptedClient(world, host)
      client.sendRecords(from: 0)
      client.settle()
      #expect(client.closed == .other && client.recordsDurable == nil)
    }
    world.poisoned = []
    world.crash(powerCut: true)
    for host in hosts {
      let client = ScriptedClient(world, host)
      client.sendRecords(from: 0)
      client.payload(0, 0..<host.files[0].bytes.count)
      client.settle()
      #expect(client.closed == nil && client.durable(0) == UInt64(host.files[0].bytes.count))
    }
    #expect(world.problems == [])
  }

  @Test func `P4 a failed sync of the store or of a file stops everything`() {
    for input in [
      ServerInput.committed(.failedSync("EIO")), .committed(.damaged("page")),
    ] {
      let world = FakeWorld.empty()
      let client = ScriptedClient(world, firstStory(smallLimits()))
      client.sendRecords()
      client.payload(0, 0..<5)
      world.feed(input)
      #expect(world.haltReason != nil)
      let frames = client.frames.count
      client.payload(0, 5..<35)
      client.send(.ping(nonce: 1))
      world.feed(.tick)
      #expect(client.frames.count == frames)
      #expect(world.machine.nextDeadline == nil)
    }
  }
}
