import JournalModel
import JournalStore
import LMDBStore
import Testing

/// Random histories, the same for memory and LMDB: both must take and refuse the same batches and say the same.
@Suite struct StoreDifferentialTests {
  @Test(arguments: 1...12) func `Host stores agree over a random history`(seed: UInt64) throws {
    var history = HostHistory(seed: seed)
    let memory = try HostStoreUnderTest(.memory)
    let lmdb = try HostStoreUnderTest(.lmdb)
    var refused = 0
    for step in 0..<60 {
      if history.chance(of: 20) { try lmdb.reopen() }
      let batch = history.next()
      let outcomes = [memory, lmdb].map { test in Result { () throws(StoreError) in try test.store.commit(batch) } }
      try #require(outcomes[0] == outcomes[1], "step \(step)")
      switch outcomes[0] {
      case .success: history.applied(batch)
      case .failure: refused += 1
      }
      guard step.isMultiple(of: 5) else { continue }
      let contents = try [memory, lmdb].map {
        try HostStoreContents($0.store, leaves: history.leaves, servers: HostHistory.servers)
      }
      try #require(contents[0] == contents[1], "step \(step)")
    }
    #expect((1..<60).contains(refused))
  }

  @Test(arguments: 1...12) func `Server stores agree over a random history`(seed: UInt64) throws {
    var history = try ServerHistory(seed: seed)
    let memory = try ServerStoreUnderTest(.memory)
    let lmdb = try ServerStoreUnderTest(.lmdb)
    var refused = 0
    for step in 0..<80 {
      if history.chance(of: 20) { for test in [memory, lmdb] { try test.reopen() } }
      let marks = history.nextMarks()
      if history.chance(of: 8) { for test in [memory, lmdb] { try test.store.setStartMarks(marks) } }
      if history.chance(of: 8) { for test in [memory, lmdb] { test.store.begin(marks.present.life) } }
      let batch = history.next()
      let outcomes = [memory, lmdb].map { test in
        Result { () throws(StoreError) in
          try test.store.commit(batch)
          return step
        }
      }
      try #require(outcomes[0] == outcomes[1], "step \(step)")
      switch outcomes[0] {
      case .success: history.applied(batch)
      case .failure: refused += 1
      }
      guard step.isMultiple(of: 5) else { continue }
      let contents = try [memory, lmdb].map {
        try ServerStoreContents($0.store, leaves: history.leaves, peers: ServerHistory.peers)
      }
      try #require(contents[0] == contents[1], "step \(step)")
    }
    #expect((1..<80).contains(refused))
  }

  @Test(arguments: 1...12) func `What is remembered of commits is what the store says (M3, J2)`(seed: UInt64) throws {
    var history = try ServerHistory(seed: seed)
    let test = try ServerStoreUnderTest(.memory)
    var recent = RecentCommits(seen: 0)
    var (answered, frames, news) = (0, 0, 0)
    for _ in 0..<80 {
      if history.chance(of: 8) { test.store.begin(history.nextMarks().present.life) }
      let batch = history.next()
      guard (try? test.store.commit(batch)) != nil else { continue }
      history.applied(batch)
      let isRead = !history.chance(of: 8)
      recent.note(
        batch, number: test.store.number,
        isRead ? RecentCommits.News(after: recent.seen, with: batch, in: test.store) : nil)
      var queries: [StoreQuery] = []
      for held in try test.store.journals() {
        for first in 0..<held.length { queries.append(.frame(held.key, from: first)) }
      }
      let last = try test.store.feed().last
      for after in 0...last { for count in [1, 3, 256] { queries.append(.changes(after: after, count: count)) } }
      for query in queries {
        guard let answer = recent.answer(query) else { continue }
        #expect(try answer == test.store.answer(query), "\(query)")
        if case .frame = query { frames += 1 } else { news += 1 }
      }
      answered += queries.count
    }
    // Some are remembered, not all.
    #expect(frames > 0 && news > 0 && frames + news < answered)
  }
}

/// Batches of a host that are right most of the time.
private struct HostHistory {
  static let servers = ["a", "ab", "b"]
  private var numbers: SeededNumbers
  private(set) var leaves: [FileUUID: UInt64] = [:]

  init(seed: UInt64) { numbers = SeededNumbers(seed: seed) }

  mutating func chance(of one: Int) -> Bool { number(0..<one) == 0 }
  private mutating func number(_ range: Range<Int>) -> Int { Int.random(in: range, using: &numbers) }
  private mutating func file() -> UInt64 { UInt64(number(1..<5)) }

