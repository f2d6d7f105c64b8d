import JournalModel
import JournalStore
import MerkleLog
import Testing

/// What every `HostJournalStore` promises.
@Suite struct HostStoreConformance {
  @Test(arguments: Backend.allCases) func `A new store is empty`(_ backend: Backend) throws {
    let test = try HostStoreUnderTest(backend, created: false)
    let store = test.store
    #expect(try store.identity() == nil)
    #expect(try store.length() == 0)
    #expect(try store.root(at: 0) == CheapHash.empty)
    #expect(try store.records(from: 0, count: 10, bytes: 1000).isEmpty)
    #expect(try store.files().isEmpty)
    #expect(try store.leaves(of: uuid(1), count: 0).isEmpty)
    #expect(try store.delivered(to: "a").isEmpty)
    #expect(try store.gaps().isEmpty)
  }

  @Test(arguments: Backend.allCases) func `A journal is created once, before the first commit`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend, created: false)
    expect(.failed) { () throws(StoreError) in
      _ = try test.store.commit(HostBatch { $0.records = [record(1)] })
    }
    #expect(try test.store.length() == 0)
    let identity = try journalIdentity()
    try test.store.create(identity)
    #expect(try test.store.identity() == identity)
    var other = identity
    other.journal = journalID(2)
    expect(.alreadyExists) { () throws(StoreError) in try test.store.create(other) }
    try test.reopen()
    #expect(try test.store.identity() == identity)
  }

  @Test(arguments: Backend.allCases) func `Records are numbered in order and read in pages`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    let store = test.store
    let records = (0..<30).map { record($0, size: 10) }
    let first = try store.commit(HostBatch { $0.records = Array(records[..<7]) })
    #expect(first == JournalPosition(length: 7, root: naiveRoot(of: records[..<7])))
    let second = try store.commit(HostBatch { $0.records = Array(records[7...]) })
    #expect(second == JournalPosition(length: 30, root: naiveRoot(of: records)))
    #expect(try store.commit(HostBatch()) == second)

    #expect(try store.records(from: 0, count: .max, bytes: .max) == records)
    #expect(try store.records(from: 5, count: 4, bytes: .max) == Array(records[5..<9]))
    #expect(try store.records(from: 5, count: .max, bytes: 25) == Array(records[5..<7]))
    #expect(try store.records(from: 5, count: .max, bytes: 0) == [records[5]])
    #expect(try store.records(from: 29, count: 9, bytes: .max) == [records[29]])
    #expect(try store.records(from: 30, count: 9, bytes: .max).isEmpty)
    #expect(try store.records(from: .max, count: 9, bytes: .max).isEmpty)
    #expect(try store.records(from: 3, count: 0, bytes: .max).isEmpty)
  }

  @Test(arguments: Backend.allCases) func `The root at every length is that of the naive tree`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    let records = (0..<70).map { record($0) }
    var sizes = SeededNumbers(seed: 4)
    var next = 0
    while next < records.count {
      let end = min(records.count, next + Int.random(in: 1...9, using: &sizes))
      _ = try test.store.commit(HostBatch { $0.records = Array(records[next..<end]) })
      next = end
    }
    try test.reopen()
    for length in 0...records.count {
      #expect(try test.store.root(at: UInt64(length)) == naiveRoot(of: records[..<length]))
    }
    expect(.outOfRange) { () throws(StoreError) in _ = try test.store.root(at: 71) }
    expect(.outOfRange) { () throws(StoreError) in _ = try test.store.root(at: .max) }
  }

  @Test(arguments: Backend.allCases) func `The file table holds the last row of each file, in the order of uuids`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    var closed = knownFile(2, identity: btrfsIdentity)
    closed.closed = .truncated
    closed.gapFrom = .max
    closed.isDerived = false
    let rows = [knownFile(1), closed, knownFile(300, length: 0, identity: poorIdentity)]
    _ = try test.store.commit(HostBatch { $0.files = [rows[2], knownFile(2), rows[0]] })
    _ = try test.store.commit(HostBatch { $0.files = [rows[1]] })
    try test.reopen()
    #expect(try test.store.files() == rows)
  }

  @Test(arguments: Backend.allCases) func `K1: files without an end are found without reading others`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    #expect(try test.store.living(servers: ["a"]).isEmpty)
    let open = [knownFile(1), knownFile(3)]
    let ends: [FileClosed.Reason] = [.deleted, .truncated, .vanished]
    let ended = ends.enumerated().map { closed(knownFile(UInt64(10 + $0)), $1) }
    _ = try test.store.commit(
      HostBatch {
        $0.files = [open[1], open[0]] + ended
        $0.delivered = [Delivered(server: "a", file: uuid(3), length: 7)]
      })
    try test.reopen()
    let living = [StoredFile(row: open[0], delivered: [0, 0]), StoredFile(row: open[1], delivered: [7, 0])]
    #expect(try test.store.living(servers: ["a", "b"]) == living)
    // One ends, one that had ended goes on, one is written again as it is.
    _ = try test.store.commit(HostBatch { $0.files = [closed(open[0], .vanished), knownFile(12), open[1]] })
    try test.reopen()
    #expect(try test.store.living(servers: []).map(\.row.file) == [uuid(3), uuid(12)])
  }

  @Test(arguments: Backend.allCases) func `K6: files that an inode may be are found by its identity`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    let (plain, other) = (plainIdentity, btrfsIdentity)
    let rows = [
      knownFile(1), closed(knownFile(2), .vanished), closed(knownFile(3), .deleted), closed(knownFile(4), .truncated),
      knownFile(5, identity: other),
    ]
    _ = try test.store.commit(HostBatch { $0.files = rows })
    func found(_ inode: InodeKey, derived: FileUUID? = nil) throws -> HostAnswer {
      let new = NewInode(inode: inode, path: BytePath("/elsewhere"), derived: derived)
      return try test.store.answer(.inodes([new]), servers: ["a"])
    }
    // On whatever file system: it may come back as another one.
    let asked = try found(InodeKey(device: 4, filesystem: 1, identity: plain), derived: uuid(3))
    #expect(asked.files == [rows[0], rows[1]].map { StoredFile(row: $0, delivered: [0]) })
    #expect(asked.used == [uuid(3)], "also of what can't come back")
    #expect(asked.number == test.store.number)
    #expect(try found(InodeKey(filesystem: 1, identity: plain), derived: uuid(9)).used.isEmpty)
    // A file that turns out to be another inode, and one that ends, are found no longer.
    _ = try test.store.commit(HostBatch { $0.files = [knownFile(1, identity: other), closed(rows[1], .truncated)] })
    try test.reopen()
    #expect(try found(InodeKey(filesystem: 9, identity: plain)).files.isEmpty)
    #expect(try found(InodeKey(filesystem: 9, identity: other)).files.map(\.row.file) == [uuid(1), uuid(5)])
  }

  @Test(arguments: Backend.allCases) func `K6: without a usable identity, files are found by number or by path`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    var moved = knownFile(2, identity: poorIdentity)
    moved.path = BytePath("/log/b")
    moved.inode.filesystem = 8
    _ = try test.store.commit(HostBatch { $0.files = [knownFile(1, identity: poorIdentity), moved, knownFile(3)] })
    func found(_ filesystem: UInt64, _ number: UInt64, _ path: BytePath) throws -> [FileUUID] {
      var identity = poorIdentity
      identity.number = number
      let new = NewInode(
        inode: InodeKey(filesystem: filesystem, identity: identity), path: path, derived: nil)
      return try test.store.answer(.inodes([new]), servers: []).files.map(\.row.file)
    }
    let number = poorIdentity.number
    #expect(try found(9, number, BytePath("/x")) == [uuid(1)], "the number says little on another file system")
    #expect(try found(9, number, BytePath("/log/b")) == [uuid(1), uuid(2)])
    #expect(try found(7, number &+ 1, knownFile(3).path) == [uuid(1)], "not by the path of one with an identity")
    moved.path = BytePath("/log/c")
    _ = try test.store.commit(HostBatch { $0.files = [moved, closed(knownFile(1, identity: poorIdentity), .deleted)] })
    try test.reopen()
    #expect(try found(7, number &+ 1, BytePath("/log/b")).isEmpty)
    #expect(try found(7, number &+ 1, BytePath("/log/c")) == [uuid(2)])
    #expect(try found(9, number, knownFile(1).path).isEmpty)
  }

  @Test(arguments: Backend.allCases) func `K1: files are loaded by their uuids`(_ backend: Backend) throws {
    let test = try HostStoreUnderTest(backend)
    let rows = [closed(knownFile(1), .vanished), closed(knownFile(2), .deleted)]
    _ = try test.store.commit(
      HostBatch {
        $0.files = rows
        $0.delivered = [Delivered(server: "b", file: uuid(1), length: 5)]
      })
    let answer = try test.store.answer(.files([uuid(7), uuid(2), uuid(1), uuid(1)]), servers: ["a", "b"])
    let found = [StoredFile(row: rows[1], delivered: [0, 0]), StoredFile(row: rows[0], delivered: [0, 5])]
    #expect(answer.files == found)
    #expect(try test.store.file(uuid(2)) == rows[1])
    #expect(try test.store.file(uuid(7)) == nil)
  }

  @Test(arguments: Backend.allCases) func `Every commit has a greater number`(_ backend: Backend) throws {
    let test = try HostStoreUnderTest(backend)
    var last = test.store.number
    for _ in 0..<3 {
      _ = try test.store.commit(HostBatch { $0.files = [knownFile(1)] })
      #expect(test.store.number > last)
      last = test.store.number
      #expect(try test.store.answer(.files([]), servers: []).number == last)
    }
  }

  @Test(arguments: Backend.allCases) func `What a server lost is noted of no file any more`(_ backend: Backend) throws {
    let test = try HostStoreUnderTest(backend)
    let notes = ["a", "b"].flatMap { server in
      (1...3).map { Delivered(server: server, file: uuid($0), length: 9) }
    }
    _ = try test.store.commit(
      HostBatch {
        $0.files = (1...3).map { knownFile($0) }
        $0.delivered = notes
        $0.positions = ["a", "b"].map { ServerPosition(server: $0, position: position(7)) }
      })
    #expect(try test.store.start(servers: ["a", "b"]).positions == [position(7), position(7)])
    _ = try test.store.commit(
      HostBatch {
        $0.forgotten = ["a"]
        $0.delivered = [Delivered(server: "a", file: uuid(2), length: 4)]
      })
    try test.reopen()
    #expect(try test.store.delivered(to: "a") == [uuid(2): 4])
    #expect(try test.store.delivered(to: "b").count == 3)
    #expect(try test.store.living(servers: ["a", "b"]).map(\.delivered) == [[0, 9], [4, 9], [0, 9]])
    #expect(try test.store.delivered(to: "a", of: uuid(1)) == nil)
    #expect(try test.store.delivered(to: "a", of: uuid(2)) == 4)
    _ = try test.store.commit(HostBatch { $0.delivered = [notes[0]] })
    #expect(try test.store.delivered(to: "a") == [uuid(1): 9, uuid(2): 4])
    #expect(try test.store.start(servers: ["a", "b", "c"]).positions == [nil, position(7), nil])
    _ = try test.store.commit(
      HostBatch {
        $0.forgotten = ["b"]
        $0.positions = [ServerPosition(server: "b", position: position(8))]
      })
    try test.reopen()
    #expect(try test.store.position(of: "b") == position(8))
    let unnamed = HostBatch { $0.positions = [ServerPosition(server: "", position: position(1))] }
    expect(.failed) { () throws(StoreError) in _ = try test.store.commit(unnamed) }
    expect(.failed) { () throws(StoreError) in _ = try test.store.commit(HostBatch { $0.forgotten = [""] }) }
  }

  @Test(arguments: Backend.allCases) func `G4: files that ended, and that a server isn't noted to have, page by page`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    var gap = closed(knownFile(6), .vanished)
    gap.gapFrom = gap.length - 1
    var unread = closed(knownFile(7), .truncated)
    unread.gapFrom = unread.length
    let rows = [
      knownFile(1), closed(knownFile(2), .deleted), closed(knownFile(3), .vanished), closed(knownFile(4), .truncated),
      closed(knownFile(5), .deleted), gap, unread,
    ]
    func lacked(_ server: String, after: FileUUID? = nil, examined: Int) throws -> (files: [FileUUID], last: FileUUID?)
    {
      let answer = try test.store.answer(.ended(after: after, server: server, examined: examined), servers: [server])
      return (answer.files.map(\.row.file), answer.last)
    }
    #expect(try lacked("a", examined: 2).last == nil)
    _ = try test.store.commit(
      HostBatch {
        $0.files = rows
        $0.gaps = [StandingGap(record: 4, file: uuid(6), upper: gap.length)]
        $0.delivered = [
          Delivered(server: "a", file: uuid(3), length: rows[2].length),
          Delivered(server: "a", file: uuid(4), length: rows[3].length - 1),
          Delivered(server: "a", file: uuid(6), length: gap.length - 1),
          Delivered(server: "b", file: Delivered.ended, length: 1),
        ]
      })
    try test.reopen()
    #expect(try lacked("a", examined: 9) == ([uuid(2), uuid(4), uuid(5), uuid(7)], nil))
    #expect(try lacked("a", examined: 4) == ([uuid(2), uuid(4)], uuid(4)))
    #expect(try lacked("a", after: uuid(4), examined: 2) == ([uuid(5)], uuid(6)))
    #expect(try lacked("a", after: uuid(6), examined: 2) == ([uuid(7)], nil))
    #expect(try lacked("b", examined: 9).files == (2...7).map { uuid($0) })
    // A gap that was struck out stays in the row.
    _ = try test.store.commit(HostBatch { $0.healed = [4] })
    #expect(try lacked("a", after: uuid(5), examined: 9).files == [uuid(6), uuid(7)])
    #expect(try test.store.start(servers: ["a", "b"]).haveEnded == [false, true])
    #expect(try test.store.start(servers: ["a", "b"]).former == [])
    #expect(try test.store.start(servers: ["a"]).former == ["b"])
    _ = try test.store.commit(HostBatch { $0.delivered = [Delivered(server: "b", file: Delivered.ended, length: 0)] })
    #expect(try test.store.start(servers: ["a"]).former == [])
    #expect(try test.store.start(servers: ["b"]).haveEnded == [false])
    // A server that lost what it had may have lost these too.
    _ = try test.store.commit(HostBatch { $0.delivered = [Delivered(server: "b", file: Delivered.ended, length: 1)] })
    _ = try test.store.commit(HostBatch { $0.forgotten = ["b"] })
    try test.reopen()
    #expect(try test.store.start(servers: ["b"]).haveEnded == [false])
  }

  private func closed(_ row: KnownFile, _ reason: FileClosed.Reason) -> KnownFile {
    var row = row
    row.closed = reason
    return row
  }

  @Test(arguments: Backend.allCases) func `Gaps stand until they are healed`(_ backend: Backend) throws {
    let test = try HostStoreUnderTest(backend)
    let gaps = [
      StandingGap(record: 1, file: uuid(4), upper: 69_632), StandingGap(record: 300, file: nil, upper: .max),
    ]
    _ = try test.store.commit(HostBatch { $0.gaps = [gaps[1], gaps[0]] })
    try test.reopen()
    #expect(try test.store.gaps() == gaps)
    _ = try test.store.commit(HostBatch { $0.healed = [1, 7] })
    try test.reopen()
    #expect(try test.store.gaps() == [gaps[1]])
  }

  @Test(arguments: Backend.allCases) func `Leaves are added without holes and never changed`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    let store = test.store
    let hashes = (0..<10).map { digest($0) }
    func put(_ first: UInt64, _ hashes: [Digest], file: UInt64 = 1) throws(StoreError) {
      _ = try store.commit(HostBatch { $0.leaves = [LeafRange(file: uuid(file), first: first, hashes: hashes)] })
    }
    try put(0, Array(hashes[..<3]))
    try put(2, Array(hashes[2..<6]))
    try put(0, Array(hashes[..<2]))
    _ = try store.commit(
      HostBatch {
        $0.leaves = [
          LeafRange(file: uuid(1), first: 6, hashes: [hashes[6]]),
          LeafRange(file: uuid(2), first: 0, hashes: [hashes[9]]),
          LeafRange(file: uuid(1), first: 7, hashes: [hashes[7]]),
        ]
      })
    expect(.corrupt) { () throws(StoreError) in try put(3, [hashes[3], hashes[9]]) }
    expect(.failed) { () throws(StoreError) in try put(9, [hashes[9]]) }
    expect(.failed) { () throws(StoreError) in try put(1, [hashes[9]], file: 3) }
    #expect(try store.leaves(of: uuid(1), count: 8) == Array(hashes[..<8]))
    #expect(try store.leaves(of: uuid(1), count: 5) == Array(hashes[..<5]))
    #expect(try store.leaves(of: uuid(2), count: 1) == [hashes[9]])
    expect(.outOfRange) { () throws(StoreError) in _ = try store.leaves(of: uuid(1), count: 9) }
    expect(.outOfRange) { () throws(StoreError) in _ = try store.leaves(of: uuid(3), count: 1) }
  }

  @Test(arguments: Backend.allCases) func `P5 A refusal names the file, and the rest may be committed without it`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    let store = test.store
    func range(_ file: UInt64, _ first: UInt64, _ hash: UInt64) -> LeafRange {
      LeafRange(file: uuid(file), first: first, hashes: [digest(hash)])
    }
    _ = try store.commit(HostBatch { $0.leaves = [range(1, 0, 1), range(2, 0, 1)] })
    func subject(_ batch: HostBatch) -> StoreSubject? {
      do throws(StoreError) { _ = try store.commit(batch) } catch {
        if case .refused(let subject, _) = error { return subject }
      }
      return nil
    }
    let length = try store.length()
    for bad in [range(2, 0, 9), range(2, 2, 9), range(3, 1, 9)] {
      let batch = HostBatch {
        $0.records = [Array("record".utf8)]
        $0.leaves = [range(1, 1, 2), bad]
      }
      #expect(subject(batch) == .file(bad.file))
    }
    var row = knownFile(4)
    row.path = BytePath("")
    #expect(subject(HostBatch { $0.files = [row] }) == .file(row.file))
    #expect(try store.length() == length)
    #expect(subject(HostBatch { $0.leaves = [range(1, 1, 2)] }) == nil)
  }

  @Test(arguments: Backend.allCases) func `Two different hashes of one leaf in a batch are refused`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    let store = test.store
    expect(.corrupt) { () throws(StoreError) in
      _ = try store.commit(
        HostBatch {
          $0.leaves = [
            LeafRange(file: uuid(1), first: 0, hashes: [digest(1), digest(2)]),
            LeafRange(file: uuid(1), first: 1, hashes: [digest(3)]),
          ]
        })
    }
    expect(.outOfRange) { () throws(StoreError) in _ = try store.leaves(of: uuid(1), count: 1) }
  }

  @Test(arguments: Backend.allCases) func `What servers acknowledged is kept for each server`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    _ = try test.store.commit(
      HostBatch {
        $0.delivered = [
          Delivered(server: "a", file: uuid(1), length: 5), Delivered(server: "ab", file: uuid(1), length: 6),
          Delivered(server: "a", file: uuid(2), length: .max),
        ]
      })
    _ = try test.store.commit(HostBatch { $0.delivered = [Delivered(server: "a", file: uuid(1), length: 4)] })
    try test.reopen()
    #expect(try test.store.delivered(to: "a") == [uuid(1): 4, uuid(2): .max])
    #expect(try test.store.delivered(to: "ab") == [uuid(1): 6])
    #expect(try test.store.delivered(to: "b").isEmpty)
  }

  @Test(arguments: Backend.allCases) func `A commit that throws changes nothing, now or after a restart`(
    _ backend: Backend
  ) throws {
    let test = try HostStoreUnderTest(backend)
    let good = HostBatch {
      $0.records = [record(1), record(2)]
      $0.files = [knownFile(1)]
      $0.leaves = [LeafRange(file: uuid(1), first: 0, hashes: [digest(1)])]
      $0.delivered = [Delivered(server: "a", file: uuid(1), length: 5)]
    }
    let position = try test.store.commit(good)
    let counts: [FileUUID: UInt64] = [uuid(1): 1]
    let before = try HostStoreContents(test.store, leaves: counts, servers: ["a", ""])
    let bad = HostBatch {
      $0.records = [record(3)]
      $0.files = [knownFile(1, length: 999), knownFile(2)]
      $0.delivered = [Delivered(server: "a", file: uuid(1), length: 50)]
      $0.leaves = [LeafRange(file: uuid(1), first: 0, hashes: [digest(2)])]
    }
    var unstorable = good
    unstorable.files[0].path = BytePath("")
    var nameless = good
    nameless.delivered[0].server = ""
    for batch in [bad, unstorable, nameless] {
      #expect(throws: StoreError.self) { try test.store.commit(batch) }
      #expect(try HostStoreContents(test.store, leaves: counts, servers: ["a", ""]) == before)
    }
    try test.reopen()
    #expect(try HostStoreContents(test.store, leaves: counts, servers: ["a", ""]) == before)
    #expect(try test.store.commit(HostBatch()) == position)
  }
}

