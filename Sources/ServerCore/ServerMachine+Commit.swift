import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Group commit: one on its way, everything that comes meanwhile gathers for the next. Acknowledgements leave only from
// here (G2).

extension ServerMachine where H.Value == Digest {
  mutating func markDirty(journal index: Int) {
    guard !journals[index].isDirty else { return }
    journals[index].isDirty = true
    let tally = tally(of: journals[index].held.host)
    awaitCommit(tally)
    tallies[tally].dirtyJournals.append(index)
  }

  /// The string's row changed, and a commit has it in its host's turn.
  mutating func markRowDirty(_ index: Int) {
    strings[index].isRowDirty = true
    enqueue(index)
  }

  /// The string's row changed by records, whose commit it is to be in.
  mutating func markDue(_ index: Int) {
    strings[index].isRowDirty = true
    guard !strings[index].isDue else { return }
    strings[index].isDue = true
    let tally = strings[index].tally
    awaitCommit(tally)
    tallies[tally].due.append(index)
  }

  mutating func enqueue(_ index: Int) {
    guard !strings[index].isDirty else { return }
    strings[index].isDirty = true
    let tally = strings[index].tally
    awaitCommit(tally)
    tallies[tally].dirty.append(index)
  }

  /// To be called before something is added to what of the host waits for a commit.
  private mutating func awaitCommit(_ tally: Int) { if !tallies[tally].awaitsCommit { dirtyHosts.append(tally) } }

  /// How far a commit can take the string's payload now: the position in its verified points. `logged` is what the log
  /// would hold before.
  func nextPoint(_ index: Int, logged: UInt64) -> Int? {
    guard !strings[index].points.isEmpty, !strings[index].isPayloadInFlight,
      strings[index].writing == nil || !isBulk(index)
    else { return nil }
    if let bulk = strings[index].bulk {
      guard strings[index].written >= bulk else { return nil }
      return strings[index].points.lastIndex { $0.end <= bulk }
    }
    guard strings[index].hasPlainFile, strings[index].failure == nil else { return nil }
    let committed = strings[index].committed
    return strings[index].points.lastIndex { fitsLog($0.end - committed, logged: logged) }
  }

  private func isBulk(_ index: Int) -> Bool { strings[index].bulk != nil }

  /// Returns whether a commit was put together: hosts have new turns.
  mutating func commitIfDue() -> Bool {
    guard phase == .serving || phase == .repairing, flight == nil, commitRetry == nil else { return false }
    let isAny = !dirtyHosts.isEmpty || areCursorsDue
    if isFollowDue, !isAny || !wasTurnOfTrie {
      wasTurnOfTrie = true
      follow()
      return true
    }
    guard isAny, !awaitsPayload() else { return false }
    wasTurnOfTrie = false
    var next = Gathering(logged: logged)
    while next.isEmpty, !dirtyHosts.isEmpty { for tally in takeTurns() { gatherHost(tally, into: &next) } }
    intakes = intakes.filter { tallies[$0].intake.rows > 0 }
    for index in next.putOff { enqueue(index) }
    gatherCursors(into: &next)
    if !next.isEmpty {
      next.group.hasLogPayload = !next.log.isEmpty
      flight = next.group
      out.append(.commit(next.batch, log: next.log))
    }
    for index in next.leftOut { advance(index) }
    return true
  }

  // MARK: Patience

  /// Whether records that are to be committed, and nothing else is, promise payload that can go with them and is about to
  /// come: from the host's write(2) to both being durable it is one sync instead of two.
  private mutating func awaitsPayload() -> Bool {
    guard !dirtyHosts.isEmpty, !areCursorsDue, dirtyHosts.allSatisfy({ expectsPayload($0) }) else {
      commitPatience = nil
      return false
    }
    let end = commitPatience ?? now + limits.payloadPatience
    commitPatience = now < end ? end : nil
    return now < end
  }

  /// Strings of a commit that are looked at for it; whose has more isn't about one line.
  private var mostExpecting: Int { 16 }

  private func expectsPayload(_ tally: Int) -> Bool {
    let due = tallies[tally].due
    return !tallies[tally].sessions.isEmpty && tallies[tally].dirty.isEmpty && due.count <= mostExpecting
      && due.contains { mayTakePayload(string: $0) }
  }

  private func mayTakePayload(string index: Int) -> Bool {
    let string = strings[index]
    guard string.hasPlainFile, string.bulk == nil, string.failure == nil, string.apart == nil, string.tail == .kept,
      !string.isSetAside
    else { return false }
    let end = string.points.last?.end ?? string.committed
    return end < string.row.recorded && fitsLog(string.row.recorded - string.committed, logged: logged)
  }

