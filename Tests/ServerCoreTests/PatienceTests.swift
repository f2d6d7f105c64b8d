import JournalModel
import Testing
import WireProtocol

@testable import ServerCore

/// A commit of records waits a moment for the little payload that they promise: one sync makes a line durable (P2, W1).
@Suite struct PatienceTests {
  private static let line = 9

  private static var limits: Limits {
    var limits = smallLimits()
    limits.residentStrings = 64
    limits.payloadPatience = Limits().payloadPatience
    return limits
  }

  /// A host whose file is made already.
  private func host(_ name: String, in world: FakeWorld) -> ScriptedClient {
    let host = FakeHost(name, limits: world.settings.limits)
    host.bear(FakeHost.uuid(UInt64(name.utf8.last!)), "/line")
    let client = ScriptedClient(world, host)
    client.sendRecords()
    client.settle()
    return client
  }

  /// Only its record; returns the range of its bytes.
  private func promise(_ count: Int = line, of client: ScriptedClient) -> Range<Int> {
    let first = UInt64(client.host.records.count)
    let before = client.host.files[0].bytes.count
    client.host.write(0, text(count, 1))
    client.sendRecords(from: first)
    return before..<(before + count)
  }

  @Test func `P2 a record and the line that it promises are one commit`() {
    let world = FakeWorld.empty(Self.limits)
    let client = host("web1", in: world)
    for number in 1...4 {
      let commits = world.commits
      let range = promise(of: client)
      client.payload(0, range)
      client.settle()
      #expect(world.commits == commits + 1)
      #expect(client.durable(0) == UInt64(number * Self.line))
      #expect(client.recordsDurable == UInt64(client.host.records.count))
    }
    #expect(world.problems == [])
  }

  @Test func `W1 a record whose payload doesn't come waits for a moment only`() {
    let world = FakeWorld.empty(Self.limits)
    let client = host("web1", in: world)
    let before = client.recordsDurable
    let range = promise(of: client)
    client.settle()
    #expect(client.recordsDurable == before)
    #expect(world.machine.nextDeadline.map { $0 - world.now } == Self.limits.payloadPatience)
    world.advance(by: Self.limits.payloadPatience)
    client.settle()
    #expect(client.recordsDurable == UInt64(client.host.records.count))
    client.payload(0, range)
    client.settle()
    #expect(client.durable(0) == UInt64(Self.line))
    #expect(world.problems == [])
  }

  @Test func `W1 what came later doesn't make an earlier record wait any longer`() {
    let world = FakeWorld.empty(Self.limits)
    let client = host("web1", in: world)
    let before = client.recordsDurable ?? 0
    let begin = world.now
    while client.recordsDurable == before, world.now - begin < .seconds(1) {
      _ = promise(1, of: client)
      world.advance(by: Interval(nanoseconds: Self.limits.payloadPatience.nanoseconds / 4))
      client.settle()
    }
    #expect(world.now - begin <= Self.limits.payloadPatience)
    #expect(world.problems == [])
  }

  @Test func `P6 nobody waits for another host's payload`() {
    let world = FakeWorld.empty(Self.limits)
    let (slow, quick) = (host("web1", in: world), host("web2", in: world))
    _ = promise(of: slow)
    slow.settle()
    let range = promise(of: quick)
    quick.payload(0, range)
    quick.settle()
    #expect(quick.durable(0) == UInt64(Self.line))
    #expect(world.problems == [])
  }

  @Test func `P2 payload that doesn't go with records isn't waited for`() {
    // It is too large for the log; its file isn't made yet; nothing of it is expected.
    let world = FakeWorld.empty(Self.limits)
    let client = host("web1", in: world)
    _ = promise(Self.limits.logPayloadSize + 1, of: client)
    client.settle()
    #expect(client.recordsDurable == UInt64(client.host.records.count))
    let first = UInt64(client.host.records.count)
    client.host.bear(FakeHost.uuid(7), "/new")
    client.host.write(1, text(5, 2))
    client.sendRecords(from: first)
    world.drain(turns: 4)
    client.settle()
    #expect(client.recordsDurable == UInt64(client.host.records.count))
    #expect(world.problems == [])
  }
}
