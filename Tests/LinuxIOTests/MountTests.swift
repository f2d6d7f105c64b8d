import DataPlane
import Foundation
import JournalModel
import Testing

@testable import LinuxIO

/// One `syncfs` covers one file system: nothing is stored across a mount (G2, P4).
@Suite struct MountTests {
  private static let host = HostName("web1")

  private static func key(_ number: UInt64) throws -> StringKey {
    StringKey(
      key: FileKey(host: try #require(host), file: FileUUID(UUIDBytes(high: 1, low: number))), string: 0)
  }

  private static func plane(_ acts: LinuxFiles) throws -> LinuxServerFiles {
    try LinuxServerFiles(
      root: acts.root, limits: smallLimits, descriptorLimit: 4, storedLeaves: { _, _ in [] },
      loggedBytes: { _, _ in [] })
  }

  /// Whether the outcome is a refusal that names the mount point.
  private static func names(_ point: BytePath, _ outcome: DiskOutcome) -> Bool {
    guard case .unusable(let text) = outcome else { return false }
    return text.hasPrefix("\(point.printable) is mounted below server.logs")
  }

  @Test(.enabled(if: MountNamespace.isPermitted, "no right to mount"), arguments: ["tmpfs", "bind"])
  func `P4: nothing is stored across a mount, and what lies under it goes on when it is gone`(kind: String) throws {
    try MountNamespace.inside { space in
      let acts = try LinuxFiles()
      let plane = try Self.plane(acts)
      let kept = BytePath("files/web1/kept@1")
      let point = acts.root.appending(Array("files/web1".utf8))
      #expect(plane.create(try Self.key(1), kept, adopts: false) == .created)
      plane.hold(PayloadID(1), bytes: pattern(30))
      plane.admit(PayloadID(1), to: try Self.key(1), offset: 0)
      #expect(plane.write(try Self.key(1), kept, from: 0, upTo: 10, sync: true) == .done)
      #expect(plane.mounts() == LogRootMounts())
      try space.mount(kind, at: point)
      #expect(plane.mounts() == LogRootMounts(below: [point]))
      // The open file is still the one under the mount.
      #expect(plane.write(try Self.key(1), kept, from: 10, upTo: 20, sync: true) == .done)
      let created = plane.create(try Self.key(2), BytePath("files/web1/new@1"), adopts: false)
      guard case .unusable(let text) = created else { throw SourceFailure("\(created)") }
      #expect(text.hasPrefix("\(point.printable) is mounted below server.logs"))
      // A node that starts now finds its file behind the mount: refused, not lost.
      let later = try Self.plane(acts)
      func repair(_ plane: LinuxServerFiles) throws -> RepairOutcome {
        plane.repair(
          try Self.key(1), kept, synced: 20, committed: 20, log: [], leftover: 100)
      }
      guard case .unusable = try repair(later) else { throw SourceFailure("repaired across a mount") }
      try space.unmount(point)
      #expect(try repair(later) == .done)
      #expect(acts.content(acts.root.appending(kept.bytes)) == Array(pattern(30).prefix(20)))
      #expect(later.mounts() == LogRootMounts())
    }
  }

  @Test(.enabled(if: MountNamespace.isPermitted, "no right to mount"))
  func `P4: a file mounted over a plain file, latest and the place of set aside files are refused too`() throws {
    try MountNamespace.inside { space in
      let acts = try LinuxFiles()
      let plane = try Self.plane(acts)
      let stored = BytePath("files/web1/a@1")
      #expect(plane.create(try Self.key(1), stored, adopts: false) == .created)
      for name in ["latest", "aside"] { try acts.makeDirectory(acts.root.appending(Array(name.utf8))) }
      let other = acts.root.appending(Array("other".utf8))
      try acts.create(other)
      let file = acts.root.appending(stored.bytes)
      try space.bind(other, at: file)
      let later = try Self.plane(acts)
      later.hold(PayloadID(1), bytes: [1, 2])
      later.admit(PayloadID(1), to: try Self.key(1), offset: 0)
      #expect(Self.names(file, later.write(try Self.key(1), stored, from: 0, upTo: 2, sync: true)))
      #expect(acts.content(other) == [])
      try space.unmount(file)
      #expect(later.write(try Self.key(1), stored, from: 0, upTo: 2, sync: true) == .done)
      for name in ["latest", "aside"] { try space.mount("tmpfs", at: acts.root.appending(Array(name.utf8))) }
      let linked = later.link(host: try #require(Self.host), path: BytePath("a"), to: stored)
      #expect(linked?.contains("latest is mounted below server.logs") == true)
      let outcome = later.repair(
        try Self.key(1), stored, synced: 1, committed: 1, log: [], leftover: nil)
      guard case .unusable(let text) = outcome else { throw SourceFailure("\(outcome)") }
      #expect(text.contains("aside is mounted below server.logs"))
      #expect(acts.content(file) == [1, 2])
    }
  }

  @Test(.enabled(if: MountNamespace.isPermitted, "no right to mount"))
  func `A mount over the log root or above it is seen, one that the root lies in isn't`() throws {
    try MountNamespace.inside { space in
      let acts = try LinuxFiles()
      let above = acts.root.appending(Array("above".utf8))
      let root = above.appending(Array("root".utf8))
      try acts.makeDirectory(above)
      try space.mount("tmpfs", at: above)
      try acts.makeDirectory(root)
      let log = try LogRoot(root)
      #expect(log.mounts() == LogRootMounts())
      try space.mount("tmpfs", at: root)
      #expect(log.mounts() == LogRootMounts(over: root))
      #expect(LogRootMounts.of(root) == LogRootMounts())
      try space.unmount(root)
      try space.mount("tmpfs", at: above)
      #expect(log.mounts() == LogRootMounts(over: above))
    }
  }

  @Test func `Mount points are read with the characters that the kernel escapes`() {
    let text = """
      22 1 0:20 / / rw - ext4 /dev/root rw
      40 22 0:30 / /srv/a\\040b\\134c rw,relatime shared:1 - tmpfs none rw
      41 40 0:31 / /srv/a\\040b\\134c/d rw - tmpfs none rw
      nonsense
      """
    let mounts = Mount.all(in: Array(text.utf8))
    #expect(mounts.map(\.point) == [BytePath("/"), BytePath("/srv/a b\\c"), BytePath("/srv/a b\\c/d")])
    #expect(LogRootMounts(mounts, around: BytePath("/srv"), in: 22) == LogRootMounts(below: [BytePath("/srv/a b\\c")]))
    #expect(
      LogRootMounts(mounts, around: BytePath("/srv/a b\\c"), in: 40)
        == LogRootMounts(below: [BytePath("/srv/a b\\c/d")]))
    #expect(
      LogRootMounts(mounts, around: BytePath("/srv/a b\\c/x"), in: 22) == LogRootMounts(over: BytePath("/srv/a b\\c")))
    #expect(LogRootMounts(mounts, around: BytePath("/sr"), in: 22) == LogRootMounts())
  }

  @Test func `A plain file that isn't what it should be is refused by its own reason`() throws {
    let acts = try LinuxFiles()
    let stored = BytePath("files/web1/a@1")
    let path = acts.root.appending(stored.bytes)
    #expect(try Self.plane(acts).create(try Self.key(1), stored, adopts: false) == .created)
    func outcome() throws -> DiskOutcome {
      let plane = try Self.plane(acts)
      plane.hold(PayloadID(1), bytes: [1])
      plane.admit(PayloadID(1), to: try Self.key(1), offset: 0)
      return plane.write(try Self.key(1), stored, from: 0, upTo: 1, sync: false)
    }
    func expect(_ start: String) throws {
      guard case .unusable(let text) = try outcome() else { throw SourceFailure("\(try outcome())") }
      #expect(text.contains(start), "\(text)")
    }
    try acts.unlink(path)
    try expect("somebody removed the plain file")
    try acts.makeDirectory(path)
    try expect("something else has the name")
    try acts.removeDirectory(path)
    try acts.symlink(BytePath("/dev/null"), at: path)
    try expect("something else has the name")
    try acts.unlink(path)
    #expect(mkfifo(String(decoding: path.bytes, as: UTF8.self), 0o600) == 0)
    try expect("no regular file")
    try acts.unlink(path)
    try acts.removeDirectory(path.parent)
    try acts.create(path.parent)
    try expect("something else has the name")
  }
}

extension BytePath {
  fileprivate var parent: BytePath { directory }
}

/// A thread with mounts of its own, which are gone with it.
final class MountNamespace {
  private typealias Unshare = @convention(c) (Int32) -> Int32
  private typealias Mount =
    @convention(c) (
      UnsafePointer<CChar>?, UnsafePointer<CChar>, UnsafePointer<CChar>?, UInt, UnsafeRawPointer?
    ) -> Int32
  private typealias Unmount = @convention(c) (UnsafePointer<CChar>, Int32) -> Int32

