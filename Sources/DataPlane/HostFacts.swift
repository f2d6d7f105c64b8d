package import JournalModel

// MARK: What the world shows

package struct FileFacts: Hashable, Sendable {
  package enum Kind: UInt8, Hashable, Sendable {
    case regular, directory, fifo, socket, device
    /// Looks like a regular file, but its bytes are made up when they are asked for (procfs and the like).
    case synthetic
    case other
  }
  package var kind: Kind
  package var inode: InodeKey
  package var size: UInt64
  package var modified: WallTime
  package var links: UInt32
  package var mode: UInt32
  package var owner: UInt32
  package var group: UInt32
  package init(
    kind: Kind, inode: InodeKey, size: UInt64, modified: WallTime, links: UInt32 = 1, mode: UInt32 = 0o100644,
    owner: UInt32 = 0, group: UInt32 = 0
  ) {
    self.kind = kind
    self.inode = inode
    self.size = size
    self.modified = modified
    self.links = links
    self.mode = mode
    self.owner = owner
    self.group = group
  }
}

/// A symbolic link that would lend the node's rights to whoever made it (D9).
package struct LentLink: Hashable, Sendable {
  /// Where the link stands, if that can be told.
  package var path: BytePath?
  package var owner: UInt32
  /// Who owns what it leads to.
  package var target: UInt32
  package init(path: BytePath?, owner: UInt32, target: UInt32) {
    self.path = path
    self.owner = owner
    self.target = target
  }
}

package struct DirectoryEntry: Hashable, Sendable {
  package var name: [UInt8]
  /// True for a symbolic link: `facts` are then its target's, nil when it leads nowhere.
  package var isSymbolicLink: Bool
  /// Nil when the entry vanished or couldn't be examined between listing and `statx`.
  package var facts: FileFacts?
  /// Where a symbolic link leads (real path); nil for anything else.
  package var realPath: BytePath?
  /// A random uuid of this entry's own, drawn by the world: used if the file needs one (D2). Nil for the inode of a file
  /// that was attached when it was looked at: it had one when it came.
  package var freshUUID: UUIDBytes?
  /// Why there are no facts; nil for what vanished and for a symbolic link that leads nowhere.
  package var trouble: String?
  /// The first link on a symbolic link's way, itself included, that lends rights.
  package var lent: LentLink?
  /// The node's own: never followed (D9).
  package var isOwn = false
  package init(
    name: [UInt8], isSymbolicLink: Bool = false, facts: FileFacts?, realPath: BytePath? = nil, freshUUID: UUIDBytes?
  ) {
    self.name = name
    self.isSymbolicLink = isSymbolicLink
    self.facts = facts
    self.realPath = realPath
    self.freshUUID = freshUUID
  }
}

/// What a directory shows by itself (K6). Whoever makes, removes or renames a name in it changes its times, and nobody
/// can set `changed` back but by the clock, whose `lead` tells. Not shown: what is mounted over a name, where a link
/// leads, and what becomes of a file.
package struct DirectoryStamp: Hashable, Sendable {
  package var inode: InodeKey
  /// The kernel's number of the mount by which the path led to it.
  package var mount: UInt64
  package var modified: WallTime
  package var changed: WallTime
  /// Nanoseconds by which the wall clock was ahead of the monotonic one.
  package var lead: Int64
  package init(inode: InodeKey, mount: UInt64, modified: WallTime, changed: WallTime, lead: Int64) {
    self.inode = inode
    self.mount = mount
    self.modified = modified
    self.changed = changed
    self.lead = lead
  }

  /// Whether the directory has the names that it had at `earlier`, of which it was certain that whatever changes it
  /// from then on changes its times. `slack`: nanoseconds by which the clock may have been set back without giving
  /// those times once more.
  package func isStill(since earlier: DirectoryStamp, slack: Int64) -> Bool {
    var same = earlier
    same.lead = lead
    return self == same && lead >= earlier.lead.saturatingAdding(-slack)
  }
}

