import HostCore
import JournalModel
import Testing
import WireProtocol

@testable import ServerCore

/// Credit divides what memory there is (P2): with any number of hosts it stays within the pool, and everybody gets on.
@Suite struct CreditTests {
  private static var limits: Limits {
    var limits = smallLimits()
    limits.leafSize = 64
    limits.extentSize = 512
    limits.payloadFrameSize = 128
    limits.connectionCredit = 4_096
    return limits
  }
  private static let pool = 256 << 10

  /// A backlog of whole extents beside a few lines.
  private static func host(_ number: Int) -> FakeHost {
    let host = FakeHost("web\(number)", limits: limits)
    host.chunk = 128
    host.isGreedy = true
    host.bear(FakeHost.uuid(UInt64(number * 4 + 1)), "/backlog")
    host.bear(FakeHost.uuid(UInt64(number * 4 + 2)), "/other")
    host.bear(FakeHost.uuid(UInt64(number * 4 + 3)), "/lines")
    host.write(0, text(512, number))
    host.write(1, text(300, number))
    for part in 0..<3 { host.write(2, text(9, part)) }
    return host
  }

  @Test func `1,000 hosts that catch up at once stay within the pool, and all get on (P2 P6)`() {
    let hosts = (0..<1_000).map(Self.host)
    let world = FakeWorld(hosts: hosts, limits: Self.limits, totalCredit: Self.pool)
    world.start()
    let isSettled = world.runInRounds()
    #expect(isSettled)
    #expect(world.mostPending <= Self.pool && world.mostPending > Self.pool / 4)
    // Turns end by what was sent, not by their time: nobody is refused.
    #expect(hosts.allSatisfy { $0.refusals.isEmpty })
    #expect(world.verdict() == [])
  }

  @Test func `hosts that take credit and stall keep nobody else from getting on (P2 P6)`() {
    let hosts = (0..<100).map(Self.host)
    let world = FakeWorld(hosts: hosts, limits: Self.limits, totalCredit: 16 << 10)
    world.start()
    // Each begins an extent and takes a turn for it, then only pings.
    let stalling = (1_000..<1_100).map(Self.host).map { host in
      let client = ScriptedClient(world, host)
      client.sendRecords()
      client.payload(0, 0..<32)
      client.settle()
      return client
    }
    var last = world.now
    func stall() {
      guard world.now - last >= .milliseconds(1_000) else { return }
      last = world.now
      for client in stalling where client.closed == nil {
        client.send(.ping(nonce: 1))
        let sent = client.sent
        if client.credit > sent, sent < 480 { client.payload(0, Int(sent)..<(Int(sent) + 1)) }
      }
    }
    let isSettled = world.runInRounds(others: stall)
    #expect(isSettled)
    #expect(world.mostPending <= 16 << 10)
    // Of those who stall promises are left.
    #expect(world.verdict().allSatisfy { $0 == "promises are left" })
  }

  @Test
  func `who begins an extent and sends nothing more of it leaves its turn after the silence, not after three (P2 G3)`()
  {
    let world = FakeWorld.empty(Self.limits, totalCredit: 4_096)
    let stalling = (0..<4).map(Self.host).map { host in
      let client = ScriptedClient(world, host)
      client.sendRecords()
      client.payload(0, 0..<32)
      client.settle()
      return client
    }
    let waiting = ScriptedClient(world, Self.host(9))
    waiting.sendRecords()
    waiting.payload(0, 0..<32)
    waiting.settle()
    let before = waiting.credit
    let end = world.now + Self.limits.silence + .seconds(2)
    while world.now < end {
      world.advance(by: .milliseconds(500))
      for client in stalling + [waiting] { client.send(.ping(nonce: 1)) }
      world.drain()
    }
    #expect(waiting.credit > before)
  }

  @Test func `a line is taken while others have all turns (F4 P6)`() {
    let world = FakeWorld.empty(Self.limits, totalCredit: 16 << 10)
    let busy = (0..<50).map(Self.host).map { host in
      let client = ScriptedClient(world, host)
      client.sendRecords()
      client.payload(0, 0..<32)
      return client
    }
    #expect(busy.contains { $0.credit > 500 })
    let other = ScriptedClient(world, Self.host(99))
    other.sendRecords()
    other.payload(2, 0..<27)
    other.settle()
    #expect(other.durable(2) == 27)
    #expect(world.problems == [])
  }

