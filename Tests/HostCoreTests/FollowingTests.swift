import DataPlane
import HostCore
import JournalModel
import JournalStore
import Testing

@Suite final class FollowingTests: TwoServers {
  @Test func bornAndAppended() throws {
    files.create("/log/a.log", "one\n")
    let host = try FakeHost(files, servers: servers)
    expectBoth("/log/a.log", ["one\n"])
    files.append("/log/a.log", "two\n")
    host.pass(.milliseconds(20))
    expectBoth("/log/a.log", ["one\ntwo\n"])
    #expect(host.births.first?.isDerived == true)
    #expect(host.status.isSettled)
  }

  @Test func emptyFilesAndLeafBoundariesArriveS18() throws {
    for count in [0, 1, 63, 64, 65, 128, 1_000] {
      files.create("/log/\(count).log", String(repeating: "x", count: count))
    }
    let host = try FakeHost(files, servers: servers)
    host.pass(.milliseconds(100))
    for count in [0, 1, 63, 64, 65, 128, 1_000] {
      expectBoth("/log/\(count).log", [String(repeating: "x", count: count)])
    }
  }

  @Test func createdLaterInNewDirectories() throws {
    let host = try FakeHost(files, servers: servers)
    files.mkdir("/log/app")
    files.mkdir("/log/app/deep")
    files.create("/log/app/deep/x.log", "hello")
    host.pass(.milliseconds(20))
    expectBoth("/log/app/deep/x.log", ["hello"])
  }

  @Test func coalescesUnderLoadAndIsPromptWhenIdleJ3() throws {
    let inode = files.create("/log/a.log", "0")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    for _ in 0..<100 {
      files.append(inode, "x")
      host.pass(.milliseconds(1))
    }
    host.pass(.milliseconds(20))
    let appends = host.journal.count { if case .bytesAppended = $0 { true } else { false } }
    // The burst at once, then one for each 10 ms.
    #expect((25...28).contains(appends))
    expectBoth("/log/a.log", ["0" + String(repeating: "x", count: 100)])
  }

  /// What was read at once, of a backlog, isn't made up for by what comes later.
  @Test func promptAfterABacklogJ3() throws {
    let inode = files.create("/log/a.log", String(repeating: "0", count: 10_000))
    let host = try FakeHost(files, servers: servers)
    host.pass(.milliseconds(20))
    files.append(inode, "x")
    host.pass(.milliseconds(11))
    let last = host.journal.compactMap { if case .bytesAppended(let appended) = $0 { appended.end } else { nil } }.last
    #expect(last == 10_001)
  }

  // MARK: Names

  @Test func renamedAndGrownAfterwardsS01() throws {
    let inode = files.create("/log/a.log", "one ")
    inode.writers = 1
    let host = try FakeHost(files, servers: servers)
    files.rename("/log/a.log", "/log/a.log.1")
    files.create("/log/a.log", "new")
    host.run()
    host.pass(.seconds(86_400))
    files.append(inode, "late")
    host.pass(.milliseconds(20))
    expectBoth("/log/a.log", ["one late", "new"])
    #expect(host.rotations.map(\.to) == [BytePath("/log/a.log.1")])
    #expect(host.births.count == 2)
  }

  @Test func renameChainsKeepEachFilesBytesS10() throws {
    files.create("/log/a.log", "0")
    let host = try FakeHost(files, servers: servers)
    for round in 1...20 {
      for index in stride(from: round - 1, through: 1, by: -1) {
        files.rename("/log/a.log.\(index)", "/log/a.log.\(index + 1)")
      }
      files.rename("/log/a.log", "/log/a.log.1")
      files.create("/log/a.log", "\(round)")
      host.pass(.milliseconds(100))
    }
    expectBoth("/log/a.log", (0...20).map(String.init))
    #expect(host.births.count == 21)
    #expect(host.closings.isEmpty)
    #expect(host.rotations.allSatisfy { $0.to != nil })
  }

