import DataPlane
import HostCore
import JournalModel
import JournalStore
import Testing
import WireProtocol

@Suite final class DeliveryTests: TwoServers {
  /// Nothing else happens that would give it another turn: the credit is all that comes.
  @Test func whatWasBegunGoesOnWhenCreditComesF4() throws {
    a.creditStep = 60
    a.isFrugal = true
    let host = try FakeHost(files, servers: [a])
    for number in 0..<6 { files.create("/log/\(number).log", String(repeating: "x", count: 200)) }
    host.pass(.milliseconds(500))
    let begun = a.payloadFrames.map(\.file)
    #expect(Set(begun).count == 1, "one extent has room")
    guard let connection = a.connection else { return }
    host.give(.received(connection, .credit(total: 300)))
    #expect(a.files.values.filter { $0.durable == 200 }.count == 1)
  }

  // MARK: Order and isolation

  @Test func nothingIsOfferedBeforeItIsCommittedJ1() throws {
    let host = try FakeHost(files, servers: servers)
    host.holdsCommits = true
    let before = a.records.count
    files.create("/log/a.log", "one")
    host.pass(.seconds(2))
    #expect(a.records.count == before && a.payloadFrames.isEmpty && a.questions.isEmpty)
    files.append("/log/a.log", " two")
    host.pass(.seconds(2))
    #expect(a.records.count == before)
    host.releaseCommits()
    host.run()
    expectBoth("/log/a.log", ["one two"])
  }

  @Test func recordsGatherWhileACommitIsUnderWay() throws {
    let host = try FakeHost(files, servers: servers)
    host.holdsCommits = true
    for index in 0..<50 { files.create("/log/\(index).log", "x") }
    host.run()
    #expect(host.heldCommits.count == 1)
    host.releaseCommits()
    host.run()
    let commits = host.effects.count { if case .commit = $0 { true } else { false } }
    #expect(commits <= 4)
    for index in 0..<50 { expectBoth("/log/\(index).log", ["x"]) }
  }

  @Test func failedCommitsAreRetriedAndReportedP4() throws {
    let host = try FakeHost(files, servers: servers)
    host.failsCommits = .full("ENOSPC")
    files.create("/log/a.log", "one")
    host.pass(.seconds(20))
    #expect(a.contents("/log/a.log").isEmpty)
    #expect(host.status.journalBlocked != nil)
    #expect(host.reports.count { if case .journalBlocked = $0 { true } else { false } } == 1)
    host.failsCommits = nil
    host.pass(.seconds(10))
    expectBoth("/log/a.log", ["one"])
    #expect(host.reports.contains(.journalUnblocked))
    #expect(host.status.journalBlocked == nil)
  }

  @Test func aFailedSyncOfTheJournalStopsTheNodeP4() throws {
    let host = try FakeHost(files, servers: servers)
    host.failsCommits = .failedSync("EIO")
    files.create("/log/a.log", "one")
    host.run()
    host.failsCommits = nil
    host.pass(.seconds(20))
    #expect(host.effects.count { if case .halt = $0 { true } else { false } } == 1)
    #expect(host.effects.count { if case .commit = $0 { true } else { false } } == 1)
    #expect(a.contents("/log/a.log").isEmpty)
  }

  /// What concerns one server, in order.
  func timeline(of server: Int, _ host: FakeHost) -> [HostEffect] {
    var mine: Set<ConnectionID> = []
    var timeline: [HostEffect] = []
    for effect in host.effects {
      switch effect {
      case .connect(let index): if index.value == server { timeline.append(effect) }
      case .send(let id, .hello): if host.server(of: id) == server { mine.insert(id) }
      case .send(let id, _), .sendRecords(let id, _, _), .sendPayload(let id, _, _), .disconnect(let id, _):
        if mine.contains(id) { timeline.append(effect) }
      default: break
      }
    }
    return timeline
  }

