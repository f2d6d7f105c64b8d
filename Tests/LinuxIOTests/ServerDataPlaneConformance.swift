import DataPlane
import Foundation
import JournalModel
import LinuxIO
import MerkleLog
import SimulatedWorld
import Testing

/// A server's data plane over a world, and one string of it.
final class ServerUnderTest {
  let world: World
  let acts: any FileSystemActs
  private(set) var plane: any ServerDataPlane
  let key: StringKey
  let stored: BytePath
  /// What the store would give: leaves and log of the string.
  let leaves = Monitor([Digest]())
  let log = Monitor([UInt8]())
  private var nextFrame: UInt64 = 0

  init(_ world: World) throws {
    self.world = world
    let host = try #require(HostName("web1"))
    key = StringKey(key: FileKey(host: host, file: FileUUID(UUIDBytes(high: 3, low: 4))), string: 0)
    stored = BytePath("files/web1/var/log/a.log@20260102T030405Z-01234567")
    acts = world == .linux ? try LinuxFiles() : try SimulatedFiles()
    plane = try Self.open(acts, leaves, log)
  }

  /// As a new process, over the same disk.
  func restart() throws { plane = try Self.open(acts, leaves, log) }

  private static func open(
    _ acts: any FileSystemActs, _ leaves: Monitor<[Digest]>, _ log: Monitor<[UInt8]>
  ) throws -> any ServerDataPlane {
    let stored: @Sendable (StringKey, UInt64) throws -> [Digest] = { _, count in
      try leaves.withLock { leaves in
        guard leaves.count >= Int(count) else { throw SourceFailure("out of range") }
        return Array(leaves[..<Int(count)])
      }
    }
    if let simulated = acts as? SimulatedFiles {
      return SimulatedServerPlane(
        disk: simulated.disk, limits: smallLimits, storedLeaves: stored,
        loggedBytes: { _, _ in [(0, log.withLock { $0 })] })
    }
    return try LinuxServerFiles(
      root: acts.root, limits: smallLimits, descriptorLimit: 20, storedLeaves: stored,
      loggedBytes: { _, _ in [(0, log.withLock { $0 })] })
  }

  /// The log root's path, as the world's acts name it.
  func path(_ below: BytePath) -> BytePath {
    world == .linux ? acts.root.appending(below.bytes) : BytePath(Array("/".utf8) + below.bytes)
  }

  var content: [UInt8]? { acts.content(path(stored)) }

  func root(_ bytes: [UInt8]) -> Digest {
    world == .linux ? treeOf(SHA256Tree.self, bytes).root : treeOf(SimulatedTree.self, bytes).root
  }

  func promise(_ bytes: [UInt8]) -> Promise {
    Promise(key: key.key, length: UInt64(bytes.count), root: root(bytes))
  }

  func hold(_ bytes: [UInt8]) -> PayloadID {
    nextFrame += 1
    plane.hold(PayloadID(nextFrame), bytes: bytes)
    return PayloadID(nextFrame)
  }

  func admit(_ bytes: [UInt8], at offset: Int) { plane.admit(hold(bytes), to: key, offset: UInt64(offset)) }

  func write(_ range: Range<Int>, sync: Bool = false) -> DiskOutcome {
    plane.write(key, stored, from: UInt64(range.lowerBound), upTo: UInt64(range.upperBound), sync: sync)
  }

  func isFailed(_ outcome: DiskOutcome) -> Bool { if case .failed = outcome { true } else { false } }
}

/// What every `ServerDataPlane` promises.
@Suite struct ServerDataPlaneConformance {
  @Test(arguments: World.allCases) func `Bytes go from frames through verification into the plain file (P2, W3)`(
    _ world: World
  ) throws {
    let server = try ServerUnderTest(world)
    let bytes = pattern(300)
    #expect(server.plane.create(server.key, server.stored, adopts: false) == .created)
    #expect(server.content == [])
    for lower in stride(from: 0, to: 300, by: 70) {
      server.admit(Array(bytes[lower..<min(300, lower + 70)]), at: lower)
    }
    let answer = server.plane.verify(
      server.key, stored: server.stored, from: 0, root: server.root([]),
      promises: [Array(bytes[..<100]), bytes].map(server.promise))
    #expect(answer.upTo == 300 && answer.root == server.root(bytes) && answer.leaves.hashes.count == 4)
    #expect(server.plane.queued(server.key, offset: 90, length: 60) == Array(bytes[90..<150]))
    #expect(server.write(0..<120) == .done)
    #expect(server.plane.sync([server.stored]) == .done)
    server.plane.free(server.key, below: 120)
    #expect(server.write(120..<300, sync: true) == .done)
    server.plane.free(server.key, below: 300)
    #expect(server.content == bytes)
  }

