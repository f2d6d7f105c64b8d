import JournalModel
import JournalStore
import WireProtocol

// Records that a peer asked for: from the greatest length that both hold, each frame with the host's own checkpoint.

extension ServerMachine where H.Value == Digest {
  mutating func supplyRecords(_ id: ConnectionID, _ channel: UInt32) {
    while let supply = links[id]?.supplies[channel] {
      switch supply.records.work {
      case .none:
        guard let head = links[id]?.supplies[channel]?.records.wanted.popFirst() else { return }
        begin(head, supply, on: id, channel)
      case .sending(let end): if sendRecords(supply.records, upTo: end, on: id, channel) { return }
      case .choosing, .joining, .asking: return
      }
    }
  }

  private mutating func begin(_ head: TreeHead, _ supply: Supply, on id: ConnectionID, _ channel: UInt32) {
    let all = sequences(of: supply.journal).map { journals[$0].held }.filter { $0.length >= head.length }
    let own = supply.records.sequence
    let candidates = all.filter { own == nil || $0.key == own }
    if let exact = candidates.first(where: { $0.length == head.length && $0.checkpoint?.root == head.root }) {
      join(exact.key, supply.heads ?? [], on: id, channel)
    } else {
      choose(head, candidates.map(\.key), on: id, channel)
    }
  }

  private mutating func work(_ work: RecordSupply.Work, on id: ConnectionID, _ channel: UInt32) {
    links[id]?.supplies[channel]?.records.work = work
  }

  private mutating func refuseRecords(on id: ConnectionID, _ channel: UInt32) {
    work(.none, on: id, channel)
    refuseSupply(nil, on: id, channel)
  }

  private mutating func choose(_ head: TreeHead, _ candidates: [SequenceKey], on id: ConnectionID, _ channel: UInt32) {
    guard let next = candidates.first else { return refuseRecords(on: id, channel) }
    work(.choosing(head, candidates), on: id, channel)
    read(.roots(next, lengths: [head.length]), for: .supplyRecords(id, channel: channel))
  }

  /// Records go on from the greatest of the heads that lies on the sequence.
  private mutating func join(_ key: SequenceKey, _ heads: [TreeHead], on id: ConnectionID, _ channel: UInt32) {
    if links[id]?.supplies[channel]?.records.sequence == key { return goOn(on: id, channel) }
    guard let row = index(of: key).map({ journals[$0].held }) else { return refuseRecords(on: id, channel) }
    let within = heads.filter { $0.length > 0 && $0.length <= row.length }
    work(.joining(key, within), on: id, channel)
    guard !within.isEmpty else { return joined(key, TreeHead(length: 0, root: .zero), isFound: false, on: id, channel) }
    read(.roots(key, lengths: within.map(\.length).sorted()), for: .supplyRecords(id, channel: channel))
  }

  mutating func journalAnswered(_ heads: [TreeHead], on id: ConnectionID, _ channel: UInt32) {
    guard case .asking(let key)? = links[id]?.supplies[channel]?.records.work else { return }
    join(key, heads, on: id, channel)
  }

  private mutating func joined(
    _ key: SequenceKey, _ base: TreeHead, isFound: Bool, on id: ConnectionID, _ channel: UInt32
  ) {
    guard let supply = links[id]?.supplies[channel], let heads = supply.heads,
      let length = index(of: key).map({ journals[$0].held.length })
    else { return }
    if !isFound, !heads.isEmpty, !supply.records.hasAsked {
      links[id]?.supplies[channel]?.records.hasAsked = true
      work(.asking(key), on: id, channel)
      return send(.journalQuery(length: length), of: channel, on: id)
    }
    if !heads.isEmpty, heads.count > 1 || !heads.contains(base) { send(.extendJournal(base), of: channel, on: id) }
    links[id]?.supplies[channel]?.records.sequence = key
    links[id]?.supplies[channel]?.records.sent = base.length
    links[id]?.supplies[channel]?.records.acknowledged = base.length
    goOn(on: id, channel)
  }