  private let mountCall: Mount
  private let unmountCall: Unmount

  /// Call on a thread of its own: the namespace is the thread's.
  private init() throws {
    func call<F>(_ name: String, _: F.Type) throws -> F {
      unsafeBitCast(try #require(dlsym(nil, name)), to: F.self)
    }
    mountCall = try call("mount", Mount.self)
    unmountCall = try call("umount2", Unmount.self)
    let newNamespace: Int32 = 0x0002_0000
    guard try call("unshare", Unshare.self)(newNamespace) == 0 else { throw SystemError("unshare", code: errno) }
    let recursivelyPrivate: UInt = 0x4000 | 0x40000
    guard mountCall(nil, "/", nil, recursivelyPrivate, nil) == 0 else { throw SystemError("mount", code: errno) }
  }

  static let isPermitted = (try? inside { _ in }) != nil

  static func inside(_ body: @escaping @Sendable (MountNamespace) throws -> Void) throws {
    let done = DispatchSemaphore(value: 0)
    let failure = Monitor<(any Error)?>(nil)
    Thread.detachNewThread {
      do { try body(try MountNamespace()) } catch { failure.withLock { $0 = error } }
      done.signal()
    }
    done.wait()
    if let error = failure.withLock({ $0 }) { throw error }
  }

  private func text(_ path: BytePath) -> String { String(decoding: path.bytes, as: UTF8.self) }

  func mount(_ kind: String, at path: BytePath) throws {
    if kind == "bind" { return try bind(path, at: path) }
    guard mountCall("test", text(path), kind, 0, nil) == 0 else { throw SystemError("mount", code: errno) }
  }

  func bind(_ source: BytePath, at path: BytePath) throws {
    let bind: UInt = 0x1000
    guard mountCall(text(source), text(path), nil, bind, nil) == 0 else { throw SystemError("mount", code: errno) }
  }

  func unmount(_ path: BytePath) throws {
    guard unmountCall(text(path), 0) == 0 else { throw SystemError("umount", code: errno) }
  }
}
