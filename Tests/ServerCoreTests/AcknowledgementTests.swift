import JournalModel
import JournalStore
import Testing
import WireProtocol

@testable import ServerCore

/// A server states what it holds, whoever supplied it (W1).
@Suite struct AcknowledgementTests {
  /// Two hosts of one name with journals of their own: a host and its clone, say. Their files are equal.
  private func twins(_ limits: Limits) -> (FakeHost, FakeHost) {
    let hosts = (1...2).map { journal in
      let host = FakeHost("web1", journal: UInt64(journal), limits: limits)
      for file in 0..<4 {
        host.bear(FakeHost.uuid(UInt64(file + 1)), "/\(file)")
        host.write(file, text(20, file))
      }
      return host
    }
    return (hosts[0], hosts[1])
  }

  private func ready(_ world: FakeWorld, _ host: FakeHost) -> ScriptedClient {
    let client = ScriptedClient(world, host)
    client.sendRecords()
    client.settle()
    return client
  }

  private func acknowledgements(_ client: ScriptedClient) -> [[DurablePrefix]] {
    client.frames.compactMap { if case .payloadDurable(let held) = $0 { held } else { nil } }
  }

  @Test func `W1 what one connection supplied is stated to all of the host, with its root`() {
    let world = FakeWorld.empty()
    let (one, two) = twins(smallLimits())
    let (first, second) = (ready(world, one), ready(world, two))
    let stranger = ready(world, firstStory(smallLimits(), host: "web2"))
    first.payload(0, 0..<20)
    first.settle()
    let held = DurablePrefix(file: two.files[0].uuid, length: 20, root: two.files[0].roots[20] ?? .zero)
    #expect(acknowledgements(first) == [[held]])
    #expect(acknowledgements(second) == [[held]])
    #expect(acknowledgements(stranger).isEmpty)
    // What is held already is acknowledged with its root too.
    second.payload(0, 0..<20)
    second.settle()
    #expect(acknowledgements(second) == [[held], [held]])
    #expect(second.refusals == [] && world.problems == [])
  }

  /// A host shows the last one that it was told, and everything that it was told is of before that.
  @Test func `P3 what is held is never stated ahead of where the feed is`() throws {
    let world = FakeWorld.empty()
    let (one, _) = twins(smallLimits())
    let client = ready(world, one)
    for file in 0..<4 {
      client.payload(file, 0..<20)
      client.settle()
    }
    client.send(.resumeQuery(one.files.map(\.uuid)))
    client.settle()
    var told: [FeedPosition?] = []
    for (frame, next) in zip(client.frames, client.frames.dropFirst()) {
      guard case .position(let position) = frame else { continue }
      told.append(position)
      switch next {
      case .recordsDurable, .payloadDurable, .resumeAnswer: break
      default: Issue.record("\(next) needs no position")
      }
    }
    #expect(told.last == (try world.store.feed().position) && told.count >= 4)
    for (index, position) in told.enumerated() {
      let again = FakeHost.showing(position, of: one, to: world)
      #expect(again?.isContinued == true, "\(index)")
    }
    let last = try #require(told.last.flatMap { $0 })
    let ahead = FeedPosition(life: last.life, number: last.number + 1)
    #expect(FakeHost.showing(ahead, of: one, to: world)?.isContinued == false)
    let other = FeedPosition(life: UUIDBytes(high: 7, low: 7), number: 1)
    #expect(FakeHost.showing(other, of: one, to: world)?.isContinued == false)
    #expect(FakeHost.showing(nil, of: one, to: world)?.isContinued == false)
  }

  @Test func `W1 a commit is one acknowledgement for each connection`() {
    // One that is loaded anew is compared first, and committed later.
    var limits = smallLimits()
    limits.residentStrings = 4
    let world = FakeWorld.empty(limits)
    let (one, two) = twins(limits)
    let (first, second) = (ready(world, one), ready(world, two))
    for file in 0..<4 { first.payload(file, 0..<20) }
    first.settle()
    let told = acknowledgements(second)
    #expect(told == acknowledgements(first))
    #expect(told.count < 4 && Set(told.joined().map(\.file)).count == 4)
  }

  /// A host pays for frames that it didn't ask for from its allowance: a server stays within half of it.
  @Test func `P6 who supplied nothing is told no more than it bears`() {
    var limits = smallLimits()
    (limits.recordsPerFrame, limits.recordWindow) = (128, 128)
    // Two connections cost 128 of it.
    limits.allowance = 140
    let world = FakeWorld.empty(limits)
    let (one, two) = twins(limits)
    for byte in 0..<80 { one.write(0, text(1, byte)) }
    let (first, second) = (ready(world, one), ready(world, two))
    for byte in 20..<100 {
      first.payload(0, byte == 20 ? 0..<21 : byte..<(byte + 1))
      first.settle()
    }
    #expect(acknowledgements(first).count == 80 && first.durable(0) == 100)
    #expect(acknowledgements(second).count == 70)
  }

  @Test func `J6 records are stated by the host's checkpoint at their length`() {
    let world = FakeWorld.empty()
    let host = firstStory(smallLimits())
    let client = ScriptedClient(world, host)
    client.send(host.recordFrame(0..<3))
    client.settle()
    #expect(client.frames.last == .recordsDurable(host.checkpoint(at: 3)))
    client.sendRecords(from: 3)
    client.settle()
    let heads = client.frames.compactMap { if case .recordsDurable(let head) = $0 { head } else { nil } }
    #expect(heads.last == host.checkpoint(at: UInt64(host.records.count)))
    #expect(heads.count == 2)
  }
}

extension FakeHost {
  /// What a server says to a host that shows this.
  fileprivate static func showing(_ position: FeedPosition?, of host: FakeHost, to world: FakeWorld) -> Welcome? {
    let client = ScriptedClient(world, host, hello: false)
    guard case .hello(var hello) = host.hello else { return nil }
    hello.position = position
    client.send(.hello(hello))
    client.settle()
    return client.frames.lazy.compactMap { if case .welcome(let welcome) = $0 { welcome } else { nil } }.first
  }
}
