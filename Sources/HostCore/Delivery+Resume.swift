import JournalModel
import JournalStore
import WireProtocol

// Resume (W2): the server says what it holds of a file, the host goes on only from a length where its own root is the
// same. A file whose answer doesn't fit waits alone.

extension Delivery {
  func cursor(of file: FollowedFile) -> Cursor {
    if let cursor = cursors[file.id] { return cursor }
    let cursor = Cursor(durable: 0)
    cursors[file.id] = cursor
    return cursor
  }

  /// A file as the store has it.
  func enter(_ file: FollowedFile, noted: UInt64, at now: Instant) {
    let cursor = Cursor(durable: min(noted, file.committedLength))
    cursor.rewind()
    cursor.mark(file.committedLength, at: now)
    cursors[file.id] = cursor
  }

  func durable(_ id: FileID) -> UInt64 { cursors[id]?.durable ?? 0 }

  func hasAnswered(about file: FollowedFile) -> Bool {
    guard let cursor = cursors[file.id] else { return false }
    return cursor.hasAnswered || cursor.durable >= file.length
  }

  /// A connection opened.
  func begin(_ file: FollowedFile, _ turn: inout Turn) {
    let cursor = cursor(of: file)
    cursor.state = .unknown
    cursor.isInTurns = false
    cursor.isUnpromised = false
    cursor.claimed = nil
    cursor.rewind()
    ask(file, cursor)
  }

  func forgetAcknowledged(_ file: FollowedFile) {
    guard let cursor = cursors[file.id], cursor.durable > 0 else { return }
    cursor.durable = 0
    noteDirty(file.id, cursor)
  }

  /// The file is gone for good.
  func forget(_ file: FollowedFile) {
    comparing[file.id] = nil
    if let cursor = cursors.removeValue(forKey: file.id) { noteLast(file, cursor) }
  }

  /// Something of the file was committed.
  func journaled(_ file: FollowedFile, _ turn: inout Turn) {
    let cursor = cursor(of: file)
    cursor.mark(file.committedLength, at: turn.now)
    isDue = true
    guard isOpen else { return }
    switch cursor.state {
    case .unknown:
      // A random uuid born since the connection opened is on no server: no question needed, until something was sent.
      if !file.isDerived, file.bornRecord > 0, file.bornRecord >= openedAt, cursor.everSent == 0 {
        activate(file, cursor, from: 0, &turn)
      } else {
        ask(file, cursor)
      }
    case .active: promise(file, cursor)
    case .ahead(let held):
      if held.contains(where: { $0.length <= file.committedLength }) { examine(file, cursor, held, &turn) }
    case .unasked, .asked, .comparing, .parked, .retrying, .stuck: break
    }
  }

  /// The file is at hand now.
  func attached(_ file: FollowedFile) {
    guard isOpen, let cursor = cursors[file.id], cursor.state == .parked || cursor.state == .unknown else { return }
    cursor.state = .unknown
    ask(file, cursor)
    isDue = true
  }

  func retry(_ id: FileID, at now: Instant) {
    guard let cursor = cursors[id], let file = files[id], cursor.state == .retrying || cursor.state == .stuck else {
      return
    }
    guard mayTry(file) else { return retries.push(now + limits.retry, id) }
    cursor.state = .unknown
    ask(file, cursor)
    isDue = true
  }

  /// Only files that the server lacks something of are asked about.
  private func ask(_ file: FollowedFile, _ cursor: Cursor) {
    guard file.isCommitted, file.closed != .vanished, cursor.durable < file.committedLength else { return }
    askAnew(file, cursor)
  }

  func askAnew(_ file: FollowedFile, _ cursor: Cursor) {
    cursor.state = .unasked
    toAsk.append(file.id)
    isDue = true
  }

  /// Of what can't be supplied any more: the server may have it from its peers.
  func ask(about files: [FileUUID]) {
    mustAskAboutGaps = false
    guard isOpen, rowsToAsk.isEmpty, askedRows.isEmpty else { return }
    ask(aboutNext: endedToAsk() + files)
  }

  func ask(aboutNext files: [FileUUID]) {
    for uuid in files {
      guard let file = self.files[uuid] else {
        rowsToAsk.append(uuid)
        continue
      }
      // What goes on being delivered is heard of.
      guard file.closed == .vanished, file.isCommitted, let cursor = cursors[file.id],
        cursor.durable < file.committedLength, cursor.state == .unknown || cursor.state == .parked
      else { continue }
      askAnew(file, cursor)
    }
    isDue = true
  }

