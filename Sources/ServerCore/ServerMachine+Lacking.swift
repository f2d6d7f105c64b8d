import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// What peers announced (M3) is compared with what is held, at this server's own pace. What is lacking is asked for, unless
// its host is delivering it: in normal operation each byte moves once. It comes on a channel, which for all that follows is
// a connection of its host: nothing of it is taken on a peer's word.
//
// Whether a longer string or sequence begins with what was announced, its tree says. As long as it grows that isn't asked:
// the next announcement may be equal.

extension ServerMachine where H.Value == Digest {
  // MARK: Announcements

  mutating func feedBegins(_ start: FeedStart, on id: ConnectionID) {
    guard links[id]?.intake.hasBegun == false else { return violated(id, "a second feed") }
    let number = start.after
    links[id]?.intake.hasBegun = true
    links[id]?.intake.last = number
    links[id]?.intake.end = number
    links[id]?.intake.told = Noted(noted: number, held: 0)
    if start.byTrie { beginWalk(on: id) }
  }

  mutating func announced(_ announcement: Announcement, on id: ConnectionID) {
    guard links[id]?.intake.hasBegun == true else { return violated(id, "an announcement before the feed") }
    guard let intake = links[id]?.intake,
      intake.count - intake.found.count < 2 * (limits.announcementsAhead + FrameBounds.announcements)
    else {
      return violated(id, "more is announced than was noted")
    }
    let isNews = announcement.last > intake.end || announcement.life != intake.life
    if announcement.changes.isEmpty, !isNews, !charge(1, to: id) { return }
    for change in announcement.changes {
      guard change.number >= links[id]?.intake.last ?? 0, change.number <= announcement.last else {
        return violated(id, "changes that aren't in the order of their numbers")
      }
      links[id]?.intake.last = change.number
      take(change, on: id)
    }
    links[id]?.intake.end = announcement.last
    links[id]?.intake.life = announcement.life
  }

  private mutating func take(_ change: Change, on id: ConnectionID) {
    let before = links[id]?.intake[change.subject]
    if let before, before.number == change.number, before.heads == change.heads, !charge(1, to: id) { return }
    let lack = lack(change, number: change.number, on: id)
    let isNew = before == nil
    links[id]?.intake.put(lack, for: change.subject)
    lookAt(change.subject, isNew: isNew, on: id)
  }

  /// By the walk. Of what is announced already the feed speaks.
  mutating func found(_ change: Change, on id: ConnectionID) {
    guard let intake = links[id]?.intake else { return }
    let isNew = intake[change.subject] == nil
    guard isNew || intake.found.contains(change.subject) else { return }
    let lack = lack(change, number: intake.last, on: id)
    links[id]?.intake.putFound(lack, for: change.subject)
    lookAt(change.subject, isNew: isNew, on: id)
  }

  private func lack(_ change: Change, number: UInt64, on id: ConnectionID) -> Lack {
    var lack = links[id]?.intake[change.subject] ?? Lack(number: 0, heads: [], publicKey: nil, since: now)
    lack.number = number
    lack.heads = change.heads
    lack.publicKey = change.publicKey
    lack.covered.formIntersection(change.heads)
    return lack
  }

  private mutating func lookAt(_ subject: ChangedSubject, isNew: Bool, on id: ConnectionID) {
    if isNew {
      enqueue(subject, on: id)
    } else if links[id]?.intake[subject]?.attempts == 0 {
      // One that failed is tried again at its time, however often it is announced.
      lookAgain(subject, on: id)
    }
  }

  /// Something of it was committed, or announced.
  mutating func lookAgain(_ subject: ChangedSubject, on id: ConnectionID) {
    // What is being read of it may be older.
    if links[id]?.intake[subject]?.isBeingRead == true { links[id]?.intake.change(subject) { $0.isReadAgain = true } }
    switch links[id]?.intake[subject]?.state {
    case .later, .waiting:
      links[id]?.intake.change(subject) {
        $0.state = .unchecked
        $0.awaitsRecords = false
      }
    // It is asked for until it is known to be held.
    case .wanted: break
    case .unchecked, .reading, .comparing, nil: return
    }
    enqueue(subject, on: id)
  }

  private mutating func enqueue(_ subject: ChangedSubject, on id: ConnectionID) {
    guard links[id]?.intake[subject]?.isQueued == false else { return }
    links[id]?.intake.change(subject) { $0.isQueued = true }
    links[id]?.intake.unchecked.append(subject)
    dueLinks.insert(id)
  }

