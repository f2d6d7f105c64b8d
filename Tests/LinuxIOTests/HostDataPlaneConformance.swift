import DataPlane
import Foundation
import JournalModel
import LinuxIO
import MerkleLog
import SimulatedWorld
import Testing

/// A host's data plane over a world, and the journal's view of one followed file.
final class HostUnderTest {
  let world: World
  let acts: any FileSystemActs
  let plane: any HostDataPlane
  private let leaves: Monitor<[FileUUID: [Digest]]>
  private(set) var positions: [FileID: (uuid: FileUUID, length: UInt64, root: Digest)] = [:]

  init(_ world: World, timeMargin: Interval = .seconds(5)) throws {
    self.world = world
    let leaves = Monitor([FileUUID: [Digest]]())
    self.leaves = leaves
    let stored: @Sendable (FileUUID, UInt64) throws -> [Digest] = { file, count in
      try leaves.withLock { all in
        guard let known = all[file, default: []].prefix(Int(count)) as ArraySlice<Digest>?, known.count == count else {
          throw SourceFailure("out of range")
        }
        return Array(known)
      }
    }
    switch world {
    case .linux:
      acts = try LinuxFiles()
      plane = LinuxHostFiles(limits: smallLimits, descriptorLimit: 64, timeMargin: timeMargin, storedLeaves: stored)
    case .simulated:
      let files = try SimulatedFiles()
      acts = files
      let simulated = SimulatedHostPlane(
        disk: files.disk, watches: files.watches, limits: smallLimits,
        random: RandomStream(seed: 1, entity: "host", purpose: "plane"), storedLeaves: stored)
      simulated.timeMargin = Int64(timeMargin.nanoseconds)
      plane = simulated
    }
  }

  func path(_ name: String) -> BytePath { acts.root.appending(Array(name.utf8)) }

  var empty: Digest { world == .linux ? SHA256Tree.empty : SimulatedTree.empty }

  func root(of bytes: [UInt8]) -> Digest {
    world == .linux ? treeOf(SHA256Tree.self, bytes).root : treeOf(SimulatedTree.self, bytes).root
  }

  func entries(_ listing: Listing) throws -> [String: DirectoryEntry] {
    guard case .entries(let entries, _) = listing.outcome else { throw SourceFailure("\(listing.outcome)") }
    return Dictionary(uniqueKeysWithValues: entries.map { (String(decoding: $0.name, as: UTF8.self), $0) })
  }

  func list(_ names: [String]? = nil) throws -> [String: DirectoryEntry] {
    try entries(plane.list(acts.root, names: names?.map { Array($0.utf8) }))
  }

  func facts(_ name: String) throws -> FileFacts { try #require(try list([name])[name]?.facts) }

  /// Attaches the file of that name.
  func attach(_ name: String, as number: UInt32 = 1) throws -> FileID {
    let uuid = FileUUID(UUIDBytes(high: 9, low: UInt64(number)))
    let id = FileID(number)
    plane.attach(id, file: uuid, inode: try facts(name).inode, path: path(name))
    positions[id] = (uuid, 0, empty)
    return id
  }

  func reborn(_ id: FileID, as number: UInt32) -> FileID {
    let next = FileID(number)
    let uuid = FileUUID(UUIDBytes(high: 9, low: UInt64(number)))
    plane.reborn(id, as: next, file: uuid)
    positions[next] = (uuid, 0, empty)
    return next
  }

  /// Ingests and journals.
  func ingest(_ id: FileID, limit: Int = 1 << 20) throws -> IngestAnswer {
    let position = try #require(positions[id])
    let answer = plane.ingest(id, from: position.length, root: position.root, limit: limit)
    if case .appended(let appended) = answer.outcome {
      positions[id] = (position.uuid, appended.length, appended.root)
      leaves.withLock { $0[position.uuid, default: []] += appended.leaves.hashes }
    }
    return answer
  }

  func length(_ id: FileID) -> UInt64? { positions[id]?.length }
}

/// What every `HostDataPlane` promises.
@Suite struct HostDataPlaneConformance {
  // MARK: Names