  /// Whose the next commit is. What is a host's is in it as a whole or not at all: its rows and its records belong
  /// together, and are no other host's matter. Those who have little come first and all together, then one that has much:
  /// so a line waits for one host's turn at most, however many flood, and their turn comes all the same (P6).
  private mutating func takeTurns() -> [Int] {
    let large = dirtyHosts.filter { tallies[$0].hasMuchToCommit(limits) }
    guard let first = large.first, dirtyHosts.count > 1 else {
      defer { dirtyHosts.removeAll(keepingCapacity: true) }
      return dirtyHosts
    }
    wasTurnOfSmall = !wasTurnOfSmall && large.count < dirtyHosts.count
    guard wasTurnOfSmall else {
      dirtyHosts.removeAll { $0 == first }
      return [first]
    }
    let small = dirtyHosts.filter { !tallies[$0].hasMuchToCommit(limits) }
    dirtyHosts = large
    return small
  }

  /// All its waiting records are in this batch, hence every promise that payload was verified against is durable with it,
  /// and so are the rows that they changed. What else there is to commit goes by turns, and first: none is put off for ever.
  private mutating func gatherHost(_ tally: Int, into next: inout Gathering) {
    gatherJournals(of: tally, into: &next)
    gatherTurn(of: tally, into: &next)
    let due = tallies[tally].due
    tallies[tally].due.removeAll(keepingCapacity: true)
    for index in due {
      strings[index].isDue = false
      gather(index, into: &next)
    }
    if tallies[tally].awaitsCommit { dirtyHosts.append(tally) }
    tallies[tally].intake = CommitShare()
    resumeIntake(of: tally)
  }

  private mutating func gatherJournals(of tally: Int, into next: inout Gathering) {
    for index in tallies[tally].dirtyJournals {
      journals[index].isDirty = false
      guard journals[index].apart == nil, journals[index].length > journals[index].held.length else { continue }
      let run = journals[index].run(limits)
      next.batch.records.append(run)
      next.group.runs.append(GroupCommit.Run(index: index, after: run.after))
    }
    tallies[tally].dirtyJournals.removeAll(keepingCapacity: true)
  }

  private mutating func gatherTurn(of tally: Int, into next: inout Gathering) {
    let before = next.group.rows.count
    var share = CommitShare()
    while !share.isUsed(limits), let index = tallies[tally].dirty.popFirst() {
      strings[index].isDirty = false
      gather(index, into: &next)
      share = next.shares[tally] ?? share
      share.rows = next.group.rows.count - before
    }
  }

  private mutating func gather(_ index: Int, into next: inout Gathering) {
    guard !next.taken.contains(index) else { return }
    guard strings[index].apart == nil else { return gatherPromises(index, into: &next) }
    let tally = strings[index].tally
    let mayBringPayload = next.shares[tally]?.isUsed(limits) != true
    let point = mayBringPayload ? nextPoint(index, logged: next.logged) : nil
    if !strings[index].points.isEmpty, point == nil {
      if mayBringPayload { next.leftOut.append(index) } else { next.putOff.append(index) }
    }
    guard strings[index].isRowDirty || point != nil else { return }
    next.taken.insert(index)
    strings[index].isRowDirty = false
    var row = strings[index].row
    row.synced = max(row.synced, min(strings[index].syncedUpTo, row.committed))
    if let point {
      if strings[index].bulk == nil {
        let length = strings[index].points[point].end - row.committed
        next.log.append(LogRange(key: row.key, offset: row.committed, length: Int(length)))
        next.logged += length
        next.shares[tally, default: CommitShare()].bytes += Int(length)
      }
      gatherPayload(index, through: point, into: &row, &next.batch)
    }
    if row.synced > strings[index].row.synced, strings[index].logged > 0 {
      next.batch.trims.append(ServerBatch.Trim(key: row.key, below: row.synced))
    }
    gatherPromises(index, through: point, &next.batch)
    next.batch.strings.append(row)
    if strings[index].plain == .made, row.key.string == 0 { next.batch.named.append(namedFile(row)) }
    strings[index].isInFlight = true
    next.group.rows.append(
      GroupCommit.Row(
        index: index, row: row, end: point == nil ? nil : row.committed, isBulk: strings[index].bulk != nil,
        newPromises: strings[index].newPromises.count))
    gatherUnfinished(index, row, &next.batch)
  }