  mutating func later(_ subject: ChangedSubject, at time: Instant, on id: ConnectionID) {
    links[id]?.intake.change(subject) { $0.state = .later(time) }
    links[id]?.intake.later.push(time, subject)
  }

  // MARK: Looking

  /// Files that are looked up in one reading.
  private static var filesPerReading: Int { 256 }

  mutating func lookAtAnnounced(_ id: ConnectionID) {
    while let (due, subject) = links[id]?.intake.later.pop(if: { $0 <= now }) {
      if case .later(due)? = links[id]?.intake[subject]?.state { lookAgain(subject, on: id) }
    }
    var unknown: [FileKey] = []
    while unknown.count < Self.filesPerReading, let subject = links[id]?.intake.unchecked.popFirst() {
      guard let lack = links[id]?.intake[subject] else { continue }
      guard lack.isToBeJudged else {
        // It failed, or went on, since it was queued. What is being read counts as queued until the answer comes.
        if case .reading = lack.state { continue }
        links[id]?.intake.change(subject) { $0.isQueued = false }
        continue
      }
      switch subject {
      case .journal(let journal):
        links[id]?.intake.change(subject) { $0.isQueued = false }
        judge(subject, held: heads(of: journal).map { TreeHead(length: $0.length, root: $0.root) }, [], on: id)
      case .file(let key):
        if let first = stringIndex[key] {
          links[id]?.intake.change(subject) { $0.isQueued = false }
          judge(subject, rows: all(first).map { strings[$0].row }, on: id)
        } else if links[id]?.intake.isReading == true {
          links[id]?.intake.unread.append(subject)
        } else {
          unknown.append(key)
        }
      }
    }
    guard !unknown.isEmpty else { return }
    links[id]?.intake.isReading = true
    for key in unknown {
      links[id]?.intake.change(.file(key)) {
        $0.isBeingRead = true
        if case .unchecked = $0.state { $0.state = .reading }
      }
    }
    read(.rows(unknown), for: .announced(id))
  }

  mutating func announcedRead(_ files: [LoadedFile], on id: ConnectionID) {
    guard links[id] != nil else { return }
    links[id]?.intake.endReading()
    dueLinks.insert(id)
    for file in files {
      let subject = ChangedSubject.file(file.key)
      // It may have come into memory, and have grown.
      let rows = stringIndex[file.key].map { all($0).map { strings[$0].row } }
      guard let lack = links[id]?.intake[subject], lack.isQueued else { continue }
      links[id]?.intake.change(subject) {
        ($0.isQueued, $0.isBeingRead, $0.isReadAgain) = (false, false, false)
        if case .reading = $0.state { $0.state = .unchecked }
      }
      if lack.isReadAgain, rows == nil {
        enqueue(subject, on: id)
        continue
      }
      judge(subject, rows: rows ?? [file.row].compactMap { $0 } + file.branches.map(\.row), on: id)
    }
  }

  private mutating func judge(_ subject: ChangedSubject, rows: [StoredString], on id: ConnectionID) {
    let recorded = rows.map(\.recorded).max() ?? 0
    let rows = rows.filter(\.isDistinct)
    judge(subject, held: rows.map(\.head), rows, recorded: recorded, on: id)
  }

  /// `recorded` is what records that are held say of a file's length.
  private mutating func judge(
    _ subject: ChangedSubject, held: [TreeHead], _ rows: [StoredString], recorded: UInt64 = .max, on id: ConnectionID
  ) {
    guard let lack = links[id]?.intake[subject] else { return }
    if case .wanted(_, let head, let having) = lack.state {
      // It is on its way until there is a string more that has as much.
      guard held.contains(head) || having < held.count(where: { $0.length >= head.length }) else { return }
      endWant(subject, on: id)
    }
    let missing = lack.heads.filter { !held.contains($0) && !lack.covered.contains($0) }
    if missing.isEmpty { return resolve(subject, on: id) }
    let greatest = held.map(\.length).max() ?? 0
    if let time = patience(lack, subject.host, holding: greatest) {
      links[id]?.intake.change(subject) { $0.progress = greatest }
      return later(subject, at: time, on: id)
    }
    // What is shorter than something held comes first: while one of several grows, the others would never be asked for.
    let unknown = missing.filter { $0.length <= greatest }
    if unknown.isEmpty, let lacking = missing.min(by: { $0.length < $1.length }) {
      if case .file = subject, recorded < lacking.length || !isKnown(subject.host) {
        return awaitRecords(subject, on: id)
      }
      return want(subject, lacking, held: held, on: id)
    }
    compare(subject, unknown, held: held, rows, on: id)
  }

