import JournalModel
import JournalStore
import WireProtocol

// `status --settled` on a server: all that it held when it was asked is held by every peer, and all that they held is held
// here. A peer answers a ping behind the announcement of all that it held when it got it.

/// One who asked.
struct PeerSettlement {
  struct Question {
    var link: ConnectionID
    var nonce: UInt64
    /// How far the peer's feed went when it answered.
    var end: UInt64?
  }
  let token: UInt64
  /// The greatest number that this server had given; nil until it was read.
  var own: UInt64?
  /// By the peers' indices.
  var asked: [Int: Question] = [:]
}

extension ServerMachine where H.Value == Digest {
  mutating func settle(_ token: UInt64) {
    settlements.append(PeerSettlement(token: token))
    read(.changes(after: .max, count: 0), for: .settling(token))
  }

  mutating func cancelSettle(_ token: UInt64) { settlements.removeAll { $0.token == token } }

  mutating func settling(_ token: UInt64, _ feed: Feed?) {
    guard let position = settlements.firstIndex(where: { $0.token == token }) else { return }
    settlements[position].own = feed?.last ?? 0
  }

  mutating func answered(_ nonce: UInt64, on id: ConnectionID) {
    guard let link = links[id] else { return }
    for position in settlements.indices where settlements[position].asked[link.peer]?.nonce == nonce {
      settlements[position].asked[link.peer]?.end = link.intake.end
    }
  }

  mutating func endSettlements() {
    for position in settlements.indices.reversed() {
      for index in peers.indices { ask(index, for: position) }
      let settlement = settlements[position]
      guard peers.indices.allSatisfy({ isSettled($0, settlement) }) else { continue }
      settlements.remove(at: position)
      out.append(.settled(token: settlement.token))
    }
  }

  /// Once on each connection.
  private mutating func ask(_ index: Int, for position: Int) {
    guard let link = peers[index].link, settlements[position].asked[index]?.link != link else { return }
    lastNonce += 1
    settlements[position].asked[index] = PeerSettlement.Question(link: link, nonce: lastNonce)
    send(.ping(nonce: lastNonce), to: link)
  }

  private func isSettled(_ index: Int, _ settlement: PeerSettlement) -> Bool {
    guard let own = settlement.own, let asked = settlement.asked[index], let end = asked.end,
      peers[index].link == asked.link, let link = links[asked.link]
    else { return false }
    return link.feed.held >= own && link.intake.held >= end
  }
}
