import JournalModel
import JournalStore
import WireProtocol

// Bytes of files that a peer asked for: of each from the last length up to which what both hold is one by its root (W2).
// Those of a channel come one after the other, short ones beside long ones.

extension ServerMachine where H.Value == Digest {
  mutating func supplyFiles(_ id: ConnectionID, _ channel: UInt32) {
    for lane in links[id]?.supplies[channel]?.turns ?? [] {
      supplyFile(SupplyPlace(link: id, channel: channel, lane: lane))
    }
  }

  private mutating func supplyFile(_ place: SupplyPlace) {
    while let supply = links[place.link]?.supplies[place.channel] {
      guard let file = supply[place.lane].current else {
        guard let wanted = links[place.link]?[place].wanted.popFirst() else { return }
        links[place.link]?[place].current = FileSupply(wanted: wanted)
        let key = FileKey(host: supply.journal.host, file: wanted.file)
        guard let first = stringIndex[key] else { return read(.rows([key]), for: .supplyFile(place)) }
        strings[first].isRecent = true
        choose(among: all(first).map { strings[$0].row }, at: place)
        continue
      }
      guard case .sending(let row, let next) = file.work, file.sending == nil else { return }
      if sendBytes(of: file, row, from: next, supply, at: place) { return }
    }
  }

  private func supplied(at place: SupplyPlace) -> FileSupply? { links[place.link]?[place].current }

  private mutating func work(_ work: FileSupply.Work, at place: SupplyPlace) {
    links[place.link]?[place].current?.work = work
  }

  private mutating func endFile(at place: SupplyPlace) {
    links[place.link]?[place].current = nil
    dueLinks.insert(place.link)
  }

  private mutating func refuseFile(at place: SupplyPlace) {
    let file = supplied(at: place)?.wanted.file
    endFile(at: place)
    refuseSupply(file, on: place.link, place.channel)
  }

  /// The other side doesn't want it any more, however often it asked.
  mutating func fileWithdrawn(_ uuid: FileUUID, on id: ConnectionID, _ channel: UInt32) {
    guard let waiting = links[id]?.supplies[channel]?.wants else { return }
    var isUnderWay = false
    for lane in Supply.Lane.allCases {
      let place = SupplyPlace(link: id, channel: channel, lane: lane)
      links[id]?[place].wanted.removeAll { $0.file == uuid }
      guard let file = supplied(at: place), file.wanted.file == uuid else { continue }
      isUnderWay = true
      if case .sending = file.work, file.sending == nil { endFile(at: place) } else { work(.withdrawn, at: place) }
    }
    // It may have gone by while the last of it was on its way.
    if !isUnderWay, links[id]?.supplies[channel]?.wants == waiting { charge(1, to: id) }
  }

  // MARK: Which string, and from where

  mutating func fileToSupplyRead(_ answer: StoreAnswer, at place: SupplyPlace) {
    guard let file = supplied(at: place) else { return }
    dueLinks.insert(place.link)
    switch file.work {
    case .reading:
      let rows = answer.files.flatMap { file in [file.row].compactMap { $0 } + file.branches.map(\.row) }
      choose(among: rows, at: place)
    case .withdrawn: endFile(at: place)
    case .choosing, .joining, .sending: break
    }
  }

  mutating func fileToSupplyUnreadable(at place: SupplyPlace) {
    switch supplied(at: place)?.work {
    case .reading: refuseFile(at: place)
    case .withdrawn: endFile(at: place)
    case .choosing, .joining, .sending, nil: break
    }
  }

  private mutating func choose(among rows: [StoredString], at place: SupplyPlace) {
    guard let head = supplied(at: place)?.wanted.head else { return }
    let rows = rows.filter { $0.committed > 0 }
    links[place.link]?[place].current?.rows = rows
    let distinct = rows.filter { $0.isDistinct && $0.committed >= head.length }
    if let exact = distinct.first(where: { $0.head == head }) {
      join(exact, at: place)
    } else {
      choose(distinct, at: place)
    }
  }

  private mutating func choose(_ candidates: [StoredString], at place: SupplyPlace) {
    guard let next = candidates.first, let head = supplied(at: place)?.wanted.head else {
      return refuseFile(at: place)
    }
    work(.choosing(candidates), at: place)
    askRoot(of: next, head.length, at: place)
  }