/// The fault point of the store in memory.
@Suite struct HostStoreFaults {
  @Test func `A full disk takes nothing and passes`() throws {
    let store = InMemoryHostStore<CheapHash>()
    try store.create(try journalIdentity())
    store.failNextCommit(with: .full("no space"))
    let batch = HostBatch { $0.records = [record(1)] }
    expect(.full) { () throws(StoreError) in _ = try store.commit(batch) }
    #expect(try store.length() == 0)
    #expect(try store.commit(batch).length == 1)
  }

  @Test(arguments: [false, true]) func `P4: after a failed sync nothing is accepted until a restart`(
    isApplied: Bool
  ) throws {
    let store = InMemoryHostStore<CheapHash>()
    try store.create(try journalIdentity())
    let batch = HostBatch { $0.records = [record(1)] }
    store.failNextCommit(with: .failedSync("EIO"), isApplied: isApplied)
    for _ in 0..<2 { expect(.failedSync) { () throws(StoreError) in _ = try store.commit(batch) } }
    let restarted = InMemoryHostStore<CheapHash>(state: store.snapshot())
    #expect(try restarted.length() == (isApplied ? 1 : 0))
    #expect(try restarted.commit(batch).length == (isApplied ? 2 : 1))
  }

  @Test func `A snapshot stays as it was`() throws {
    let store = InMemoryHostStore<CheapHash>()
    try store.create(try journalIdentity())
    _ = try store.commit(HostBatch { $0.records = [record(1)] })
    let snapshot = store.snapshot()
    _ = try store.commit(HostBatch { $0.records = [record(2)] })
    let old = InMemoryHostStore<CheapHash>(state: snapshot)
    _ = try old.commit(HostBatch { $0.records = [record(3)] })
    #expect(try store.records(from: 0, count: 9, bytes: .max) == [record(1), record(2)])
    #expect(try old.records(from: 0, count: 9, bytes: .max) == [record(1), record(3)])
  }
}

private func position(_ number: UInt64) -> FeedPosition {
  FeedPosition(life: UUIDBytes(high: 3, low: 4), number: number)
}
