import JournalModel
import JournalStore
import WireProtocol

// What peers ask for, by channel: records with the host's own checkpoints (`+SupplyingRecords`), and beside them bytes
// (`+SupplyingBytes`), within the credit.

extension ServerMachine where H.Value == Digest {
  mutating func channelOpened(_ opening: ChannelOpening, on id: ConnectionID) {
    guard let link = links[id], link.isTheirs(opening.channel), link.supplies[opening.channel] == nil,
      link.supplies.count < PeerLink.mostChannels
    else { return violated(id, "a channel that is open already, isn't its side's to open, or is one too many") }
    links[id]?.supplies[opening.channel] = Supply(journal: opening.journal)
  }

  mutating func want(_ wanted: WantedRecords, on id: ConnectionID) {
    guard mayWant(nil, on: id, wanted.channel) else { return }
    links[id]?.supplies[wanted.channel]?.records.wanted.append(wanted.head)
    supplyingLinks.insert(id)
  }

  mutating func want(_ wanted: WantedBytes, on id: ConnectionID) {
    guard mayWant(wanted.file, on: id, wanted.channel) else { return }
    guard let lane = links[id]?.supplies[wanted.channel]?.lane(for: wanted, limits) else { return }
    links[id]?.supplies[wanted.channel]?[lane].wanted.append(wanted)
    supplyingLinks.insert(id)
  }

  private mutating func mayWant(_ file: FileUUID?, on id: ConnectionID, _ channel: UInt32) -> Bool {
    // It may have been closed meanwhile.
    guard let link = links[id], link.supplies[channel] != nil else { return false }
    // Some that were given up there may still wait here.
    if link.wants < 4 * limits.wantsAhead { return true }
    if charge(1, to: id) {
      send(.refusal(Refusal(file: file, code: .busy, length: 0, text: "more is asked for")), of: channel, on: id)
    }
    return false
  }

  mutating func takeForSupply(_ frame: Frame, on id: ConnectionID, _ channel: UInt32) {
    guard let supply = links[id]?.supplies[channel] else { return }
    switch frame {
    case .welcome(let welcome):
      guard supply.heads == nil else { return violated(id, "a second welcome on a channel") }
      links[id]?.supplies[channel]?.heads = welcome.heads.map { TreeHead(length: $0.length, root: $0.root) }
      links[id]?.supplies[channel]?.credit = welcome.credit
    case .credit(let total): links[id]?.supplies[channel]?.credit = max(supply.credit, total)
    case .recordsDurable(let head): recordsHeld(upTo: head.length, on: id, channel)
    case .journalAnswer(let heads): journalAnswered(heads, on: id, channel)
    case .payloadDurable: break
    case .refusal(let refusal): if let file = refusal.file { fileWithdrawn(file, on: id, channel) }
    default: violated(id, "a frame that this side of a channel doesn't take")
    }
  }

  mutating func supplyAll(_ id: ConnectionID) {
    guard supplyingLinks.contains(id), let link = links[id] else { return }
    let channels = link.supplies.keys.sorted()
    for channel in channels.filter({ $0 > link.served }) + channels.filter({ $0 <= link.served }) {
      guard links[id]?.supplies[channel]?.heads != nil else { continue }
      supplyRecords(id, channel)
      supplyFiles(id, channel)
    }
    if links[id]?.supplies.values.contains(where: \.isAsked) != true { supplyingLinks.remove(id) }
  }

  /// It isn't held, or can't be read: others may have it.
  mutating func refuseSupply(_ file: FileUUID?, on id: ConnectionID, _ channel: UInt32) {
    dueLinks.insert(id)
    guard charge(1, to: id) else { return }
    let refusal = Refusal(file: file, code: .other, length: 0, text: "it isn't held any more, or can't be read")
    send(.refusal(refusal), of: channel, on: id)
  }

  mutating func send(_ frame: Frame, of channel: UInt32, on id: ConnectionID) {
    send(.channel(channel), to: id)
    send(frame, to: id)
  }
}
