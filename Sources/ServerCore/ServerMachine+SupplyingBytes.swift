import JournalModel
import JournalStore
import WireProtocol

// Bytes of files that a peer asked for: of each from the last length up to which what both hold is one by its root (W2).
// Those of a channel come one after the other.

extension ServerMachine where H.Value == Digest {
  mutating func supplyFiles(_ id: ConnectionID, _ channel: UInt32) {
    guard let files = links[id]?.supplies[channel]?.files else { return }
    for file in files { if case .sending = file.work { sendBytes(of: file.wanted.file, on: id, channel) } }
    beginFiles(id, channel)
  }

  private mutating func beginFiles(_ id: ConnectionID, _ channel: UInt32) {
    var begun: [FileUUID] = []
    while let supply = links[id]?.supplies[channel], let wanted = supply.wantedFiles.first,
      supply.files.count < Supply.mostFiles, supply.index(of: wanted.file) == nil
    {
      _ = links[id]?.supplies[channel]?.wantedFiles.popFirst()
      links[id]?.supplies[channel]?.files.append(FileSupply(wanted: wanted))
      begun.append(wanted.file)
    }
    guard !begun.isEmpty, let host = links[id]?.supplies[channel]?.journal.host else { return }
    let keys = begun.map { FileKey(host: host, file: $0) }
    read(.rows(keys), for: .supplyFiles(id, channel: channel, begun))
  }

  private func supply(of file: FileUUID, on id: ConnectionID, _ channel: UInt32) -> FileSupply? {
    guard let supply = links[id]?.supplies[channel], let index = supply.index(of: file) else { return nil }
    return supply.files[index]
  }

  private mutating func work(_ work: FileSupply.Work, _ file: FileUUID, on id: ConnectionID, _ channel: UInt32) {
    guard let index = links[id]?.supplies[channel]?.index(of: file) else { return }
    links[id]?.supplies[channel]?.files[index].work = work
  }

  /// The other side doesn't want it any more, however often it asked.
  mutating func withdraw(_ file: FileUUID, on id: ConnectionID, _ channel: UInt32) {
    links[id]?.supplies[channel]?.wantedFiles.removeAll { $0.file == file }
    endSupply(of: file, on: id, channel)
  }

  private mutating func endSupply(of file: FileUUID, on id: ConnectionID, _ channel: UInt32) {
    guard let supply = supply(of: file, on: id, channel) else { return }
    dueLinks.insert(id)
    if supply.sending != nil { return work(.over, file, on: id, channel) }
    links[id]?.supplies[channel]?.files.removeAll { $0.wanted.file == file }
  }

  private mutating func refuseBytes(of file: FileUUID, on id: ConnectionID, _ channel: UInt32) {
    endSupply(of: file, on: id, channel)
    refuseSupply(file, on: id, channel)
  }

  // MARK: Which string, and from where

  mutating func filesToSupplyRead(_ answer: StoreAnswer, on id: ConnectionID, _ channel: UInt32) {
    dueLinks.insert(id)
    for file in answer.files {
      guard let supply = supply(of: file.key.file, on: id, channel), case .reading = supply.work else { continue }
      let rows = ([file.row].compactMap { $0 } + file.branches.map(\.row)).filter { $0.committed > 0 }
      guard let index = links[id]?.supplies[channel]?.index(of: file.key.file) else { continue }
      links[id]?.supplies[channel]?.files[index].rows = rows
      let head = supply.wanted.head
      let distinct = rows.filter { $0.isDistinct && $0.committed >= head.length }
      if let exact = distinct.first(where: { $0.head == head }) {
        join(file.key.file, exact, on: id, channel)
      } else {
        choose(file.key.file, distinct, on: id, channel)
      }
    }
  }

  mutating func filesToSupplyUnreadable(_ files: [FileUUID], on id: ConnectionID, _ channel: UInt32) {
    for file in files { if supply(of: file, on: id, channel) != nil { refuseBytes(of: file, on: id, channel) } }
  }

  private mutating func choose(
    _ file: FileUUID, _ candidates: [StoredString], on id: ConnectionID, _ channel: UInt32
  ) {
    guard let next = candidates.first, let supply = supply(of: file, on: id, channel) else {
      return refuseBytes(of: file, on: id, channel)
    }
    work(.choosing(candidates), file, on: id, channel)
    askRoot(of: next, supply.wanted.head.length, file, on: id, channel)
  }

  private mutating func join(_ file: FileUUID, _ row: StoredString, on id: ConnectionID, _ channel: UInt32) {
    guard let held = supply(of: file, on: id, channel)?.wanted.held else { return }
    let within = held.filter { $0.length > 0 && $0.length <= row.committed }.sorted { $0.length > $1.length }
    goOnJoining(file, row, within, on: id, channel)
  }

