import HostCore
import JournalModel
import JournalStore
import MerkleLog
import Testing
import WireProtocol

@testable import ServerCore

@Suite struct AdmissionTests {
  @Test func `W5 a certificate that doesn't name the host is turned away, and reported`() {
    let world = FakeWorld.empty()
    let client = ScriptedClient(world, firstStory(smallLimits()), names: ["web2"])
    #expect(client.closed == .nameNotYours)
    #expect(world.refusedReports == [.nameNotYours])
    client.sendRecords()
    client.settle()
    #expect((try? world.store.journals()) == [])
    #expect(client.frames.isEmpty)
  }

  @Test func `W4 another version is refused`() {
    let world = FakeWorld.empty()
    let host = firstStory(smallLimits())
    let client = ScriptedClient(world, host, hello: false)
    client.send(.hello(Hello(oldest: 2, newest: 3, host: host.name, journal: host.journal, publicKey: host.publicKey)))
    #expect(client.closed == .versionUnsupported)
  }

  @Test func `frames out of place end the connection and nothing else`() {
    let world = FakeWorld.empty()
    let good = ScriptedClient(world, smallAppends(smallLimits()))
    let host = firstStory(smallLimits())
    let early = ScriptedClient(world, host, hello: false)
    early.sendRecords()
    #expect(early.closed == .protocolViolation)
    let payload = ScriptedClient(world, host, hello: false)
    payload.payload(0, 0..<5)
    #expect(payload.closed == .protocolViolation)
    for frame in [
      host.hello, .recordsDurable(host.checkpoint(at: 1)), .credit(total: 9), .payloadDurable([]), .resumeAnswer([]),
      .payload(PayloadHeader(file: FakeHost.uuid(1), offset: 0, length: 1)),
    ] as [Frame] {
      let client = ScriptedClient(world, host)
      client.send(frame)
      #expect(client.closed == .protocolViolation)
    }
    #expect(good.closed == nil)
    good.send(.ping(nonce: 7))
    #expect(good.frames.last == .pong(nonce: 7))
    #expect(world.problems == [])
  }

  @Test func `a newer connection of the same journal supersedes the older`() {
    let world = FakeWorld.empty()
    let host = firstStory(smallLimits())
    let older = ScriptedClient(world, host)
    older.sendRecords()
    let newer = ScriptedClient(world, host)
    // It may be another machine: who only says hello ends nobody's work.
    #expect(older.closed == nil)
    newer.sendRecords()
    #expect(older.closed == .superseded)
    older.payload(0, 0..<5)
    newer.settle()
    #expect(newer.closed == nil)
    #expect(older.durable(0) == 0)
    #expect(world.machine.status.pendingBytes == 0)
    #expect(world.problems == [])
  }

  @Test func `a journal held under another key is a fork`() {
    let world = FakeWorld.empty()
    let host = firstStory(smallLimits())
    ScriptedClient(world, host).sendRecords()
    world.drain()
    let thief = ScriptedClient(world, host, hello: false)
    thief.send(.hello(Hello(oldest: 1, newest: 1, host: host.name, journal: host.journal, publicKey: .zero)))
    #expect(thief.closed == .journalFork)
  }

  @Test func `W4 a silent connection is closed, a speaking one is not`() {
    let world = FakeWorld.empty()
    let silent = ScriptedClient(world, firstStory(smallLimits()))
    let mute = ScriptedClient(world, firstStory(smallLimits()), hello: false)
    let speaking = ScriptedClient(world, smallAppends(smallLimits()))
    // On a slow link a frame takes its time; before hello that is no excuse.
    let slow = ScriptedClient(world, FakeHost("slow", limits: smallLimits()))
    for _ in 0..<6 {
      world.advance(by: .seconds(5))
      speaking.send(.ping(nonce: 1))
      world.feed(.progress(slow.id))
      world.feed(.progress(mute.id))
    }
    #expect(silent.closed == .silence)
    #expect(mute.closed == .silence)
    #expect(speaking.closed == nil)
    #expect(slow.closed == nil)
  }

  @Test func `W4 a host that is told nothing gets a ping, one that asks gets answers only`() {
    let world = FakeWorld.empty()
    let busy = ScriptedClient(world, FakeHost("busy", limits: smallLimits()))
    let asking = ScriptedClient(world, FakeHost("asking", limits: smallLimits()))
    for _ in 0..<12 {
      world.advance(by: .seconds(5))
      world.feed(.progress(busy.id))
      asking.send(.ping(nonce: 1))
    }
    #expect(busy.closed == nil)
    #expect((10...12).contains(busy.pings))
    #expect(asking.pings == 0)
  }

  @Test func `P6 one host holds a bounded number of connections`() {
    let world = FakeWorld.empty()
    let clients = (1...20).map { journal in
      ScriptedClient(world, FakeHost("web1", journal: UInt64(journal), limits: smallLimits()))
    }
    #expect(clients.count { $0.closed == .busy } == 12)
    #expect(ScriptedClient(world, smallAppends(smallLimits())).closed == nil)
  }

