import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Recovery on start (P3). Before it serves, only those plain files are repaired that a crash may have left with other than
// the committed bytes, and those are made that were being made (K2): for which the log holds bytes, or a row says so. That
// is all of them unless the store or the log root was restored from a backup, which not every counter tells: so each other
// one is unproven until its size was compared, before it is first used, or by a survey of all files in the background.

/// The survey of a start: all files in the order of their keys, a few at a time.
struct Survey {
  /// Keys that the store gave and that nobody has looked at.
  var ahead = Fifo<FileKey>()
  /// The last key that it gave.
  var last: FileKey?
  var isReading = false
  var hasAllKeys = false
  /// Those that are being loaded and compared.
  var underWay: Set<FileKey> = []

  /// So many at once: what is used before its turn doesn't wait behind many.
  static var atOnce: Int { 4 }
  static var keysAtOnce: Int { 256 }
}

extension ServerMachine where H.Value == Digest {
  mutating func start(
    journals: [HeldJournal], left: [LoadedFile], totals: [HostName: HostTotals], counterMatches: Bool
  ) {
    guard phase == .new else { return }
    phase = .repairing
    mayCut = counterMatches
    note(totals)
    for tally in tallies.indices { tallies[tally].mayOweMore = true }
    for journal in journals {
      guard journal.frontier.count == journal.length.nonzeroBitCount,
        (journal.length == 0) == (journal.checkpoint == nil), (journal.key.sequence == 0) == (journal.fork == nil),
        journal.start < journal.length || journal.length == 0
      else { return halt("corrupt: the row of journal \(journal.journal) of \(journal.host)") }
      _ = addJournal(journal)
      if journal.length > 0 { noteJournal(journal.key.journal) }
    }
    for file in left {
      guard let first = addLoaded(file) else { continue }
      for index in all(first) { if strings[index].plain == .unproven { repair(index) } else { create(index) } }
    }
    serveWhenRepaired()
  }

  /// Adds what the store has of a file, and returns its string 0; nil when it has no birth, or when a row can't be.
  mutating func addLoaded(_ file: LoadedFile) -> Int? {
    guard let row = file.row else { return nil }
    let promises = PromiseWindow(beyond: row.committed, file.promises, end: file.promisesEnd)
    guard let first = addLoaded(row, promises, isUnfinished: file.isUnfinished) else { return nil }
    for branch in file.branches {
      var branch = branch
      branch.row.recorded = max(row.recorded, branch.row.committed)
      // What it may meet is read when bytes of it come.
      let none = PromiseWindow(beyond: branch.row.committed, end: branch.row.committed)
      guard addLoaded(branch.row, none, isUnfinished: branch.isUnfinished) != nil else { return nil }
    }
    return first
  }

  private mutating func addLoaded(_ row: StoredString, _ promises: PromiseWindow, isUnfinished: Bool) -> Int? {
    guard row.synced <= row.committed, row.start <= row.synced, row.committed == row.start || row.isMade,
      (row.branch == nil) == (row.key.string == 0)
    else {
      halt("corrupt: the row of \(row.key.key.file) of \(row.key.key.host)")
      return nil
    }
    let tally = tally(of: row.key.key.host)
    var string = StringIntake(
      row: row, plain: row.isMade ? .unproven : .claiming, tally: tally, promises: promises)
    string.adopts = !row.isMade
    if isUnfinished { string.unfinished = .durable }
    string.isSetAside = isRefused(row.key.key.file, tally: tally)
    let index = add(string)
    logged = logged.saturatingAdding(strings[index].logged)
    noteOwed(index)
    return index
  }

  /// Adds a string to the table.
  mutating func add(_ string: StringIntake) -> Int {
    let index: Int
    if let free = freeStrings.popLast() {
      index = free
      strings[index] = string
    } else {
      index = strings.count
      strings.append(string)
    }
    if string.row.key.string == 0 {
      stringIndex[string.row.key.key] = index
    } else if let first = stringIndex[string.row.key.key] {
      strings[first].branches.append(index)
    }
    newcomers += 1
    return index
  }

  mutating func repair(_ index: Int) {
    repairsOutstanding += 1
    if strings[index].plain == .broken { brokenStrings -= 1 }
    strings[index].plain = .proving
    strings[index].writing = strings[index].committed
    // What lies beyond the committed length is a crash's only where the store says that bytes may be written there (K2):
    // elsewhere they were acknowledged, and the store forgot them.
    let isUnfinished = strings[index].unfinished == .durable
    let leftover = isUnfinished ? UInt64(max(0, limits.syncSlice)) : 0
    out.append(.repair(strings[index].row, leftover: mayCut ? leftover : nil))
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
    look(at: key.key)
    goOnSurveying()
  }

  private mutating func repairFailed(_ index: Int, _ code: RefusalCode, _ text: String) {
    strings[index].plain = .broken
    brokenStrings += 1
    out.append(.report(.repairFailed(strings[index].row.key.key, text)))
    fail(index, code, text)
  }

  /// The plain file holds exactly the committed bytes, synced: the log's part can go.
  private mutating func repairDone(_ index: Int) {
    strings[index].plain = .named
    strings[index].syncedUpTo = strings[index].committed
    if strings[index].logged > 0 || strings[index].unfinished == .durable { markRowDirty(index) }
    link(strings[index].row)
    advance(index)
  }

  private mutating func serveWhenRepaired() {
    guard phase == .repairing, repairsOutstanding == 0 else { return }
    phase = .serving
    out.append(.serve)
    goOnSurveying()
  }

  /// Before the first use of a plain file that was loaded.
  mutating func prove(_ index: Int) {
    if strings[index].plain == .unproven { repair(index) }
  }

  // MARK: The survey

  mutating func goOnSurveying() {
    guard phase == .serving else { return }
    while survey.underWay.count < Survey.atOnce, let key = survey.ahead.popFirst() {
      survey.underWay.insert(key)
      need(key)
      look(at: key)
    }
    guard survey.ahead.isEmpty else { return }
    if !survey.hasAllKeys, !survey.isReading {
      survey.isReading = true
      read(.keys(after: survey.last, count: Survey.keysAtOnce), for: .survey)
    }
    endSurvey()
  }

  mutating func surveyed(_ keys: [FileKey]) {
    survey.isReading = false
    survey.hasAllKeys = keys.count < Survey.keysAtOnce
    survey.last = keys.last ?? survey.last
    for key in keys { survey.ahead.append(key) }
    goOnSurveying()
  }

  /// One of those under way is in memory, or something became of it.
  mutating func look(at key: FileKey) {
    guard survey.underWay.contains(key), isKnown(key) else { return }
    if let first = stringIndex[key] {
      for index in all(first) { prove(index) }
      if all(first).contains(where: { strings[$0].plain == .proving }) { return }
    }
    survey.underWay.remove(key)
    release(key)
  }

  /// Every plain file is what its row says: what is beyond that from now on is a crash's leftover.
  private mutating func endSurvey() {
    let isDone = survey.hasAllKeys && survey.ahead.isEmpty && survey.underWay.isEmpty
    if isDone, brokenStrings == 0 { mayCut = true }
  }
}
