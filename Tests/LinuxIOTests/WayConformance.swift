import DataPlane
import Foundation
import JournalModel
@testable import LinuxIO
import Testing

/// A path is watched with all that leads to it (F1).
@Suite struct WayConformance {
  /// `root/current/log` by way of links: `current -> now -> 1`, one of them absolute.
  private func deployed(_ world: World) throws -> HostUnderTest {
    let host = try HostUnderTest(world)
    for release in ["1", "2"] {
      try host.acts.makeDirectory(host.path(release))
      try host.acts.makeDirectory(host.path("\(release)/log"))
    }
    try host.acts.symlink(host.path("1"), at: host.path("now"))
    try host.acts.symlink(BytePath("now"), at: host.path("current"))
    return host
  }

  private func flip(_ host: HostUnderTest, _ name: String, to target: BytePath) throws {
    try host.acts.unlink(host.path(name))
    try host.acts.symlink(target, at: host.path(name))
  }

  @Test(arguments: World.allCases, ["current", "now"])
  func `A base whose path leads elsewhere is lost, whichever link of a chain moved (F1)`(
    _ world: World, _ link: String
  ) throws {
    let host = try deployed(world)
    let base = host.path("current/log")
    for release in ["2", "1", "2"] {
      let before = host.plane.watch(base, isBase: true)
      #expect(before.isWatched && before.isWayWatched)
      #expect(host.plane.hints().isEmpty)
      try flip(host, link, to: host.path(release))
      #expect(host.plane.hints().contains(.lost(directory: base)))
      let after = host.plane.list(base, names: [])
      #expect(!after.isWatched, "the watch stands on another directory")
      #expect(after.place?.inode != before.place?.inode)
    }
  }

  @Test(arguments: World.allCases) func `A base that is renamed away and made anew is lost, with its parents too (F1)`(
    _ world: World
  ) throws {
    let host = try HostUnderTest(world)
    let base = host.path("a/b/log")
    func make() throws { for name in ["a", "a/b", "a/b/log"] { try host.acts.makeDirectory(host.path(name)) } }
    try make()
    for round in 0..<3 {
      #expect(host.plane.watch(base, isBase: true).isWatched)
      _ = host.plane.hints()
      try host.acts.rename(host.path("a"), to: host.path("old\(round)"))
      #expect(host.plane.hints().contains(.lost(directory: base)))
      #expect(host.plane.watch(base, isBase: true).outcome == .missing)
      _ = host.plane.hints()
      // Each directory that is made brings it nearer.
      for name in ["a", "a/b", "a/b/log"] {
        try host.acts.makeDirectory(host.path(name))
        #expect(host.plane.hints().contains(.lost(directory: base)))
        _ = host.plane.watch(base, isBase: true)
      }
      try host.acts.create(host.path("a/b/log/x"))
      #expect(host.plane.hints().contains(.changed(directory: base, name: Array("x".utf8))))
    }
  }

  @Test(arguments: World.allCases) func `The target of a link that leads nowhere is awaited (F1)`(_ world: World) throws
  {
    let host = try HostUnderTest(world)
    try host.acts.makeDirectory(host.path("log"))
    try host.acts.symlink(BytePath("../later/deep/x"), at: host.path("log/view"))
    let log = host.path("log")
    let hint = WatchHint.changed(directory: log, name: Array("view".utf8))
    let listing = host.plane.watch(log, isBase: true)
    #expect(try host.entries(listing)["view"]?.trouble == nil)
    for made in ["later", "later/deep"] {
      try host.acts.makeDirectory(host.path(made))
      #expect(host.plane.hints().contains(hint))
      #expect(try host.entries(host.plane.list(log, names: [Array("view".utf8)]))["view"]?.facts == nil)
    }
    try host.acts.create(host.path("later/deep/x"))
    #expect(host.plane.hints().contains(hint))
    let first = try #require(try host.entries(host.plane.list(log, names: [Array("view".utf8)]))["view"]?.facts)
    #expect(host.plane.hints().isEmpty)
    // Services move their log away and make a new one.
    try host.acts.create(host.path("later/deep/new"))
    try host.acts.rename(host.path("later/deep/new"), to: host.path("later/deep/x"))
    #expect(host.plane.hints().contains(hint))
    let second = try #require(try host.entries(host.plane.list(log, names: [Array("view".utf8)]))["view"]?.facts)
    #expect(first.inode != second.inode)
  }