  private func askAboutRows(_ turn: inout Turn) {
    // A frame of one that went while it was read would arrive behind the question, and be taken for what follows the answer
    // (W2).
    guard inFlight.values.allSatisfy({ files[$0.file] != nil }) else { return }
    while askedRows.count < max(1, limits.resumePage), let file = rowsToAsk.popFirst() { askedRows.append(file) }
    if !askedRows.isEmpty { send(.resumeQuery(askedRows), &turn) }
  }

  private func rowsAnswered(_ answer: [HeldFile], _ turn: inout Turn) {
    let asked = Set(askedRows)
    askedRows = []
    let noted = endedAnswered(answer.filter { asked.contains($0.file) })
    for file in answer where asked.contains(file.file) && !noted.contains(file.file) {
      for held in file.strings where held.length > 0 {
        hearOf(file.file, .durable(DurablePrefix(file: file.file, length: held.length, root: held.root)), &turn)
      }
    }
    noteProgress()
    isDue = true
  }

  /// One page of questions at a time, and no more comparisons than a page has files.
  func askNext(_ turn: inout Turn) {
    guard askedPage.isEmpty, askedRows.isEmpty else { return }
    if toAsk.isEmpty { return askAboutRows(&turn) }
    guard awaitedComparisons < limits.resumePage else { return }
    var page: [FileUUID] = []
    var rest = toAsk.count
    while page.count < max(1, limits.resumePage), rest > 0, let id = toAsk.popFirst() {
      rest -= 1
      guard let file = files[id], let cursor = cursors[id], cursor.state == .unasked else { continue }
      // A frame from before would arrive behind the question, and be taken for what follows the answer (W2).
      guard !inFlight.values.contains(where: { $0.file == id }) else {
        toAsk.append(id)
        continue
      }
      cursor.state = .asked
      askedPage.append(id)
      page.append(file.uuid)
    }
    if !page.isEmpty { send(.resumeQuery(page), &turn) }
  }

  func resumeAnswered(_ answer: [HeldFile], _ turn: inout Turn) {
    if !askedRows.isEmpty { return rowsAnswered(answer, &turn) }
    guard !askedPage.isEmpty else { return cut("the server answers what nobody asked", &turn) }
    let held = Dictionary(answer.map { ($0.file, $0.strings) }, uniquingKeysWith: { first, _ in first })
    let page = askedPage
    askedPage = []
    noteProgress()
    isDue = true
    var unfounded = 0
    for id in page {
      guard let file = files[id], let cursor = cursors[id], cursor.state == .asked else { continue }
      cursor.hasAnswered = true
      if let claimed = cursor.claimed {
        cursor.claimed = nil
        if held[file.uuid]?.contains(where: { $0.length >= claimed }) != true { unfounded += 1 }
      }
      let strings = (held[file.uuid] ?? []).filter { $0.length > 0 }
      cursor.hasSeveral = strings.count > 1
      holds(atMost: strings.map(\.length).max() ?? 0, file, cursor, &turn)
      turn.touch(id)
      if strings.isEmpty { activate(file, cursor, from: 0, &turn) } else { examine(file, cursor, strings, &turn) }
    }
    _ = endedAnswered([])
    // Questions that its own acknowledgements called for, and that it denies.
    if unfounded > 0 { wasted(unfounded, &turn) }
  }

  /// Whatever it acknowledged once.
  private func holds(atMost length: UInt64, _ file: FollowedFile, _ cursor: Cursor, _ turn: inout Turn) {
    guard cursor.durable > length else { return }
    cursor.durable = length
    cursor.mark(file.committedLength, at: turn.now)
    turn.hasLost = true
    noteDirty(file.id, cursor)
    turn.touch(file.id)
  }

