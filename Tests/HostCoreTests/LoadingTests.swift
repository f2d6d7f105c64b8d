import DataPlane
import HostCore
import JournalModel
import JournalStore
import Testing
import WireProtocol

/// What neither lives nor is owed is a row (K1), and is found again by whatever comes back (K6).
@Suite final class LoadingTests: TwoServers {
  private var limits = FakeHost.limits()

  override init() {
    super.init()
    limits.residentFiles = 0
    files.mkdir("/elsewhere")
  }

  private func start(after earlier: FakeHost? = nil) throws -> FakeHost {
    try FakeHost(files, servers: servers, limits: limits, after: earlier)
  }

  /// A host that saw '/log/a.log' vanish while it was down.
  private func vanished(_ text: String = "one") throws -> FakeHost {
    files.create("/log/a.log", text)
    let first = try start()
    first.pass(.seconds(2))
    files.rename("/log/a.log", "/elsewhere/a")
    let second = try start(after: first)
    second.pass(.seconds(60))
    #expect(second.closings.map(\.reason) == [.vanished])
    return second
  }

  @Test func whatEndedLeavesMemoryAndGoesOnWhenItComesBackK1() throws {
    let host = try vanished()
    #expect(host.status.filesInMemory == 0)
    files.append(files.inode("/elsewhere/a"), " two")
    files.rename("/elsewhere/a", "/log/b.log")
    host.pass(.seconds(2))
    #expect(a.contents("/log/a.log") == ["one two"] && b.contents("/log/a.log") == ["one two"])
    #expect(host.births.count == 1 && host.status.filesInMemory == 1 && host.status.isSettled)
    // It lives again: the next process begins with it.
    let next = try start(after: host)
    next.pass(.seconds(2))
    #expect(next.status.filesInMemory == 1 && next.births.count == 1)
  }

  @Test func soManyStayAsMayStayK1() throws {
    limits.residentFiles = 2
    for index in 0..<5 { files.create("/log/\(index).log", "x") }
    let first = try start()
    first.pass(.seconds(2))
    for index in 0..<5 { files.remove("/log/\(index).log") }
    let second = try start(after: first)
    second.pass(.seconds(60))
    #expect(second.status.filesInMemory == 2 && second.closings.count == 5)
    #expect(try start(after: second).status.filesInMemory == 0, "a start reads what lives or is owed")
  }

  /// Moved away while the node runs: delivered, it is a row at once, and not read at the next start.
  @Test func whatIsMovedOutOfSightLeavesMemoryK1F2() throws {
    let inode = files.create("/log/a.log", "one")
    let host = try start()
    host.pass(.seconds(1))
    files.rename("/log/a.log", "/elsewhere/a")
    host.pass(.seconds(30))
    #expect(host.status.filesInMemory == 0 && host.gaps.isEmpty)
    #expect(try host.store.living(servers: []).isEmpty)
    files.append(inode, " two")
    files.rename("/elsewhere/a", "/log/b.log")
    host.pass(.seconds(2))
    expectBoth("/log/a.log", ["one two"])
    #expect(host.births.count == 1 && host.status.isSettled)
  }

  /// Its uuid can't be derived from its inode: without its row it would be delivered a second time.
  @Test func aLaterIncarnationThatComesBackIsNotBornAgainK6() throws {
    let inode = files.create("/log/a.log", "before")
    let first = try start()
    first.pass(.seconds(2))
    inode.bytes = []
    files.append(inode, "x")
    first.pass(.seconds(2))
    #expect(first.births.map(\.isDerived) == [true, false])
    files.rename("/log/a.log", "/elsewhere/a")
    let second = try start(after: first)
    second.pass(.seconds(60))
    #expect(second.status.filesInMemory == 0)
    files.rename("/elsewhere/a", "/log/a.log")
    second.pass(.seconds(2))
    expectBoth("/log/a.log", ["before", "x"])
    #expect(second.births.count == 2)
  }

