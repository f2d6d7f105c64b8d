import DataPlane
import HostCore
import JournalModel
import JournalStore
import Testing
import WireProtocol

@Suite final class RestartTests: TwoServers {
  @Test func goesOnWhereItWasS41() throws {
    for index in 0..<20 { files.create("/log/\(index).log", String(repeating: "\(index % 10)", count: index * 10)) }
    var host = try FakeHost(files, servers: servers)
    for round in 0..<5 {
      host.pass(.milliseconds(5))
      files.append("/log/\(round).log", "down")
      host = try FakeHost(files, servers: servers, after: host)
    }
    host.pass(.seconds(5))
    for index in 0..<20 {
      expectBoth(
        "/log/\(index).log", [String(repeating: "\(index % 10)", count: index * 10) + (index < 5 ? "down" : "")])
    }
    #expect(host.births.count == 20)
  }

  @Test func whatHasNotMovedIsNotReadAgainD4() throws {
    for index in 0..<20 { files.create("/log/\(index).log", "x") }
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(5))
    files.append("/log/7.log", "y")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(5))
    let reads = second.effects.count { if case .ingest = $0 { true } else { false } }
    #expect(reads == 1)
    #expect(b.questions.last?.count == 1)
    expectBoth("/log/7.log", ["xy"])
  }

  @Test func rotatedWhileDownS39() throws {
    files.create("/log/a.log", "0")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    for round in 1...3 {
      files.append("/log/a.log", "+")
      for index in stride(from: round - 1, through: 1, by: -1) {
        files.rename("/log/a.log.\(index)", "/log/a.log.\(index + 1)")
      }
      files.rename("/log/a.log", "/log/a.log.1")
      files.create("/log/a.log", "\(round)")
    }
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(2))
    #expect(a.contents("/log/a.log") == ["0+", "3"])
    #expect(Set(a.contents("/log/a.log.1") + a.contents("/log/a.log.2")) == ["1+", "2+"])
    #expect(second.rotations.map(\.to) == [BytePath("/log/a.log.3")])
    #expect(second.closings.isEmpty)
  }

  @Test func renamedWhileDownToANameThatNoPatternFinds() throws {
    files.create("/log/a.log", "one")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.append("/log/a.log", " two")
    files.rename("/log/a.log", "/log/old")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(2))
    expectBoth("/log/a.log", ["one two"])
    #expect(second.births.count == 1)
  }

  @Test(arguments: [10, 64, 128, 192, 200]) func truncatedAndRefilledWhileDownD4S26(count: Int) throws {
    files.create("/log/a.log", String(repeating: "a", count: 128))
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.rewrite("/log/a.log", String(repeating: "b", count: count))
    var host = try FakeHost(files, servers: servers, after: first)
    host.pass(.seconds(2))
    for _ in 0..<5 {
      host = try FakeHost(files, servers: servers, after: host)
      host.pass(.seconds(2))
    }
    expectBoth("/log/a.log", [String(repeating: "a", count: 128), String(repeating: "b", count: count)])
    #expect(host.closings.map(\.reason) == [.truncated])
  }

  /// A log cut to its last lines in place, a weekly ring: what the listing shows is the new content's size.
  @Test(arguments: [30, 100, 150, 300]) func truncatedAndGrownWhileDownIsNoGapG7(count: Int) throws {
    files.create("/log/a.log", String(repeating: "a", count: 100))
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.rewrite("/log/a.log", String(repeating: "b", count: count))
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(2))
    expectBoth("/log/a.log", [String(repeating: "a", count: 100), String(repeating: "b", count: count)])
    #expect(second.gaps.isEmpty && second.status.gaps == 0)
    #expect(second.status.isSettled)
  }

  /// A listing that was asked for before the content began shows the one before it.
  @Test func aListingOfTheContentBeforeIsNoGapG7() throws {
    let inode = files.create("/log/a.log", String(repeating: "a", count: 100))
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(2))
    host.withholds = { if case .listed = $0 { true } else { false } }
    files.overflow()
    host.run()
    inode.bytes = Array("short".utf8)
    files.append(inode, "")
    host.pass(.milliseconds(50))
    host.releaseWithheld()
    host.pass(.seconds(10))
    expectBoth("/log/a.log", [String(repeating: "a", count: 100), "short"])
    #expect(host.gaps.isEmpty)
  }

  /// What a listing shows while a read is under way is newer than what the read saw.
  @Test func aListingNewerThanTheReadUnderWayIsNoGapG7() throws {
    let inode = files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(2))
    host.withholds = { if case .ingested = $0 { true } else { false } }
    files.append(inode, " two")
    host.pass(.milliseconds(50))
    files.append(inode, " three")
    files.overflow()
    host.run()
    host.releaseWithheld()
    host.pass(.seconds(2))
    expectBoth("/log/a.log", ["one two three"])
    #expect(host.gaps.isEmpty)
  }

  /// Gaps of paths too are counted and found again after a restart, once each.
  @Test func gapsOutliveARestartAndAreCountedOnceG7() throws {
    let inode = files.create("/log/a.log", "kept")
    var host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    files.append(inode, " lost before it was read")
    inode.fault = "EIO"
    files.overflow()
    host.run()
    inode.fault = nil
    inode.bytes.removeLast(24)
    host.pass(.seconds(10))
    #expect(host.gaps.map(\.upper) == [28])
    for _ in 0..<3 {
      host = try FakeHost(files, servers: servers, after: host)
      host.pass(.seconds(10))
      #expect(host.status.gaps == 1 && host.gaps.count == 1)
      #expect(try host.store.gaps().map(\.file) == [nil])
    }
  }

  /// Whoever lists gaps reads from the notes which servers lack the bytes.
  @Test func whatAServerAcknowledgedJustBeforeATruncationIsNotedG7() throws {
    files.create("/log/a.log", "one")
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    host.run()
    let file = try #require(host.births.first?.file)
    #expect(a.contents("/log/a.log") == ["one"])
    #expect(try host.store.delivered(to: "logs-a")[file] == nil, "not noted yet")
    files.rewrite("/log/a.log", "x")
    host.pass(.seconds(2))
    #expect(host.gaps.map(\.upper) == [3])
    #expect(try host.store.delivered(to: "logs-a")[file] == 3)
    #expect(try host.store.delivered(to: "logs-b")[file] == nil)
  }

  /// Notes from before a loss are worth nothing.
  @Test func aServerThatLostRecordsIsNotNotedToHaveWhatItHadW2() throws {
    let inode = files.create("/log/a.log", "one")
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    // The journal's own note, without which nothing seems lost.
    host.pass(.seconds(2))
    files.append(inode, " two")
    host.run()
    let file = try #require(host.births.first?.file)
    #expect(a.contents("/log/a.log") == ["one two"])
    host.holdsCommits = true
    files.rewrite("/log/a.log", "x")
    host.run()
    a.files = [:]
    a.records = []
    a.bodies = []
    a.lastCheckpoint = nil
    host.cut(0)
    host.pass(.seconds(5))
    host.releaseCommits()
    host.pass(.seconds(5))
    #expect(try host.store.delivered(to: "logs-a")[file].map { $0 < 7 } ?? true)
  }

  @Test func aGapOfAFileThatReturnsIsHealedG7() throws {
    files.create("/log/a.log", "one")
    b.isUp = false
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.mkdir("/elsewhere")
    files.rename("/log/a.log", "/elsewhere/a")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(120))
    #expect(second.status.gaps == 1)
    #expect(try second.store.gaps().map(\.file) == [second.births[0].file])
    files.rename("/elsewhere/a", "/log/a.log")
    b.isUp = true
    second.pass(.seconds(60))
    expectBoth("/log/a.log", ["one"])
    #expect(try second.status.gaps == 0 && second.store.gaps().isEmpty)
  }

  @Test func vanishedWhileDownAndNothingOwed() throws {
    files.create("/log/a.log", "one")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.remove("/log/a.log")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(5))
    #expect(second.closings.map(\.reason) == [.vanished])
    #expect(second.gaps.isEmpty)
    let third = try FakeHost(files, servers: servers, after: second)
    third.pass(.seconds(5))
    #expect(third.closings.count == 1)
    #expect(third.status.isSettled)
  }

  @Test func vanishedWhileDownAndOwedIsAGapG7() throws {
    files.create("/log/a.log", "one")
    b.isUp = false
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.remove("/log/a.log")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(120))
    #expect(second.closings.map(\.reason) == [.vanished])
    #expect(second.gaps.map(\.lower) == [0] && second.gaps.map(\.upper) == [3])
    #expect(second.status.gaps == 1)
    let third = try FakeHost(files, servers: servers, after: second)
    b.isUp = true
    third.pass(.seconds(60))
    #expect(third.gaps.count == 1 && third.status.gaps == 1)
    #expect(third.status.isSettled)
  }

  /// What the host lost a server may have from its peer (J4). `isRow`: nothing of the file is in memory.
  @Test(arguments: [false, true], ["one", "on", "two"])
  func whatServersHaveFromTheirPeersIsNoGapJ4(isRow: Bool, held: String) throws {
    files.create("/log/a.log", "one")
    b.isUp = false
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    if isRow { files.rewrite("/log/a.log", "x") } else { files.remove("/log/a.log") }
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(120))
    let uuid = second.births[0].file
    #expect(try second.store.gaps().map(\.upper) == [3])
    b.files[uuid, default: .init()].bytes = Array(held.utf8)
    b.files[uuid]?.durable = held.utf8.count
    b.isUp = true
    second.pass(.seconds(120))
    #expect(second.status.gaps == (held == "one" ? 0 : 1))
    #expect(try second.store.gaps().count == second.status.gaps)
    // So it is after a restart.
    let third = try FakeHost(files, servers: servers, after: second)
    third.pass(.seconds(120))
    #expect(third.status.gaps == second.status.gaps && third.gaps.count == 1)
  }

  /// Bytes that nobody read are on no server.
  @Test func aGapBeyondWhatIsJournaledIsNeverStruckOutJ4() throws {
    files.create("/log/a.log", "one")
    b.isUp = false
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.rewrite("/log/a.log", "x")
    first.pass(.seconds(2))
    let uuid = first.births[0].file
    var batch = HostBatch()
    batch.gaps = [StandingGap(record: 0, file: uuid, upper: 4)]
    _ = try first.store.commit(batch)
    let second = try FakeHost(files, servers: servers, after: first)
    b.files[uuid] = .init(bytes: Array("one".utf8), durable: 3)
    b.isUp = true
    second.pass(.seconds(120))
    #expect(try second.store.gaps().map(\.upper).sorted() == [3, 4])
  }

  /// The notes in the store may be older than what the server holds: its own word counts.
  @Test func vanishedButDeliveredBeforeTheCrashIsNoGap() throws {
    files.create("/log/a.log", "one")
    let first = try FakeHost(files, servers: servers)
    first.run()
    #expect(b.contents("/log/a.log") == ["one"])
    files.remove("/log/a.log")
    b.isUp = false
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(10))
    #expect(second.closings.isEmpty)
    b.isUp = true
    second.pass(.seconds(40))
    #expect(second.gaps.isEmpty)
    #expect(second.closings.map(\.reason) == [.vanished])
  }

  @Test func aVanishedFileThatReturnsGoesOn() throws {
    let inode = files.create("/log/a.log", "one")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.mkdir("/elsewhere")
    files.rename("/log/a.log", "/elsewhere/a")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(5))
    #expect(second.closings.map(\.reason) == [.vanished])
    files.append(inode, " two")
    files.rename("/elsewhere/a", "/log/a.log")
    second.pass(.seconds(2))
    expectBoth("/log/a.log", ["one two"])
    #expect(second.births.count == 1)
  }

  @Test func deletedAndReplacedWhileDownWithTheInodeNumberUsedAgainS16() throws {
    files.reusesNumbers = true
    files.create("/log/a.log", "one")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.remove("/log/a.log")
    files.create("/log/a.log", "one and more")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(5))
    expectBoth("/log/a.log", ["one", "one and more"])
    #expect(Set(second.births.map(\.identity.number)).count == 1)
  }

  @Test func theSameFileSystemUnderAnotherIdIsNotNew() throws {
    files.create("/log/a.log", "one")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.remount("/log/a.log", filesystem: 9)
    files.append("/log/a.log", " two")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(5))
    expectBoth("/log/a.log", ["one two"])
    #expect(second.births.count == 1)
  }

  @Test func crashAfterEveryStepLosesAndDoublesNothing() throws {
    for stop in stride(from: 1, through: 60, by: 1) {
      let files = FakeFileSystem()
      files.mkdir("/log")
      let servers = ["logs-a", "logs-b"].map { FakeServer($0, leafSize: FakeHost.leafSize) }
      files.create("/log/a.log", String(repeating: "a", count: 150))
      files.create("/log/b.log", "b")
      let first = try FakeHost(files, servers: servers, stopAfter: stop)
      files.append("/log/a.log", "more")
      files.rename("/log/a.log", "/log/a.log.1")
      let second = try FakeHost(files, servers: servers, after: first)
      second.pass(.seconds(10))
      for server in servers {
        let held = server.contents("/log/a.log") + server.contents("/log/a.log.1")
        #expect(held == [String(repeating: "a", count: 150) + "more"], "after \(stop) steps")
        #expect(server.contents("/log/b.log") == ["b"], "after \(stop) steps")
      }
    }
  }
}

