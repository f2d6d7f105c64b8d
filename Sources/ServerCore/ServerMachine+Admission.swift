import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Admission (W5, mutual mode), the life of a connection.

extension ServerMachine where H.Value == Digest {
  static var protocolVersion: UInt16 { 1 }
  /// Connections of one host at a time: a host needs one for each of its journals.
  static var connectionsPerHost: Int { 8 }
  /// Connections of one certificate that haven't said hello yet.
  static var strangersPerCertificate: Int { 4 }

  mutating func accept(_ id: ConnectionID, _ peer: Peer) {
    guard connections[id] == nil else { return }
    guard phase == .serving else {
      let code: RefusalCode = phase == .stopping ? .shuttingDown : .busy
      out.append(.close(id, code, "the server is not serving"))
      return
    }
    connections[id] = Connection(peer: peer, heard: now)
    if heartbeatDue == nil { heartbeatDue = now + heartbeatPeriod }
    let unknown = Caller(allowance: Allowance(limits, at: now))
    callers[peer.holder, default: unknown].enter(id)
    guard charge(Self.connectionCost, to: id) else { return }
    if let strangers = callers[peer.holder]?.strangers, strangers.count > Self.strangersPerCertificate {
      reject(strangers[0], peer, .busy, "too many connections of one certificate that say no hello")
    }
  }

  // MARK: What brings nothing

  /// A handshake takes a millisecond or two, and the host's next attempt comes after a while.
  private static var connectionCost: Int { 64 }
  /// Files asked about for the price of a ping.
  private static var filesAsked: Int { 64 }

  /// Lets a connection pay for what brought nothing. False when its certificate's allowance is used up: it is cut off.
  @discardableResult
  mutating func charge(_ cost: Int, to id: ConnectionID) -> Bool {
    guard let connection = connections[id] else { return false }
    let peer = connection.peer
    if callers[peer.holder]?.allowance.take(cost, at: now) ?? true { return true }
    let text = "too much that brings nothing: empty, repeated or unasked frames, key updates, connections"
    if connection.session?.isReported != true { out.append(.report(.peerRefused(peer, .quota, text))) }
    cut(id, .quota, text)
    return false
  }

  private mutating func leave(_ id: ConnectionID, _ peer: Peer) {
    callers[peer.holder]?.leave(id)
    // One that is remembered no longer would find its allowance full anyway.
    if callers[peer.holder]?.connections == 0, callers[peer.holder]?.allowance.isFull(at: now) == true {
      callers[peer.holder] = nil
    }
  }

  mutating func receive(_ frame: Frame, on id: ConnectionID) {
    guard connections[id] != nil else { return }
    heard(id)
    if links[id] != nil { return takeFromPeer(frame, on: id) }
    guard connections[id]?.session != nil else {
      switch frame {
      case .hello(let hello): admit(hello, on: id)
      case .peerHello(let hello): admitPeer(hello, on: id)
      default: violated(id, "a frame before hello")
      }
      return
    }
    switch frame {
    // What a peer supplies of files goes on with no sequence: their host may be delivering that itself.
    case .resumeQuery, .extend: if !id.isChannel { goOnAsTold(id) }
    case .records: goOnAsTold(id)
    default: break
    }
    arrive(frame, on: id)
  }

  mutating func take(_ frame: Frame, _ decoded: [Record?], on id: ConnectionID) {
    switch frame {
    case .records(let records): take(records, decoded, on: id)
    case .journalQuery(let length): queryJournal(upTo: length, on: id)
    case .extendJournal(let head): if charge(1, to: id) { extendJournal(head, on: id) }
    case .extend(let base): if charge(1, to: id) { extend(base, on: id) }
    case .resumeQuery(let files): if charge(1 + files.count / Self.filesAsked, to: id) { query(files, on: id) }
    case .ping(let nonce): if charge(1, to: id) { send(.pong(nonce: nonce), to: id) }
    case .pong: charge(1, to: id)
    case .goodbye(let code, let text): cut(id, code, "goodbye: \(text)")
    case .hello: violated(id, "a second hello")
    case .payload: violated(id, "a payload frame without its bytes")
    case .welcome, .recordsDurable, .journalAnswer, .resumeAnswer, .payloadDurable, .position, .credit, .refusal:
      violated(id, "a frame that only servers send")
    case .peerHello, .feed, .announce, .noted, .openChannel, .channel, .closeChannel, .wantRecords, .wantBytes,
      .askTrie, .trieParts, .trieBucket, .holdings:
      violated(id, "a frame that servers send one another")
    }
  }

