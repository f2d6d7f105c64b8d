import CLinux
import DataPlane
import JournalModel

/// Which attached files a directory's entries are, told by one `statx` each (K6): an inode's number and birth stand for
/// its whole identity, where that is certain.
///
/// The time of a birth is read off a clock that moves in steps, so one number may be given to two inodes of one birth.
/// Hence a birth counts only if it lay `FileSystem.margin` back when the identity was asked for: whatever takes the number
/// from then on is born later. The clock must be this machine's: where another machine or user space says when a file was
/// born, nothing is settled.
struct SettledInodes {
  let filesystem: FileSystem
  /// The attached file that was last known to have the number, or rarely another one.
  let attached: (InodeNumber) -> FollowedFile?

  /// Nil: not an attached file, or not certainly. `here`: of the directory.
  func facts(of name: [UInt8], in directory: Descriptor, _ here: linux_facts) -> FileFacts? {
    var raw = linux_facts()
    guard filesystem.hasOwnTimes, withCString(name, { linux_facts(directory.number, $0, &raw) }) == 0,
      raw.mode & linux_file_type == linux_regular_file, raw.has_birth != 0,
      // What is mounted over the name is of another file system, whatever its numbers.
      raw.device == here.device, raw.has_mount != 0, here.has_mount != 0, raw.mount == here.mount,
      let inode = attached(InodeNumber(device: raw.device, inode: raw.inode))?.settledInode,
      inode.device == raw.device, inode.identity.number == raw.inode, inode.filesystem == filesystem.identifier,
      inode.identity.birth == WallTime(nanoseconds: raw.birth)
    else { return nil }
    return FileFacts(raw, kind: .regular, inode: inode)
  }

  /// Takes what was found in full, by a handle, after `asked`.
  func note(_ facts: FileFacts, asked: WallTime) {
    guard filesystem.hasOwnTimes, facts.kind == .regular, let number = InodeNumber(facts.inode),
      let birth = facts.inode.identity.birth,
      birth.nanoseconds <= asked.nanoseconds.saturatingAdding(-FileSystem.margin)
    else { return }
    attached(number)?.settle(facts.inode)
  }
}

/// Names an inode as long as it lives.
struct InodeNumber: Hashable {
  var device: UInt64
  var inode: UInt64

  init(device: UInt64, inode: UInt64) {
    self.device = device
    self.inode = inode
  }

  var hash: UInt64 { inode ^ (device << 48) ^ (device >> 16) }

  init?(_ key: InodeKey) {
    guard let device = key.device else { return nil }
    self.init(device: device, inode: key.identity.number)
  }
}
