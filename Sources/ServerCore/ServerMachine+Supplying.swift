import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// What peers ask for. On each channel one thing after another is sent, as its host would: records with the host's own
// checkpoints, then bytes, from the last length up to which what both hold is one by its root (W2), within the credit.

extension ServerMachine where H.Value == Digest {
  mutating func channelOpened(_ opening: ChannelOpening, on id: ConnectionID) {
    guard let link = links[id], link.isTheirs(opening.channel), link.supplies[opening.channel] == nil,
      link.supplies.count < PeerLink.mostChannels
    else { return violated(id, "a channel that is open already, isn't its side's to open, or is one too many") }
    links[id]?.supplies[opening.channel] = Supply(journal: opening.journal)
  }

  mutating func want(_ want: Supply.Want, on id: ConnectionID, _ channel: UInt32) {
    // It may have been closed meanwhile.
    guard let link = links[id], link.supplies[channel] != nil else { return }
    // Some that were given up there may still wait here.
    guard link.wants < 4 * limits.wantsAhead else {
      let file: FileUUID? = if case .bytes(let wanted) = want { wanted.file } else { nil }
      guard charge(1, to: id) else { return }
      return send(.refusal(Refusal(file: file, code: .busy, length: 0, text: "more is asked for")), of: channel, on: id)
    }
    links[id]?.supplies[channel]?.wants.append(want)
  }

  mutating func takeForSupply(_ frame: Frame, on id: ConnectionID, _ channel: UInt32) {
    guard let supply = links[id]?.supplies[channel] else { return }
    switch frame {
    case .welcome(let welcome):
      guard supply.heads == nil else { return violated(id, "a second welcome on a channel") }
      links[id]?.supplies[channel]?.heads = welcome.heads.map { TreeHead(length: $0.length, root: $0.root) }
      links[id]?.supplies[channel]?.credit = welcome.credit
    case .credit(let total): links[id]?.supplies[channel]?.credit = max(supply.credit, total)
    case .recordsDurable(let head):
      links[id]?.supplies[channel]?.acknowledged = max(supply.acknowledged, head.length)
      while let first = links[id]?.supplies[channel]?.ahead.first, first <= head.length {
        _ = links[id]?.supplies[channel]?.ahead.popFirst()
      }
    case .journalAnswer(let heads):
      guard case .asking(let key) = supply.work else { return }
      join(key, heads, on: id, channel)
    case .payloadDurable: break
    case .refusal(let refusal): refused(refusal, on: id, channel)
    default: violated(id, "a frame that this side of a channel doesn't take")
    }
  }

  /// What remains of the file is asked for again, or not.
  private mutating func refused(_ refusal: Refusal, on id: ConnectionID, _ channel: UInt32) {
    guard let file = refusal.file, let work = links[id]?.supplies[channel]?.work else { return }
    switch work {
    case .bytes(let wanted, _, _, _) where wanted.file == file: links[id]?.supplies[channel]?.work = .none
    default:
      links[id]?.supplies[channel]?.wants.removeAll {
        if case .bytes(let wanted) = $0 { wanted.file == file } else { false }
      }
    }
  }

  mutating func supplyAll(_ id: ConnectionID) {
    guard let link = links[id], !link.supplies.isEmpty else { return }
    let channels = link.supplies.keys.sorted()
    for channel in channels.filter({ $0 > link.served }) + channels.filter({ $0 <= link.served }) {
      supplyNext(id, channel)
    }
  }

  private mutating func supplyNext(_ id: ConnectionID, _ channel: UInt32) {
    while let supply = links[id]?.supplies[channel], supply.heads != nil {
      switch supply.work {
      case .none:
        // What is on its way comes before whatever is said of the next one.
        guard supply.sending == nil, let want = links[id]?.supplies[channel]?.wants.popFirst() else { return }
        begin(want, on: id, channel)
      case .records(let end): return sendRecords(supply, upTo: end, on: id, channel)
      case .bytes(let wanted, let row, let rows, let next):
        return sendBytes(supply, wanted, row, rows, next, on: id, channel)
      case .choosing, .joining, .asking, .reading, .choosingString, .joiningString: return
      }
    }
  }