  private func scantLimits() -> Limits {
    var limits = smallLimits()
    limits.allowance = 1_000
    limits.allowancePerSecond = 10
    return limits
  }

  /// What brings nothing, as often as it is said.
  static let useless: [@Sendable (ScriptedClient) -> Void] = [
    { $0.send(.ping(nonce: 1)) },
    { $0.send(.pong(nonce: 1)) },
    { $0.send(.resumeQuery([])) },
    { $0.world.feed(.wasted($0.id, 1)) },
    { client in
      // Payload of a file that was refused, or was never announced.
      let header = PayloadHeader(file: FakeHost.uuid(99), offset: 0, length: 1)
      client.world.send(header, [1], on: client.id)
    },
  ]

  @Test(arguments: 0..<5)
  func `P6 who sends what brings nothing is cut off, reported, and finds no new allowance`(kind: Int) {
    let limits = scantLimits()
    let world = FakeWorld.empty(limits)
    let other = ScriptedClient(world, smallAppends(limits))
    let host = firstStory(limits)
    let client = ScriptedClient(world, host)
    for _ in 0..<500 { Self.useless[kind](client) }
    #expect(client.closed == nil)
    for _ in 0..<500 { Self.useless[kind](client) }
    #expect(client.closed == .quota)
    let again = ScriptedClient(world, host)
    #expect(again.closed == .quota)
    #expect(again.frames.isEmpty)
    #expect(other.closed == nil)
    #expect(world.refusedReports.allSatisfy { $0 == .quota || $0 == .unknownFile })
    world.advance(by: .seconds(20))
    let later = ScriptedClient(world, host)
    #expect(later.closed == nil)
    #expect(!later.frames.isEmpty)
  }

  @Test func `P6 records that are sent again cost, new ones don't`() {
    let limits = scantLimits()
    let world = FakeWorld.empty(limits)
    let client = ScriptedClient(world, firstStory(limits))
    client.sendRecords()
    for _ in 0..<900 { client.sendRecords() }
    #expect(client.closed == nil)
    for _ in 0..<100 { client.sendRecords() }
    #expect(client.closed == .quota)
  }

  @Test func `P6 one certificate has few connections that say no hello, and the newest of them`() {
    let world = FakeWorld.empty()
    let host = firstStory(smallLimits())
    let silent = (0..<10).map { _ in ScriptedClient(world, host, hello: false) }
    #expect(silent.map(\.closed) == [RefusalCode?](repeating: .busy, count: 6) + [nil, nil, nil, nil])
    silent[9].send(host.hello)
    #expect(silent[9].closed == nil)
    // Those who said hello don't count among them, nor do others' connections.
    #expect(ScriptedClient(world, host, hello: false).closed == nil)
    #expect(silent[6].closed == nil)
    #expect(ScriptedClient(world, smallAppends(smallLimits()), hello: false).closed == nil)
  }

  @Test func `stopping says goodbye to everyone and starts nothing`() {
    let world = FakeWorld.empty()
    let client = ScriptedClient(world, firstStory(smallLimits()))
    world.feed(.stop)
    #expect(client.closed == .shuttingDown)
    #expect(ScriptedClient(world, smallAppends(smallLimits())).closed == .shuttingDown)
    #expect(world.machine.nextDeadline == nil)
  }
}

@Suite struct RecordTests {
  let host = firstStory(smallLimits())

