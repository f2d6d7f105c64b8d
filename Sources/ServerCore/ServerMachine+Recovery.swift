import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Recovery on start (P3): the machine's whole state follows from rows, promises and log ranges. Before it serves, only those
// plain files are repaired that a crash may have left with other than the committed bytes (K2): those for which the log
// holds bytes, and those into which bytes went ahead of their commit. That is all of them unless the store or the log root
// was restored from a backup, which not every counter tells: so each other one is unproven until its size was compared,
// before it is first used or in the background.

extension ServerMachine where H.Value == Digest {
  mutating func start(
    journals: [HeldJournal], strings: [StoredString], promises: [Promise], log: [LogRange], unfinished: Set<StringKey>,
    totals: [HostName: HostTotals], counterMatches: Bool
  ) {
    guard phase == .new else { return }
    phase = .repairing
    mayCut = counterMatches
    note(totals)
    for journal in journals {
      guard journal.frontier.count == journal.length.nonzeroBitCount,
        (journal.length == 0) == (journal.checkpoint == nil)
      else { return halt("corrupt: the row of journal \(journal.journal) of \(journal.host)") }
      _ = addJournal(journal)
    }
    // String 0 is the only one until branches are kept; rows of others come from a later version and stay as they are.
    for row in strings where row.key.string == 0 {
      guard row.synced <= row.committed, row.committed == 0 || row.isMade else {
        return halt("corrupt: the row of \(row.key.key.file) of \(row.key.key.host)")
      }
      addRecovered(row, isUnfinished: unfinished.contains(row.key))
    }
    for promise in promises {
      guard let index = stringIndex[promise.key], promise.length > self.strings[index].committed else { continue }
      _ = self.strings[index].promises.insert(promise.length, promise.root)
    }
    for index in self.strings.indices {
      guard self.strings[index].plain == .unproven else {
        create(index)
        continue
      }
      unprovenStrings += 1
      if self.strings[index].logged > 0 || self.strings[index].unfinished == .durable {
        repair(index)
      } else {
        unproven.append(index)
      }
    }
    serveWhenRepaired()
  }

  private mutating func addRecovered(_ row: StoredString, isUnfinished: Bool) {
    if row.isMade { noteNewest(row) }
    var string = StringIntake(row: row, plain: row.isMade ? .unproven : .claiming, tally: tally(of: row.key.key.host))
    string.adopts = !row.isMade
    if isUnfinished { string.unfinished = .durable }
    let index = add(string)
    logged = logged.saturatingAdding(strings[index].logged)
  }

  /// Adds a string to the table.
  mutating func add(_ string: StringIntake) -> Int {
    strings.append(string)
    stringIndex[string.row.key.key] = strings.count - 1
    return strings.count - 1
  }

  mutating func repair(_ index: Int) {
    repairsOutstanding += 1
    strings[index].plain = .proving
    strings[index].writing = strings[index].committed
    out.append(.repair(strings[index].row, mayCut: mayCut))
  }

  mutating func repaired(_ key: StringKey, _ outcome: RepairOutcome) {
    guard let index = index(of: key), strings[index].plain == .proving else { return }
    repairsOutstanding -= 1
    strings[index].writing = nil
    switch outcome {
    case .done: repairDone(index)
    case .setAside(let path):
      out.append(.report(.setAside(key.key, path)))
      repairDone(index)
    case .failed(let text): repairFailed(index, .diskFull, text)
    case .unusable(let text): repairFailed(index, .unstorable, text)
    case .failedSync(let text): return halt("syncing \(key.key.file) of \(key.key.host) at its repair: \(text)")
    }
    serveWhenRepaired()
  }

  private mutating func repairFailed(_ index: Int, _ code: RefusalCode, _ text: String) {
    strings[index].plain = .broken
    out.append(.report(.repairFailed(strings[index].row.key.key, text)))
    fail(index, code, text)
  }

  /// The plain file holds exactly the committed bytes, synced: the log's part can go.
  private mutating func repairDone(_ index: Int) {
    unprovenStrings -= 1
    strings[index].plain = .named
    strings[index].syncedUpTo = strings[index].committed
    if strings[index].logged > 0 || strings[index].unfinished == .durable { markRowDirty(index) }
    linkIfNewest(strings[index].row)
    advance(index)
  }

  private mutating func serveWhenRepaired() {
    if phase == .repairing, repairsOutstanding == 0 {
      phase = .serving
      out.append(.serve)
    }
    guard phase == .serving else { return }
    while repairsOutstanding < Self.provenAtOnce, let index = unproven.popFirst() { prove(index) }
  }

  /// A few, so that what is used before its turn doesn't wait behind many.
  private static var provenAtOnce: Int { 4 }

  /// Before the first use of a plain file that a start found.
  mutating func prove(_ index: Int) {
    if strings[index].plain == .unproven { repair(index) }
  }
}
