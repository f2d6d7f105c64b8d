import DataPlane
import HostCore
import JournalModel
import JournalStore
import Testing

/// Which file an inode is, where the identity alone doesn't say it.
@Suite final class IdentityTests: TwoServers {
  /// Devices 1 and 2 are a volume and its clone: one `f_fsid`.
  func mountClone(_ path: String) {
    files.mkdir(path)
    files.mounts[path] = 2
    files.filesystems[2] = 1
  }

  // MARK: Two living inodes with one identity (D2)

  @Test func aCloneBesideItsOriginIsAnotherFileD2() throws {
    mountClone("/log/clone")
    let origin = files.create("/log/a.log", "common ")
    let clone = files.clone("/log/a.log", at: "/log/clone/a.log")
    #expect(origin.key != clone.key && origin.key.stored == clone.key.stored)
    let host = try FakeHost(files, servers: servers)
    files.append(origin, "origin")
    files.append(clone, "clone, and longer")
    host.pass(.seconds(2))
    expectBoth("/log/a.log", ["common origin"])
    expectBoth("/log/clone/a.log", ["common clone, and longer"])
    #expect(host.births.map(\.isDerived).sorted { $0 && !$1 } == [true, false])
    #expect(host.gaps.isEmpty && host.status.isSettled)
  }

  /// After a restart only content tells them apart: paths and devices are others.
  @Test(arguments: [true, false]) func cloneAndOriginChangePlacesWhileDownD2D4(areSwapped: Bool) throws {
    mountClone("/log/clone")
    let origin = files.create("/log/a.log", "common ")
    let clone = files.clone("/log/a.log", at: "/log/clone/a.log")
    let first = try FakeHost(files, servers: servers)
    files.append(origin, "origin")
    files.append(clone, "clone, and longer")
    first.pass(.seconds(2))
    if areSwapped {
      files.rename("/log/a.log", "/log/a")
      files.rename("/log/clone/a.log", "/log/a.log")
      files.rename("/log/a", "/log/clone/a.log")
    }
    files.remount("/log/a.log", filesystem: 2)
    files.remount("/log/clone/a.log", filesystem: 1)
    files.append(areSwapped ? "/log/clone/a.log" : "/log/a.log", "!")
    files.append(areSwapped ? "/log/a.log" : "/log/clone/a.log", "?")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(5))
    expectBoth("/log/a.log", ["common origin!"])
    expectBoth("/log/clone/a.log", ["common clone, and longer?"])
    #expect(second.births.count == 2 && second.closings.isEmpty && second.gaps.isEmpty)
    second.give(.settle(token: 1))
    second.pass(.seconds(5))
    #expect(second.settled == [1] && second.status.isSettled)
  }

  /// The clone is listed first, and its content isn't the file's.
  @Test func aCloneThatComesWhileDownTakesNothingFromItsOriginD2D4() throws {
    files.mkdir("/log/origin")
    let origin = files.create("/log/origin/a.log", "common ")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(1))
    mountClone("/log/clone")
    let clone = files.clone("/log/origin/a.log", at: "/log/clone/a.log")
    first.pass(.seconds(1))
    let second = try FakeHost(files, servers: servers, after: first)
    files.append(origin, "origin")
    files.append(clone, "clone")
    second.pass(.seconds(5))
    let third = try FakeHost(files, servers: servers, after: second)
    third.pass(.seconds(5))
    expectBoth("/log/origin/a.log", ["common origin"])
    expectBoth("/log/clone/a.log", ["common clone"])
    #expect(third.births.count == 2 && third.closings.isEmpty && third.gaps.isEmpty)
  }

  @Test func aFileSystemThatComesBackAsAnotherDeviceIsNotNewD1() throws {
    files.mkdir("/log/mnt")
    files.mounts["/log/mnt"] = 2
    files.create("/log/mnt/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.hasFewDescriptors = true
    files.append("/log/mnt/a.log", "!")
    host.pass(.milliseconds(20))
    // Read once more after it was sent: then nothing holds its descriptor.
    files.append("/log/mnt/a.log", "")
    host.pass(.seconds(1))
    #expect(host.openDescriptors == 0)
    let inode = files.inode("/log/mnt/a.log")
    files.mounts["/log/mnt"] = nil
    files.remove("/log/mnt/a.log")
    inode.links = 1
    host.pass(.seconds(100))
    files.filesystems[7] = 2
    files.mounts["/log/mnt"] = 7
    files.restore(inode, at: "/log/mnt/a.log", device: 7)
    files.append("/log/mnt/a.log", " two")
    host.pass(.seconds(100))
    expectBoth("/log/mnt/a.log", ["one! two"])
    #expect(host.births.count == 1 && host.closings.isEmpty && host.gaps.isEmpty)
  }

  /// The origin is still open when its clone is mounted over it: both live.
  @Test func aCloneMountedOverItsOriginIsAnotherFileD2() throws {
    files.mkdir("/log/mnt")
    files.mounts["/log/mnt"] = 2
    let origin = files.create("/log/mnt/a.log", "common ")
    origin.writers = 1
    let host = try FakeHost(files, servers: servers)
    files.filesystems[3] = 2
    files.mounts["/log/mnt"] = 3
    let clone = files.clone("/log/mnt/a.log", at: "/log/mnt/a.log")
    host.run()
    files.append(clone, "clone")
    files.append(origin, "origin")
    host.pass(.seconds(5))
    #expect(Set(a.contents("/log/mnt/a.log")) == ["common origin", "common clone"])
    #expect(host.births.count == 2 && host.closings.isEmpty)
  }

  // MARK: Without a usable identity (D2)

  /// Overlays and the like: device 1 gives numbers alone.
  @Test(arguments: [true, false]) func aCopyUpThatNumbersTheInodeAnewIsTheSameFileD1(isOpen: Bool) throws {
    files.withoutIdentity = [1]
    files.create("/log/a.log", "one")
    let host = try FakeHost(files, servers: servers)
    host.pass(.seconds(1))
    host.hasFewDescriptors = !isOpen
    for round in 0..<3 {
      files.append("/log/a.log", " \(round)")
      host.pass(.seconds(1))
      files.copyUp("/log/a.log")
      files.append("/log/a.log", "up")
      host.pass(.seconds(5))
    }
    expectBoth("/log/a.log", ["one 0up 1up 2up"])
    #expect(host.births.count == 1 && host.closings.isEmpty && host.gaps.isEmpty)
    #expect(host.births.first?.isDerived == false)
  }

  @Test func aCopyUpWhileDownIsTheSameFileD1() throws {
    files.withoutIdentity = [1]
    files.create("/log/a.log", "one")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(1))
    files.copyUp("/log/a.log")
    files.append("/log/a.log", " up")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(5))
    expectBoth("/log/a.log", ["one up"])
    #expect(second.births.count == 1 && second.closings.isEmpty)
  }

  /// The path leads to another file by now; the number still finds the old one.
  @Test func rotatedWhileDownWithoutIdentityD2() throws {
    files.withoutIdentity = [1]
    files.create("/log/a.log", "old")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(1))
    files.append("/log/a.log", " late")
    files.rename("/log/a.log", "/log/a.log.1")
    files.create("/log/a.log", "new, and longer than the old one")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(5))
    #expect(
      Set(a.contents("/log/a.log") + a.contents("/log/a.log.1")) == ["old late", "new, and longer than the old one"])
    #expect(second.births.count == 2 && second.closings.isEmpty)
    #expect(second.rotations.map(\.to) == [BytePath("/log/a.log.1")])
  }

  /// Same path, another number, other bytes: another file, and nothing of the old one is claimed to be lost.
  @Test func replacedWhileDownWithoutIdentityD2() throws {
    files.withoutIdentity = [1]
    files.create("/log/a.log", "old")
    let first = try FakeHost(files, servers: servers)
    first.pass(.seconds(1))
    files.remove("/log/a.log")
    files.create("/log/a.log", "new, and longer than the old one")
    let second = try FakeHost(files, servers: servers, after: first)
    second.pass(.seconds(120))
    expectBoth("/log/a.log", ["old", "new, and longer than the old one"])
    #expect(second.closings.map(\.reason) == [.vanished] && second.gaps.isEmpty)
    #expect(second.status.isSettled)
  }
}

