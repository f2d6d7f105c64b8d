import JournalModel
import JournalStore
import Testing

/// What every `ServerHoldingsStore` promises of its feed of changes (M3).
@Suite struct ServerFeedConformance {
  private func changes(_ test: ServerStoreUnderTest, after number: UInt64 = 0, count: Int = .max) throws -> [Change] {
    try test.store.answer(.changes(after: number, count: count)).changes
  }

  private func numbers(_ test: ServerStoreUnderTest) throws -> [ChangedSubject: UInt64] {
    let changes = try changes(test)
    #expect(changes.map(\.number) == changes.map(\.number).sorted())
    return Dictionary(uniqueKeysWithValues: changes.map { ($0.subject, $0.number) })
  }

  private func life(_ number: UInt64) -> UUIDBytes { UUIDBytes(high: number, low: ~number) }

  private func start(_ test: ServerStoreUnderTest, _ number: UInt64) throws(StoreError) {
    try test.store.setStartMarks(StartMarks(present: StartMark(life: life(number), number: number)))
  }

  private func grow(_ test: ServerStoreUnderTest, _ key: StringKey, to length: UInt64) throws(StoreError) {
    try test.store.commit(ServerBatch { $0.strings = [storedString(key, committed: length)] })
  }

  @Test(arguments: Backend.allCases) func `M3: a commit numbers journals, then files, and moves them to the end`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    #expect(try test.store.feed() == Feed())
    #expect(try changes(test).isEmpty)
    let (a, b) = (try host("a"), try host("b"))
    let (first, second) = (stringKey(a, 1), stringKey(b, 1))
    func journal(_ host: HostName, _ number: UInt64 = 1) -> ChangedSubject {
      .journal(HostJournal(host: host, journal: journalID(number)))
    }
    let runs = [run(b, [record(1)]), run(a, journal: 2, [record(2)]), run(a, [record(3), record(4)])]
    try test.store.commit(
      ServerBatch {
        $0.strings = [storedString(second, committed: 3), storedString(first, committed: 5)]
        $0.records = runs
      })
    try test.reopen()
    func head(_ run: ServerBatch.RecordRun) throws -> [TreeHead] {
      [TreeHead(length: run.after.length, root: try #require(run.after.checkpoint).root)]
    }
    let all = [
      Change(number: 1, subject: journal(a), publicKey: digest(77), heads: try head(runs[2])),
      Change(number: 2, subject: journal(a, 2), publicKey: digest(77), heads: try head(runs[1])),
      Change(number: 3, subject: journal(b), publicKey: digest(77), heads: try head(runs[0])),
      Change(number: 4, subject: .file(first.key), heads: [TreeHead(length: 5, root: digest(5))]),
      Change(number: 5, subject: .file(second.key), heads: [TreeHead(length: 3, root: digest(3))]),
    ]
    #expect(try changes(test) == all)
    #expect(try changes(test, after: 2, count: 2) == Array(all[2..<4]))
    #expect(try changes(test, after: 5).isEmpty && changes(test, after: .max).isEmpty)
    #expect(try changes(test, count: 0).isEmpty)
    #expect(try test.store.feed().last == 5)

    // Those that change again are moved behind all others.
    let next = run(a, held: runs[2].encoded, [record(5)])
    try test.store.commit(
      ServerBatch {
        $0.records = [next]
        $0.strings = [storedString(first, committed: 6)]
      })
    try test.reopen()
    #expect(try changes(test).map(\.number) == [2, 3, 5, 6, 7])
    #expect(try changes(test, after: 5).map(\.subject) == [journal(a), .file(first.key)])
    #expect(try changes(test, after: 5).map(\.heads) == [try head(next), [TreeHead(length: 6, root: digest(6))]])
    #expect(try test.store.answer(.changes(after: 0, count: 1)).feed?.last == 7)
  }

  @Test(arguments: Backend.allCases) func `M3: only what is held in addition is a change`(_ backend: Backend) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let key = stringKey(web1, 1)
    func expectNone(_ location: SourceLocation = #_sourceLocation, _ change: (inout ServerBatch) -> Void) throws {
      let before = try test.store.feed()
      try test.store.commit(ServerBatch(change))
      #expect(try test.store.feed() == before, sourceLocation: location)
    }
    try expectNone { _ in }
    // A birth; what is promised and what was met; a row that says more of what isn't held.
    try expectNone { $0.strings = [storedString(key)] }
    try expectNone {
      $0.promises = [
        Promise(key: key.key, length: 4, root: digest(4)), Promise(key: key.key, length: 5, root: digest(5)),
      ]
    }
    try test.store.commit(
      ServerBatch {
        $0.strings = [storedString(key, committed: 4, synced: 0)]
        $0.log = [logPayload(key, at: 0, [1, 2, 3, 4])]
      })
    #expect(try numbers(test) == [.file(key.key): 1])
    try expectNone { $0.met = [Promise(key: key.key, length: 4, root: digest(4))] }
    // A repeat.
    try expectNone {
      $0.strings = [storedString(key, committed: 4, synced: 0)]
      $0.log = [logPayload(key, at: 0, [1, 2, 3, 4])]
    }
    try expectNone {
      $0.strings = [storedString(key, committed: 4)]
      $0.trims = [ServerBatch.Trim(key: key, below: 4)]
    }
    try expectNone {
      $0.strings = [storedString(key, committed: 4)]
      $0.strings[0].recorded = 9
      $0.strings[0].closed = .deleted
      $0.unfinished = [key]
    }
    try expectNone { $0.finished = [key] }
    // No new record.
    let first = run(web1, [record(1)])
    try test.store.commit(ServerBatch { $0.records = [first] })
    #expect(try test.store.feed().last == 2)
    try expectNone { $0.records = [run(web1, held: first.encoded, [])] }
    #expect(try numbers(test).values.sorted() == [1, 2])
    // What is refused gives none.
    expect(.failed) { () throws(StoreError) in
      try test.store.commit(
        ServerBatch {
          $0.strings = [storedString(key, committed: 8)]
          $0.records = [first]
        })
    }
    #expect(try test.store.feed().last == 2)
    // A journal of which only the row is there, as no number has it.
    try expectNone { $0.records = [run(web1, journal: 2, [])] }
    let empty = HostJournal(host: web1, journal: journalID(2))
    try test.store.commit(ServerBatch { $0.records = [run(web1, journal: 2, [record(1)])] })
    #expect(try numbers(test)[.journal(empty)] == 3)
  }

