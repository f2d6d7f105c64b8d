import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Memory follows what is going on (K1). What nothing is going on about is a row; it is loaded when it is needed: for a frame
// that is about it, or for the survey of a start. A file is either in memory or as the store has it, never both: what is
// loaded was committed before it was asked for.

/// A file that something waits for, or that must stay.
struct Wanted {
  enum State {
    case queued, loading
    /// Looked for, and found or not.
    case inMemory, nowhere
  }
  var state: State
  /// What keeps it: arrivals that are about it, and the survey.
  var users = 0
}

/// A question to the store that isn't answered.
struct Reading {
  enum Purpose: Hashable {
    case wanted, survey
    /// The next promises for a string.
    case window(StringKey)
    case resume(ConnectionID)
    /// What sequences of a connection's journal have, where they end, and the records of one.
    case beginnings(ConnectionID)
    case heads(ConnectionID)
    case records(ConnectionID, from: UInt64)
    /// For a peer: the next changes to announce; files that it announced; whether a journal's sequence has what it
    /// announced; and for what it wants.
    case feed(ConnectionID, count: Int)
    case announced(ConnectionID)
    case compared(ConnectionID, HostJournal)
    case supplyRecords(ConnectionID, channel: UInt32)
    case supplyFile(SupplyPlace)
    case settling(UInt64)
    /// The own digest; the same when a walk begins; parts of the own trie, to be compared with a peer's; and for one that
    /// asks.
    case digest
    case walkBegins(ConnectionID)
    case walk(ConnectionID, TriePrefix, [Digest])
    case trie(ConnectionID)
  }
  var query: StoreQuery
  var purpose: Purpose
  /// An answer that knows of fewer commits is too old.
  var atLeast: UInt64
}

extension ServerMachine where H.Value == Digest {
  // MARK: What is needed

  /// Whether a file is in memory, or is known to be nowhere.
  mutating func isKnown(_ key: FileKey) -> Bool {
    if let index = stringIndex[key] {
      strings[index].isRecent = true
      return true
    }
    return wanted[key]?.state == .nowhere
  }

  /// Brings a file into memory, and keeps it there until it is released as often.
  mutating func need(_ key: FileKey) {
    if wanted[key] == nil {
      wanted[key] = Wanted(state: stringIndex[key] == nil ? .queued : .inMemory)
      if stringIndex[key] == nil { enqueueLoad(key) }
    }
    wanted[key]?.users += 1
  }

  mutating func release(_ key: FileKey) {
    wanted[key]?.users -= 1
    forgetIfUnused(key)
  }

  private mutating func forgetIfUnused(_ key: FileKey) {
    guard let wanted = wanted[key], wanted.users == 0, wanted.state == .inMemory || wanted.state == .nowhere else {
      return
    }
    self.wanted[key] = nil
  }

  private mutating func enqueueLoad(_ key: FileKey) {
    let tally = tally(of: key.host)
    if tallies[tally].toLoad.isEmpty { loadingHosts.append(tally) }
    tallies[tally].toLoad.append(key)
  }

  /// Files in one reading, and of one host in its turn.
  private static var filesPerReading: Int { 1_024 }
  private static var filesPerTurn: Int { 64 }

  /// One reading at a time; what is needed meanwhile gathers for the next, host by host.
  mutating func loadWanted() {
    guard !isLoading, phase != .halted else { return }
    var keys: [FileKey] = []
    while keys.count < Self.filesPerReading, let tally = loadingHosts.popFirst() {
      for _ in 0..<Self.filesPerTurn {
        guard let key = tallies[tally].toLoad.popFirst() else { break }
        if wanted[key]?.users == 0 {
          wanted[key] = nil
        } else {
          wanted[key]?.state = .loading
          keys.append(key)
        }
      }
      if !tallies[tally].toLoad.isEmpty { loadingHosts.append(tally) }
    }
    guard !keys.isEmpty else { return }
    isLoading = true
    read(.files(keys, promises: limits.promiseWindow), for: .wanted)
  }

  // MARK: The store's answers

  mutating func read(_ query: StoreQuery, for purpose: Reading.Purpose) {
    lastRead += 1
    let id = ReadID(lastRead)
    reads[id] = Reading(query: query, purpose: purpose, atLeast: commitNumber)
    out.append(.load(id, query))
  }

  mutating func loaded(_ id: ReadID, _ answer: StoreAnswer) {
    guard let reading = reads.removeValue(forKey: id) else { return }
    if unread.isEmpty, isReadingReported {
      isReadingReported = false
      out.append(.report(.storeUnblocked))
    }
    guard answer.number >= reading.atLeast else { return read(reading.query, for: reading.purpose) }
    switch reading.purpose {
    case .wanted:
      isLoading = false
      for file in answer.files { place(file) }
      // A row that can't be is no birth that is lacking: nothing is answered any more.
      guard phase != .halted else { return }
      for file in answer.files { look(at: file.key) }
      goOnSurveying()
      takeWhatWaited()
    case .window(let key): windowRead(key, answer.files.first)
    case .survey: surveyed(answer.files.map(\.key))
    case .resume(let connection): looked(answer.files, on: connection)
    case .beginnings(let connection): began(answer.beginnings, on: connection)
    case .heads(let connection): answerHeads(answer.heads, on: connection)
    case .records(let connection, let first): recordsRead(answer.records, from: first, on: connection)
    case .feed(let link, let count): changesRead(answer, count: count, on: link)
    case .settling(let token): settling(token, answer.feed)
    case .digest: digestRead(answer)
    case .walkBegins(let link): walkBegins(answer.feed, on: link)
    case .walk(let link, let prefix, let theirs): compareParts(answer.trieParts, with: theirs, of: prefix, on: link)
    case .trie(let link): trieRead(answer, on: link)
    case .announced(let link): announcedRead(answer.files, on: link)
    case .compared(let link, let journal): comparedRead(answer.beginnings, of: journal, on: link)
    case .supplyRecords(let link, let channel): recordsToSupplyRead(answer, on: link, channel)
    case .supplyFile(let place): fileToSupplyRead(answer, at: place)
    }
  }

