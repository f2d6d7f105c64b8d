import DataPlane
@testable import HostCore
import JournalModel
import Testing

/// Names that aren't followed, and paths that lead elsewhere.
@Suite struct NamesTests {
  let files = FakeFileSystem()
  let a = FakeServer("logs-a", leafSize: FakeHost.leafSize)

  init() { files.mkdir("/log") }

  private func host(_ include: [String] = ["/log/**/*.log*"], anyLink: Bool = false, after: FakeHost? = nil) throws
    -> FakeHost
  {
    try FakeHost(files, servers: [a], include: include, followsAnyLink: anyLink, after: after)
  }
  private func unfollowed(_ host: FakeHost) -> [BytePath: Unfollowed] {
    Dictionary(uniqueKeysWithValues: host.status.unfollowed.map { ($0.path, $0.why) })
  }
  private func settles(_ host: FakeHost) -> Bool {
    host.give(.settle(token: 7))
    host.pass(.seconds(20))
    return host.settled.contains(7)
  }

  // MARK: K6

  @Test func whatWasLetGoOfSinceItsListingIsListedAgainK6() throws {
    let host = try host()
    var listings = 0
    host.beforeListing = { [files] _ in
      listings += 1
      if listings == 2 { files.drawsNone = [] }
    }
    files.drawsNone = ["/log/a.log"]
    files.create("/log/a.log", "a")
    host.run()
    #expect(listings >= 2)
    #expect(a.contents("/log/a.log") == ["a"])
    #expect(host.births.count == 1)
  }

  // MARK: D9

  @Test func linksThatLendRightsAreSaidOnceAndDontKeepFromSettlingD9() throws {
    files.create("/secret", "s")
    files.symlink("/secret", "/log/view.log")
    files.lent["/log/view.log"] = LentLink(path: BytePath("/log/view.log"), owner: 1_000, target: 0)
    let why = Unfollowed.link(BytePath("/log/view.log"), owner: 1_000, target: 0)
    let host = try host()
    host.pass(.seconds(30))
    #expect(host.births.isEmpty)
    #expect(unfollowed(host) == [BytePath("/log/view.log"): why])
    #expect(host.reports.count { $0 == .unfollowed(BytePath("/log/view.log"), why) } == 1)
    #expect(settles(host) && host.status.isSettled)
    // Its owner is put right: polled, as every link.
    files.lent = [:]
    host.pass(.seconds(1))
    #expect(a.contents("/log/view.log") == ["s"])
    #expect(host.status.unfollowedCount == 0)
    // And wrong again: it is let go of like a file that was moved out of sight.
    files.lent["/log/view.log"] = LentLink(path: nil, owner: 1_000, target: 0)
    host.pass(.seconds(100))
    files.append("/secret", "more")
    host.pass(.seconds(100))
    #expect(a.contents("/log/view.log") == ["s"] && host.status.unfollowedCount == 1)
  }

  @Test func anyLinkIsFollowedWhereTheRuleSaysSoD9() throws {
    files.create("/secret", "s")
    files.symlink("/secret", "/log/view.log")
    files.lent["/log/view.log"] = LentLink(path: nil, owner: 1_000, target: 0)
    let host = try host(anyLink: true)
    host.run()
    #expect(a.contents("/log/view.log") == ["s"])
    #expect(host.status.unfollowedCount == 0)
  }

  @Test func aBaseThatALentLinkLeadsToIsBarredWithAllThatIsInItD9() throws {
    files.create("/log/a.log", "a")
    files.lent["/log"] = LentLink(path: BytePath("/log"), owner: 1_000, target: 0)
    let host = try host()
    host.pass(.seconds(1))
    #expect(host.births.isEmpty)
    #expect(unfollowed(host) == [BytePath("/log"): .link(BytePath("/log"), owner: 1_000, target: 0)])
    #expect(settles(host))
  }

