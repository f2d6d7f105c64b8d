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

  private mutating func later(_ subject: ChangedSubject, at time: Instant, on id: ConnectionID) {
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
      links[id]?.intake.change(.file(key)) { if case .unchecked = $0.state { $0.state = .reading } }
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
      guard links[id]?.intake[subject]?.isQueued == true else { continue }
      links[id]?.intake.change(subject) {
        $0.isQueued = false
        if case .reading = $0.state { $0.state = .unchecked }
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
    case .supply(let link, let channel): supplyRoot(root, on: link, channel)
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

  // MARK: Asking

  private mutating func want(_ subject: ChangedSubject, _ head: TreeHead, held: [TreeHead], on id: ConnectionID) {
    links[id]?.intake.change(subject) { $0.state = .waiting(head, held: held) }
    links[id]?.intake.waiting.append(subject)
    askForWaiting(id)
  }

  mutating func askForWaiting(_ id: ConnectionID) {
    while links[id]?.intake.wanted ?? .max < limits.wantsAhead, let subject = links[id]?.intake.waiting.popFirst() {
      guard case .waiting(let head, let held)? = links[id]?.intake[subject]?.state else { continue }
      if comesElsewhere(subject, holding: held.map(\.length).max() ?? 0, on: id) {
        later(subject, at: now + limits.peerPatience, on: id)
        continue
      }
      switch channel(for: subject, on: id) {
      case .open(let channel, let number): ask(for: subject, head, held: held, on: channel, number, id)
      case .none: failed(subject, on: id)
      case .later: return links[id]?.intake.waiting.prepend(subject) ?? ()
      }
    }
  }

  /// A file of which less came in that time is asked of another peer; and for a while no other waits for who was so slow.
  private static var slowAfter: Interval { .seconds(5) }
  private static var leastProgress: UInt64 { 65_536 }
  private static var slowFor: Interval { .seconds(60) }

  /// Whether another peer is sending it, and goes on doing so: each byte moves once. Who dribbles is passed over.
  private mutating func comesElsewhere(_ subject: ChangedSubject, holding length: UInt64, on id: ConnectionID) -> Bool {
    guard let other = supplier(of: subject), other != id, links[other] != nil else { return false }
    if isSlow(other), !isSlow(id) {
      cancel(subject, on: other)
      return false
    }
    let lack = links[id]?.intake[subject]
    let patience = Interval(nanoseconds: Self.slowAfter.nanoseconds << min(lack?.takeovers ?? 0, 7))
    guard let known = lack?.elsewhere, now - known.since >= patience else {
      if lack?.elsewhere == nil { links[id]?.intake.change(subject) { $0.elsewhere = (now, length) } }
      return true
    }
    var least: UInt64 = 1
    if case .file = subject { least = Self.leastProgress }
    links[id]?.intake.change(subject) { $0.elsewhere = nil }
    if length >= known.holding.saturatingAdding(least) { return true }
    links[id]?.intake.change(subject) { $0.takeovers += 1 }
    links[other]?.wasSlow = now
    cancel(subject, on: other)
    return false
  }

  private func isSlow(_ id: ConnectionID) -> Bool { links[id]?.wasSlow.map { now - $0 < Self.slowFor } ?? false }

  private mutating func cancel(_ subject: ChangedSubject, on id: ConnectionID) {
    guard case .wanted(let channel, _, _)? = links[id]?.intake[subject]?.state, case .file(let key) = subject else {
      return failed(subject, on: id)
    }
    withdraw(key, from: channel)
  }

  /// The peer is told, so that it doesn't go on with what is dropped here.
  mutating func withdraw(_ file: FileKey, from channel: ConnectionID) {
    send(.refusal(Refusal(file: file.file, code: .busy, length: 0, text: "another one supplies it")), to: channel)
  }

  /// The link on which it was asked for, or on which the last bytes of what was asked for are still on their way.
  private func supplier(of subject: ChangedSubject) -> ConnectionID? {
    if let link = wantedOn[subject] { return link }
    guard case .file(let key) = subject, let first = stringIndex[key] else { return nil }
    for index in all(first) {
      if let owner = strings[index].owner, let link = connections[owner]?.channel?.link { return link }
    }
    return nil
  }

  /// It isn't on its way any more: those that wait for that ask for it. One that failed there keeps its time.
  mutating func release(_ subject: ChangedSubject, from id: ConnectionID) {
    guard wantedOn[subject] == id else { return }
    wantedOn[subject] = nil
    for other in links.keys.sorted() where links[other]?.intake[subject]?.elsewhere != nil {
      lookAgain(subject, on: other)
    }
  }

  private mutating func ask(
    for subject: ChangedSubject, _ head: TreeHead, held: [TreeHead], on channel: ConnectionID, _ number: UInt32,
    _ id: ConnectionID
  ) {
    links[id]?.intake.noteWanted(on: channel, 1)
    wantedOn[subject] = id
    links[id]?.intake.change(subject) {
      $0.elsewhere = nil
      $0.hasCome = false
    }
    let having = held.count { $0.length >= head.length }
    links[id]?.intake.change(subject) { $0.state = .wanted(channel, head, having: having) }
    // From now on it is waited for.
    connections[channel]?.heard = now
    switch subject {
    case .journal: send(.wantRecords(WantedRecords(channel: number, head: head)), to: id)
    case .file(let key):
      for index in stringIndex[key].map({ all($0) }) ?? [] { takeFromOtherChannel(index, channel) }
      beginAnew(key.file, on: channel)
      send(.wantBytes(WantedBytes(channel: number, file: key.file, head: head, held: held)), to: id)
    }
  }

  private mutating func endWant(_ subject: ChangedSubject, on id: ConnectionID) {
    guard case .wanted(let channel, _, _)? = links[id]?.intake[subject]?.state else { return }
    links[id]?.intake.noteWanted(on: channel, -1)
    let hasCome = links[id]?.intake[subject]?.hasCome ?? true
    links[id]?.intake.change(subject) {
      $0.state = .unchecked
      $0.attempts = 0
    }
    release(subject, from: id)
    // It came from its host, and may be yet to come from the peer.
    if case .file(let key) = subject, !hasCome { withdraw(key, from: channel) }
    dueLinks.insert(id)
  }

  /// It couldn't be had, or not be judged: again after a while. Where much is announced that can't be had it is given up
  /// until the feed is told again from before it: what is behind it shall not wait for it.
  private mutating func failed(_ subject: ChangedSubject, on id: ConnectionID) {
    guard let lack = links[id]?.intake[subject] else { return }
    if case .wanted(let channel, _, _) = lack.state { links[id]?.intake.noteWanted(on: channel, -1) }
    release(subject, from: id)
    dueLinks.insert(id)
    if isGivenUp(subject, of: links[id]?.intake.count ?? 0) { return links[id]?.intake.giveUp(subject) ?? () }
    links[id]?.intake.change(subject) { $0.attempts += 1 }
    let delay = Interval(nanoseconds: limits.peerPatience.nanoseconds << UInt64(min(lack.attempts, 5)))
    later(subject, at: now + delay, on: id)
  }

  /// Files before journals: without its journal's records no file can be had, so that each would fail in its turn.
  private func isGivenUp(_ subject: ChangedSubject, of count: Int) -> Bool {
    switch subject {
    case .file: 2 * count > limits.announcementsAhead
    case .journal: count >= limits.announcementsAhead
    }
  }

  /// One side of a channel refuses what the other sends, or what it asks for.
  mutating func unsupplied(_ refusal: Refusal, on id: ConnectionID) {
    guard let link = connections[id]?.channel?.link, let facts = connections[id]?.session?.facts else { return }
    guard let file = refusal.file else {
      // Another channel may go on with another sequence.
      return cut(id, .other, "its records can't be had: \(refusal.text)")
    }
    givenUp(FileKey(host: facts.host, file: file), on: id, link)
  }

  /// Nothing more of it is taken on this channel.
  func isWanted(_ file: FileKey, on id: ConnectionID) -> Bool {
    guard let link = connections[id]?.channel?.link, case .wanted(id, _, _)? = links[link]?.intake[.file(file)]?.state
    else { return false }
    return true
  }

  mutating func givenUp(_ file: FileKey, on id: ConnectionID, _ link: ConnectionID) {
    if isWanted(file, on: id) { failed(.file(file), on: link) }
  }

  // MARK: Channels

  private enum Channel {
    case open(ConnectionID, UInt32)
    case none
    /// When others aren't used any more.
    case later
  }
  private mutating func channel(for subject: ChangedSubject, on id: ConnectionID) -> Channel {
    let known: ConnectionID?
    switch subject {
    case .journal(let journal): known = links[id]?.intake.byJournal[journal]
    case .file(let key): known = links[id]?.intake.byHost[key.host]
    }
    if let known, let number = connections[known]?.channel?.number { return .open(known, number) }
    guard let (journal, key) = journal(for: subject, on: id) else { return .none }
    if links[id]?.intake.channels.count ?? 0 >= PeerLink.mostChannels {
      let idle = links[id]?.intake.channels.values.filter { links[id]?.intake.wantedOn[$0] == nil }
      let oldest = idle?.min { (connections[$0]?.heard ?? now, $0) < (connections[$1]?.heard ?? now, $1) }
      guard let oldest else { return .later }
      cut(oldest, .other, "others are needed")
    }
    guard let channel = openChannel(journal, key, on: id), let number = connections[channel]?.channel?.number else {
      return .none
    }
    // Apart from each other: of two channels that bring records of one sequence the older one ends, and with it what of
    // files is on its way.
    switch subject {
    case .journal: links[id]?.intake.byJournal[journal] = channel
    case .file: links[id]?.intake.byHost[journal.host] = channel
    }
    return .open(channel, number)
  }

  private func journal(for subject: ChangedSubject, on id: ConnectionID) -> (HostJournal, Digest)? {
    switch subject {
    case .journal(let journal): return links[id]?.intake[subject]?.publicKey.map { (journal, $0) }
    case .file(let key):
      // What promises its bytes comes first.
      guard let tally = tallyIndex[key.host], let journal = tallies[tally].journals.last,
        let first = sequences(of: journal).first
      else { return nil }
      return (journal, journals[first].held.publicKey)
    }
  }

  private mutating func openChannel(_ journal: HostJournal, _ key: Digest, on id: ConnectionID) -> ConnectionID? {
    // A key under which nothing came proves nothing.
    if sequences(of: journal).contains(where: { journals[$0].held.publicKey != key }) {
      endUnfoundedChannels(of: journal, "the journal is supplied under another key")
    }
    guard let peer = connections[id]?.peer, verifier.objection(toKey: key) == nil,
      sequences(of: journal).allSatisfy({ journals[$0].held.publicKey == key }),
      let number = links[id]?.nextChannel()
    else { return nil }
    lastChannel += 1
    let channel = ConnectionID.channel(lastChannel)
    connections[channel] = Connection(peer: peer, heard: now, channel: (id, number))
    links[id]?.intake.channels[number] = channel
    send(.openChannel(ChannelOpening(channel: number, journal: journal, publicKey: key)), to: id)
    let hello = Hello(oldest: 1, newest: 1, host: journal.host, journal: journal.journal, publicKey: key)
    open(channel, hello, journal, tally: tally(of: journal.host))
    return channel
  }

  /// The channel is gone: what was asked for on it is asked for again.
  mutating func channelEnded(_ channel: (link: ConnectionID, number: UInt32), _ id: ConnectionID) {
    guard let intake = links[channel.link]?.intake else { return }
    links[channel.link]?.intake.channels[channel.number] = nil
    for (journal, used) in intake.byJournal where used == id { links[channel.link]?.intake.byJournal[journal] = nil }
    for (host, used) in intake.byHost where used == id { links[channel.link]?.intake.byHost[host] = nil }
    for subject in intake.wanted(on: id) { failed(subject, on: channel.link) }
    links[channel.link]?.intake.wantedOn[id] = nil
    dueLinks.insert(channel.link)
  }

  /// Before which a feed isn't told again; while what was asked for is on its way.
  private static var leastAge: Interval { .seconds(60) }
  private static var leastAgeAsking: Interval { .seconds(600) }

  /// With the heartbeats: who doesn't supply what was asked for, channels that nobody needs, and feeds of which something
  /// was given up. Over a slow link a frame takes long: what comes on others meanwhile counts for a while.
  mutating func reviewChannels() {
    for id in links.keys.sorted() {
      guard let intake = links[id]?.intake, let heard = connections[id]?.heard else { continue }
      for channel in intake.channels.values.sorted() {
        guard let since = connections[channel]?.heard, now - since >= limits.silence else { continue }
        if intake.wantedOn[channel] == nil {
          cut(channel, .silence, "nothing is lacking")
        } else if now - heard >= limits.silence || now - since >= Interval(nanoseconds: 6 * limits.silence.nanoseconds)
        {
          cut(channel, .silence, "what was asked for didn't come")
        }
      }
      guard intake.floor != nil, intake.last == intake.end, let age = links[id].map({ now - $0.began }) else {
        continue
      }
      // What is lacking may wait for what was given up, as a file does for its journal's records.
      let isDue = age >= (intake.wanted == 0 ? Self.leastAge : Self.leastAgeAsking)
      if isDue { cut(id, .other, "announced again from what was given up") }
    }
  }

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