  /// Goes on from the longest of the strings whose root the file has at its length. Where none has it, and nothing more is
  /// to be read, the file's bytes are others: it is delivered beside those.
  private func examine(_ file: FollowedFile, _ cursor: Cursor, _ strings: [TreeHead], _ turn: inout Turn) {
    let within = strings.filter { $0.length <= file.committedLength }.sorted { $0.length > $1.length }
    let beyond = strings.filter { $0.length > file.committedLength }.sorted { $0.length < $1.length }
    var rest = (within + beyond)[...]
    while let held = rest.first {
      if held.length == file.committedLength {
        if held.root == file.committedRoot { return goOn(file, cursor, from: held, &turn) }
        rest.removeFirst()
        continue
      }
      guard file.isServable else {
        cursor.state = .parked
        return
      }
      if held.length > file.committedLength {
        // The inode may be ahead of the journal (W2): read, journal, compare then.
        cursor.state = .ahead(Array(rest))
        file.isAwaited = true
        turn.checks.append(file.id)
        return
      }
      guard let connection else { return }
      guard mayTry(file) else { return setAside(file, cursor, Self.silence, &turn) }
      cursor.state = .comparing(Array(rest))
      comparing[file.id] = file.inode.lane
      turn.emit(.computeRoot(connection, file.id, length: held.length))
      return
    }
    deliverBeside(file, cursor, &turn)
  }

  private func goOn(_ file: FollowedFile, _ cursor: Cursor, from held: TreeHead, _ turn: inout Turn) {
    if cursor.hasSeveral {
      send(.extend(DurablePrefix(file: file.uuid, length: held.length, root: held.root)), &turn)
    }
    activate(file, cursor, from: held.length, &turn)
  }

  /// None of the strings that the server holds is the beginning of the file. It is sent from its beginning, and what differs
  /// is kept beside what is held (W3): a clone of this machine, a file that was rewritten while the journal was lost.
  private func deliverBeside(_ file: FollowedFile, _ cursor: Cursor, _ turn: inout Turn) {
    takeBackUnproven(file, cursor, &turn)
    if !cursor.isBeside { turn.report(.beside(index, file.uuid, file.path)) }
    cursor.isBeside = true
    send(.extend(.nothing(of: file.uuid)), &turn)
    activate(file, cursor, from: 0, &turn)
  }

  func rootComputed(_ id: ConnectionID, _ fileID: FileID, length: UInt64, _ root: Digest?, _ turn: inout Turn) {
    guard connection == id, let file = files[fileID], let cursor = cursors[fileID],
      case .comparing(let strings) = cursor.state, let held = strings.first, held.length == length
    else { return }
    if let lane = comparing.removeValue(forKey: fileID), root != nil { answered(file, lane) }
    isDue = true
    guard let root else {
      turn.checks.append(file.id)
      return setAside(file, cursor, "the root at \(length) can't be computed", &turn)
    }
    if root == held.root { return goOn(file, cursor, from: held, &turn) }
    examine(file, cursor, Array(strings.dropFirst()), &turn)
  }

  /// Everything that the inode has is read, and the server still claims more: as long as it has no more, the file is no
  /// string that is held, or the beginning of one, which the server can tell.
  func readToEnd(_ file: FollowedFile, _ turn: inout Turn) {
    guard isOpen, let cursor = cursors[file.id], case .ahead(let held) = cursor.state,
      held.allSatisfy({ $0.length > file.length }), file.isCommitted, file.length == file.committedLength
    else { return }
    deliverBeside(file, cursor, &turn)
  }

  /// From here on payload flows.
  func activate(_ file: FollowedFile, _ cursor: Cursor, from length: UInt64, _ turn: inout Turn) {
    cursor.state = .active
    cursor.sent = length
    cursor.promised = length
    cursor.proven = length
    if cursor.durable != length {
      if length < cursor.durable { turn.hasLost = true }
      if file.gapFrom != nil { turn.advanced.append(file.id) }
      cursor.durable = length
      noteDirty(file.id, cursor)
      turn.touch(file.id)
    }
    cursor.mark(file.committedLength, at: turn.now)
    if !cursor.isRefused || length == file.committedLength { resumed(file, cursor, &turn) }
    promise(file, cursor)
  }

  // MARK: Files that wait alone

  func resumed(_ file: FollowedFile, _ cursor: Cursor, _ turn: inout Turn) {
    guard cursor.trouble != nil else { return }
    cursor.trouble = nil
    cursor.isRefused = false
    cursor.refusal = nil
    turn.report(.resumed(file.uuid, file.path))
  }

