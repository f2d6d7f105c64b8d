import DataPlane
import JournalModel

extension Follower {
  func listed(_ listing: Listing, _ turn: inout Turn) {
    guard let directory = directories[listing.directory], directory.isAsked, directory.held == nil else { return }
    listingsUnderWay.answer(directory.path)
    directory.held = HeldListing(listing)
    goOn(directory, &turn)
  }

  /// Nothing more is to be asked about it.
  func take(_ listing: Listing, of directory: Directory, _ turn: inout Turn) {
    directory.isAsked = false
    answered = directory.request
    guard !directory.isRemoved else { return succeed(directory, &turn) }
    directory.isWatched = listing.isWatched
    if listing.isWhole { directory.isWayWatched = listing.isWayWatched }
    switch listing.outcome {
    case .entries(let entries, let filesystem):
      // What a failed look left owed, such as its answer to a scan, isn't done by a look at some names: it stays to be
      // looked at again in full.
      if listing.isWhole || directory.condition != .failed { directory.condition = .listed }
      directory.filesystem = filesystem
      directory.device = listing.device
      report(directory, listing.isWatched ? nil : "", &turn)
      note(listing, of: directory, &turn)
      take(isBarred(directory) ? [] : entries, of: directory, asked: listing.names, &turn)
      if listing.names == nil { know(entries, in: directory, listing.stamp, at: turn.now) }
    case .missing:
      lose(directory, &turn)
      // What leads to it is watched by a watch only.
      if listing.names != nil { directory.wantEverything() }
    case .failed(let reason):
      directory.condition = .failed
      directory.known = nil
      report(directory, reason, &turn)
    }
    let isClean = directory.condition != .failed && directory.unexamined.isEmpty
    if listing.isWhole, scan.isUnderWay, directory.askedForScan == scan.number {
      discharge(directory, isClean: isClean)
    }
    if !directory.isRemoved {
      request(directory, &turn)
      schedulePoll(directory, &turn)
    }
    endScanIfDone(&turn)
  }

  /// After all of a directory was taken in: as long as it stands still, only some of its names are looked at again (K6).
  private func know(_ entries: [DirectoryEntry], in directory: Directory, _ stamp: DirectoryStamp?, at now: Instant) {
    directory.listedInFull = now
    guard let stamp, !isBarred(directory) else { return directory.known = nil }
    // A name that is bound is there already: it isn't kept twice.
    let names = entries.filter { isConcern($0, in: directory) }.map { entry in
      directory.names.index(forKey: entry.name).map { directory.names.keys[$0] } ?? entry.name
    }
    directory.known = KnownDirectory(stamp: stamp, names: names)
  }

  /// Whether anything could follow from what becomes of an entry while its directory stands still.
  private func isConcern(_ entry: DirectoryEntry, in directory: Directory) -> Bool {
    if directory.names[entry.name] != nil || directory.children[entry.name] != nil { return true }
    if entry.isSymbolicLink { return isWanted(entry, in: directory) }
    guard let facts = entry.facts else { return true }
    return facts.kind == .directory
      ? isWanted(entry, in: directory) : patterns.isFollowed(entry.name, in: directory.position)
  }

  /// Says once what is wrong with a directory; an empty reason means that no watch stands on it.
  private func report(_ directory: Directory, _ trouble: String?, _ turn: inout Turn) {
    guard directory.reported != trouble else { return }
    directory.reported = trouble
    guard let trouble else { return }
    turn.report(trouble.isEmpty ? .unwatched(directory.path) : .unreadable(directory.path, trouble))
  }

  /// What the directory is now, and whether its path may be followed at all.
  private func note(_ listing: Listing, of directory: Directory, _ turn: inout Turn) {
    let isElsewhere = listing.place?.inode != directory.place?.inode
    directory.place = listing.place
    directory.lent = listing.lent
    directory.isOwn = listing.isOwn || listing.place.map { excluded.contains($0.inode) } ?? false
    // Of another directory than the one that was listed in full, what these names are says little.
    if isElsewhere, listing.names != nil { directory.wantEverything() }
    // That of any other is said with its name in its parent.
    guard directory.parent == nil else { return }
    let why = directory.isOwn ? .own : directory.lent.map(Unfollowed.init)
    note(isBarred(directory) ? why : nil, [], in: directory, &turn)
  }

  /// Nothing in it may be followed by this path, whatever it is (D9).
  func isBarred(_ directory: Directory) -> Bool {
    directory.isOwn || directory.lent != nil && !patterns.mayFollow(below: directory.position, isLent: true)
  }

