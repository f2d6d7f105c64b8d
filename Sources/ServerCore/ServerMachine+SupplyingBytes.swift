import JournalModel
import JournalStore
import WireProtocol

// Bytes of files that a peer asked for: of each from the last length up to which what both hold is one by its root (W2).
// Those of a channel come one after the other.

extension ServerMachine where H.Value == Digest {
  mutating func supplyFile(_ id: ConnectionID, _ channel: UInt32) {
    while let supply = links[id]?.supplies[channel] {
      guard let file = supply.file else {
        guard let wanted = links[id]?.supplies[channel]?.wantedFiles.popFirst() else { return }
        links[id]?.supplies[channel]?.file = FileSupply(wanted: wanted)
        let key = FileKey(host: supply.journal.host, file: wanted.file)
        guard let first = stringIndex[key] else { return read(.rows([key]), for: .supplyFile(id, channel: channel)) }
        strings[first].isRecent = true
        choose(among: all(first).map { strings[$0].row }, on: id, channel)
        continue
      }
      guard case .sending(let row, let next) = file.work, file.sending == nil else { return }
      if sendBytes(of: file, row, from: next, supply, on: id, channel) { return }
    }
  }

  private mutating func work(_ work: FileSupply.Work, on id: ConnectionID, _ channel: UInt32) {
    links[id]?.supplies[channel]?.file?.work = work
  }

  private mutating func endFile(on id: ConnectionID, _ channel: UInt32) {
    links[id]?.supplies[channel]?.file = nil
    dueLinks.insert(id)
  }

  private mutating func refuseFile(on id: ConnectionID, _ channel: UInt32) {
    let file = links[id]?.supplies[channel]?.file?.wanted.file
    endFile(on: id, channel)
    refuseSupply(file, on: id, channel)
  }

  /// The other side doesn't want it any more, however often it asked.
  mutating func fileWithdrawn(_ uuid: FileUUID, on id: ConnectionID, _ channel: UInt32) {
    let waiting = links[id]?.supplies[channel]?.wantedFiles.count ?? 0
    links[id]?.supplies[channel]?.wantedFiles.removeAll { $0.file == uuid }
    guard let supply = links[id]?.supplies[channel] else { return }
    guard let file = supply.file, file.wanted.file == uuid else {
      // It may have gone by while the last of it was on its way.
      if supply.wantedFiles.count == waiting { charge(1, to: id) }
      return
    }
    if case .sending = file.work, file.sending == nil { return endFile(on: id, channel) }
    work(.withdrawn, on: id, channel)
  }

  // MARK: Which string, and from where

  mutating func fileToSupplyRead(_ answer: StoreAnswer, on id: ConnectionID, _ channel: UInt32) {
    guard let file = links[id]?.supplies[channel]?.file else { return }
    dueLinks.insert(id)
    switch file.work {
    case .reading:
      let rows = answer.files.flatMap { file in [file.row].compactMap { $0 } + file.branches.map(\.row) }
      choose(among: rows, on: id, channel)
    case .withdrawn: endFile(on: id, channel)
    case .choosing, .joining, .sending: break
    }
  }

  mutating func fileToSupplyUnreadable(on id: ConnectionID, _ channel: UInt32) {
    switch links[id]?.supplies[channel]?.file?.work {
    case .reading: refuseFile(on: id, channel)
    case .withdrawn: endFile(on: id, channel)
    case .choosing, .joining, .sending, nil: break
    }
  }

  private mutating func choose(among rows: [StoredString], on id: ConnectionID, _ channel: UInt32) {
    guard let head = links[id]?.supplies[channel]?.file?.wanted.head else { return }
    let rows = rows.filter { $0.committed > 0 }
    links[id]?.supplies[channel]?.file?.rows = rows
    let distinct = rows.filter { $0.isDistinct && $0.committed >= head.length }
    if let exact = distinct.first(where: { $0.head == head }) {
      join(exact, on: id, channel)
    } else {
      choose(distinct, on: id, channel)
    }
  }

  private mutating func choose(_ candidates: [StoredString], on id: ConnectionID, _ channel: UInt32) {
    guard let next = candidates.first, let head = links[id]?.supplies[channel]?.file?.wanted.head else {
      return refuseFile(on: id, channel)
    }
    work(.choosing(candidates), on: id, channel)
    askRoot(of: next, head.length, on: id, channel)
  }

