import CLinux
package import DataPlane
import Glibc
import JournalModel
import Synchronization

/// One incarnation of an inode that the host follows. There may be very many: it is one object, and holds nothing that is
/// needed while it is read only.
final class FollowedFile: Sendable {
  struct Place: Sendable {
    var path: BytePath
    var inode: InodeKey
    /// No name is left: the descriptor is the only way to the bytes.
    var isPinned = false
    /// Its number and birth are no other inode's.
    var isSettled = false

    mutating func move(to path: BytePath, isPinned: Bool) {
      self.path = path
      self.isPinned = isPinned
    }
  }
  let file: FileUUID
  /// The file system that its bytes come from.
  let mount: Mount
  let place: Mutex<Place>

  init(file: FileUUID, mount: Mount, place: Place) {
    self.file = file
    self.mount = mount
    self.place = Mutex(place)
  }

  var inode: InodeKey { place.withLock { $0.inode } }

  /// The inode, where its number and birth tell it from every other one.
  var settledInode: InodeKey? { place.withLock { $0.isSettled ? $0.inode : nil } }

  func settle(_ inode: InodeKey) { place.withLock { if $0.inode == inode { $0.isSettled = true } } }

  enum Opening {
    case open(Descriptor)
    /// The path leads to another inode or to none.
    case gone
    /// Says nothing about the file (D10).
    case failed(SystemError)
  }

  /// Opens what the path leads to if it is this inode. What isn't a regular file is never opened for reading: a FIFO or
  /// device under a log's old name would act on it.
  func open() -> Opening {
    let place = place.withLock { $0 }
    let found: Descriptor
    do {
      found = try Descriptor.open(place.path, linux_O_PATH)
    } catch {
      return [ENOENT, ENOTDIR, ELOOP].contains(error.code) ? .gone : .failed(error)
    }
    do {
      let facts = try InodeFacts.of(found)
      guard facts.kind == .regular, facts.inode == place.inode else { return .gone }
      return .open(try Self.reopen(found))
    } catch {
      return .failed(error)
    }
  }

  /// What the open descriptor stands for, if the kernel has numbered it anew: overlayfs may, when it copies a file up.
  func renumbered(_ source: Descriptor) -> (from: InodeKey, to: InodeKey)? {
    let known = inode
    guard !known.identity.isUsable, let now = try? InodeFacts.of(source).inode, now != known else { return nil }
    place.withLock {
      $0.inode = now
      $0.isSettled = false
    }
    return (known, now)
  }

  /// O_NOATIME is for the owner only.
  private static func reopen(_ found: Descriptor) throws(SystemError) -> Descriptor {
    let flags = O_RDONLY | O_NONBLOCK | O_NOCTTY
    do {
      return try found.reopened(flags | linux_O_NOATIME)
    } catch {
      guard error.code == EPERM else { throw error }
      return try found.reopened(flags)
    }
  }
}

extension Descriptor: ByteSource {
  package func facts() throws -> SourceFacts {
    let raw = try rawFacts()
    return SourceFacts(size: raw.size, modified: WallTime(nanoseconds: raw.modified), links: raw.links)
  }

  package func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
    try read(buffer, at: offset)
  }
}