  @Test func renamedToANameThatNoPatternFindsS09() throws {
    let inode = files.create("/log/a.log", "one ")
    inode.writers = 1
    let host = try FakeHost(files, servers: servers)
    files.rename("/log/a.log", "/log/old")
    host.run()
    files.append(inode, "two")
    host.pass(.milliseconds(20))
    expectBoth("/log/a.log", ["one two"])
    files.rename("/log/old", "/log/b.log")
    host.pass(.milliseconds(20))
    #expect(host.births.count == 1)
    #expect(host.rotations.map(\.to) == [BytePath("/log/old"), BytePath("/log/b.log")])
  }

  @Test func renamedIntoAnotherDirectory() throws {
    files.mkdir("/log/x")
    files.mkdir("/log/y")
    let inode = files.create("/log/x/a.log", "one ")
    inode.writers = 1
    let host = try FakeHost(files, servers: servers)
    files.rename("/log/x/a.log", "/log/y/a.log")
    files.append(inode, "two")
    host.pass(.seconds(3))
    expectBoth("/log/x/a.log", ["one two"])
    #expect(host.rotations.map(\.to) == [BytePath("/log/y/a.log")])
    #expect(host.births.count == 1)
  }

  @Test func directoryRenamedAndReplaced() throws {
    files.mkdir("/log/x")
    let inode = files.create("/log/x/a.log", "one ")
    inode.writers = 1
    let host = try FakeHost(files, servers: servers)
    files.rename("/log/x", "/log/x.old")
    files.mkdir("/log/x")
    files.create("/log/x/a.log", "new")
    host.pass(.seconds(2))
    files.append(inode, "two")
    host.pass(.milliseconds(20))
    expectBoth("/log/x/a.log", ["one two", "new"])
    #expect(host.births.count == 2)
    files.append("/log/x/a.log", " more")
    host.pass(.milliseconds(20))
    expectBoth("/log/x/a.log", ["one two", "new more"])
  }

  @Test func vanishedBetweenListingAndStatDropsNothingS07() throws {
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    files.unexaminable = ["/log/a.log"]
    for _ in 0..<50 {
      files.overflow()
      host.pass(.milliseconds(300))
    }
    #expect(host.rotations.isEmpty && host.closings.isEmpty && host.births.count == 1)
    #expect(!host.effects.contains { if case .relocate = $0 { true } else { false } })
    files.unexaminable = []
    files.append("/log/a.log", " two")
    host.pass(.seconds(1))
    expectBoth("/log/a.log", ["one two"])
  }

  @Test func renamedInTheMiddleOfAListingS07() throws {
    files.mkdir("/log/x")
    files.create("/log/x/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    for round in 0..<200 {
      host.beforeListing = { [files] _ in
        if files.nodes["/log/x/a.log"] != nil {
          files.rename("/log/x/a.log", "/log/b.log")
        } else {
          files.rename("/log/b.log", "/log/x/a.log")
        }
      }
      files.overflow()
      if round % 10 == 0 {
        host.beforeListing = nil
        host.pass(.seconds(1))
      }
      host.beforeListing = nil
      host.run()
    }
    host.pass(.seconds(5))
    #expect(host.births.count == 1 && host.closings.isEmpty && host.gaps.isEmpty)
    expectBoth("/log/x/a.log", ["one"])
  }