/// A directory as it was when it was listed in full.
package struct KnownDirectory: Hashable, Sendable {
  package var stamp: DirectoryStamp
  /// Those of its names about which anything is wanted to be known.
  package var names: [[UInt8]]
  package init(stamp: DirectoryStamp, names: [[UInt8]]) {
    self.stamp = stamp
    self.names = names
  }
}

package struct Listing: Hashable, Sendable {
  package enum Outcome: Hashable, Sendable {
    /// The entries, and the file system that holds the directory itself.
    case entries([DirectoryEntry], filesystem: UInt64)
    /// ENOENT or ENOTDIR.
    case missing
    /// EACCES, EMFILE, EIO, ...: says nothing about what is in it (D10).
    case failed(String)
  }
  package var directory: BytePath
  /// The names that were asked for: a name that is not among the entries does not exist. Nil: the whole directory.
  package var names: [[UInt8]]?
  /// It has no names but those that it had when it was listed in full: `names` are those that were known of it.
  package var isStill = false
  package var outcome: Outcome
  /// Whether a watch stands on the directory (it was placed before the listing).
  package var isWatched: Bool
  /// For a base: whether watches tell when its path begins to lead elsewhere.
  package var isWayWatched = true
  /// The directory that the path led to.
  package var place: FileFacts?
  /// The first link on the path that lends rights (D9).
  package var lent: LentLink?
  /// The node's own, with all that is in it: never followed (D9).
  package var isOwn = false
  /// Of a listing in full: the directory before it was listed, if any change since then must show (K6).
  package var stamp: DirectoryStamp?
  /// It says what is in the directory, not only what some names are.
  package var isWhole: Bool { names == nil || isStill }
  /// The device that holds it.
  package var device: UInt64? { place?.inode.device }
  package init(directory: BytePath, names: [[UInt8]]?, outcome: Outcome, isWatched: Bool) {
    self.directory = directory
    self.names = names
    self.outcome = outcome
    self.isWatched = isWatched
  }
}

/// What inotify says: a hint, never trusted (F1).
package enum WatchHint: Hashable, Sendable {
  /// Bytes may have been written to this entry.
  case modified(directory: BytePath, name: [UInt8])
  /// A name came, went or changed its inode.
  case changed(directory: BytePath, name: [UInt8])
  /// The watched directory itself went away or was moved, its watch was lost, or the path to it may lead elsewhere.
  case lost(directory: BytePath)
  /// A file system was mounted or unmounted somewhere: any path may lead elsewhere.
  case mounted
  /// The queue overflowed: anything may have happened.
  case overflow
}

/// New bytes of a file, read, hashed and compared (D4).
package struct Appended: Hashable, Sendable {
  /// The new length; everything below it is in the data plane's tree.
  package var length: UInt64
  package var root: Digest
  /// Hash of the last min(tailSize, length / 2) bytes before `length` (D6).
  package var tail: Digest
  package var leaves: LeafRange
  package init(length: UInt64, root: Digest, tail: Digest, leaves: LeafRange) {
    self.length = length
    self.root = root
    self.tail = tail
    self.leaves = leaves
  }
}

package struct IngestAnswer: Hashable, Sendable {
  package enum Outcome: Hashable, Sendable {
    case appended(Appended)
    /// No bytes beyond `from`, and those before it are as journaled where they were looked at.
    case unchanged
    /// The inode is shorter than `from`.
    case shrunk
    /// Bytes before `from` are not what was journaled.
    case diverged
    /// No descriptor is held and the path leads to another inode or to none.
    case gone
    /// EMFILE, EACCES, EIO, ESTALE, ...: says nothing about the file (D10).
    case failed(String)
  }
  package var outcome: Outcome
  /// Of the inode after the read; zero for `gone` and `failed`.
  package var size: UInt64
  package var modified: WallTime
  package var links: UInt32
  /// What the descriptor stands for, where the kernel numbers it anew (overlayfs, at copy-up); nil: as it was attached.
  package var inode: InodeKey?
  package init(outcome: Outcome, size: UInt64, modified: WallTime, links: UInt32, inode: InodeKey? = nil) {
    self.inode = inode
    self.outcome = outcome
    self.size = size
    self.modified = modified
    self.links = links
  }
}