  @Test(arguments: World.allCases) func `A listing shows every entry with what it is`(_ world: World) throws {
    let host = try HostUnderTest(world)
    try host.acts.create(host.path("a.log"))
    try host.acts.append(host.path("a.log"), pattern(100))
    try host.acts.makeDirectory(host.path("sub"))
    try host.acts.create(host.path("sub/below"))
    let entries = try host.list()
    #expect(entries.keys.sorted() == ["a.log", "sub"])
    let facts = try #require(entries["a.log"]?.facts)
    #expect(facts.kind == .regular && facts.size == 100 && facts.links == 1)
    #expect(facts.inode.identity.isUsable)
    #expect(entries["sub"]?.facts?.kind == .directory)
    #expect(Set(entries.values.map(\.freshUUID)).count == 2)
  }

  @Test(arguments: World.allCases) func `Names are bytes`(_ world: World) throws {
    let host = try HostUnderTest(world)
    let names: [[UInt8]] = [
      [0xFF, 0xFE, 0x20, 0x0A], Array("with space".utf8), [UInt8](repeating: 0x61, count: 255), Array("-".utf8),
    ]
    for name in names { try host.acts.create(host.acts.root.appending(name)) }
    guard case .entries(let entries, _) = host.plane.list(host.acts.root, names: nil).outcome else {
      return #expect(Bool(false))
    }
    #expect(Set(entries.map(\.name)) == Set(names))
    #expect(entries.allSatisfy { $0.facts != nil })
  }

  @Test(arguments: World.allCases) func `A partial listing answers for the names asked for only`(
    _ world: World
  ) throws {
    let host = try HostUnderTest(world)
    try host.acts.create(host.path("a"))
    try host.acts.create(host.path("b"))
    #expect(try host.list(["a", "gone"]).keys.sorted() == ["a"])
    #expect(try host.list([]).isEmpty)
    let listing = host.plane.list(host.acts.root, names: [Array("a".utf8)])
    #expect(listing.names == [Array("a".utf8)] && listing.directory == host.acts.root)
  }

  @Test(arguments: World.allCases) func `A directory that isn't there is missing, and so is a file in its place`(
    _ world: World
  ) throws {
    let host = try HostUnderTest(world)
    #expect(host.plane.list(host.path("none"), names: nil).outcome == .missing)
    #expect(host.plane.watch(host.path("none"), isBase: false).outcome == .missing)
    #expect(!host.plane.watch(host.path("none"), isBase: false).isWatched)
    try host.acts.create(host.path("file"))
    #expect(host.plane.list(host.path("file"), names: nil).outcome == .missing)
    #expect(host.plane.list(host.path("file/below"), names: nil).outcome == .missing)
  }

  @Test(arguments: World.allCases) func `Symbolic links show their target, hard links are one inode (D9, S24)`(
    _ world: World
  ) throws {
    let host = try HostUnderTest(world)
    try host.acts.create(host.path("a"))
    try host.acts.append(host.path("a"), [1, 2, 3])
    try host.acts.symlink(host.path("a"), at: host.path("view"))
    try host.acts.symlink(host.path("nowhere"), at: host.path("broken"))
    try host.acts.link(host.path("a"), at: host.path("hard"))
    let entries = try host.list()
    let view = try #require(entries["view"])
    #expect(view.isSymbolicLink && view.facts == entries["a"]?.facts && view.realPath == host.path("a"))
    let broken = try #require(entries["broken"])
    #expect(broken.isSymbolicLink && broken.facts == nil)
    #expect(entries["hard"]?.facts == entries["a"]?.facts && entries["a"]?.facts?.links == 2)
    #expect(entries["a"]?.realPath == nil && entries["a"]?.isSymbolicLink == false)
  }

  @Test(arguments: World.allCases)
  func `An inode stays itself through renames and growth, its number's next is another`(
    _ world: World
  ) throws {
    let host = try HostUnderTest(world)
    try host.acts.create(host.path("a"))
    let first = try host.facts("a").inode
    try host.acts.append(host.path("a"), pattern(10))
    try host.acts.rename(host.path("a"), to: host.path("b"))
    #expect(try host.facts("b").inode == first)
    var seen: Set<InodeKey> = [first]
    try host.acts.unlink(host.path("b"))
    for _ in 0..<50 {
      try host.acts.create(host.path("c"))
      #expect(seen.insert(try host.facts("c").inode).inserted)
      try host.acts.unlink(host.path("c"))
    }
  }