  private mutating func begin(_ want: Supply.Want, on id: ConnectionID, _ channel: UInt32) {
    guard let supply = links[id]?.supplies[channel] else { return }
    switch want {
    case .records(let head):
      let all = sequences(of: supply.journal).map { journals[$0].held }.filter { $0.length >= head.length }
      let own = supply.sequence
      let candidates = all.filter { own == nil || $0.key == own }
      if let exact = candidates.first(where: { $0.length == head.length && $0.checkpoint?.root == head.root }) {
        join(exact.key, supply.heads ?? [], on: id, channel)
      } else {
        choose(head, candidates.map(\.key), on: id, channel)
      }
    case .bytes(let wanted):
      links[id]?.supplies[channel]?.work = .reading(wanted)
      read(.rows([FileKey(host: supply.journal.host, file: wanted.file)]), for: .supply(id, channel: channel))
    }
  }

  /// It isn't held, or can't be read: others may have it.
  private mutating func refuse(_ file: FileUUID?, on id: ConnectionID, _ channel: UInt32) {
    links[id]?.supplies[channel]?.work = .none
    dueLinks.insert(id)
    guard charge(1, to: id) else { return }
    let refusal = Refusal(file: file, code: .other, length: 0, text: "it isn't held any more, or can't be read")
    send(.refusal(refusal), of: channel, on: id)
  }

  private mutating func send(_ frame: Frame, of channel: UInt32, on id: ConnectionID) {
    send(.channel(channel), to: id)
    send(frame, to: id)
  }

  // MARK: Records

  private mutating func choose(_ head: TreeHead, _ candidates: [SequenceKey], on id: ConnectionID, _ channel: UInt32) {
    guard let next = candidates.first else { return refuse(nil, on: id, channel) }
    links[id]?.supplies[channel]?.work = .choosing(head, candidates)
    read(.roots(next, lengths: [head.length]), for: .supply(id, channel: channel))
  }

  /// Records go on from the greatest of the heads that lies on the sequence.
  private mutating func join(_ key: SequenceKey, _ heads: [TreeHead], on id: ConnectionID, _ channel: UInt32) {
    if links[id]?.supplies[channel]?.sequence == key { return goOn(on: id, channel) }
    guard let row = index(of: key).map({ journals[$0].held }) else { return refuse(nil, on: id, channel) }
    let within = heads.filter { $0.length > 0 && $0.length <= row.length }
    links[id]?.supplies[channel]?.work = .joining(key, within)
    guard !within.isEmpty else { return joined(key, TreeHead(length: 0, root: .zero), isFound: false, on: id, channel) }
    read(.roots(key, lengths: within.map(\.length).sorted()), for: .supply(id, channel: channel))
  }

  private mutating func joined(
    _ key: SequenceKey, _ base: TreeHead, isFound: Bool, on id: ConnectionID, _ channel: UInt32
  ) {
    guard let supply = links[id]?.supplies[channel], let heads = supply.heads,
      let length = index(of: key).map({ journals[$0].held.length })
    else { return }
    if !isFound, !heads.isEmpty, !supply.hasAsked {
      links[id]?.supplies[channel]?.hasAsked = true
      links[id]?.supplies[channel]?.work = .asking(key)
      return send(.journalQuery(length: length), of: channel, on: id)
    }
    if !heads.isEmpty, heads.count > 1 || !heads.contains(base) { send(.extendJournal(base), of: channel, on: id) }
    links[id]?.supplies[channel]?.sequence = key
    links[id]?.supplies[channel]?.sent = base.length
    links[id]?.supplies[channel]?.acknowledged = base.length
    goOn(on: id, channel)
  }

  /// With records of the sequence that was chosen, as far as it goes.
  private mutating func goOn(on id: ConnectionID, _ channel: UInt32) {
    guard let key = links[id]?.supplies[channel]?.sequence,
      let length = index(of: key).map({ journals[$0].held.length })
    else { return refuse(nil, on: id, channel) }
    links[id]?.supplies[channel]?.work = .records(upTo: length)
    dueLinks.insert(id)
  }

