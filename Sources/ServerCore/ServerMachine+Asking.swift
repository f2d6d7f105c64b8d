import JournalModel
import JournalStore
import WireProtocol

// What is lacking is asked for, of one peer at a time (M3): each byte moves once. Who dribbles is passed over.

extension ServerMachine where H.Value == Digest {
  mutating func want(_ subject: ChangedSubject, _ head: TreeHead, held: [TreeHead], on id: ConnectionID) {
    links[id]?.intake.change(subject) { $0.state = .waiting(head, held: held) }
    let isShort = isShort(head, beyond: held)
    links[id]?.intake.waiting.append(subject, isShort: isShort)
    askForWaiting(id)
  }

  mutating func askForWaiting(_ id: ConnectionID) {
    // Those for which no channel is free let the others by.
    var passed: [(ChangedSubject, isShort: Bool)] = []
    let limits = limits
    while passed.count < limits.wantsAhead, let subject = links[id]?.intake.nextToAsk(limits) {
      guard case .waiting(let head, let held)? = links[id]?.intake[subject]?.state else { continue }
      if comesElsewhere(subject, on: id) {
        later(subject, at: now + limits.peerPatience, on: id)
        continue
      }
      switch channel(for: subject, on: id) {
      case .open(let channel, let number): ask(for: subject, head, held: held, on: channel, number, id)
      case .none: failed(subject, on: id)
      case .later: passed.append((subject, isShort(head, beyond: held)))
      }
    }
    for (subject, isShort) in passed.reversed() { links[id]?.intake.waiting.prepend(subject, isShort: isShort) }
  }

  private func isShort(_ head: TreeHead, beyond held: [TreeHead]) -> Bool {
    head.lacks(beyond: held) <= UInt64(max(1, limits.payloadFrameSize))
  }

  /// Who brought less in that time is slow: of a file, or in all; and for a while no other waits for who was.
  private static var slowAfter: Interval { .seconds(5) }
  private static var leastProgress: UInt64 { 65_536 }
  private static var slowFor: Interval { .seconds(60) }
  /// What waits so long for its turn with one peer is asked of another.
  private static var turnAfter: Interval { .seconds(60) }

  /// Whether another peer is sending it, and goes on doing so: each byte moves once. Who dribbles is passed over; that
  /// others come first there is no reason, as long as they come.
  private mutating func comesElsewhere(_ subject: ChangedSubject, on id: ConnectionID) -> Bool {
    guard let other = supplier(of: subject), other != id, links[other] != nil else { return false }
    if isSlow(other), !isSlow(id), links[other]?.intake[subject]?.hasCome == false {
      cancel(subject, on: other)
      return false
    }
    let lack = links[id]?.intake[subject]
    let patience = Interval(nanoseconds: Self.slowAfter.nanoseconds << min(lack?.takeovers ?? 0, 7))
    guard let before = lack?.elsewhere, now - before.since >= patience else {
      if lack?.elsewhere == nil {
        let present = progress(of: subject, on: other)
        links[id]?.intake.change(subject) { $0.elsewhere = present }
      }
      return true
    }
    links[id]?.intake.change(subject) { $0.elsewhere = nil }
    switch pace(of: subject, on: other, since: before) {
    case .fair: return true
    case .slow: links[other]?.wasSlow = now
    case .waiting: break
    }
    links[id]?.intake.change(subject) { $0.takeovers += 1 }
    cancel(subject, on: other)
    return false
  }

  private func progress(of subject: ChangedSubject, on id: ConnectionID) -> Elsewhere {
    let intake = links[id]?.intake
    let come =
      switch subject {
      case .journal(let journal): heads(of: journal).map(\.length).max() ?? 0
      case .file: intake?[subject]?.reached ?? 0
      }
    return Elsewhere(since: now, come: come, ofLink: intake?.received ?? 0)
  }

  private enum Pace { case fair, slow, waiting }

  /// How what is wanted of a link gets on. Its files come beside each other, one of each lane of a channel.
  private func pace(of subject: ChangedSubject, on id: ConnectionID, since before: Elsewhere) -> Pace {
    let present = progress(of: subject, on: id)
    let gain = present.come.saturatingSubtracting(before.come)
    guard case .file = subject else { return gain > 0 ? .fair : .slow }
    // It was refused behind something that came.
    guard let lack = links[id]?.intake[subject], case .wanted(_, let head, _) = lack.state, let asked = lack.asked
    else { return .waiting }
    // Asked for anew since, or the last of it is on its way to the disk here.
    if asked > before.since || lack.reached >= head.length || gain >= Self.leastProgress { return .fair }
    let ofLink = present.ofLink.saturatingSubtracting(before.ofLink)
    if ofLink < Self.leastProgress { return .slow }
    guard lack.hasCome else { return now - asked < Self.turnAfter ? .fair : .waiting }
    let lanes = UInt64(max(1, links[id]?.intake.wantedOn.count ?? 1) * Supply.Lane.allCases.count)
    return gain.saturatingMultiplied(by: 2 * lanes) >= ofLink ? .fair : .slow
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
      $0.reached = 0
      $0.asked = now
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

  mutating func endWant(_ subject: ChangedSubject, on id: ConnectionID) {
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
  mutating func failed(_ subject: ChangedSubject, on id: ConnectionID) {
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
}
