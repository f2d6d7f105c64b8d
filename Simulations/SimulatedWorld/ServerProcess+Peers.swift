import JournalModel
import JournalStore
import ServerCore
import WireProtocol

// A server among its peers: it connects to them, reads for them what they ask for, and is watched on both sides.

extension ServerProcess {
  func isPeer(_ id: ConnectionID) -> Bool { sessions[id].map { world.dialingServer($0.host) != nil } ?? false }

  func dial(_ peer: Int) {
    guard let target = world.servers.first(where: { $0.name == server.settings.peers[peer] })?.index else { return }
    let host = world.host(ofDialing: server.index)
    let outcome = world.connect(host: host, server: target)
    after(outcome.delay) { [self] in
      guard let connection = world.accept(from: server, at: target, outcome.isPossible) else {
        return input(.undialed(peer, "connection refused"))
      }
      enter(
        Session(
          connection: connection, host: host, decoder: FrameDecoder(limits: world.limits, from: .peer), end: .toHost))
      input(.dialed(peer, connection.id, Peer(names: [], servers: [server.settings.peers[peer]], address: "10.0.2.1")))
    }
  }

  /// One write, answered when the socket took it.
  func supply(_ id: ConnectionID, _ channel: UInt32, _ key: StringKey, _ segment: Segment, _ header: PayloadHeader) {
    let plane = plane
    let turn = world.oracle.supplies(server, header, on: id, channel)
    let head = Frame.channel(channel).encoded() + Frame.payload(header).encoded()
    job(.string(key), world.plan.knobs[.diskLatency]) { [self] in
      befalling == nil ? plane.read(key, in: segment, offset: header.offset, count: header.length, behind: head) : nil
    } answer: { [self] bytes in
      let answer = { [self] isSent in input(.supplied(id, channel: channel, header, isSent: isSent)) }
      guard let bytes else { return answer(false) }
      if world.mutant == .loseSupply { return answer(true) }
      guard let session = sessions[id] else { return }
      world.oracle.isSupplied(in: turn, on: id, channel)
      session.connection.send(bytes, session.end.other, whenTaken: { [self] in run { answer(true) } })
    }
  }

  func takes(_ header: PayloadHeader, on id: ConnectionID) {
    guard let session = sessions[id] else { return }
    guard isPeer(id) else { return world.oracle.takes(server, header, from: session.host) }
    world.mark(.suppliedByPeer)
    server.suppliedBytes += header.length
    sessions[id]?.channelHeard = nil
    world.oracle.takes(server, header, on: id, session.channelHeard)
  }

  func receivedFromPeer(_ frame: Frame, on id: ConnectionID) -> Frame {
    if case .peerHello(let hello) = frame { sessions[id]?.shownCursor = hello.cursor }
    guard isPeer(id) else { return frame }
    world.oracle.hears(server, frame, on: id, sessions[id]?.channelHeard)
    sessions[id]?.channelHeard = if case .channel(let channel) = frame { channel } else { nil }
    switch frame {
    case .records: world.mark(.recordsByPeer)
    case .extend: world.mark(.branchByPeer)
    case .extendJournal: world.mark(.forkByPeer)
    case .announce(let announcement):
      for change in announcement.changes { sessions[id]?.announced[change.subject] = change }
    case .trieParts: world.mark(.trieDivided)
    case .trieBucket(let bucket):
      if !bucket.changes.isEmpty { world.mark(.foundByTrie) }
      for change in bucket.changes where sessions[id]?.announced[change.subject] == nil {
        sessions[id]?.announced[change.subject] = change
      }
    default: break
    }
    return mutations.fromPeer(frame, present: server.store.snapshot().feed())
  }

  /// Under a planted bug.
  private func askAnotherPeer(_ wanted: WantedBytes, on id: ConnectionID) {
    let asked = PeerPayload.ChannelID(link: id, number: wanted.channel)
    guard let other = world.oracle.otherChannel(server, than: asked), let session = sessions[other.link] else { return }
    var again = wanted
    again.channel = other.number
    world.oracle.says(server, .wantBytes(again), on: other.link, nil)
    session.connection.send(Frame.wantBytes(again).encoded(), session.end.other)
  }

  func sendsToPeer(_ frame: Frame, on id: ConnectionID) {
    guard let session = sessions[id] else { return }
    world.oracle.says(server, frame, on: id, session.channelSaid)
    sessions[id]?.channelSaid = if case .channel(let channel) = frame { channel } else { nil }
    switch frame {
    case .wantBytes(let wanted): if world.mutant == .askTwoPeers { askAnotherPeer(wanted, on: id) }
    case .announce(let announcement):
      if !announcement.changes.isEmpty { world.mark(.announced) }
      for change in announcement.changes { world.oracle.announces(server, change) }
    case .noted(let noted):
      world.oracle.notes(server, noted.held, of: session.announced)
      sessions[id]?.announced = session.announced.filter { $0.value.number > noted.held }
    case .trieBucket(let bucket): for change in bucket.changes { world.oracle.announces(server, change) }
    case .feed(let start): if session.shownCursor != nil, start.byTrie { world.mark(.cursorRefused) }
    case .closeChannel(let end):
      world.mark(.channelCut)
      world.oracle.accused(server, peer: session.host, end.code, end.text)
    case .refusal(let refusal): world.oracle.accused(server, peer: session.host, refusal.code, refusal.text)
    default: break
    }
  }

  /// How far it has a peer's feed is stored no further than it holds it.
  func checkCursors(_ batch: ServerBatch) {
    for cursor in batch.cursors {
      guard let peer = world.servers.first(where: { $0.name == cursor.peer }) else { continue }
      // The newest is the one in use.
      let sessions = sessions.values.filter { session in
        session.host == world.host(ofDialing: peer.index)
          || session.end == .toHost && session.connection.server == peer.index
      }
      guard let session = sessions.max(by: { $0.connection.id < $1.connection.id }) else { continue }
      world.oracle.notes(server, cursor.cursor.held, of: session.announced)
    }
  }
}

extension World {
  var hasPeers: Bool { plan.knobs[.peers] > 0 && servers.count > 1 }

  /// A server that connects is its links' host, behind the hosts and the adversary.
  func host(ofDialing server: Int) -> Int { Int(plan.knobs[.hosts]) + 1 + server }
  func dialingServer(_ host: Int) -> Int? {
    let server = host - Int(plan.knobs[.hosts]) - 1
    return hasPeers && servers.indices.contains(server) ? server : nil
  }
  var dialingHosts: [Int] { hasPeers ? servers.indices.map { host(ofDialing: $0) } : [] }

  func accept(from dialing: SimulatedServer, at server: Int, _ isPossible: Bool) -> Connection? {
    guard isPossible, let process = servers[server].process, process.isServing else { return nil }
    let host = host(ofDialing: dialing.index)
    let connection = network.connect(host: host, server: server)
    process.accept(connection, host: host, peer: Peer(names: [], servers: [dialing.name], address: "10.0.2.2"))
    return connection
  }
}

extension Operation {
  /// It is about a link between two servers.
  func isBetweenServers(_ hosts: Int) -> Bool {
    let host: Int? =
      switch self {
      case .reset(let host, _), .partition(let host, _, _, _), .clog(let host, _, _, _), .shred(let host, _, _),
        .disturb(.boundaries(let host, _, _)), .disturb(.dribble(let host, _, _)),
        .disturb(.cutFrame(let host, _, _, _, _)), .disturb(.drain(let host, _, _)):
        host
      default: nil
      }
    return host.map { $0 > hosts } ?? false
  }
}
