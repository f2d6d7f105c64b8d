import Foundation
import Glibc
import JournalModel
import JournalStore
import LMDBStore
import Synchronization
import Testing

/// What a store holds after a crash: the last commit that returned, all of it, and nothing of one that didn't.
@Suite struct LMDBCrashTests {
  /// A power cut in the midst of a commit, before its sync: of the pages (in units of 512 bytes) that it writes, any may
  /// have reached the disk, or garbage in their place; the meta pages are the old ones.
  @Test(arguments: 1...4) func `A power cut during a commit leaves the state before it`(seed: UInt64) throws {
    var numbers = SeededNumbers(seed: seed)
    let test = try HostStoreUnderTest(.lmdb)
    var before = try image(of: test.directory)
    var contents = try HostStoreContents(test.store)
    for step in 0..<12 {
      _ = try test.store.commit(batch(step, &numbers))
      let after = try image(of: test.directory)
      for _ in 0..<3 {
        let torn = tear(from: before, to: after, &numbers)
        try #require(try reading(torn) { try HostStoreContents($0) } == contents, "step \(step)")
      }
      contents = try HostStoreContents(test.store)
      try #require(try reading(after) { try HostStoreContents($0) } == contents, "step \(step)")
      before = after
    }
  }

  /// A start begins an epoch, or it doesn't; rows have their numbers, and the feed has them, or neither.
  @Test(arguments: 1...4)
  func `M3: a power cut during a server's commit leaves rows, feed and cursors as before it`(seed: UInt64) throws {
    var numbers = SeededNumbers(seed: seed)
    let test = try ServerStoreUnderTest(.lmdb)
    let web1 = try host("web1")
    var records: [[UInt8]] = []
    var before = try image(of: test.directory)
    var contents = try ServerStoreContents(test.store, peers: ["a", "b"])
    for step in 0..<16 {
      let life = UUIDBytes(high: 1, low: UInt64(step / 8))
      if step.isMultiple(of: 4) {
        try test.store.setStartMarks(StartMarks(present: StartMark(life: life, number: UInt64(step))))
      } else {
        let more = (0..<Int.random(in: 1..<9, using: &numbers)).map { record($0 + step * 100, size: 1 + $0 * 9) }
        let files = (0..<8).map { _ in UInt64.random(in: 1..<30, using: &numbers) }
        try test.store.commit(
          ServerBatch {
            $0.records = [run(web1, held: records, more)]
            $0.strings = Set(files).sorted().map { storedString(stringKey(web1, $0), committed: UInt64(step)) }
            $0.cursors = [PeerCursor(peer: "a", cursor: FeedCursor(life: life, upTo: UInt64(step)))]
          })
        records += more
      }
      let after = try image(of: test.directory)
      for _ in 0..<3 {
        let torn = tear(from: before, to: after, &numbers)
        try #require(try serving(torn) { try ServerStoreContents($0, peers: ["a", "b"]) } == contents, "step \(step)")
      }
      contents = try ServerStoreContents(test.store, peers: ["a", "b"])
      try #require(try serving(after) { try ServerStoreContents($0, peers: ["a", "b"]) } == contents, "step \(step)")
      before = after
    }
  }

  private func batch(_ step: Int, _ numbers: inout SeededNumbers) -> HostBatch {
    HostBatch {
      let count = Int.random(in: 1..<40, using: &numbers)
      $0.records = (0..<count).map { record($0 + step * 100, size: 1 + $0 * 9) }
      $0.files = (0..<20).map { knownFile($0, length: UInt64(step)) }
      $0.leaves = [LeafRange(file: uuid(1), first: UInt64(step), hashes: [digest(UInt64(step))])]
    }
  }

  private func image(of directory: TemporaryDirectory) throws -> Data {
    try Data(contentsOf: URL(filePath: directory.path + "/data.mdb"))
  }

  private func tear(from before: Data, to after: Data, _ numbers: inout SeededNumbers) -> Data {
    let sector = 512
    let metaPages = 2 * Int(sysconf(Int32(_SC_PAGESIZE)))
    var torn = before
    torn.append(Data(count: max(0, after.count - before.count)))
    for start in stride(from: metaPages, to: after.count, by: sector) {
      let range = start..<min(start + sector, after.count)
      guard torn[range] != after[range] else { continue }
      switch Int.random(in: 0..<4, using: &numbers) {
      case 0: break
      case 1:
        torn.replaceSubrange(
          range, with: Data((0..<range.count).map { _ in UInt8.random(in: 0...255, using: &numbers) }))
      default: torn.replaceSubrange(range, with: after[range])
      }
    }
    return torn
  }

