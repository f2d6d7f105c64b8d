import DataPlane
import HostCore
import JournalModel
import Testing

/// A directory that stands still isn't listed again in full (K6), and hints are lost all the while (G3).
@Suite final class StillDirectoryTests: TwoServers {
  private let scan = Interval.seconds(61)

  override init() {
    super.init()
    files.losesHints = true
  }

  /// A host that has scanned twice: once at its start, and once in search of what isn't there any more.
  private func settledHost(_ include: [String] = ["/log/**/*.log*"]) throws -> FakeHost {
    let host = try FakeHost(files, servers: servers, include: include)
    host.pass(scan)
    host.pass(scan)
    return host
  }

  /// What the last request of a directory said was known of it.
  private func known(_ host: FakeHost, _ directory: String) -> [String]? {
    for effect in host.effects.reversed() {
      guard case .watch(BytePath(directory), _, let known) = effect else { continue }
      return known?.names.map { String(decoding: $0, as: UTF8.self) }
    }
    return nil
  }

  @Test func onlyWhatMattersIsLookedAtK6() throws {
    files.create("/log/a.log", "a")
    files.create("/log/a.tmp")
    files.symlink("/away", "/log/view.log")
    files.mkdir("/log/deep")
    let host = try settledHost()
    #expect(known(host, "/log") == ["a.log", "deep", "view.log"])
    #expect(known(host, "/log/deep") == [])
    expectBoth("/log/a.log", ["a"])
  }

  @Test func growthIsSeenK6() throws {
    files.create("/log/a.log", "a")
    let host = try settledHost()
    files.append("/log/a.log", "b")
    host.pass(scan)
    #expect(known(host, "/log") == ["a.log"])
    expectBoth("/log/a.log", ["ab"])
  }

  @Test func whatIsMadeRenamedOrRemovedIsSeenK6() throws {
    files.create("/log/a.log", "a")
    let host = try settledHost()
    files.create("/log/b.log", "b")
    host.pass(scan)
    expectBoth("/log/b.log", ["b"])
    files.rename("/log/a.log", "/log/a.log.1")
    files.create("/log/a.log", "next")
    host.pass(scan)
    expectBoth("/log/a.log", ["a", "next"])
    files.remove("/log/b.log")
    host.pass(scan)
    #expect(host.closings.map(\.reason) == [.deleted])
    host.pass(scan)
    host.pass(scan)
    #expect(known(host, "/log") == ["a.log", "a.log.1"])
  }

  /// The look that fails is one at what is known: the scan ends all the same, and what it left owed is done, whatever names
  /// are looked at meanwhile.
  @Test(arguments: [false, true]) func aFailedLookIsMadeUpForK6(hasHint: Bool) throws {
    files.create("/log/a.log", "a")
    let host = try settledHost()
    files.unreadable["/log"] = "EMFILE"
    host.pass(scan)
    #expect(host.status.unreadableDirectories == [BytePath("/log")])
    files.unreadable = [:]
    files.append("/log/a.log", "b")
    if hasHint {
      host.give(.hinted(.changed(directory: BytePath("/log"), name: Array("b.log".utf8))))
      host.pass(.milliseconds(100))
      #expect(host.status.unreadableDirectories == [BytePath("/log")])
    }
    host.pass(.seconds(10))
    #expect(host.status.unreadableDirectories == [])
    expectBoth("/log/a.log", ["ab"])
    host.give(.settle(token: 1))
    host.pass(scan)
    #expect(host.settled == [1])
  }

  @Test func withoutTimesEverythingIsListedK6() throws {
    files.hasTimes = false
    files.create("/log/a.log", "a")
    let host = try settledHost()
    host.pass(scan)
    #expect(known(host, "/log") == nil)
  }

  @Test func whatIsMountedOverAnEntryIsSeenK6() throws {
    files.create("/log/a.log", "a")
    files.mkdir("/log/deep")
    files.create("/log/deep/d.log", "d")
    let host = try settledHost()
    files.remount("/log/a.log", filesystem: 9)
    files.mounts["/log/deep"] = 9
    #expect(known(host, "/log") == ["a.log", "deep"])
    // Another file, and another directory, by their devices alone.
    files.append("/log/a.log", "b")
    files.create("/log/deep/e.log", "e")
    host.pass(scan)
    host.pass(scan)
    #expect(a.contents("/log/a.log").contains("ab"))
    expectBoth("/log/deep/e.log", ["e"])
  }

  @Test func whereALinkLeadsIsSeenK6() throws {
    files.mkdir("/away")
    files.create("/away/x", "x")
    files.symlink("/away/x", "/log/view.log")
    let host = try settledHost()
    files.rename("/away/x", "/away/x.1")
    files.create("/away/x", "next")
    host.pass(scan)
    #expect(known(host, "/log") == ["view.log"])
    #expect(a.contents("/log/view.log").contains("next"))
  }

  /// The directory that has it stands still, and no pattern finds the name.
  @Test func aNameIsSoughtEverywhereK6() throws {
    let inode = files.create("/log/x.old", "x")
    files.mkdir("/log/deep")
    let host = try settledHost()
    files.link("/log/x.old", "/log/deep/y.log")
    host.pass(scan)
    expectBoth("/log/deep/y.log", ["x"])
    host.pass(scan)
    files.remove("/log/deep/y.log")
    host.pass(scan)
    host.pass(scan)
    files.append(inode, "more")
    host.pass(scan)
    #expect(a.contents("/log/x.old") == ["xmore"] || a.contents("/log/deep/y.log") == ["xmore"])
    #expect(host.closings.isEmpty)
    #expect(known(host, "/log") == ["x.old", "deep"].sorted())
  }

  @Test func onceInAWhileEverythingIsListedK6() throws {
    files.create("/log/a.log", "a")
    let host = try settledHost()
    func full() -> Int {
      host.effects.count { if case .watch(_, _, known: nil) = $0 { true } else { false } }
    }
    let before = full()
    host.pass(.seconds(3_400))
    #expect(full() == before)
    host.pass(.seconds(200))
    #expect(full() == before + 1)
  }

  /// A name that was learnt since the directory was listed in full is looked at from then on.
  @Test func whatIsLearntInBetweenIsLookedAtK6() throws {
    files.create("/log/a.log", "a")
    let host = try settledHost()
    files.losesHints = false
    files.create("/log/b.log", "b")
    host.run()
    files.losesHints = true
    expectBoth("/log/b.log", ["b"])
    host.pass(scan)
    files.append("/log/b.log", "c")
    host.pass(scan)
    expectBoth("/log/b.log", ["bc"])
  }

  @Test func anUnwatchedDirectoryIsPolledByItsTimesK6() throws {
    files.refusesWatches = true
    files.create("/log/a.log", "a")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(90))
    #expect(known(host, "/log") == ["a.log"])
    files.create("/log/b.log", "b")
    files.append("/log/a.log", "b")
    host.pass(.seconds(2))
    expectBoth("/log/b.log", ["b"])
    expectBoth("/log/a.log", ["ab"])
  }

  @Test func whatCannotBeListedIsNotKnownK6() throws {
    files.create("/log/a.log", "a")
    let host = try settledHost()
    files.unreadable["/log"] = "EIO"
    host.pass(scan)
    files.unreadable = [:]
    host.pass(.seconds(6))
    #expect(known(host, "/log") == nil)
    host.pass(scan)
    #expect(known(host, "/log") == ["a.log"])
  }
}
