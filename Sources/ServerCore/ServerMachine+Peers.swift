import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Connections to peers (W6): a peer is whom the configuration names and whose certificate says so. Either side connects;
// of two connections the one stays that was made by who has the lesser name.

extension ServerMachine where H.Value == Digest {
  // MARK: Connecting, for ever

  mutating func peersTick() {
    guard phase == .serving else { return }
    for index in peers.indices where peers[index].link == nil {
      switch peers[index].dialing {
      case .waiting(let until) where until > now: break
      case .underWay: break
      case .idle, .waiting:
        peers[index].dialing = .underWay
        out.append(.dial(index))
      }
    }
    for (id, link) in links {
      let isDue = link.intake.later.leastKey.map { $0 <= now } ?? false
      if isDue || isTellingDue(link.intake) { dueLinks.insert(id) }
    }
  }

  var peerDeadline: Instant? {
    var dues = [flight == nil && commitRetry == nil ? cursorsDue : nil]
    for peer in peers where peer.link == nil { if case .waiting(let until) = peer.dialing { dues.append(until) } }
    for link in links.values {
      dues.append(link.intake.later.leastKey)
      if hasToTell(link.intake) { dues.append(link.intake.toldAt + Self.tellingInterval) }
    }
    return dues.compactMap { $0 }.min()
  }

  mutating func dialed(_ index: Int, _ id: ConnectionID, _ peer: Peer) {
    guard peers.indices.contains(index), case .underWay = peers[index].dialing, connections[id] == nil else {
      return turnAway(index, id, "nobody asked for this connection")
    }
    guard phase == .serving, peers[index].link == nil else {
      peers[index].dialing = .idle
      return turnAway(index, id, "another connection to this server came first")
    }
    connections[id] = Connection(peer: peer, heard: now)
    if heartbeatDue == nil { heartbeatDue = now + heartbeatPeriod }
    let unknown = Caller(allowance: Allowance(limits, at: now))
    callers[peer.holder, default: unknown].enter(id)
    beginLink(id, PeerLink(peer: index, isDialed: true, at: now))
  }

  /// Nobody says goodbye before it said hello.
  private mutating func turnAway(_ index: Int, _ id: ConnectionID, _ why: String) {
    if peers.indices.contains(index) { out.append(.send(id, .peerHello(hello(to: index)))) }
    out.append(.close(id, .superseded, why))
  }

  mutating func undialed(_ index: Int, _ reason: String) {
    guard peers.indices.contains(index), case .underWay = peers[index].dialing else { return }
    if peers[index].link == nil { waitToDial(index, reason) } else { peers[index].dialing = .idle }
  }

  /// A dial that is under way beside it goes on.
  private mutating func stopped(_ link: PeerLink, _ reason: String) {
    if !link.isDialed, case .underWay = peers[link.peer].dialing { return peers[link.peer].lastError = reason }
    waitToDial(link.peer, reason)
  }

  private mutating func waitToDial(_ index: Int, _ reason: String) {
    peers[index].attempts &+= 1
    peers[index].lastError = reason
    let chance = H.leaf(
      "\(settings.name) \(peers[index].name) \(settings.jitterSeed) \(peers[index].attempts)".utf8Span.span.bytes)
    peers[index].dialing = .waiting(until: now + limits.backoff(after: peers[index].attempts, chance: chance.words.0))
  }

  // MARK: Hello

  private mutating func beginLink(_ id: ConnectionID, _ link: PeerLink) {
    links[id] = link
    if let holder = connections[id]?.peer.holder { callers[holder]?.strangers.removeAll { $0 == id } }
    send(.peerHello(hello(to: link.peer)), to: id)
  }

  private func hello(to index: Int) -> PeerHello {
    PeerHello(oldest: 1, newest: 1, name: settings.name, cursor: peers[index].cursor)
  }

  mutating func admitPeer(_ hello: PeerHello, on id: ConnectionID) {
    guard let peer = connections[id]?.peer else { return }
    guard peer.servers.contains(hello.name) else {
      return reject(id, peer, .nameNotYours, "the certificate doesn't name the server \(hello.name)")
    }
    guard let index = peers.firstIndex(where: { $0.name == hello.name }), hello.name != settings.name else {
      return reject(id, peer, .nameNotYours, "\(hello.name) isn't among the peers of \(settings.name)")
    }
    guard Self.isSpoken(from: hello.oldest, to: hello.newest) else {
      return reject(id, peer, .versionUnsupported, "this server speaks version \(Self.protocolVersion)")
    }
    beginLink(id, PeerLink(peer: index, isDialed: false, at: now))
    greeted(id, hello)
  }

