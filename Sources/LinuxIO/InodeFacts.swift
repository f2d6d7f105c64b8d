import CLinux
import DataPlane
import Glibc
import JournalModel

/// What an open descriptor stands for (O_PATH suffices), with the identity of D1.
enum InodeFacts {
  /// Throws when the identity can't be told *now*; an inode that never has a generation or birth time gets nil there.
  /// An identity must not change with the weather: it is what tells files apart.
  static func of(_ descriptor: Descriptor) throws(SystemError) -> FileFacts {
    try of(descriptor, try descriptor.rawFacts())
  }

  /// `raw`: what statx(2) says of it.
  static func of(_ descriptor: Descriptor, _ raw: linux_facts) throws(SystemError) -> FileFacts {
    let fileSystem = try FileSystem.of(descriptor)
    let kind = FileFacts.Kind(mode: raw.mode, on: fileSystem)
    // Overlayfs shows that of a layer, and another one after a copy-up (D1).
    let hasBirth = raw.has_birth != 0 && !fileSystem.isOverlay
    let birth = hasBirth ? WallTime(nanoseconds: raw.birth) : nil
    let identity = InodeIdentity(
      number: raw.inode, generation: try generation(descriptor, inode: raw.inode, kind: kind, on: fileSystem),
      birth: birth, subvolume: try subvolume(descriptor, kind: kind, on: fileSystem))
    return FileFacts(
      raw, kind: kind, inode: InodeKey(device: raw.device, filesystem: fileSystem.identifier, identity: identity))
  }

  /// From the kernel's file handle, which needs no permission on the file; else from `FS_IOC_GETVERSION`, which needs it
  /// open for reading and is therefore asked of regular files only.
  private static func generation(
    _ descriptor: Descriptor, inode: UInt64, kind: FileFacts.Kind, on fileSystem: FileSystem
  ) throws(SystemError) -> UInt64? {
    var handle = linux_handle()
    let code = -linux_handle(descriptor.number, &handle)
    switch code {
    case 0:
      if let generation = FileHandle(handle).generation(inode: inode, on: fileSystem.type) { return generation }
    case EOPNOTSUPP, EPERM, ENOSYS, EOVERFLOW: break
    default: throw SystemError("name_to_handle_at", code: code)
    }
    guard kind == .regular, fileSystem.hasInodeVersions else { return nil }
    let file = try descriptor.reopened(O_RDONLY | O_NONBLOCK)
    var version: UInt32 = 0
    let failure = -linux_inode_version(file.number, &version)
    switch failure {
    case 0: return UInt64(version)
    case ENOTTY, EOPNOTSUPP, EINVAL, ENOSYS: return nil
    default: throw SystemError("FS_IOC_GETVERSION", code: failure)
    }
  }

  /// On btrfs generations repeat across subvolumes (D1).
  private static func subvolume(
    _ descriptor: Descriptor, kind: FileFacts.Kind, on fileSystem: FileSystem
  ) throws(SystemError) -> UUIDBytes? {
    guard fileSystem.type == FileSystem.btrfs, kind == .regular || kind == .directory else { return nil }
    let file = try descriptor.reopened(O_RDONLY | O_NONBLOCK)
    var bytes = [UInt8](repeating: 0, count: 16)
    _ = try checked("BTRFS_IOC_GET_SUBVOL_INFO", linux_subvolume(file.number, &bytes))
    func word(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
    return UUIDBytes(high: word(0..<8), low: word(8..<16))
  }
}

extension FileFacts {
  init(_ raw: linux_facts, kind: Kind, inode: InodeKey) {
    self.init(
      kind: kind, inode: inode, size: raw.size, modified: WallTime(nanoseconds: raw.modified), links: raw.links,
      mode: raw.mode, owner: raw.owner, group: raw.group)
  }
}

extension FileFacts.Kind {
  init(mode: UInt32, on fileSystem: FileSystem) {
    self =
      switch mode & linux_file_type {
      case linux_regular_file: fileSystem.isSynthetic ? .synthetic : .regular
      case linux_directory: .directory
      case linux_fifo: .fifo
      case linux_socket: .socket
      case linux_character_device, linux_block_device: .device
      default: .other
      }
  }
}

/// The file system of a descriptor: magic number and `f_fsid` of `statfs(2)`.
struct FileSystem: Hashable {
  var type: Int64
  var identifier: UInt64

