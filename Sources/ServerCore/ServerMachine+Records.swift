import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Records (W1, J2): a frame is taken whole or not at all, and every record that is taken is covered by a checkpoint that
// the host signed over exactly this history.

// Outside the generic machine: the optimizer of Swift 6.3.1 crashes on a typed error that is nested in it.
private struct Refused: Error {
  var code: RefusalCode
  var text: String
}

extension ServerMachine where H.Value == Digest {
  /// Encoded records that may wait for a commit, of one journal and of all.
  private var waitingRecordBytesPerJournal: Int { 64 * max(limits.recordBytesPerFrame, Record.maximumByteCount) }
  private var waitingRecordBytesInAll: Int { max(settings.totalCredit, waitingRecordBytesPerJournal) }

  mutating func take(_ frame: Records, _ decoded: [Record?], on id: ConnectionID) {
    guard let frame = follow(frame, on: id), let session = connections[id]?.session else { return }
    guard case .sequence(let journal) = session.records else {
      return violated(id, "records, and of several sequences none was chosen")
    }
    if setApart(journal: journal, for: decoded) { return }
    do {
      let fresh = try freshRecords(of: frame, in: journal)
      if fresh.isEmpty {
        advance(journal: journal, to: frame.first + UInt64(frame.encoded.count))
        charge(1 + frame.encoded.reduce(0) { $0 + $1.count } >> 16, to: id)
        return
      }
      let taken = try checked(fresh, decoded.suffix(fresh.count), frame.checkpoint, in: journal)
      journals[journal].append(fresh, taken.nodes, under: frame.checkpoint, taken.frontier)
      let bytes = JournalIntake<H>.footprint(of: fresh)
      journals[journal].waitingBytes += bytes
      waitingRecordBytes += bytes
      let names = taken.records.saturatingSum(\.names)
      noteIntake(CommitShare(rows: taken.records.count, bytes: bytes, names: names), of: session.facts.tally)
      advance(journal: journal, to: taken.frontier.size)
      markDirty(journal: journal)
      for record in taken.records { apply(record, of: session.facts) }
    } catch {
      refuseRecords(id, error.code, error.text)
    }
  }

  /// The connection has shown records up to `end`; what it repeated may be durable already.
  private mutating func advance(journal index: Int, to end: UInt64) {
    waitingRecordBytes -= journals[index].advance(to: end)
    acknowledgeRecords(index)
  }

  /// The host is told of durable records, whether or not this connection has shown them.
  mutating func acknowledgeRecords(_ index: Int) {
    guard let id = journals[index].connection, let checkpoint = journals[index].unacknowledged() else { return }
    send(.recordsDurable(checkpoint), to: id)
  }

  /// The frame's records beyond those taken already; the others must be equal to what waits.
  private func freshRecords(of frame: Records, in journal: Int) throws(Refused) -> ArraySlice<[UInt8]> {
    let base = journals[journal].base
    let length = journals[journal].length
    let (end, overflow) = frame.first.addingReportingOverflow(UInt64(frame.encoded.count))
    guard !overflow, !frame.encoded.isEmpty else { throw violation("a frame without records, or beyond every length") }
    guard frame.first >= base, frame.first <= length else {
      throw violation("records from \(frame.first), but they go on between \(base) and \(length)")
    }
    let waiting = journals[journal].waiting
    let repeated = Int(min(end, length) - frame.first)
    let offset = Int(frame.first - base)
    for index in 0..<repeated where frame.encoded[index] != waiting[offset + index] {
      throw Refused(code: .journalFork, text: "record \(frame.first + UInt64(index)) differs from the one taken")
    }
    let fresh = frame.encoded[repeated...]
    let size = JournalIntake<H>.footprint(of: fresh)
    // A host keeps to its window, so that only a store that takes no commits brings this about.
    let isBeyondWindow = waiting.count + fresh.count > limits.recordWindow + limits.recordsPerFrame
    if isBeyondWindow { throw violation("more than \(limits.recordWindow) records wait") }
    if journals[journal].waitingBytes + size > waitingRecordBytesPerJournal
      || waitingRecordBytes + size > waitingRecordBytesInAll
    {
      throw Refused(code: .busy, text: "too many bytes of records wait for the store")
    }
    return fresh
  }