  // MARK: Hints

  @Test(arguments: World.allCases) func `A watched directory says what happened to its names and bytes (F1)`(
    _ world: World
  ) throws {
    let host = try HostUnderTest(world)
    let listing = host.plane.watch(host.acts.root, isBase: false)
    #expect(listing.isWatched && listing.names == nil)
    #expect(host.plane.list(host.acts.root, names: []).isWatched)
    #expect(host.plane.hints().isEmpty)
    let root = host.acts.root
    func hint(_ name: String) -> WatchHint { .changed(directory: root, name: Array(name.utf8)) }
    try host.acts.create(host.path("a"))
    #expect(host.plane.hints().contains(hint("a")))
    try host.acts.append(host.path("a"), [1])
    #expect(host.plane.hints().contains(.modified(directory: root, name: Array("a".utf8))))
    try host.acts.rename(host.path("a"), to: host.path("b"))
    let renamed = host.plane.hints()
    #expect(renamed.contains(hint("a")) && renamed.contains(hint("b")))
    try host.acts.unlink(host.path("b"))
    #expect(host.plane.hints().contains(hint("b")))
    host.plane.unwatch(root)
    try host.acts.create(host.path("c"))
    #expect(host.plane.hints().isEmpty)
    #expect(!host.plane.list(root, names: nil).isWatched)
  }

  @Test(arguments: World.allCases) func `A watched directory that goes is lost, and can be watched again (S05)`(
    _ world: World
  ) throws {
    let host = try HostUnderTest(world)
    let directory = host.path("d")
    for _ in 0..<3 {
      try host.acts.makeDirectory(directory)
      #expect(host.plane.watch(directory, isBase: false).isWatched)
      try host.acts.removeDirectory(directory)
      #expect(host.plane.hints().contains(.lost(directory: directory)))
      #expect(!host.plane.list(directory, names: nil).isWatched)
    }
    try host.acts.makeDirectory(directory)
    #expect(host.plane.watch(directory, isBase: false).isWatched)
    try host.acts.create(directory.appending([0x61]))
    #expect(host.plane.hints() == [.changed(directory: directory, name: [0x61])] || host.world == .linux)
  }

  // MARK: Bytes

