import JournalModel
import WireProtocol

// Payload (W1): only bytes whose record went ahead on this connection, a frame of one file after a frame of another,
// never more than the server's credit.

extension Delivery {
  /// Lets payload follow the records that were sent; what has none yet waits for it.
  func promise(_ file: FollowedFile, _ cursor: Cursor) {
    if file.lastRecord < sentRecords {
      cursor.promised = file.committedLength
    } else if !cursor.isUnpromised {
      cursor.isUnpromised = true
      unpromised.push(file.lastRecord, file.id)
    }
    takeTurn(file.id, cursor)
  }

  func promiseSent() {
    while let (_, id) = unpromised.pop(if: { $0 < sentRecords }) {
      guard let file = files[id], let cursor = cursors[id], cursor.isUnpromised else { continue }
      cursor.isUnpromised = false
      if cursor.state == .active { promise(file, cursor) }
    }
  }

  private func takeTurn(_ id: FileID, _ cursor: Cursor) {
    guard cursor.state == .active, cursor.sent < cursor.promised, !cursor.isInTurns else { return }
    cursor.isInTurns = true
    turns.append(id)
    isDue = true
  }

  /// One frame of a file system at a time, the next file's turn after it (F4).
  func sendPayload(_ connection: ConnectionID, _ turn: inout Turn) {
    // What was begun tries again in each: until it is whole, the places and credit that others wait for don't come free.
    for id in short { turns.append(id) }
    short.removeAll(keepingCapacity: true)
    // A file that was put off tries again, one for each pass: the pass that finds nothing under way can't refuse it.
    if let id = postponed.popFirst() { turns.append(id) }
    while credit > spent, let id = nextInTurn() {
      guard let cursor = cursors[id], let file = files[id], cursor.isInTurns else { continue }
      // The one that its frame under way has, should the file have moved to another since.
      let fileSystem = inFlight.first { $0.value.file == id }?.key ?? file.inode.lane
      guard inFlight[fileSystem] == nil else {
        behind[fileSystem, default: Fifo()].append(id)
        continue
      }
      guard cursor.state == .active, cursor.sent < cursor.promised, file.isServable else {
        cursor.isInTurns = false
        if cursor.state == .active, !file.isServable { cursor.state = .parked }
        continue
      }
      guard mayTry(file) else {
        cursor.isInTurns = false
        setAside(file, cursor, Self.silence, &turn)
        continue
      }
      let share = isDoubtful(file, cursor) ? 1 : share(of: credit - spent, id, cursor)
      guard share > 0 else {
        if underWay.contains(id) { short.append(id) } else { postponed.append(id) }
        continue
      }
      cursor.isInTurns = false
      let length = min(UInt64(max(1, limits.payloadFrameSize)), share, cursor.promised - cursor.sent)
      let header = PayloadHeader(file: file.uuid, offset: cursor.sent, length: Int(length))
      cursor.sent += length
      spent &+= length
      inFlight[fileSystem] = (id, header.offset..<cursor.sent)
      noteSent(turn)
      turn.emit(.sendPayload(connection, id, header))
    }
  }

  /// Those whose file system is free again come first: they were in turn before.
  private func nextInTurn() -> FileID? {
    guard let fileSystem = behind.keys.filter({ inFlight[$0] == nil }).min() else { return turns.popFirst() }
    defer { if behind[fileSystem]?.isEmpty == true { behind[fileSystem] = nil } }
    return behind[fileSystem]?.popFirst()
  }

  /// How much of the credit a file may use now. What fits whole into a frame may use all of it; longer ones leave half of
  /// what the server gave at first, so that no backlog keeps a line waiting (F4). The server gives what brings to its end
  /// what was begun.
  private func share(of allowed: UInt64, _ id: FileID, _ cursor: Cursor) -> UInt64 {
    if cursor.promised - cursor.sent <= min(allowed, UInt64(max(1, limits.payloadFrameSize))) { return allowed }
    let reserve = firstCredit / 2
    return allowed > reserve && mayBegin(id, cursor, allowed: allowed) ? allowed - reserve : 0
  }

  /// A server frees credit only when it has an extent whole: unfinished extents of many files could use it up together,
  /// and nothing would move any more. So files whose rest takes more than a frame share the credit by whole extents, and
  /// one of these places is kept for those that end within an extent: no backlog keeps a shorter file waiting (F4).
  private func mayBegin(_ id: FileID, _ cursor: Cursor, allowed: UInt64) -> Bool {
    if underWay.contains(id) { return true }
    underWay.removeAll { id in
      guard let cursor = cursors[id], cursor.state == .active else { return true }
      return cursor.sent <= cursor.durable || cursor.sent == cursor.promised
    }
    let window = underWay.reduce(allowed) { sum, id in
      sum + (cursors[id].map { $0.sent - min($0.sent, $0.durable) } ?? 0)
    }
    let places = Int(clamping: max(1, window / UInt64(max(1, limits.extentSize))))
    guard underWay.count < places, !isLong(cursor) || underWay.count(where: isLong) < max(1, places - 1) else {
      return false
    }
    underWay.append(id)
    return true
  }

  private func isLong(_ cursor: Cursor) -> Bool { cursor.promised - cursor.sent > UInt64(max(1, limits.extentSize)) }
  private func isLong(_ id: FileID) -> Bool { cursors[id].map { isLong($0) } ?? false }

  func payloadSent(_ id: ConnectionID, _ file: FileID, end: UInt64, _ turn: inout Turn) {
    guard connection == id, let (lane, _) = landed(file, where: { $0.upperBound == end }) else { return }
    noteSent(turn)
    if let cursor = cursors[file], let file = files[file] {
      answered(file, lane)
      takeTurn(file.id, cursor)
    }
  }

  /// The file's frame isn't under way any more: what it lies on and its bytes, if there was one as it should be.
  func landed(_ file: FileID, where isExpected: (Range<UInt64>) -> Bool) -> (lane: UInt64, bytes: Range<UInt64>)? {
    guard let (lane, sent) = inFlight.first(where: { $0.value.file == file }), isExpected(sent.bytes) else {
      return nil
    }
    inFlight[lane] = nil
    isDue = true
    return (lane, sent.bytes)
  }

  func payloadUnavailable(
    _ id: ConnectionID, _ fileID: FileID, offset: UInt64, _ reason: String, _ turn: inout Turn
  ) {
    guard connection == id, let (_, bytes) = landed(fileID, where: { $0.lowerBound == offset }) else {
      return
    }
    takeBack(bytes, of: fileID, reason, &turn)
  }

  /// Nothing of the frame under way was sent.
  func takeBack(_ bytes: Range<UInt64>, of id: FileID, _ reason: String, _ turn: inout Turn) {
    spent = spent &- UInt64(bytes.count)
    guard let file = files[id], let cursor = cursors[id] else { return }
    if file.isAttached { turn.checks.append(id) }
    guard cursor.state == .active else { return }
    cursor.sent = bytes.lowerBound
    cursor.isRefused = true
    setAside(file, cursor, reason, &turn)
  }
}
