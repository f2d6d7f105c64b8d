import DataPlane
import JournalModel

// Births, names and the lack of them.

extension Follower {
  /// A name that a pattern finds, of an inode that nobody knows.
  func bear(
    _ entry: DirectoryEntry, _ fresh: UUIDBytes, in directory: Directory, _ touched: inout [FileID], _ turn: inout Turn
  ) {
    guard let facts = entry.facts else { return }
    let path = directory.path.appending(entry.name)
    switch claim(facts.inode, entry, in: directory, &turn) {
    case .file(let known):
      take(known, as: facts.inode, &turn)
      return adopt(known, entry, in: directory, &touched, &turn)
    case .waits: return
    case .nobody:
      guard patterns.isFollowed(entry.name, in: directory.position) else { return }
      // Taken for a file that another inode has by now, or not to be followed: the store wasn't asked.
      guard told?.asked.contains(facts.inode) == true, !wasDeleted(facts.inode) else {
        return directory.want(name: entry.name)
      }
    }
    let identity = facts.inode.identity
    let (uuid, isDerived) = uuid(of: identity, fresh)
    let file = FollowedFile(
      id: files.makeID(), uuid: uuid, inode: facts.inode, isDerived: isDerived,
      born: identity.birth ?? turn.wall, path: path, empty: source.empty)
    file.entropy = fresh
    file.mode = facts.mode
    file.owner = facts.owner
    file.group = facts.group
    file.modified = facts.modified
    file.presence = .named
    files.insert(file)
    bind(entry, to: file, in: directory)
    refresh(file, facts, entry, &turn)
    journal.divide()
    record(birthOf: file, parent: nil, realPath: file.openPath, &turn)
    turn.emit(.attach(file.id, file: uuid, inode: facts.inode, path: file.openPath))
    check(file)
  }

  private func adopt(
    _ file: FollowedFile, _ entry: DirectoryEntry, in directory: Directory, _ touched: inout [FileID],
    _ turn: inout Turn
  ) {
    bind(entry, to: file, in: directory)
    touched.append(file.id)
    if let facts = entry.facts { refresh(file, facts, entry, &turn) }
  }

  /// Derived for incarnation 0 (D1), random where the identity is not usable or another file has the derived one (D2).
  private func uuid(of identity: InodeIdentity, _ fresh: UUIDBytes) -> (FileUUID, isDerived: Bool) {
    if identity.isUsable {
      let derived = source.derive(identity)
      if !files.isUsed(derived), told?.used.contains(derived) != true { return (derived, true) }
    }
    var entropy = fresh
    return (freshUUID(&entropy), false)
  }

  /// A random uuid, which no file in memory has.
  func freshUUID(_ entropy: inout UUIDBytes) -> FileUUID {
    while true {
      let drawn = source.draw(entropy)
      entropy = drawn.rest
      if !files.isUsed(drawn.uuid) { return drawn.uuid }
    }
  }

  func record(birthOf file: FollowedFile, parent: Parent?, realPath: BytePath, _ turn: inout Turn) {
    let born = FileBorn(
      file: file.uuid, identity: file.inode.identity, isDerived: file.isDerived, path: file.path, realPath: realPath,
      mode: file.mode, owner: file.owner, group: file.group, born: file.born, modified: file.modified,
      parent: parent)
    journal.appendBirth(of: file, born, at: turn.wall)
    turn.report(.born(file.uuid, file.path))
  }

  /// After its names changed: which one is primary, whether any is left.
  func reviewNames(of file: FollowedFile, _ turn: inout Turn) {
    guard !file.names.isEmpty else {
      if file.presence == .named { loseLastName(of: file, &turn) }
      return
    }
    let before = file.path
    let primary = file.primary ?? file.names.first { !$0.isLink } ?? file.names[0]
    if file.path != primary.path { files.move(file, to: primary.path) }
    file.wasLink = primary.isLink
    let wasUnnamed = file.presence == .nameless(isJournaled: true)
    // One that may be another file has moved when a read has shown that it is this one.
    if file.origin == nil || !file.needsCheck {
      if wasUnnamed || file.path != before { recordMove(of: file, from: before, evenTo: before, &turn) }
      file.origin?.path = file.path
    }
    switch file.presence {
    case .absent: attach(file, &turn)
    case .nameless: rename(file, &turn)
    case .named: if file.path != before { rename(file, &turn) }
    }
  }

