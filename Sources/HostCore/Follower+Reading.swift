import DataPlane
import JournalModel

extension Follower {
  /// New bytes are likely: read at once unless the file has had more records than its pace allows (J3).
  func wantRead(_ file: FollowedFile, _ turn: inout Turn) {
    guard file.isAttached, file.apart == nil else { return }
    switch file.reading {
    case .underWay: file.readsAgain = true
    case .queued: break
    case .idle:
      let burst = limits.coalescing.nanoseconds * UInt64(limits.coalescingBurst)
      let due = Instant(nanoseconds: file.paced.nanoseconds - min(burst, file.paced.nanoseconds))
      guard turn.now < due else { return check(file) }
      schedule(file, at: due)
    }
  }

  /// Reads as soon as it is this file's turn.
  func check(_ file: FollowedFile) {
    guard file.isAttached, file.apart == nil else { return }
    switch file.reading {
    case .underWay: file.readsAgain = true
    case .queued: break
    case .idle:
      file.reading = .queued
      readQueues.append(file.id, on: file.inode.lane)
    }
  }

  private func schedule(_ file: FollowedFile, at due: Instant) {
    if let earlier = file.readDue, earlier <= due { return }
    file.readDue = due
    timers.push(due, .read(file.id))
  }

  /// Starts the reads whose turn it is.
  func pump(_ turn: inout Turn) {
    while !journal.isFull, let (id, fileSystem) = readQueues.next() {
      guard let file = files[id], file.reading == .queued else { continue }
      guard file.apart == nil else {
        file.reading = .idle
        continue
      }
      file.reading = .underWay
      file.expectWhatWasGlimpsed()
      readQueues.begin(id, on: fileSystem)
      reads.ask(id, at: turn.now)
      turn.emit(.ingest(id, from: file.length, root: file.root, limit: limits.extentSize))
    }
  }

  func ingested(_ id: FileID, _ answer: IngestAnswer, _ turn: inout Turn) {
    let wasUnderWay = readQueues.end(id, wasHung: reads.isHung(id))
    reads.answer(id)
    guard wasUnderWay, let file = files[id] else { return }
    file.reading = .idle
    let again = file.readsAgain
    file.readsAgain = false
    if file.discardsRead {
      file.discardsRead = false
      return check(file)
    }
    guard file.isAttached, file.apart == nil else { return }
    switch answer.outcome {
    case .appended(let appended) where appended.length > file.length && appended.length <= UInt64(Int64.max):
      grew(file, appended, answer, &turn)
    case .appended, .unchanged: stood(file, answer, &turn)
    case .shrunk, .diverged:
      if file.length > 0 {
        if refutes(file, &turn) { return }
        return truncated(file, size: answer.size, &turn)
      }
      schedule(file, at: turn.now + limits.retry)
    case .gone: gone(file, &turn)
    case .failed(let reason):
      if file.unreadable != reason {
        file.unreadable = reason
        turn.report(.unreadable(file.path, reason))
      }
      let delay = limits.retry.nanoseconds.multipliedReportingOverflow(by: 1 << min(file.failures, 16))
      file.failures &+= 1
      let longest = max(limits.retry, limits.rescanInterval)
      let wait = delay.overflow ? longest : min(Interval(nanoseconds: delay.partialValue), longest)
      schedule(file, at: turn.now + wait)
    }
    turn.touch(id)
    if again { wantRead(file, &turn) }
  }

  private func grew(_ file: FollowedFile, _ appended: Appended, _ answer: IngestAnswer, _ turn: inout Turn) {
    let from = file.length
    journal.appendGrowth(of: file, appended, at: turn.wall)
    file.journal(appended.length, appended.root)
    file.tail = appended.tail
    confirm(size: answer.size, of: file, &turn)
    look(at: file, answer, &turn)
    file.closed = nil
    // Never further ahead than the burst: a backlog is read without waiting, and mustn't make later bytes wait for it.
    let furthest = turn.now + Interval(nanoseconds: limits.coalescing.nanoseconds * UInt64(limits.coalescingBurst))
    file.paced = min(max(file.paced, turn.now), furthest) + limits.coalescing
    // A backlog goes on in its next turn; a few bytes more wait with those that follow them (J3).
    if appended.length - from >= UInt64(limits.extentSize)
      || answer.size > appended.length.saturatingAdd(limits.leafSize)
    {
      check(file)
    } else if answer.size > appended.length {
      wantRead(file, &turn)
    }
    reviewNameless(file, isUnchanged: false, &turn)
  }