  private mutating func greeted(_ id: ConnectionID, _ hello: PeerHello) {
    guard let link = links[id] else { return }
    let name = peers[link.peer].name
    guard hello.name == name, Self.isSpoken(from: hello.oldest, to: hello.newest) else {
      return cut(id, .versionUnsupported, "\(hello.name) speaks versions \(hello.oldest) to \(hello.newest)")
    }
    if let other = peers[link.peer].link, other != id {
      // One that has said nothing for so long gives way to any newer one.
      let isOld = connections[other].map { now - $0.heard >= heartbeatPeriod } ?? true
      guard isOld || link.isDialed == (settings.name < name) else {
        return cut(id, .superseded, "another connection to this server came first")
      }
      peers[link.peer].link = nil
      cut(other, .superseded, "a newer connection took over")
    }
    peers[link.peer].link = id
    // One that is under way is answered yet.
    if link.isDialed { peers[link.peer].dialing = .idle }
    peers[link.peer].attempts = 0
    peers[link.peer].lastError = nil
    links[id]?.hasGreeted = true
    beginFeed(from: hello.cursor, on: id)
    out.append(.report(.peerConnected(name, isDialed: link.isDialed)))
  }

  mutating func linkEnded(_ id: ConnectionID, _ link: PeerLink, _ reason: String) {
    for channel in link.intake.channels.values.sorted() { end(channel, reason) }
    for subject in wantedOn.filter({ $0.value == id }).keys.sorted(by: { "\($0)" < "\($1)" }) {
      release(subject, from: id)
    }
    dueLinks.remove(id)
    supplyingLinks.remove(id)
    let isInUse = peers[link.peer].link == id
    if isInUse {
      peers[link.peer].link = nil
      peers[link.peer].noteAway(feed.last, at: now)
    }
    if peers[link.peer].link == nil, isInUse || link.isDialed { stopped(link, reason) }
    if link.hasGreeted { out.append(.report(.peerDisconnected(peers[link.peer].name, reason))) }
  }

  // MARK: Frames

  mutating func takeFromPeer(_ frame: Frame, on id: ConnectionID) {
    dueLinks.insert(id)
    if let channel = links[id]?.takeChannel() { return take(frame, of: channel, on: id) }
    switch frame {
    case .ping(let nonce):
      if charge(1, to: id) { links[id]?.feed.ask(nonce) }
      return
    case .pong(let nonce):
      if charge(1, to: id) { answered(nonce, on: id) }
      return
    case .goodbye(let code, let text): return cut(id, code, "goodbye: \(text)")
    case .peerHello(let hello) where links[id]?.hasGreeted == false: return greeted(id, hello)
    default: break
    }
    guard links[id]?.hasGreeted == true else { return violated(id, "a frame before the hello of a server") }
    switch frame {
    case .feed(let start): feedBegins(start, on: id)
    case .askTrie(let prefix): trieAsked(prefix, on: id)
    case .trieParts(let digests): trieParts(digests, on: id)
    case .trieBucket(let bucket): trieBucket(bucket, on: id)
    case .holdings(let digest):
      if digest != links[id]?.intake.holdings || charge(1, to: id) { links[id]?.intake.holdings = digest }
    case .announce(let announcement): announced(announcement, on: id)
    case .noted(let noted): take(noted, on: id)
    case .channel(let channel): links[id]?.expect(channel)
    case .openChannel(let opening): if charge(1, to: id) { channelOpened(opening, on: id) }
    case .closeChannel(let end): if charge(1, to: id) { channelClosed(end, on: id) }
    case .wantRecords(let wanted): want(wanted, on: id)
    case .wantBytes(let wanted): want(wanted, on: id)
    default: violated(id, "a frame that belongs to a channel, and none was named")
    }
  }

  private mutating func take(_ noted: Noted, on id: ConnectionID) {
    guard let feed = links[id]?.feed else { return }
    if noted.noted <= feed.noted, noted.held <= feed.held, !charge(1, to: id) { return }
    if links[id]?.feed.take(noted) == false { return violated(id, "more is noted than was announced") }
    noteLag(id)
  }