  func recordMove(
    of file: FollowedFile, from before: BytePath, evenTo same: BytePath? = nil, _ turn: inout Turn
  ) {
    guard file.path != before || file.path == same else { return }
    journal.append(.rotated(Rotated(file: file.uuid, from: before, to: file.path)), of: file, at: turn.wall)
    journal.markDirty(file)
    turn.report(.rotated(file.uuid, from: before, to: file.path))
  }

  private func rename(_ file: FollowedFile, _ turn: inout Turn) {
    let wasNameless = file.isNameless
    file.presence = .named
    file.isAtHand = false
    file.discardsProbe = file.isProbing
    turn.emit(.relocate(file.id, path: file.openPath, isPinned: false))
    if wasNameless || file.isGone {
      file.isGone = false
      check(file)
    }
  }

  /// A file that the journal knew, or that was let go of, is seen (again).
  private func attach(_ file: FollowedFile, _ turn: inout Turn) {
    file.presence = .named
    file.isGone = false
    file.isAtHand = false
    turn.emit(.attach(file.id, file: file.uuid, inode: file.inode, path: file.openPath))
    guard file.needsCheck || file.closed != nil || file.gapFrom != nil else {
      for delivery in deliveries { delivery.attached(file) }
      return
    }
    // What is more is said when a read has shown that it is the file.
    file.needsCheck = true
    file.isConfirmed = false
    file.origin = file.origin ?? Origin(file.inode, file.path)
    check(file)
  }
}

// MARK: Without a name

extension Follower {
  private func loseLastName(of file: FollowedFile, _ turn: inout Turn) {
    file.presence = .nameless(isJournaled: false)
    file.hasNoWriter = false
    file.isAtHand = false
    file.stillSince = turn.now
    held.append(file.id)
    turn.emit(.relocate(file.id, path: file.path, isPinned: true))
    file.idlePolls = 0
    miss(file, &turn)
    check(file)
    schedulePoll(file, &turn)
    makeRoom(&turn)
  }

  func schedulePoll(_ file: FollowedFile, _ turn: inout Turn) {
    guard file.isNameless, file.pollDue == nil else { return }
    // One that stays as it is, held for a server that is away, is looked at more and more slowly.
    let slowness: UInt64 = 1 << min(file.idlePolls / 8, 5)
    let due = turn.now + Interval(nanoseconds: limits.pollInterval.nanoseconds.saturatingMultiplied(by: slowness))
    file.pollDue = due
    timers.push(due, .poll(file.id))
  }

  /// While a nameless inode has names somewhere, or can't be reached, a scan has to look for them.
  func seekName(of file: FollowedFile, _ turn: inout Turn) {
    guard file.isMissed, file.missedInScan >= scan.lastClean else { return }
    wantScan(at: turn.now + limits.pollInterval, &turn)
  }

  /// From here on a clean scan that doesn't find it decides.
  func miss(_ file: FollowedFile, _ turn: inout Turn) {
    file.missedInScan = scan.number
    file.missedAt = turn.now
    guard !file.isMissed else { return }
    file.isMissed = true
    missing.append(file.id)
  }

  func judgeMissing(_ turn: inout Turn) {
    guard !missing.isEmpty else { return }
    let candidates = missing
    missing = []
    var isWaiting = false
    for id in candidates {
      guard let file = files[id] else { continue }
      journal.divide()
      let judgement = file.names.isEmpty ? judge(file, &turn) : .decided
      file.isMissed = judgement != .decided
      if file.isMissed { missing.append(id) }
      if judgement == .awaitsAnswers { isWaiting = true }
    }
    if isWaiting { timers.push(turn.now + limits.pollInterval, .judge) }
  }

