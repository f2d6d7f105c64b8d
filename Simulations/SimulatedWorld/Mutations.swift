import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import ServerCore
import WireProtocol

/// What the planted bugs that need a memory do to a host's inputs.
struct HostMutations {
  let mutant: Mutant?
  /// How far payload was handed to a connection, by server and file: the host's own offset.
  private var sent: [Int: [FileUUID: UInt64]] = [:]
  private var claimed: Set<UInt64> = []
  private static let claim = Digest(words: 1, 2, 3, 4)

  init(_ mutant: Mutant?) { self.mutant = mutant }

  func start(_ start: HostStart) -> HostStart {
    var wrong = start
    if mutant == .believeEnded { wrong.haveEnded = start.haveEnded.map { _ in true } }
    if mutant == .forgetFormer { wrong.former = [] }
    return wrong
  }

  func hints(_ hints: [WatchHint]) -> [WatchHint] {
    mutant == .ignoreOverflow ? hints.filter { $0 != .overflow } : hints
  }

  mutating func sent(_ header: PayloadHeader, to server: Int) {
    guard mutant == .resumeFromHostOffset else { return }
    sent[server, default: [:]][header.file] = max(header.end, sent[server]?[header.file] ?? 0)
  }

  /// Nil when the host doesn't get to see it.
  mutating func frame(_ frame: Frame, from server: Int) -> Frame? {
    switch (frame, mutant) {
    case (.refusal(let refusal), .ignoreRefusal): return refusal.file == nil ? frame : nil
    case (.credit, .ignoreCredit): return .credit(total: .max / 2)
    case (.welcome(var welcome), .ignoreCredit):
      welcome.credit = .max / 2
      return .welcome(welcome)
    case (.welcome(var welcome), .believePutBack):
      welcome.isContinued = true
      return .welcome(welcome)
    case (.position, .noteFirstPosition): return nil
    case (.resumeAnswer(let held), .resumeFromHostOffset):
      return .resumeAnswer(held.map { advance($0, to: sent[server]?[$0.file] ?? 0) })
    default: return frame
    }
  }

  private mutating func advance(_ held: HeldFile, to length: UInt64) -> HeldFile {
    guard length > held.strings.map(\.length).max() ?? 0 else { return held }
    claimed.insert(length)
    return HeldFile(file: held.file, strings: [TreeHead(length: length, root: Self.claim)])
  }

  func answer(_ answer: HostAnswer) -> HostAnswer {
    var wrong = answer
    if mutant == .bearAgain { wrong.files = [] }
    guard mutant == .forgetLength else { return wrong }
    for index in wrong.files.indices {
      wrong.files[index].row.length = 0
      wrong.files[index].row.root = SimulatedTree.empty
      wrong.files[index].row.tail = SimulatedTree.empty
    }
    return wrong
  }

  func root(_ root: Digest?, at length: UInt64) -> Digest? { claimed.contains(length) ? Self.claim : root }
}

/// The same for a server.
struct ServerMutations {
  let mutant: Mutant?
  private var lastAcknowledged: DurablePrefix?
  private var gaps: [StringKey: UInt64] = [:]
  private var unannounced: [StringKey] = []
  private var announced: Set<StringKey> = []
  /// The rows of strings before their last commit.
  private var newest: [StringKey: StoredString] = [:]
  private var older: [StringKey: StoredString] = [:]
  private var answers = 0
  private var lastMade: [HostName: [BytePath: BytePath]] = [:]

  init(_ mutant: Mutant?) { self.mutant = mutant }

  mutating func frame(_ frame: Frame) -> Frame {
    if mutant == .noteAhead, case .noted(let noted) = frame {
      return .noted(Noted(noted: noted.noted, held: noted.noted))
    }
    guard mutant == .acknowledgeOtherFile || mutant == .acknowledgeOtherRoot, case .payloadDurable(var held) = frame,
      let first = held.first
    else { return frame }
    if let other = lastAcknowledged, other.file != first.file {
      if mutant == .acknowledgeOtherFile { held[0].file = other.file } else { held[0].root = other.root }
    }
    lastAcknowledged = first
    return .payloadDurable(held)
  }

