import CLinux
import DataPlane
import Foundation
import JournalModel
import MerkleLog
import Synchronization
import Testing

@testable import LinuxIO

@Suite struct LinuxHostFilesTests {
  @Test func `Descriptors are bounded, and every file is read all the same (F4, S21)`() throws {
    let acts = try LinuxFiles()
    let plane = LinuxHostFiles(limits: smallLimits, descriptorLimit: 8) { _, count in
      guard count == 0 else { throw SourceFailure("out of range") }
      return []
    }
    func path(_ number: UInt32) -> BytePath { acts.root.appending(Array("\(number).log".utf8)) }
    for number in 0..<200 as Range<UInt32> {
      try acts.create(path(number))
      try acts.append(path(number), pattern(40, Int(number)))
      guard case .entries(let entries, _) = plane.list(acts.root, names: [path(number).name]).outcome else {
        return #expect(Bool(false))
      }
      let facts = try #require(entries.first?.facts)
      let uuid = FileUUID(UUIDBytes(high: 1, low: UInt64(number)))
      plane.attach(FileID(number), file: uuid, inode: facts.inode, path: path(number))
      #expect(plane.openDescriptors <= 8)
    }
    plane.relocate(FileID(150), path: path(150), isPinned: true)
    try acts.unlink(path(150))
    for _ in 0..<2 {
      for number in 0..<200 as Range<UInt32> {
        #expect(try plane.read(FileID(number), offset: 0, length: 40) == pattern(40, Int(number)))
        #expect(plane.openDescriptors <= 8)
      }
    }
  }

  @Test func `What was just read is sent without reading it again`() throws {
    let acts = try LinuxFiles()
    let path = acts.root.appending(Array("a.log".utf8))
    let plane = LinuxHostFiles(limits: smallLimits, descriptorLimit: 8) { _, _ in [] }
    try acts.create(path)
    let bytes = pattern(40)
    guard case .entries(let entries, _) = plane.list(acts.root, names: nil).outcome else {
      return #expect(Bool(false))
    }
    let facts = try #require(entries.first?.facts)
    plane.attach(FileID(1), file: FileUUID(UUIDBytes(high: 1, low: 1)), inode: facts.inode, path: path)
    var (from, root) = (UInt64(0), SHA256Tree.empty)
    for end in [25, 40] {
      try acts.append(path, Array(bytes[Int(from)..<end]))
      guard case .appended(let appended) = plane.ingest(FileID(1), from: from, root: root, limit: 100).outcome else {
        return #expect(Bool(false))
      }
      (from, root) = (appended.length, appended.root)
    }
    #expect(plane.readAtOnce(FileID(1), offset: 3, length: 37, behind: [7]) == [7] + bytes[3...])
    #expect(plane.readAtOnce(FileID(1), offset: 3, length: 38, behind: []) == nil)
    #expect(plane.readAtOnce(FileID(2), offset: 3, length: 1, behind: []) == nil)
    // What changes in place meanwhile isn't what was journaled.
    try acts.truncate(path, to: 0)
    try acts.append(path, pattern(40, 9))
    #expect(plane.readAtOnce(FileID(1), offset: 0, length: 40, behind: []) == bytes)
  }

  @Test func `A FIFO under a log's name is listed as what it is and never opened for reading`() throws {
    let acts = try LinuxFiles()
    let path = acts.root.appending(Array("a.log".utf8))
    let plane = LinuxHostFiles(limits: smallLimits, descriptorLimit: 8) { _, _ in [] }
    #expect(mkfifo(String(decoding: path.bytes, as: UTF8.self), 0o600) == 0)
    guard case .entries(let entries, _) = plane.list(acts.root, names: nil).outcome else {
      return #expect(Bool(false))
    }
    let facts = try #require(entries.first?.facts)
    #expect(facts.kind == .fifo)
    // Even a driver that mistook it for a file: opening a FIFO would wait for a writer, or let one go on.
    plane.attach(FileID(1), file: FileUUID(UUIDBytes(high: 1, low: 1)), inode: facts.inode, path: path)
    #expect(plane.ingest(FileID(1), from: 0, root: SHA256Tree.empty, limit: 10).outcome == .gone)
  }