  /// Those that are met go; one that is met by the time when it comes needs no row.
  private func gatherPromises(_ index: Int, through point: Int?, _ batch: inout ServerBatch) {
    let key = strings[index].row.key.key
    let met = point.map { Set(strings[index].points[...$0].lazy.flatMap(\.met)) } ?? []
    for item in met { batch.met.append(Promise(key: key, length: item.length, root: item.root)) }
    batch.promises += strings[index].newPromises.lazy.filter {
      !met.contains(PromiseWindow.Item(length: $0.length, root: $0.root))
    }
  }

  /// The row that says 'unfinished' comes with the birth, or before the first byte of which it speaks, and goes in a commit
  /// that begins when the plain file is made and nothing was written beyond the length that it commits (K2). It stays while
  /// more of that kind is to come.
  private mutating func gatherUnfinished(_ index: Int, _ row: StoredString, _ batch: inout ServerBatch) {
    let (key, committed) = (row.key, row.committed)
    switch strings[index].unfinished {
    case .wanted:
      strings[index].unfinished = .arriving
      batch.unfinished.append(key)
    case .durable where row.isMade && strings[index].attempted <= committed && !strings[index].isUnproven:
      if case .at(let next) = strings[index].nextPromise(after: committed),
        next - committed > UInt64(max(0, limits.logPayloadSize))
      {
        return
      }
      strings[index].unfinished = .leaving
      batch.finished.append(key)
    case .absent, .arriving, .durable, .leaving: break
    }
  }

  /// Of a string that is set apart, as far as its journal isn't: what that promises now will come again after a start.
  private mutating func gatherPromises(_ index: Int, into next: inout Gathering) {
    let (promises, host) = (strings[index].newPromises, strings[index].row.key.key.host)
    guard !promises.isEmpty, !journals.contains(where: { $0.apart != nil && $0.held.host == host }) else { return }
    next.taken.insert(index)
    strings[index].isInFlight = true
    next.batch.promises += promises
    next.group.promised.append(GroupCommit.Promised(index: index, count: promises.count))
  }

  // MARK: Turns of records (P6)

  /// Records of a host came, for the next commit.
  mutating func noteIntake(_ share: CommitShare, of tally: Int) {
    tallies[tally].hasRecords = true
    if tallies[tally].intake.rows == 0 { intakes.append(tally) }
    tallies[tally].intake = tallies[tally].intake + share
  }

  /// Whoever has its turn in the next commit is read again when that begins: what it sends meanwhile stays in its window
  /// of records. Nobody waits for a store that takes nothing.
  mutating func pauseIntakes() {
    guard flight != nil else { return }
    for tally in intakes where !tallies[tally].isPaused && tallies[tally].intake.isUsed(limits) {
      tallies[tally].isPaused = true
      for id in tallies[tally].sessions where !isHeldUp(id) { pauseReading(id) }
    }
  }

  private mutating func resumeIntake(of tally: Int) {
    guard tallies[tally].isPaused else { return }
    tallies[tally].isPaused = false
    for id in tallies[tally].sessions {
      connections[id]?.heard = now
      if !isHeldUp(id) { resumeReading(id) }
    }
  }

  private mutating func gatherPayload(
    _ index: Int, through point: Int, into row: inout StoredString, _ batch: inout ServerBatch
  ) {
    strings[index].isPayloadInFlight = true
    for verified in strings[index].points[...point] where !verified.leaves.hashes.isEmpty {
      batch.leaves.append(
        ServerBatch.Leaves(key: row.key, first: verified.leaves.first, hashes: verified.leaves.hashes))
    }
    row.committed = strings[index].points[point].end
    row.root = strings[index].points[point].root
    if strings[index].bulk != nil { row.synced = row.committed }
  }

  // MARK: The answer

  mutating func committed(_ error: StoreError?, _ done: ServerCommitted) {
    guard let group = flight else { return }
    flight = nil
    switch error {
    case nil where group.isFold: followed()
    case .full where group.isFold, .failed where group.isFold: couldNotFollow()
    case nil:
      note(done.totals)
      // Before anything that it made durable is acknowledged.
      if let position = done.position { feed.advance(to: position) }
      succeeded(group)
    case .corrupt(let text), .damaged(let text), .failedSync(let text): halt("the store: \(text)")
    case .refused(.string(let key), .alreadyExists): nameTaken(key, group)
    case .refused(let subject, let why): setApart(subject, "\(why)", group)
    case .full(let text): postpone(group, text, isFull: true)
    case .failed(let text): postpone(group, text, isFull: false)
    case .alreadyExists: postpone(group, "exists already", isFull: false)
    case .outOfRange: postpone(group, "out of range", isFull: false)
    }
  }

