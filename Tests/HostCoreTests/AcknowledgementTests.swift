import HostCore
import JournalModel
import Testing
import WireProtocol

/// A server states what it holds, whoever supplied it (W1, W2): here it got bytes and records from a peer.
@Suite final class AcknowledgementTests: TwoServers {
  static let content = String((0..<200).map { Character(UnicodeScalar(UInt8(97 + $0 % 26))) })

  override init() {
    super.init()
    // The second server gives no credit beyond the first bytes.
    b.creditStep = 20
    b.isFrugal = true
  }

  /// A host that could send little of '/log/a.log' to the second server.
  private func started() throws -> (FakeHost, FileUUID, ConnectionID) {
    files.create("/log/a.log", Self.content)
    let host = try FakeHost(files, servers: [a, b])
    host.pass(.seconds(1))
    let uuid = try #require(host.births.first).file
    #expect(a.contents("/log/a.log") == [Self.content])
    #expect((b.files[uuid]?.bytes.count ?? 0) < 50)
    return (host, uuid, try #require(host.connection(to: 1)))
  }

  /// The second server has these bytes now, and says so.
  private func heal(_ uuid: FileUUID, _ bytes: String, _ host: FakeHost, root: Digest? = nil) {
    b.files[uuid]?.bytes = Array(bytes.utf8)
    b.files[uuid]?.durable = bytes.utf8.count
    let held = CheapHash.root(of: Array(bytes.utf8), leafSize: FakeHost.leafSize)
    guard let connection = host.connection(to: 1) else { return }
    let prefix = DurablePrefix(file: uuid, length: UInt64(bytes.utf8.count), root: root ?? held)
    host.give(.received(connection, .payloadDurable([prefix])))
  }

  private func isBeside(_ uuid: FileUUID, _ host: FakeHost) -> Bool {
    host.reports.count { if case .beside(ServerIndex(1), uuid, _) = $0 { true } else { false } } == 1
  }

  private func isWaiting(_ uuid: FileUUID, _ host: FakeHost) -> Bool {
    host.status.servers[1].waiting.contains { $0.file == uuid }
  }

  @Test func allOfAFileFromAPeerIsAcceptedByItsRootW2() throws {
    let (host, uuid, connection) = try started()
    let sent = b.payloadFrames.count
    #expect(host.status.servers[1].lagBytes > 0)
    heal(uuid, Self.content, host)
    #expect(host.status.servers[1].lagBytes == 0)
    #expect(b.questions.flatMap { $0 }.count { $0 == uuid } <= 1, "nothing has to be asked")
    host.give(.received(connection, .credit(total: 10_000)))
    #expect(b.payloadFrames.count == sent)
    files.append("/log/a.log", "!")
    host.pass(.seconds(1))
    #expect(b.payloadFrames.last?.offset == 200)
    #expect(b.contents("/log/a.log") == [Self.content + "!"])
    #expect(host.status.isSettled)
  }

  /// A removed file is held open until each server has it, from wherever.
  @Test(arguments: [true, false]) func aRemovedFileIsLetGoOfOnlyByItsRootF2(isEqual: Bool) throws {
    let (host, uuid, _) = try started()
    files.remove("/log/a.log")
    host.pass(.seconds(5))
    #expect(host.openDescriptors == 1)
    if !isEqual { b.lies = { if case .resumeAnswer = $0 { nil } else { $0 } } }
    heal(uuid, Self.content, host, root: isEqual ? nil : Digest(words: 1, 2, 3, 4))
    host.pass(.seconds(5))
    #expect(host.openDescriptors == (isEqual ? 0 : 1))
  }

  @Test func anotherRootIsAskedAboutW2() throws {
    let (host, uuid, _) = try started()
    let asked = b.questions.count
    heal(uuid, Self.content, host, root: Digest(words: 1, 2, 3, 4))
    #expect(b.questions.count == asked + 1)
    // The answer has the root that is the file's.
    #expect(host.status.servers[1].lagBytes == 0)
    #expect(!isBeside(uuid, host))
  }

  @Test func otherBytesOfThatLengthAreLeftAndTheFileIsDeliveredBesideThemW3() throws {
    let (host, uuid, connection) = try started()
    let other = String(Self.content.reversed())
    heal(uuid, other, host)
    #expect(isBeside(uuid, host))
    #expect(host.status.servers[1].lagBytes > 0)
    host.give(.received(connection, .credit(total: 10_000)))
    files.create("/log/b.log", "b")
    host.pass(.seconds(1))
    #expect(b.contents("/log/b.log") == ["b"])
    #expect(host.connection(to: 1) == connection, "no other file and no record suffers")
    #expect(b.contents("/log/a.log") == [other])
    #expect(b.beside(uuid) == Self.content)
    #expect(host.status.isSettled)
    // On the next connection it says with which of the two it goes on.
    host.cut(1)
    files.append("/log/a.log", "!")
    b.creditStep = 10_000
    host.pass(.seconds(60))
    #expect(b.contents("/log/a.log") == [other])
    #expect(b.beside(uuid) == Self.content + "!")
    #expect(b.payloadFrames.last == PayloadHeader(file: uuid, offset: 200, length: 1))
    #expect(isBeside(uuid, host), "and is said once")
    #expect(host.status.isSettled)
  }

  @Test(arguments: [64, 70, 128, 180]) func aPartFromAPeerIsAskedAboutW2(length: Int) throws {
    let (host, uuid, connection) = try started()
    let sent = b.payloadFrames.reduce(0) { $0 + $1.length }
    let asked = b.questions.count
    heal(uuid, String(Self.content.prefix(length)), host)
    #expect(b.questions.count == asked + 1)
    #expect(host.status.servers[1].lagBytes == UInt64(200 - length))
    host.give(.received(connection, .credit(total: 10_000)))
    host.pass(.seconds(1))
    #expect(b.contents("/log/a.log") == [Self.content])
    #expect(b.payloadFrames.reduce(0) { $0 + $1.length } == sent + 200 - length)
    #expect(host.status.isSettled)
  }

  @Test func aPartWithOtherBytesIsLeftAndTheFileIsDeliveredBesideItW3() throws {
    let (host, uuid, connection) = try started()
    heal(uuid, String(Self.content.prefix(99)) + "?", host)
    #expect(isBeside(uuid, host))
    host.give(.received(connection, .credit(total: 10_000)))
    files.create("/log/b.log", "b")
    host.pass(.seconds(1))
    #expect(b.contents("/log/b.log") == ["b"])
    #expect(b.beside(uuid) == Self.content)
    #expect(host.connection(to: 1) == connection)
  }

  @Test func moreThanIsJournaledIsFollowedWhereTheInodeAgreesW2() throws {
    let (host, uuid, connection) = try started()
    heal(uuid, Self.content + "next", host)
    // All that the file has is compared: it may be the beginning of what the server has.
    #expect(isBeside(uuid, host))
    files.append("/log/a.log", "next")
    host.pass(.seconds(1))
    #expect(!isWaiting(uuid, host))
    host.give(.received(connection, .credit(total: 10_000)))
    host.pass(.seconds(1))
    #expect(host.status.isSettled)
    #expect(b.contents("/log/a.log") == [Self.content + "next"])
  }

  /// What was sent is believed in the order of the connection; other bytes come to light by the refusal (W3).
  @Test func aConflictTakesBackWhatWasAcknowledgedWithoutAKnownRootG1() throws {
    b.creditStep = 120
    let (host, uuid, connection) = try started(upTo: 120)
    let other = DurablePrefix(file: uuid, length: 40, root: Digest(words: 1, 2, 3, 4))
    host.give(.received(connection, .payloadDurable([other])))
    #expect(host.status.servers[1].lagBytes == 160)
    let refusal = Refusal(file: uuid, code: .conflict, length: 40, text: "other bytes")
    host.give(.received(connection, .refusal(refusal)))
    #expect(host.status.servers[1].lagBytes == 200)
    #expect(isWaiting(uuid, host))
  }

  private func started(upTo count: Int) throws -> (FakeHost, FileUUID, ConnectionID) {
    files.create("/log/a.log", Self.content)
    let host = try FakeHost(files, servers: [a, b])
    host.pass(.seconds(1))
    let uuid = try #require(host.births.first).file
    #expect((40...count).contains(b.files[uuid]?.bytes.count ?? 0))
    return (host, uuid, try #require(host.connection(to: 1)))
  }

  /// Whoever acknowledges what it then denies is paid for by nobody else.
  @Test func acknowledgementsThatTheAnswerDeniesAreOutOfTheAllowanceP6() throws {
    files.create("/log/a.log", Self.content)
    var limits = FakeHost.limits()
    limits.allowance = 100
    limits.allowancePerSecond = 1
    let host = try FakeHost(files, servers: [a, b], limits: limits)
    host.pass(.seconds(1))
    let uuid = try #require(host.births.first).file
    let connection = try #require(host.connection(to: 1))
    let lie = DurablePrefix(file: uuid, length: .max / 2, root: .zero)
    for _ in 0..<20 { host.give(.received(connection, .payloadDurable([lie]))) }
    #expect(host.status.servers[1].isConnected)
    for _ in 0..<150 { host.give(.received(connection, .payloadDurable([lie]))) }
    #expect(!host.status.servers[1].isConnected)
    #expect(host.status.servers[0].isConnected)
  }

  // MARK: Records

  /// A host whose window to the second server is full, and that server with all records from the first.
  private func withRecordsFromAPeer() throws -> (FakeHost, ConnectionID, Checkpoint) {
    b.acknowledges = false
    b.isFrugal = false
    b.creditStep = 1 << 20
    let host = try FakeHost(files, servers: [a, b])
    for number in 0..<20 { files.create("/log/\(number).log", "n\(number)") }
    host.pass(.seconds(1))
    #expect(b.records.count < a.records.count)
    b.records = a.records
    b.bodies = a.bodies
    b.lastCheckpoint = a.lastCheckpoint
    b.files = a.files.mapValues { FakeServer.Held(promises: $0.promises) }
    b.acknowledges = true
    return (host, try #require(host.connection(to: 1)), try #require(a.lastCheckpoint))
  }

  @Test func recordsFromAPeerAreAcceptedByTheirHeadAndNotSentJ6() throws {
    let (host, connection, head) = try withRecordsFromAPeer()
    host.give(.received(connection, .recordsDurable(head)))
    #expect(host.status.servers[1].lagEvents == 0)
    host.cut(1)
    host.pass(.seconds(60))
    files.create("/log/last.log", "last")
    host.pass(.seconds(1))
    #expect(host.status.isSettled)
    #expect(b.records == a.records)
  }

  @Test func aHeadThatIsNotOnThisJournalEndsTheConnectionJ6() throws {
    var (host, connection, head) = try withRecordsFromAPeer()
    head.root = Digest(words: 1, 2, 3, 4)
    host.give(.received(connection, .recordsDurable(head)))
    #expect(!host.status.servers[1].isConnected)
    #expect(host.status.servers[1].lagEvents > 0)
    #expect(host.status.servers[0].isConnected)
    connection = try #require(host.connection(to: 0))
    #expect(a.contents("/log/0.log") == ["n0"])
  }

  /// Greater heads that come while one is verified: the newest counts.
  @Test func theNewestOfSeveralHeadsCountsJ6() throws {
    let (host, connection, head) = try withRecordsFromAPeer()
    host.withholds = { if case .headsVerified = $0 { true } else { false } }
    host.give(.received(connection, .recordsDurable(head)))
    files.create("/log/last.log", "last")
    host.pass(.milliseconds(100))
    let newest = try #require(a.lastCheckpoint)
    #expect(newest.length > head.length)
    host.give(.received(connection, .recordsDurable(newest)))
    host.withholds = { _ in false }
    host.releaseWithheld()
    #expect(host.status.servers[1].lagEvents == 0)
  }
}
