import DataPlane
import JournalModel

extension Follower {
  func listed(_ listing: Listing, _ turn: inout Turn) {
    guard let directory = directories[listing.directory], directory.isAsked else { return }
    directory.isAsked = false
    answered = directory.request
    guard !directory.isRemoved else { return succeed(directory, &turn) }
    directory.isWatched = listing.isWatched
    switch listing.outcome {
    case .entries(let entries, let filesystem):
      directory.condition = .listed
      directory.filesystem = filesystem
      directory.device = listing.device
      report(directory, listing.isWatched ? nil : "", &turn)
      take(entries, of: directory, asked: listing.names, &turn)
    case .missing:
      lose(directory, &turn)
    case .failed(let reason):
      directory.condition = .failed
      report(directory, reason, &turn)
    }
    let isClean = directory.condition != .failed && directory.unexamined.isEmpty
    if listing.names == nil, scan.isUnderWay, directory.askedForScan == scan.number {
      discharge(directory, isClean: isClean)
    }
    if !directory.isRemoved {
      request(directory, &turn)
      schedulePoll(directory, &turn)
    }
    endScanIfDone(&turn)
  }

  /// Says once what is wrong with a directory; an empty reason means that no watch stands on it.
  private func report(_ directory: Directory, _ trouble: String?, _ turn: inout Turn) {
    guard directory.reported != trouble else { return }
    directory.reported = trouble
    guard let trouble else { return }
    turn.report(trouble.isEmpty ? .unwatched(directory.path) : .unreadable(directory.path, trouble))
  }

  // MARK: Entries

  /// What one listing changes. All of it is taken before any file's names are judged, so that a chain of renames within
  /// a directory is one move each and never a disappearance (S10).
  private struct Changes {
    var touched: [FileID] = []
    var births: [DirectoryEntry] = []
    var shown = 0
  }

  private func take(_ entries: [DirectoryEntry], of directory: Directory, asked: [[UInt8]]?, _ turn: inout Turn) {
    listings &+= 1
    directory.stamp = listings
    var changes = Changes()
    var unexamined: [[UInt8]] = []
    for entry in entries {
      guard let facts = entry.facts else {
        if !entry.isSymbolicLink {
          unexamined.append(entry.name)
          keep(entry.name, in: directory)
        }
        continue
      }
      switch facts.kind {
      case .regular: name(entry, facts, in: directory, &changes, &turn)
      case .directory: child(entry, facts, in: directory, &turn)
      case .other: break
      }
    }
    noteUnexamined(unexamined, in: directory, asked: asked)
    forgetUnseen(in: directory, asked: asked, &changes, &turn)
    // What has a known identity goes before what is at most taken for a file by its path.
    let known = changes.births.filter { isKnown($0) }
    for entry in known + changes.births.filter({ !isKnown($0) }) {
      guard let facts = entry.facts, directory.names[entry.name] == nil else { continue }
      if let file = files[facts.inode] {
        // A second name that came in the same listing.
        bind(entry, to: file, in: directory)
        refresh(file, facts, entry, &turn)
      } else {
        bear(entry, in: directory, &changes.touched, &turn)
      }
    }
    for id in changes.touched { if let file = files[id] { reviewNames(of: file, &turn) } }
  }

  private func noteUnexamined(_ names: [[UInt8]], in directory: Directory, asked: [[UInt8]]?) {
    guard !(names.isEmpty && directory.unexamined.isEmpty) else { return }
    if let asked {
      let answered = Set(asked)
      directory.unexamined.removeAll { answered.contains($0) }
    } else {
      directory.unexamined = []
    }
    directory.unexamined += names
  }

  /// An entry that couldn't be examined stays what it was (S07).
  private func keep(_ name: [UInt8], in directory: Directory) {
    directory.names[name]?.stamp = directory.stamp
    directory.children[name]?.stamp = directory.stamp
  }