  @Test(arguments: World.allCases) func `What is unwatched says no more, its way and links neither`(_ world: World)
    throws
  {
    let host = try deployed(world)
    try host.acts.symlink(host.path("1/log/x"), at: host.path("2/log/view"))
    let base = host.path("current/log")
    #expect(host.plane.watch(base, isBase: true).isWatched)
    host.plane.unwatch(base)
    try host.acts.create(host.path("1/log/x"))
    try flip(host, "current", to: host.path("2"))
    #expect(host.plane.hints().isEmpty)
  }
}

/// Links lend nobody the node's rights (D9). Owners are set by root alone.
@Suite(.enabled(if: geteuid() == 0)) struct LentLinkTests {
  let acts: LinuxFiles
  let plane = LinuxHostFiles(limits: smallLimits, descriptorLimit: 8) { _, _ in [] }
  init() throws { acts = try LinuxFiles() }

  private func path(_ name: String) -> BytePath { acts.root.appending(Array(name.utf8)) }
  private func own(_ name: String, _ user: UInt32) {
    #expect(lchown(String(decoding: path(name).bytes, as: UTF8.self), user, user) == 0)
  }
  private func entry(_ name: String, in directory: BytePath? = nil) throws -> DirectoryEntry {
    let directory = directory ?? acts.root
    let listing = plane.list(directory, names: [Array(name.utf8)])
    guard case .entries(let entries, _) = listing.outcome else { throw SystemError("\(listing.outcome)", code: 0) }
    return try #require(entries.first)
  }

  @Test func `A link counts by its owner: root's, the target's owner's, nobody else's (D9)`() throws {
    try acts.create(path("secret"))
    try acts.create(path("mine"))
    own("mine", 1_000)
    for (target, owner, isLent) in [
      ("secret", UInt32(0), false), ("secret", 1_000, true), ("mine", 1_000, false), ("mine", 1_001, true),
      ("mine", 0, false),
    ] {
      try acts.symlink(path(target), at: path("view"))
      own("view", owner)
      let lent = try entry("view").lent
      #expect((lent != nil) == isLent, "\(target) by \(owner)")
      if isLent { #expect(lent == LentLink(path: path("view"), owner: owner, target: target == "mine" ? 1_000 : 0)) }
      try acts.unlink(path("view"))
    }
  }

  @Test func `Every link on the way counts: in the middle, within the target's path, of a base (D9)`() throws {
    try acts.makeDirectory(path("root"))
    try acts.create(path("root/secret"))
    try acts.symlink(path("root"), at: path("middle"))
    own("middle", 1_000)
    try acts.symlink(path("middle/secret"), at: path("view"))
    #expect(try entry("view").lent?.owner == 1_000)
    #expect(plane.list(path("middle"), names: nil).lent?.owner == 1_000)
    #expect(plane.list(path("root"), names: nil).lent == nil)
    // Root's link to a user's link to root's file.
    try acts.symlink(path("root/secret"), at: path("theirs"))
    own("theirs", 1_000)
    try acts.symlink(BytePath("theirs"), at: path("chain"))
    #expect(try entry("chain").lent?.owner == 1_000)
    // A link that is planted under another name, where what it says leads elsewhere.
    try acts.makeDirectory(path("open"))
    own("open", 1_000)
    try acts.symlink(BytePath("secret"), at: path("root/short"))
    try acts.link(path("root/short"), at: path("open/short"))
    try acts.symlink(path("root/secret"), at: path("open/secret"))
    #expect(try entry("short", in: path("open")).lent != nil)
  }

  @Test func `A link on procfs leads where the kernel says, and is judged like any other (D9)`() throws {
    try acts.create(path("a"))
    let file = try Descriptor.open(path("a"), O_RDONLY)
    try acts.symlink(BytePath("/proc/self/fd/\(file.number)"), at: path("view"))
    #expect(try entry("view").facts?.inode == InodeFacts.of(file).inode)
    #expect(try entry("view").lent == nil)
    own("view", 1_000)
    #expect(try entry("view").lent?.owner == 1_000)
  }

  @Test func `A loop of links leads nowhere`() throws {
    try acts.symlink(BytePath("b"), at: path("a"))
    try acts.symlink(BytePath("a"), at: path("b"))
    let entry = try entry("a")
    #expect(entry.isSymbolicLink && entry.facts == nil && entry.trouble == nil)
  }

  @Test func `The node's own files are known by any name, and a renewed key at once (D9)`() throws {
    for name in ["data", "data/journal", "keys", "log"] { try acts.makeDirectory(path(name)) }
    for name in ["data/journal/data.mdb", "data/journal.key", "keys/tls.key", "log/app.log"] {
      try acts.create(path(name))
    }
    let own = OwnFiles(files: [path("keys/tls.key"), path("data/journal.key")], trees: [path("data")])
    let plane = LinuxHostFiles(limits: smallLimits, own: own, descriptorLimit: 8) { _, _ in [] }
    func isOwn(_ name: String) throws -> Bool? {
      let listing = plane.list(path("log"), names: [Array(name.utf8)])
      guard case .entries(let entries, _) = listing.outcome else { return nil }
      return entries.first?.isOwn
    }
    #expect(try isOwn("app.log") == false)
    try acts.link(path("data/journal.key"), at: path("log/hard.log"))
    try acts.symlink(path("data/journal/data.mdb"), at: path("log/soft.log"))
    try acts.symlink(path("data/journal"), at: path("log/tree"))
    try acts.symlink(
      BytePath("/proc/self/root\(String(decoding: path("keys/tls.key").bytes, as: UTF8.self))"),
      at: path("log/proc.log"))
    for name in ["hard.log", "soft.log", "tree", "proc.log"] { #expect(try isOwn(name) == true, "\(name)") }
    // The old key under another name, the new one by a name made at once.
    try acts.link(path("keys/tls.key"), at: path("log/old.log"))
    try acts.create(path("keys/next"))
    try acts.link(path("keys/next"), at: path("log/new.log"))
    #expect(try isOwn("new.log") == false)
    try acts.rename(path("keys/next"), to: path("keys/tls.key"))
    #expect(try isOwn("old.log") == true)
    #expect(try isOwn("new.log") == true)
    #expect(plane.list(path("data"), names: nil).isOwn)
    #expect(plane.list(path("log"), names: nil).isOwn == false)
  }
}

@Suite struct OddNamesTests {
  let plane = LinuxHostFiles(limits: smallLimits, descriptorLimit: 8) { _, _ in [] }

  @Test func `A path that is longer than the kernel takes at once is listed and read all the same`() throws {
    let acts = try LinuxFiles()
    let name = [UInt8](repeating: UInt8(ascii: "d"), count: 250)
    var path = acts.root
    var place = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
    while path.bytes.count < 5_000 {
      try #require(
        name.withUnsafeBytes { _ in mkdirat(place.number, String(decoding: name, as: UTF8.self), 0o755) } == 0)
      let number = openat(place.number, String(decoding: name, as: UTF8.self), O_RDONLY | O_DIRECTORY)
      try #require(number >= 0)
      place = Descriptor(owning: number)
      path = path.appending(name)
    }
    defer {
      // Halved, so that it can be removed by path.
      let middle = (0..<10).reduce(acts.root) { path, _ in path.appending(name) }
      try? acts.rename(middle, to: acts.root.appending([0x68]))
    }
    close(openat(place.number, "x.log", O_CREAT | O_WRONLY, 0o644))
    let listing = plane.watch(path, isBase: true)
    guard case .entries(let entries, _) = listing.outcome else {
      Issue.record("\(listing.outcome)")
      return
    }
    #expect(listing.isWatched && entries.first?.facts?.kind == .regular)
  }

  @Test func `What isn't appended to is called what it is`() throws {
    let acts = try LinuxFiles()
    func kind(_ target: String) throws -> FileFacts.Kind? {
      let view = acts.root.appending(Array("view".utf8))
      try? acts.unlink(view)
      try acts.symlink(BytePath(target), at: view)
      guard case .entries(let entries, _) = plane.list(acts.root, names: [Array("view".utf8)]).outcome else {
        return nil
      }
      return entries.first?.facts?.kind
    }
    #expect(try kind("/proc/uptime") == .synthetic)
    #expect(try kind("/sys/kernel/uevent_seqnum") == .synthetic)
    #expect(try kind("/dev/null") == .device)
  }
}
