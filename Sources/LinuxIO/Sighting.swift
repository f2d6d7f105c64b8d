import CLinux
import DataPlane
import Glibc
import JournalModel

/// What `statx(2)` says of an open directory, and when it was asked.
struct Sighting {
  let raw: linux_facts
  private let inode: InodeKey
  private let fileSystem: FileSystem
  private let asked: WallTime
  private let lead: Int64

  init(of directory: Descriptor, _ inode: InodeKey, on fileSystem: FileSystem) throws(SystemError) {
    self.inode = inode
    self.fileSystem = fileSystem
    // Before the directory: a clock that is set in between makes nothing look older, or shows at the next sighting.
    lead = Clocks.lead()
    asked = Clocks.wall()
    raw = try directory.rawFacts()
  }

  var stamp: DirectoryStamp {
    DirectoryStamp(
      inode: inode, mount: raw.mount, modified: WallTime(nanoseconds: raw.modified),
      changed: WallTime(nanoseconds: raw.changed), lead: lead)
  }

  /// Nil where a change that comes after it might not show: see `FileSystem.margin` and `hasOwnTimes`. A root of FAT has
  /// no times on its disk, which are then 0.
  func stamp(settledBefore margin: Int64) -> DirectoryStamp? {
    guard fileSystem.hasOwnTimes, raw.has_mount != 0, raw.changed > 0,
      raw.changed <= asked.nanoseconds.saturatingAdding(-margin)
    else { return nil }
    return stamp
  }
}
