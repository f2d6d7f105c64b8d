import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Recovery on start (P3): the machine's whole state follows from rows, promises and log ranges. Only plain files that may
// hold other than the committed bytes are opened and repaired (K2): those for which the log holds bytes, those into which
// bytes went ahead of their commit, and all of them beside a store that isn't the one that wrote them last.

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
      if self.strings[index].plain != .named {
        create(index)
      } else if !mayCut || self.strings[index].logged > 0 || self.strings[index].unfinished == .durable {
        repair(index)
      } else {
        linkIfNewest(self.strings[index].row)
      }
    }
    serveWhenRepaired()
  }

  private mutating func addRecovered(_ row: StoredString, isUnfinished: Bool) {
    if row.isMade { noteNewest(row) }
    var string = StringIntake(row: row, plain: row.isMade ? .named : .claiming, tally: tally(of: row.key.key.host))
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
    if strings[index].plain != .broken { brokenStrings += 1 }
    strings[index].plain = .broken
    strings[index].writing = strings[index].committed
    out.append(.repair(strings[index].row, mayCut: mayCut))
  }

  mutating func repaired(_ key: StringKey, _ outcome: RepairOutcome) {
    guard let index = index(of: key), strings[index].plain == .broken, strings[index].writing != nil else { return }
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
    out.append(.report(.repairFailed(strings[index].row.key.key, text)))
    fail(index, code, text)
  }

  /// The plain file holds exactly the committed bytes, synced: the log's part can go.
  private mutating func repairDone(_ index: Int) {
    brokenStrings -= 1
    strings[index].plain = .named
    strings[index].syncedUpTo = strings[index].committed
    if strings[index].logged > 0 || strings[index].unfinished == .durable { markRowDirty(index) }
    linkIfNewest(strings[index].row)
    advance(index)
  }

  private mutating func serveWhenRepaired() {
    guard phase == .repairing, repairsOutstanding == 0 else { return }
    phase = .serving
    out.append(.serve)
  }
}
