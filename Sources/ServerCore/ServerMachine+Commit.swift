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
    dirtyJournals.append(index)
  }

  /// The string's row changed.
  mutating func markRowDirty(_ index: Int) {
    strings[index].isRowDirty = true
    enqueue(index)
  }

  mutating func enqueue(_ index: Int) {
    guard !strings[index].isDirty else { return }
    strings[index].isDirty = true
    dirtyStrings.append(index)
  }

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

  mutating func commitIfDue() {
    guard phase == .serving || phase == .repairing, flight == nil, commitRetry == nil else { return }
    guard !dirtyJournals.isEmpty || !dirtyStrings.isEmpty else { return }
    var group = GroupCommit()
    var batch = ServerBatch()
    var log: [LogRange] = []
    gatherJournals(into: &group, &batch)
    let leftOut = gatherStrings(into: &group, &batch, &log)
    if !group.rows.isEmpty || !group.runs.isEmpty || !group.promised.isEmpty {
      group.hasLogPayload = !log.isEmpty
      flight = group
      out.append(.commit(batch, log: log))
    }
    for index in leftOut { advance(index) }
  }

  private mutating func gatherJournals(into group: inout GroupCommit, _ batch: inout ServerBatch) {
    for index in dirtyJournals {
      journals[index].isDirty = false
      guard journals[index].apart == nil, journals[index].length > journals[index].held.length else { continue }
      let run = journals[index].run
      batch.records.append(run)
      group.runs.append(GroupCommit.Run(index: index, after: run.after))
    }
    dirtyJournals.removeAll(keepingCapacity: true)
  }

  /// All waiting records are in this batch, hence every promise that payload was verified against is durable with it.
  /// Returns strings for whose payload the log has no room beside that of the others.
  private mutating func gatherStrings(
    into group: inout GroupCommit, _ batch: inout ServerBatch, _ log: inout [LogRange]
  ) -> [Int] {
    var planned = logged
    var leftOut: [Int] = []
    let indices = dirtyStrings
    dirtyStrings.removeAll(keepingCapacity: true)
    for index in indices {
      strings[index].isDirty = false
      guard strings[index].apart == nil else {
        gatherPromises(index, into: &group, &batch)
        continue
      }
      let point = nextPoint(index, logged: planned)
      if point == nil, !strings[index].points.isEmpty { leftOut.append(index) }
      guard strings[index].isRowDirty || point != nil else { continue }
      strings[index].isRowDirty = false
      var row = strings[index].row
      row.synced = max(row.synced, min(strings[index].syncedUpTo, row.committed))
      if let point {
        if strings[index].bulk == nil {
          let length = strings[index].points[point].end - row.committed
          log.append(LogRange(key: row.key, offset: row.committed, length: Int(length)))
          planned += length
        }
        gatherPayload(index, through: point, into: &row, &batch)
      }
      if row.synced > strings[index].row.synced, strings[index].logged > 0 {
        batch.trims.append(ServerBatch.Trim(key: row.key, below: row.synced))
      }
      batch.promises += strings[index].newPromises.lazy.filter { $0.length > row.committed }
      batch.strings.append(row)
      group.rows.append(
        GroupCommit.Row(
          index: index, row: row, end: point == nil ? nil : row.committed, isBulk: strings[index].bulk != nil,
          newPromises: strings[index].newPromises.count))
    }
    return leftOut
  }

  /// Of a string that is set apart, as far as its journal isn't: what that promises now will come again after a start.
  private func gatherPromises(_ index: Int, into group: inout GroupCommit, _ batch: inout ServerBatch) {
    let (promises, host) = (strings[index].newPromises, strings[index].row.key.key.host)
    guard !promises.isEmpty, !journals.contains(where: { $0.apart != nil && $0.held.host == host }) else { return }
    batch.promises += promises
    group.promised.append(GroupCommit.Promised(index: index, count: promises.count))
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
    batch.met.append(ServerBatch.MetLength(key: row.key.key, length: row.committed))
  }

  // MARK: The answer

  mutating func committed(_ error: StoreError?) {
    guard let group = flight else { return }
    flight = nil
    switch error {
    case nil: succeeded(group)
    case .corrupt(let text), .damaged(let text), .failedSync(let text): halt("the store: \(text)")
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
    for promised in group.promised { strings[promised.index].newPromises.removeFirst(promised.count) }
    let loggedBefore = logged
    for row in group.rows { becameDurable(row) }
    acknowledge(group.rows.filter { $0.end != nil }.map(\.index))
    if logged == 0 || logged < loggedBefore { isLogSuspended = false }
    for row in group.rows {
      if strings[row.index].plain == .none { create(row.index) }
      advance(row.index)
    }
  }

  private mutating func recordsDurable(_ run: GroupCommit.Run) {
    let tally = tally(of: run.after.host)
    let count = run.after.length - journals[run.index].held.length
    tallies[tally].records = tallies[tally].records.saturatingAdding(count)
    waitingRecordBytes -= journals[run.index].becameDurable(run.after)
    acknowledgeRecords(run.index)
  }

  /// Takes over what is durable now.
  private mutating func becameDurable(_ done: GroupCommit.Row) {
    let index = done.index
    let loggedBefore = strings[index].logged
    strings[index].row.synced = done.row.synced
    strings[index].newPromises.removeFirst(done.newPromises)
    if strings[index].plain == .made, !done.row.stored.bytes.isEmpty { strings[index].plain = .named }
    defer { logged = logged - loggedBefore + strings[index].logged }
    guard let end = done.end else { return }
    let bytes = end - strings[index].committed
    strings[index].isPayloadInFlight = false
    strings[index].row.committed = end
    strings[index].row.root = done.row.root
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
    let tally = strings[index].tally
    tallies[tally].bytes = tallies[tally].bytes.saturatingAdding(bytes)
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
    for run in group.runs { markDirty(journal: run.index) }
    for promised in group.promised { enqueue(promised.index) }
    for row in group.rows {
      strings[row.index].isPayloadInFlight = false
      markRowDirty(row.index)
    }
  }

  private mutating func block(_ text: String) {
    commitRetry = now + limits.retry
    if blocked == nil { out.append(.report(.storeBlocked(text))) }
    blocked = text
    // No answer waits for a store that takes nothing.
    for id in connections.keys.sorted() {
      guard let queries = connections[id]?.session?.queries, !queries.isEmpty else { continue }
      for position in queries.indices { connections[id]?.session?.queries[position].waiting = [] }
      answerQueries(id)
    }
  }
}
