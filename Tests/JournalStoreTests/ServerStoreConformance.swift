import JournalModel
import JournalStore
import MerkleLog
import Testing

/// What every `ServerHoldingsStore` promises, but for journals (`ServerJournalConformance`).
@Suite struct ServerStoreConformance {
  @Test(arguments: Backend.allCases) func `A new store is empty`(_ backend: Backend) throws {
    let test = try ServerStoreUnderTest(backend)
    let empty = try ServerStoreContents(test.store)
    #expect(empty.marks == nil)
    #expect(empty.journals.isEmpty && empty.strings.isEmpty && empty.promises.isEmpty && empty.ranges.isEmpty)
    let web1 = try host("web1")
    let journal = HostJournal(host: web1, journal: journalID(1))
    #expect(try test.store.records(of: SequenceKey(journal: journal), from: 0, count: 9, bytes: 9).isEmpty)
    #expect(try test.store.checkpoint(of: SequenceKey(journal: journal), beyond: 0) == nil)
    #expect(try test.store.answer(.heads(journal, upTo: 9)).heads.isEmpty)
    #expect(try test.store.answer(.beginnings(journal, length: 0)).beginnings.isEmpty)
    #expect(try test.store.files(host: web1, identity: plainIdentity).isEmpty)
    expect(.outOfRange) { () throws(StoreError) in
      _ = try test.store.logPayload(of: stringKey(web1, 1), offset: 0)
    }
  }

  @Test(arguments: Backend.allCases) func `P3: the marks of starts are kept`(_ backend: Backend) throws {
    let test = try ServerStoreUnderTest(backend)
    let (one, two) = (UUIDBytes(high: 1, low: 2), UUIDBytes(high: .max, low: 3))
    try test.store.setStartMarks(StartMarks(present: StartMark(life: one, number: 41)))
    let marks = StartMarks(present: StartMark(life: two, number: .max), earlier: StartMark(life: one, number: 41))
    try test.store.setStartMarks(marks)
    try test.reopen()
    #expect(try test.store.startMarks() == marks)
  }