  /// Where the identity says little, the number on that file system or the path does.
  @Test(arguments: [true, false]) func withoutAnIdentityItIsFoundByNumberOrPathK6D2(isElsewhere: Bool) throws {
    files.withoutIdentity = [1]
    let host = try vanished("a text of some length")
    if isElsewhere { files.remount("/elsewhere/a", filesystem: 1) }
    files.append(files.inode("/elsewhere/a"), " and more")
    files.rename("/elsewhere/a", isElsewhere ? "/log/a.log" : "/log/b.log")
    host.pass(.seconds(2))
    expectBoth("/log/a.log", ["a text of some length and more"])
    #expect(host.births.count == 1)
  }

  @Test func aDerivedUUIDIsGivenOnceAlsoWhenItsFileIsARowD2() throws {
    files.create("/log/a.log", "one")
    let first = try start()
    first.pass(.seconds(2))
    files.mounts["/elsewhere"] = 2
    files.filesystems[2] = 1
    files.clone("/log/a.log", at: "/elsewhere/a")
    files.remove("/log/a.log")
    first.pass(.seconds(60))
    #expect(first.closings.map(\.reason) == [.deleted])
    let second = try start(after: first)
    second.pass(.seconds(2))
    files.rename("/elsewhere/a", "/log/a.log")
    second.pass(.seconds(2))
    expectBoth("/log/a.log", ["one", "one"])
    #expect(second.births.map(\.isDerived) == [true, false])
  }

  @Test func anOlderAnswerIsAskedForAgainK1() throws {
    let host = try vanished()
    host.olderAnswers = 3
    let before = host.queries.count
    files.rename("/elsewhere/a", "/log/a.log")
    host.pass(.seconds(2))
    #expect(host.queries.count == before + 4)
    expectBoth("/log/a.log", ["one"])
    #expect(host.births.count == 1)
  }

  /// Nothing is known of it: it is neither born nor gone, and nothing is settled.
  @Test func whatCannotBeLookedUpIsNotTakenAsBornD10() throws {
    let host = try vanished()
    host.failsLoads = .failed("EIO")
    files.rename("/elsewhere/a", "/log/a.log")
    files.append(files.create("/log/new.log"), "new")
    host.pass(.seconds(5))
    #expect(host.births.count == 1 && host.closings.count == 1 && !host.status.isSettled)
    #expect(host.status.owedNames == 2)
    host.failsLoads = nil
    host.pass(.seconds(5))
    expectBoth("/log/a.log", ["one"])
    expectBoth("/log/new.log", ["new"])
    #expect(host.births.count == 2 && host.status.isSettled)
  }

  @Test(arguments: [StoreError.damaged("page 3"), .corrupt("identities 00")])
  func aDamagedStoreStopsTheNodeP4(error: StoreError) throws {
    let host = try vanished()
    host.failsLoads = error
    files.rename("/elsewhere/a", "/log/a.log")
    host.pass(.seconds(1))
    let halts = host.effects.filter { if case .halt = $0 { true } else { false } }
    #expect(halts.count == 1)
  }

  /// Other directories and files go on meanwhile; what happens to the name meanwhile counts.
  @Test func aListingWaitsForTheStoreAndNothingElseDoes() throws {
    files.mkdir("/log/other")
    let other = files.create("/log/other/o.log", "o")
    let host = try start()
    host.pass(.seconds(1))
    host.withholds = { if case .loaded = $0 { true } else { false } }
    files.create("/log/a.log", "one")
    host.pass(.seconds(1))
    files.append(other, "p")
    host.pass(.seconds(1))
    expectBoth("/log/other/o.log", ["op"])
    #expect(host.births.count == 1)
    files.rename("/log/a.log", "/log/b.log")
    host.pass(.seconds(1))
    host.releaseWithheld()
    host.pass(.seconds(2))
    #expect(host.births.count == 2 && host.status.isSettled)
    #expect(a.contents("/log/a.log") + a.contents("/log/b.log") == ["one"])
  }