@Suite final class SettlementTests: TwoServers {
  @Test func settlesOnlyWhenEveryServerHasWhatExisted() throws {
    files.create("/log/a.log", "one")
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    files.losesHints = true
    files.append("/log/a.log", " two")
    host.give(.settle(token: 7))
    host.pass(.seconds(5))
    #expect(host.settled.isEmpty)
    #expect(host.status.settlements.map(\.token) == [7])
    #expect(host.status.settlements[0].unsettled.map(\.path) == [BytePath("/log/a.log")])
    b.isUp = true
    host.pass(.seconds(31))
    #expect(host.settled == [7])
    #expect(b.contents("/log/a.log") == ["one two"])
    #expect(host.status.settlements.isEmpty)
  }

  /// Its store and log root were put back together: it has all records, and fewer bytes than it had acknowledged.
  @Test(arguments: [0, 3]) func aServerThatWasPutBackAndHasAllRecordsIsAskedAboutAllP3(left: Int) throws {
    files.create("/log/a.log", "one two")
    files.create("/log/b.log", "other")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(3))
    let uuid = try #require(b.files.first { $0.value.bytes == Array("one two".utf8) }).key
    b.files[uuid]?.bytes = Array("one two".utf8.prefix(left))
    b.files[uuid]?.durable = left
    // It hasn't said yet that it still has them.
    b.lies = { if case .resumeAnswer = $0 { nil } else { $0 } }
    b.putBack()
    host.cut(1)
    host.pass(.seconds(1))
    host.give(.settle(token: 1))
    host.pass(.seconds(3))
    #expect(host.settled.isEmpty && !host.status.isSettled)
    let lacking = host.status.settlements[0]
    #expect(lacking.unsettled.map(\.lack.server) == [ServerIndex(1), ServerIndex(1)])
    #expect(host.reports.count { $0 == .serverPutBack(ServerIndex(1)) } == 1)
    b.lies = nil
    host.cut(1)
    host.pass(.seconds(60))
    #expect(host.settled == [1] && host.status.isSettled)
    expectBoth("/log/a.log", ["one two"])
    // Asked once, also by the next process.
    let questions = b.questions.count
    host.cut(1)
    host.pass(.seconds(60))
    let second = try FakeHost(files, servers: servers, after: host)
    second.pass(.seconds(5))
    #expect(b.questions.count == questions && second.status.isSettled)
    b.putBack()
    second.cut(1)
    second.pass(.seconds(60))
    #expect(b.questions.count == questions + 1 && second.status.isSettled)
  }

  /// The server was put back to before the last acknowledgement that was noted, in the pause of the host.
  @Test func aPositionIsNotedWithWhatWasAcknowledgedP3() throws {
    files.create("/log/a.log", "one two")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(3))
    #expect(host.store.noted(b) == b.feed.position)
    files.append("/log/a.log", " three")
    host.pass(.seconds(1))
    let noted = try #require(host.store.noted(b))
    b.putBack()
    let second = try FakeHost(files, servers: servers, after: host)
    second.pass(.seconds(3))
    #expect(noted.number > 1 && !b.feed.contains(noted))
    #expect(second.reports.contains(.serverPutBack(ServerIndex(1))))
    #expect(second.store.noted(b) == b.feed.position)
  }

  /// An end says for good that servers have all of a file, and is in the next commit, whenever notes are due: a server that
  /// is put back to before it acknowledged the last bytes isn't taken for the one that did.
  @Test func anEndIsNeverDurableBeforeThePositionThatItRestsOnP3() throws {
    // Whenever the file is looked at beside the acknowledgement, and that beside the time for notes.
    for later in stride(from: 0 as UInt64, to: 20_000, by: 150) { try end(later) }
  }

  private func end(_ later: UInt64) throws {
    let (files, a, b) = (
      FakeFileSystem(), FakeServer("logs-a", leafSize: FakeHost.leafSize),
      FakeServer("logs-b", leafSize: FakeHost.leafSize)
    )
    files.mkdir("/log")
    files.create("/log/a.log", "one")
    b.acknowledges = false
    let host = try FakeHost(files, servers: [a, b])
    host.pass(.milliseconds(2_300))
    files.remove("/log/a.log")
    host.pass(.milliseconds(150_000 + later))
    #expect(host.closings.isEmpty)
    b.acknowledges = true
    host.cut(1)
    host.pass(.seconds(30))
    #expect(host.closings.count == 1)
    let end = try #require(host.commits.firstIndex { $0.files.contains { $0.closed != nil } })
    let noted = host.commits[...end].flatMap(\.positions).last { $0.server == b.name }?.position
    // Behind the end come its own record's acknowledgements.
    let position = try #require(b.positionOfLastPayload)
    #expect(noted.map { $0.number >= position.number } == true, "\(String(describing: noted))")
  }

  /// Where a feed is is said before something else, and twice in a row it says nothing.
  @Test func positionsAloneAreAFloodP6() throws {
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    let connection = try #require(host.connection(to: 0))
    let position = FeedPosition(life: UUIDBytes(high: 1, low: 1), number: 1)
    host.give(.received(connection, .position(position)))
    #expect(host.connection(to: 0) == connection)
    host.give(.received(connection, .position(position)))
    #expect(host.connection(to: 0) != connection)
  }

  /// What was struck off by the word of a server is owed again when that server turns out to have lost it.
  @Test func settlesOnlyWhenAServerThatLostItAllHasItAgain() throws {
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(3))
    let first = try #require(b.files.keys.first)
    a.isUp = false
    host.cut(0)
    files.create("/log/c.log", "two")
    host.give(.settle(token: 1))
    host.pass(.seconds(5))
    #expect(host.settled.isEmpty && b.contents("/log/c.log") == ["two"])
    b.loseAll()
    b.refuses[first] = .diskFull
    host.cut(1)
    a.isUp = true
    host.pass(.seconds(60))
    #expect(a.contents("/log/c.log") == ["two"] && b.contents("/log/c.log") == ["two"])
    #expect(host.settled.isEmpty && host.status.settlements.map(\.token) == [1])
    #expect(host.reports.count { if case .serverLost(ServerIndex(1), 0, _) = $0 { true } else { false } } == 1)
    b.refuses = [:]
    host.cut(1)
    host.pass(.seconds(120))
    #expect(host.settled == [1] && b.contents("/log/a.log") == ["one"])
  }

  /// Between the last acknowledgement and the commit that notes it.
  @Test func whatIsReachedIsTakenBackWhenAServerLosesIt() throws {
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(3))
    files.append("/log/a.log", " two")
    host.pass(.milliseconds(20))
    #expect(b.contents("/log/a.log") == ["one two"])
    host.holdsCommits = true
    host.give(.settle(token: 1))
    host.pass(.milliseconds(100))
    b.loseAll()
    b.acknowledges = false
    host.cut(1)
    host.pass(.seconds(2))
    host.releaseCommits()
    host.pass(.seconds(2))
    #expect(host.settled.isEmpty)
    b.acknowledges = true
    host.cut(1)
    host.pass(.seconds(60))
    #expect(host.settled == [1] && b.contents("/log/a.log") == ["one two"])
  }

  /// Who reads the journal after 'settled' (`inspect`) must not find less than was announced.
  @Test func whatIsSettledIsNotedBefore() throws {
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(3))
    files.append("/log/a.log", " two")
    host.give(.settle(token: 1))
    host.pass(.milliseconds(900))
    #expect(host.settled == [1])
    let records = host.status.journalLength
    #expect(host.notedWhenSettled == [[1, records, 7].sorted(), [1, records, 7].sorted()])
    // Nothing is new: no commit is waited for.
    let commits = host.effects.count { if case .commit = $0 { true } else { false } }
    host.give(.settle(token: 2))
    host.pass(.milliseconds(900))
    #expect(host.settled == [1, 2])
    #expect(host.effects.count { if case .commit = $0 { true } else { false } } == commits)
  }

  @Test func settlesWhileAWriterGoesOn() throws {
    let inode = files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    for round in 0..<200 {
      files.append(inode, "x")
      if round == 20 { host.give(.settle(token: 1)) }
      host.pass(.milliseconds(3))
    }
    #expect(host.settled == [1])
  }

  @Test func gapsCountAsSettledJ4() throws {
    files.create("/log/a.log", "long enough")
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    files.rewrite("/log/a.log", "x")
    host.pass(.seconds(1))
    host.give(.settle(token: 1))
    b.isUp = true
    host.pass(.seconds(60))
    #expect(host.settled == [1])
    #expect(host.status.gaps == 1)
  }

  @Test func truncationAtTheSameTimeIncludesTheNextIncarnation() throws {
    files.create("/log/a.log", "long enough")
    let host = try FakeHost(files, servers: servers)
    files.losesHints = true
    files.rewrite("/log/a.log", "second")
    b.lies = { if case .payloadDurable = $0 { nil } else { $0 } }
    host.give(.settle(token: 1))
    host.pass(.seconds(5))
    #expect(host.settled.isEmpty)
    b.lies = nil
    host.cut(1)
    host.pass(.seconds(5))
    #expect(host.settled == [1])
    #expect(b.contents("/log/a.log") == ["long enough", "second"])
  }

  @Test func unreadableDirectoriesAndFilesAreNotSettledD10() throws {
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    files.unreadable["/log"] = "EACCES"
    host.give(.settle(token: 1))
    host.pass(.seconds(20))
    #expect(host.settled.isEmpty)
    #expect(host.status.unreadableDirectories == [BytePath("/log")])
    files.unreadable = [:]
    host.pass(.seconds(20))
    #expect(host.settled == [1])
  }

  @Test func statusNamesFilesThatCannotBeReadG7() throws {
    files.create("/log/a.log", "one")
    files.unreadableFiles["/log/a.log"] = "EACCES"
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    #expect(host.status.unreadableCount == 1)
    #expect(host.status.unreadable.map(\.path) == [BytePath("/log/a.log")])
    #expect(host.status.unreadable.map(\.reason) == ["EACCES"])
    files.unreadableFiles = [:]
    host.pass(.seconds(20))
    #expect(host.status.unreadable.isEmpty && host.status.unreadableCount == 0)
    #expect(b.contents("/log/a.log") == ["one"])
  }

  @Test func cancelledAndRepeatedQuestions() throws {
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    files.create("/log/a.log", "one")
    host.give(.settle(token: 1))
    host.give(.settle(token: 2))
    host.give(.cancelSettle(token: 1))
    b.isUp = true
    host.pass(.seconds(60))
    #expect(host.settled == [2])
  }

  @Test func statusCountsLag() throws {
    b.isUp = false
    files.create("/log/a.log", "12345")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    let status = host.status
    #expect(status.servers.map(\.lagBytes) == [0, 5])
    #expect(status.servers.map(\.lagEvents) == [0, 3])
    #expect(status.servers[0].oldestUndelivered == nil)
    #expect(status.servers[1].oldestUndelivered == Instant(nanoseconds: 1_000_000_000))
    #expect(status.filesFollowed == 1 && status.filesOpen == 1)
    #expect(!status.isSettled)
  }
}

extension InMemoryHostStore {
  fileprivate func noted(_ server: FakeServer) -> FeedPosition? { try? position(of: server.name) }
}