  @Test func `A directory that may not be read is failed, never missing (D10)`() throws {
    let plane = LinuxHostFiles(limits: smallLimits, descriptorLimit: 8) { _, _ in [] }
    let long = BytePath("/" + String(repeating: "a", count: 300))
    guard case .failed = plane.list(long, names: nil).outcome else { return #expect(Bool(false)) }
    guard geteuid() != 0 else { return }
    let acts = try LinuxFiles()
    let path = acts.root.appending(Array("d".utf8))
    try acts.makeDirectory(path)
    #expect(chmod(String(decoding: path.bytes, as: UTF8.self), 0) == 0)
    guard case .failed = plane.list(path, names: nil).outcome else { return #expect(Bool(false)) }
  }

  @Test func `Two paths to one directory share a watch, and each hears of it`() throws {
    let acts = try LinuxFiles()
    let plane = LinuxHostFiles(limits: smallLimits, descriptorLimit: 8) { _, _ in [] }
    let real = acts.root.appending(Array("real".utf8))
    let view = acts.root.appending(Array("view".utf8))
    try acts.makeDirectory(real)
    try acts.symlink(real, at: view)
    #expect(plane.watch(real, isBase: false).isWatched && plane.watch(view, isBase: false).isWatched)
    let name = Array("a".utf8)
    try acts.create(real.appending(name))
    let hints = plane.hints()
    #expect(hints.contains(.changed(directory: real, name: name)))
    #expect(hints.contains(.changed(directory: view, name: name)))
    plane.unwatch(real)
    try acts.unlink(real.appending(name))
    #expect(plane.hints() == [.changed(directory: view, name: name)])
  }

  @Test func `A path that leads to another directory is watched anew`() throws {
    let acts = try LinuxFiles()
    let plane = LinuxHostFiles(limits: smallLimits, descriptorLimit: 8) { _, _ in [] }
    let (path, moved) = (acts.root.appending([0x61]), acts.root.appending([0x62]))
    try acts.makeDirectory(path)
    #expect(plane.watch(path, isBase: false).isWatched)
    try acts.rename(path, to: moved)
    try acts.makeDirectory(path)
    #expect(plane.watch(path, isBase: false).isWatched)
    _ = plane.hints()
    try acts.create(moved.appending([0x63]))
    #expect(plane.hints().isEmpty)
    try acts.create(path.appending([0x64]))
    #expect(plane.hints().contains(.changed(directory: path, name: [0x64])))
  }

  @Test func `Files on a pseudo file system are not taken for watched (F1)`() {
    let plane = LinuxHostFiles(limits: smallLimits, descriptorLimit: 8) { _, _ in [] }
    #expect(!plane.watch(BytePath("/proc/self"), isBase: false).isWatched)
  }
}

@Suite struct RecentIngestorsTests {
  @Test func `K6: the trees of files that were read lately are kept, and no more`() {
    var recent = RecentIngestors(atMost: 10)
    for number in 0..<100 as Range<UInt32> {
      recent.put(Ingestor(limits: smallLimits), FileID(number))
      #expect(recent.count <= 10)
      // One that is read again and again stays.
      if number > 0 {
        #expect(recent.take(FileID(0)) != nil)
        #expect(recent.take(FileID(0)) == nil)
        recent.put(Ingestor(limits: smallLimits), FileID(0))
      }
    }
    #expect(recent.take(FileID(99)) != nil && recent.take(FileID(50)) == nil)
  }

  @Test func `K6: those of files that are no longer read go`() {
    var recent = RecentIngestors(atMost: 10)
    recent.put(Ingestor(limits: smallLimits), FileID(1))
    recent.put(Ingestor(limits: smallLimits), FileID(2))
    recent.age()
    let one = recent.take(FileID(1))
    #expect(one != nil)
    if let one { recent.put(one, FileID(1)) }
    recent.age()
    #expect(recent.take(FileID(1)) != nil)
    #expect(recent.take(FileID(2)) == nil)
  }
}

/// A scan asks one `statx` about what is known (K6).
@Suite struct SettledInodesTests {
  private let acts: LinuxFiles
  private let directory: Directory
  private let path: BytePath

  init() throws {
    acts = try LinuxFiles()
    path = acts.root.appending(Array("a.log".utf8))
    try acts.create(path)
    try acts.append(path, pattern(10))
    directory = try Directory(try Descriptor.open(acts.root, O_RDONLY))
  }

  private func facts() throws -> FileFacts { try InodeFacts.of(try Descriptor.open(path, O_RDONLY)) }

  private func file(_ inode: InodeKey) -> FollowedFile {
    FollowedFile(
      file: FileUUID(UUIDBytes(high: 1, low: 1)), mount: .unknown, place: .init(path: path, inode: inode))
  }

  private func known(_ file: FollowedFile) throws -> SettledInodes {
    let number = try #require(InodeNumber(file.place.withLock { $0.inode }))
    return SettledInodes(filesystem: try FileSystem.of(directory.descriptor)) { $0 == number ? file : nil }
  }

  /// The time of its birth and so much.
  private func time(_ facts: FileFacts, _ seconds: Int64) throws -> WallTime {
    let birth = try #require(facts.inode.identity.birth)
    return WallTime(nanoseconds: birth.nanoseconds + seconds * 1_000_000_000)
  }

  private func entry(_ known: SettledInodes) throws -> DirectoryEntry? {
    let here = try directory.descriptor.rawFacts()
    return try directory.entries([path.name], of: here, knowing: known) { name throws(SystemError) in
      try Way.walk(name, from: directory.descriptor, user: 0) { _, _ in }
    }.first
  }

  @Test func `K6, D1: a birth counts when it lay far enough back as the identity was asked for`() throws {
    let found = try facts()
    let known = try known(file(found.inode))
    // Newly born, and born in the future, as clocks that step back have it.
    for seconds in [0, 4, -60] as [Int64] {
      known.note(found, asked: try time(found, seconds))
      #expect(try entry(known)?.freshUUID != nil)
    }
    known.note(found, asked: try time(found, 5))
    let entry = try #require(try entry(known))
    #expect(entry.freshUUID == nil && entry.facts == found)
    // Growth is seen.
    try acts.append(path, pattern(7))
    #expect(try self.entry(known)?.facts?.size == 17)
  }

  @Test func `K6, D1: what another machine's clock says of a birth settles nothing`() throws {
    let found = try facts()
    let settled = file(found.inode)
    let (nfs, fuse) = (0x6969 as Int64, 0x6573_5546 as Int64)
    for type in [nfs, fuse] {
      let there = SettledInodes(filesystem: FileSystem(type: type, identifier: 1)) { _ in settled }
      there.note(found, asked: try time(found, 60))
      #expect(settled.settledInode == nil)
    }
    try known(settled).note(found, asked: try time(found, 60))
    #expect(settled.settledInode == found.inode)
  }

  @Test func `K6, D1: another inode of the name is asked in full, also one of the same number`() throws {
    let found = try facts()
    let settled = file(found.inode)
    let known = try known(settled)
    known.note(found, asked: try time(found, 60))
    #expect(try #require(try entry(known)).freshUUID == nil)
    try acts.unlink(path)
    try acts.create(path)
    // Perhaps the same number: some file systems give it out again at once.
    let next = try #require(try entry(known)?.facts)
    #expect(next == (try facts()) && next.inode != found.inode)
    var older = found.inode
    older.identity.birth = try time(found, -1)
    let other = file(older)
    let stale = FileFacts(kind: .regular, inode: older, size: 0, modified: try time(found, 0))
    known.note(stale, asked: try time(found, 60))
    #expect(other.settledInode == nil)
  }

  @Test(.enabled(if: MountNamespace.isPermitted, "no right to mount"))
  func `K6, D10: what is mounted over a name is asked in full, also if it is the same file system`() throws {
    try MountNamespace.inside { space in
      let here = try Self()
      let found = try here.facts()
      let known = try here.known(here.file(found.inode))
      known.note(found, asked: try here.time(found, 60))
      #expect(try #require(try here.entry(known)).freshUUID == nil)
      try space.bind(here.path, at: here.path)
      #expect(try here.entry(known)?.freshUUID != nil)
      try space.unmount(here.path)
      #expect(try #require(try here.entry(known)).freshUUID == nil)
    }
  }
}

@Suite struct WatchTableTests {
  /// struct inotify_event
  private func event(_ watch: Int32, _ mask: Int32, _ name: String = "") -> [UInt8] {
    var bytes: [UInt8] = []
    func add<I: FixedWidthInteger>(_ value: I) {
      withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
    let padded = Array(name.utf8) + [UInt8](repeating: 0, count: name.isEmpty ? 0 : 16 - name.utf8.count)
    add(watch)
    add(UInt32(bitPattern: mask))
    add(UInt32(0))
    add(UInt32(padded.count))
    return bytes + padded
  }

  @Test func `Events under a number that was given out again wait for the old watch's last word (S05)`() throws {
    let acts = try LinuxFiles()
    var table = WatchTable()
    let directory = try Directory(try Descriptor.open(acts.root, O_RDONLY))
    let inode = try InodeFacts.of(directory.descriptor).inode
    let isWatched = table.watch(acts.root, directory.descriptor, inode)
    #expect(isWatched)
    // The first watch of an instance has number 1.
    table.unwatch(acts.root)
    var hints = WatchTable.Hints()
    let stale = event(1, Int32(IN_CREATE), "old") + event(1, Int32(IN_IGNORED)) + event(1, Int32(IN_CREATE), "unknown")
    stale.withUnsafeBytes { table.parse($0, into: &hints) }
    #expect(hints.all.isEmpty)
    let unknown = event(77, Int32(IN_CREATE), "x") + event(-1, Int32(IN_Q_OVERFLOW))
    unknown.withUnsafeBytes { table.parse($0, into: &hints) }
    #expect(hints.all == [.overflow])
  }

  @Test func `A watch that the kernel ends is lost once`() throws {
    let acts = try LinuxFiles()
    var table = WatchTable()
    let directory = try Directory(try Descriptor.open(acts.root, O_RDONLY))
    let inode = try InodeFacts.of(directory.descriptor).inode
    let isWatched = table.watch(acts.root, directory.descriptor, inode)
    #expect(isWatched)
    var hints = WatchTable.Hints()
    let end = event(1, Int32(IN_DELETE_SELF)) + event(1, Int32(IN_IGNORED)) + event(1, Int32(IN_MODIFY), "a")
    end.withUnsafeBytes { table.parse($0, into: &hints) }
    #expect(hints.all == [.lost(directory: acts.root)])
    #expect(!table.isWatched(acts.root))
  }
}

@Suite struct FileHandleTests {
  private func handle(_ type: Int32, _ words: [UInt32]) -> LinuxIO.FileHandle {
    LinuxIO.FileHandle(type: type, bytes: words.flatMap { word in withUnsafeBytes(of: word) { Array($0) } })
  }

  @Test func `The generation stands where each file system puts it (D1)`() {
    #expect(handle(1, [12, 34]).generation(inode: 12, on: FileSystem.ext4) == 34)
    #expect(handle(1, [12, 34]).generation(inode: 12, on: FileSystem.xfs) == 34)
    #expect(handle(0x81, [12, 1, 34]).generation(inode: 1 << 32 | 12, on: FileSystem.xfs) == 34)
    #expect(handle(1, [34, 12, 1]).generation(inode: 1 << 32 | 12, on: FileSystem.tmpfs) == 34)
    #expect(handle(0x4D, [12, 0, 5, 0, 34]).generation(inode: 12, on: FileSystem.btrfs) == 34)
  }

  @Test func `A handle that isn't this inode's, or of unknown layout, gives none`() {
    #expect(handle(1, [13, 34]).generation(inode: 12, on: FileSystem.ext4) == nil)
    #expect(handle(1, [12]).generation(inode: 12, on: FileSystem.ext4) == nil)
    #expect(handle(0xF8, [12, 34]).generation(inode: 12, on: FileSystem.ext4) == nil)
    #expect(handle(1, [12, 34]).generation(inode: 12, on: 0x1234) == nil)
  }

  @Test func `Handle and FS_IOC_GETVERSION agree where both exist`() throws {
    let acts = try LinuxFiles()
    let path = acts.root.appending([0x61])
    try acts.create(path)
    let file = try Descriptor.open(path, O_RDONLY)
    let facts = try InodeFacts.of(file)
    var version: UInt32 = 0
    guard linux_inode_version(file.number, &version) == 0 else { return }
    #expect(facts.inode.identity.generation == UInt64(version))
  }
}