  func story(_ servers: [FakeServer]) throws -> FakeHost {
    let files = FakeFileSystem()
    files.mkdir("/log")
    let host = try FakeHost(files, servers: servers)
    var inodes: [FakeFileSystem.Inode] = []
    for index in 0..<20 {
      inodes.append(files.create("/log/\(index).log", String(repeating: "x", count: index * 7)))
      host.pass(.milliseconds(13))
      files.append(inodes[index / 2], "more")
      if index % 5 == 0 { files.rename("/log/\(index).log", "/log/\(index).log.1") }
    }
    host.pass(.seconds(40))
    return host
  }

  enum Neighbour: CaseIterable { case refusing, hanging, acknowledgingNothing, refusingFiles, perfect }
  @Test(arguments: Neighbour.allCases) func aServersTimelineIsTheSameWhateverItsNeighbourDoesG3(
    neighbour: Neighbour
  ) throws {
    func server(_ name: String) -> FakeServer { FakeServer(name, leafSize: FakeHost.leafSize) }
    let alone = try story([server("logs-a")])
    let other = server("logs-b")
    switch neighbour {
    case .refusing: other.isUp = false
    case .hanging: other.isSilent = true
    case .acknowledgingNothing: other.acknowledges = false
    case .refusingFiles: other.lies = { if case .payloadDurable = $0 { nil } else { $0 } }
    case .perfect: break
    }
    let beside = try story([server("logs-a"), other])
    #expect(withoutIDs(timeline(of: 0, beside)) == withoutIDs(timeline(of: 0, alone)))
    #expect(timeline(of: 0, alone).count > 100)
    #expect(beside.journal == alone.journal)
  }

  /// Connections are numbered by the world.
  func withoutIDs(_ effects: [HostEffect]) -> [HostEffect] {
    effects.map { effect in
      switch effect {
      case .send(_, let frame): .send(ConnectionID(0), frame)
      case .sendRecords(_, let first, let upTo): .sendRecords(ConnectionID(0), from: first, upTo: upTo)
      case .sendPayload(_, let file, let header): .sendPayload(ConnectionID(0), file, header)
      case .disconnect(_, let reason): .disconnect(ConnectionID(0), reason: reason)
      default: effect
      }
    }
  }

  /// Both servers are asked for, and held against, the same root: each waits for its own answer.
  @Test func aNeighboursRootNeitherHurriesNorDelaysG3() throws {
    let log = files.create("/log/a.log", "one")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    let host = try FakeHost(files, servers: servers, after: first)
    host.withholds = { if case .rootComputed = $0 { true } else { false } }
    files.append(log, " two")
    host.run()
    let answers = host.withheld
    host.withholds = { _ in false }
    #expect(answers.count == 2)
    for case .rootComputed(let id, let file, let length, _) in answers where host.server(of: id) == 1 {
      host.give(.rootComputed(id, file, length: length, nil))
    }
    expectBoth("/log/a.log", ["one"])
    for case .rootComputed(let id, let file, let length, let root) in answers where host.server(of: id) == 0 {
      host.give(.rootComputed(id, file, length: length, root))
    }
    #expect(a.contents("/log/a.log") == ["one two"])
    #expect(b.contents("/log/a.log") == ["one"])
    host.pass(.seconds(6))
    expectBoth("/log/a.log", ["one two"])
  }