/// Descriptors are few (F2, F4).
@Suite final class HeldFilesTests: TwoServers {
  @Test func withoutLeasesRemovedFilesAreLetGoOfWhenDescriptorsRunShortF2() throws {
    let host = try FakeHost(files, servers: servers, mostHeld: 20)
    host.hasNoLeases = true
    for index in 0..<100 {
      files.create("/log/\(index).log", "content \(index)")
      host.pass(.milliseconds(50))
      files.remove("/log/\(index).log")
      host.pass(.seconds(1))
      #expect(host.openDescriptors <= 20)
    }
    #expect(host.gaps.isEmpty && host.closings.count >= 80)
    #expect(host.status.filesUnprobed > 0 && host.status.filesUnprobed <= 20)
    for index in 0..<100 { #expect(b.contents("/log/\(index).log") == ["content \(index)"]) }
    #expect(host.reports.count { if case .writersUnknown = $0 { true } else { false } } == 1)
    // The rest goes when it has been still for a day.
    host.pass(.seconds(90_000))
    #expect(host.openDescriptors == 0 && host.closings.count == 100 && host.status.filesUnprobed == 0)
  }

  @Test func withoutLeasesALateWriterIsFollowedForADayF2() throws {
    let inode = files.create("/log/a.log", "one")
    inode.writers = 1
    let host = try FakeHost(files, servers: servers)
    host.hasNoLeases = true
    files.remove("/log/a.log")
    host.pass(.seconds(80_000))
    files.append(inode, " two")
    host.pass(.seconds(80_000))
    files.append(inode, " three")
    host.pass(.seconds(60))
    #expect(b.contents("/log/a.log") == ["one two three"])
    #expect(host.closings.isEmpty)
  }

  /// Servers are away and more is removed than can be held: the loss is said, what is held arrives.
  @Test func moreRemovedFilesThanDescriptorsAreGapsG7() throws {
    a.isUp = false
    b.isUp = false
    let host = try FakeHost(files, servers: servers, mostHeld: 20)
    for index in 0..<50 {
      files.create("/log/\(index).log", "content \(index)")
      host.pass(.milliseconds(50))
      files.remove("/log/\(index).log")
      host.pass(.milliseconds(50))
    }
    #expect(host.openDescriptors <= 20)
    a.isUp = true
    b.isUp = true
    host.pass(.seconds(120))
    let arrived = (0..<50).count { b.contents("/log/\($0).log") == ["content \($0)"] }
    #expect(arrived >= 20 && host.gaps.count == 50 - arrived)
    #expect(host.status.gaps == host.gaps.count)
  }
}