  private mutating func succeeded(_ group: GroupCommit) {
    if blocked != nil {
      blocked = nil
      out.append(.report(.storeUnblocked))
    }
    for run in group.runs { recordsDurable(run) }
    for promised in group.promised {
      strings[promised.index].isInFlight = false
      strings[promised.index].newPromises.removeFirst(promised.count)
    }
    let loggedBefore = logged
    for row in group.rows { becameDurable(row) }
    acknowledge(group.rows.filter { $0.end != nil }.map(\.index))
    if logged == 0 || logged < loggedBefore { isLogSuspended = false }
    cursorsDurable(group.cursors)
    changed(group)
    for row in group.rows {
      if strings[row.index].lacksName, row.row.stored == strings[row.index].row.stored { create(row.index) }
      advance(row.index)
    }
  }

  private mutating func recordsDurable(_ run: GroupCommit.Run) {
    let before = journals[run.index].held
    if before.key.sequence > 0, before.length == before.start {
      out.append(.report(.forked(before.key.journal, at: before.start)))
    }
    waitingRecordBytes -= journals[run.index].becameDurable(run.after)
    noteJournal(run.after.key.journal)
    acknowledgeRecords(run.index)
  }

  /// Takes over what is durable now.
  private mutating func becameDurable(_ done: GroupCommit.Row) {
    let index = done.index
    let loggedBefore = strings[index].logged
    strings[index].isInFlight = false
    strings[index].row.synced = done.row.synced
    switch strings[index].unfinished {
    case .arriving: strings[index].unfinished = .durable
    case .leaving: strings[index].unfinished = .absent
    case .absent, .wanted, .durable: break
    }
    strings[index].newPromises.removeFirst(done.newPromises)
    if strings[index].plain == .made, done.row.isMade {
      strings[index].plain = .named
      link(done.row)
    }
    defer { logged = logged - loggedBefore + strings[index].logged }
    guard let end = done.end else { return }
    let bytes = end - strings[index].committed
    strings[index].isPayloadInFlight = false
    strings[index].commit(upTo: end, done.row.root)
    strings[index].points.removeAll { $0.end <= end }
    strings[index].promises.removeThrough(end)
    strings[index].reported = nil
    if done.isBulk {
      strings[index].bulk = nil
      strings[index].syncedUpTo = end
      out.append(.free(done.row.key, below: end))
    } else {
      unfolded += bytes
    }
    unhold(bytes, tally: strings[index].tally)
    release(bytes, to: strings[index].owner)
  }

  /// Nothing of the batch is durable: all of it waits and is tried again, with what came meanwhile. A store without room
  /// for log payload gets the same without it at once: records go on (P2).
  private mutating func postpone(_ group: GroupCommit, _ text: String, isFull: Bool) {
    takeBack(group)
    if isFull, group.hasLogPayload {
      isLogSuspended = true
      syncDue = unsynced.isEmpty ? syncDue : now
    } else {
      block(text)
    }
    for row in group.rows {
      if blocked != nil, row.end != nil, let owner = strings[row.index].owner {
        sendRefusal(row.index, .diskFull, text, to: owner)
      }
      advance(row.index)
    }
  }

  mutating func takeBack(_ group: GroupCommit) {
    if !group.cursors.isEmpty { cursorsDue = now + limits.retry }
    for run in group.runs { markDirty(journal: run.index) }
    for promised in group.promised {
      strings[promised.index].isInFlight = false
      markDue(promised.index)
    }
    for row in group.rows {
      strings[row.index].isInFlight = false
      strings[row.index].isPayloadInFlight = false
      switch strings[row.index].unfinished {
      case .arriving: strings[row.index].unfinished = .wanted
      case .leaving: strings[row.index].unfinished = .durable
      case .absent, .wanted, .durable: break
      }
      markDue(row.index)
    }
  }

  private mutating func block(_ text: String) {
    commitRetry = now + limits.retry
    if blocked == nil { out.append(.report(.storeBlocked(text))) }
    blocked = text
    for tally in intakes { resumeIntake(of: tally) }
    takeWhatWaited()
    // No answer waits for a store that takes nothing.
    for id in connections.keys.sorted() {
      guard let queries = connections[id]?.session?.queries, !queries.isEmpty else { continue }
      for position in queries.indices { connections[id]?.session?.queries[position].waiting = [] }
      answerQueries(id)
    }
  }
}