  @Test(arguments: World.allCases) func `M1: a branch's plain file begins with the leaf in which it leaves another`(
    _ world: World
  ) throws {
    let server = try ServerUnderTest(world)
    let (bytes, leaf) = (pattern(300), smallLimits.leafSize)
    _ = server.plane.create(server.key, server.stored, adopts: false)
    server.admit(bytes, at: 0)
    let first = server.plane.verify(
      server.key, stored: server.stored, from: 0, root: server.root([]), promises: [server.promise(bytes)])
    #expect(server.write(0..<300, sync: true) == .done)
    server.leaves.withLock { $0 = first.leaves.hashes }
    // Two frames beside it: the first is its own, the second leaves it.
    let start = 3 * leaf
    let other = Array(bytes[..<(start + 10)]) + pattern(200, 7)
    let whole = Segment(server.stored)
    let same = server.hold(Array(other[..<100]))
    #expect(
      server.plane.probe(same, against: server.key, in: whole, offset: 0, count: 100)
        == .same(root: server.root(Array(bytes[..<100]))))
    server.plane.drop(same)
    let frame = server.hold(Array(other[100...]))
    let divergence = zip(bytes, other).prefix { $0 == $1 }.count
    #expect(
      server.plane.probe(frame, against: server.key, in: whole, offset: 100, count: 200)
        == .differs(at: UInt64(divergence), start: UInt64(start), root: server.root(Array(bytes[..<start]))))
    let branch = StringKey(key: server.key.key, string: 1)
    let segment = Segment(BytePath("files/web1/var/log/a.log@branch1"), from: UInt64(start))
    #expect(server.plane.create(branch, segment, adopts: false) == .created)
    server.plane.admit(frame, to: branch, offset: UInt64(start))
    let answer = server.plane.verify(
      branch, in: segment, from: UInt64(start), root: server.root(Array(bytes[..<start])),
      promises: [server.promise(other)])
    #expect(answer.upTo == UInt64(other.count) && answer.root == server.root(other))
    #expect(answer.leaves.first == 3)
    #expect(server.plane.write(branch, segment, from: UInt64(start), upTo: UInt64(start + 20), sync: false) == .done)
    #expect(
      server.plane.write(branch, segment, from: UInt64(start + 20), upTo: UInt64(other.count), sync: true) == .done)
    server.plane.free(branch, below: UInt64(other.count))
    #expect(server.acts.content(server.path(segment.path)) == Array(other[start...]))
    #expect(server.content == bytes)
    let again = server.hold(Array(other[start..<(start + 40)]))
    #expect(server.plane.compare(again, with: branch, in: segment, offset: UInt64(start), count: 40) == true)
    #expect(server.plane.compare(again, with: branch, in: segment, offset: UInt64(start - 1), count: 40) == nil)
    server.plane.drop(again)
    // A crash left more of it than is committed.
    try server.restart()
    let end = UInt64(start + 30)
    let log = [(offset: UInt64(start + 20), bytes: Array(other[(start + 20)..<(start + 30)]))]
    #expect(
      server.plane.repair(
        branch, segment, synced: UInt64(start + 20), committed: end, log: log, leftover: 1 << 20) == .done)
    #expect(server.acts.content(server.path(segment.path)) == Array(other[start..<(start + 30)]))
  }

  @Test(arguments: World.allCases) func `K5: what has a name keeps it, an empty file is adopted at a start only`(
    _ world: World
  ) throws {
    let server = try ServerUnderTest(world)
    #expect(server.plane.create(server.key, server.stored, adopts: false) == .created)
    // While the process runs, whatever is there is another's.
    #expect(server.plane.create(server.key, server.stored, adopts: false) == .taken)
    try server.restart()
    #expect(server.plane.create(server.key, server.stored, adopts: true) == .created)
    try server.acts.append(server.path(server.stored), [1])
    try server.restart()
    #expect(server.plane.create(server.key, server.stored, adopts: true) == .taken)
    #expect(server.content == [1])
    let directory = BytePath("files/web1/var/log/d@20260102T030405Z-01234567")
    try server.acts.makeDirectory(server.path(directory))
    let link = BytePath("files/web1/var/log/l@20260102T030405Z-01234567")
    try server.acts.symlink(BytePath("/nowhere"), at: server.path(link))
    for adopts in [false, true] {
      #expect(server.plane.create(server.key, directory, adopts: adopts) == .taken)
      #expect(server.plane.create(server.key, link, adopts: adopts) == .taken)
    }
  }

  @Test(arguments: World.allCases) func `Nothing is written but at the end of the plain file (G5)`(
    _ world: World
  ) throws {
    let server = try ServerUnderTest(world)
    let bytes = pattern(200)
    _ = server.plane.create(server.key, server.stored, adopts: false)
    server.admit(bytes, at: 0)
    #expect(server.isFailed(server.write(50..<200)))
    #expect(server.content == [])
    #expect(server.write(0..<100) == .done)
    #expect(server.isFailed(server.write(150..<200)))
    // Somebody else's bytes stand where the next ones belong.
    try server.acts.append(server.path(server.stored), pattern(150, 1))
    #expect(server.isFailed(server.write(100..<200)))
    #expect(server.content == Array(bytes[..<100]) + pattern(150, 1))
  }

  @Test(arguments: World.allCases) func `A frame is compared with held bytes, wherever they are, and its tail admitted`(
    _ world: World
  ) throws {
    let server = try ServerUnderTest(world)
    let bytes = pattern(200)
    _ = server.plane.create(server.key, server.stored, adopts: false)
    server.admit(Array(bytes[..<120]), at: 0)
    _ = server.write(0..<80)
    server.plane.free(server.key, below: 80)
    let frame = server.hold(Array(bytes[50..<200]))
    let other = server.hold(pattern(150, 1))
    for count in [1, 30, 31, 70] {
      #expect(server.plane.compare(frame, with: server.key, stored: server.stored, offset: 50, count: count) == true)
      #expect(server.plane.compare(other, with: server.key, stored: server.stored, offset: 50, count: count) == false)
    }
    #expect(server.plane.compare(other, with: server.key, stored: server.stored, offset: 50, count: 151) == nil)
    server.plane.drop(other)
    server.plane.admitTail(frame, to: server.key, offset: 50, dropping: 70)
    #expect(server.write(80..<200) == .done)
    #expect(server.content == bytes)
  }

  @Test(arguments: World.allCases) func `A root that isn't met ends it there; the range comes again (W3)`(
    _ world: World
  ) throws {
    let server = try ServerUnderTest(world)
    let bytes = pattern(200)
    _ = server.plane.create(server.key, server.stored, adopts: false)
    server.admit(Array(bytes[..<90]) + pattern(110, 1), at: 0)
    let promises = [Array(bytes[..<90]), bytes].map(server.promise)
    let answer = server.plane.verify(
      server.key, stored: server.stored, from: 0, root: server.root([]), promises: promises)
    #expect(answer.upTo == 90 && answer.failedAt == 200)
    server.plane.discard(server.key, from: 90)
    server.admit(Array(bytes[90...]), at: 90)
    let again = server.plane.verify(
      server.key, stored: server.stored, from: 90, root: server.root(Array(bytes[..<90])), promises: [promises[1]])
    #expect(again.upTo == 200)
    #expect(server.write(0..<200) == .done)
    #expect(server.content == bytes)
  }

  @Test(arguments: World.allCases) func `After a restart verification goes on from the repaired file (P3)`(
    _ world: World
  ) throws {
    for length in [1, 63, 64, 65, 130] {
      let server = try ServerUnderTest(world)
      let bytes = pattern(300)
      _ = server.plane.create(server.key, server.stored, adopts: false)
      server.admit(Array(bytes[..<length]), at: 0)
      let answer = server.plane.verify(
        server.key, stored: server.stored, from: 0, root: server.root([]),
        promises: [server.promise(Array(bytes[..<length]))])
      server.leaves.withLock { $0 = answer.leaves.hashes }
      #expect(server.write(0..<length, sync: true) == .done)
      try server.restart()
      let repaired = server.plane.repair(
        server.key, server.stored, synced: UInt64(length), committed: UInt64(length), log: [], leftover: 100)
      #expect(repaired == .done)
      server.admit(Array(bytes[length...]), at: length)
      let next = server.plane.verify(
        server.key, stored: server.stored, from: UInt64(length), root: server.root(Array(bytes[..<length])),
        promises: [server.promise(bytes)])
      #expect(next.upTo == 300 && next.unreadable == nil)
      #expect(server.write(length..<300) == .done)
      #expect(server.content == bytes)
    }
  }

  // MARK: Repair

  @Test(arguments: World.allCases) func `What lies beyond the synced length is cut and rebuilt from the log (P3)`(
    _ world: World
  ) throws {
    let bytes = pattern(200)
    for onDisk in [100, 120, 150, 199] {
      let server = try ServerUnderTest(world)
      _ = server.plane.create(server.key, server.stored, adopts: false)
      try server.acts.append(server.path(server.stored), Array(bytes[..<100]) + pattern(onDisk - 100, 1))
      try server.restart()
      let outcome = server.plane.repair(
        server.key, server.stored, synced: 100, committed: 150,
        log: [(80, Array(bytes[80..<110])), (110, Array(bytes[110..<150]))], leftover: 100)
      #expect(outcome == .done)
      #expect(server.content == Array(bytes[..<150]))
    }
  }

  @Test(arguments: World.allCases)
  func `Great excess, or a store that may be old, cuts nothing: the file is set aside (P3)`(
    _ world: World
  ) throws {
    let bytes = pattern(400)
    for (excess, leftover) in [(101, 100), (1, 0), (1, nil)] as [(Int, UInt64?)] {
      let server = try ServerUnderTest(world)
      _ = server.plane.create(server.key, server.stored, adopts: false)
      let old = Array(bytes[..<(100 + excess)])
      try server.acts.append(server.path(server.stored), old)
      try server.restart()
      let outcome = server.plane.repair(
        server.key, server.stored, synced: 100, committed: 100, log: [], leftover: leftover)
      guard case .setAside(let aside) = outcome else { return #expect(Bool(false), "\(outcome)") }
      #expect(server.content == Array(bytes[..<100]))
      #expect(server.acts.content(server.path(aside)) == old)
      server.admit(Array(bytes[100..<110]), at: 100)
      #expect(server.write(100..<110) == .done)
      #expect(server.content == Array(bytes[..<110]))
    }
  }

  @Test(arguments: World.allCases) func `A repair that lacks bytes fails and changes nothing`(_ world: World) throws {
    let server = try ServerUnderTest(world)
    _ = server.plane.create(server.key, server.stored, adopts: false)
    try server.acts.append(server.path(server.stored), pattern(50))
    func repair(_ synced: UInt64, _ committed: UInt64) -> RepairOutcome {
      server.plane.repair(
        server.key, server.stored, synced: synced, committed: committed, log: [(60, pattern(40))], leftover: 100)
    }
    func isRefused(_ outcome: RepairOutcome) -> Bool {
      switch outcome {
      case .failed, .unusable: true
      case .done, .setAside, .failedSync: false
      }
    }
    #expect(isRefused(repair(51, 51)))
    #expect(isRefused(repair(50, 100)))
    #expect(server.content == pattern(50))
    try server.acts.unlink(server.path(server.stored))
    #expect(isRefused(repair(50, 50)))
    #expect(server.content == nil)
  }

  @Test(arguments: World.allCases) func `A missing file of which nothing was synced is made from the log`(
    _ world: World
  ) throws {
    let server = try ServerUnderTest(world)
    let outcome = server.plane.repair(
      server.key, server.stored, synced: 0, committed: 70, log: [(0, pattern(70))], leftover: 10)
    #expect(outcome == .done)
    #expect(server.content == pattern(70))
  }
}