  @Test(arguments: Backend.allCases) func `Strings come back whole, ordered by host, file and string`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    var rows: [StoredString] = []
    for name in ["a", "a-b", "a.b", "a1", "aa", "b"] {
      rows.append(storedString(stringKey(try host(name), 1)))
      rows.append(storedString(stringKey(try host(name), 2), committed: 3, identity: poorIdentity))
      rows.append(storedString(stringKey(try host(name), 2, 1), committed: 5, identity: btrfsIdentity))
      rows[rows.count - 1].branch = BranchPoint(start: 1, divergence: 2)
    }
    rows[3].parent = Parent(file: uuid(8), length: 4, root: digest(3), why: .truncated)
    rows[3].closed = .vanished
    rows[3].gap = StoredGap(lower: 0, upper: .max)
    rows[3].isDerived = false
    rows[3].path = BytePath([0xFE, 0x0A])
    try test.store.commit(ServerBatch { $0.strings = rows.reversed() })
    try test.reopen()
    #expect(try test.store.strings() == rows)
  }

  @Test(arguments: Backend.allCases) func `G5: a string never shrinks, changes its bytes or moves`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let key = stringKey(try host("web1"), 1)
    var row = storedString(key)
    row.isMade = false
    try test.store.commit(ServerBatch { $0.strings = [row] })
    #expect(try test.store.strings() == [row])
    row.committed = 10
    row.synced = 10
    row.root = digest(10)
    expect(.failed) { () throws(StoreError) in try test.store.commit(ServerBatch { [row] in $0.strings = [row] }) }
    row.isMade = true
    try test.store.commit(ServerBatch { $0.strings = [row] })

    func refuse(
      _ kind: StoreError.Kind, _ location: SourceLocation = #_sourceLocation, _ change: (inout StoredString) -> Void
    ) throws {
      var changed = row
      change(&changed)
      expect(kind, location) { () throws(StoreError) in
        try test.store.commit(
          ServerBatch {
            $0.promises = [Promise(key: key.key, length: 90, root: digest(90))]
            $0.strings = [changed]
          })
      }
      #expect(try test.store.strings() == [row], sourceLocation: location)
      #expect(try test.store.promises().isEmpty, sourceLocation: location)
    }
    try refuse(.failed) {
      $0.committed = 9; $0.synced = 9
    }
    try refuse(.corrupt) { $0.root = digest(11) }
    try refuse(.failed) { $0.stored = BytePath("files/other") }
    try refuse(.failed) { $0.isMade = false }
    try refuse(.failed) { $0.stored = BytePath([]) }
    try refuse(.failed) { $0.synced = 11 }
    try refuse(.failed) { $0.path = BytePath([0]) }
    row.recorded = 50
    row.closed = .deleted
    try test.store.commit(ServerBatch { $0.strings = [row] })
    #expect(try test.store.strings() == [row])
  }

  @Test(arguments: Backend.allCases) func `K3: totals count each thing once, in the commit that brings it`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let (web1, web2) = (try host("web1"), try host("web2"))
    let key = stringKey(web1, 1)
    #expect(try test.store.totals().isEmpty)
    let batch = ServerBatch {
      $0.records = [run(web1, [record(1, size: 10), record(2, size: 20)])]
      $0.strings = [storedString(key, committed: 5), storedString(stringKey(web1, 1, 1), committed: 7)]
      $0.promises = [9, 9, 10].map { Promise(key: key.key, length: $0, root: digest($0)) }
    }
    var totals = HostTotals()
    (totals.files, totals.open, totals.branches, totals.bytes) = (1, 1, 1, 12)
    (totals.records, totals.recordBytes, totals.promises, totals.names) = (2, 30, 2, 2)
    #expect(try test.store.commit(batch).totals == [web1: totals])
    // What comes again counts nothing; nor does a batch that is refused.
    var again = batch
    again.records = []
    #expect(try test.store.commit(again).totals == [web1: totals])
    expect(.failed) { () throws(StoreError) in try test.store.commit(batch) }
    try test.reopen()
    #expect(try test.store.totals() == [web1: totals])
    var closed = storedString(key, committed: 9)
    closed.closed = .deleted
    let met = ServerBatch {
      $0.strings = [closed, storedString(stringKey(web2, 1))]
      $0.met = [Promise(key: key.key, length: 9, root: digest(9)), Promise(key: key.key, length: 9, root: digest(8))]
    }
    (totals.open, totals.bytes, totals.promises) = (0, 16, 1)
    var other = HostTotals()
    (other.files, other.open, other.names) = (1, 1, 1)
    #expect(try test.store.commit(met).totals == [web1: totals, web2: other])
    #expect(try test.store.totals() == test.store.recount())
  }

  @Test(arguments: Backend.allCases) func `K2: what is unfinished is listed until it is finished`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let keys = [stringKey(try host("web1"), 1), stringKey(try host("web1"), 2), stringKey(try host("web2"), 1)]
    try test.store.commit(
      ServerBatch {
        $0.strings = keys.map { storedString($0) }
        $0.unfinished = [keys[2], keys[0]]
      })
    // Again, and in the other order.
    try test.store.commit(ServerBatch { $0.unfinished = [keys[1], keys[0]] })
    #expect(try test.store.unfinished() == keys)
    try test.reopen()
    #expect(try test.store.unfinished() == keys)
    try test.store.commit(ServerBatch { $0.finished = [keys[1], keys[1]] })
    #expect(try test.store.unfinished() == [keys[0], keys[2]])
    // Of a string that isn't there nobody could tell a start what to do.
    expect(.failed) { () throws(StoreError) in
      try test.store.commit(ServerBatch { $0.unfinished = [stringKey(keys[0].key.host, 9)] })
    }
    #expect(try test.store.unfinished() == [keys[0], keys[2]])
  }

  @Test(arguments: Backend.allCases) func `K1: what is loaded is all that the store has of a file, of one snapshot`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let (web1, web2) = (try host("web1"), try host("web2"))
    var rows = [
      storedString(stringKey(web1, 1), committed: 5), storedString(stringKey(web1, 2), committed: 1),
      storedString(stringKey(web1, 2, 1)), storedString(stringKey(web2, 1)),
    ]
    rows[0].synced = 0
    (rows[0].recorded, rows[1].recorded) = (6, 2)
    func promise(_ row: StoredString, _ length: UInt64, _ root: UInt64) -> Promise {
      Promise(key: row.key.key, length: length, root: digest(root))
    }
    let promises = [promise(rows[0], 4, 1), promise(rows[0], 6, 2), promise(rows[0], 6, 3), promise(rows[1], 2, 4)]
    let before = test.store.number
    try test.store.commit(
      ServerBatch {
        $0.strings = rows
        $0.promises = promises
        $0.log = [logPayload(rows[0].key, at: 0, [1, 2, 3, 4, 5])]
        $0.unfinished = [rows[1].key, rows[2].key]
      })
    try test.reopen()
    let nobody = FileKey(host: web2, file: uuid(9))
    let asked = [rows[1].key.key, nobody, rows[0].key.key]
    let answer = try test.store.answer(.files(asked, promises: 9))
    #expect(answer.number == test.store.number && answer.number > before)
    #expect(
      answer.files == [
        LoadedFile(
          key: asked[0], row: rows[1], branches: [LoadedBranch(row: rows[2], isUnfinished: true)],
          promises: [promises[3]], isUnfinished: true),
        LoadedFile(key: nobody, row: nil), LoadedFile(key: asked[2], row: rows[0], promises: Array(promises[1...2])),
      ])
    #expect(try test.store.answer(.rows(asked)).files.map(\.row) == [rows[1], nil, rows[0]])
    #expect(try test.store.leftUnfinished(promises: 1).map(\.key) == [asked[2], asked[0]])
    func keys(after key: FileKey?, _ count: Int) throws -> [FileKey] {
      try test.store.answer(.keys(after: key, count: count)).files.map(\.key)
    }
    #expect(try keys(after: nil, 9) == [rows[0].key.key, rows[1].key.key, rows[3].key.key])
    #expect(try keys(after: rows[0].key.key, 1) == [rows[1].key.key])
    #expect(try keys(after: rows[3].key.key, 9).isEmpty)
    #expect(try test.store.logRanges(of: rows[0].key) == [LogRange(key: rows[0].key, offset: 0, length: 5)])
    #expect(try test.store.logRanges(of: rows[1].key).isEmpty)
    try test.store.setStartMarks(StartMarks(present: StartMark(life: UUIDBytes(high: 1, low: 1), number: 1)))
    #expect(test.store.number > answer.number)
  }

  @Test(arguments: Backend.allCases) func `P1: the newest file of a name is found, by birth, then by uuid`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let rows = (1...4).map { storedString(stringKey(web1, UInt64($0))) }
    func name(_ row: StoredString, _ latest: String, _ born: Int64) throws(StoreError) {
      try test.store.commit(
        ServerBatch {
          $0.named = [
            ServerBatch.NamedFile(
              key: row.key.key, latest: BytePath(latest), born: WallTime(nanoseconds: born))
          ]
        })
    }
    try test.store.commit(ServerBatch { $0.strings = rows })
    #expect(try test.store.newest(host: web1, latest: BytePath("a")) == nil)
    try name(rows[2], "a", -5)
    try name(rows[0], "a", -9)
    #expect(try test.store.newest(host: web1, latest: BytePath("a")) == rows[2])
    try name(rows[1], "a", 7)
    try name(rows[3], "a/b", 8)
    try name(rows[0], "a", 7)
    try test.reopen()
    let newest = [rows[0], rows[1]].max { $0.key < $1.key }
    #expect(try test.store.newest(host: web1, latest: BytePath("a")) == newest)
    #expect(try test.store.newest(host: web1, latest: BytePath("a/b")) == rows[3])
    #expect(try test.store.newest(host: try host("web"), latest: BytePath("a")) == nil)
    // A link leads to a plain file that is there.
    var making = storedString(stringKey(web1, 5))
    making.isMade = false
    try test.store.commit(ServerBatch { $0.strings = [making] })
    expect(.failed) { () throws(StoreError) in try name(making, "a", 9) }
  }

  @Test(arguments: Backend.allCases) func `K5: no two strings have one plain file's name`(_ backend: Backend) throws {
    let test = try ServerStoreUnderTest(backend)
    let (web1, web2) = (try host("web1"), try host("web2"))
    func row(_ key: StringKey, _ name: String, isMade: Bool = false) -> StoredString {
      var row = storedString(key)
      row.stored = BytePath(name)
      row.isMade = isMade
      return row
    }
    func refuse(_ rows: StoredString..., for key: StringKey, _ location: SourceLocation = #_sourceLocation) throws {
      let before = try ServerStoreContents(test.store)
      #expect(sourceLocation: location) {
        try test.store.commit(ServerBatch { $0.strings = rows })
      } throws: {
        $0 as? StoreError == .refused(.string(key), .alreadyExists)
      }
      #expect(try ServerStoreContents(test.store) == before, sourceLocation: location)
    }
    let first = stringKey(web1, 1)
    let others = [stringKey(web1, 2), stringKey(web1, 3, 1), stringKey(web2, 1)]
    let branched = storedString(stringKey(web1, 3), committed: 1)
    try test.store.commit(ServerBatch { $0.strings = [branched] })
    // In one batch, and in two; also after a restart.
    try refuse(row(first, "files/a"), row(others[0], "files/a"), for: others[0])
    try test.store.commit(ServerBatch { $0.strings = [row(first, "files/a")] })
    for _ in 0..<2 {
      for other in others { try refuse(row(other, "files/a"), for: other) }
      try test.reopen()
    }
    // Its own name it may say again. What can't be made gives its name back, once made it is kept.
    try test.store.commit(ServerBatch { $0.strings = [row(first, "files/a")] })
    try test.store.commit(ServerBatch { $0.strings = [row(first, "files/b")] })
    try test.store.commit(ServerBatch { $0.strings = [row(others[0], "files/a", isMade: true)] })
    try refuse(row(first, "files/a"), for: first)
    try test.store.commit(ServerBatch { $0.strings = [row(first, "files/b", isMade: true)] })
    try refuse(row(others[1], "files/b"), for: others[1])
    #expect(try test.store.strings().map(\.stored) == [BytePath("files/b"), BytePath("files/a"), branched.stored])
  }

  @Test(arguments: Backend.allCases) func `G2: bytes become committed only out of the log or a synced file`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let key = stringKey(try host("web1"), 1)
    func commit(_ committed: UInt64, synced: UInt64, _ log: [(UInt64, [UInt8])]) throws(StoreError) {
      try test.store.commit(
        ServerBatch {
          $0.strings = [storedString(key, committed: committed, synced: synced)]
          $0.log = log.map { logPayload(key, at: $0.0, $0.1) }
        })
    }
    expect(.failed) { () throws(StoreError) in try commit(5, synced: 0, []) }
    expect(.failed) { () throws(StoreError) in try commit(5, synced: 0, [(0, [1, 2, 3, 4])]) }
    expect(.failed) { () throws(StoreError) in try commit(5, synced: 0, [(1, [2, 3, 4, 5])]) }
    expect(.failed) { () throws(StoreError) in try commit(5, synced: 0, [(0, [1, 2, 3, 4, 5, 6])]) }
    expect(.failed) { () throws(StoreError) in try commit(6, synced: 0, [(0, [1, 2]), (3, [4, 5, 6])]) }
    expect(.failed) { () throws(StoreError) in
      try test.store.commit(ServerBatch { $0.log = [logPayload(key, at: 0, [1])] })
    }
    #expect(try test.store.strings().isEmpty && test.store.logRanges().isEmpty)
    try commit(5, synced: 0, [(0, [1, 2]), (2, [3, 4, 5]), (5, [])])
    try commit(7, synced: 2, [(5, [6, 7])])
    try commit(20, synced: 20, [])
    try commit(25, synced: 22, [(22, [23, 24, 25])])
    try test.reopen()
    #expect(
      try test.store.logRanges() == [
        LogRange(key: key, offset: 0, length: 2), LogRange(key: key, offset: 2, length: 3),
        LogRange(key: key, offset: 5, length: 2), LogRange(key: key, offset: 22, length: 3),
      ])
    #expect(try test.store.logPayload(of: key, offset: 2) == [3, 4, 5])
    expect(.outOfRange) { () throws(StoreError) in _ = try test.store.logPayload(of: key, offset: 3) }
  }

  @Test(arguments: Backend.allCases) func `G5: log payload is never overwritten; a repeat is a no-op`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let key = stringKey(try host("web1"), 1)
    let batch = ServerBatch {
      $0.strings = [storedString(key, committed: 3, synced: 0)]
      $0.log = [logPayload(key, at: 0, [1, 2, 3])]
    }
    try test.store.commit(batch)
    try test.store.commit(batch)
    var other = batch
    other.log = [logPayload(key, at: 0, [1, 2, 4])]
    expect(.corrupt) { () throws(StoreError) in try test.store.commit(other) }
    other.log = [logPayload(key, at: 1, [2, 3])]
    expect(.failed) { () throws(StoreError) in try test.store.commit(other) }
    #expect(try test.store.logRanges() == [LogRange(key: key, offset: 0, length: 3)])
    #expect(try test.store.logPayload(of: key, offset: 0) == [1, 2, 3])
  }

  @Test(arguments: Backend.allCases) func `G2: the log is trimmed only as far as the plain file is synced`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let keys = [stringKey(web1, 1), stringKey(web1, 1, 1), stringKey(web1, 2)]
    try test.store.commit(
      ServerBatch {
        $0.strings = keys.map { storedString($0, committed: 6, synced: 0) }
        $0.log = keys.flatMap { [logPayload($0, at: 0, [1, 2, 3]), logPayload($0, at: 3, [4, 5, 6])] }
      })
    func trim(_ key: StringKey, below: UInt64, synced: UInt64) throws(StoreError) {
      try test.store.commit(
        ServerBatch {
          $0.strings = [storedString(key, committed: 6, synced: synced)]
          $0.trims = [ServerBatch.Trim(key: key, below: below)]
        })
    }
    expect(.failed) { () throws(StoreError) in try trim(keys[0], below: 3, synced: 2) }
    expect(.failed) { () throws(StoreError) in
      try test.store.commit(ServerBatch { $0.trims = [ServerBatch.Trim(key: stringKey(web1, 7), below: 1)] })
    }
    #expect(try test.store.logRanges().count == 6)
    try trim(keys[0], below: 5, synced: 5)
    try trim(keys[1], below: 6, synced: 6)
    try test.reopen()
    #expect(
      try test.store.logRanges() == [
        LogRange(key: keys[0], offset: 3, length: 3), LogRange(key: keys[2], offset: 0, length: 3),
        LogRange(key: keys[2], offset: 3, length: 3),
      ])
  }

  @Test(arguments: Backend.allCases) func `W3: promises stay, two roots at one length both, until they are met`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    func promise(_ file: UInt64, _ length: UInt64, _ root: UInt64) -> Promise {
      Promise(key: FileKey(host: web1, file: uuid(file)), length: length, root: digest(root))
    }
    let all = [
      promise(1, 5, 1), promise(1, 300, 2), promise(1, 300, 3), promise(1, 70_000, 1), promise(2, 5, 1),
    ]
    try test.store.commit(ServerBatch { $0.promises = all.reversed() })
    try test.store.commit(ServerBatch { $0.promises = [all[1]] })
    #expect(try test.store.promises() == all)
    // Of two roots the one that was met goes.
    try test.store.commit(ServerBatch { $0.met = [all[2], promise(1, 300, 4)] })
    try test.reopen()
    #expect(try test.store.promises() == [all[0], all[1], all[3], all[4]])
    try test.store.commit(
      ServerBatch {
        $0.promises = [promise(1, 6, 6)]
        $0.met = [all[0], all[1], all[3], promise(1, 6, 6)]
      })
    #expect(try test.store.promises() == [all[4]])
  }

  @Test(arguments: Backend.allCases) func `M1: a branch leaves string 0 where that has other bytes, once and for all`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let (first, branch) = (stringKey(try host("web1"), 1), stringKey(try host("web1"), 1, 1))
    func put(_ row: StoredString, leaves: [ServerBatch.Leaves] = []) throws(StoreError) {
      try test.store.commit(
        ServerBatch {
          $0.strings = [row]
          $0.leaves = leaves
        })
    }
    let point = BranchPoint(start: 32, divergence: 40)
    let begun = storedString(branch, committed: 32, branch: point)
    try put(
      storedString(first, committed: 40), leaves: [.init(key: first, first: 0, hashes: (0..<4).map { digest($0) })])
    expect(.failed) { () throws(StoreError) in try put(begun) }
    try put(storedString(first, committed: 41))
    var wrong = begun
    wrong.synced = 31
    expect(.failed) { () throws(StoreError) in try put(wrong) }
    wrong = begun
    wrong.branch = nil
    expect(.failed) { () throws(StoreError) in try put(wrong) }
    wrong.key = first
    wrong.branch = point
    expect(.failed) { () throws(StoreError) in try put(wrong) }
    try put(begun)
    #expect(try test.store.totals()[first.key.host]?.bytes == 41)
    for point in [BranchPoint(start: 16, divergence: 40), BranchPoint(base: 1, start: 32, divergence: 40)] {
      var moved = begun
      moved.branch = point
      expect(.failed) { () throws(StoreError) in try put(moved) }
    }
    // Its leaves go on behind string 0's.
    let leaves = ServerBatch.Leaves(key: branch, first: 2, hashes: [digest(12), digest(13)])
    expect(.failed) { () throws(StoreError) in
      try put(begun, leaves: [.init(key: branch, first: 5, hashes: [digest(15)])])
    }
    try put(storedString(branch, committed: 41, branch: point))
    try put(storedString(branch, committed: 64, branch: point), leaves: [leaves])
    expect(.failed) { () throws(StoreError) in
      try put(
        storedString(branch, committed: 65, branch: point), leaves: [.init(key: branch, first: 1, hashes: [digest(11)])]
      )
    }
    try test.reopen()
    #expect(try test.store.leaves(of: branch, count: 4) == [digest(0), digest(1), digest(12), digest(13)])
    #expect(try test.store.leaves(of: branch, count: 1) == [digest(0)])
    expect(.outOfRange) { () throws(StoreError) in _ = try test.store.leaves(of: branch, count: 5) }
    #expect(try test.store.totals()[first.key.host]?.bytes == 41 + 32)
    #expect(try test.store.totals() == test.store.recount())
    // One may leave another, and has the leaves of both before its own.
    let twig = stringKey(first.key.host, 1, 2)
    let higher = BranchPoint(base: 1, start: 48, divergence: 50)
    try put(
      storedString(twig, committed: 64, branch: higher), leaves: [.init(key: twig, first: 3, hashes: [digest(23)])])
    #expect(try test.store.leaves(of: twig, count: 4) == [digest(0), digest(1), digest(12), digest(23)])
    let third = stringKey(first.key.host, 1, 3)
    try put(
      storedString(third, committed: 64, branch: BranchPoint(base: 2, start: 48, divergence: 60)),
      leaves: [.init(key: third, first: 3, hashes: [digest(33)])])
    #expect(try test.store.leaves(of: third, count: 4) == [digest(0), digest(1), digest(12), digest(33)])
    expect(.failed) { () throws(StoreError) in
      try put(
        storedString(stringKey(first.key.host, 1, 4), branch: BranchPoint(base: 2, start: 32, divergence: 60)))
    }
    let loaded = try #require(try test.store.answer(.files([first.key], promises: 1)).files.first)
    #expect(loaded.row?.committed == 41)
    #expect(loaded.branches.first == LoadedBranch(row: storedString(branch, committed: 64, branch: point)))
    #expect(loaded.branches.map(\.row.key.string) == [1, 2, 3])
    #expect(try test.store.answer(.rows([first.key])).files.first?.branches == loaded.branches)
    #expect(try test.store.answer(.keys(after: nil, count: 9)).files.map(\.key) == [first.key])
  }

  @Test(arguments: Backend.allCases)
  func `K4: promises come in pages that split no length, of a length the first eight`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let row = storedString(stringKey(web1, 1), committed: 5)
    let (key, other) = (row.key.key, FileKey(host: web1, file: uuid(2)))
    func promise(_ length: UInt64, _ root: UInt64) -> Promise { Promise(key: key, length: length, root: digest(root)) }
    let roots = [9, 3, 7, 1, 12, 4, 6, 2] as [UInt64]
    let totals = try test.store.commit(
      ServerBatch {
        $0.strings = [row]
        $0.promises =
          [promise(4, 1), promise(6, 1), Promise(key: other, length: 8, root: digest(1))]
          + roots.map { promise(7, $0) } + [promise(7, 5), promise(7, 3)]
      })
    // The ninth isn't held, and isn't counted.
    #expect(totals.totals[web1]?.promises == 11)
    #expect(try test.store.commit(ServerBatch { $0.promises = [promise(7, 8)] }).totals[web1]?.promises == 11)
    try test.store.commit(ServerBatch { $0.promises = [promise(.max, 1)] })
    try test.reopen()
    let held = roots.sorted().map { promise(7, $0) }
    func page(_ length: UInt64, _ count: Int) throws -> LoadedFile {
      try #require(try test.store.answer(.promises(key, beyond: length, count: count)).files.first)
    }
    #expect(try page(5, 1) == LoadedFile(key: key, row: nil, promises: [promise(6, 1)], promisesEnd: 6))
    #expect(try page(5, 2) == LoadedFile(key: key, row: nil, promises: [promise(6, 1)] + held, promisesEnd: 7))
    #expect(try page(6, 1) == LoadedFile(key: key, row: nil, promises: held, promisesEnd: 7))
    #expect(try page(7, 1) == LoadedFile(key: key, row: nil, promises: [promise(.max, 1)]))
    #expect(try page(.max, 1) == LoadedFile(key: key, row: nil))
    #expect(try page(5, 99).promises.count == 10)
    // What was promised is recorded, whatever the row knew.
    var known = row
    known.recorded = .max
    let loaded = try #require(try test.store.answer(.files([key], promises: 1)).files.first)
    #expect(loaded == LoadedFile(key: key, row: known, promises: [promise(6, 1)], promisesEnd: 6))
    try test.store.commit(ServerBatch { $0.strings = [storedString(stringKey(web1, 2))] })
    let last = try #require(try test.store.answer(.files([other], promises: 0)).files.first)
    #expect(last.row?.recorded == 8 && last.promisesEnd == nil)
  }

  @Test(arguments: Backend.allCases) func `Leaves are kept for each string, without holes, and never changed`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let key = stringKey(try host("web1"), 1)
    let branch = stringKey(try host("web1"), 1, 1)
    func put(_ key: StringKey, _ first: UInt64, _ hashes: [Digest]) throws(StoreError) {
      try test.store.commit(
        ServerBatch { $0.leaves = [ServerBatch.Leaves(key: key, first: first, hashes: hashes)] })
    }
    try put(key, 0, [digest(0), digest(1)])
    try put(key, 1, [digest(1), digest(2)])
    try put(branch, 0, [digest(9)])
    expect(.corrupt) { () throws(StoreError) in try put(key, 2, [digest(3)]) }
    expect(.failed) { () throws(StoreError) in try put(branch, 2, [digest(3)]) }
    try test.reopen()
    #expect(try test.store.leaves(of: key, count: 3) == [digest(0), digest(1), digest(2)])
    #expect(try test.store.leaves(of: branch, count: 1) == [digest(9)])
    expect(.outOfRange) { () throws(StoreError) in _ = try test.store.leaves(of: key, count: 4) }
  }

  @Test(arguments: Backend.allCases) func `D3: files are found by the identity that the host recorded`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let web2 = try host("web2")
    try test.store.commit(
      ServerBatch {
        $0.strings = [
          storedString(stringKey(web1, 3)), storedString(stringKey(web1, 1), committed: 1),
          storedString(stringKey(web1, 1, 1)),
          storedString(stringKey(web1, 2), identity: poorIdentity), storedString(stringKey(web2, 4)),
        ]
      })
    try test.reopen()
    #expect(try test.store.files(host: web1, identity: plainIdentity) == [uuid(1), uuid(3)])
    #expect(try test.store.files(host: web1, identity: poorIdentity) == [uuid(2)])
    #expect(try test.store.files(host: web2, identity: plainIdentity) == [uuid(4)])
    #expect(try test.store.files(host: web2, identity: btrfsIdentity).isEmpty)
  }

  @Test(arguments: Backend.allCases) func `The longest names fit into the keys`(_ backend: Backend) throws {
    let test = try ServerStoreUnderTest(backend)
    let long = try host(String(repeating: "x", count: HostName.maximumByteCount))
    let key = stringKey(long, .max >> 8, .max)
    let first = storedString(key.key.first, committed: 1, identity: btrfsIdentity)
    let row = storedString(key, committed: 1, synced: 0, identity: btrfsIdentity)
    try test.store.commit(
      ServerBatch {
        $0.records = [run(long, [record(1)])]
        $0.strings = [first, row]
        $0.log = [logPayload(key, at: 0, [7])]
        $0.promises = [Promise(key: key.key, length: .max, root: digest(1))]
        $0.leaves = [ServerBatch.Leaves(key: key, first: 0, hashes: [digest(1)])]
      })
    let contents = try ServerStoreContents(test.store, leaves: [key: 1])
    #expect(contents.strings == [first, row])
    #expect(contents.payload == [[7]])
    #expect(contents.owned == [[key.key.file], [key.key.file]])
  }
}