  @Test func largeFilesDoNotDelaySmallOnesF4() throws {
    a.acknowledges = true
    // As in the daemon: room for several extents.
    a.creditStep = UInt64(Limits().connectionCredit)
    files.create("/log/big.log", String(repeating: "b", count: 20_000))
    let host = try FakeHost(files, servers: [a])
    host.withholds = { if case .payloadSent = $0 { true } else { false } }
    files.create("/log/small.log", "s")
    host.run()
    host.releaseWithheld()
    let uuids = a.payloadFrames.map(\.file)
    let small = host.births.first { $0.path == BytePath("/log/small.log") }?.file
    let index = uuids.firstIndex { $0 == small } ?? .max
    #expect(index < 420)
    // A frame of the one after a frame of the other, once both have something.
    host.withholds = { if case .payloadSent = $0 { true } else { false } }
    files.append("/log/big.log", String(repeating: "b", count: 500))
    files.append("/log/small.log", String(repeating: "s", count: 500))
    host.pass(.seconds(1))
    host.releaseWithheld()
    host.pass(.seconds(1))
    let last = a.payloadFrames.suffix(20).map(\.file)
    #expect(zip(last, last.dropFirst()).count { $0 != $1 } >= 8)
    #expect(a.contents("/log/small.log") == ["s" + String(repeating: "s", count: 500)])
  }

  @Test func payloadStaysWithinCredit() throws {
    a.creditStep = 7
    files.create("/log/a.log", String(repeating: "y", count: 500))
    let host = try FakeHost(files, servers: [a])
    host.run()
    #expect(a.contents("/log/a.log") == [String(repeating: "y", count: 500)])
    #expect(a.payloadFrames.allSatisfy { $0.length <= 14 })
  }

  @Test func recordsStayWithinTheWindow() throws {
    a.acknowledges = false
    for index in 0..<100 { files.create("/log/\(index).log", "x") }
    let host = try FakeHost(files, servers: [a])
    host.run()
    #expect(a.records.count == 16)
    let frames = host.effects.compactMap {
      if case .sendRecords(_, let first, let upTo) = $0 { upTo - first } else { nil }
    }
    #expect(frames.allSatisfy { $0 <= 4 })
  }

  // MARK: Resume

  @Test func reconnectsAndCatchesUpS51() throws {
    let host = try FakeHost(files, servers: servers)
    for round in 0..<30 {
      files.create("/log/\(round).log", "content \(round)")
      files.append("/log/\(round / 2).log", "+")
      host.cut(0)
      host.pass(.milliseconds(700))
      if round % 3 == 0 { host.cut(1) }
    }
    host.pass(.seconds(100))
    for round in 0..<30 { #expect(a.contents("/log/\(round).log") == b.contents("/log/\(round).log")) }
    #expect(a.contents("/log/29.log") == ["content 29"])
    #expect(a.contents("/log/0.log") == ["content 0++"])
    #expect(host.status.isSettled)
  }

  @Test(arguments: [0, 1, 49, 50, 63, 64, 65, 128, 199, 200])
  func resumesAtAnyLengthW2(held: Int) throws {
    let content = String((0..<200).map { Character(UnicodeScalar(UInt8(97 + $0 % 26))) })
    files.create("/log/a.log", content)
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    b.isUp = false
    host.cut(1)
    // The server was set back: a copy of its disk, say.
    for uuid in b.files.keys { b.files[uuid]?.durable = held }
    files.append("/log/a.log", "!")
    host.pass(.seconds(2))
    b.isUp = true
    host.pass(.seconds(60))
    expectBoth("/log/a.log", [content + "!"])
    let sent = b.payloadFrames.reduce(0) { $0 + $1.length }
    #expect(sent == 200 + (201 - held))
  }

  @Test func anEmptyServerGetsEverythingAgainJ6() throws {
    files.create("/log/a.log", "one")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(5))
    let empty = FakeServer("logs-b", leafSize: FakeHost.leafSize)
    let second = try FakeHost(files, servers: [a, empty], after: first)
    second.pass(.seconds(5))
    #expect(empty.contents("/log/a.log") == ["one"])
    #expect(second.status.isSettled)
  }

