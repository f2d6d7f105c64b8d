import HostCore
import WireProtocol

/// Connections that haven't said who they are yet: few places, apart from those of known hosts, and never so full that
/// nobody gets in. Whoever comes when all are taken gets the place of the one that has waited longest, first among those
/// that never said anything: who means it begins at once. Where hosts came from before, places are given up last.
struct Lobby {
  private struct Guest {
    let id: ConnectionID
    let address: [UInt8]
    let number: UInt64
    let isFromKnownAddress: Bool
    var isAnswered = false

    var rank: Int { (isFromKnownAddress ? 2 : 0) + (isAnswered ? 1 : 0) }
  }

  private let places: Int
  private var guests: [ConnectionID: Guest] = [:]
  private var number: UInt64 = 0
  /// Addresses of hosts, and when each was last found to be one.
  private var known: [[UInt8]: UInt64] = [:]

  /// Addresses that are remembered.
  private static let remembered = 4_096

  init(places: Int) { self.places = max(1, places) }

  var count: Int { guests.count }

  /// `address`: without a port, in network order. Returns who has to go: never the one that has just come.
  mutating func enter(_ id: ConnectionID, from address: [UInt8]) -> ConnectionID? {
    number += 1
    let others = guests.values
    let crowdedOut = others.count < places ? nil : others.min { ($0.rank, $0.number) < ($1.rank, $1.number) }?.id
    guests[id] = Guest(id: id, address: address, number: number, isFromKnownAddress: known[address] != nil)
    return crowdedOut
  }

  /// It began a handshake, and got an answer.
  mutating func answered(_ id: ConnectionID) { guests[id]?.isAnswered = true }

  /// It ended.
  mutating func leave(_ id: ConnectionID) { guests[id] = nil }

  /// It is a host's: its place is free, and where it came from is known.
  mutating func know(_ id: ConnectionID) {
    guard let guest = guests.removeValue(forKey: id) else { return }
    number += 1
    known[guest.address] = number
    guard known.count > Self.remembered, let oldest = known.min(by: { $0.value < $1.value }) else { return }
    known[oldest.key] = nil
  }
}