  @Test(arguments: Backend.allCases) func `M3: strings of a file and sequences of a journal change as one`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let key = stringKey(web1, 1)
    let branch = stringKey(web1, 1, 1)
    let point = BranchPoint(start: 0, divergence: 2)
    let journal = HostJournal(host: web1, journal: journalID(1))
    let records = (0..<4).map { record($0) }
    try test.store.commit(
      ServerBatch {
        $0.strings = [storedString(key, committed: 5)]
        $0.records = [run(web1, records)]
      })
    #expect(try numbers(test) == [.journal(journal): 1, .file(key.key): 2])
    // As long as a branch has nothing of its own there is nothing new.
    try test.store.commit(ServerBatch { $0.strings = [storedString(branch, committed: 2, branch: point)] })
    #expect(try test.store.feed().last == 2)
    try test.store.commit(ServerBatch { $0.strings = [storedString(branch, committed: 3, branch: point)] })
    try test.reopen()
    #expect(try numbers(test) == [.journal(journal): 1, .file(key.key): 3])
    let heads = [TreeHead(length: 3, root: digest(3)), TreeHead(length: 5, root: digest(5))]
    #expect(try changes(test, after: 2).first?.heads == heads)
    // Both: one number.
    try test.store.commit(
      ServerBatch {
        $0.strings = [storedString(branch, committed: 7, branch: point), storedString(key, committed: 6)]
      })
    #expect(try numbers(test) == [.journal(journal): 1, .file(key.key): 4])
    #expect(try changes(test, after: 3).first?.heads.map(\.length) == [6, 7])
    // Of the same bytes, once.
    var same = storedString(key, committed: 7)
    same.root = digest(7)
    try test.store.commit(ServerBatch { $0.strings = [same] })
    #expect(try changes(test, after: 4).first?.heads == [TreeHead(length: 7, root: digest(7))])