  mutating func next() -> HostBatch {
    var batch = HostBatch()
    for _ in 0..<number(0..<6) { batch.records.append(record(number(0..<1000), size: number(1..<300))) }
    for _ in 0..<number(0..<3) {
      var row = knownFile(file(), length: UInt64(number(0..<9999)))
      if chance(of: 3) { row.gapFrom = UInt64(number(0..<99)) }
      row.inode.identity = [plainIdentity, btrfsIdentity, poorIdentity][number(0..<3)]
      row.closed = [nil, .deleted, .truncated, .vanished][number(0..<4)]
      row.path = BytePath("/log/\(number(0..<3))")
      if chance(of: 40) { row.path = BytePath("") }
      batch.files.append(row)
    }
    for _ in 0..<number(0..<3) {
      let file = file()
      let known = Int(leaves[uuid(file)] ?? 0)
      let first = max(0, known + number(-2..<(chance(of: 10) ? 3 : 1)))
      let odd = chance(of: 10)
      let hashes = (first..<(first + number(1..<4))).map { digest(UInt64($0) + (odd ? 100 : 0)) }
      batch.leaves.append(LeafRange(file: uuid(file), first: UInt64(first), hashes: hashes))
    }
    if chance(of: 4) {
      let position = FeedPosition(life: UUIDBytes(high: 0, low: UInt64(number(0..<9))), number: UInt64(number(0..<99)))
      batch.positions.append(ServerPosition(server: Self.servers[number(0..<3)], position: position))
    }
    if chance(of: 6) { batch.forgotten = [Self.servers[number(0..<3)]] }
    if chance(of: 4) {
      let length = UInt64(number(0..<2))
      batch.delivered.append(Delivered(server: Self.servers[number(0..<3)], file: Delivered.ended, length: length))
    }
    for _ in 0..<number(0..<3) {
      let server = Self.servers[number(0..<3)]
      batch.delivered.append(Delivered(server: server, file: uuid(file()), length: UInt64(number(0..<999))))
    }
    return batch
  }

  mutating func applied(_ batch: HostBatch) {
    for range in batch.leaves {
      leaves[range.file] = max(leaves[range.file] ?? 0, range.first + UInt64(range.hashes.count))
    }
  }
}

/// Batches of a server that are right most of the time.
private struct ServerHistory {
  static let peers = ["a", "ab", "b"]
  private let hosts: [HostName]
  private var numbers: SeededNumbers
  /// All of each sequence, and where it leaves another one.
  private var records: [SequenceKey: [[UInt8]]] = [:]
  private var forks: [SequenceKey: ForkPoint] = [:]
  private var kept: [SequenceKey: Int] = [:]
  private var rows: [StringKey: StoredString] = [:]
  private(set) var leaves: [StringKey: UInt64] = [:]

  init(seed: UInt64) throws {
    hosts = [try host("w"), try host("web")]
    numbers = SeededNumbers(seed: seed)
  }

  mutating func chance(of one: Int) -> Bool { number(0..<one) == 0 }
  private mutating func number(_ range: Range<Int>) -> Int { Int.random(in: range, using: &numbers) }
  private mutating func string() -> StringKey {
    stringKey(hosts[number(0..<2)], UInt64(number(1..<4)), UInt32(number(0..<2)))
  }

  /// One of few lives, so that some go on and some come again.
  mutating func nextMarks() -> StartMarks {
    StartMarks(present: StartMark(life: UUIDBytes(high: 1, low: UInt64(number(0..<4))), number: UInt64(number(0..<9))))
  }

  mutating func next() -> ServerBatch {
    var batch = ServerBatch()
    if chance(of: 4) {
      let peer = chance(of: 20) ? "" : Self.peers[number(0..<3)]
      let life = UUIDBytes(high: 2, low: UInt64(number(0..<4)))
      batch.cursors = [PeerCursor(peer: peer, cursor: FeedCursor(life: life, upTo: UInt64(number(0..<99))))]
    }
    if chance(of: 2) { batch.records.append(nextRun()) }
    let keys = Set((0..<number(0..<3)).map { _ in string() }).sorted()
    for key in keys { extend(key, in: &batch) }
    for _ in 0..<number(0..<3) {
      let length = UInt64(number(0..<50))
      batch.promises.append(Promise(key: string().key, length: length, root: digest(UInt64(number(0..<3)))))
    }
    // More roots of a length than are used.
    if chance(of: 4) {
      let (key, length) = (string().key, UInt64(40 + number(0..<3)))
      for _ in 0..<number(1..<6) {
        batch.promises.append(Promise(key: key, length: length, root: digest(UInt64(number(0..<12)))))
      }
    }
    for _ in 0..<number(0..<3) {
      let length = UInt64(number(0..<50))
      batch.met.append(Promise(key: string().key, length: length, root: digest(UInt64(number(0..<3)))))
    }
    if chance(of: 2) { batch.leaves.append(nextLeaves()) }
    return batch
  }