  /// Whether one who speaks these versions of the protocol is understood.
  static func isSpoken(from oldest: UInt16, to newest: UInt16) -> Bool {
    oldest <= protocolVersion && newest >= protocolVersion
  }

  private mutating func admit(_ hello: Hello, on id: ConnectionID) {
    guard let peer = connections[id]?.peer else { return }
    guard Self.isSpoken(from: hello.oldest, to: hello.newest) else {
      return reject(id, peer, .versionUnsupported, "this server speaks version \(Self.protocolVersion)")
    }
    guard peer.names.contains(hello.host.text) else {
      return reject(id, peer, .nameNotYours, "the certificate doesn't name \(hello.host)")
    }
    if let objection = verifier.objection(toKey: hello.publicKey) {
      return reject(id, peer, .badSignature, objection)
    }
    let key = HostJournal(host: hello.host, journal: hello.journal)
    endUnfoundedChannels(of: key)
    let held = sequences(of: key)
    if let first = held.first, journals[first].held.publicKey != hello.publicKey {
      return reject(id, peer, .journalFork, "journal \(hello.journal) is held under another key")
    }
    if let first = held.first, held.count == 1, let why = journals[first].apart {
      return reject(id, peer, .other, Self.apart(why))
    }
    let tally = tally(of: hello.host)
    guard tallies[tally].connections < Self.connectionsPerHost else {
      return reject(id, peer, .busy, "too many connections of \(hello.host)")
    }
    open(id, hello, key, tally: tally)
  }

  /// A peer that began nothing yet of a journal, perhaps under another key, keeps no host out.
  mutating func endUnfoundedChannels(of journal: HostJournal, _ why: String = "its host is connected") {
    for index in sequences(of: journal) where journals[index].length == 0 {
      if let id = journals[index].connection, id.isChannel { cut(id, .superseded, why) }
    }
  }

  mutating func open(_ id: ConnectionID, _ hello: Hello, _ journal: HostJournal, tally: Int) {
    tallies[tally].sessions.append(id)
    if tallies[tally].isPaused { pauseReading(id) }
    let credit = CreditLine(base: newBase)
    bases += credit.base
    let facts = SessionFacts(journal: journal, publicKey: hello.publicKey, tally: tally)
    let heads = heads(of: journal)
    let nothing = TreeHead(length: 0, root: H.empty)
    let session = Session(
      facts: facts,
      told: heads.count > 1 ? nil : heads.first.map { TreeHead(length: $0.length, root: $0.root) } ?? nothing,
      credit: credit, courtesy: Allowance(courtesyLimits, at: now))
    connections[id]?.session = session
    if let holder = connections[id]?.peer.holder { callers[holder]?.strangers.removeAll { $0 == id } }
    heard(id)
    connections[id]?.session?.position = feed.position
    let welcome = Welcome(
      version: Self.protocolVersion, server: settings.name, position: feed.position,
      isContinued: hello.position.map(feed.contains) ?? false, heads: heads, credit: credit.granted)
    send(.welcome(welcome), to: id)
    if id.isChannel { return }
    let records = heads.map(\.length).max() ?? 0
    out.append(.report(.hostConnected(hello.host, journal: hello.journal, records: records)))
  }

  /// Closes before admission.
  mutating func reject(_ id: ConnectionID, _ peer: Peer, _ code: RefusalCode, _ text: String) {
    out.append(.report(.peerRefused(peer, code, text)))
    cut(id, code, text)
  }

  /// Closes for a broken rule.
  mutating func violated(_ id: ConnectionID, _ text: String) {
    guard let peer = connections[id]?.peer else { return }
    reject(id, peer, .protocolViolation, text)
  }