  /// Born from another directory's listing and deleted meanwhile, with an answer outstanding: what the older listing shows
  /// is the past.
  @Test(arguments: [true, false]) func whatWasDeletedMeanwhileIsNotBornAgain(isStoreAsked: Bool) throws {
    files.mkdir("/log/d")
    let host = try start()
    host.pass(.seconds(1))
    var withheld = 0
    host.withholds = { input in
      guard withheld == 0 else { return false }
      switch input {
      case .loaded: withheld += isStoreAsked ? 1 : 0
      case .listed(let listing):
        if !isStoreAsked, case .entries(let entries, _) = listing.outcome, !entries.isEmpty,
          listing.directory == BytePath("/log/d")
        {
          withheld += 1
        }
      default: break
      }
      return withheld == 1
    }
    files.create("/log/d/a.log", "one")
    host.pass(.milliseconds(1))
    #expect(withheld == 1 && host.births.isEmpty)
    files.link("/log/d/a.log", "/log/b.log")
    host.pass(.seconds(1))
    expectBoth("/log/b.log", ["one"])
    files.remove("/log/b.log")
    files.remove("/log/d/a.log")
    host.pass(.seconds(2))
    #expect(host.closings.map(\.reason) == [.deleted])
    host.releaseWithheld()
    host.pass(.seconds(65))
    #expect(host.births.count == 1 && host.status.isSettled)
  }

  /// The directory goes while the store is asked about what was in it, and comes again.
  @Test func aDirectoryThatGoesMeanwhile() throws {
    let host = try start()
    host.pass(.seconds(1))
    host.withholds = { if case .loaded = $0 { true } else { false } }
    files.mkdir("/log/d")
    files.create("/log/d/a.log", "one")
    host.pass(.seconds(1))
    files.rename("/log/d/a.log", "/elsewhere/a")
    files.remove("/log/d")
    host.pass(.seconds(1))
    files.mkdir("/log/d")
    files.create("/log/d/b.log", "two")
    host.pass(.seconds(1))
    host.releaseWithheld()
    host.pass(.seconds(65))
    expectBoth("/log/d/b.log", ["two"])
    #expect(host.births.count == 1 && host.status.isSettled)
  }

  /// While it is asked whether an inode is the file, the file stays.
  @Test func nothingLeavesThatAQuestionIsAboutK1() throws {
    let first = try vanished()
    limits.residentFiles = 1
    let second = try start(after: first)
    second.pass(.seconds(1))
    files.rename("/elsewhere/a", "/log/a.log")
    second.pass(.seconds(1))
    // It is in memory, and goes again while the store is asked about it as a clone that nobody knows.
    files.mounts["/log/clone"] = 2
    files.filesystems[2] = 1
    files.mkdir("/log/clone")
    second.withholds = { if case .loaded = $0 { true } else { false } }
    files.clone("/log/a.log", at: "/log/clone/a.log")
    second.pass(.seconds(1))
    files.remove("/log/a.log")
    second.pass(.seconds(60))
    second.releaseWithheld()
    second.pass(.seconds(60))
    #expect(second.births.count == 2)
    expectBoth("/log/clone/a.log", ["one"])
  }

  /// What it was when it was left, at its path: the store is asked nothing.
  @Test func aStartAsksAboutNothingThatStayedAsItWasK6() throws {
    for index in 0..<5 { files.create("/log/\(index).log", "x") }
    let first = try start()
    first.pass(.seconds(2))
    let asked = first.queries.count { if case .inodes = $0 { true } else { false } }
    #expect(asked == 1, "one question for each listing")
    let second = try start(after: first)
    second.pass(.seconds(120))
    #expect(second.queries.isEmpty && second.status.isSettled)
  }

  // MARK: Servers speak of rows