  mutating func takeFromPeer(_ header: PayloadHeader, _ payload: PayloadID, on id: ConnectionID) {
    heard(id)
    dueLinks.insert(id)
    guard let number = links[id]?.takeChannel() else {
      out.append(.drop(payload))
      return violated(id, "payload that belongs to a channel, and none was named")
    }
    // Its channel may have ended meanwhile, or what it is of been given up: then only its credit counts.
    guard let channel = links[id]?.intake.channels[number], let facts = connections[channel]?.session?.facts else {
      out.append(.drop(payload))
      charge(1, to: id)
      return
    }
    let key = FileKey(host: facts.host, file: header.file)
    guard isWanted(key, on: channel) else {
      out.append(.drop(payload))
      let length = UInt64(max(0, header.length))
      guard connections[channel]?.session?.credit.consume(length) == true else {
        return violated(id, "a payload frame beyond its credit")
      }
      release(length, to: channel)
      charge(1, to: id)
      return
    }
    links[id]?.intake.change(.file(key)) { $0.reached = max($0.reached, header.end) }
    links[id]?.intake.noteReceived(header)
    receive(header, payload, on: channel)
  }

  private mutating func take(_ frame: Frame, of number: UInt32, on id: ConnectionID) {
    if let channel = links[id]?.intake.channels[number] {
      switch frame {
      case .records, .journalQuery, .extendJournal: receive(frame, on: channel)
      case .extend(let base):
        guard let facts = connections[channel]?.session?.facts else { return }
        if isWanted(FileKey(host: facts.host, file: base.file), on: channel) { receive(frame, on: channel) }
      case .refusal(let refusal): refused(refusal, on: channel, of: id)
      default: violated(id, "a frame that this side of a channel doesn't take")
      }
    } else if links[id]?.supplies[number] != nil {
      takeForSupply(frame, on: id, number)
    } else {
      charge(1, to: id)
    }
  }

  private mutating func refused(_ refusal: Refusal, on channel: ConnectionID, of id: ConnectionID) {
    if let facts = connections[channel]?.session?.facts, let file = refusal.file,
      !isWanted(FileKey(host: facts.host, file: file), on: channel), !charge(1, to: id)
    {
      return
    }
    unsupplied(refusal, on: channel)
  }

  private mutating func channelClosed(_ end: ChannelEnd, on id: ConnectionID) {
    if let channel = links[id]?.intake.channels[end.channel] {
      self.end(channel, end.text)
    } else {
      links[id]?.supplies[end.channel] = nil
    }
  }

  /// A frame of this server for the other side of a channel.
  mutating func send(_ frame: Frame, on channel: (link: ConnectionID, number: UInt32), to id: ConnectionID) {
    connections[channel.link]?.hasSent = true
    out.append(.send(channel.link, .channel(channel.number)))
    out.append(.send(channel.link, frame))
    if case .refusal(let refusal) = frame { unsupplied(refusal, on: id) }
  }

  mutating func channelCut(_ channel: (link: ConnectionID, number: UInt32), _ code: RefusalCode, _ text: String) {
    guard links[channel.link] != nil else { return }
    send(.closeChannel(ChannelEnd(channel: channel.number, code: code, text: text)), to: channel.link)
  }

  // MARK: At the end of each step

  mutating func synchronise() {
    if dueLinks.isEmpty { return }
    let ids = dueLinks.sorted()
    dueLinks = []
    for id in ids where links[id]?.hasGreeted == true {
      lookAtAnnounced(id)
      askForWaiting(id)
      goOnWalking(id)
      announceNext(id)
      answerTrie(id)
      supplyAll(id)
      tellNoted(id)
    }
  }

  /// A commit made these durable: peers are told of them, and may have announced them.
  mutating func changed(_ group: GroupCommit) {
    var subjects: [ChangedSubject] = []
    for run in group.runs { subjects.append(.journal(run.after.key.journal)) }
    for row in group.rows where row.end != nil { subjects.append(.file(row.row.key.key)) }
    if !subjects.isEmpty { noteChanges() }
    let recorded = group.rows.lazy.filter { $0.end == nil }.map { ChangedSubject.file($0.row.key.key) }
    for id in links.keys.sorted() {
      for subject in recorded where links[id]?.intake[subject]?.awaitsRecords == true { lookAgain(subject, on: id) }
      if subjects.isEmpty { continue }
      links[id]?.feed.isBehind = true
      for subject in subjects { lookAgain(subject, on: id) }
      dueLinks.insert(id)
    }
  }
}
