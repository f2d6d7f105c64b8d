import JournalModel
import JournalStore
import WireProtocol

/// Delivery to one server: connection, records, resume, payload, acknowledgements. It shares nothing with the others
/// (G3): it reads the file table and what is committed, and keeps cursors of its own.
final class Delivery {
  enum Phase: Hashable {
    case idle
    case backingOff(until: Instant)
    case connecting
    case greeting(ConnectionID)
    /// Which of the server's heads lies on this journal.
    case verifying(ConnectionID, Welcome)
    /// None does: where the server's sequences and this one are one is asked, then looked up.
    case searching(ConnectionID, Welcome)
    case locating(ConnectionID, Welcome)
    case open(ConnectionID)
    case stopped
  }

  let index: ServerIndex
  let name: String
  let settings: HostSettings
  let files: FileTable
  let journal: JournalWriter
  var limits: Limits { settings.limits }

  // The connection.
  private(set) var phase = Phase.idle
  private var attempts: UInt64 = 0
  private var jitter: UInt64
  /// When bytes last came from the server. Those that it took say nothing: its system takes them for a process that hangs.
  private var lastHeard = Instant(nanoseconds: 0)
  private var lastSent = Instant(nanoseconds: 0)
  private var pings: UInt64 = 0
  /// For what the server sends and nothing asked for, over all its connections.
  private var allowance: Allowance
  private(set) var lastError: String?
  var refusals: UInt64 = 0
  private var reportedDown: String?

  // Records (W1: one flow, one acknowledgement).
  private(set) var sentRecords: UInt64 = 0
  private(set) var durableRecords: UInt64 = 0
  /// Heads at which the sending of records ended, the shortest first.
  private var sentHeads = Fifo<TreeHead>()
  /// Acknowledged, and not among those: the head that is being verified, and the newest.
  private var claimedHeads: (verifying: Checkpoint, newest: Checkpoint)?
  /// The greatest length that this server ever acknowledged.
  private var notedRecords: UInt64 = 0
  /// Where the server's feed was when it had acknowledged all that counts, and where it is on this connection. Where it
  /// isn't the same feed any more, the server was replaced, or is as a backup had it, perhaps with all records by its
  /// peers, and fewer bytes (P3).
  private var position: FeedPosition?
  private var told: FeedPosition?
  private var notedPosition: FeedPosition?
  /// The last frame said it.
  private var wasTold = false
  /// The server lost something, and what is noted of it from before may still stand in the store. Nothing is sent until it
  /// doesn't.
  private enum Forgetting { case done, unnoted, beingNoted }
  private var forgetting = Forgetting.done
  /// The store's number since (`HostJournalStore.number`).
  private var forgottenAt: UInt64 = 0
  private var isRecordNoteDirty = false
  private(set) var recordsMark: (length: UInt64, since: Instant)?
  /// The journal's length when the connection opened: files born later can't be known to the server by accident.
  private(set) var openedAt: UInt64 = 0

  // Files (`Delivery+Resume`, `Delivery+Payload`).
  var cursors = FileSlots<Cursor>()
  var toAsk = Fifo<FileID>()
  var askedPage: [FileID] = []
  /// Files with gaps that aren't in memory, to be asked about, and those of the question that isn't answered.
  var rowsToAsk = Fifo<FileUUID>()
  var askedRows: [FileUUID] = []
  var mustAskAboutGaps = false
  var ended = EndedFiles()
  private var isEndedNoteDirty = false
  /// Files whose root is being computed, and what they lie on.
  var comparing: [FileID: UInt64] = [:]
  /// What didn't answer, and hasn't since: the file that tries again for all of it (`Delivery+Silence`).
  var silent: [UInt64: FileID] = [:]
  var unpromised = Heap<UInt64, FileID>()
  var turns = Fifo<FileID>()
  /// Files in turn that wait until one of those under way is acknowledged: see `mayBegin`.
  var postponed = Fifo<FileID>()
  var underWay: [FileID] = []
  /// Of those under way, the ones in turn that there wasn't enough credit for.
  var short: [FileID] = []
  /// Frames that are being read and sent, one for each file system: one that hangs keeps no other's payload waiting.
  var inFlight: [UInt64: (file: FileID, bytes: Range<UInt64>)] = [:]
  /// Files whose turn came while a frame of their file system was under way.
  var behind: [UInt64: Fifo<FileID>] = [:]
  var credit: UInt64 = 0
  /// What the server let be under way when the connection began.
  var firstCredit: UInt64 = 0
  var spent: UInt64 = 0
  var retries = Heap<Instant, FileID>()
  private var dirtyNotes: [FileID] = []
  /// Of files that are gone: whoever asks what a gap lacks where reads the notes.
  private var lastNotes: [Delivered] = []
  /// There may be something to send.
  var isDue = false