  static let ext4: Int64 = 0xEF53
  static let xfs: Int64 = 0x5846_5342
  static let tmpfs: Int64 = 0x0102_1994
  static let btrfs: Int64 = 0x9123_683E
  static let f2fs: Int64 = 0xF2F5_2010
  static let proc: Int64 = 0x9FA0
  /// The kernel makes up the bytes of their files when asked: nothing is ever appended to one.
  private static let synthetic: Set<Int64> = [
    proc, 0x6265_6572, 0x6462_6720, 0x7472_6163,  // sysfs, debugfs, tracefs
    0x0027_E0EB, 0x6367_7270, 0x6265_6570, 0x7363_6673,  // cgroup, cgroup2, configfs, securityfs
    0xF97C_FF8C, 0xDE5E_81E4, 0x4249_4E4D, 0x6E73_6673,  // selinuxfs, efivarfs, binfmt_misc, nsfs
    0x6573_5543, 0x6759_6969, 0x6E66_7364, 0xCAFE_4A11,  // fusectl, rpc_pipefs, nfsd, bpf
  ]
  private static let overlayfs: Int64 = 0x794C_7630
  /// Other machines, or user space, change these without a word to inotify (F1).
  private static let unnotified: Set<Int64> = [
    0x6969,  // nfs
    0xFF53_4D42, 0xFE53_4D42,  // cifs, smb2
    0x6573_5546,  // fuse
    0x0102_1997,  // 9p
    0x00C3_6400,  // ceph
    proc, 0x6265_6572,  // sysfs
  ]

  static func of(_ descriptor: Descriptor) throws(SystemError) -> FileSystem {
    var found = FileSystem(type: 0, identifier: 0)
    _ = try checked("fstatfs", linux_file_system(descriptor.number, &found.type, &found.identifier))
    return found
  }

  var isSynthetic: Bool { Self.synthetic.contains(type) }
  var isNotified: Bool { !Self.unnotified.contains(type) }
  /// Whether asking for `FS_IOC_GETVERSION` is worth opening a file. Overlayfs has none of its own and must not pass on
  /// that of a layer, which changes at copy-up.
  var hasInodeVersions: Bool { isNotified && !isOverlay }
  var isOverlay: Bool { type == Self.overlayfs }
  /// Whether its times are read off this machine's clock, and are those of what it shows: overlayfs shows those of a layer,
  /// and another one after a copy-up.
  var hasOwnTimes: Bool { isNotified && !isOverlay }

  /// Nanoseconds. A clock that moves in steps may give one time to two changes. Hence a time counts only if it lay so far
  /// back when it was asked for, which is more than any file system's steps: whatever comes after that is later. One that
  /// lay in the future says nothing: the clock was set back.
  static let margin: Int64 = 5_000_000_000
}

/// A handle of `name_to_handle_at(2)`. Its layout is the kernel's own (`include/linux/exportfs.h`), stable for NFS's sake.
struct FileHandle {
  private var type: Int32
  private var bytes: [UInt8]

  init(_ handle: linux_handle) {
    type = handle.type
    bytes = withUnsafeBytes(of: handle.bytes) { Array($0.prefix(Int(handle.length))) }
  }

  init(type: Int32, bytes: [UInt8]) {
    self.type = type
    self.bytes = bytes
  }

  /// The generation that stands in the handle, if its layout is known and holds this inode number.
  func generation(inode: UInt64, on fileSystem: Int64) -> UInt64? {
    switch (fileSystem, type) {
    case (FileSystem.tmpfs, 1) where bytes.count == 12:
      // shmem_encode_fh: generation, inode low, inode high
      word(1) | word(2) << 32 == inode ? word(0) : nil
    case (FileSystem.ext4, 1), (FileSystem.xfs, 1), (FileSystem.f2fs, 1):
      // FILEID_INO32_GEN
      bytes.count == 8 && word(0) == inode & 0xFFFF_FFFF ? word(1) : nil
    case (FileSystem.xfs, 0x81) where bytes.count == 12:
      // xfs_fid64: inode, generation
      word(0) | word(1) << 32 == inode ? word(2) : nil
    case (FileSystem.btrfs, 0x4D) where bytes.count == 20:
      // btrfs_fid: object, root, generation
      word(0) | word(1) << 32 == inode ? word(4) : nil
    default: nil
    }
  }

  /// The index-th 32-bit word in the machine's byte order.
  private func word(_ index: Int) -> UInt64 {
    bytes.withUnsafeBytes { UInt64($0.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)) }
  }
}