  private func checked(
    _ fresh: ArraySlice<[UInt8]>, _ decoded: ArraySlice<Record?>, _ checkpoint: Checkpoint, in index: Int
  ) throws(Refused) -> (records: [Record], frontier: Frontier<H>, nodes: [JournalNodes]) {
    let journal = journals[index].held
    let start = journals[index].length
    var frontier = journals[index].frontier
    let nodes = fresh.compactMap { frontier.append(record: $0) }
    guard checkpoint.host == journal.host, checkpoint.journal == journal.journal, checkpoint.length == frontier.size,
      verifier.isValid(checkpoint, publicKey: journal.publicKey)
    else { throw Refused(code: .badSignature, text: "the checkpoint at \(checkpoint.length) doesn't verify") }
    guard checkpoint.root == frontier.root else {
      // The host signed another history than the one that it sent here (M1).
      throw Refused(code: .journalFork, text: "the checkpoint at \(checkpoint.length) covers other records")
    }
    var records: [Record] = []
    records.reserveCapacity(fresh.count)
    for (position, record) in decoded.enumerated() {
      let number = start + UInt64(position)
      guard let record else { throw violation("record \(number) is no record") }
      try checkOpening(record, number: number, of: journal)
      records.append(record)
    }
    return (records, frontier, nodes)
  }

  /// Record 0, and no other, opens the journal, as the one that `hello` named and with a binding of this server's own
  /// authorities (W6).
  private func checkOpening(_ record: Record, number: UInt64, of journal: HeldJournal) throws(Refused) {
    guard case .journalOpened(let opened) = record.body else {
      if number == 0 { throw violation("the journal doesn't begin with journal-opened") }
      return
    }
    guard number == 0 else { throw violation("journal-opened as record \(number)") }
    guard opened.host == journal.host, opened.journal == journal.journal, opened.publicKey == journal.publicKey else {
      throw Refused(code: .badSignature, text: "journal-opened isn't that of the handshake")
    }
    if let reason = verifier.refusal(of: opened) { throw Refused(code: .badSignature, text: reason) }
  }

  private func violation(_ text: String) -> Refused { Refused(code: .protocolViolation, text: text) }

  mutating func refuseRecords(_ id: ConnectionID, _ code: RefusalCode, _ text: String) {
    guard let connection = connections[id] else { return }
    var length: UInt64 = 0
    if case .sequence(let index)? = connection.session?.records { length = journals[index].held.length }
    refusals += 1
    out.append(.report(.peerRefused(connection.peer, code, text)))
    send(.refusal(Refusal(file: nil, code: code, length: length, text: text)), to: id)
    cut(id, code, text)
  }

  // MARK: What a record says about a file

  private mutating func apply(_ record: Record, of session: SessionFacts) {
    switch record.body {
    case .journalOpened(let opened):
      for file in opened.files { promise(FileKey(host: session.host, file: file.file), file.length, file.root) }
    case .fileBorn(let born): apply(born, of: session)
    case .bytesAppended(let appended):
      let (end, overflow) = appended.offset.addingReportingOverflow(appended.length)
      if !overflow { promise(FileKey(host: session.host, file: appended.file), end, appended.root) }
    case .fileClosed(let closed):
      let key = FileKey(host: session.host, file: closed.file)
      promise(key, closed.length, closed.root)
      // A statement, not a bar: said of less than is recorded by now, it is out of date.
      guard let index = stringIndex[key], closed.length >= strings[index].row.recorded else { return }
      noteClosed(index, closed.reason)
    case .gap(let gap): apply(gap, of: session)
    case .rotated, .unknown: break
    }
  }