  /// Records promise more of the file: its bytes can be asked for, and with luck one commit has both.
  mutating func promiseTaken(_ key: FileKey) {
    let subject = ChangedSubject.file(key)
    guard !links.isEmpty, isKnown(key.host) else { return }
    for id in links.keys.sorted() where links[id]?.intake[subject]?.awaitsRecords == true {
      lookAgain(subject, on: id)
    }
  }

  /// Files come on channels of journals of which something is durable.
  private func isKnown(_ host: HostName) -> Bool { tallyIndex[host].map { !tallies[$0].journals.isEmpty } ?? false }

  /// Its bytes would be refused before the records that promise them (W1).
  private mutating func awaitRecords(_ subject: ChangedSubject, on id: ConnectionID) {
    links[id]?.intake.change(subject) { $0.awaitsRecords = true }
    guard links[id]?.intake.expectsRecords(of: subject.host) == true else { return failed(subject, on: id) }
    later(subject, at: now + limits.peerPatienceMost, on: id)
  }

  /// What its host is delivering itself is waited for: a little at first, then as long as it grows.
  private func patience(_ lack: Lack, _ host: HostName, holding length: UInt64) -> Instant? {
    guard let tally = tallyIndex[host], tallies[tally].connections > 0 else { return nil }
    let end = lack.since + (length > lack.progress ? limits.peerPatienceMost : limits.peerPatience)
    return now < end ? min(end, now + limits.peerPatience) : nil
  }

  private mutating func resolve(_ subject: ChangedSubject, on id: ConnectionID) {
    links[id]?.intake.remove(subject)
    noteHeld(on: id)
  }

  mutating func noteHeld(on id: ConnectionID) {
    if areCursorsBehind(id), cursorsDue == nil { cursorsDue = now + Self.cursorInterval }
  }

  // MARK: Comparing

  private mutating func compare(
    _ subject: ChangedSubject, _ missing: [TreeHead], held: [TreeHead], _ rows: [StoredString], on id: ConnectionID
  ) {
    var comparison = Comparison(questions: [], lacking: missing, held: held)
    switch subject {
    case .journal(let journal):
      links[id]?.intake.change(subject) { $0.state = .comparing(comparison) }
      read(.beginnings(journal, length: missing[0].length), for: .compared(id, journal))
    case .file:
      for head in missing {
        for row in rows where row.committed > head.length {
          guard let holder = row.holder(of: head.length - 1, among: rows)?.row else { continue }
          let question = Comparison.Question(head: head, key: holder.key, segment: holder.segment)
          if !comparison.questions.contains(where: { $0.head == head && $0.key == holder.key }) {
            comparison.questions.append(question)
          }
        }
      }
      goOnComparing(subject, comparison, on: id)
    }
  }

  private mutating func goOnComparing(_ subject: ChangedSubject, _ comparison: Comparison, on id: ConnectionID) {
    guard let next = comparison.questions.first else {
      guard let lacking = comparison.lacking.first else { return lookAgainCompared(subject, on: id) }
      return want(subject, lacking, held: comparison.held, on: id)
    }
    let asked = ask(next.key, next.segment, next.head.length, for: .announced(id, subject))
    var comparison = comparison
    comparison.asked = asked
    links[id]?.intake.change(subject) { $0.state = .comparing(comparison) }
  }

  /// Of a leaf that was read and hashed in vain: an honest peer announces a shorter head only where it holds other bytes.
  private static var falseBeginningCost: Int { 16 }

  @discardableResult
  mutating func ask(_ key: StringKey, _ segment: Segment, _ length: UInt64, for question: RootQuestion) -> RootID {
    lastRoot += 1
    let id = RootID(lastRoot)
    roots[id] = question
    out.append(.computeRoot(id, key, segment, length: length))
    return id
  }

  mutating func rootComputed(_ id: RootID, _ root: Digest?) {
    switch roots.removeValue(forKey: id) {
    case nil: break
    case .announced(let link, let subject): compared(subject, id, root, on: link)
    case .supply(let place): supplyRoot(root, at: place)
    }
  }

