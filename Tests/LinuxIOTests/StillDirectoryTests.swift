import DataPlane
import Foundation
import JournalModel
import SimulatedWorld
import Testing

@testable import LinuxIO

/// A directory that stands still isn't listed again in full (K6).
@Suite struct StillDirectoryTests {
  private static let margin = Interval.milliseconds(100)

  /// Lets so much time pass that what was done before lies back far enough.
  private static func wait(_ files: any FileSystemActs) {
    if let simulated = files as? SimulatedFiles {
      simulated.pass(margin)
    } else {
      usleep(150_000)
    }
  }

  private static func names(_ listing: Listing) throws -> [String] {
    guard case .entries(let entries, _) = listing.outcome else { throw SourceFailure("\(listing.outcome)") }
    return entries.map { String(decoding: $0.name, as: UTF8.self) }.sorted()
  }

  private static func host(_ world: World) throws -> HostUnderTest {
    let host = try HostUnderTest(world, timeMargin: margin)
    try host.acts.create(host.path("a"))
    try host.acts.create(host.path("b"))
    wait(host.acts)
    return host
  }

  /// The directory as it is now, of which `a` alone is wanted to be known.
  private static func known(_ host: HostUnderTest) throws -> KnownDirectory {
    let listing = host.plane.watch(host.acts.root, isBase: false)
    #expect(try names(listing) == ["a", "b"])
    return KnownDirectory(stamp: try #require(listing.stamp), names: [Array("a".utf8)])
  }

  private static func isStill(_ host: HostUnderTest, _ known: KnownDirectory) throws -> Bool {
    let listing = host.plane.watch(host.acts.root, isBase: false, known: known)
    #expect(listing.names == (listing.isStill ? known.names : nil))
    #expect(listing.isWhole && listing.isWatched)
    return listing.isStill
  }

  @Test(arguments: World.allCases) func `K6: of a directory that stands still only what is known is looked at`(
    _ world: World
  ) throws {
    let host = try Self.host(world)
    let known = try Self.known(host)
    let listing = host.plane.watch(host.acts.root, isBase: false, known: known)
    #expect(listing.isStill && listing.isWatched)
    #expect(try Self.names(listing) == ["a"])
    try host.acts.append(host.path("a"), pattern(10))
    let grown = host.plane.watch(host.acts.root, isBase: false, known: known)
    #expect(grown.isStill)
    #expect(try host.entries(grown)["a"]?.facts?.size == 10)
    #expect(host.plane.list(host.acts.root, names: [Array("b".utf8)]).stamp == nil)
  }

  enum Change: CaseIterable, Sendable { case create, remove, rename, replace, link, symbolicLink, directory }

  @Test(arguments: World.allCases, Change.allCases) func `K6: whatever changes its names is seen`(
    _ world: World, _ change: Change
  ) throws {
    let host = try Self.host(world)
    let known = try Self.known(host)
    let (old, new) = (host.path("b"), host.path("c"))
    switch change {
    case .create: try host.acts.create(new)
    case .remove: try host.acts.unlink(old)
    case .rename: try host.acts.rename(old, to: new)
    case .replace: try host.acts.rename(old, to: host.path("a"))
    case .link: try host.acts.link(old, at: new)
    case .symbolicLink: try host.acts.symlink(old, at: new)
    case .directory: try host.acts.makeDirectory(new)
    }
    #expect(try !Self.isStill(host, known))
  }

  @Test(arguments: World.allCases) func `K6: times of which another change could have the same say nothing`(
    _ world: World
  ) throws {
    let host = try Self.host(world)
    try host.acts.create(host.path("c"))
    #expect(host.plane.watch(host.acts.root, isBase: false).stamp == nil)
    Self.wait(host.acts)
    #expect(host.plane.watch(host.acts.root, isBase: false).stamp != nil)
  }

  @Test(arguments: World.allCases) func `K6: another directory of the same times is listed`(_ world: World) throws {
    let host = try Self.host(world)
    var known = try Self.known(host)
    known.stamp.inode.identity.number += 1
    #expect(try !Self.isStill(host, known))
    known = try Self.known(host)
    known.stamp.inode.device = 12_345
    #expect(try !Self.isStill(host, known))
    known = try Self.known(host)
    known.stamp.mount += 1
    #expect(try !Self.isStill(host, known))
  }

  @Test func `K6: a clock that was set back says nothing`() throws {
    let host = try Self.host(.linux)
    var known = try Self.known(host)
    known.stamp.lead += 1_000_000_000
    #expect(try !Self.isStill(host, known))
    // One that was set on doesn't give a time twice.
    known.stamp.lead -= 3_600_000_000_000
    #expect(try Self.isStill(host, known))
  }

  @Test func `K6: a time that was set back shows`() throws {
    let host = try Self.host(.linux)
    let known = try Self.known(host)
    let path = String(decoding: host.acts.root.bytes, as: UTF8.self)
    var before = stat()
    #expect(stat(path, &before) == 0)
    try host.acts.create(host.path("c"))
    var times = [before.st_atim, before.st_mtim]
    #expect(utimensat(AT_FDCWD, path, &times, 0) == 0)
    var after = stat()
    #expect(stat(path, &after) == 0)
    #expect(after.st_mtim.tv_sec == before.st_mtim.tv_sec && after.st_mtim.tv_nsec == before.st_mtim.tv_nsec)
    #expect(try !Self.isStill(host, known))
  }

  @Test func `K6: what a link leads to is asked again`() throws {
    let host = try HostUnderTest(.linux, timeMargin: Self.margin)
    let (target, directory) = (host.path("target"), host.path("d"))
    try host.acts.makeDirectory(directory)
    try host.acts.create(target)
    let link = directory.appending(Array("view".utf8))
    try host.acts.symlink(target, at: link)
    Self.wait(host.acts)
    let listing = host.plane.watch(directory, isBase: false)
    let known = KnownDirectory(stamp: try #require(listing.stamp), names: [link.name])
    let before = try host.entries(listing)["view"]?.facts
    try host.acts.rename(target, to: host.path("old"))
    try host.acts.create(target)
    let next = host.plane.watch(directory, isBase: false, known: known)
    #expect(next.isStill)
    #expect(try host.entries(next)["view"]?.facts?.inode != before?.inode)
  }

  @Test(.enabled(if: MountNamespace.isPermitted, "no right to mount"))
  func `K6: what is mounted over a name of it, or over itself, is seen`() throws {
    try MountNamespace.inside { space in
      let host = try Self.host(.linux)
      try host.acts.append(host.path("b"), pattern(7))
      Self.wait(host.acts)
      let known = try Self.known(host)
      let before = try #require(try host.entries(host.plane.list(host.acts.root, names: nil))["a"]?.facts)
      try space.bind(host.path("b"), at: host.path("a"))
      let listing = host.plane.watch(host.acts.root, isBase: false, known: known)
      let facts = try #require(try host.entries(listing)["a"]?.facts)
      #expect(listing.isStill && facts.inode != before.inode && facts.size == 7)
      try space.unmount(host.path("a"))
      try space.bind(host.acts.root, at: host.acts.root)
      #expect(try !Self.isStill(host, known))
      try space.unmount(host.acts.root)
      #expect(try Self.isStill(host, known))
    }
  }

  @Test func `K6: times that another machine, user space or a union of layers gives say nothing`() {
    // nfs, cifs, fuse, 9p, ceph, overlayfs
    for type in [0x6969, 0xFF53_4D42, 0x6573_5546, 0x0102_1997, 0x00C3_6400, 0x794C_7630] as [Int64] {
      #expect(!FileSystem(type: type, identifier: 1).hasOwnTimes)
    }
    for type in [FileSystem.ext4, FileSystem.xfs, FileSystem.btrfs, FileSystem.tmpfs, FileSystem.f2fs] {
      #expect(FileSystem(type: type, identifier: 1).hasOwnTimes)
    }
  }
}