  @Test func aServerSetBackIsAskedAboutEverythingAlsoAfterARestartW2() throws {
    for index in 0..<5 { files.create("/log/\(index).log", "content \(index)") }
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(5))
    let (records, bodies) = (b.records.count, b.bodies)
    files.create("/log/later.log", "x")
    first.pass(.seconds(5))
    // A backup from before the last file; some payload of earlier ones isn't in it.
    b.records.removeLast(b.records.count - records)
    b.bodies = bodies
    b.lastCheckpoint = first.checkpoint(at: UInt64(records))
    b.files = b.files.mapValues { file in
      var file = file
      file.durable = min(file.durable, 4)
      return file
    }
    b.files[try #require(first.births.last).file] = nil
    first.cut(1)
    first.pass(.milliseconds(1_500))
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(30))
    for index in 0..<5 { expectBoth("/log/\(index).log", ["content \(index)"]) }
    expectBoth("/log/later.log", ["x"])
  }

  @Test func questionsComeInPages() throws {
    b.isUp = false
    for index in 0..<10 { files.create("/log/\(index).log", "\(index)") }
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    b.isUp = true
    host.pass(.seconds(60))
    #expect(b.questions.map(\.count) == [3, 3, 3, 1])
    for index in 0..<10 { expectBoth("/log/\(index).log", ["\(index)"]) }
  }

  @Test(arguments: [4, 14, 17, 18])
  func besideOtherBytesTheFileIsDeliveredFromItsBeginningW3S60(held: Int) throws {
    files.create("/log/a.log", "what the host has")
    files.create("/log/b.log", "b")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    files.append("/log/a.log", "!")
    b.isUp = false
    host.cut(1)
    let uuid = try #require(host.births.first { $0.path == BytePath("/log/a.log") }).file
    let other = String("something else here".prefix(held))
    b.files[uuid]?.bytes = Array(other.utf8)
    b.files[uuid]?.durable = held
    host.pass(.seconds(1))
    b.isUp = true
    files.append("/log/b.log", "!")
    host.pass(.seconds(60))
    #expect(b.contents("/log/b.log") == ["b!"])
    #expect(b.contents("/log/a.log") == [other])
    #expect(b.beside(uuid) == "what the host has!")
    #expect(a.contents("/log/a.log") == ["what the host has!"])
    #expect(host.reports.count { if case .beside(_, uuid, _) = $0 { true } else { false } } == 1)
    #expect(host.status.servers[1].waiting.isEmpty)
    #expect(host.status.isSettled)
  }

  @Test func serverAheadOfTheJournalIsFollowedWhereTheInodeAgreesW2() throws {
    let inode = files.create("/log/a.log", "one ")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    let uuid = try #require(first.births.first).file
    // The server got 'two' from a journal that the host no longer has; here its records are the same.
    inode.bytes += Array("two three".utf8)
    b.files[uuid]?.bytes += Array("two ".utf8)
    b.files[uuid]?.durable = 8
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(2))
    expectBoth("/log/a.log", ["one two three"])
    let sent = b.payloadFrames.reduce(0) { $0 + $1.length }
    #expect(sent == 4 + 5)
  }

  @Test func serverAheadOfTheFileIsSentItToBeComparedW2() throws {
    files.create("/log/a.log", "one")
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(2))
    let uuid = try #require(host.births.first).file
    b.files[uuid] = FakeServer.Held(bytes: Array("one two".utf8), durable: 7)
    b.isUp = true
    host.pass(.seconds(60))
    #expect(host.reports.contains { if case .beside(_, uuid, _) = $0 { true } else { false } })
    #expect(b.payloadFrames == [PayloadHeader(file: uuid, offset: 0, length: 3)])
    #expect(host.status.isSettled)
    files.append("/log/a.log", " two")
    host.pass(.seconds(1))
    expectBoth("/log/a.log", ["one two"])
    #expect(host.status.isSettled)
  }

  /// Another machine's, or its own before a backup was put back: it begins as this journal does.
  @Test(arguments: [0, 1, 2]) func recordsGoOnBesideOthersOfTheSameJournalM1(shared: Int) throws {
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    files.create("/log/a.log", "one")
    host.pass(.seconds(1))
    let own = try host.store.records(from: 0, count: .max, bytes: .max)
    // Longer than this one, too.
    b.foreign = own.prefix(shared) + (0..<9).map { [UInt8($0), 7] }
    b.isUp = true
    host.pass(.seconds(60))
    expectBoth("/log/a.log", ["one"])
    #expect(b.records == own && b.journalQueries == 1)
    #expect(host.reports.count { if case .journalBeside(_, UInt64(shared)) = $0 { true } else { false } } == 1)
    #expect(host.status.isSettled)
    // From then on it says with which it goes on.
    host.cut(1)
    files.append("/log/a.log", " two")
    host.pass(.seconds(60))
    expectBoth("/log/a.log", ["one two"])
    #expect(b.journalQueries == 1 && host.status.isSettled)
  }

  /// Another machine with this name delivers while this one finds out where its journal goes on.
  @Test func whatOthersDeliverMeanwhileEndsNothingM1() throws {
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    files.create("/log/a.log", "one")
    host.pass(.seconds(1))
    b.foreign = [[1], [2]]
    b.lies = { if case .journalAnswer = $0 { nil } else { $0 } }
    b.isUp = true
    host.pass(.seconds(9))
    #expect(b.journalQueries == 1)
    let connection = try #require(b.connection)
    let held = DurablePrefix(file: FileUUID(UUIDBytes(high: 1, low: 1)), length: 3, root: .zero)
    for _ in 0..<3 { host.give(.received(connection, .payloadDurable([held]))) }
    #expect(b.connection == connection)
    b.lies = nil
    host.cut(1)
    host.pass(.seconds(60))
    expectBoth("/log/a.log", ["one"])
  }

  @Test func headsOfAnotherJournalAreReportedAndTriedAgainJ6() throws {
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    host.cut(1)
    let checkpoint = b.lastCheckpoint
    b.lastCheckpoint?.journal = JournalID(UUIDBytes(high: 9, low: 9))
    files.create("/log/a.log", "one")
    host.pass(.seconds(60))
    #expect(b.contents("/log/a.log").isEmpty)
    #expect(host.reports.count { if case .serverDown = $0 { true } else { false } } <= 2)
    b.lastCheckpoint = checkpoint
    host.pass(.seconds(60))
    expectBoth("/log/a.log", ["one"])
  }

  @Test func anAcknowledgementOfRecordsThatAreNotOnThisJournalEndsTheConnectionJ6() throws {
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    b.lies = {
      guard case .recordsDurable(var head) = $0 else { return $0 }
      head.length = .max
      return .recordsDurable(head)
    }
    files.create("/log/a.log", "one")
    host.pass(.seconds(20))
    #expect(host.reports.contains { if case .serverDown(ServerIndex(1), _) = $0 { true } else { false } })
    b.lies = nil
    host.pass(.seconds(60))
    expectBoth("/log/a.log", ["one"])
  }

  // MARK: Servers that lie, refuse, or say nothing

  @Test func aJournalThatIsRefusedFromItsFirstRecordOnNamesTheRemedyW6() throws {
    files.create("/log/a.log", "one")
    b.lies = { frame in
      guard case .recordsDurable = frame else { return frame }
      return .refusal(Refusal(file: nil, code: .badSignature, length: 0, text: "the binding's certificate is web9's"))
    }
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    let reasons = host.reports.compactMap { if case .serverDown(_, let reason) = $0 { reason } else { nil } }
    let reason = try #require(reasons.first)
    #expect(reason.contains("the binding's certificate is web9's"))
    #expect(reason.contains("Move node.data away and restart"))
  }

  static let lies: [(String, @Sendable (Frame) -> Frame?)] = [
    (
      "records of another journal",
      {
        guard case .recordsDurable(var head) = $0 else { return $0 }
        head.journal = JournalID(UUIDBytes(high: 9, low: 9))
        return .recordsDurable(head)
      }
    ),
    (
      "more records than there are",
      {
        guard case .recordsDurable(var head) = $0 else { return $0 }
        head.length = .max
        return .recordsDurable(head)
      }
    ),
    (
      "a host's frames",
      {
        guard case .recordsDurable = $0 else { return $0 }
        return .resumeQuery([])
      }
    ),
  ]
  @Test(arguments: 0..<3) func liesEndTheConnectionAndNothingElse(index: Int) throws {
    b.lies = Self.lies[index].1
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(30))
    #expect(a.contents("/log/a.log") == ["one"])
    let reasons = host.reports.compactMap {
      if case .serverDown(ServerIndex(1), let reason) = $0 { reason } else { nil }
    }
    #expect(!reasons.isEmpty)
    b.lies = nil
    host.pass(.seconds(60))
    expectBoth("/log/a.log", ["one"])
    #expect(host.status.isSettled)
  }

  static let unasked: [Frame] = [
    .pong(nonce: 1), .ping(nonce: 1), .credit(total: 1), .payloadDurable([]),
    .refusal(Refusal(file: FileUUID(UUIDBytes(high: 1, low: 1)), code: .busy, length: 0, text: "")),
  ]
  /// Frames that answer nothing are borne with up to a bound, on however many connections they come.
  @Test(arguments: 0..<6) func aServerThatFloodsIsLeftAloneForAWhileP6(index: Int) throws {
    files.create("/log/a.log", "one")
    var limits = FakeHost.limits()
    limits.allowance = 100
    limits.allowancePerSecond = 1
    let host = try FakeHost(files, servers: servers, limits: limits)
    host.pass(.seconds(2))
    let connection = try #require(host.connection(to: 1))
    let unasked = (Self.unasked + [.recordsDurable(try #require(b.lastCheckpoint))])[index]
    for _ in 0..<50 { host.give(.received(connection, unasked)) }
    #expect(host.status.servers[1].isConnected)
    for _ in 0..<150 { host.give(.received(connection, unasked)) }
    #expect(!host.status.servers[1].isConnected)
    #expect(host.status.servers[0].isConnected)
    #expect(host.reports.count { if case .serverDown = $0 { true } else { false } } == 1)
    host.pass(.seconds(14))
    #expect(!host.status.servers[1].isConnected)
    host.pass(.seconds(20))
    let later = try #require(host.connection(to: 1))
    for _ in 0..<80 { host.give(.received(later, unasked)) }
    #expect(!host.status.servers[1].isConnected)
    host.pass(.seconds(1))
    files.append("/log/a.log", " two")
    host.pass(.seconds(120))
    expectBoth("/log/a.log", ["one two"])
  }

  @Test func whatTheTransportWastesIsPaidForP6() throws {
    var limits = FakeHost.limits()
    limits.allowance = 100
    let host = try FakeHost(files, servers: servers, limits: limits)
    host.pass(.seconds(1))
    let connection = try #require(host.connection(to: 1))
    host.give(.wasted(connection, 64))
    #expect(host.status.servers[1].isConnected)
    host.give(.wasted(connection, 64))
    #expect(!host.status.servers[1].isConnected)
  }

  @Test func anAnswerThatNobodyAskedForEndsTheConnectionW2() throws {
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    let connection = try #require(host.connection(to: 1))
    host.give(.received(connection, .resumeAnswer([])))
    #expect(!host.status.servers[1].isConnected)
  }

  @Test(arguments: [RefusalCode.diskFull, .quota, .busy, .rootMismatch])
  func refusedFilesAreTriedAgainS57(code: RefusalCode) throws {
    files.create("/log/a.log", "one")
    files.create("/log/b.log", "two")
    let host = try FakeHost(files, servers: servers, limits: FakeHost.limits())
    host.pass(.seconds(1))
    let uuid = try #require(host.births.first { $0.path == BytePath("/log/a.log") }).file
    b.refuses[uuid] = code
    files.append("/log/a.log", " more")
    files.append("/log/b.log", " more")
    host.pass(.seconds(30))
    #expect(b.contents("/log/a.log") == ["one"])
    #expect(b.contents("/log/b.log") == ["two more"])
    #expect(host.reports.count { if case .refused = $0 { true } else { false } } == 1)
    #expect(host.status.servers[1].waiting.count == 1)
    #expect(host.status.servers[1].lagBytes == 5)
    b.refuses = [:]
    host.pass(code == .rootMismatch ? .seconds(61) : .seconds(6))
    expectBoth("/log/a.log", ["one more"])
    #expect(host.status.servers[1].waiting.isEmpty)
  }

  @Test func conflictWaitsAloneAndIsAskedAgainSlowly() throws {
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    let uuid = try #require(host.births.first).file
    b.refuses[uuid] = .conflict
    files.append("/log/a.log", " more")
    host.pass(.seconds(30))
    let frames = b.payloadFrames.count
    host.pass(.seconds(25))
    #expect(b.payloadFrames.count == frames)
    #expect(host.reports.count { if case .refused = $0 { true } else { false } } == 1)
    b.refuses = [:]
    host.pass(.seconds(10))
    expectBoth("/log/a.log", ["one more"])
    #expect(host.status.servers[1].waiting.isEmpty)
  }

  @Test func silenceEndsAConnectionAndHeartbeatsKeepOneW4() throws {
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(100))
    #expect(host.effects.count { if case .connect = $0 { true } else { false } } == 2)
    b.isSilent = true
    host.pass(.seconds(30))
    #expect(!host.status.servers[1].isConnected)
    b.isSilent = false
    host.pass(.seconds(60))
    #expect(host.status.servers[1].isConnected)
  }

  /// A frame may take longer than `silence` on a slow link: bytes that come keep the connection.
  @Test func bytesThatComeKeepAConnectionW4() throws {
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    let connection = try #require(host.connection(to: 1))
    b.isSilent = true
    for _ in 0..<50 {
      host.pass(.seconds(1))
      host.give(.progress(connection))
    }
    #expect(host.status.servers[1].isConnected)
    host.pass(.seconds(30))
    #expect(!host.status.servers[1].isConnected)
  }

  @Test func reconnectsForEverWithBackoffS70() throws {
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(86_400))
    let attempts = host.effects.count { $0 == .connect(ServerIndex(1)) }
    #expect((2_880...6_000).contains(attempts))
    #expect(host.reports.count { if case .serverDown = $0 { true } else { false } } == 1)
    b.isUp = true
    host.pass(.seconds(31))
    #expect(host.status.servers[1].isConnected)
  }

  @Test func oldConnectionsAreNotHeard() throws {
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    let old = try #require(b.connection)
    host.cut(1)
    host.pass(.seconds(1))
    let before = host.effects.count
    host.give(.received(old, .recordsDurable(try #require(b.lastCheckpoint))))
    host.give(.received(old, .goodbye(code: .other, text: "")))
    host.give(.disconnected(ServerIndex(1), old, reason: "late"))
    #expect(host.effects.count == before)
    #expect(host.status.servers[1].isConnected)
  }

  @Test func payloadThatCannotBeReadIsTriedAgain() throws {
    let inode = files.create("/log/a.log", "one two three")
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    inode.bytes.removeLast(6)
    b.isUp = true
    inode.fault = "EIO"
    host.pass(.seconds(20))
    inode.bytes += Array(" three".utf8)
    inode.fault = nil
    host.pass(.seconds(20))
    expectBoth("/log/a.log", ["one two three"])
    #expect(host.closings.isEmpty)
  }

  @Test func stopSaysGoodbyeAndNothingAfterS53() throws {
    let host = try FakeHost(files, servers: servers)
    files.create("/log/a.log", "one")
    host.run()
    host.give(.stop)
    let goodbyes = host.effects.count { if case .send(_, .goodbye) = $0 { true } else { false } }
    #expect(goodbyes == 2)
    let before = host.effects.count
    files.create("/log/b.log", "two")
    host.pass(.seconds(100))
    #expect(host.effects.count == before)
  }
}