  private mutating func join(_ row: StoredString, at place: SupplyPlace) {
    guard let held = supplied(at: place)?.wanted.held else { return }
    let within = held.filter { $0.length > 0 && $0.length <= row.committed }.sorted { $0.length > $1.length }
    goOnJoining(row, within, at: place)
  }

  private mutating func goOnJoining(_ row: StoredString, _ heads: [TreeHead], at place: SupplyPlace) {
    guard let next = heads.first else { return joined(row, from: nil, at: place) }
    if next.length == row.committed {
      if next.root == row.root { return joined(row, from: next, at: place) }
      return goOnJoining(row, Array(heads.dropFirst()), at: place)
    }
    work(.joining(row, heads), at: place)
    askRoot(of: row, next.length, at: place)
  }

  private mutating func askRoot(of row: StoredString, _ length: UInt64, at place: SupplyPlace) {
    if let index = index(of: row.key), let root = strings[index].formerRoot(at: length) {
      return supplyRoot(root, at: place)
    }
    let rows = supplied(at: place)?.rows ?? []
    guard let holder = row.holder(of: length - 1, among: rows)?.row else { return refuseFile(at: place) }
    ask(holder.key, holder.segment, length, for: .supply(place))
  }

  mutating func supplyRoot(_ root: Digest?, at place: SupplyPlace) {
    guard let file = supplied(at: place) else { return }
    dueLinks.insert(place.link)
    switch file.work {
    case .choosing(let candidates):
      guard let root else { return refuseFile(at: place) }
      if root == file.wanted.head.root {
        join(candidates[0], at: place)
      } else {
        choose(Array(candidates.dropFirst()), at: place)
      }
    case .joining(let row, let heads):
      guard let root else { return refuseFile(at: place) }
      if root == heads[0].root { return joined(row, from: heads[0], at: place) }
      // Each costs a leaf; an honest peer's string is mostly one.
      guard charge(1, to: place.link) else { return }
      goOnJoining(row, Array(heads.dropFirst()), at: place)
    case .withdrawn: endFile(at: place)
    case .reading, .sending: break
    }
  }

  private mutating func joined(_ row: StoredString, from head: TreeHead?, at place: SupplyPlace) {
    guard let wanted = supplied(at: place)?.wanted else { return }
    let base =
      head.map { DurablePrefix(file: wanted.file, length: $0.length, root: $0.root) } ?? .nothing(of: wanted.file)
    let hasOthers = wanted.held.contains { $0.length != base.length || $0.root != base.root }
    if hasOthers { send(.extend(base), of: place.channel, on: place.link) }
    work(.sending(row, next: base.length), at: place)
    dueLinks.insert(place.link)
  }

  // MARK: Sending

  /// False when the file is over.
  private mutating func sendBytes(
    of file: FileSupply, _ row: StoredString, from next: UInt64, _ supply: Supply, at place: SupplyPlace
  ) -> Bool {
    let (id, channel) = (place.link, place.channel)
    // No further: what came since is announced, and asked for by itself.
    guard next < file.wanted.head.length else {
      endFile(at: place)
      return false
    }
    guard supply.spent < supply.credit, links[id]?.sending ?? 0 < Supply.mostSending else { return true }
    guard let (holder, end) = row.holder(of: next, among: file.rows) else {
      refuseFile(at: place)
      return false
    }
    let length = min(
      end - next, file.wanted.head.length - next, supply.credit - supply.spent,
      UInt64(max(1, limits.payloadFrameSize)))
    links[id]?.served = channel
    links[id]?.supplies[channel]?.served = place.lane
    links[id]?.supplies[channel]?.spent += length
    links[id]?[place].current?.sending = next + length
    work(.sending(row, next: next + length), at: place)
    let header = PayloadHeader(file: file.wanted.file, offset: next, length: Int(length))
    out.append(.supply(id, channel: channel, holder.key, holder.segment, header))
    return true
  }

  mutating func supplied(_ id: ConnectionID, channel: UInt32, _ header: PayloadHeader, isSent: Bool) {
    for lane in Supply.Lane.allCases {
      let place = SupplyPlace(link: id, channel: channel, lane: lane)
      guard let file = supplied(at: place), file.wanted.file == header.file, file.sending == header.end else {
        continue
      }
      links[id]?[place].current?.sending = nil
      dueLinks.insert(id)
      if case .withdrawn = file.work { return endFile(at: place) }
      if !isSent { refuseFile(at: place) }
      return
    }
  }
}