  private enum Judgement { case decided, undecided, awaitsAnswers }

  private func judge(_ file: FollowedFile, _ turn: inout Turn) -> Judgement {
    if file.closed == .vanished { return .decided }
    if case .nameless(isJournaled: true) = file.presence, !file.isGone { return .decided }
    guard scan.lastClean > file.missedInScan, isOnListedFileSystem(file) else { return .undecided }
    if file.isNameless, !file.isGone {
      journalNameless(file, &turn)
      return .decided
    }
    // What a server holds is its own statement; notes may be older. Wait for it, but not for ever.
    let isOverdue = file.missedAt.map { $0 + limits.rescanInterval <= turn.now } ?? true
    if isOwed(file), !isOverdue, deliveries.contains(where: { !$0.hasAnswered(about: file) }) {
      return .awaitsAnswers
    }
    vanish(file, &turn)
    return .decided
  }

  /// Whether the nearest directory that still exists lies on the file's own file system: an unmounted one takes no
  /// file away (D10).
  private func isOnListedFileSystem(_ file: FollowedFile) -> Bool {
    if file.wasLink { return true }
    var path = file.path
    while path.bytes.count > 1 {
      path = path.directory
      guard let directory = directories[path], !directory.isRemoved, directory.condition == .listed else { continue }
      if let device = file.inode.device, let now = directory.device { return device == now }
      return directory.filesystem == file.inode.filesystem
    }
    return false
  }

  func journalNameless(_ file: FollowedFile, _ turn: inout Turn) {
    guard case .nameless(isJournaled: false) = file.presence else { return }
    file.presence = .nameless(isJournaled: true)
    journal.append(.rotated(Rotated(file: file.uuid, from: file.path, to: nil)), of: file, at: turn.wall)
    journal.markDirty(file)
    turn.report(.rotated(file.uuid, from: file.path, to: nil))
  }

  /// No name, no descriptor: what wasn't delivered can't be any more (G7).
  func vanish(_ file: FollowedFile, _ turn: inout Turn) {
    recordGapIfOwed(file, .vanished, upTo: file.extent, &turn)
    close(file, .vanished, &turn)
    letGo(of: file, &turn)
    retire(file)
    turn.touch(file.id)
  }

  func isOwed(_ file: FollowedFile) -> Bool {
    leastDurable(file) < file.gapStart || file.extent > file.length || file.committedLength < file.length
  }

  /// What every server holds of it.
  func leastDurable(_ file: FollowedFile) -> UInt64 {
    deliveries.reduce(file.length) { min($0, $1.durable(file.id)) }
  }

  /// `upper`: the greatest size that it is known to have had.
  func recordGapIfOwed(_ file: FollowedFile, _ reason: Gap.Reason, upTo upper: UInt64, _ turn: inout Turn) {
    let lower = min(leastDurable(file), file.gapStart)
    guard lower < upper else { return }
    let gap = Gap(
      subject: .file(file.uuid), lower: lower, upper: upper, reason: reason, provenLength: 0,
      provenRoot: source.empty)
    file.gapFrom = lower
    record(gap, &turn)
    journal.markDirty(file)
    let lacking = deliveries.filter { $0.durable(file.id) < upper }.map(\.index)
    turn.report(.gap(gap, file.path, lacking: lacking))
  }

  func record(_ gap: Gap, _ turn: inout Turn) {
    gaps.add(journal.append(gap, at: turn.wall))
  }

  func close(_ file: FollowedFile, _ reason: FileClosed.Reason, _ turn: inout Turn) {
    file.closed = reason
    let closed = FileClosed(file: file.uuid, length: file.length, root: file.root, reason: reason)
    journal.append(.fileClosed(closed), of: file, at: turn.wall)
    journal.markDirty(file)
    turn.report(.closed(file.uuid, file.path, length: file.length, reason))
  }

