import DataPlane
package import JournalModel
import JournalStore
package import MerkleLog
import WireProtocol

/// The whole decision of a host, sans-IO: following, journaling, one delivery for each server.
///
/// Any input is legal in any state; one that comes too late, or that nobody asked for, changes nothing.
package struct HostMachine<H: TreeHasher>: ~Copyable where H.Value == Digest {
  package let settings: HostSettings
  private let files = FileTable()
  private let journal: JournalWriter
  private let deliveries: [Delivery]
  private let follower: Follower
  private var settlements: [Settlement] = []
  /// Settlements that are reached, announced when what servers acknowledged for them is noted durably too: nobody who
  /// reads the journal then (`inspect`) finds less than was announced.
  private var reached: [UInt64] = []
  private var announcedByCommit: [UInt64] = []
  private var phase = Phase.new
  private var notesDue: Instant?
  /// Servers that are delivered to no more, to be noted before any file's end is (`HostStart.former`).
  private var former: [String] = []

  private enum Phase { case new, running, stopped }
  /// Notes of what was delivered are written at most this often, on a fixed grid of time [so that no server's
  /// acknowledgements shift another's: G3].
  private static var notesInterval: UInt64 { 1_000_000_000 }

  package init(settings: HostSettings) {
    self.settings = settings
    let (files, journal) = (files, JournalWriter(limits: settings.limits))
    self.journal = journal
    deliveries = settings.servers.indices.map {
      Delivery(index: ServerIndex($0), settings: settings, files: files, journal: journal)
    }
    follower = Follower(
      settings: settings, source: IdentitySource(H.self, host: settings.host), files: files, journal: journal,
      deliveries: deliveries)
  }

  /// Takes one input and appends the effects that follow from it, in the order in which they are to be performed.
  /// `wall` is written into records and decides nothing.
  package mutating func step(
    _ input: HostInput, at now: Instant, wall: WallTime, into effects: inout [HostEffect]
  ) {
    var turn = Turn(now: now, wall: wall, effects: [], isSettling: !settlements.isEmpty)
    swap(&turn.effects, &effects)
    defer { swap(&turn.effects, &effects) }
    if phase == .new, case .started(let known) = input {
      start(known, &turn)
    } else if phase == .running {
      take(input, &turn)
    }
    if phase == .running { settle(&turn) }
  }

  /// When `tick` is due next, if nothing else comes before.
  package var nextDeadline: Instant? {
    guard phase == .running else { return nil }
    var least = follower.nextDeadline
    func consider(_ due: Instant?) {
      if let due { least = least.map { min($0, due) } ?? due }
    }
    consider(journal.retryDue)
    if journal.isFree { consider(notesDue) }
    for delivery in deliveries { consider(delivery.nextDeadline) }
    return least
  }

  /// What `status --json` says of a host; costs time in proportion to the number of files.
  package var status: HostStatus { HostStatus(follower, settlements) }

  // MARK: Inputs

  private mutating func start(_ known: HostStart, _ turn: inout Turn) {
    phase = .running
    former = known.former
    journal.start(at: known.journal, number: known.number)
    follower.start(known.files, known.gaps, &turn)
    for (index, delivery) in deliveries.enumerated() {
      delivery.start(
        noted: known.noted.indices.contains(index) ? known.noted[index] : 0,
        position: known.positions.indices.contains(index) ? known.positions[index] : nil,
        hasEnded: known.haveEnded.indices.contains(index) && known.haveEnded[index], &turn)
    }
  }

  private mutating func take(_ input: HostInput, _ turn: inout Turn) {
    switch input {
    case .started: break
    case .tick: tick(&turn)
    case .hinted(let hint): follower.hinted(hint, &turn)
    case .listed(let listing): follower.listed(listing, &turn)
    case .ingested(let id, let answer): follower.ingested(id, answer, &turn)
    case .writersProbed(let id, let hasWriters): follower.writersProbed(id, hasWriters, &turn)
    case .committed(let position, let number): committed(position, number, &turn)
    case .commitFailed(let error): if journal.isCommitting { commitFailed(error, &turn) }
    case .loaded(let id, let answer): follower.loaded(id, answer, &turn)
    case .loadFailed(let id, let error): loadFailed(id, error, &turn)
    case .rootComputed(let id, let file, let length, let root):
      delivery(id)?.rootComputed(id, file, length: length, root, &turn)
    case .connected(let server, let id): delivery(server)?.connected(id, &turn)
    case .disconnected(let server, let id, let reason): delivery(server)?.disconnected(id, reason, &turn)
    case .received(let id, let frame): delivery(id)?.received(id, frame, &turn)
    case .progress(let id): delivery(id)?.noteHeard(turn)
    case .wasted(let id, let cost): delivery(id)?.wasted(cost, &turn)
    case .headsVerified(let id, let head): delivery(id)?.headsVerified(id, head, &turn)
    case .payloadSent(let id, let file, let end): delivery(id)?.payloadSent(id, file, end: end, &turn)
    case .payloadUnavailable(let id, let file, let offset, let reason):
      delivery(id)?.payloadUnavailable(id, file, offset: offset, reason, &turn)
    case .unanswered(let id, let file): delivery(id)?.unanswered(id, file, &turn)
    case .settle(let token):
      settlements.append(Settlement(token: token, afterScan: follower.scan.number))
      follower.wantScan(at: turn.now, &turn)
    case .cancelSettle(let token):
      settlements.removeAll { $0.token == token }
      reached.removeAll { $0 == token }
      announcedByCommit.removeAll { $0 == token }
    case .stop: stop(&turn)
    }
  }

  private func delivery(_ server: ServerIndex) -> Delivery? {
    deliveries.indices.contains(server.value) ? deliveries[server.value] : nil
  }

  /// Only the current connection of a server is heard.
  private func delivery(_ connection: ConnectionID) -> Delivery? {
    deliveries.first { $0.connection == connection }
  }

  private mutating func tick(_ turn: inout Turn) {
    journal.tick(&turn)
    follower.tick(&turn)
    for delivery in deliveries { delivery.tick(&turn) }
  }

  /// From here on servers may hear of it (J1).
  private mutating func committed(_ position: JournalPosition, _ number: UInt64, _ turn: inout Turn) {
    let changed = journal.committed(position, number: number, &turn)
    Self.announce(&announcedByCommit, &turn)
    for delivery in deliveries {
      delivery.notesCommitted()
      delivery.markRecords(turn.now)
      delivery.isDue = true
    }
    for file in changed {
      guard files[file.id] === file else {
        if file.change == nil, file.commitsAhead == 0 { files.noteEnd(of: file) }
        continue
      }
      for delivery in deliveries { delivery.journaled(file, &turn) }
      turn.touch(file.id)
    }
  }

  /// What finds no room is tried again as it is. What is refused isn't: alone it is set apart; where nothing can be told of
  /// the journal as a whole, the node stops.
  private mutating func commitFailed(_ error: StoreError, _ turn: inout Turn) {
    switch error {
    case .full, .failed, .alreadyExists, .outOfRange: journal.failed(error, &turn)
    case .corrupt, .damaged: halt("\(error)", &turn)
    case .failedSync(let reason): halt(reason, &turn)
    case .refused(.file(let file), let why):
      guard let path = journal.leaveOut(file) else { fallthrough }
      follower.setApart(file, path, "\(why)", &turn)
      for index in settlements.indices { settlements[index].expect(journal.expectedLength) }
    case .refused: halt("its store refuses what it wasn't given: \(error)", &turn)
    }
  }

  /// Damage is named and ends the process, as in a commit.
  private mutating func loadFailed(_ id: LoadID, _ error: StoreError, _ turn: inout Turn) {
    switch error {
    case .corrupt, .damaged: if follower.readings[id] != nil { halt("\(error)", &turn) }
    case .full, .failed, .alreadyExists, .outOfRange, .failedSync, .refused: follower.unloaded(id, error, &turn)
    }
  }

  /// A failed sync is never tried again: what the store holds is known after a new start only (P4).
  private mutating func halt(_ reason: String, _ turn: inout Turn) {
    phase = .stopped
    turn.emit(.halt("the journal: \(reason)"))
  }

  private mutating func stop(_ turn: inout Turn) {
    phase = .stopped
    if journal.hasWork(notes: deliveries.contains { $0.hasNotes }) {
      let forgotten = takeForgotten()
      let notes = takeFormer() + takeNotes()
      journal.commit(notes: notes, at: takePositions(), forgetting: forgotten, &turn)
    }
    for delivery in deliveries { delivery.stop(&turn) }
  }

  // MARK: What follows from an input

  private mutating func settle(_ turn: inout Turn) {
    for id in turn.checks { if let file = files[id] { follower.check(file) } }
    if !turn.words.isEmpty { follower.look(into: turn.words, &turn) }
    follower.leave(&turn)
    follower.strikeOutGaps(of: turn.advanced)
    follower.askAboutGaps()
    follower.readEnded(&turn)
    if turn.hasLost { takeBackWhatIsReached() }
    if !settlements.isEmpty { reviewSettlements(&turn) }
    for delivery in deliveries where delivery.isDue { delivery.flow(&turn) }
    journal.divide()
    follower.pump(&turn)
    commit(&turn)
  }

  private mutating func reviewSettlements(_ turn: inout Turn) {
    for index in settlements.indices where settlements[index].review(follower, turn) {
      reached.append(settlements[index].token)
    }
    settlements.removeAll { reached.contains($0.token) }
    // One that found something unreadable (D10) is made again for those who wait.
    if settlements.contains(where: { !$0.hasTargets }), !follower.scan.isUnderWay {
      follower.wantScan(at: turn.now + settings.limits.retry, &turn)
    }
  }

  /// Nothing that a server lost meanwhile is announced: it is reviewed anew, by the last clean scan.
  private mutating func takeBackWhatIsReached() {
    let scanned = follower.scan.lastClean
    settlements += (announcedByCommit + reached).map { Settlement(token: $0, afterScan: scanned - min(scanned, 1)) }
    announcedByCommit = []
    reached = []
  }

  private static func announce(_ tokens: inout [UInt64], _ turn: inout Turn) {
    for token in tokens { turn.emit(.settled(token: token)) }
    tokens = []
  }

  private mutating func commit(_ turn: inout Turn) {
    if notesDue == nil, deliveries.contains(where: { $0.hasNotes }) {
      let passed = turn.now.nanoseconds / Self.notesInterval
      notesDue = Instant(nanoseconds: (passed &+ 1) &* Self.notesInterval)
    }
    if journal.isIdle, !deliveries.contains(where: { $0.hasNotes }) { Self.announce(&reached, &turn) }
    let isAwaited = !reached.isEmpty
    let areNotesDue = isAwaited || notesDue.map { $0 <= turn.now } ?? false
    guard journal.hasWork(notes: areNotesDue) else { return }
    let isRetry = journal.isRetry
    let forgotten = areNotesDue && !isRetry ? takeForgotten() : []
    let notes = isRetry ? [] : takeFormer() + (areNotesDue ? takeNotes() : [])
    // An end, or a gap struck out, says for good that servers have all: never before the position at which they said so.
    let positions = !isRetry && (areNotesDue || journal.vouchesNext) ? takePositions() : []
    journal.commit(notes: notes, at: positions, forgetting: forgotten, &turn)
    guard areNotesDue, !isRetry else { return }
    notesDue = nil
    // Where more is to be noted than goes into one commit, the last one announces them.
    guard !deliveries.contains(where: { $0.hasNotes }) else { return }
    announcedByCommit += reached
    reached = []
  }

  private func takeForgotten() -> [String] { deliveries.compactMap { $0.takeForgotten() } }
  private func takePositions() -> [ServerPosition] { deliveries.compactMap { $0.takePosition() } }
  private mutating func takeNotes() -> [Delivered] {
    deliveries.flatMap { $0.takeNotes(max(1, settings.limits.commitSize)) }
  }

  private mutating func takeFormer() -> [Delivered] {
    defer { former = [] }
    return former.map { Delivered(server: $0, file: Delivered.ended, length: 0) }
  }
}
