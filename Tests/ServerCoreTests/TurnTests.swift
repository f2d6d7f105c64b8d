import HostCore
import JournalModel
import Testing
import WireProtocol

@testable import ServerCore

/// Whatever one host sends, another one's line waits for a turn of it, not for all of it (P6, G3).
@Suite struct TurnTests {
  private static let birthsPerConnection = 256

  /// Connections of one host that send many births each, a frame at a time.
  private func flood(_ world: FakeWorld, depth: Int = 1) -> [ScriptedClient] {
    (1...8).map { journal in
      let host = FakeHost("bad", journal: UInt64(journal), limits: world.settings.limits)
      let path = String(repeating: "/d", count: depth)
      for file in 0..<Self.birthsPerConnection {
        host.bear(FakeHost.uuid(UInt64(journal * Self.birthsPerConnection + file)), "\(path)/\(journal)-\(file)")
      }
      return ScriptedClient(world, host)
    }
  }

  private func send(_ clients: [ScriptedClient], perFrame: Int = 8) {
    for first in stride(from: 0, through: Self.birthsPerConnection, by: perFrame) {
      for client in clients {
        let end = min(first + perFrame, client.host.records.count)
        client.send(client.host.recordFrame(UInt64(first)..<UInt64(end)))
      }
    }
  }

  private static var limits: Limits {
    var limits = smallLimits()
    limits.recordWindow = 8_192
    limits.residentStrings = 64
    return limits
  }

  /// A host whose file is made already.
  private func quiet(_ world: FakeWorld) -> ScriptedClient {
    let host = FakeHost("web1", limits: world.settings.limits)
    host.bear(FakeHost.uuid(1), "/line")
    let client = ScriptedClient(world, host)
    client.sendRecords()
    client.settle()
    return client
  }

  private func line(_ client: ScriptedClient) {
    let first = UInt64(client.host.records.count)
    let before = client.host.files[0].bytes.count
    client.host.write(0, text(9, 1))
    client.sendRecords(from: first)
    client.payload(0, before..<(before + 9))
  }

  @Test func `P6 a line of one host waits for two turns of another one at most, whatever that one's births`() {
    let world = FakeWorld.empty(Self.limits)
    let good = quiet(world)
    let bad = flood(world)
    send(bad)
    line(good)
    let commits = world.commits
    var most = 0
    while good.durable(0) < 9, world.commits < commits + 100 {
      world.drain(turns: 1)
      most = max(most, world.rowsOfLastCommit)
    }
    // The one under way, its record's, another turn, its payload's.
    #expect(world.commits - commits <= 4)
    // A frame's worth and the frame that went beyond it of each connection, rows and records.
    #expect(most <= 2 * 2 * 8 + 4)
    world.drain()
    #expect(bad.allSatisfy { $0.closed == nil && $0.refusals.isEmpty })
    #expect(bad.allSatisfy { $0.recordsDurable == UInt64(Self.birthsPerConnection + 1) })
    #expect(world.problems == [])
  }

  @Test
  func `P6 K4 who has little to commit doesn't wait for what others have, and they have their turns all the same`() {
    let world = FakeWorld.empty(Self.limits)
    let good = quiet(world)
    let bad = flood(world)
    send(bad)
    let most = bad.reduce(0) { $0 + $1.host.records.count }
    var lines: UInt64 = 0
    // Another line as soon as the last one is durable: it is never without something to commit.
    while !bad.allSatisfy({ $0.recordsDurable == UInt64(Self.birthsPerConnection + 1) }), lines < most {
      line(good)
      lines += 1
      while good.durable(0) < 9 * lines, world.commits < 10 * most { world.drain(turns: 1) }
      // Its record and its row, and of the other one no more than little: two records and their rows.
      #expect(world.rowsOfLastCommit <= 2 + 4)
    }
    #expect(bad.allSatisfy { $0.recordsDurable == UInt64(Self.birthsPerConnection + 1) })
    world.drain()
    #expect(world.problems == [])
  }

  @Test func `P6 a directory is a name, and paid for by the host that names it`() {
    let world = FakeWorld.empty(Self.limits)
    let bad = flood(world, depth: 32)
    send(bad, perFrame: 1)
    // 64 names a turn: the first birth is being committed by itself, two others wait, nothing more is read.
    #expect(bad.allSatisfy { world.paused.contains($0.id) })
    world.drain()
    #expect(bad.allSatisfy { $0.closed == nil && $0.recordsDurable == UInt64(Self.birthsPerConnection + 1) })
    #expect(world.paused.isEmpty && world.mostBirthsOfACommit <= 3)
    #expect(world.problems == [])
  }

  @Test func `P6 what isn't there for its records is committed by turns, too`() {
    // Many files become synced at once.
    let world = FakeWorld.empty(Self.limits, totalCredit: 1 << 20)
    let host = FakeHost("bad", limits: world.settings.limits)
    for file in 0..<200 { host.bear(FakeHost.uuid(UInt64(10 + file)), "/\(file)") }
    for file in 0..<200 { host.write(file, text(3, file)) }
    let bad = ScriptedClient(world, host)
    for first in stride(from: 0, to: host.records.count, by: 8) {
      bad.send(host.recordFrame(UInt64(first)..<UInt64(min(first + 8, host.records.count))))
      bad.settle()
    }
    for file in 0..<200 {
      bad.payload(file, 0..<3)
      if file % 20 == 0 { bad.settle() }
    }
    bad.settle()
    world.advance(by: .seconds(60))
    bad.settle()
    #expect((0..<200).allSatisfy { bad.durable($0) == 3 })
    #expect(world.machine.status.loggedBytes == 0)
    #expect(world.mostRowsOfACommit <= 3 * 8)
    #expect(world.problems == [])
  }

  @Test func `a store that takes nothing keeps nobody unread, and nobody is cut off for what isn't read (P2 W4)`() {
    let world = FakeWorld.empty(Self.limits)
    let bad = flood(world)
    world.faults[.commitFails] = [3]
    send(bad)
    #expect(bad.allSatisfy { world.paused.contains($0.id) })
    for _ in 0..<10 { world.advance(by: .seconds(30)) }
    #expect(bad.allSatisfy { $0.closed == nil })
    while world.machine.status.blocked == nil, world.commits < 10 { world.drain(turns: 1) }
    #expect(world.machine.status.blocked != nil && world.paused.isEmpty)
    world.advance(by: .seconds(5))
    world.drain()
    #expect(bad.allSatisfy { $0.closed == nil && $0.recordsDurable == UInt64(Self.birthsPerConnection + 1) })
    #expect(world.problems == [])
  }

  @Test func `P6 files that can't be made are tried again by turns`() {
    let world = FakeWorld.empty(Self.limits)
    let host = FakeHost("bad", limits: world.settings.limits)
    for file in 0..<100 { host.bear(FakeHost.uuid(UInt64(10 + file)), "/\(file)") }
    world.faults[.createFails] = Set(1...100)
    let bad = ScriptedClient(world, host)
    for first in stride(from: 0, to: host.records.count, by: 8) {
      bad.send(host.recordFrame(UInt64(first)..<UInt64(min(first + 8, host.records.count))))
    }
    bad.settle()
    #expect(world.machine.status.failing == 100)
    world.advance(by: .seconds(5))
    // A tick, and nothing else yet.
    #expect(world.machine.status.failing == 92)
    for _ in 0..<20 { world.advance(by: .milliseconds(1)) }
    bad.settle()
    #expect(world.machine.status.failing == 0)
    #expect((0..<100).allSatisfy { bad.stored($0) == [] })
    #expect(world.problems == [])
  }
}