  private mutating func nextRun() -> ServerBatch.RecordRun {
    let host = hosts[number(0..<2)]
    let journal = UInt64(number(1..<3))
    let all = HostJournal(host: host, journal: journalID(journal))
    let key = SequenceKey(journal: all, sequence: chance(of: 2) ? 0 : UInt32(number(1..<4)))
    var held = records[key] ?? []
    var fork = forks[key]
    if key.sequence > 0, held.isEmpty {
      let base = UInt32(number(0..<Int(key.sequence)))
      let shared = records[SequenceKey(journal: all, sequence: base)] ?? []
      let start = number(0..<max(1, shared.count + (chance(of: 9) ? 2 : 0)))
      fork = ForkPoint(base: base, start: UInt64(start))
      held = Array(shared.prefix(start))
    }
    if chance(of: 12), !held.isEmpty { held.removeLast() }
    let new = (0..<number(0..<(chance(of: 9) ? 90 : 5))).map { _ in record(number(0..<99), size: number(1..<200)) }
    let last = min(kept[key] ?? 0, held.count)
    let stays = new.isEmpty || chance(of: 2) ? [] : [held.count + number(1..<new.count + 1)]
    return run(
      host, journal: journal, sequence: key.sequence, fork: fork, held: held, new,
      key: digest(chance(of: 20) ? 78 : 77), kept: stays, last: last)
  }

  private mutating func extend(_ key: StringKey, in batch: inout ServerBatch) {
    var row = rows[key] ?? storedString(key, identity: chance(of: 2) ? plainIdentity : poorIdentity)
    if key.string > 0, rows[key] == nil {
      let divergence = Int(rows[key.key.first]?.committed ?? 0) - (chance(of: 15) ? 0 : 1)
      let start = UInt64(divergence < 1 ? 0 : number(0..<divergence))
      row.branch = BranchPoint(start: start, divergence: UInt64(max(0, divergence)))
      (row.committed, row.synced) = (start, start)
    }
    let old = row.committed
    switch number(0..<10) {
    case 0..<5:
      var end = old
      for _ in 0..<number(1..<4) {
        let bytes = record(number(0..<99), size: number(0..<30))
        batch.log.append(logPayload(key, at: end, bytes))
        end += UInt64(bytes.count)
      }
      row.committed = end + (chance(of: 15) ? 1 : 0)
    case 5..<7:
      row.committed += UInt64(number(0..<100))
      row.synced = row.committed
    case 7..<9:
      row.synced = UInt64(number(Int(row.synced)..<Int(row.committed + 1)))
      batch.trims.append(ServerBatch.Trim(key: key, below: row.synced + (chance(of: 15) ? 1 : 0)))
    default:
      row.committed -= min(row.committed, UInt64(number(0..<2)))
    }
    row.root = digest(row.committed)
    row.recorded = row.committed
    batch.strings.append(row)
    if key.string == 0, row.isMade, chance(of: 3) {
      batch.named.append(
        ServerBatch.NamedFile(
          key: key.key, latest: BytePath(chance(of: 2) ? "a" : "b"),
          born: WallTime(nanoseconds: Int64(number(-3..<4)))))
    }
    if chance(of: 4) { batch.unfinished.append(key) } else if chance(of: 4) { batch.finished.append(key) }
  }

  private mutating func nextLeaves() -> ServerBatch.Leaves {
    let key = string()
    // A branch begins where string 0 has leaves.
    let begin = leaves[key] ?? (key.string == 0 ? 0 : UInt64(number(0..<1 + Int(leaves[key.key.first] ?? 0))))
    let first = max(0, Int(begin) + number(-2..<(chance(of: 10) ? 3 : 1)))
    let odd = chance(of: 10)
    let hashes = (first..<(first + number(1..<4))).map { digest(UInt64($0) + (odd ? 100 : 0)) }
    return ServerBatch.Leaves(key: key, first: UInt64(first), hashes: hashes)
  }

  mutating func applied(_ batch: ServerBatch) {
    for run in batch.records {
      let key = run.after.key
      if records[key] == nil, let fork = run.after.fork {
        let shared = records[SequenceKey(journal: key.journal, sequence: fork.base)] ?? []
        records[key] = Array(shared.prefix(Int(fork.start)))
        forks[key] = fork
      }
      records[key, default: []] += run.encoded
      kept[key] = Int(run.after.kept.length)
    }
    for row in batch.strings { rows[row.key] = row }
    for range in batch.leaves {
      leaves[range.key] = max(leaves[range.key] ?? 0, range.first + UInt64(range.hashes.count))
    }
  }
}