  @Test func hardLinksAreOneFileS24D9() throws {
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    files.link("/log/a.log", "/log/b.log")
    files.append("/log/b.log", " two")
    host.pass(.milliseconds(30))
    #expect(host.births.count == 1)
    files.remove("/log/a.log")
    host.pass(.seconds(2))
    #expect(
      host.rotations == [Rotated(file: host.births[0].file, from: BytePath("/log/a.log"), to: BytePath("/log/b.log"))])
    files.append("/log/b.log", " three")
    host.pass(.milliseconds(30))
    expectBoth("/log/a.log", ["one two three"])
  }

  @Test func overlappingPatternsAreOneFileS20D9() throws {
    files.mkdir("/log/app")
    files.create("/log/app/a.log", "one")
    let include = ["/log/**/*.log", "/log/app/*", "/log/app/a.log"]
    let host = try FakeHost(files, servers: servers, include: include)
    files.append("/log/app/a.log", " two")
    host.pass(.milliseconds(30))
    #expect(host.births.count == 1)
    expectBoth("/log/app/a.log", ["one two"])
  }

  @Test func symbolicLinksAreViewsAndFollowRetargetingS23D9() throws {
    files.mkdir("/data")
    files.create("/data/a", "A")
    files.create("/data/b", "B")
    files.symlink("/data/a", "/log/current.log")
    let host = try FakeHost(files, servers: servers)
    host.run()
    files.append("/data/a", "a")
    host.pass(.seconds(1))
    #expect(a.contents("/log/current.log") == ["Aa"])
    files.remove("/log/current.log")
    files.symlink("/data/b", "/log/current.log")
    host.pass(.seconds(3))
    #expect(a.contents("/log/current.log") == ["Aa", "B"])
    files.remove("/log/current.log")
    files.symlink("/data/a", "/log/current.log")
    files.append("/data/a", "!")
    host.pass(.seconds(3))
    expectBoth("/log/current.log", ["Aa!", "B"])
    #expect(host.births.count == 2)
  }

  @Test func inodeNumbersUsedAgainAreOtherFilesS16D1() throws {
    files.reusesNumbers = true
    files.create("/log/a.log", "first content")
    let host = try FakeHost(files, servers: servers)
    for content in ["x", "same length!!", "a much longer content than before"] {
      files.remove("/log/a.log")
      files.create("/log/a.log", content)
      host.pass(.seconds(3))
    }
    expectBoth("/log/a.log", ["first content", "x", "same length!!", "a much longer content than before"])
    #expect(Set(host.births.map(\.identity.number)).count < 4)
    #expect(Set(host.births.map(\.file)).count == 4)
    #expect(host.closings.map(\.reason) == [.deleted, .deleted, .deleted])
    #expect(host.gaps.isEmpty)
  }

  @Test func excludedByPatternAndByInodeD9() throws {
    files.create("/log/a.log", "a")
    files.create("/log/b.tmp.log", "b")
    files.mkdir("/log/own")
    files.create("/log/own/c.log", "c")
    guard case .directory(let own)? = files.nodes["/log/own"] else { return }
    let file = files.create("/log/d.log", "d")
    let host = try FakeHost(
      files, servers: servers, exclude: ["**/*.tmp.*"], excluded: [own, file.key])
    host.pass(.seconds(1))
    #expect(host.births.map(\.path) == [BytePath("/log/a.log")])
  }

  // MARK: Deletion

  @Test func deletedWhileOpenIsReadToItsEndF2() throws {
    let inode = files.create("/log/a.log", "one ")
    inode.writers = 1
    let host = try FakeHost(files, servers: servers)
    files.remove("/log/a.log")
    host.run()
    host.pass(.seconds(30))
    #expect(host.closings.isEmpty)
    files.append(inode, "two ")
    host.pass(.seconds(20))
    files.append(inode, "three")
    inode.writers = 0
    host.pass(.seconds(20))
    expectBoth("/log/a.log", ["one two three"])
    #expect(host.closings.map(\.reason) == [.deleted])
    #expect(host.attachedCount == 0)
    #expect(host.gaps.isEmpty)
  }

  @Test func writtenAndClosedBetweenReadAndProbeF2() throws {
    let inode = files.create("/log/a.log", "one ")
    inode.writers = 1
    let host = try FakeHost(files, servers: servers)
    host.beforeProbe = { [files] in
      if inode.writers == 1 { files.append(inode, "two") }
      inode.writers = 0
    }
    files.remove("/log/a.log")
    host.pass(.seconds(10))
    expectBoth("/log/a.log", ["one two"])
    #expect(host.closings.map(\.length) == [7])
  }

  @Test func namelessFilesKeepTheirDescriptorWhenFewAreLeftF4() throws {
    let inode = files.create("/log/a.log", "one ")
    inode.writers = 1
    let host = try FakeHost(files, servers: servers)
    files.remove("/log/a.log")
    host.run()
    host.hasFewDescriptors = true
    host.pass(.seconds(3))
    files.append(inode, "two")
    inode.writers = 0
    host.pass(.seconds(3))
    expectBoth("/log/a.log", ["one two"])
    #expect(host.closings.map(\.reason) == [.deleted])
    #expect(host.gaps.isEmpty)
  }

  @Test func deletedFilesAreHeldUntilEveryServerHasThemS34() throws {
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    for index in 0..<100 {
      files.create("/log/\(index).log", "content \(index)")
      host.run()
      files.remove("/log/\(index).log")
      host.pass(.milliseconds(50))
    }
    host.pass(.seconds(5))
    #expect(host.closings.isEmpty)
    #expect(host.openDescriptors == 100)
    b.isUp = true
    host.pass(.seconds(120))
    #expect(host.closings.count == 100)
    #expect(host.openDescriptors == 0 && host.attachedCount == 0)
    #expect(host.gaps.isEmpty)
    for index in 0..<100 { expectBoth("/log/\(index).log", ["content \(index)"]) }
  }

  @Test func movedOutOfSightStaysOpenWhileAWriterHasItF2() throws {
    files.mkdir("/archive")
    let inode = files.create("/log/a.log", "one ")
    inode.writers = 1
    let host = try FakeHost(files, servers: servers)
    files.rename("/log/a.log", "/archive/a")
    host.pass(.seconds(10))
    files.append(inode, "two")
    host.pass(.seconds(3))
    expectBoth("/log/a.log", ["one two"])
    inode.writers = 0
    host.pass(.seconds(5))
    #expect(host.attachedCount == 0 && host.closings.map(\.reason) == [.vanished])
    #expect(host.rotations.map(\.to) == [nil])
    files.append(inode, " three")
    files.rename("/archive/a", "/log/b.log")
    host.pass(.seconds(1))
    expectBoth("/log/a.log", ["one two three"])
    #expect(host.births.count == 1)
  }

  @Test func fewDescriptorsAndReadErrorsAreNoDeletionS21D10() throws {
    for index in 0..<50 { files.create("/log/\(index).log", "x\(index)") }
    let host = try FakeHost(files, servers: servers)
    host.hasFewDescriptors = true
    files.unreadable["/log"] = "EMFILE"
    for index in 0..<50 { files.inode("/log/\(index).log").fault = "EMFILE" }
    for index in 0..<50 { files.append("/log/\(index).log", "y") }
    files.overflow()
    host.pass(.seconds(30))
    #expect(host.closings.isEmpty && host.rotations.isEmpty)
    #expect(host.reports.contains { if case .unreadable = $0 { true } else { false } })
    files.unreadable = [:]
    for index in 0..<50 { files.inode("/log/\(index).log").fault = nil }
    host.pass(.seconds(30))
    for index in 0..<50 { expectBoth("/log/\(index).log", ["x\(index)y"]) }
    #expect(host.births.count == 50)
  }

  @Test func unmountedIsNotDeletedS22D10() throws {
    files.mkdir("/log/mnt")
    files.mounts["/log/mnt"] = 2
    files.create("/log/mnt/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.hasFewDescriptors = true
    files.append("/log/mnt/a.log", "!")
    host.pass(.milliseconds(20))
    let inode = files.inode("/log/mnt/a.log")
    // The mount point shows the empty directory below.
    files.mounts["/log/mnt"] = nil
    files.remove("/log/mnt/a.log")
    inode.links = 1
    host.pass(.seconds(200))
    #expect(host.closings.isEmpty && host.gaps.isEmpty)
  }

  @Test func unmountedWhileDownIsNotDeletedS22D10() throws {
    files.mkdir("/log/mnt")
    files.mounts["/log/mnt"] = 2
    let inode = files.create("/log/mnt/a.log", "one")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(2))
    files.mounts["/log/mnt"] = nil
    files.remove("/log/mnt/a.log")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(200))
    #expect(second.closings.isEmpty && second.gaps.isEmpty)
    #expect(inode.bytes.count == 3)
  }

  // MARK: Truncation

  @Test func truncatedAndRefilledIsTheNextIncarnationD5() throws {
    files.create("/log/a.log", "a first content that is long")
    let host = try FakeHost(files, servers: servers)
    files.rewrite("/log/a.log", "")
    host.pass(.milliseconds(30))
    files.append("/log/a.log", "second")
    host.pass(.milliseconds(30))
    files.rewrite("/log/a.log", "third")
    host.pass(.milliseconds(30))
    expectBoth("/log/a.log", ["a first content that is long", "second", "third"])
    #expect(host.births[1].parent?.why == .truncated)
    #expect(host.births[1].parent?.length == 28)
    #expect(host.births.map(\.isDerived) == [true, false, false])
    #expect(host.gaps.isEmpty)
  }

  @Test func refilledToTheSameSizeS27S30() throws {
    files.create("/log/a.log", "0000000000000000000000000000000")
    let host = try FakeHost(files, servers: servers)
    for round in 1...9 {
      files.rewrite("/log/a.log", String(repeating: "\(round)", count: 31))
      host.pass(.milliseconds(30))
    }
    expectBoth("/log/a.log", (0...9).map { String(repeating: "\($0)", count: 31) })
  }

  @Test func truncatedBeforeEveryServerHadItIsAGapS31G7() throws {
    files.create("/log/a.log", "delivered to a only")
    b.isUp = false
    let host = try FakeHost(files, servers: servers)
    files.rewrite("/log/a.log", "x")
    host.pass(.milliseconds(30))
    files.rewrite("/log/a.log", "")
    host.pass(.milliseconds(30))
    files.append("/log/a.log", "third")
    b.isUp = true
    host.pass(.seconds(60))
    #expect(a.contents("/log/a.log") == ["delivered to a only", "x", "third"])
    #expect(b.contents("/log/a.log") == ["", "", "third"])
    #expect(host.gaps.map(\.upper) == [19, 1])
    #expect(host.gaps.allSatisfy { $0.reason == .truncated && $0.lower == 0 })
    #expect(host.status.isSettled)
  }

  @Test func cutOffUnreadIsAGapG7() throws {
    let inode = files.create("/log/a.log", "kept")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    files.append(inode, " lost before it was read")
    host.withholds = { if case .ingested = $0 { true } else { false } }
    inode.fault = "EIO"
    files.overflow()
    host.run()
    inode.fault = nil
    inode.bytes.removeLast(24)
    host.releaseWithheld()
    host.pass(.seconds(10))
    expectBoth("/log/a.log", ["kept"])
    #expect(host.gaps.map(\.lower) == [4])
    #expect(host.gaps.map(\.upper) == [28])
  }

  // MARK: Notification

  @Test func unwatchedDirectoriesArePolledS13F1() throws {
    files.refusesWatches = true
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    #expect(host.reports.contains(.unwatched(BytePath("/log"))))
    files.append("/log/a.log", " two")
    files.create("/log/b.log", "b")
    host.pass(.seconds(1))
    expectBoth("/log/a.log", ["one two"])
    expectBoth("/log/b.log", ["b"])
  }

  /// The wait after a failure ends with the failure.
  @Test func unwatchedDirectoriesArePolledAsSoonAsTheyCanBeListedF1() throws {
    files.refusesWatches = true
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    files.unreadable["/log"] = "EIO"
    host.pass(.seconds(1))
    files.unreadable["/log"] = nil
    files.overflow()
    host.pass(.milliseconds(20))
    files.append("/log/a.log", " two")
    host.pass(.milliseconds(600))
    expectBoth("/log/a.log", ["one two"])
  }

  @Test func lostHintsAreMadeGoodByTheSlowRescanF1() throws {
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    files.losesHints = true
    files.append("/log/a.log", " two")
    files.create("/log/b.log", "b")
    host.pass(.seconds(61))
    expectBoth("/log/a.log", ["one two"])
    expectBoth("/log/b.log", ["b"])
  }

  @Test func directoriesVanishAndReturn() throws {
    files.mkdir("/log/x")
    files.create("/log/x/a.log", "one")
    let host = try FakeHost(files, servers: servers, include: ["/log/x/*.log", "/log/none/*.log"])
    files.remove("/log/x")
    host.pass(.seconds(5))
    #expect(host.closings.map(\.reason) == [.deleted])
    files.mkdir("/log/x")
    files.create("/log/x/a.log", "two")
    files.mkdir("/log/none")
    files.create("/log/none/b.log", "three")
    host.pass(.seconds(2))
    expectBoth("/log/x/a.log", ["one", "two"])
    expectBoth("/log/none/b.log", ["three"])
  }

  @Test func idleFilesCostNothingPerTick() throws {
    for index in 0..<2_000 { files.create("/log/\(index).log", "x") }
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(5))
    let before = host.effects.count
    host.pass(.seconds(50))
    #expect(host.effects.count - before < 100)
  }
}
