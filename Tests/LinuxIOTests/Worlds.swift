import DataPlane
import Foundation
import JournalModel
import LinuxIO
import MerkleLog
import SimulatedWorld
import Testing

/// What the conformance suites do to a file system. Paths are absolute in the world's own terms.
protocol FileSystemActs: AnyObject {
  /// A directory of this world's own, made already.
  var root: BytePath { get }
  func create(_ path: BytePath) throws
  func append(_ path: BytePath, _ bytes: [UInt8]) throws
  func truncate(_ path: BytePath, to length: Int) throws
  func rename(_ path: BytePath, to new: BytePath) throws
  func unlink(_ path: BytePath) throws
  func link(_ path: BytePath, at new: BytePath) throws
  func symlink(_ target: BytePath, at path: BytePath) throws
  func makeDirectory(_ path: BytePath) throws
  func removeDirectory(_ path: BytePath) throws
  /// Opens for writing; `append` to the returned writer goes to the inode, whatever becomes of its names.
  func openWriter(_ path: BytePath) throws -> any Writer
  /// Nil when there is no regular file of that name.
  func content(_ path: BytePath) -> [UInt8]?
}

protocol Writer: AnyObject {
  func append(_ bytes: [UInt8]) throws
  func close()
}

/// The worlds that the data planes are held to one behaviour in.
enum World: CaseIterable, Sendable { case linux, simulated }

/// Limits at which every boundary lies within a few hundred bytes.
var smallLimits: Limits {
  var limits = Limits()
  limits.leafSize = 64
  limits.tailSize = 16
  return limits
}

func pattern(_ count: Int, _ seed: Int = 0) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 131) ^ ($0 >> 6 &* 17) ^ (seed &* 59)) }
}

func treeOf<H: TreeHasher>(_: H.Type, _ bytes: [UInt8]) -> (root: H.Value, leaves: [H.Value]) {
  var tree = FileTree<H>(leafSize: smallLimits.leafSize)
  var leaves: [H.Value] = []
  tree.append(bytes.span.bytes) { leaves.append($1) }
  return (tree.root, leaves)
}

// MARK: Linux

/// A directory on the disk, removed with this object.
final class LinuxFiles: FileSystemActs {
  let root: BytePath
  private let text: String

  init() throws {
    // TMPDIR may lead to another file system: scripts/test-filesystems does.
    text = URL(fileURLWithPath: NSTemporaryDirectory()).resolvingSymlinksInPath().path + "/linuxio-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: text, withIntermediateDirectories: true)
    root = BytePath(text)
  }

  deinit { try? FileManager.default.removeItem(atPath: text) }

  private func call(_ paths: BytePath..., body: ([UnsafePointer<CChar>]) -> Int32) throws {
    let copies = paths.map { path in
      path.bytes.withUnsafeBufferPointer { bytes -> UnsafeMutablePointer<CChar> in
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count + 1)
        for (index, byte) in bytes.enumerated() { copy[index] = CChar(bitPattern: byte) }
        copy[bytes.count] = 0
        return copy
      }
    }
    defer { copies.forEach { $0.deallocate() } }
    if body(copies.map { UnsafePointer($0) }) < 0 { throw SystemError("test", code: errno) }
  }

  func create(_ path: BytePath) throws {
    try call(path) { close(Foundation.open($0[0], O_CREAT | O_EXCL | O_WRONLY, 0o644)) }
  }
  func append(_ path: BytePath, _ bytes: [UInt8]) throws {
    let writer = try openWriter(path)
    try writer.append(bytes)
    writer.close()
  }
  func truncate(_ path: BytePath, to length: Int) throws { try call(path) { Foundation.truncate($0[0], length) } }
  func rename(_ path: BytePath, to new: BytePath) throws { try call(path, new) { Foundation.rename($0[0], $0[1]) } }
  func unlink(_ path: BytePath) throws { try call(path) { Foundation.unlink($0[0]) } }
  func link(_ path: BytePath, at new: BytePath) throws { try call(path, new) { Foundation.link($0[0], $0[1]) } }
  func symlink(_ target: BytePath, at path: BytePath) throws {
    try call(target, path) { Foundation.symlink($0[0], $0[1]) }
  }
  func makeDirectory(_ path: BytePath) throws { try call(path) { mkdir($0[0], 0o755) } }
  func removeDirectory(_ path: BytePath) throws { try call(path) { rmdir($0[0]) } }

  func openWriter(_ path: BytePath) throws -> any Writer {
    var number: Int32 = -1
    try call(path) {
      number = Foundation.open($0[0], O_WRONLY | O_APPEND)
      return number
    }
    return LinuxWriter(number)
  }

  func content(_ path: BytePath) -> [UInt8]? {
    var number: Int32 = -1
    guard
      (try? call(
        path,
        body: {
          number = Foundation.open($0[0], O_RDONLY | O_NONBLOCK)
          return number
        })) != nil
    else { return nil }
    let handle = FileHandle(fileDescriptor: number, closeOnDealloc: true)
    return (try? handle.readToEnd()).map { Array($0) } ?? []
  }
}

