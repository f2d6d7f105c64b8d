/// What distinguishes one inode from every other that its file system ever had (D1).
///
/// `generation` comes from the kernel's file handle or `FS_IOC_GETVERSION`, `birth` from `statx(2)`. An identity
/// without both is not *usable*: such a file gets a random uuid (D2).
package struct InodeIdentity: Hashable, Sendable {
  package var number: UInt64
  package var generation: UInt64?
  package var birth: WallTime?
  /// On btrfs, the subvolume's uuid: generations repeat across subvolumes there.
  package var subvolume: UUIDBytes?

  package init(number: UInt64, generation: UInt64?, birth: WallTime?, subvolume: UUIDBytes? = nil) {
    self.number = number
    self.generation = generation
    self.birth = birth
    self.subvolume = subvolume
  }

  package var isUsable: Bool { generation != nil && birth != nil }
}

/// An inode as this host tells it from others while it runs: its identity and the file system that holds it
/// (`f_fsid` of `statfs(2)`, which unlike a device number survives a remount).
package struct InodeKey: Hashable, Sendable {
  package var filesystem: UInt64
  package var identity: InodeIdentity

  package init(filesystem: UInt64, identity: InodeIdentity) {
    self.filesystem = filesystem
    self.identity = identity
  }
}