  private mutating func sendRecords(_ supply: Supply, upTo end: UInt64, on id: ConnectionID, _ channel: UInt32) {
    guard let key = supply.sequence, !supply.isReading else { return }
    guard supply.sent < end else {
      links[id]?.supplies[channel]?.work = .none
      dueLinks.insert(id)
      return supplyNext(id, channel)
    }
    // As a host keeps to the window.
    let isWithinWindow = supply.sent < supply.acknowledged.saturatingAdding(UInt64(limits.recordWindow))
    guard supply.ahead.count < Supply.mostAhead, isWithinWindow, links[id]?.ahead ?? 0 < Supply.mostAheadOfAll else {
      return
    }
    links[id]?.supplies[channel]?.isReading = true
    read(.frame(key, from: supply.sent), for: .supply(id, channel: channel))
  }

  private mutating func sendFrame(_ answer: StoreAnswer, on id: ConnectionID, _ channel: UInt32) {
    guard let supply = links[id]?.supplies[channel] else { return }
    links[id]?.supplies[channel]?.isReading = false
    guard let checkpoint = answer.checkpoint, !answer.records.isEmpty, answer.records.count <= limits.recordsPerFrame,
      checkpoint.length == supply.sent + UInt64(answer.records.count)
    else { return refuse(nil, on: id, channel) }
    send(.records(Records(first: supply.sent, encoded: answer.records, checkpoint: checkpoint)), of: channel, on: id)
    links[id]?.supplies[channel]?.sent = checkpoint.length
    links[id]?.supplies[channel]?.ahead.append(checkpoint.length)
  }

  // MARK: The store's answers

  mutating func supplyRead(_ answer: StoreAnswer, on id: ConnectionID, _ channel: UInt32) {
    guard let supply = links[id]?.supplies[channel] else { return }
    dueLinks.insert(id)
    switch supply.work {
    case .records: sendFrame(answer, on: id, channel)
    case .choosing(let head, let candidates):
      if let key = candidates.first, answer.heads.contains(head) {
        join(key, supply.heads ?? [], on: id, channel)
      } else {
        choose(head, Array(candidates.dropFirst()), on: id, channel)
      }
    case .joining(let key, let heads):
      let base = heads.filter { answer.heads.contains($0) }.max { $0.length < $1.length }
      joined(key, base ?? TreeHead(length: 0, root: .zero), isFound: base != nil, on: id, channel)
    case .reading(let wanted):
      let rows = answer.files.flatMap { file in [file.row].compactMap { $0 } + file.branches.map(\.row) }
      begin(wanted, rows.filter { $0.committed > 0 }, on: id, channel)
    case .none, .asking, .choosingString, .joiningString, .bytes: break
    }
  }

  mutating func supplyUnreadable(_ why: String, on id: ConnectionID, _ channel: UInt32) {
    guard let work = links[id]?.supplies[channel]?.work else { return }
    links[id]?.supplies[channel]?.isReading = false
    if case .reading(let wanted) = work { refuse(wanted.file, on: id, channel) } else { refuse(nil, on: id, channel) }
  }

  // MARK: Bytes

  private mutating func begin(_ wanted: WantedBytes, _ rows: [StoredString], on id: ConnectionID, _ channel: UInt32) {
    let distinct = rows.filter { $0.isDistinct && $0.committed >= wanted.head.length }
    if let exact = distinct.first(where: { $0.head == wanted.head }) {
      join(wanted, exact, rows: rows, on: id, channel)
    } else {
      choose(wanted, distinct, rows: rows, on: id, channel)
    }
  }

  private mutating func choose(
    _ wanted: WantedBytes, _ candidates: [StoredString], rows: [StoredString], on id: ConnectionID, _ channel: UInt32
  ) {
    guard let next = candidates.first else { return refuse(wanted.file, on: id, channel) }
    links[id]?.supplies[channel]?.work = .choosingString(wanted, candidates, rows: rows)
    askRoot(next, wanted.head.length, rows, on: id, channel)
  }

  private mutating func join(
    _ wanted: WantedBytes, _ row: StoredString, rows: [StoredString], on id: ConnectionID, _ channel: UInt32
  ) {
    let within = wanted.held.filter { $0.length > 0 && $0.length <= row.committed }.sorted { $0.length > $1.length }
    goOnJoining(wanted, row, within, rows: rows, on: id, channel)
  }

