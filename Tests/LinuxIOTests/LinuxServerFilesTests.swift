import DataPlane
import Foundation
import JournalModel
import MerkleLog
import Testing

@testable import LinuxIO

@Suite struct LinuxServerFilesTests {
  private func plane(_ acts: LinuxFiles) throws -> LinuxServerFiles {
    try LinuxServerFiles(
      root: acts.root, limits: smallLimits, descriptorLimit: 4, storedLeaves: { _, _ in [] },
      loggedBytes: { _, _ in [] })
  }

  private func key(_ number: UInt64 = 1) throws -> StringKey {
    let host = try #require(HostName("web1"))
    return StringKey(key: FileKey(host: host, file: FileUUID(UUIDBytes(high: 1, low: number))), string: 0)
  }

  private func text(_ path: BytePath) -> String { String(decoding: path.bytes, as: UTF8.self) }

  @Test func `Nothing outside the log root is reached, whatever stands in it (P1)`() throws {
    let acts = try LinuxFiles()
    let outside = try LinuxFiles()
    let plane = try plane(acts)
    for directory in ["files", "files/web1"] { try acts.makeDirectory(acts.root.appending(Array(directory.utf8))) }
    try acts.symlink(outside.root, at: acts.root.appending(Array("files/web1/out".utf8)))
    try outside.create(outside.root.appending(Array("victim".utf8)))
    try acts.symlink(
      outside.root.appending(Array("victim".utf8)), at: acts.root.appending(Array("files/web1/link".utf8)))
    for name in ["files/web1/out/a", "files/web1/../../../a", "/etc/a", "files/web1/./a", "files//a", "a\0b/c"] {
      switch plane.create(try key(), BytePath(name), adopts: false) {
      case .failed, .unusable: break
      default: Issue.record("\(name)")
      }
    }
    #expect(plane.create(try key(), BytePath("files/web1/link"), adopts: false) == .taken)
    plane.hold(PayloadID(1), bytes: [1])
    plane.admit(PayloadID(1), to: try key(), offset: 0)
    for name in ["files/web1/link", "files/web1/out/victim"] {
      guard case .unusable = plane.write(try key(), BytePath(name), from: 0, upTo: 1, sync: false) else {
        Issue.record("\(name)")
        continue
      }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: text(outside.root)) == ["victim"])
    #expect(outside.content(outside.root.appending(Array("victim".utf8))) == [])
  }

  @Test func `What is in memory is verified and supplied without reading, and nothing else`() throws {
    let acts = try LinuxFiles()
    let plane = try plane(acts)
    let (key, segment) = (try key(), Segment(BytePath("files/a"), from: 0))
    #expect(plane.create(key, segment, adopts: false) == .created)
    func root(_ bytes: [UInt8]) -> Digest { treeOf(SHA256Tree.self, bytes).root }
    func promise(_ bytes: [UInt8]) -> Promise {
      Promise(key: key.key, length: UInt64(bytes.count), root: root(bytes))
    }
    let bytes = pattern(12)
    plane.hold(PayloadID(1), bytes: Array(bytes[..<5]))
    plane.admit(PayloadID(1), to: key, offset: 0)
    // Where no tree stands yet one is put together, of what may have to be read.
    let first = [promise(Array(bytes[..<5]))]
    #expect(plane.verifyAtOnce(key, in: segment, from: 0, root: SHA256Tree.empty, promises: first) == nil)
    #expect(plane.verify(key, in: segment, from: 0, root: SHA256Tree.empty, promises: first).upTo == 5)
    plane.hold(PayloadID(2), bytes: Array(bytes[5...]))
    plane.admit(PayloadID(2), to: key, offset: 5)
    let answer = plane.verifyAtOnce(key, in: segment, from: 5, root: first[0].root, promises: [promise(bytes)])
    #expect(answer?.upTo == 12)
    #expect(answer?.root == root(bytes))
    let far = Promise(key: key.key, length: 12 + (1 << 20), root: first[0].root)
    #expect(plane.verifyAtOnce(key, in: segment, from: 12, root: root(bytes), promises: [far]) == nil)

    func expectBytes(_ location: SourceLocation = #_sourceLocation) {
      #expect(
        plane.readAtOnce(key, offset: 3, count: 9, behind: [7]) == [7] + bytes[3...], sourceLocation: location)
      #expect(plane.readAtOnce(key, offset: 3, count: 10, behind: []) == nil, sourceLocation: location)
    }
    expectBytes()
    #expect(plane.write(key, segment, from: 0, upTo: 12, sync: false) == .done)
    plane.free(key, below: 12)
    expectBytes()
    #expect(acts.content(acts.root.appending(Array("files/a".utf8))) == bytes)
  }

  @Test func `Directories that hosts name are remembered within a bound`() throws {
    var paths = RecentPaths(limit: 100_000)
    let first = BytePath("files/web1/0")
    for number in 0..<20_000 {
      paths.insert(BytePath("files/web1/\(number)"))
      // What is asked about stays.
      let isKept = paths.contains(first)
      #expect(isKept)
    }
    #expect(paths.count <= 1_300)
    paths.remove(first)
    let isKept = paths.contains(first)
    #expect(!isKept)

    let acts = try LinuxFiles()
    let root = try LogRoot(acts.root)
    let deep = BytePath([UInt8](repeating: UInt8(ascii: "d"), count: 300).flatMap { [$0, UInt8(ascii: "/")] } + [0x65])
    _ = try root.makeDirectories(deep)
    _ = try root.makeDirectories(deep)
    _ = try root.directory(deep)
  }

  @Test func `latest points where it is told, replaces no file, and leads to the plain file (P1)`() throws {
    let acts = try LinuxFiles()
    let plane = try plane(acts)
    let host = try #require(HostName("web1"))
    let path = BytePath("var/log/a.log")
    func stored(_ time: String) -> BytePath { BytePath("files/web1/var/log/a.log@\(time)-01234567") }
    let link = acts.root.appending(Array("latest/web1/var/log/a.log".utf8))
    for (time, number) in [("20260102T030405Z", 2), ("20260102T030404Z", 1), ("20260102T030406Z", 3)] {
      #expect(plane.create(try key(UInt64(number)), stored(time), adopts: false) == .created)
      try acts.append(acts.root.appending(stored(time).bytes), [UInt8(number)])
      #expect(plane.link(host: host, path: path, to: stored(time)) == nil)
      #expect(acts.content(link) == [UInt8(number)])
    }
    // One that leads there already isn't made anew, as each start would for every file.
    func inode() throws -> UInt64? {
      try FileManager.default.attributesOfItem(atPath: text(link))[.systemFileNumber] as? UInt64
    }
    let before = try #require(try inode())
    #expect(plane.link(host: host, path: path, to: stored("20260102T030406Z")) == nil)
    #expect(try inode() == before)
    try acts.create(acts.root.appending(Array("latest/web1/var/log/b".utf8)))
    #expect(plane.link(host: host, path: BytePath("var/log/b"), to: stored("20260102T030406Z")) != nil)
    #expect(acts.content(acts.root.appending(Array("latest/web1/var/log/b".utf8))) == [])
    // A path whose parent is another's link.
    #expect(plane.link(host: host, path: BytePath("var/log/a.log/c"), to: stored("20260102T030406Z")) != nil)
    #expect(acts.content(link) == [3])
  }

  @Test func `More un-synced files than descriptors are all written and synced (F4)`() throws {
    let acts = try LinuxFiles()
    let plane = try plane(acts)
    var names: [BytePath] = []
    for number in 1...30 as ClosedRange<UInt64> {
      let name = BytePath("files/web1/\(number)@20260102T030405Z-01234567")
      names.append(name)
      #expect(plane.create(try key(number), name, adopts: false) == .created)
      plane.hold(PayloadID(number), bytes: pattern(50, Int(number)))
      plane.admit(PayloadID(number), to: try key(number), offset: 0)
      #expect(plane.write(try key(number), name, from: 0, upTo: 50, sync: false) == .done)
    }
    #expect(plane.sync(Array(names[..<5])) == .done)
    #expect(plane.sync(names) == .done)
    for (index, name) in names.enumerated() {
      #expect(acts.content(acts.root.appending(name.bytes)) == pattern(50, index + 1))
    }
  }

  @Test func `A plain file that somebody removed takes no bytes`() throws {
    let acts = try LinuxFiles()
    let plane = try plane(acts)
    let name = BytePath("files/web1/a@20260102T030405Z-01234567")
    _ = plane.create(try key(), name, adopts: false)
    plane.hold(PayloadID(1), bytes: pattern(50))
    plane.admit(PayloadID(1), to: try key(), offset: 0)
    #expect(plane.write(try key(), name, from: 0, upTo: 20, sync: true) == .done)
    try acts.unlink(acts.root.appending(name.bytes))
    for _ in 0..<2 {
      guard case .unusable = plane.write(try key(), name, from: 20, upTo: 50, sync: true) else {
        return #expect(Bool(false))
      }
    }
  }

  @Test func `A log root that somebody removed is named`() throws {
    let acts = try LinuxFiles()
    let plane = try plane(acts)
    try acts.removeDirectory(acts.root)
    guard case .unusable(let reason) = plane.create(try key(), BytePath("files/web1/a"), adopts: false) else {
      Issue.record("made in a directory that is gone")
      return
    }
    #expect(reason == "the log root was removed: put it back and restart this server's node")
  }

  @Test func `A sync that failed once fails everything after it (P4)`() throws {
    let acts = try LinuxFiles()
    let files = PlainFiles(root: try LogRoot(acts.root), descriptorLimit: 4)
    #expect(throws: SyncFailure.self) {
      try files.syncing { () throws(SystemError) in throw SystemError("fsync", code: EIO) }
    }
    #expect(files.failure != nil)
    let plane = LinuxServerFiles(files: files, limits: smallLimits)
    #expect(plane.sync([]) == .failedSync("fsync: Input/output error"))
    #expect(plane.write(try key(), BytePath("a"), from: 0, upTo: 0, sync: false) == plane.sync([]))
    guard case .failedSync = plane.create(try key(), BytePath("files/a"), adopts: false) else {
      return #expect(Bool(false))
    }
  }

  // MARK: Which bytes may be written over

  @Test func `Only what this process wrote and nobody committed is written over (G5)`() throws {
    let name = Segment(BytePath("a"))
    let string = HeldString(key: try key(), limits: smallLimits)
    string.settle(name, length: 100)
    string.state.withLock { $0.queue.append(pattern(300)[...], at: 100) }
    func allowed(_ range: Range<UInt64>, size: UInt64) -> Bool {
      (try? string.pieces(range, name, size: size)) != nil
    }
    #expect(!allowed(100..<200, size: 101))  // not ours: nothing was written yet
    #expect(allowed(100..<200, size: 100))
    #expect(allowed(100..<200, size: 150))  // cut off by a full disk
    #expect(allowed(100..<150, size: 200))  // the batch was refused, less comes
    #expect(!allowed(100..<150, size: 201))
    #expect(!allowed(150..<250, size: 140))  // a hole
    string.state.withLock { $0.floor = 150 }
    #expect(!allowed(100..<200, size: 200))
    #expect(!allowed(100..<200, size: 100))  // somebody cut what was committed
    #expect(allowed(150..<250, size: 200))
    #expect(!allowed(350..<450, size: 350))  // not queued
  }
}
