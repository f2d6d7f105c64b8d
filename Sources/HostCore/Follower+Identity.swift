import DataPlane
import JournalModel

// Which file an inode is (D1, D2). While the process runs a living inode is what the kernel says: device and number.
// After a restart, or when its file system was away, the identity finds the files that it may be (where it isn't usable,
// number and path do), and content says whether it is one (D4). Two living inodes may have one identity: a cloned volume
// beside its origin.

/// An inode that may be a file about which nothing is certain yet: looked at again when that is decided.
struct Rival {
  let inode: InodeKey
  let since: Instant
  var awaited: FileID
  /// The last scan that showed it.
  var seen: UInt64
  var places: [(directory: Directory, name: [UInt8])]
}

extension Follower {
  enum Claim {
    case file(FollowedFile)
    case waits
    case nobody
  }

  /// Whose inode it is. `.waits`: its name will be asked for again.
  func claim(_ inode: InodeKey, _ entry: DirectoryEntry, in directory: Directory, _ turn: inout Turn) -> Claim {
    let path = directory.path.appending(entry.name)
    let known = rivals.firstIndex { $0.inode == inode }
    let isOverdue = known.map { rivals[$0].since + limits.rescanInterval <= turn.now } ?? false
    let candidates = candidates(for: inode, at: path)
    if let file = candidates.first(where: { isFree($0) }) {
      guard !isOverdue, mayTurnUp(file, besides: path) else {
        if let known { rivals.remove(at: known) }
        return .file(file)
      }
      wait(inode, for: file, entry, in: directory, &turn)
      return .waits
    }
    if !isOverdue, let file = candidates.first(where: { isUndecided($0) }) {
      check(file)
      wait(inode, for: file, entry, in: directory, &turn)
      return .waits
    }
    if let known { rivals.remove(at: known) }
    return .nobody
  }

  /// Files that the inode may be, the likeliest first.
  func candidates(for inode: InodeKey, at path: BytePath) -> [FollowedFile] {
    let sharing = files.sharing(inode)
    let likely = sharing.filter { $0.path == path } + sharing.filter { $0.path != path }
    let others = inode.identity.isUsable ? [] : files.lastAt(path).filter { file in !likely.contains { $0 === file } }
    return (likely + others).filter { !$0.refuted.contains(inode) }
  }

  /// Nothing holds it: no name, no descriptor.
  func isFree(_ file: FollowedFile) -> Bool {
    file.presence == .absent || file.isNameless && file.isGone && file.names.isEmpty
  }

  /// A read will tell whether it is the inode that it is taken for.
  private func isUndecided(_ file: FollowedFile) -> Bool {
    file.isAttached && (file.names.isEmpty ? !file.isAtHand : !file.isConfirmed)
  }

  /// The first scan hasn't come to where the file was last: of two inodes with one identity that one goes first.
  private func mayTurnUp(_ file: FollowedFile, besides path: BytePath) -> Bool {
    !hasLookedForAbsent && file.presence == .absent && file.path != path
      && directories[file.path.directory]?.condition != .listed
  }

  private func wait(
    _ inode: InodeKey, for file: FollowedFile, _ entry: DirectoryEntry, in directory: Directory, _ turn: inout Turn
  ) {
    let index: Int
    if let known = rivals.firstIndex(where: { $0.inode == inode }) {
      index = known
    } else {
      index = rivals.count
      rivals.append(Rival(inode: inode, since: turn.now, awaited: file.id, seen: scan.number, places: []))
    }
    rivals[index].awaited = file.id
    rivals[index].seen = scan.number
    guard !rivals[index].places.contains(where: { $0.directory === directory && $0.name == entry.name }) else { return }
    rivals[index].places.append((directory, entry.name))
  }

  /// What was decided about a file decides about those that wait for it; nil: the first scan is over.
  func wakeRivals(of file: FollowedFile?, _ turn: inout Turn) {
    for rival in rivals where file == nil || rival.awaited == file?.id {
      for place in rival.places where !place.directory.isRemoved {
        place.directory.want(name: place.name)
        request(place.directory, &turn)
      }
    }
  }

  /// A clean scan has ended: those that it didn't show are gone.
  func forgetRivals() { rivals.removeAll { $0.seen < scan.number } }

  /// The inode is taken to be this file, until a read has told.
  func take(_ file: FollowedFile, as inode: InodeKey, _ turn: inout Turn) {
    // What the data plane has of it leads to the inode that went.
    letGo(of: file, &turn)
    let isCertain = inode.identity.isUsable && inode.filesystem == file.inode.filesystem
    if !isCertain || file.needsCheck { file.origin = file.origin ?? Origin(file.inode, file.path) }
    file.isConfirmed = false
    file.isGone = false
    file.expected = 0
    file.glimpsed = 0
    if !isCertain || file.closed != nil || file.gapFrom != nil { file.needsCheck = true }
    files.move(file, to: inode)
  }

  /// A read found the file's bytes in its inode.
  func recognise(_ file: FollowedFile, renumbered inode: InodeKey?, _ turn: inout Turn) {
    if let inode, inode != file.inode {
      files.move(file, to: inode)
      journal.markDirty(file)
    }
    let isNews = !file.isConfirmed || file.names.isEmpty && !file.isAtHand
    let before = file.origin
    file.isAtHand = file.names.isEmpty
    file.isConfirmed = true
    file.origin = nil
    file.refuted = []
    guard isNews else { return }
    if let before {
      if before.inode.stored != file.inode.stored { journal.markDirty(file) }
      recordMove(of: file, from: before.path, &turn)
    }
    if file.closed == .vanished || file.gapFrom != nil { heal(file) }
    for delivery in deliveries { delivery.attached(file) }
    wakeRivals(of: file, &turn)
  }

  /// Its bytes can be had after all: nothing of it is settled by the gap alone any more.
  private func heal(_ file: FollowedFile) {
    for gap in gaps.heal(file.uuid) { journal.heal(gap) }
    file.closed = nil
    file.gapFrom = nil
    journal.markDirty(file)
  }

  /// A read found other bytes in an inode that was taken for the file. True if that says that it is another file; else
  /// it is this one, truncated.
  func refutes(_ file: FollowedFile, _ turn: inout Turn) -> Bool {
    guard !file.isConfirmed else { return false }
    let origin = file.origin ?? Origin(file.inode.stored, file.path)
    let isElsewhere = file.inode.stored != origin.inode.stored || file.path != origin.path
    let isGuess = isElsewhere && !file.inode.identity.isUsable
    let isContested =
      rivals.contains { $0.awaited == file.id }
      || candidates(for: file.inode, at: file.path).contains { $0 !== file && (isFree($0) || isUndecided($0)) }
    guard isGuess || isContested else { return false }
    file.refuted.append(file.inode)
    // The sizes that were seen are the other one's.
    file.expected = 0
    file.glimpsed = 0
    let names = file.names
    file.names = Few()
    letGo(of: file, &turn)
    files.move(file, to: origin.inode)
    files.move(file, to: origin.path)
    for name in names {
      name.directory.names[name.name] = nil
      if name.isLink { name.directory.links.removeAll { $0 == name.name } }
      name.directory.want(name: name.name)
      request(name.directory, &turn)
    }
    if file.closed == nil, hasLookedForAbsent { miss(file, &turn) }
    wakeRivals(of: file, &turn)
    return true
  }
}