  func refused(_ frame: Frame, _ code: RefusalCode, held: UInt64 = 0, sourceLocation: SourceLocation = #_sourceLocation)
  {
    let world = FakeWorld.empty()
    let client = ScriptedClient(world, host)
    if held > 0 {
      client.send(host.recordFrame(0..<held))
      client.settle()
    }
    client.send(frame)
    client.settle()
    #expect(client.closed == code, sourceLocation: sourceLocation)
    #expect(client.refusals == [code], sourceLocation: sourceLocation)
    #expect(world.refusedReports == [code], sourceLocation: sourceLocation)
    #expect((client.recordsDurable ?? 0) == held, sourceLocation: sourceLocation)
    #expect(((try? world.store.journals())?.first?.length ?? 0) == held, sourceLocation: sourceLocation)
    #expect(world.problems == [], sourceLocation: sourceLocation)
  }

  func records(_ range: Range<UInt64>, _ change: (inout Records) -> Void) -> Frame {
    guard case .records(var records) = host.recordFrame(range) else { return .ping(nonce: 0) }
    change(&records)
    return .records(records)
  }

  @Test func `J2 what isn't covered by the host's signature is not taken`() {
    refused(records(0..<3) { $0.checkpoint.signature[0] ^= 1 }, .badSignature)
    refused(records(0..<3) { $0.checkpoint.length = 4 }, .badSignature)
    refused(records(0..<3) { $0.checkpoint = host.checkpoint(at: 2) }, .badSignature)
    refused(records(0..<3) { $0.encoded[1].append(0) }, .journalFork)
    refused(records(0..<3) { $0.encoded.swapAt(1, 2) }, .journalFork)
    refused(records(2..<4) { $0.encoded[0] = $0.encoded[1] }, .journalFork, held: 2)
  }

  @Test func `W1 records leave no hole and repeat nothing that is durable`() {
    refused(host.recordFrame(1..<3), .protocolViolation)
    refused(host.recordFrame(4..<5), .protocolViolation, held: 3)
    refused(host.recordFrame(1..<5), .protocolViolation, held: 3)
    refused(records(3..<4) { $0.encoded = [] }, .protocolViolation, held: 3)
    refused(records(3..<4) { $0.first = .max }, .protocolViolation, held: 3)
  }

  @Test func `the journal begins with its own journal-opened, and has only that one`() {
    let other = FakeHost("web1", journal: 9, limits: smallLimits())
    func signed(_ host: FakeHost, _ encoded: [[UInt8]], first: Int = 0) -> Frame {
      var frontier = Frontier<MixHasher>()
      for record in host.records[..<first] { frontier.append(MixHasher.leaf(record.span.bytes)) }
      for record in encoded { frontier.append(MixHasher.leaf(record.span.bytes)) }
      let signature = FakeSigner.signature(
        host.name, host.journal, frontier.size, frontier.root, key: host.publicKey)
      let checkpoint = Checkpoint(
        host: host.name, journal: host.journal, length: frontier.size, root: frontier.root, signature: signature)
      return .records(Records(first: UInt64(first), encoded: encoded, checkpoint: checkpoint))
    }
    refused(signed(host, [other.records[0]]), .badSignature)
    refused(signed(host, [host.records[1]]), .protocolViolation)
    refused(signed(host, [host.records[0], host.records[0]]), .protocolViolation)
    refused(signed(host, [host.records[0]], first: 2), .protocolViolation, held: 2)
    refused(signed(host, [host.records[0], [1, 2, 3]]), .protocolViolation)
    let unbound = JournalOpened(
      host: host.name, journal: host.journal, publicKey: host.publicKey,
      binding: .journalKey(signature: [UInt8](repeating: 0, count: 64)))
    refused(
      signed(host, [Record(time: WallTime(nanoseconds: 0), body: .journalOpened(unbound)).encoded()]), .badSignature)
  }

  @Test func `J7 a record of unknown type is kept as it is`() {
    let world = FakeWorld.empty()
    let host = FakeHost("web1", limits: smallLimits())
    host.append(.unknown(type: 900, body: [1, 2, 3]), nil)
    let client = ScriptedClient(world, host)
    client.sendRecords()
    client.settle()
    #expect(client.recordsDurable == 2)
    let held = try? world.store.records(of: host.sequence(0), from: 0, count: 9, bytes: 9_999)
    #expect(held == host.records)
  }

  /// A host that reconnects goes on from the length that `welcome` states, while a commit may be taking the journal
  /// further.
  @Test func `W2 records on their way may be repeated by the next connection`() {
    let world = FakeWorld.empty()
    let first = ScriptedClient(world, host)
    first.send(host.recordFrame(0..<6))
    let second = ScriptedClient(world, host)
    guard case .welcome(let welcome) = second.frames.first else { return #expect(Bool(false)) }
    #expect(welcome.heads == [])
    world.drain()
    second.send(host.recordFrame(0..<4))
    second.settle()
    #expect(second.recordsDurable == 4 && first.closed == nil)
    second.send(host.recordFrame(4..<8))
    second.settle()
    #expect(second.recordsDurable == 8 && first.closed == .superseded)
    #expect(second.closed == nil)
    #expect(world.problems == [])
  }

  @Test func `W2 records that wait for a commit may be repeated by the next connection`() {
    let world = FakeWorld.empty()
    let first = ScriptedClient(world, host)
    first.send(host.recordFrame(0..<6))
    let second = ScriptedClient(world, host)
    second.send(host.recordFrame(0..<4))
    #expect(first.closed == .superseded)
    world.drain()
    // What is held is stated, whoever brought it.
    #expect(second.frames.last == .recordsDurable(host.checkpoint(at: 6)))
    second.send(host.recordFrame(4..<8))
    second.settle()
    #expect(second.recordsDurable == 8)
    #expect(second.closed == nil)
    #expect(world.problems == [])
  }

  /// Until they are durable nobody knows that there will be two: the host comes again.
  @Test func `M1 a repeat with other records than those on their way is refused`() {
    let world = FakeWorld.empty()
    let first = ScriptedClient(world, host)
    first.send(host.recordFrame(0..<6))
    let second = ScriptedClient(world, host)
    second.send(records(0..<4) { $0.encoded[3] = $0.encoded[2] })
    #expect(second.closed == .journalFork)
    world.drain()
    #expect((try? world.store.journals())?.first?.length == 6)
  }

  @Test func `G2 nothing is acknowledged before the commit's answer`() {
    let world = FakeWorld.empty()
    let client = ScriptedClient(world, host)
    client.sendRecords()
    client.payload(0, 0..<5)
    #expect(client.recordsDurable == nil)
    #expect(client.durable(0) == 0)
    client.settle()
    #expect(client.recordsDurable == UInt64(host.records.count))
    #expect(client.durable(0) == 5)
  }
}