private final class LinuxWriter: Writer {
  private var number: Int32
  init(_ number: Int32) { self.number = number }
  deinit { close() }
  func append(_ bytes: [UInt8]) throws {
    guard write(number, bytes, bytes.count) == bytes.count else { throw SystemError("write", code: errno) }
  }
  func close() {
    if number >= 0 { Foundation.close(number) }
    number = -1
  }
}

// MARK: Simulated

final class SimulatedFiles: FileSystemActs {
  let root = BytePath("/w")
  let disk = SimulatedDisk(seed: 1, name: "disk", isWriteThrough: false)
  let watches = WatchQueue(seed: 1, name: "watches")
  private var time: Int64 = 0

  init() throws {
    disk.watcher = watches
    disk.clock = { [unowned self] in
      time += 1
      return WallTime(nanoseconds: time)
    }
    try disk.makeDirectory(root)
  }

  func pass(_ interval: Interval) { time += Int64(interval.nanoseconds) }

  func create(_ path: BytePath) throws { try disk.create(path) }
  func append(_ path: BytePath, _ bytes: [UInt8]) throws {
    let writer = try openWriter(path)
    try writer.append(bytes)
    writer.close()
  }
  func truncate(_ path: BytePath, to length: Int) throws {
    let inode = try #require(disk.inode(path))
    disk.truncate(inode, to: length, entryPath: path)
  }
  func rename(_ path: BytePath, to new: BytePath) throws { try disk.rename(path, new) }
  func unlink(_ path: BytePath) throws { try disk.unlink(path) }
  func link(_ path: BytePath, at new: BytePath) throws { try disk.hardLink(path, new) }
  func symlink(_ target: BytePath, at path: BytePath) throws { try disk.symbolicLink(target, at: path) }
  func makeDirectory(_ path: BytePath) throws { try disk.makeDirectory(path) }
  func removeDirectory(_ path: BytePath) throws { try disk.removeDirectory(path) }
  func openWriter(_ path: BytePath) throws -> any Writer {
    SimulatedWriter(disk, try disk.open(path, writing: true))
  }
  func content(_ path: BytePath) -> [UInt8]? {
    guard let inode = disk.inode(path), inode.kind == .regular else { return nil }
    return Array(inode.bytes)
  }
}

private final class SimulatedWriter: Writer {
  private let disk: SimulatedDisk
  private let descriptor: SimulatedDisk.Descriptor
  init(_ disk: SimulatedDisk, _ descriptor: SimulatedDisk.Descriptor) {
    self.disk = disk
    self.descriptor = descriptor
  }
  func append(_ bytes: [UInt8]) throws { try disk.append(descriptor, bytes) }
  func close() { disk.close(descriptor) }
}

/// Plain files that have the whole of their strings.
extension ServerDataPlane {
  func compare(_ id: PayloadID, with key: StringKey, stored: BytePath, offset: UInt64, count: Int) -> Bool? {
    compare(id, with: key, in: Segment(stored), offset: offset, count: count)
  }

  func verify(_ key: StringKey, stored: BytePath, from: UInt64, root: Digest, promises: [Promise]) -> VerifyAnswer {
    verify(key, in: Segment(stored), from: from, root: root, promises: promises)
  }

  func create(_ key: StringKey, _ stored: BytePath, adopts: Bool) -> CreateOutcome {
    create(key, Segment(stored), adopts: adopts)
  }

  func write(_ key: StringKey, _ stored: BytePath, from: UInt64, upTo: UInt64, sync: Bool) -> DiskOutcome {
    write(key, Segment(stored), from: from, upTo: upTo, sync: sync)
  }

  func repair(
    _ key: StringKey, _ stored: BytePath, synced: UInt64, committed: UInt64, log: [(offset: UInt64, bytes: [UInt8])],
    leftover: UInt64?
  ) -> RepairOutcome {
    repair(key, Segment(stored), synced: synced, committed: committed, log: log, leftover: leftover)
  }
}