  /// The data plane forgets it; it stays known and goes on if it is ever seen again.
  func letGo(of file: FollowedFile, _ turn: inout Turn) {
    guard file.isAttached else { return }
    file.presence = .absent
    file.pollDue = nil
    file.discardsProbe = file.isProbing
    file.discardsRead = file.reading == .underWay
    if file.reading == .queued { file.reading = .idle }
    turn.emit(.release(file.id))
  }

  // MARK: Polling

  /// A nameless file is looked at until nothing is new, every server has its bytes and no writer is left (F2).
  func poll(_ file: FollowedFile, _ turn: inout Turn) {
    guard file.isNameless else { return }
    guard file.apart == nil else { return reviewApart(file, &turn) }
    if file.reading == .idle, !file.isProbing {
      file.hasNoWriter = false
      check(file)
    }
    schedulePoll(file, &turn)
  }

  /// After a read of a nameless file; `isUnchanged`: it brought nothing new.
  func reviewNameless(_ file: FollowedFile, isUnchanged: Bool, _ turn: inout Turn) {
    guard file.isNameless else { return }
    file.idlePolls = isUnchanged ? file.idlePolls &+ 1 : 0
    if !isUnchanged { file.stillSince = turn.now }
    if file.links == 0 { journalNameless(file, &turn) } else { seekName(of: file, &turn) }
    guard file.presence == .nameless(isJournaled: true), isUnchanged, !isOwed(file), file.length == file.committedLength
    else { return }
    guard file.hasNoWriter else {
      if file.writersUnknown, file.stillSince + limits.unknownWriters <= turn.now { return giveUp(file, &turn) }
      guard !file.isProbing else { return }
      file.isProbing = true
      return turn.emit(.probeWriters(file.id))
    }
    // Read to the end after the last writer had gone: what it wrote before it closed is in.
    if file.links == 0 {
      close(file, .deleted, &turn)
      letGo(of: file, &turn)
      forget(file, &turn)
    } else {
      loseSight(of: file, &turn)
    }
  }

  /// Moved to where nobody looks, and everything of it is delivered. It is no longer held open, and is a row as if it had
  /// gone while the node was down (K1); a name that turns up goes on with it.
  func loseSight(of file: FollowedFile, _ turn: inout Turn) {
    close(file, .vanished, &turn)
    letGo(of: file, &turn)
    retire(file)
    turn.touch(file.id)
  }

  func writersProbed(_ id: FileID, _ hasWriters: Bool?, _ turn: inout Turn) {
    guard let file = files[id], file.isProbing else { return }
    file.isProbing = false
    let isStale = file.discardsProbe
    file.discardsProbe = false
    guard file.isNameless, !isStale else { return }
    file.writersUnknown = hasWriters == nil
    if file.writersUnknown {
      reportUnknownWriters(file, &turn)
      return makeRoom(&turn)
    }
    guard hasWriters == false else { return }
    file.hasNoWriter = true
    check(file)
  }

  /// More are remembered only as long as a listing is under way that was asked for before.
  private static let mostDeletions = 4_096

  /// Listings under way, and those about which the store is asked, may show the inode yet.
  private func noteDeletion(of inode: InodeKey) {
    deletions[inode.identity.number] = requests
    guard deletions.count > Self.mostDeletions else { return }
    let oldest = directories.values.lazy.filter(\.isAsked).map(\.request).min() ?? .max
    deletions = deletions.filter { $0.value >= oldest }
    // At worst a file of no bytes is born and ends.
    if deletions.count > Self.mostDeletions { deletions = [:] }
  }

  /// What the listing that is being taken shows of the inode is the past: it was asked for before the inode was deleted.
  private func wasDeleted(_ inode: InodeKey) -> Bool {
    deletions[inode.identity.number].map { answered <= $0 } ?? false
  }

  /// Its end is journaled and nothing of it can be wanted any more.
  func forget(_ file: FollowedFile, _ turn: inout Turn) {
    files.remove(file)
    if file.links == 0 { noteDeletion(of: file.inode) }
    for delivery in deliveries { delivery.forget(file) }
    turn.touch(file.id)
  }
}