  /// Damage is named and ends the process, as in a commit. All else is tried again: nothing is answered meanwhile about
  /// what isn't in memory.
  mutating func unreadable(_ id: ReadID, _ error: StoreError) {
    guard let reading = reads.removeValue(forKey: id) else { return }
    switch error {
    case .failed(let text), .full(let text):
      unread.append(reading)
      readRetry = readRetry ?? now + limits.retry
      if !isReadingReported { out.append(.report(.storeBlocked("reading: \(text)"))) }
      isReadingReported = true
    case .corrupt, .damaged, .failedSync, .refused, .alreadyExists, .outOfRange:
      switch reading.purpose {
      case .beginnings(let id), .heads(let id), .records(let id, _): unreadableJournal("\(error)", on: id)
      case .compared(let link, let journal): unreadableAnnounced(journal, on: link)
      case .supplyRecords(let link, let channel): recordsToSupplyUnreadable(on: link, channel)
      case .supplyFile(let place): fileToSupplyUnreadable(at: place)
      case .digest: trieUnreadable()
      case .walk(let link, let prefix, let theirs): compareParts(nil, with: theirs, of: prefix, on: link)
      case .trie(let link): trieUnreadable(on: link)
      case .wanted, .survey, .window, .resume, .feed, .announced, .settling, .walkBegins: halt("the store: \(error)")
      }
    }
  }

  mutating func readAgain() {
    readRetry = nil
    let failed = unread
    unread = []
    for reading in failed { read(reading.query, for: reading.purpose) }
  }

  private mutating func place(_ file: LoadedFile) {
    guard wanted[file.key]?.state == .loading else { return }
    if wanted[file.key]?.users == 0 {
      wanted[file.key] = nil
    } else if let index = addLoaded(file) {
      wanted[file.key]?.state = .inMemory
      for index in all(index) where strings[index].plain == .claiming { create(index) }
    } else {
      wanted[file.key]?.state = .nowhere
    }
  }

  // MARK: What leaves memory

  /// Strings that are looked at in one step when there are more than are to stay, and for each that came in it.
  private static var looksPerStep: Int { 16 }
  private static var looksPerNewcomer: Int { 4 }

  /// The one that wasn't used for longest leaves, about: a hand goes round, and passes over what was used since it last
  /// came (the 'clock' of F. J. Corbató, A paging experiment with the Multics system, 1968).
  mutating func evict() {
    let looks = Self.looksPerStep + Self.looksPerNewcomer * newcomers
    newcomers = 0
    for _ in 0..<looks {
      guard strings.count - freeStrings.count > max(0, limits.residentStrings) else { return }
      hand = hand + 1 < strings.count ? hand + 1 : 0
      guard stringIndex[strings[hand].row.key.key] == hand else { continue }
      if strings[hand].isRecent {
        strings[hand].isRecent = false
      } else if wanted[strings[hand].row.key.key] == nil, all(hand).allSatisfy({ mayLeave($0) }), !hasGivenUp(hand) {
        for index in all(hand).reversed() { leave(index) }
      }
    }
  }

  /// A connection may still name a branch of it that came to nothing: its number isn't given again meanwhile.
  private func hasGivenUp(_ first: Int) -> Bool {
    let greatest = strings[first].branches.map { strings[$0].row.key.string }.max() ?? 0
    return strings[first].lastBranch > greatest && !tallies[strings[first].tally].sessions.isEmpty
  }

  /// Nothing is going on about it, and its row says all that there is to know.
  private func mayLeave(_ index: Int) -> Bool {
    strings[index].isAtRest && !strings[index].promises.isReading
  }

  private mutating func leave(_ index: Int) {
    let key = strings[index].row.key
    tallies[strings[index].tally].owed -= strings[index].owed
    if strings[index].owed > 0 { tallies[strings[index].tally].mayOweMore = true }
    strings[index].promises = PromiseWindow()
    strings[index].branches = []
    if key.string == 0 { stringIndex[key.key] = nil }
    freeStrings.append(index)
    out.append(.forget(key))
  }
}

extension StringIntake {
  /// Nothing of it is under way or owed to the store, and nobody waits for it.
  fileprivate var isAtRest: Bool {
    let isQueued = isDirty || isDue || isRowDirty || isInFlight || isUnsynced
    let isAsItsRow =
      (plain == .named || plain == .unproven) && (unfinished == .absent || unfinished == .durable)
      && newPromises.isEmpty && row.synced == committed && written == committed && syncedUpTo <= committed
    return isAsItsRow && !isQueued && isDrained && points.isEmpty && writing == nil && bulk == nil && owner == nil
      && resumers.isEmpty && probers.isEmpty && probes == 0 && failure == nil && apart == nil && refusal == nil
  }
}