  @Test(arguments: World.allCases) func `New bytes are read, hashed and answered with size and root`(
    _ world: World
  ) throws {
    let host = try HostUnderTest(world)
    try host.acts.create(host.path("a"))
    let id = try host.attach("a")
    #expect(try host.ingest(id).outcome == .unchanged)
    let bytes = pattern(300)
    try host.acts.append(host.path("a"), bytes)
    let answer = try host.ingest(id, limit: 100)
    guard case .appended(let appended) = answer.outcome else { return #expect(Bool(false)) }
    #expect(answer.size == 300 && answer.links == 1)
    #expect(appended.length == 100 && appended.root == host.root(of: Array(bytes[..<100])))
    #expect(appended.leaves.first == 0 && appended.leaves.hashes.count == 1)
    _ = try host.ingest(id)
    #expect(try host.ingest(id).outcome == .unchanged)
    #expect(host.length(id) == 300)
    for length in [0, 1, 63, 64, 65, 200, 299, 300] {
      #expect(host.plane.computeRoot(id, length: UInt64(length)) == host.root(of: Array(bytes[..<length])))
    }
    #expect(try host.plane.read(id, offset: 37, length: 200) == Array(bytes[37..<237]))
    #expect(throws: PayloadUnavailable.self) { try host.plane.read(id, offset: 290, length: 11) }
  }

  @Test(arguments: World.allCases) func `A restart goes on from the journaled length (D4)`(_ world: World) throws {
    for length in [1, 64, 65, 128, 200] {
      let host = try HostUnderTest(world)
      let bytes = pattern(300)
      try host.acts.create(host.path("a"))
      try host.acts.append(host.path("a"), Array(bytes[..<length]))
      let id = try host.attach("a")
      _ = try host.ingest(id)
      let inode = try host.facts("a").inode
      host.plane.release(id)
      host.plane.attach(id, file: FileUUID(UUIDBytes(high: 9, low: 1)), inode: inode, path: host.path("a"))
      #expect(try host.ingest(id).outcome == .unchanged)
      try host.acts.append(host.path("a"), Array(bytes[length...]))
      guard case .appended(let appended) = try host.ingest(id).outcome else { return #expect(Bool(false)) }
      #expect(appended.root == host.root(of: bytes))
    }
  }

  @Test(arguments: World.allCases) func `Truncation is shrunk, truncation and refill is diverged (D4, S26)`(
    _ world: World
  ) throws {
    for length in [64, 100, 128] {
      let host = try HostUnderTest(world)
      try host.acts.create(host.path("a"))
      try host.acts.append(host.path("a"), pattern(length))
      let id = try host.attach("a")
      _ = try host.ingest(id)
      try host.acts.truncate(host.path("a"), to: length / 2)
      let shrunk = try host.ingest(id)
      #expect(shrunk.outcome == .shrunk && shrunk.size == UInt64(length / 2))
      try host.acts.truncate(host.path("a"), to: 0)
      try host.acts.append(host.path("a"), pattern(length, 1))
      #expect(try host.ingest(id).outcome == .diverged)

      let next = host.reborn(id, as: 2)
      guard case .appended(let appended) = try host.ingest(next).outcome else { return #expect(Bool(false)) }
      #expect(appended.root == host.root(of: pattern(length, 1)))
    }
  }

  @Test(arguments: World.allCases) func `A pinned file is read on after its last name is gone (F2)`(
    _ world: World
  ) throws {
    let host = try HostUnderTest(world)
    try host.acts.create(host.path("a"))
    try host.acts.append(host.path("a"), pattern(50))
    let id = try host.attach("a")
    _ = try host.ingest(id)
    let writer = try host.acts.openWriter(host.path("a"))
    try host.acts.unlink(host.path("a"))
    try host.acts.create(host.path("a"))
    host.plane.relocate(id, path: host.path("a"), isPinned: true)
    #expect(host.plane.probeWriters(id) == true)
    try writer.append(Array(pattern(80)[50...]))
    let answer = try host.ingest(id)
    #expect(answer.links == 0 && host.length(id) == 80)
    writer.close()
    #expect(host.plane.probeWriters(id) == false)
    #expect(try host.plane.read(id, offset: 0, length: 80) == pattern(80))
    host.plane.release(id)
    #expect(host.plane.ingest(id, from: 80, root: host.root(of: pattern(80)), limit: 1).outcome == .gone)
  }

  @Test(arguments: World.allCases) func `A path that leads to another inode is gone, one that is told anew is found`(
    _ world: World
  ) throws {
    let host = try HostUnderTest(world)
    try host.acts.create(host.path("a"))
    try host.acts.append(host.path("a"), pattern(10))
    let inode = try host.facts("a").inode
    try host.acts.rename(host.path("a"), to: host.path("b"))
    try host.acts.create(host.path("a"))
    let id = FileID(5)
    host.plane.attach(id, file: FileUUID(UUIDBytes(high: 1, low: 1)), inode: inode, path: host.path("a"))
    #expect(host.plane.ingest(id, from: 0, root: host.empty, limit: 100).outcome == .gone)
    #expect(throws: PayloadUnavailable.self) { try host.plane.read(id, offset: 0, length: 1) }
    #expect(host.plane.computeRoot(id, length: 0) == nil)
    host.plane.relocate(id, path: host.path("b"), isPinned: false)
    #expect(try host.plane.read(id, offset: 0, length: 10) == pattern(10))
    host.plane.release(id)
    try host.acts.unlink(host.path("b"))
    host.plane.attach(id, file: FileUUID(UUIDBytes(high: 1, low: 1)), inode: inode, path: host.path("b"))
    #expect(host.plane.ingest(id, from: 0, root: host.empty, limit: 100).outcome == .gone)
  }

  @Test(arguments: World.allCases) func `A symbolic link serves as a path to its target (D9)`(_ world: World) throws {
    let host = try HostUnderTest(world)
    try host.acts.create(host.path("a"))
    try host.acts.append(host.path("a"), pattern(10))
    try host.acts.symlink(host.path("a"), at: host.path("view"))
    let id = try host.attach("view")
    guard case .appended(let appended) = try host.ingest(id).outcome else { return #expect(Bool(false)) }
    #expect(appended.length == 10)
  }
}