  mutating func endBroken(_ id: ConnectionID, _ text: String) {
    guard let peer = connections[id]?.peer else { return }
    out.append(.report(.peerRefused(peer, .protocolViolation, text)))
    end(id, text)
  }

  mutating func cut(_ id: ConnectionID, _ code: RefusalCode, _ text: String) {
    guard connections[id] != nil else { return }
    if let channel = connections[id]?.channel {
      channelCut(channel, code, text)
    } else {
      out.append(.close(id, code, text))
    }
    end(id, text)
  }

  /// Forgets a connection. What it sent and no promise reaches is discarded; what is verified goes on.
  mutating func end(_ id: ConnectionID, _ reason: String) {
    guard let connection = connections.removeValue(forKey: id) else { return }
    if let channel = connection.channel { channelEnded(channel, id) } else { leave(id, connection.peer) }
    if let link = links.removeValue(forKey: id) { return linkEnded(id, link, reason) }
    guard let session = connection.session else { return }
    drop(session.inbox, tally: session.facts.tally)
    endCourses(session)
    for index in session.owned.sorted() { abandon(index, of: id) }
    let facts = session.facts
    forgetCredit(of: id, session.credit)
    tallies[facts.tally].sessions.removeAll { $0 == id }
    leaveSequence(id, session)
    guard id.isChannel else { return out.append(.report(.hostDisconnected(facts.host, reason))) }
    if tallies[facts.tally].isNobody, tallyIndex.removeValue(forKey: facts.host) != nil {
      freeTallies.append(facts.tally)
    }
  }

  mutating func heard(_ id: ConnectionID) {
    connections[id]?.heard = now
    if id.isChannel { return }
    if let tally = connections[id]?.session?.facts.tally { tallies[tally].lastSeen = now }
  }

  mutating func send(_ frame: Frame, to id: ConnectionID) {
    if let channel = connections[id]?.channel { return send(frame, on: channel, to: id) }
    if frame.saysWhatIsHeld { tellPosition(to: id) }
    connections[id]?.hasSent = true
    out.append(.send(id, frame))
  }

  /// A host that comes again shows it, and is told whether this is still the store that said so (P3): so what is held is
  /// never said without it.
  private mutating func tellPosition(to id: ConnectionID) {
    guard let session = connections[id]?.session, let position = feed.position, position != session.position else {
      return
    }
    connections[id]?.session?.position = position
    out.append(.send(id, .position(position)))
  }

  /// A connection to a peer is always read: two sides that both stopped reading would hang. What comes on its channels is
  /// bounded by what was granted there.
  mutating func pauseReading(_ id: ConnectionID) { if !id.isChannel { out.append(.pause(id)) } }
  mutating func resumeReading(_ id: ConnectionID) { if !id.isChannel { out.append(.resume(id)) } }

  // MARK: Heartbeats (W4)

  var heartbeatPeriod: Interval { Interval(nanoseconds: max(1, limits.silence.nanoseconds / 4)) }

  /// Cuts off who is silent, and lets those hear something who were told nothing: a host that sends a long extent over a
  /// slow link asks nothing meanwhile.
  mutating func beat() {
    for id in connections.keys.sorted() where !id.isChannel {
      guard let connection = connections[id] else { continue }
      if let tally = connection.session?.facts.tally, tallies[tally].isPaused || isHeldUp(id) {
        // It may speak, and isn't listened to.
        connections[id]?.heard = now
      } else if now - connection.heard >= limits.silence {
        cut(id, .silence, "nothing came for \(limits.silence.nanoseconds / 1_000_000) ms")
      }
      if connections[id]?.session != nil || links[id] != nil, !connection.hasSent {
        send(.ping(nonce: 0), to: id)
      }
      connections[id]?.hasSent = false
    }
    reviewChannels()
    heartbeatDue = connections.isEmpty ? nil : now + heartbeatPeriod
  }
}

extension Frame {
  fileprivate var saysWhatIsHeld: Bool {
    switch self {
    case .recordsDurable, .payloadDurable, .resumeAnswer, .journalAnswer: true
    default: false
    }
  }
}