    let fork = run(web1, sequence: 1, fork: ForkPoint(start: 2), held: Array(records[..<2]), [record(9)])
    try test.store.commit(ServerBatch { $0.records = [fork] })
    try test.reopen()
    #expect(try numbers(test) == [.file(key.key): 5, .journal(journal): 6])
    let change = try #require(try changes(test, after: 5).first)
    #expect(change.heads.map(\.length) == [3, 4] && change.publicKey == digest(77))
    #expect(change.heads.first?.root == fork.after.checkpoint?.root)
    // Both sequences in one commit, the later one first.
    try test.store.commit(
      ServerBatch {
        $0.records = [
          run(web1, sequence: 1, fork: ForkPoint(start: 2), held: Array(records[..<2]) + fork.encoded, [record(8)]),
          run(web1, held: records, [record(7)]),
        ]
      })
    #expect(try numbers(test) == [.file(key.key): 5, .journal(journal): 7])
    #expect(try changes(test, after: 6).first?.heads.map(\.length) == [4, 5])
    // What was put again for its number alone is as it was.
    #expect(try test.store.strings().first == same)
    #expect(try test.store.journals().map(\.length) == [5, 4])
    #expect(try test.store.totals() == test.store.recount())
  }

  @Test(arguments: Backend.allCases) func `M3: an epoch begins at a start and only then`(_ backend: Backend) throws {
    let test = try ServerStoreUnderTest(backend)
    let key = stringKey(try host("web1"), 1)
    try grow(test, key, to: 1)
    #expect(try test.store.feed() == Feed(last: 1))
    try start(test, 1)
    try grow(test, key, to: 2)
    // The same life counts on.
    try start(test, 1)
    try grow(test, key, to: 3)
    try test.reopen()
    #expect(try test.store.feed() == Feed(epochs: [.init(life: life(1), first: 2)], last: 3))
    // A life that gives no number is known all the same: a cursor may name it.
    try start(test, 2)
    try start(test, 3)
    try grow(test, key, to: 4)
    try test.reopen()
    let feed = try test.store.feed()
    #expect(feed.epochs.map(\.first) == [2, 4, 4] && feed.epochs.map(\.life) == [life(1), life(2), life(3)])
    #expect(feed.last == 4)
    for number in 4..<(UInt64(Feed.mostEpochs) + 2) { try start(test, number) }
    try test.reopen()
    let epochs = try test.store.feed().epochs
    #expect(epochs.count == Feed.mostEpochs)
    #expect(epochs.first?.life == life(2) && epochs.last?.life == life(UInt64(Feed.mostEpochs) + 1))
  }

  @Test(arguments: Backend.allCases) func `P3: a commit says where the feed is, if it added to it`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let key = stringKey(try host("web1"), 1)
    let batch = ServerBatch { $0.strings = [storedString(key, committed: 1)] }
    #expect(try test.store.commit(batch).position == nil, "no life has begun")
    try start(test, 1)
    test.store.begin(life(2))
    let position = try test.store.commit(ServerBatch { $0.strings = [storedString(key, committed: 2)] }).position
    #expect(position == FeedPosition(life: life(2), number: 2))
    #expect(try test.store.feed().position == position)
    #expect(try test.store.commit(ServerBatch { $0.finished = [key] }).position == nil)
  }

  @Test func `P3: a position fits as long as all that was given by then is there`() {
    var feed = Feed(epochs: [.init(life: life(1), first: 5), .init(life: life(2), first: 8)], last: 9)
    func fits(_ number: UInt64, of life: UInt64) -> Bool {
      feed.contains(FeedPosition(life: self.life(life), number: number))
    }
    #expect(feed.position == FeedPosition(life: life(2), number: 9))
    #expect(fits(7, of: 1) && !fits(8, of: 1) && fits(9, of: 2) && !fits(10, of: 2) && !fits(1, of: 3))
    feed.advance(to: FeedPosition(life: life(2), number: 10))
    feed.advance(to: FeedPosition(life: life(3), number: 12))
    #expect(feed.epochs.last == .init(life: life(3), first: 11) && feed.last == 12)
    #expect(fits(10, of: 2) && !fits(11, of: 2) && fits(12, of: 3))
    #expect(Feed(last: 4).position == nil)
  }

  @Test func `M3: a cursor fits within its life`() {
    let feed = Feed(
      epochs: [.init(life: life(1), first: 5), .init(life: life(2), first: 8), .init(life: life(3), first: 8)], last: 9)
    func fits(_ number: UInt64, of life: UInt64) -> Bool {
      feed.contains(FeedCursor(life: self.life(life), upTo: number))
    }
    #expect(fits(0, of: 1) && fits(4, of: 1) && fits(7, of: 1) && !fits(8, of: 1))
    #expect(fits(7, of: 2) && !fits(8, of: 2))
    #expect(fits(9, of: 3) && !fits(10, of: 3) && !fits(.max, of: 3))
    #expect(!fits(0, of: 4))
    #expect(!Feed(last: 9).contains(FeedCursor(life: life(1), upTo: 0)))
    // Nothing is known of a life that came twice but what it had before another one.
    var twice = feed
    #expect(twice.begin(life(1)) && !twice.begin(life(1)))
    #expect(!twice.contains(FeedCursor(life: life(1), upTo: 9)))
  }

  /// A store that was put back passed for the one that went on, and what it had lost was skipped for ever.
  @Test(arguments: Backend.allCases) func `M3: a cursor into what a restored store has lost doesn't fit`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    try start(test, 1)
    for file in 1...3 { try grow(test, stringKey(web1, UInt64(file)), to: 1) }
    let backup = try ServerStoreUnderTest(copyOf: test)
    let before = FeedCursor(life: life(1), upTo: 3)
    for file in 4...6 { try grow(test, stringKey(web1, UInt64(file)), to: 1) }
    let after = FeedCursor(life: life(1), upTo: try test.store.feed().last)
    #expect(after.seen == 6)
    #expect(try test.store.feed().contains(before) && test.store.feed().contains(after))

    try start(backup, 2)
    for file in 7...9 { try grow(backup, stringKey(web1, UInt64(file)), to: 1) }
    let restored = try backup.store.feed()
    #expect(restored.contains(before) && !restored.contains(after))
    // Its own numbers are others, which the one that went on doesn't have.
    let own = FeedCursor(life: life(2), upTo: restored.last)
    try start(test, 3)
    #expect(try restored.contains(own) && !test.store.feed().contains(own))
    #expect(try test.store.feed().contains(after))
  }

  /// While every plain file is compared, the marks stay those of the life before: what is committed meanwhile has numbers.
  @Test(arguments: Backend.allCases) func `M3: no number is given in another life than the present one`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    try start(test, 1)
    try grow(test, stringKey(web1, 1), to: 1)
    let backup = try ServerStoreUnderTest(copyOf: test)
    try grow(test, stringKey(web1, 2), to: 1)
    let lost = FeedCursor(life: life(1), upTo: try test.store.feed().last)

    backup.store.begin(life(2))
    try backup.store.commit(ServerBatch { $0.strings = [storedString(stringKey(web1, 3))] })
    #expect(try backup.store.feed().epochs.map(\.life) == [life(1)])
    // One that is refused begins nothing.
    expect(.failed) { () throws(StoreError) in
      try backup.store.commit(ServerBatch { $0.strings = [storedString(stringKey(web1, 1), committed: 0)] })
    }
    for length in 1...2 { try grow(backup, stringKey(web1, 3), to: UInt64(length)) }
    try backup.reopen()
    let feed = try backup.store.feed()
    #expect(feed == Feed(epochs: [.init(life: life(1), first: 1), .init(life: life(2), first: 2)], last: 3))
    #expect(!feed.contains(lost))
    #expect(try backup.store.startMarks()?.present.life == life(1))
    try start(backup, 2)
    #expect(try backup.store.feed() == feed)
  }

  @Test(arguments: Backend.allCases) func `M3: how far peers were read is kept`(_ backend: Backend) throws {
    let test = try ServerStoreUnderTest(backend)
    // Not NFC and NFC: equal as texts.
    let names = ["logs-a", "logs", String(repeating: "x", count: 255), "e\u{301}", "\u{E9}"]
    let cursors = names.indices.map { FeedCursor(life: life(UInt64($0)), upTo: .max - UInt64($0)) }
    let number = test.store.number
    try test.store.commit(ServerBatch { $0.cursors = zip(names, cursors).map { PeerCursor(peer: $0, cursor: $1) } })
    #expect(test.store.number > number)
    let next = FeedCursor(life: life(9), upTo: 3)
    try test.store.commit(
      ServerBatch {
        $0.cursors = [PeerCursor(peer: "logs", cursor: cursors[4]), PeerCursor(peer: "logs", cursor: next)]
      })
    try test.reopen()
    #expect(try names.map { try test.store.cursor(of: $0) } == [cursors[0], next] + cursors[2...])
    #expect(try test.store.cursor(of: "log") == nil)
    #expect(try test.store.feed() == Feed())
    for name in ["", String(repeating: "x", count: 256), "a\0b"] {
      expect(.failed) { () throws(StoreError) in
        try test.store.commit(
          ServerBatch {
            $0.cursors = [PeerCursor(peer: "new", cursor: next), PeerCursor(peer: name, cursor: next)]
          })
      }
      #expect(try test.store.cursor(of: "new") == nil)
    }
  }

  @Test func `M3: a commit that fails gives no number`() throws {
    let store = InMemoryServerStore<CheapHash>()
    let row = storedString(stringKey(try host("web1"), 1), committed: 4)
    let cursor = PeerCursor(peer: "a", cursor: FeedCursor(life: life(1), upTo: 2))
    let batch = ServerBatch {
      $0.strings = [row]
      $0.cursors = [cursor]
    }
    store.failNextCommit(with: .full("no room"))
    expect(.full) { () throws(StoreError) in try store.commit(batch) }
    #expect(try store.feed() == Feed() && store.cursor(of: "a") == nil)
    store.failNextCommit(with: .full("no room"))
    expect(.full) { () throws(StoreError) in
      try store.setStartMarks(StartMarks(present: StartMark(life: life(1), number: 1)))
    }
    #expect(try store.feed() == Feed())
    try store.commit(batch)
    #expect(try store.feed().last == 1 && store.cursor(of: "a") == cursor.cursor)
  }
}
