import DataPlane
import HostCore
import JournalModel
import JournalStore
import Testing
import WireProtocol

/// P5 on a host: what the journal's store refuses of one file is set apart, and the rest goes on.
@Suite final class SettingApartTests: TwoServers {
  /// Three files, the second one refused from here on.
  func poisonedHost() throws -> (FakeHost, FileUUID) {
    for name in ["a", "b", "c"] { files.create("/log/\(name).log", "one") }
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(3))
    let file = try #require(host.births.first { $0.path == BytePath("/log/b.log") }?.file)
    host.poisoned = [file]
    return (host, file)
  }

  func write(_ text: String) { for name in ["a", "b", "c"] { files.append("/log/\(name).log", text) } }

  @Test func aRefusedFileStopsNoOtherP5() throws {
    let (host, file) = try poisonedHost()
    host.holdsCommits = true
    write(" two")
    host.run()
    write(" three")
    host.releaseCommits()
    host.pass(.seconds(10))
    expectBoth("/log/a.log", ["one two three"])
    expectBoth("/log/c.log", ["one two three"])
    expectBoth("/log/b.log", ["one"])
    // Once: nothing refused is tried again.
    #expect(host.refusals == 1 && host.status.journalBlocked == nil)
    #expect(host.reports.count { if case .setApart(file, _, _) = $0 { true } else { false } } == 1)
    #expect(host.gaps.map(\.subject) == [.file(file)])
    #expect(host.gaps.map(\.lower) == [3] && host.gaps.map(\.upper) == [.max])
    #expect(host.status.apart.map(\.file) == [file] && host.status.apartCount == 1)
    #expect(host.status.apart.map(\.path) == [BytePath("/log/b.log")])
    #expect(host.status.apart.map(\.why) == ["damaged: leaf 0"])
    #expect(host.status.gaps == 1)
    #expect(try host.store.gaps().map(\.file) == [file])
    // What can't be journaled isn't waited for; the gap and the alarm keep the node from being settled.
    host.give(.settle(token: 1))
    host.pass(.seconds(10))
    #expect(host.settled == [1])
  }

  @Test func aStartTakesARefusedFileWhereItStoodAndHealsTheGapG7() throws {
    let (first, _) = try poisonedHost()
    write(" two")
    first.pass(.seconds(10))
    files.append("/log/b.log", " three")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(10))
    expectBoth("/log/b.log", ["one two three"])
    expectBoth("/log/a.log", ["one two"])
    #expect(second.status.gaps == 0 && second.status.apartCount == 0 && second.status.isSettled)
    #expect(try second.store.gaps().isEmpty)
  }

  @Test func aRefusedFileThatIsRemovedLeavesItsGapG7() throws {
    let (host, file) = try poisonedHost()
    b.isUp = false
    write(" two")
    host.pass(.seconds(3))
    files.remove("/log/b.log")
    files.create("/log/b.log", "next")
    host.pass(.seconds(10))
    b.isUp = true
    host.pass(.seconds(200))
    expectBoth("/log/b.log", ["one", "next"])
    #expect(host.gaps.map(\.subject) == [.file(file)] && host.status.gaps == 1)
    #expect(host.openDescriptors == host.attachedCount && host.attachedCount == 3)
    #expect(host.status.filesHeld == 0)
    let next = try FakeHost(files, servers: servers, after: host)
    next.pass(.seconds(200))
    #expect(try next.store.gaps().count == next.status.gaps)
    #expect(next.gaps.contains { $0.subject == .file(file) && $0.upper == .max })
  }

  @Test func aFileRefusedAtItsBirthIsAGapOfItsPathG7() throws {
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(3))
    host.holdsCommits = true
    files.create("/log/x.log", "x")
    host.run()
    files.create("/log/a.log", "one")
    files.create("/log/b.log", "two")
    host.run()
    host.releaseCommits()
    // Births have ends only when they are committed: poison what comes next.
    let third = files.create("/log/c.log", "three")
    host.holdsCommits = true
    host.run()
    let births = host.heldCommits.flatMap(\.files)
    let file = try #require(births.first { $0.path == BytePath("/log/c.log") }?.file)
    host.poisoned = [file]
    host.releaseCommits()
    host.pass(.seconds(10))
    files.append(third, " more")
    files.append("/log/a.log", " more")
    host.pass(.seconds(10))
    expectBoth("/log/a.log", ["one more"])
    #expect(!host.births.contains { $0.file == file } && a.contents("/log/c.log").isEmpty)
    #expect(host.gaps.map(\.subject) == [.path(BytePath("/log/c.log"))] && host.gaps.map(\.lower) == [0])
    // A start bears it as any other.
    let next = try FakeHost(files, servers: servers, after: host)
    next.pass(.seconds(10))
    expectBoth("/log/c.log", ["three more"])
  }

  /// The end of one incarnation is refused, the next one isn't; gaps of others keep their numbers right.
  @Test func aRefusedFileThatIsTruncatedMeanwhileIsAGapG7() throws {
    let (host, file) = try poisonedHost()
    b.isUp = false
    host.pass(.seconds(1))
    host.holdsCommits = true
    write(" two")
    host.run()
    files.rewrite("/log/b.log", "new")
    files.rewrite("/log/c.log", "new")
    host.run()
    host.releaseCommits()
    host.pass(.seconds(10))
    b.isUp = true
    host.pass(.seconds(100))
    #expect(a.contents("/log/b.log").last == "new" && b.contents("/log/b.log").last == "new")
    #expect(host.gaps.contains { $0.subject == .file(file) && $0.upper >= 7 })
    #expect(try host.store.gaps().count == host.status.gaps)
    let next = try FakeHost(files, servers: servers, after: host)
    next.pass(.seconds(200))
    #expect(next.gaps.contains { $0.subject == .file(file) })
    #expect(try next.store.gaps().count == next.status.gaps)
    expectBoth("/log/a.log", ["one two"])
  }

  @Test func everyFileOfABatchMayBeRefusedP5() throws {
    for index in 0..<20 { files.create("/log/\(index).log", "x") }
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(3))
    host.poisoned = Set(host.births.map(\.file))
    host.holdsCommits = true
    for index in 0..<20 { files.append("/log/\(index).log", "y") }
    host.give(.settle(token: 4))
    host.run()
    host.releaseCommits()
    host.pass(.seconds(20))
    #expect(host.refusals == 20 && host.status.apartCount == 20 && host.gaps.count == 20)
    #expect(host.settled == [4])
    files.create("/log/new.log", "z")
    host.pass(.seconds(3))
    expectBoth("/log/new.log", ["z"])
  }

  /// What the store says of more than one file, or of none that it was given, ends in no loop (P4).
  @Test(arguments: [
    StoreError.corrupt("meta head"), .damaged("page 3"),
    .refused(.file(FileUUID(UUIDBytes(high: 9, low: 9))), .corrupt("x")),
  ]) func aDamagedJournalStopsTheNodeP4(error: StoreError) throws {
    let host = try FakeHost(files, servers: servers)
    host.failsCommits = error
    files.create("/log/a.log", "one")
    host.pass(.seconds(20))
    #expect(host.effects.count { if case .halt = $0 { true } else { false } } == 1)
    #expect(host.effects.count { if case .commit = $0 { true } else { false } } == 1)
  }
}