  private mutating func goOnJoining(
    _ wanted: WantedBytes, _ row: StoredString, _ heads: [TreeHead], rows: [StoredString], on id: ConnectionID,
    _ channel: UInt32
  ) {
    guard let next = heads.first else {
      return joined(wanted, row, from: .nothing(of: wanted.file), rows, on: id, channel)
    }
    if next.length == row.committed {
      guard next.root == row.root else {
        return goOnJoining(wanted, row, Array(heads.dropFirst()), rows: rows, on: id, channel)
      }
      return joined(
        wanted, row, from: DurablePrefix(file: wanted.file, length: next.length, root: next.root), rows, on: id, channel
      )
    }
    links[id]?.supplies[channel]?.work = .joiningString(wanted, row, heads, rows: rows)
    askRoot(row, next.length, rows, on: id, channel)
  }

  private mutating func askRoot(
    _ row: StoredString, _ length: UInt64, _ rows: [StoredString], on id: ConnectionID, _ channel: UInt32
  ) {
    guard let holder = row.holder(of: length - 1, among: rows)?.row else { return supplyRoot(nil, on: id, channel) }
    ask(holder.key, holder.segment, length, for: .supply(id, channel: channel))
  }

  mutating func supplyRoot(_ root: Digest?, on id: ConnectionID, _ channel: UInt32) {
    guard let supply = links[id]?.supplies[channel] else { return }
    dueLinks.insert(id)
    switch supply.work {
    case .choosingString(let wanted, let candidates, let rows):
      guard let root else { return refuse(wanted.file, on: id, channel) }
      if root == wanted.head.root {
        join(wanted, candidates[0], rows: rows, on: id, channel)
      } else {
        choose(wanted, Array(candidates.dropFirst()), rows: rows, on: id, channel)
      }
    case .joiningString(let wanted, let row, let heads, let rows):
      guard let root else { return refuse(wanted.file, on: id, channel) }
      if root == heads[0].root {
        let base = DurablePrefix(file: wanted.file, length: heads[0].length, root: root)
        joined(wanted, row, from: base, rows, on: id, channel)
      } else {
        // Each costs a leaf; an honest peer's string is mostly one.
        guard charge(1, to: id) else { return }
        goOnJoining(wanted, row, Array(heads.dropFirst()), rows: rows, on: id, channel)
      }
    case .none, .choosing, .joining, .asking, .records, .reading, .bytes: break
    }
  }

  private mutating func joined(
    _ wanted: WantedBytes, _ row: StoredString, from base: DurablePrefix, _ rows: [StoredString], on id: ConnectionID,
    _ channel: UInt32
  ) {
    let hasOthers = wanted.held.contains { $0.length != base.length || $0.root != base.root }
    if hasOthers { send(.extend(base), of: channel, on: id) }
    links[id]?.supplies[channel]?.work = .bytes(wanted, row, rows: rows, next: base.length)
    dueLinks.insert(id)
  }

  private mutating func sendBytes(
    _ supply: Supply, _ wanted: WantedBytes, _ row: StoredString, _ rows: [StoredString], _ next: UInt64,
    on id: ConnectionID, _ channel: UInt32
  ) {
    guard supply.sending == nil else { return }
    // No further: what came since is announced, and asked for by itself.
    guard next < wanted.head.length else {
      links[id]?.supplies[channel]?.work = .none
      return supplyNext(id, channel)
    }
    guard supply.spent < supply.credit, links[id]?.sending ?? 0 < Supply.mostSending else { return }
    guard let (holder, end) = row.holder(of: next, among: rows) else { return refuse(wanted.file, on: id, channel) }
    let length = min(
      end - next, wanted.head.length - next, supply.credit - supply.spent, UInt64(max(1, limits.payloadFrameSize)))
    links[id]?.served = channel
    links[id]?.supplies[channel]?.spent += length
    links[id]?.supplies[channel]?.sending = next + length
    links[id]?.supplies[channel]?.work = .bytes(wanted, row, rows: rows, next: next + length)
    let header = PayloadHeader(file: wanted.file, offset: next, length: Int(length))
    out.append(.supply(id, channel: channel, holder.key, holder.segment, header))
  }

  mutating func supplied(_ id: ConnectionID, channel: UInt32, end: UInt64, isSent: Bool) {
    guard let supply = links[id]?.supplies[channel], supply.sending == end else { return }
    links[id]?.supplies[channel]?.sending = nil
    dueLinks.insert(id)
    if isSent { return }
    if case .bytes(let wanted, _, _, _) = supply.work { refuse(wanted.file, on: id, channel) }
  }
}