  private func name(
    _ entry: DirectoryEntry, _ facts: FileFacts, in directory: Directory, _ changes: inout Changes,
    _ turn: inout Turn
  ) {
    if let binding = directory.names[entry.name] {
      if let file = files[binding.file], file.inode == facts.inode, binding.isLink == entry.isSymbolicLink {
        directory.names[entry.name]?.stamp = directory.stamp
        refresh(file, facts, entry, &turn)
        return
      }
      unbind(entry.name, in: directory, &changes)
    }
    guard !excluded.contains(facts.inode), directory.canHold(entry.name) else { return }
    let isFollowed = patterns.isFollowed(entry.name, in: directory.position)
    if let file = files[facts.inode] {
      // Any name of a known inode counts, also one that no pattern finds; links only where a pattern does (D9).
      guard isFollowed || !entry.isSymbolicLink else { return }
      bind(entry, to: file, in: directory)
      changes.touched.append(file.id)
      refresh(file, facts, entry, &turn)
    } else if isFollowed || !entry.isSymbolicLink && isKnown(entry) {
      changes.births.append(entry)
    }
  }

  private func isKnown(_ entry: DirectoryEntry) -> Bool {
    entry.facts.map { !files.sharing($0.inode).isEmpty } ?? false
  }

  func bind(_ entry: DirectoryEntry, to file: FollowedFile, in directory: Directory) {
    let name = Name(
      directory: directory, name: entry.name, isLink: entry.isSymbolicLink,
      realPath: entry.realPath.flatMap { $0.isStorable ? $0 : nil })
    file.names.append(name)
    directory.names[entry.name] = Directory.Binding(
      file: file.id, isLink: entry.isSymbolicLink, stamp: directory.stamp)
    if entry.isSymbolicLink { directory.links.append(entry.name) }
  }

  private func unbind(_ name: [UInt8], in directory: Directory, _ changes: inout Changes) {
    guard let binding = directory.names.removeValue(forKey: name) else { return }
    if binding.isLink { directory.links.removeAll { $0 == name } }
    guard let file = files[binding.file] else { return }
    file.names.removeAll { $0.directory === directory && $0.name == name }
    changes.touched.append(file.id)
  }

  /// What the entry says of a file that has this name already or has just got it.
  func refresh(_ file: FollowedFile, _ facts: FileFacts, _ entry: DirectoryEntry, _ turn: inout Turn) {
    file.entropy = entry.freshUUID
    // What was asked for before the content began may show the one before it.
    if answered > file.began { file.glimpsed = max(file.glimpsed, min(facts.size, UInt64(Int64.max))) }
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

  private func child(_ entry: DirectoryEntry, _ facts: FileFacts, in directory: Directory, _ turn: inout Turn) {
    if let known = directory.children[entry.name] {
      directory.children[entry.name]?.stamp = directory.stamp
      guard known.inode != facts.inode else { return }
      // Another directory under the old name: the old watch sees the wrong one.
      directory.children[entry.name]?.inode = facts.inode
      known.directory.isWatched = false
      turn.emit(.unwatch(directory: known.directory.path))
      require(known.directory, &turn)
      return
    }
    guard !excluded.contains(facts.inode), directory.canHold(entry.name),
      let position = patterns.descend(directory.position, into: entry.name, isLink: entry.isSymbolicLink)
    else { return }
    let path = directory.path.appending(entry.name)
    if let other = directories[path], !other.isRemoved { return }
    let new = Directory(path: path, parent: directory, position: position)
    if let old = directories[path] {
      // Its answer is still due and must not be taken for the new one's.
      old.successor = new
      new.isAsked = true
    } else {
      directories[path] = new
    }
    directory.children[entry.name] = Directory.Child(directory: new, inode: facts.inode, stamp: directory.stamp)
    require(new, &turn)
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
    let children = directory.children.sorted { $0.key.lexicographicallyPrecedes($1.key) }
    directory.children = [:]
    for child in children { remove(child.value.directory, &touched, &turn) }
  }
}