  @Test func `bytes that come although a gap excused them get the credit that they need (J4)`() {
    let world = FakeWorld.empty(Self.limits, totalCredit: 16 << 10)
    let host = FakeHost("web1", limits: Self.limits)
    host.bear(FakeHost.uuid(1), "/a")
    host.write(0, text(512, 1))
    let gap = Gap(
      subject: .file(host.files[0].uuid), lower: 0, upper: 512, reason: .vanished, provenLength: 0,
      provenRoot: MixHasher.empty)
    host.append(.gap(gap), nil)
    let client = ScriptedClient(world, host)
    client.sendRecords()
    for offset in stride(from: 0, to: 512, by: 64) { client.payload(0, offset..<(offset + 64)) }
    client.settle()
    #expect(client.closed == nil && client.durable(0) == 512)
  }

  /// What lies beyond `lower` of the first file is a gap.
  private func recordUnreadable(_ host: FakeHost, from lower: UInt64) {
    let gap = Gap(
      subject: .file(host.files[0].uuid), lower: lower, upper: .max, reason: .unreadable, provenLength: 0,
      provenRoot: MixHasher.empty)
    host.append(.gap(gap), nil)
  }

  @Test func `a gap that begins behind a half-sent extent takes nothing of it (J4)`() {
    let world = FakeWorld.empty(Self.limits, totalCredit: 16 << 10)
    let host = FakeHost("web1", limits: Self.limits)
    host.bear(FakeHost.uuid(1), "/a")
    host.write(0, text(512, 1))
    let client = ScriptedClient(world, host)
    client.sendRecords()
    client.payload(0, 0..<64)
    client.settle()
    let before = UInt64(host.records.count)
    recordUnreadable(host, from: 512)
    client.sendRecords(from: before)
    for offset in stride(from: 64, to: 512, by: 64) { client.payload(0, offset..<(offset + 64)) }
    client.settle()
    #expect(client.refusals.isEmpty && client.durable(0) == 512)
  }

  @Test func `a gap behind a half-sent extent takes nothing of it, also while its end isn't in memory (J4 K4)`() {
    var limits = Self.limits
    limits.promiseWindow = 1
    let world = FakeWorld.empty(limits, totalCredit: 16 << 10)
    let host = FakeHost("web1", limits: limits)
    host.bear(FakeHost.uuid(1), "/a")
    for line in 0..<8 { host.write(0, text(16, line)) }
    host.write(0, text(384, 9))
    let client = ScriptedClient(world, host)
    client.sendRecords()
    client.settle()
    world.readsLate = true
    for offset in stride(from: 0, to: 192, by: 64) { client.payload(0, offset..<(offset + 64)) }
    let before = UInt64(host.records.count)
    recordUnreadable(host, from: 512)
    client.sendRecords(from: before)
    client.settle()
    for offset in stride(from: 192, to: 512, by: 64) { client.payload(0, offset..<(offset + 64)) }
    client.settle()
    #expect(client.refusals.isEmpty && client.durable(0) == 512)
  }

  /// What was granted in its turn is committed, and the rest of its base is taken by an extent that was begun: its host can
  /// send nothing that would ask for more.
  @Test func `a turn that ends within an extent is followed by another (P2 P6)`() {
    var limits = smallLimits()
    limits.extentSize = 256
    limits.payloadFrameSize = 64
    let world = FakeWorld.empty(limits, totalCredit: 1_024)
    let (first, second) = (FakeHost("web1", limits: limits), FakeHost("web2", limits: limits))
    for host in [first, second] {
      host.bear(FakeHost.uuid(host === first ? 1 : 2), "/a")
      host.write(0, text(512, 1))
      host.write(0, text(256, 2))
    }
    let client = ScriptedClient(world, first)
    client.sendRecords()
    client.payload(0, 0..<64)
    client.settle()
    #expect(client.credit >= 576)
    let other = ScriptedClient(world, second)
    other.sendRecords()
    other.payload(0, 0..<64)
    for offset in stride(from: 64, to: 576, by: 64) { client.payload(0, offset..<(offset + 64)) }
    client.settle()
    #expect(client.durable(0) == 512 && other.credit > 64)
    // The other one has its turn, and is done with it.
    while other.sent < 768, other.credit >= other.sent + 64 {
      other.payload(0, Int(other.sent)..<(Int(other.sent) + 64))
      other.settle()
    }
    #expect(other.durable(0) >= 512)
    #expect(client.credit >= 768)
    for offset in stride(from: 576, to: 768, by: 64) { client.payload(0, offset..<(offset + 64)) }
    client.settle()
    #expect(client.closed == nil && client.refusals.isEmpty && client.durable(0) == 768)
  }