  /// Says once why a name isn't followed, or forgets that it wasn't. The empty name stands for a base itself.
  func note(_ why: Unfollowed?, _ name: [UInt8], in directory: Directory, _ turn: inout Turn) {
    let before = directory.unfollowed[name]
    guard why != before else { return }
    if before?.isOwed == true { owedNames -= 1 }
    if why?.isOwed == true { owedNames += 1 }
    directory.unfollowed[name] = why
    if let why { turn.report(.unfollowed(directory.path(of: name), why)) }
  }

  // MARK: Entries

  /// What one listing changes. All of it is taken before any file's names are judged, so that a chain of renames within
  /// a directory is one move each and never a disappearance (S10).
  private struct Changes {
    var touched: [FileID] = []
    var births: [DirectoryEntry] = []
    /// Names that are there and were known before.
    var stayed = 0
  }

  private func take(_ entries: [DirectoryEntry], of directory: Directory, asked: [[UInt8]]?, _ turn: inout Turn) {
    listings &+= 1
    directory.stamp = listings
    var changes = Changes()
    var unexamined: [[UInt8]] = []
    var links: [[UInt8]] = []
    var unfollowed: [[UInt8]: Unfollowed] = [:]
    for entry in entries {
      if entry.isSymbolicLink, isWanted(entry, in: directory) { links.append(entry.name) }
      guard let facts = entry.facts else {
        guard !entry.isSymbolicLink || entry.trouble != nil else { continue }
        if !entry.isSymbolicLink { unexamined.append(entry.name) }
        keep(entry.name, in: directory)
        if let trouble = entry.trouble, isWanted(entry, in: directory) { unfollowed[entry.name] = .unknown(trouble) }
        continue
      }
      let why: Unfollowed? =
        switch facts.kind {
        case .regular: name(entry, facts, in: directory, &changes, &turn)
        case .directory: child(entry, facts, in: directory, &turn)
        default: facts.kind.nature.map { .kind($0) }
        }
      if let why, facts.kind == .directory || patterns.isFollowed(entry.name, in: directory.position) {
        unfollowed[entry.name] = why
      }
    }
    Self.replace(&directory.unexamined, by: unexamined, asked: asked)
    Self.replace(&directory.links, by: links, asked: asked)
    forgetUnseen(in: directory, asked: asked, &changes, &turn)
    for name in asked ?? Array(directory.unfollowed.keys).sorted(by: { $0.lexicographicallyPrecedes($1) })
    where unfollowed[name] == nil && !name.isEmpty {
      note(nil, name, in: directory, &turn)
    }
    for (name, why) in unfollowed.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
      note(why, name, in: directory, &turn)
    }
    // What has a known identity goes before what is at most taken for a file by its path.
    let known = changes.births.filter { isKnown($0) }
    for entry in known + changes.births.filter({ !isKnown($0) }) {
      guard let facts = entry.facts, directory.names[entry.name] == nil else { continue }
      if let file = files[facts.inode] {
        // A second name that came in the same listing.
        bind(entry, to: file, in: directory)
        refresh(file, facts, entry, &turn)
      } else if let fresh = entry.freshUUID {
        bear(entry, fresh, in: directory, &changes.touched, &turn)
      } else {
        // Let go of since the listing.
        directory.want(name: entry.name)
      }
    }
    for id in changes.touched {
      guard let file = files[id] else { continue }
      journal.divide()
      reviewNames(of: file, &turn)
    }
  }

  /// Names of one kind as a listing shows them, in place of those that it was asked for.
  private static func replace(_ names: inout [[UInt8]], by found: [[UInt8]], asked: [[UInt8]]?) {
    guard !(found.isEmpty && names.isEmpty) else { return }
    if let asked {
      let answered = Set(asked)
      names.removeAll { answered.contains($0) }
    } else {
      names = []
    }
    names += found
  }

  /// Whether a pattern may find the entry, or something below it.
  private func isWanted(_ entry: DirectoryEntry, in directory: Directory) -> Bool {
    patterns.isFollowed(entry.name, in: directory.position)
      || patterns.descend(directory.position, into: entry.name, isLink: entry.isSymbolicLink) != nil
  }

  /// Why the name would lend the node's rights to whoever made it; nil where it wouldn't (D9).
  func lending(_ entry: DirectoryEntry, _ facts: FileFacts, in directory: Directory) -> Unfollowed? {
    if let link = entry.lent ?? directory.lent { return Unfollowed(link) }
    guard !entry.isSymbolicLink, facts.kind == .regular, let place = directory.place,
      !facts.isReadable(byNamersIn: place, user: user)
    else { return nil }
    return .hardLink(owner: facts.owner)
  }

  func isOwn(_ entry: DirectoryEntry, _ facts: FileFacts, in directory: Directory) -> Bool {
    entry.isOwn || excluded.contains(facts.inode)
  }

  /// An entry that couldn't be examined stays what it was (S07).
  private func keep(_ name: [UInt8], in directory: Directory) {
    directory.names[name]?.stamp = directory.stamp
    directory.children[name]?.stamp = directory.stamp
  }

  /// Takes a name of a file. Returns why it isn't followed, if not.
  private func name(
    _ entry: DirectoryEntry, _ facts: FileFacts, in directory: Directory, _ changes: inout Changes,
    _ turn: inout Turn
  ) -> Unfollowed? {
    let isOwn = isOwn(entry, facts, in: directory)
    let lending = lending(entry, facts, in: directory)
    var isFollowed: Bool { patterns.isFollowed(entry.name, in: directory.position, isLent: lending != nil) }
    if let place = directory.names.index(forKey: entry.name) {
      let binding = directory.names.values[place]
      // A hard link was judged when it came: whoever makes another one can't end what is followed by right.
      let mayStay = lending == nil || isFollowed || (directory.lent == nil && !entry.isSymbolicLink)
      if let file = files[binding.file], file.inode == facts.inode, binding.isLink == entry.isSymbolicLink, mayStay,
        !isOwn
      {
        directory.names.values[place].stamp = directory.stamp
        changes.stayed += 1
        refresh(file, facts, entry, &turn)
        return nil
      }
      unbind(entry.name, in: directory, &changes)
    }
    if isOwn { return .own }
    guard directory.canHold(entry.name) else { return .tooLong(directory.path.appending(entry.name).bytes.count) }
    if let file = files[facts.inode] {
      // Any name of a known inode counts, also one that no pattern finds; links only where a pattern does (D9).
      guard isFollowed || (!entry.isSymbolicLink && (lending == nil || file.isAttached)) else { return lending }
      bind(entry, to: file, in: directory)
      changes.touched.append(file.id)
      refresh(file, facts, entry, &turn)
      return nil
    }
    // Known from before this process: adopted under whatever name it has now, as a known inode is.
    guard isFollowed || (!entry.isSymbolicLink && lending == nil && isKnown(entry)) else { return lending }
    changes.births.append(entry)
    return nil
  }

  private func isKnown(_ entry: DirectoryEntry) -> Bool {
    entry.facts.map { !files.sharing($0.inode).isEmpty } ?? false
  }

  func bind(_ entry: DirectoryEntry, to file: FollowedFile, in directory: Directory) {
    let name = Name(
      directory: directory, name: entry.name, isLink: entry.isSymbolicLink,
      realPath: entry.realPath.flatMap { $0.isStorable ? $0 : nil })
    file.names.append(name)
    // Learnt since it was listed in full: what is known of it is less than all.
    directory.known = nil
    directory.names[entry.name] = Directory.Binding(
      file: file.id, isLink: entry.isSymbolicLink, stamp: directory.stamp)
  }

  private func unbind(_ name: [UInt8], in directory: Directory, _ changes: inout Changes) {
    guard let binding = directory.names.removeValue(forKey: name) else { return }
    guard let file = files[binding.file] else { return }
    file.names.removeAll { $0.directory === directory && $0.name == name }
    changes.touched.append(file.id)
  }

  /// What the entry says of a file that has this name already or has just got it.
  func refresh(_ file: FollowedFile, _ facts: FileFacts, _ entry: DirectoryEntry, _ turn: inout Turn) {
    file.entropy = entry.freshUUID ?? file.entropy
    // What was asked for before the content began may show the one before it.
    if facts.size > file.length, answered > file.began {
      file.glimpsed = max(file.glimpsed, min(facts.size, UInt64(Int64.max)))
    }
    file.links = facts.links
    file.mode = facts.mode
    file.owner = facts.owner
    file.group = facts.group
    let hasMoved = facts.size != file.length || facts.size != file.size || facts.modified != file.modified
    guard hasMoved || file.needsCheck else { return }
    // An absent file is attached when its names have been reviewed, and read then.
    file.needsCheck = true
    if file.isAttached { wantRead(file, &turn) }
  }

  /// Names that were asked for and aren't there.
  private func forgetUnseen(
    in directory: Directory, asked: [[UInt8]]?, _ changes: inout Changes, _ turn: inout Turn
  ) {
    if let asked, changes.stayed == asked.count { return }
    let stamp = directory.stamp
    let candidates = asked ?? Array(directory.names.keys) + Array(directory.children.keys)
    var gone = candidates.filter { name in
      (directory.names[name].map { $0.stamp != stamp } ?? false)
        || (directory.children[name].map { $0.stamp != stamp } ?? false)
    }
    if asked == nil { gone.sort { $0.lexicographicallyPrecedes($1) } }
    for name in gone {
      if let binding = directory.names[name], binding.stamp != stamp { unbind(name, in: directory, &changes) }
      if let child = directory.children[name], child.stamp != stamp {
        directory.children[name] = nil
        remove(child.directory, &changes.touched, &turn)
      }
    }
  }

  // MARK: Directories

  /// Takes a name of a directory. Returns why it isn't followed, if a pattern goes there.
  private func child(
    _ entry: DirectoryEntry, _ facts: FileFacts, in directory: Directory, _ turn: inout Turn
  ) -> Unfollowed? {
    guard
      let position = patterns.descend(directory.position, into: entry.name, isLink: entry.isSymbolicLink)
    else { return nil }
    let path = directory.path.appending(entry.name)
    // A base speaks for itself.
    if directory.children[entry.name] == nil, let other = directories[path], !other.isRemoved { return nil }
    // One that is known and mustn't be followed any more isn't stamped, and goes with those that aren't there.
    if isOwn(entry, facts, in: directory) { return .own }
    if let lending = lending(entry, facts, in: directory), !patterns.mayFollow(below: position, isLent: true) {
      return lending
    }
    if let known = directory.children[entry.name] {
      directory.children[entry.name]?.stamp = directory.stamp
      guard known.inode != facts.inode else { return nil }
      // Another directory under the old name: the old watch sees the wrong one.
      directory.children[entry.name]?.inode = facts.inode
      known.directory.isWatched = false
      turn.emit(.unwatch(directory: known.directory.path))
      require(known.directory, &turn)
      return nil
    }
    guard directory.canHold(entry.name) else { return .tooLong(path.bytes.count) }
    let new = Directory(path: path, parent: directory, position: position)
    if let old = directories[path] {
      // Its answer is still due and must not be taken for the new one's.
      old.successor = new
      new.isAsked = true
    } else {
      directories[path] = new
    }
    directory.known = nil
    directory.children[entry.name] = Directory.Child(directory: new, inode: facts.inode, stamp: directory.stamp)
    require(new, &turn)
    return nil
  }

  private func succeed(_ removed: Directory, _ turn: inout Turn) {
    directories[removed.path] = nil
    guard let next = removed.successor, !next.isRemoved else { return }
    directories[next.path] = next
    next.isAsked = false
    request(next, &turn)
  }

  /// A directory that isn't there (any more). A base is tried again for ever; any other is its parent's to find again.
  private func lose(_ directory: Directory, _ turn: inout Turn) {
    directory.condition = .missing
    directory.filesystem = nil
    directory.device = nil
    directory.unexamined = []
    directory.links = []
    directory.place = nil
    directory.known = nil
    directory.isWatched = false
    var touched: [FileID] = []
    empty(directory, &touched, &turn)
    if let parent = directory.parent, !parent.isRemoved {
      let name = directory.path.name
      if parent.children[name]?.directory === directory { parent.children[name] = nil }
      remove(directory, &touched, &turn)
      parent.want(name: name)
      request(parent, &turn)
    }
    for id in touched { if let file = files[id] { reviewNames(of: file, &turn) } }
  }

  private func remove(_ directory: Directory, _ touched: inout [FileID], _ turn: inout Turn) {
    empty(directory, &touched, &turn)
    discharge(directory, isClean: true)
    guard directory.parent != nil else { return }
    directory.isRemoved = true
    if !directory.isAsked, directories[directory.path] === directory { directories[directory.path] = nil }
    turn.emit(.unwatch(directory: directory.path))
  }

  /// Takes away every name in it and below.
  private func empty(_ directory: Directory, _ touched: inout [FileID], _ turn: inout Turn) {
    var changes = Changes()
    for name in directory.names.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
      unbind(name, in: directory, &changes)
    }
    touched += changes.touched
    for name in directory.unfollowed.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
      note(nil, name, in: directory, &turn)
    }
    let children = directory.children.sorted { $0.key.lexicographicallyPrecedes($1.key) }
    directory.children = [:]
    for child in children { remove(child.value.directory, &touched, &turn) }
  }
}
