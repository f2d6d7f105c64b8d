/// What distinguishes one inode from every other that its file system ever had (D1).
///
/// `generation` comes from the kernel's file handle or `FS_IOC_GETVERSION`, `birth` from `statx(2)`. An identity
/// without both is not *usable*: such a file gets a random uuid (D2).
package struct InodeIdentity: Hashable, Sendable {
  package var number: UInt64
  // A host holds two of them for each file: as optionals these three took a third more room.
  private var generationOrZero: UInt64 = 0
  private var birthOrZero = WallTime(nanoseconds: 0)
  private var subvolumeOrZero = UUIDBytes(high: 0, low: 0)
  private var hasGeneration = false
  private var hasBirth = false
  private var hasSubvolume = false

  package var generation: UInt64? {
    get { hasGeneration ? generationOrZero : nil }
    set { (generationOrZero, hasGeneration) = (newValue ?? 0, newValue != nil) }
  }
  package var birth: WallTime? {
    get { hasBirth ? birthOrZero : nil }
    set { (birthOrZero, hasBirth) = (newValue ?? WallTime(nanoseconds: 0), newValue != nil) }
  }
  /// On btrfs, the subvolume's uuid: generations repeat across subvolumes there.
  package var subvolume: UUIDBytes? {
    get { hasSubvolume ? subvolumeOrZero : nil }
    set { (subvolumeOrZero, hasSubvolume) = (newValue ?? UUIDBytes(high: 0, low: 0), newValue != nil) }
  }

  package init(number: UInt64, generation: UInt64?, birth: WallTime?, subvolume: UUIDBytes? = nil) {
    self.number = number
    self.generation = generation
    self.birth = birth
    self.subvolume = subvolume
  }

  package var isUsable: Bool { hasGeneration && hasBirth }
}

/// An inode as this host tells it from others while it runs: the device that holds it and its identity there.
package struct InodeKey: Hashable, Sendable {
  /// `st_dev`, as the kernel numbers it now: a restart or a mount gives another. Nil in the journal.
  package var device: UInt64? {
    get { hasDevice ? deviceOrZero : nil }
    set { (deviceOrZero, hasDevice) = (newValue ?? 0, newValue != nil) }
  }
  private var deviceOrZero: UInt64 = 0
  /// `f_fsid` of `statfs(2)`, which mostly survives both. It is equal for a cloned volume and its origin, and 0 on some
  /// file systems: a hint where a file may be found again, never what tells two living ones apart.
  package var filesystem: UInt64
  package var identity: InodeIdentity
  private var hasDevice = false

  package init(device: UInt64? = nil, filesystem: UInt64, identity: InodeIdentity) {
    self.filesystem = filesystem
    self.identity = identity
    self.device = device
  }

  /// By the number alone: it tells nearly all from each other.
  package func hash(into hasher: inout Hasher) { hasher.combine(identity.number) }

  /// What waits for one disk waits together: the device, or what the journal knows in its place.
  package var lane: UInt64 { device ?? filesystem }

  /// What of it outlives the process.
  package var stored: InodeKey { InodeKey(filesystem: filesystem, identity: identity) }
}