  @Test func `frames that wait are counted with what they occupy (P2)`() {
    let limits = smallLimits()
    let world = FakeWorld.empty(limits, totalCredit: 1 << 20)
    let host = FakeHost("web1", limits: limits)
    for file in 0..<100 {
      host.bear(FakeHost.uuid(UInt64(file)), "/\(file)")
      host.write(file, text(20, file))
    }
    let client = ScriptedClient(world, host)
    for first in stride(from: 0, to: host.records.count, by: 8) {
      client.send(host.recordFrame(UInt64(first)..<UInt64(min(first + 8, host.records.count))))
      client.settle()
    }
    for file in 0..<100 {
      client.payload(file, 0..<20)
      client.settle()
    }
    // Held bytes again, one at a time: each waits until it was compared.
    for _ in 0..<50 { for file in 0..<100 where client.closed == nil { client.payload(file, 0..<1) } }
    #expect(client.refusals.contains(.busy))
    #expect(client.refusals.allSatisfy { $0 == .busy })
    client.settle()
    #expect(world.machine.status.pendingBytes == 0)
    #expect(world.problems == [])
  }
  /// Of two machines with one name the second one is refused what the first one has begun: that counts as owed all the
  /// same, else the first one, whose base is used up by what it began, would get no turn to end it, for ever.
  @Test func `what one connection delivers is owed though another was refused it (P2)`() throws {
    var limits = Self.limits
    limits.residentStrings = 100
    let world = FakeWorld.empty(limits, totalCredit: 0)
    // Its turn takes all that there is.
    let other = ScriptedClient(world, Self.host(9))
    other.sendRecords()
    other.payload(0, 0..<32)
    other.settle()
    let clients = (1...2).map { clone in
      let host = FakeHost("web1", journal: UInt64(clone), limits: limits)
      host.bear(FakeHost.uuid(1), "/a")
      host.write(0, text(512, 1))
      let client = ScriptedClient(world, host)
      client.sendRecords()
      client.settle()
      return client
    }
    let (first, second) = (clients[0], clients[1])
    func sendOn() {
      while first.sent < min(512, first.credit) {
        let end = min(512, first.credit, first.sent + 128)
        first.payload(0, Int(first.sent)..<Int(end))
        first.settle()
      }
    }
    sendOn()
    second.payload(0, 0..<1)
    second.settle()
    #expect(second.refusals == [.busy])
    #expect(first.sent < 512)
    world.feed(.closed(other.id))
    sendOn()
    #expect(first.durable(0) == 512)
    #expect(world.problems == [])
  }
  /// What it may send at first is used up when the server finds that its bytes are others: only then they count as owed.
  @Test func `who delivers beside what is held gets a turn for it (P2 M1)`() throws {
    var limits = Self.limits
    limits.residentStrings = 100
    let world = FakeWorld.empty(limits)
    let clients = (1...2).map { clone in
      let host = FakeHost("web1", journal: UInt64(clone), limits: limits)
      host.bear(FakeHost.uuid(1), "/a")
      host.write(0, text(512, clone))
      let client = ScriptedClient(world, host)
      client.sendRecords()
      client.settle()
      if clone == 2 { client.send(.extend(.nothing(of: FakeHost.uuid(1)))) }
      var sent = 0
      while sent < min(512, Int(client.credit)) {
        let end = min(512, Int(client.credit), sent + 128)
        client.payload(0, sent..<end)
        client.settle()
        sent = end
      }
      return client
    }
    #expect(clients[0].durable(0) == 512)
    #expect(clients[1].durable(0) == 512)
    #expect(world.problems == [])
  }
}