  private func directory(with image: Data) throws -> TemporaryDirectory {
    let directory = TemporaryDirectory()
    try FileManager.default.createDirectory(atPath: directory.path, withIntermediateDirectories: true)
    try image.write(to: URL(filePath: directory.path + "/data.mdb"))
    return directory
  }

  private func reading<R>(_ image: Data, _ body: (any HostJournalStore) throws -> R) throws -> R {
    let directory = try directory(with: image)
    return try body(try LMDBHostStore<CheapHash>(at: directory.path))
  }

  private func serving<R>(_ image: Data, _ body: (any ServerHoldingsStore) throws -> R) throws -> R {
    let directory = try directory(with: image)
    return try body(try LMDBServerStore<CheapHash>(at: directory.path))
  }

  /// A process that commits and is killed while it does, again and again.
  @Test func `kill -9 takes nothing that was committed`() async throws {
    let directory = TemporaryDirectory()
    let path = directory.path
    var length = 0
    for round in 1...4 {
      let target = length + round * 7
      await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, target = target as Int] in
        let store = try LMDBHostStore<CheapHash>(at: path)
        if try store.identity() == nil { try store.create(try journalIdentity()) }
        let returned = Atomic<Int>(0)
        let thread = Thread {
          while returned.load(ordering: .relaxed) < target { sched_yield() }
          kill(getpid(), SIGKILL)
        }
        thread.start()
        while true {
          let next = Int(try store.length())
          _ = try store.commit(HostBatch { $0.records = [record(next), record(next + 1)] })
          try Data("\(next + 2)".utf8).write(to: URL(filePath: path + "/returned"), options: .atomic)
          returned.store(next + 2, ordering: .relaxed)
        }
      }
      let returned = try #require(Int(String(contentsOfFile: path + "/returned", encoding: .utf8)))
      let store = try LMDBHostStore<CheapHash>(at: path)
      length = Int(try store.length())
      #expect(length >= returned && length.isMultiple(of: 2))
      let records = (0..<length).map { record($0) }
      #expect(try store.records(from: 0, count: .max, bytes: .max) == records)
      #expect(try store.root(at: UInt64(length)) == naiveRoot(of: records))
    }
  }

  @Test func `Another process reads beside the writer, and can't write`() async throws {
    let test = try HostStoreUnderTest(.lmdb)
    let path = test.directory.path
    _ = try test.store.commit(HostBatch { $0.records = [record(0)] })
    await #expect(processExitsWith: .success) { [path = path as String] in
      expect(.failed) { () throws(StoreError) in _ = try LMDBHostStore<CheapHash>(at: path) }
      let store = try LMDBHostStore<CheapHash>(readingAt: path)
      #expect(try store.records(from: 0, count: 9, bytes: .max) == [record(0)])
    }
    #expect(try test.store.commit(HostBatch { $0.records = [record(1)] }).length == 2)
  }

  /// The file size limit stands for a disk whose writes fail; the process of its own keeps it from others.
  @Test func `P4: a commit whose write failed is the last one`() async throws {
    let directory = TemporaryDirectory()
    let path = directory.path
    await #expect(processExitsWith: .success) { [path = path as String] in
      signal(SIGXFSZ, SIG_IGN)
      let store = try LMDBHostStore<CheapHash>(at: path)
      try store.create(try journalIdentity())
      let small = HostBatch { $0.records = [record(1)] }
      _ = try store.commit(small)
      var limit = rlimit(rlim_cur: 200_000, rlim_max: .max)
      try #require(setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
      let large = HostBatch { $0.records = [record(2, size: 400_000)] }
      expect(.failedSync) { () throws(StoreError) in _ = try store.commit(large) }
      limit.rlim_cur = .max
      try #require(setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
      expect(.failedSync) { () throws(StoreError) in _ = try store.commit(small) }
      #expect(try store.length() == 1)
    }
    let store = try LMDBHostStore<CheapHash>(at: path)
    #expect(try store.records(from: 0, count: 9, bytes: .max) == [record(1)])
    #expect(try store.commit(HostBatch { $0.records = [record(2)] }).length == 2)
  }
}