  /// With records of the sequence that was chosen, as far as it goes.
  private mutating func goOn(on id: ConnectionID, _ channel: UInt32) {
    guard let key = links[id]?.supplies[channel]?.records.sequence,
      let length = index(of: key).map({ journals[$0].held.length })
    else { return refuseRecords(on: id, channel) }
    work(.sending(upTo: length), on: id, channel)
    dueLinks.insert(id)
  }

  /// False when all was sent.
  private mutating func sendRecords(
    _ records: RecordSupply, upTo end: UInt64, on id: ConnectionID, _ channel: UInt32
  ) -> Bool {
    guard let key = records.sequence, !records.isReading else { return true }
    guard records.sent < end else {
      work(.none, on: id, channel)
      return false
    }
    // As a host keeps to the window.
    let isWithinWindow = records.sent < records.acknowledged.saturatingAdding(UInt64(limits.recordWindow))
    guard records.ahead.count < RecordSupply.mostAhead, isWithinWindow, links[id]?.hasRoomForRecords == true else {
      return true
    }
    links[id]?.supplies[channel]?.records.isReading = true
    read(.frame(key, from: records.sent), for: .supplyRecords(id, channel: channel))
    return true
  }

  private mutating func sendFrame(
    _ answer: StoreAnswer, _ records: RecordSupply, on id: ConnectionID, _ channel: UInt32
  ) {
    links[id]?.supplies[channel]?.records.isReading = false
    guard let checkpoint = answer.checkpoint, !answer.records.isEmpty, answer.records.count <= limits.recordsPerFrame,
      checkpoint.length == records.sent + UInt64(answer.records.count)
    else { return refuseRecords(on: id, channel) }
    send(.records(Records(first: records.sent, encoded: answer.records, checkpoint: checkpoint)), of: channel, on: id)
    links[id]?.supplies[channel]?.records.sent = checkpoint.length
    links[id]?.supplies[channel]?.records.ahead.append(checkpoint.length)
    links[id]?.untaken += 1
    out.append(.awaitTaken(id))
  }

  mutating func recordsTaken(_ id: ConnectionID) {
    links[id]?.untaken -= 1
    dueLinks.insert(id)
  }

  mutating func recordsHeld(upTo length: UInt64, on id: ConnectionID, _ channel: UInt32) {
    guard let known = links[id]?.supplies[channel]?.records.acknowledged else { return }
    links[id]?.supplies[channel]?.records.acknowledged = max(known, length)
    while let first = links[id]?.supplies[channel]?.records.ahead.first, first <= length {
      _ = links[id]?.supplies[channel]?.records.ahead.popFirst()
    }
  }

  // MARK: The store's answers

  mutating func recordsToSupplyRead(_ answer: StoreAnswer, on id: ConnectionID, _ channel: UInt32) {
    guard let supply = links[id]?.supplies[channel] else { return }
    dueLinks.insert(id)
    switch supply.records.work {
    case .sending: sendFrame(answer, supply.records, on: id, channel)
    case .choosing(let head, let candidates):
      if let key = candidates.first, answer.heads.contains(head) {
        join(key, supply.heads ?? [], on: id, channel)
      } else {
        choose(head, Array(candidates.dropFirst()), on: id, channel)
      }
    case .joining(let key, let heads):
      let base = heads.filter { answer.heads.contains($0) }.max { $0.length < $1.length }
      joined(key, base ?? TreeHead(length: 0, root: .zero), isFound: base != nil, on: id, channel)
    case .none, .asking: break
    }
  }

  mutating func recordsToSupplyUnreadable(on id: ConnectionID, _ channel: UInt32) {
    guard links[id]?.supplies[channel] != nil else { return }
    links[id]?.supplies[channel]?.records.isReading = false
    refuseRecords(on: id, channel)
  }
}