  private mutating func noteClosed(_ index: Int, _ reason: FileClosed.Reason?) {
    strings[index].row.closed = reason
    markDue(index)
  }

  /// The first birth of a file is the one whose facts count; later ones (a journal lost and begun anew names the same
  /// inode alike, D1) are records only.
  private mutating func apply(_ born: FileBorn, of session: SessionFacts) {
    let key = FileKey(host: session.host, file: born.file)
    guard stringIndex[key] == nil else { return }
    let (stored, attempt) = firstName(of: born, host: session.host, tally: session.tally)
    let row = StoredString(
      key: StringKey(key: key, string: 0), identity: born.identity, isDerived: born.isDerived, path: born.path,
      born: born.born, received: wall, parent: born.parent, committed: 0, root: H.empty, synced: 0,
      stored: stored, isMade: false, recorded: 0)
    var string = StringIntake(row: row, plain: .none, tally: session.tally)
    string.unfinished = .wanted
    string.attempt = attempt
    markDue(add(string))
  }

  private mutating func apply(_ gap: Gap, of session: SessionFacts) {
    out.append(.report(.gap(session.host, gap)))
    guard case .file(let file) = gap.subject else { return }
    let key = FileKey(host: session.host, file: file)
    promise(key, gap.provenLength, gap.provenRoot)
    guard let index = stringIndex[key] else { return }
    let known = strings[index].row.gap
    strings[index].row.gap = StoredGap(
      lower: min(known?.lower ?? gap.lower, gap.lower), upper: max(known?.upper ?? gap.upper, gap.upper))
    markDue(index)
    // What a host can't supply any more a peer can: its bytes may be on their way.
    for index in all(index) where strings[index].owner?.isChannel != true {
      strings[index].gapAhead = min(strings[index].gapAhead ?? .max, gap.lower)
      advance(index)
    }
  }

  /// The host signed that the file's first `length` bytes have this root (W3, J4). Bytes of any of its strings may meet it.
  private mutating func promise(_ key: FileKey, _ length: UInt64, _ root: Digest) {
    guard let first = stringIndex[key], length > 0, !isMet(length, root, first) else { return }
    if length > strings[first].row.recorded {
      for index in all(first) { strings[index].row.recorded = length }
      // Whatever closed it, it goes on.
      noteClosed(first, nil)
      promiseTaken(key)
    }
    var insertion = PromiseWindow.Insertion.outside
    if length > strings[first].committed {
      insertion = strings[first].promises.insert(length, root)
      if insertion == .new { announceBulk(first, upTo: length) }
    }
    let isOther = length == strings[first].committed
    if isOther || insertion == .conflict || insertion == .surplus {
      report(first, .conflict, "the host signed another root for its first \(length) bytes")
    }
    guard insertion != .known, insertion != .surplus else { return }
    for index in strings[first].branches { _ = strings[index].promises.insert(length, root) }
    strings[first].newPromises.append(Promise(key: key, length: length, root: root))
    markDue(first)
    for index in all(first) { promised(index) }
  }

  /// The bytes that are held have it.
  private func isMet(_ length: UInt64, _ root: Digest, _ first: Int) -> Bool {
    func hasMet(_ index: Int) -> Bool { strings[index].committed == length && strings[index].row.root == root }
    return hasMet(first) || strings[first].branches.contains(where: hasMet)
  }

  private mutating func promised(_ index: Int) {
    trimWindow(index)
    noteOwed(index)
    // Bytes may have come first; and one that isn't met may be passed over now.
    if strings[index].received > strings[index].verified { advance(index) }
  }
}

extension Record {
  /// How many names a server makes for it, at most: a file's, and those of the directories above it.
  fileprivate var names: Int {
    guard case .fileBorn(let born) = body else { return 0 }
    return 1 + born.path.bytes.count { $0 == UInt8(ascii: "/") }
  }
}