  private mutating func compared(
    _ subject: ChangedSubject, _ question: RootID, _ root: Digest?, on id: ConnectionID
  ) {
    guard case .comparing(var comparison)? = links[id]?.intake[subject]?.state, comparison.asked == question else {
      return
    }
    dueLinks.insert(id)
    let asked = comparison.questions.removeFirst()
    guard let root else { return failed(subject, on: id) }
    if root == asked.head.root {
      links[id]?.intake.change(subject) { $0.covered.insert(asked.head) }
      comparison.lacking.removeAll { $0 == asked.head }
      comparison.questions.removeAll { $0.head == asked.head }
    } else if !charge(Self.falseBeginningCost, to: id) {
      return
    }
    goOnComparing(subject, comparison, on: id)
  }

  /// Sequences of a journal that have as many records.
  mutating func comparedRead(_ beginnings: [JournalBeginning], of journal: HostJournal, on id: ConnectionID) {
    let subject = ChangedSubject.journal(journal)
    guard case .comparing(var comparison)? = links[id]?.intake[subject]?.state, let head = comparison.lacking.first
    else {
      return
    }
    dueLinks.insert(id)
    let isHeld = beginnings.contains { Frontier<H>(size: $0.length, subtrees: $0.frontier).root == head.root }
    guard isHeld else { return want(subject, head, held: comparison.held, on: id) }
    links[id]?.intake.change(subject) { $0.covered.insert(head) }
    comparison.lacking.removeFirst()
    guard let next = comparison.lacking.first else { return lookAgainCompared(subject, on: id) }
    links[id]?.intake.change(subject) { $0.state = .comparing(comparison) }
    read(.beginnings(journal, length: next.length), for: .compared(id, journal))
  }

  /// All that was announced when it was begun is held; more may have been announced meanwhile.
  private mutating func lookAgainCompared(_ subject: ChangedSubject, on id: ConnectionID) {
    links[id]?.intake.change(subject) { $0.state = .unchecked }
    enqueue(subject, on: id)
  }

  mutating func unreadableAnnounced(_ journal: HostJournal, on id: ConnectionID) { failed(.journal(journal), on: id) }

  // MARK: How far it is held

  /// What isn't durable by a crash is announced again; with other commits they are durable at once.
  private static var cursorInterval: Interval { .seconds(10) }
  static var tellingInterval: Interval { .milliseconds(100) }
  /// What is told at once however often.
  private static var tellingCount: UInt64 { 64 }

  private func present(_ intake: PeerIntake) -> Noted {
    // What waits beyond that many is told of when there is room again.
    Noted(noted: intake.count < limits.announcementsAhead ? intake.last : intake.told.noted, held: intake.held)
  }

  func hasToTell(_ intake: PeerIntake) -> Bool { intake.hasBegun && present(intake) != intake.told }
  func isTellingDue(_ intake: PeerIntake) -> Bool {
    hasToTell(intake)
      && (now >= intake.toldAt + Self.tellingInterval || present(intake).noted - intake.told.noted >= Self.tellingCount)
  }

  mutating func tellNoted(_ id: ConnectionID) {
    guard let intake = links[id]?.intake, isTellingDue(intake) else { return }
    let noted = present(intake)
    links[id]?.intake.told = noted
    links[id]?.intake.toldAt = now
    send(.noted(noted), to: id)
  }

  private func areCursorsBehind(_ id: ConnectionID) -> Bool {
    guard let link = links[id], let cursor = link.intake.cursor else { return false }
    return peers[link.peer].cursor != cursor
  }

  var areCursorsDue: Bool { cursorsDue.map { $0 <= now } ?? false }

  /// Never ahead of what is held: whatever a crash takes is announced again.
  mutating func gatherCursors(into next: inout Gathering) {
    cursorsDue = nil
    for id in links.keys.sorted() where areCursorsBehind(id) {
      guard let link = links[id], link.hasGreeted, let cursor = link.intake.cursor else { continue }
      next.group.cursors[link.peer] = cursor
      next.batch.cursors.append(PeerCursor(peer: peers[link.peer].name, cursor: cursor))
    }
  }

  mutating func cursorsDurable(_ cursors: [Int: FeedCursor]) {
    for (index, cursor) in cursors { peers[index].cursor = cursor }
  }
}