  func trouble(_ file: FollowedFile, _ cursor: Cursor, _ text: String, _ turn: inout Turn) {
    guard cursor.trouble != text else { return }
    cursor.trouble = text
    turn.report(.waiting(file.uuid, file.path, text))
  }

  /// The server says that it holds as much as is journaled, and with another root.
  func contradicted(_ file: FollowedFile, _ cursor: Cursor, _ turn: inout Turn) {
    takeBackUnproven(file, cursor, &turn)
    if cursor.state == .active || cursor.state == .unknown { askAnew(file, cursor) }
  }

  private func stick(_ file: FollowedFile, _ cursor: Cursor, _ text: String, _ turn: inout Turn) {
    cursor.state = .stuck
    retries.push(turn.now + limits.rescanInterval, file.id)
    trouble(file, cursor, text, &turn)
  }

  /// Asked about again after a while: `retry` unless said otherwise.
  func setAside(
    _ file: FollowedFile, _ cursor: Cursor, _ text: String, after delay: Interval? = nil, _ turn: inout Turn
  ) {
    cursor.state = .retrying
    retries.push(turn.now + (delay ?? limits.retry), file.id)
    trouble(file, cursor, text, &turn)
  }

  func refused(_ refusal: Refusal, _ turn: inout Turn) {
    isDue = true
    refusals &+= 1
    // Goodbye would follow anyway.
    guard let uuid = refusal.file else {
      return cut("refused: \(refusal.code): \(refusal.text)\(remedy(for: refusal.code))", &turn)
    }
    guard files[uuid] != nil else { return hearOf(uuid, .refusal(refusal), &turn) }
    refused(uuid, refusal, &turn)
  }

  private func refused(_ uuid: FileUUID, _ refusal: Refusal, _ turn: inout Turn) {
    guard let file = files[uuid], let cursor = cursors[file.id] else { return }
    let text = "\(name) refuses: \(refusal.code): \(refusal.text)"
    // By its code: the lengths in the text differ from one attempt to the next.
    let isRepeated = cursor.refusal == refusal.code
    if !isRepeated { turn.report(.refused(index, uuid, file.path, refusal.code, refusal.text)) }
    cursor.refusal = refusal.code
    cursor.trouble = text
    cursor.isRefused = true
    comparing[file.id] = nil
    if refusal.code == .conflict { takeBackUnproven(file, cursor, &turn) }
    switch refusal.code {
    case .diskFull, .quota, .busy, .unstorable: setAside(file, cursor, text, &turn)
    // What it holds is asked: those bytes are delivered beside others then.
    case .conflict where !isRepeated: askAnew(file, cursor)
    case .rootMismatch:
      // The bytes aren't what was journaled: a truncation shows itself when the file is looked at (D5).
      turn.checks.append(file.id)
      setAside(file, cursor, text, after: isRepeated ? limits.rescanInterval : nil, &turn)
    default: stick(file, cursor, text, &turn)
    }
  }

  // MARK: Files that aren't in memory

  /// Something is said of a file that may be a row (K1).
  func hearOf(_ file: FileUUID, _ content: Word.Content, _ turn: inout Turn) {
    guard let connection else { return }
    turn.words.append(Word(server: index, connection: connection, file: file, content: content))
  }

  /// The file was looked up. What was said on another connection is over. Of a row there is nothing to send, and no byte to
  /// compare: that all of it is held is noted, and a refusal is said. It needn't come into memory for that, else a server
  /// could make it do so as often as it likes.
  func heard(_ word: Word, _ stored: StoredFile?, _ turn: inout Turn) {
    guard connection == word.connection, isOpen else { return }
    if files[word.file] != nil {
      switch word.content {
      case .durable(let held): take(held, &turn)
      case .refusal(let refusal): refused(word.file, refusal, &turn)
      }
    } else if let stored {
      switch word.content {
      case .durable(let held):
        let isNoted = stored.delivered.indices.contains(index.value) && stored.delivered[index.value] >= held.length
        if endedHeld(word.file, TreeHead(length: held.length, root: held.root)) { return }
        guard held.length == stored.row.length, held.root == stored.row.root, !isNoted else { return }
        noteLast(Delivered(server: name, file: word.file, length: held.length))
      case .refusal(let refusal):
        turn.report(.refused(index, word.file, stored.row.path, refusal.code, refusal.text))
      }
    }
  }
}
