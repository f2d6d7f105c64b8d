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

/// An inode as this host tells it from others while it runs: the device that holds it and its identity there.
package struct InodeKey: Hashable, Sendable {
  /// `st_dev`, as the kernel numbers it now: a restart or a mount gives another. Nil in the journal.
  package var device: UInt64?
  /// `f_fsid` of `statfs(2)`, which mostly survives both. It is equal for a cloned volume and its origin, and 0 on some
  /// file systems: a hint where a file may be found again, never what tells two living ones apart.
  package var filesystem: UInt64
  package var identity: InodeIdentity

  package init(device: UInt64? = nil, filesystem: UInt64, identity: InodeIdentity) {
    self.device = device
    self.filesystem = filesystem
    self.identity = identity
  }

  /// What waits for one disk waits together: the device, or what the journal knows in its place.
  package var lane: UInt64 { device ?? filesystem }

  /// What of it outlives the process.
  package var stored: InodeKey { InodeKey(filesystem: filesystem, identity: identity) }
}