  private mutating func join(_ row: StoredString, on id: ConnectionID, _ channel: UInt32) {
    guard let held = links[id]?.supplies[channel]?.file?.wanted.held else { return }
    let within = held.filter { $0.length > 0 && $0.length <= row.committed }.sorted { $0.length > $1.length }
    goOnJoining(row, within, on: id, channel)
  }

  private mutating func goOnJoining(
    _ row: StoredString, _ heads: [TreeHead], on id: ConnectionID, _ channel: UInt32
  ) {
    guard let next = heads.first else { return joined(row, from: nil, on: id, channel) }
    if next.length == row.committed {
      if next.root == row.root { return joined(row, from: next, on: id, channel) }
      return goOnJoining(row, Array(heads.dropFirst()), on: id, channel)
    }
    work(.joining(row, heads), on: id, channel)
    askRoot(of: row, next.length, on: id, channel)
  }

  private mutating func askRoot(of row: StoredString, _ length: UInt64, on id: ConnectionID, _ channel: UInt32) {
    if let index = index(of: row.key), let root = strings[index].formerRoot(at: length) {
      return supplyRoot(root, on: id, channel)
    }
    let rows = links[id]?.supplies[channel]?.file?.rows ?? []
    guard let holder = row.holder(of: length - 1, among: rows)?.row else { return refuseFile(on: id, channel) }
    ask(holder.key, holder.segment, length, for: .supply(id, channel: channel))
  }

  mutating func supplyRoot(_ root: Digest?, on id: ConnectionID, _ channel: UInt32) {
    guard let file = links[id]?.supplies[channel]?.file else { return }
    dueLinks.insert(id)
    switch file.work {
    case .choosing(let candidates):
      guard let root else { return refuseFile(on: id, channel) }
      if root == file.wanted.head.root {
        join(candidates[0], on: id, channel)
      } else {
        choose(Array(candidates.dropFirst()), on: id, channel)
      }
    case .joining(let row, let heads):
      guard let root else { return refuseFile(on: id, channel) }
      if root == heads[0].root { return joined(row, from: heads[0], on: id, channel) }
      // Each costs a leaf; an honest peer's string is mostly one.
      guard charge(1, to: id) else { return }
      goOnJoining(row, Array(heads.dropFirst()), on: id, channel)
    case .withdrawn: endFile(on: id, channel)
    case .reading, .sending: break
    }
  }

  private mutating func joined(_ row: StoredString, from head: TreeHead?, on id: ConnectionID, _ channel: UInt32) {
    guard let wanted = links[id]?.supplies[channel]?.file?.wanted else { return }
    let base =
      head.map { DurablePrefix(file: wanted.file, length: $0.length, root: $0.root) } ?? .nothing(of: wanted.file)
    let hasOthers = wanted.held.contains { $0.length != base.length || $0.root != base.root }
    if hasOthers { send(.extend(base), of: channel, on: id) }
    work(.sending(row, next: base.length), on: id, channel)
    dueLinks.insert(id)
  }

  // MARK: Sending

  /// False when the file is over.
  private mutating func sendBytes(
    of file: FileSupply, _ row: StoredString, from next: UInt64, _ supply: Supply, on id: ConnectionID,
    _ channel: UInt32
  ) -> Bool {
    // No further: what came since is announced, and asked for by itself.
    guard next < file.wanted.head.length else {
      endFile(on: id, channel)
      return false
    }
    guard supply.spent < supply.credit, links[id]?.sending ?? 0 < Supply.mostSending else { return true }
    guard let (holder, end) = row.holder(of: next, among: file.rows) else {
      refuseFile(on: id, channel)
      return false
    }
    let length = min(
      end - next, file.wanted.head.length - next, supply.credit - supply.spent,
      UInt64(max(1, limits.payloadFrameSize)))
    links[id]?.served = channel
    links[id]?.supplies[channel]?.spent += length
    links[id]?.supplies[channel]?.file?.sending = next + length
    work(.sending(row, next: next + length), on: id, channel)
    let header = PayloadHeader(file: file.wanted.file, offset: next, length: Int(length))
    out.append(.supply(id, channel: channel, holder.key, holder.segment, header))
    return true
  }

  mutating func supplied(_ id: ConnectionID, channel: UInt32, end: UInt64, isSent: Bool) {
    guard let file = links[id]?.supplies[channel]?.file, file.sending == end else { return }
    links[id]?.supplies[channel]?.file?.sending = nil
    dueLinks.insert(id)
    if case .withdrawn = file.work { return endFile(on: id, channel) }
    if !isSent { refuseFile(on: id, channel) }
  }
}
