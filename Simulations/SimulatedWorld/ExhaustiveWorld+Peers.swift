import JournalModel
import JournalStore
import ServerCore
import WireProtocol

// Servers that are one another's peers: their connections, and what is owed on these.

extension ExhaustiveWorld {
  struct Place {
    let link: Int
    let end: Int
  }

  /// Where an open end of a connection is.
  func end(of server: Int, _ id: ConnectionID) -> Place? {
    for (number, link) in peerLinks.enumerated() {
      if let end = link.ends.firstIndex(where: { $0.server == server && $0.id == id && $0.isOpen }) {
        return Place(link: number, end: end)
      }
    }
    return nil
  }

  private func place(_ server: Int, linkedTo peer: Int) -> Place? {
    for (number, link) in peerLinks.enumerated() where link.ends.contains(where: { $0.server == peer }) {
      if let end = link.ends.firstIndex(where: { $0.server == server }) { return Place(link: number, end: end) }
    }
    return nil
  }

  // MARK: Connections

  /// Of two servers that connect to each other at once, the first one does: two connections don't cross.
  mutating func dial(_ peer: Int, from server: Int) {
    let (name, own) = (setting.servers[server].peers[peer], setting.servers[server].name)
    guard let other = setting.servers.firstIndex(where: { $0.name == name }), servers.indices.contains(other),
      servers[other].isServing, place(server, linkedTo: other) == nil
    else { return servers[server].input(.undialed(peer, "unreachable")) }
    let (here, there) = (servers[server].newConnection(), servers[other].newConnection())
    peerLinks.append(
      ExhaustivePeerLink(ends: [
        ExhaustivePeerLink.End(server: server, id: here), ExhaustivePeerLink.End(server: other, id: there),
      ]))
    servers[other].input(.accepted(there, Peer(names: [], servers: [own], address: "10.0.0.2")))
    servers[server].input(.dialed(peer, here, Peer(names: [], servers: [name], address: "10.0.0.3")))
  }

  /// The other side hears of it behind what is on its way there.
  mutating func close(_ id: ConnectionID, _ code: RefusalCode, _ text: String, by server: Int) {
    guard let place = end(of: server, id) else { return }
    accuse(code, text, by: server)
    let isOpenThere = peerLinks[place.link].ends[1 - place.end].isOpen
    if isOpenThere {
      peerLinks[place.link].ends[1 - place.end].coming += [.sent(.frame(.goodbye(code: code, text: text))), .end]
    }
    closeEnd(place)
  }

  private mutating func closeEnd(_ place: Place) {
    peerLinks[place.link].ends[place.end].isOpen = false
    peerLinks[place.link].ends[place.end].coming = []
    if !peerLinks[place.link].ends[1 - place.end].isOpen { peerLinks.remove(at: place.link) }
  }

  /// What was on its way is lost; each side hears of it whenever it does.
  mutating func breakPeerLink(_ link: Int) {
    faults.breaks -= 1
    for end in peerLinks.remove(at: link).ends where end.isOpen { servers[end.server].ended.append(end.id) }
  }

  mutating func endPeerLinks(of server: Int) {
    for link in peerLinks.filter({ $0.ends.contains { $0.server == server } }) {
      for end in link.ends where end.server != server && end.isOpen { servers[end.server].ended.append(end.id) }
    }
    peerLinks.removeAll { $0.ends.contains { $0.server == server } }
  }

  // MARK: What is said

  mutating func send(_ sent: ExhaustiveHost.Sent, from server: Int, on id: ConnectionID) {
    guard let place = end(of: server, id) else { return }
    if case .frame(let frame) = sent { judge(frame, from: server, at: place) }
    guard peerLinks[place.link].ends[1 - place.end].isOpen else { return }
    peerLinks[place.link].ends[1 - place.end].coming.append(.sent(sent))
  }

  mutating func deliver(_ link: Int, _ end: Int) {
    let (server, id) = (peerLinks[link].ends[end].server, peerLinks[link].ends[end].id)
    switch peerLinks[link].ends[end].coming.removeFirst() {
    case .sent(.frame(let frame)):
      hear(frame, at: Place(link: link, end: end))
      servers[server].input(.received(id, frame))
    case .sent(.payload(let header, let bytes)):
      if let file = journal.index(of: header.file) { servers[server].supplied[file] += bytes.count }
      servers[server].receive(header, bytes, on: id)
    case .end:
      closeEnd(Place(link: link, end: end))
      servers[server].input(.closed(id))
    }
  }

  private mutating func hear(_ frame: Frame, at place: Place) {
    switch frame {
    case .announce(let announcement):
      for change in announcement.changes { peerLinks[place.link].ends[place.end].announced[change.subject] = change }
    case .trieBucket(let bucket):
      for change in bucket.changes where peerLinks[place.link].ends[place.end].announced[change.subject] == nil {
        peerLinks[place.link].ends[place.end].announced[change.subject] = change
      }
    default: break
    }
  }

  // MARK: Oracles

  /// What is said to a peer to be held is (G2, M3), durably: it is in the store.
  private mutating func judge(_ frame: Frame, from server: Int, at place: Place) {
    switch frame {
    case .announce(let announcement): judge(announcement.changes, of: server, "announced")
    case .trieBucket(let bucket): judge(bucket.changes, of: server, "announced")
    case .noted(let noted): judge(heldUpTo: noted.held, of: server, at: place)
    case .refusal(let refusal): accuse(refusal.code, refusal.text, by: server)
    case .closeChannel(let end): accuse(end.code, end.text, by: server)
    default: break
    }
  }

  /// So is what a cursor says.
  mutating func judge(_ cursor: PeerCursor, of server: Int) {
    guard let peer = setting.servers.firstIndex(where: { $0.name == cursor.peer }),
      let place = place(server, linkedTo: peer)
    else { return }
    judge(heldUpTo: cursor.cursor.held, of: server, at: place)
  }

  private mutating func judge(heldUpTo number: UInt64, of server: Int, at place: Place) {
    let announced = peerLinks[place.link].ends[place.end].announced
    judge(announced.values.filter { $0.number <= number }, of: server, "said to be held up to \(number) of a feed")
    peerLinks[place.link].ends[place.end].announced = announced.filter { $0.value.number > number }
  }

  private mutating func judge(_ changes: [Change], of server: Int, _ how: String) {
    for change in changes {
      for head in change.heads where !servers[server].store.holds(change.subject, head) {
        complain("\(head.length) of \(change.subject) \(how), and not held by server \(server)")
      }
    }
  }

  /// Peers keep to the protocol.
  private mutating func accuse(_ code: RefusalCode, _ text: String, by server: Int) {
    switch code {
    case .protocolViolation, .badSignature, .nameNotYours, .versionUnsupported, .badName, .rootMismatch, .conflict,
      .journalFork:
      complain("server \(server) accuses an honest peer: \(code), \(text)")
    default: break
    }
  }
}