  /// Owner, group and mode of directory and file, and whether a further name counts: whoever may make names in the
  /// directory must be able to read the file, or own it.
  @Test(arguments: [
    (directory: (UInt32(0), UInt32(0), UInt32(0o755)), file: (UInt32(0), UInt32(0), UInt32(0o600)), counts: true),
    ((1_000, 1_000, 0o755), (0, 0, 0o600), false),
    ((1_000, 1_000, 0o755), (0, 0, 0o644), true),
    ((1_000, 1_000, 0o755), (1_000, 1_000, 0o600), true),
    ((0, 0, 0o777), (0, 0, 0o640), false),
    ((0, 0, 0o1777), (0, 0, 0o640), false),
    ((0, 0, 0o1777), (0, 0, 0o644), true),
    // As rsyslog has it on Debian and Ubuntu; a group that can read the file anyway.
    ((0, 104, 0o775), (104, 4, 0o640), false),
    ((0, 4, 0o775), (104, 4, 0o640), true),
    // The node's own user.
    ((77, 77, 0o755), (0, 0, 0o600), true),
  ])
  func hardLinksCountWhereNobodyLendsThemD9(
    directory: (UInt32, UInt32, UInt32), file: (UInt32, UInt32, UInt32), counts: Bool
  ) throws {
    func facts(_ kind: FileFacts.Kind, _ rights: (UInt32, UInt32, UInt32), links: UInt32) -> FileFacts {
      let inode = InodeKey(filesystem: 1, identity: InodeIdentity(number: 5, generation: 1, birth: nil))
      return FileFacts(
        kind: kind, inode: inode, size: 0, modified: WallTime(nanoseconds: 0), links: links, mode: rights.2,
        owner: rights.0, group: rights.1)
    }
    let place = facts(.directory, directory, links: 2)
    #expect(facts(.regular, file, links: 2).isReadable(byNamersIn: place, user: 77) == counts)
    #expect(facts(.regular, file, links: 1).isReadable(byNamersIn: place, user: 77))
  }

  @Test func aFurtherNameOfWhatIsFollowedNeitherLendsNorEndsAnythingD9() throws {
    files.mkdir("/log/open")
    files.mkdir("/private")
    files.rights["/log/open"] = (1_000, 1_000, 0o040755)
    for path in ["/log/a.log", "/private/secret", "/log/open/hard.log", "/log/open/a.log", "/log/open/a.log.1"] {
      files.rights[path] = (0, 0, 0o100600)
    }
    files.create("/log/a.log", "a")
    files.create("/private/secret", "s")
    files.link("/private/secret", "/log/open/hard.log")
    let host = try host()
    host.run()
    #expect(unfollowed(host) == [BytePath("/log/open/hard.log"): .hardLink(owner: 0)])
    // Somebody gives a followed file another name, then its own is rotated.
    files.link("/log/a.log", "/log/open/a.log")
    files.rename("/log/a.log", "/log/a.log.1")
    files.append("/log/a.log.1", "b")
    host.pass(.seconds(1))
    #expect(a.contents("/log/a.log") == ["ab"])
    #expect(a.contents("/log/open/hard.log").isEmpty)
    #expect(host.births.count == 1)
  }

  // MARK: D10, G7

  @Test func aLinkWhoseTargetCannotBeReachedIsOwedAndNoDeletionD10() throws {
    files.mkdir("/data")
    files.create("/data/x", "one")
    files.symlink("/data/x", "/log/view.log")
    let host = try host()
    host.run()
    files.troubles["/log/view.log"] = "open: Permission denied"
    files.append("/data/x", "two")
    host.pass(.seconds(60))
    #expect(host.closings.isEmpty && host.rotations.isEmpty && host.gaps.isEmpty)
    #expect(unfollowed(host) == [BytePath("/log/view.log"): .unknown("open: Permission denied")])
    #expect(!host.status.isSettled && !settles(host))
    files.troubles = [:]
    host.pass(.seconds(2))
    #expect(host.settled == [7] && a.contents("/log/view.log") == ["onetwo"])
  }

  @Test func aPathTooLongForTheJournalIsOwedG7() throws {
    let deep = "/log/" + Array(repeating: String(repeating: "d", count: 200), count: 20).joined(separator: "/")
    var path = "/log"
    for part in deep.split(separator: "/").dropFirst() {
      path += "/" + part
      files.mkdir(path)
    }
    let name = String(repeating: "n", count: 100) + ".log"
    files.create("\(deep)/\(name)", "deep")
    let host = try host()
    host.pass(.seconds(1))
    let count = deep.utf8.count + 1 + name.utf8.count
    #expect(unfollowed(host) == [BytePath("\(deep)/\(name)"): .tooLong(count)])
    #expect(!settles(host))
    files.rename("\(deep)/\(name)", "\(deep)/x.log")
    host.pass(.seconds(1))
    #expect(a.contents("\(deep)/x.log") == ["deep"] && host.settled == [7])
  }

  // MARK: F1

  @Test func aMountIsLookedForInEveryDirectoryF1() throws {
    files.mkdir("/log/app")
    files.create("/log/app/a.log", "under")
    let host = try host()
    host.run()
    files.losesHints = true
    files.remove("/log/app")
    files.mkdir("/log/app")
    files.create("/log/app/b.log", "mounted")
    _ = files.takeHints()
    files.losesHints = false
    let before = host.effects.count
    for _ in 0..<50 { host.give(.hinted(.mounted)) }
    host.pass(.milliseconds(150))
    #expect(a.contents("/log/app/b.log") == ["mounted"])
    #expect(host.effects[before...].count { if case .list(_, []) = $0 { true } else { false } } <= 4)
  }
}