  private mutating func goOnJoining(
    _ file: FileUUID, _ row: StoredString, _ heads: [TreeHead], on id: ConnectionID, _ channel: UInt32
  ) {
    guard let next = heads.first else { return joined(file, row, from: .nothing(of: file), on: id, channel) }
    if next.length == row.committed {
      guard next.root == row.root else {
        return goOnJoining(file, row, Array(heads.dropFirst()), on: id, channel)
      }
      let base = DurablePrefix(file: file, length: next.length, root: next.root)
      return joined(file, row, from: base, on: id, channel)
    }
    work(.joining(row, heads), file, on: id, channel)
    askRoot(of: row, next.length, file, on: id, channel)
  }

  private mutating func askRoot(
    of row: StoredString, _ length: UInt64, _ file: FileUUID, on id: ConnectionID, _ channel: UInt32
  ) {
    let rows = supply(of: file, on: id, channel)?.rows ?? []
    guard let holder = row.holder(of: length - 1, among: rows)?.row else {
      return refuseBytes(of: file, on: id, channel)
    }
    let asked = ask(holder.key, holder.segment, length, for: .supply(id, channel: channel, file))
    guard let index = links[id]?.supplies[channel]?.index(of: file) else { return }
    links[id]?.supplies[channel]?.files[index].asked = asked
  }

  /// What was withdrawn meanwhile, and asked for anew, has other questions.
  mutating func supplyRoot(
    _ question: RootID, _ root: Digest?, of file: FileUUID, on id: ConnectionID, _ channel: UInt32
  ) {
    guard let supply = supply(of: file, on: id, channel), supply.asked == question else { return }
    dueLinks.insert(id)
    switch supply.work {
    case .choosing(let candidates):
      guard let root else { return refuseBytes(of: file, on: id, channel) }
      if root == supply.wanted.head.root {
        join(file, candidates[0], on: id, channel)
      } else {
        choose(file, Array(candidates.dropFirst()), on: id, channel)
      }
    case .joining(let row, let heads):
      guard let root else { return refuseBytes(of: file, on: id, channel) }
      if root == heads[0].root {
        let base = DurablePrefix(file: file, length: heads[0].length, root: root)
        joined(file, row, from: base, on: id, channel)
      } else {
        // Each costs a leaf; an honest peer's string is mostly one.
        guard charge(1, to: id) else { return }
        goOnJoining(file, row, Array(heads.dropFirst()), on: id, channel)
      }
    case .reading, .sending, .over: break
    }
  }

  private mutating func joined(
    _ file: FileUUID, _ row: StoredString, from base: DurablePrefix, on id: ConnectionID, _ channel: UInt32
  ) {
    guard let held = supply(of: file, on: id, channel)?.wanted.held else { return }
    let hasOthers = held.contains { $0.length != base.length || $0.root != base.root }
    if hasOthers { send(.extend(base), of: channel, on: id) }
    work(.sending(row, next: base.length), file, on: id, channel)
    dueLinks.insert(id)
  }

  // MARK: Sending

  private mutating func sendBytes(of file: FileUUID, on id: ConnectionID, _ channel: UInt32) {
    guard let all = links[id]?.supplies[channel], let index = all.index(of: file) else { return }
    let supply = all.files[index]
    guard case .sending(let row, let next) = supply.work, supply.sending == nil else { return }
    // No further: what came since is announced, and asked for by itself.
    guard next < supply.wanted.head.length else { return endSupply(of: file, on: id, channel) }
    guard all.spent < all.credit, links[id]?.sending ?? 0 < Supply.mostSending else { return }
    guard let (holder, end) = row.holder(of: next, among: supply.rows) else {
      return refuseBytes(of: file, on: id, channel)
    }
    let length = min(
      end - next, supply.wanted.head.length - next, all.credit - all.spent, UInt64(max(1, limits.payloadFrameSize)))
    links[id]?.served = channel
    links[id]?.supplies[channel]?.spent += length
    links[id]?.supplies[channel]?.files.remove(at: index)
    var sent = supply
    sent.sending = next + length
    sent.work = .sending(row, next: next + length)
    links[id]?.supplies[channel]?.files.append(sent)
    let header = PayloadHeader(file: file, offset: next, length: Int(length))
    out.append(.supply(id, channel: channel, holder.key, holder.segment, header))
  }

  mutating func supplied(_ id: ConnectionID, channel: UInt32, _ header: PayloadHeader, isSent: Bool) {
    let file = header.file
    guard let all = links[id]?.supplies[channel], let index = all.index(of: file),
      all.files[index].sending == header.end
    else { return }
    dueLinks.insert(id)
    links[id]?.supplies[channel]?.files[index].sending = nil
    switch all.files[index].work {
    case .over: endSupply(of: file, on: id, channel)
    case .sending where !isSent: refuseBytes(of: file, on: id, channel)
    case .sending, .reading, .choosing, .joining: break
    }
  }
}