  private func stood(_ file: FollowedFile, _ answer: IngestAnswer, _ turn: inout Turn) {
    look(at: file, answer, &turn)
    confirm(size: answer.size, of: file, &turn)
    if file.isAwaited {
      file.isAwaited = false
      for delivery in deliveries { delivery.readToEnd(file, &turn) }
    }
    reviewNameless(file, isUnchanged: true, &turn)
  }

  private func look(at file: FollowedFile, _ answer: IngestAnswer, _ turn: inout Turn) {
    file.size = answer.size
    file.modified = answer.modified
    file.links = answer.links
    file.needsCheck = false
    file.isGone = false
    file.looks &+= 1
    file.failures = 0
    recognise(file, renumbered: answer.inode, &turn)
    if file.unreadable != nil {
      file.unreadable = nil
      turn.report(.resumed(file.uuid, file.path))
    }
  }

  /// A read found the content as journaled, and this size of it. Bytes that were seen before by their size alone and
  /// aren't there any more were cut off unread (G7). What was journaled stands, so the file goes on; its next bytes have
  /// these offsets, hence the gap names the path.
  private func confirm(size: UInt64, of file: FollowedFile, _ turn: inout Turn) {
    let seen = max(file.furthest, file.expected)
    file.expected = 0
    file.furthest = max(file.length, min(size, UInt64(Int64.max)))
    guard seen > file.furthest else { return }
    let gap = Gap(
      subject: .path(file.path), lower: file.length, upper: seen, reason: .truncated, provenLength: file.length,
      provenRoot: file.root)
    record(gap, &turn)
    // Its row has the size that is no more.
    journal.markDirty(file)
    turn.report(.gap(gap, file.path, lacking: deliveries.map(\.index)))
  }

  private func gone(_ file: FollowedFile, _ turn: inout Turn) {
    file.isGone = true
    if file.isNameless {
      // Decided once a scan has looked for it everywhere.
      if !file.isMissed { miss(file, &turn) }
      wakeRivals(of: file, &turn)
      return seekName(of: file, &turn)
    }
    // The name leads elsewhere by now: ask where.
    for name in file.names {
      name.directory.want(name: name.name)
      request(name.directory, &turn)
    }
    schedule(file, at: turn.now + limits.pollInterval)
  }

  /// The incarnation ends, the next one of the same inode begins at 0 (D5). `size`: of the content that is there now.
  private func truncated(_ file: FollowedFile, size: UInt64, _ turn: inout Turn) {
    // A size that only a listing showed may be the present content's: the old one's is certain where it has fewer bytes.
    let seen = file.expected > size ? file.expected : 0
    recordGapIfOwed(file, .truncated, upTo: max(file.length, file.furthest, seen), &turn)
    close(file, .truncated, &turn)
    let uuid = freshUUID(&file.entropy)
    turn.report(.truncated(file.uuid, file.path, length: file.length, next: uuid))
    let next = FollowedFile(
      id: files.makeID(), uuid: uuid, inode: file.inode, isDerived: false, born: turn.wall, path: file.path,
      empty: source.empty)
    next.inherit(from: file)
    next.began = requests
    for name in next.names { name.directory.names[name.name]?.file = next.id }
    forget(file, &turn)
    files.insert(next)
    if next.isNameless { held.append(next.id) }
    turn.touch(file.id, rebornAs: next.id)
    if next.isMissed, let index = missing.firstIndex(of: file.id) { missing[index] = next.id }
    let parent = Parent(file: file.uuid, length: file.length, root: file.root, why: .truncated)
    record(birthOf: next, parent: parent, realPath: next.openPath, &turn)
    turn.emit(.reborn(file.id, as: next.id, file: uuid))
    check(next)
    schedulePoll(next, &turn)
  }
}

extension FollowedFile {
  /// What the next incarnation takes over: all that is the inode's and not the content's.
  func inherit(from parent: FollowedFile) {
    presence = parent.presence
    isAtHand = parent.isAtHand
    self.stillSince = parent.stillSince
    names = parent.names
    entropy = parent.entropy
    mode = parent.mode
    owner = parent.owner
    group = parent.group
    links = parent.links
    modified = parent.modified
    wasLink = parent.wasLink
    isMissed = parent.isMissed
    self.missedInScan = parent.missedInScan
    self.missedAt = parent.missedAt
  }
}

extension UInt64 {
  func saturatingAdd(_ count: Int) -> UInt64 {
    saturatingAdding(UInt64(clamping: count))
  }
}