  /// A server that a peer healed says so of a file that is a row with a gap.
  @Test func whatAServerHoldsOfARowIsNotedW1() throws {
    b.isUp = false
    let host = try vanished()
    let uuid = host.births[0].file
    #expect(host.gaps.count == 1 && host.status.filesInMemory == 0)
    b.isUp = true
    host.pass(.seconds(60))
    let connection = try #require(host.connection(to: 1))
    let root = CheapHash.root(of: Array("one".utf8), leafSize: FakeHost.leafSize)
    host.give(.received(connection, .payloadDurable([DurablePrefix(file: uuid, length: 3, root: .zero)])))
    host.give(.received(connection, .payloadDurable([DurablePrefix(file: uuid, length: 2, root: root)])))
    host.pass(.seconds(3))
    #expect(try host.store.delivered(to: "logs-b", of: uuid) == nil, "other bytes, or too few to compare")
    #expect(host.status.gaps == 1)
    host.give(.received(connection, .payloadDurable([DurablePrefix(file: uuid, length: 3, root: root)])))
    host.pass(.seconds(3))
    #expect(try host.store.delivered(to: "logs-b", of: uuid) == 3)
    // Every server has it now: the gap's record stays, and it stands no more.
    #expect(try host.gaps.count == 1 && host.status.gaps == 0 && host.store.gaps().isEmpty)
    #expect(host.status.filesInMemory == 0)
  }

  @Test func aRefusalOfARowIsReportedW4() throws {
    let host = try vanished()
    let connection = try #require(host.connection(to: 1))
    let uuid = host.births[0].file
    let refusal = Refusal(file: uuid, code: .quota, length: 0, text: "no")
    host.give(.received(connection, .refusal(refusal)))
    host.pass(.seconds(1))
    #expect(host.reports.contains(.refused(ServerIndex(1), uuid, BytePath("/log/a.log"), .quota, "no")))
    #expect(host.status.servers[1].refusals == 1)
    #expect(host.status.filesInMemory == 0)
  }

  @Test func wordsAboutFilesThatNobodyKnowsChangeNothing() throws {
    let host = try vanished()
    let connection = try #require(host.connection(to: 1))
    let stranger = FileUUID(UUIDBytes(high: 9, low: 9))
    host.give(.received(connection, .payloadDurable([DurablePrefix(file: stranger, length: 3, root: .zero)])))
    host.give(.received(connection, .refusal(Refusal(file: stranger, code: .quota, length: 0, text: "no"))))
    host.pass(.seconds(5))
    #expect(host.status.filesInMemory == 0 && host.connection(to: 1) == connection)
  }

  /// What was noted of rows goes with what the server lost, although nobody has them in memory.
  @Test func aServerThatLostEverythingGetsARowThatComesBackInFull() throws {
    let host = try vanished()
    let uuid = host.births[0].file
    #expect(try host.store.delivered(to: "logs-b", of: uuid) == 3)
    b.loseAll()
    host.cut(1)
    host.pass(.seconds(60))
    #expect(try host.store.delivered(to: "logs-b", of: uuid) == nil)
    #expect(try host.store.delivered(to: "logs-a", of: uuid) == 3)
    files.rename("/elsewhere/a", "/log/a.log")
    host.pass(.seconds(5))
    expectBoth("/log/a.log", ["one"])
    #expect(host.births.count == 1)
  }

  /// A server that was never there is owed what lives; of what ended there is nothing to send, until it comes back.
  @Test func aNewServerGetsWhatComesBackInFull() throws {
    let inode = files.create("/log/stays.log", "stays")
    let host = try vanished()
    _ = inode
    let c = FakeServer("logs-c", leafSize: FakeHost.leafSize)
    let next = try FakeHost(files, servers: [a, b, c], limits: limits, after: host)
    next.pass(.seconds(5))
    #expect(c.contents("/log/stays.log") == ["stays"] && c.contents("/log/a.log").allSatisfy { $0.isEmpty })
    files.rename("/elsewhere/a", "/log/a.log")
    next.pass(.seconds(5))
    #expect(c.contents("/log/a.log") == ["one"])
  }
}