  init(index: ServerIndex, settings: HostSettings, files: FileTable, journal: JournalWriter) {
    self.index = index
    self.settings = settings
    self.files = files
    self.journal = journal
    name = settings.servers[index.value]
    allowance = Allowance(settings.limits, at: Instant(nanoseconds: 0))
    jitter = settings.jitterSeed ^ (UInt64(index.value) &+ 1) &* 0x9E37_79B9_7F4A_7C15
  }

  /// `noted`: the records that this server had acknowledged when that was last written down, `position`: where its feed
  /// was by then.
  func start(noted: UInt64, position: FeedPosition?, hasEnded: Bool, _ turn: inout Turn) {
    self.position = position
    notedPosition = position
    if hasEnded { ended.phase = .held }
    notedRecords = min(noted, journal.position.length)
    durableRecords = notedRecords
    markRecords(turn.now)
    connect(&turn)
  }

  var connection: ConnectionID? {
    switch phase {
    case .greeting(let id), .verifying(let id, _), .searching(let id, _), .locating(let id, _), .open(let id): id
    case .idle, .backingOff, .connecting, .stopped: nil
    }
  }
  var isOpen: Bool { if case .open = phase { true } else { false } }

  // MARK: Connecting, for ever (W4)

  private func connect(_ turn: inout Turn) {
    phase = .connecting
    turn.emit(.connect(index))
  }

  func connected(_ id: ConnectionID, _ turn: inout Turn) {
    guard phase == .connecting else {
      if connection != id { turn.emit(.disconnect(id, reason: "nobody asked for this connection")) }
      return
    }
    phase = .greeting(id)
    lastHeard = turn.now
    allowance.expectNothing()
    let hello = Hello(
      oldest: 1, newest: 1, host: settings.host, journal: settings.journal, publicKey: settings.publicKey,
      position: position)
    send(.hello(hello), &turn)
  }

  func disconnected(_ id: ConnectionID?, _ reason: String, _ turn: inout Turn) {
    guard id == nil ? phase == .connecting : connection == id else { return }
    goDown(reason, &turn)
  }

  /// Ends the connection from this side.
  func cut(_ reason: String, _ turn: inout Turn) {
    guard let id = connection else { return }
    turn.emit(.disconnect(id, reason: reason))
    goDown(reason, &turn)
  }

  private func goDown(_ reason: String, _ turn: inout Turn) {
    attempts &+= 1
    phase = .backingOff(until: turn.now + backoff())
    lastError = reason
    toAsk.removeAll()
    askedPage = []
    rowsToAsk.removeAll()
    askedRows = []
    claimedHeads = nil
    sentHeads.removeAll()
    comparing.removeAll()
    unpromised.removeAll()
    turns.removeAll()
    postponed.removeAll()
    underWay.removeAll()
    short.removeAll()
    inFlight.removeAll()
    behind.removeAll()
    retries.removeAll()
    guard reportedDown != reason else { return }
    reportedDown = reason
    turn.report(.serverDown(index, reason: reason))
  }