  /// What a peer says, as it is heard.
  mutating func fromPeer(_ frame: Frame, present: Feed) -> Frame {
    switch (frame, mutant) {
    case (.refusal(let refusal), .goOnRefused) where refusal.text == "another one supplies it":
      return .payloadDurable([])
    case (.wantBytes(var wanted), .supplyFromBeginning):
      wanted.held = []
      return .wantBytes(wanted)
    case (.trieParts(let parts), .passOverParts):
      return .trieParts(parts.map { _ in HoldingsTrie<SimulatedTree>.bucket([]) })
    case (.trieBucket(let bucket), .passOverBucket): return .trieBucket(TrieBucket(changes: [], isLast: bucket.isLast))
    case (.peerHello(var hello), .believeLostCursor):
      guard let cursor = hello.cursor, let life = present.epochs.last?.life else { return frame }
      let seen = min(cursor.seen, present.last)
      hello.cursor = FeedCursor(life: life, held: min(cursor.held, seen), seen: seen)
      return .peerHello(hello)
    case (.announce(let announcement), .coverByLength):
      for change in announcement.changes {
        guard case .file(let key) = change.subject else { continue }
        for head in change.heads { announcedRoots[key, default: [:]][head.length] = head.root }
      }
      return frame
    default: return frame
    }
  }

  func root(_ root: Digest?, of key: FileKey, length: UInt64) -> Digest? {
    announcedRoots[key]?[length] ?? root
  }

  func totals(_ totals: [HostName: HostTotals]) -> [HostName: HostTotals] {
    guard mutant == .countTwice else { return totals }
    return totals.mapValues { once in
      var twice = once
      twice.records += once.records
      return twice
    }
  }

  mutating func batch(_ batch: inout ServerBatch) {
    if mutant == .cursorAhead {
      for index in batch.cursors.indices { batch.cursors[index].cursor.held = batch.cursors[index].cursor.seen }
    }
    if mutant == .announceLate { swap(&batch.unfinished, &unannounced) }
    if mutant == .finishEarly {
      announced.formUnion(batch.unfinished)
      for met in batch.met where announced.remove(met.key.first) != nil { batch.finished.append(met.key.first) }
    }
    if mutant == .olderRow {
      for row in batch.strings {
        older[row.key] = newest[row.key]
        newest[row.key] = row
      }
    }
    guard mutant == .gapFromHeld else { return }
    for index in batch.strings.indices where batch.strings[index].gap != nil {
      let row = batch.strings[index]
      let from = gaps[row.key] ?? row.committed
      gaps[row.key] = from
      batch.strings[index].gap?.lower = from
    }
  }

  /// What of it is committed: of other histories nothing.
  func kept(_ batch: ServerBatch) -> ServerBatch {
    guard mutant == .forgetFork else { return batch }
    var kept = batch
    kept.records.removeAll { $0.after.key.sequence > 0 }
    return kept
  }

  mutating func made(_ key: StringKey, in store: InMemoryServerStore<SimulatedTree>) {
    guard mutant == .linkLast, let row = store.snapshot().string(key) else { return }
    lastMade[row.key.key.host, default: [:]][StoredName<SimulatedTree>.latest(row.path)] = row.stored
  }

  /// The plain file under a name of `latest` that was made last, for whom that is the newest.
  func lastMade(_ host: HostName, _ latest: BytePath) -> BytePath? {
    mutant == .linkLast ? lastMade[host]?[latest] : nil
  }

  /// What was announced, by subject and length.
  private var announcedRoots: [FileKey: [UInt64: Digest]] = [:]

  mutating func answer(_ answer: StoreAnswer) -> StoreAnswer {
    if mutant == .staleTrie, let last = answer.feed?.last {
      var wrong = answer
      wrong.digest?.end = last
      return wrong
    }
    if mutant == .passOverChange, answer.changes.count > 1 {
      var wrong = answer
      wrong.changes.removeFirst()
      return wrong
    }
    if mutant == .announceLongest {
      var wrong = answer
      for index in wrong.changes.indices {
        wrong.changes[index].heads = Array(wrong.changes[index].heads.suffix(1))
      }
      return wrong
    }
    guard mutant == .olderRow || mutant == .partialLoad || mutant == .forgetRest else { return answer }
    var wrong = answer
    for index in wrong.files.indices {
      if mutant == .forgetRest { wrong.files[index].promisesEnd = nil }
      guard let row = wrong.files[index].row else { continue }
      answers += 1
      if mutant == .olderRow, let older = older[row.key], older.isMade { wrong.files[index].row = older }
      if mutant == .partialLoad, answers % 8 == 0 { wrong.files[index].row = nil }
    }
    return wrong
  }

  func append(_ stored: BytePath, _ offset: UInt64, _ count: Int, _ disk: SimulatedDisk) {
    guard let inode = disk.inode(SimulatedServerPlane.path(stored)), inode.bytes.count >= Int(offset) + count else {
      return
    }
    let file = disk.open(inode, entry: nil, writing: true)
    try? disk.append(file, Array(inode.bytes[Int(offset)..<(Int(offset) + count)]))
    disk.close(file)
  }

  func isAnswered(_ answer: VerifyAnswer) -> Bool { mutant != .keepUnmet || answer.failedAt == nil }
}