  /// Doubles up to the greatest delay; half of it is chance, so that a fleet doesn't come back as one.
  private func backoff() -> Interval {
    jitter &+= 0x9E37_79B9_7F4A_7C15
    var mixed = (jitter ^ (jitter >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    mixed ^= mixed >> 31
    return limits.backoff(after: attempts, chance: mixed)
  }

  func stop(_ turn: inout Turn) {
    if let id = connection {
      turn.emit(.send(id, .goodbye(code: .shuttingDown, text: "the host stops")))
      turn.emit(.disconnect(id, reason: "the host stops"))
    }
    phase = .stopped
  }

  // MARK: Time

  var nextDeadline: Instant? {
    switch phase {
    case .idle, .connecting, .stopped: nil
    case .backingOff(let until): until
    case .greeting, .verifying, .searching, .locating: lastHeard + limits.silence
    case .open:
      min(
        lastHeard + limits.silence, lastSent + limits.heartbeat, retries.leastKey ?? lastSent + limits.heartbeat,
        endedDue ?? lastSent + limits.heartbeat)
    }
  }

  func tick(_ turn: inout Turn) {
    if case .backingOff(let until) = phase, until <= turn.now { return connect(&turn) }
    guard connection != nil else { return }
    if lastHeard + limits.silence <= turn.now { return cut("nothing was heard for too long", &turn) }
    guard isOpen else { return }
    while let (_, file) = retries.pop(if: { $0 <= turn.now }) { retry(file, at: turn.now) }
    if lastSent + limits.heartbeat <= turn.now {
      pings &+= 1
      send(.ping(nonce: pings), &turn)
    }
  }

  func send(_ frame: Frame, answers: Int = 2, _ turn: inout Turn) {
    guard let id = connection else { return }
    noteSent(turn, answers: answers)
    turn.emit(.send(id, frame))
  }

  func noteHeard(_ turn: Turn) { lastHeard = turn.now }

  /// A frame leaves: it may bring an answer or a refusal, and credit.
  func noteSent(_ turn: Turn, answers: Int = 2) {
    lastSent = turn.now
    allowance.expect(answers: answers)
  }

  /// The server makes work beyond what its frames justify.
  func wasted(_ cost: Int, _ turn: inout Turn) {
    if !allowance.take(cost, at: turn.now) { cutFlood(&turn) }
  }

  private func cutFlood(_ turn: inout Turn) {
    // Whatever it does meanwhile, it isn't asked again soon.
    attempts = 20
    cut("the server sends too much that brings nothing: unasked frames, or key updates", &turn)
  }
  /// The server does something with what it gets: the next backoff begins small again.
  func noteProgress() { attempts = 0 }
}

// MARK: Frames

extension Delivery {
  func received(_ id: ConnectionID, _ frame: Frame, _ turn: inout Turn) {
    guard connection == id else { return }
    lastHeard = turn.now
    guard mayCome(frame, turn) else { return cutFlood(&turn) }
    if case .position = frame { wasTold = true } else { wasTold = false }
    switch (frame, phase) {
    case (.position(let told), .verifying), (.position(let told), .searching), (.position(let told), .locating):
      self.told = told
    case (.goodbye(let code, let text), _): cut("the server says goodbye: \(code): \(text)", &turn)
    case (.ping(let nonce), _): send(.pong(nonce: nonce), answers: 0, &turn)
    case (.welcome(let welcome), .greeting): welcomed(id, welcome, &turn)
    case (.journalAnswer(let heads), .searching(_, let welcome)): answered(id, heads, welcome, &turn)
    case (.credit(let total), .verifying), (.credit(let total), .searching), (.credit(let total), .locating):
      credit = max(credit, total)
    // Another machine with this name delivers meanwhile. What the server holds is asked once records go on.
    case (.payloadDurable, .verifying), (.payloadDurable, .searching), (.payloadDurable, .locating): break
    case (.refusal(let refusal), .greeting), (.refusal(let refusal), .verifying), (.refusal(let refusal), .searching),
      (.refusal(let refusal), .locating):
      cut("refused: \(refusal.code): \(refusal.text)", &turn)
    case (_, .open): flowing(frame, &turn)
    default: cut("the server broke the protocol: an unexpected frame", &turn)
    }
  }

  /// Every frame answers one that was sent, or is paid from the allowance.
  private func mayCome(_ frame: Frame, _ turn: Turn) -> Bool {
    switch frame {
    case .welcome, .goodbye: true
    // Before another frame, which pays.
    case .position: !wasTold
    case .recordsDurable(let head)
    where head.length > max(durableRecords, claimedHeads?.newest.length ?? 0) && head.length <= sentRecords: true
    case .payloadDurable(let held): allowance.takeAnswer(cost: 1 + held.count / 64, at: turn.now)
    default: allowance.takeAnswer(cost: 1, at: turn.now)
    }
  }

  private func flowing(_ frame: Frame, _ turn: inout Turn) {
    // Any answer may have made room for a file that was put off.
    if !postponed.isEmpty || !short.isEmpty { isDue = true }
    switch frame {
    case .position(let told): position = told
    case .pong: noteProgress()
    case .credit(let total):
      credit = max(credit, total)
      isDue = true
    case .recordsDurable(let head): recordsDurable(head, &turn)
    case .payloadDurable(let held): payloadDurable(held, &turn)
    case .resumeAnswer(let held): resumeAnswered(held, &turn)
    case .refusal(let refusal): refused(refusal, &turn)
    case .hello, .welcome, .records, .journalQuery, .journalAnswer, .extendJournal, .resumeQuery, .extend, .payload,
      .ping, .goodbye, .peerHello, .feed, .announce, .noted, .openChannel, .channel, .closeChannel, .wantRecords,
      .wantBytes, .askTrie, .trieParts, .trieBucket, .holdings:
      cut("the server broke the protocol: an unexpected frame", &turn)
    }
  }

  /// The server states what it holds; only what lies on this journal counts (W2, J6).
  private func welcomed(_ id: ConnectionID, _ welcome: Welcome, _ turn: inout Turn) {
    guard welcome.version == 1 else { return cut("the server chose protocol version \(welcome.version)", &turn) }
    guard welcome.heads.allSatisfy({ $0.host == settings.host && $0.journal == settings.journal }) else {
      return cut("the server shows checkpoints of another journal", &turn)
    }
    credit = welcome.credit
    told = welcome.position
    if position != nil, !welcome.isContinued { takeBack(&turn) }
    guard !welcome.heads.isEmpty else { return open(id, welcome, from: Self.nothing, &turn) }
    let heads = onJournal(welcome.heads.map { TreeHead(length: $0.length, root: $0.root) })
    guard !heads.isEmpty else { return search(id, welcome, &turn) }
    phase = .verifying(id, welcome)
    turn.emit(.verifyHeads(id, heads))
  }

  private func onJournal(_ heads: [TreeHead]) -> [TreeHead] {
    heads.filter { $0.length > 0 && $0.length <= journal.position.length }
  }

  private static var nothing: TreeHead { TreeHead(length: 0, root: .zero) }

  /// The journal was put back from a backup, or another machine has one that began as this one: its records are delivered
  /// beside those that the server holds (M1).
  private func search(_ id: ConnectionID, _ welcome: Welcome, _ turn: inout Turn) {
    phase = .searching(id, welcome)
    send(.journalQuery(length: journal.position.length), &turn)
  }

  private func answered(_ id: ConnectionID, _ answer: [TreeHead], _ welcome: Welcome, _ turn: inout Turn) {
    let heads = onJournal(answer)
    guard !heads.isEmpty else { return open(id, welcome, from: Self.nothing, &turn) }
    phase = .locating(id, welcome)
    turn.emit(.verifyHeads(id, heads))
  }

  func headsVerified(_ id: ConnectionID, _ head: TreeHead?, _ turn: inout Turn) {
    switch phase {
    case .verifying(id, let welcome):
      if let head { open(id, welcome, from: head, &turn) } else { search(id, welcome, &turn) }
    case .locating(id, let welcome): open(id, welcome, from: head ?? Self.nothing, &turn)
    case .open(id):
      guard let claimed = claimedHeads else { return }
      claimedHeads = nil
      guard head != nil else { return cutForeign(&turn) }
      sentRecords = max(sentRecords, claimed.verifying.length)
      recordsHeld(claimed.verifying.length, &turn)
      recordsDurable(claimed.newest, &turn)
    default: break
    }
  }

  private func cutForeign(_ turn: inout Turn) {
    cut("the server acknowledges records that are not on this journal", &turn)
  }

  /// What an operator can do about a refusal of everything.
  func remedy(for code: RefusalCode) -> String {
    if code == .quota, durableRecords < journal.position.length {
      return ": if it holds too many histories of this journal, move node.data away and restart: a new journal begins"
    }
    // Without its first record: that is the one that binds the journal to a certificate.
    guard code == .badSignature, durableRecords == 0 else { return "" }
    return ": was the journal begun with another certificate? Move node.data away and restart: a new journal begins"
  }

  /// Records go on from `head`, which both have.
  private func open(_ id: ConnectionID, _ welcome: Welcome, from head: TreeHead, _ turn: inout Turn) {
    let isWhole = welcome.heads.contains { $0.length == head.length && $0.root == head.root }
    if !welcome.heads.isEmpty, !isWhole || welcome.heads.count > 1 { send(.extendJournal(head), &turn) }
    phase = .open(id)
    lastError = nil
    reportedDown = nil
    sentRecords = head.length
    durableRecords = head.length
    openedAt = journal.position.length
    firstCredit = welcome.credit
    spent = 0
    let hasLess = head.length < notedRecords
    let isAnother = position != nil && !welcome.isContinued
    // Where its records are others, this journal is the one that was set back.
    if hasLess, welcome.heads.isEmpty || isWhole {
      turn.report(.serverLost(index, records: head.length, acknowledged: notedRecords))
    } else if isAnother {
      turn.report(.serverPutBack(index))
    }
    noteRecords(head.length)
    markRecords(turn.now)
    if hasLess { takeBack(&turn) }
    position = told
    beginEnded(hasLost: false)
    for file in files.all { begin(file, &turn) }
    mustAskAboutGaps = true
    isDue = true
    turn.report(.serverUp(index, records: head.length))
    if !welcome.heads.isEmpty, !isWhole { turn.report(.journalBeside(index, from: head.length)) }
  }

  /// It may have lost anything: only what it says from now on counts. Until the connection is open the old position
  /// stays: another one that comes instead is told the same.
  private func takeBack(_ turn: inout Turn) {
    turn.hasLost = true
    beginEnded(hasLost: true)
    for file in files.all { forgetAcknowledged(file) }
    forgetting = .unnoted
    lastNotes = []
    notedPosition = nil
    isEndedNoteDirty = false
  }

  // MARK: Records

  /// Whoever supplied them: they count when the head is known to be on this journal, and aren't sent any more. Another
  /// machine may have this journal, and records that the server had from it may become durable meanwhile (M1).
  private func recordsDurable(_ head: Checkpoint, _ turn: inout Turn) {
    guard head.host == settings.host, head.journal == settings.journal else {
      return cut("the server acknowledges records of another journal", &turn)
    }
    guard head.length > durableRecords, let connection else { return }
    guard head.length <= journal.position.length else { return cutForeign(&turn) }
    while let sent = sentHeads.first, sent.length <= head.length {
      _ = sentHeads.popFirst()
      guard sent.length == head.length else { continue }
      return sent.root == head.root ? recordsHeld(head.length, &turn) : cutForeign(&turn)
    }
    guard claimedHeads == nil else {
      claimedHeads?.newest = head
      return
    }
    claimedHeads = (head, head)
    turn.emit(.verifyHeads(connection, [TreeHead(length: head.length, root: head.root)]))
  }

  private func recordsHeld(_ length: UInt64, _ turn: inout Turn) {
    guard length > durableRecords else { return }
    durableRecords = length
    noteRecords(length)
    noteProgress()
    if let mark = recordsMark, length >= mark.length { recordsMark = nil }
    markRecords(turn.now)
    isDue = true
  }

  private func noteRecords(_ length: UInt64) {
    guard length != notedRecords else { return }
    notedRecords = length
    isRecordNoteDirty = true
  }

  /// Remembers since when something is undelivered.
  func markRecords(_ now: Instant) {
    guard recordsMark == nil, durableRecords < journal.position.length else { return }
    recordsMark = (journal.position.length, now)
  }

  /// Records go first, as far as the window allows (W1).
  private func sendRecords(_ id: ConnectionID, _ turn: inout Turn) {
    let end = min(journal.position.length, durableRecords.saturatingAdd(limits.recordWindow))
    while sentRecords < end {
      let upTo = min(end, sentRecords.saturatingAdd(max(1, limits.recordsPerFrame)))
      turn.emit(.sendRecords(id, from: sentRecords, upTo: upTo))
      sentRecords = upTo
      noteSent(turn)
      if upTo == journal.position.length { sentHeads.append(TreeHead(length: upTo, root: journal.position.root)) }
    }
  }

  /// Sends what may be sent now: records, questions, payload.
  func flow(_ turn: inout Turn) {
    defer { isDue = false }
    guard case .open(let id) = phase, forgetting == .done else { return }
    sendRecords(id, &turn)
    promiseSent()
    askNext(&turn)
    sendPayload(id, &turn)
  }

  // MARK: Notes

  func noteDirty(_ id: FileID, _ cursor: Cursor) {
    guard !cursor.isNoteDirty else { return }
    cursor.isNoteDirty = true
    dirtyNotes.append(id)
  }

  /// The file is gone for good; what this server has of it is still to be noted.
  func noteLast(_ file: FollowedFile, _ cursor: Cursor) {
    guard cursor.isNoteDirty else { return }
    lastNotes.append(Delivered(server: name, file: file.uuid, length: cursor.durable))
  }

  /// What this server has of a row, as far as that is or will be noted.
  func noted(_ stored: StoredFile) -> UInt64 {
    let noted = isForgetting ? 0 : stored.delivered.indices.contains(index.value) ? stored.delivered[index.value] : 0
    return max(noted, lastNotes.last { $0.file == stored.row.file }?.length ?? 0)
  }

  /// The same of a row; what comes when there are too many is forgotten.
  func noteLast(_ note: Delivered) {
    if lastNotes.count < Follower.mostWords { lastNotes.append(note) }
  }

  var hasNotes: Bool {
    forgetting == .unnoted || isRecordNoteDirty || mayNoteEnded || !dirtyNotes.isEmpty || !lastNotes.isEmpty
  }

  /// The server's name, if nothing that the store has of it counts any more, also of files that aren't in memory.
  func takeForgotten() -> String? {
    guard forgetting == .unnoted else { return nil }
    forgetting = .beingNoted
    return name
  }

  var isForgetting: Bool { forgetting != .done }

  /// What the store had noted of this server counts: it is from after the last time that the server lost something.
  func trusts(_ number: UInt64) -> Bool { !isForgetting && number >= forgottenAt }

  func noteEnded() { isEndedNoteDirty = true }

  /// Not of a server that never held anything: an empty one in its place would be none that was put back.
  private var mayNoteEnded: Bool { isEndedNoteDirty && position != nil }

  /// Never behind the notes that are taken with it: what was acknowledged since then would count for a store that was put
  /// back to it.
  func takePosition() -> ServerPosition? {
    guard forgetting != .unnoted, position != notedPosition, let position else { return nil }
    notedPosition = position
    return ServerPosition(server: name, position: position)
  }

  /// At most `count` notes of what this server has acknowledged, for the store.
  func takeNotes(_ count: Int) -> [Delivered] {
    var notes = Array(lastNotes.prefix(count))
    lastNotes.removeFirst(notes.count)
    let taken = dirtyNotes.prefix(count - notes.count)
    for id in taken {
      guard let cursor = cursors[id] else { continue }
      cursor.isNoteDirty = false
      if let file = files[id] { notes.append(Delivered(server: name, file: file.uuid, length: cursor.durable)) }
    }
    dirtyNotes.removeFirst(taken.count)
    // Last, so that a journal's length is never noted beside file lengths from before a loss.
    guard dirtyNotes.isEmpty, lastNotes.isEmpty else { return notes }
    if isRecordNoteDirty {
      isRecordNoteDirty = false
      notes.append(Delivered(server: name, file: Delivered.journal, length: notedRecords))
    }
    if mayNoteEnded {
      isEndedNoteDirty = false
      notes.append(Delivered(server: name, file: Delivered.ended, length: 1))
    }
    return notes
  }

  /// What was taken last is durable.
  func notesCommitted() {
    guard forgetting == .beingNoted else { return }
    forgetting = .done
    forgottenAt = journal.number
  }
}
