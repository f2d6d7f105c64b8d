import Foundation
import Glibc
import JournalModel
import JournalStore
import Testing

@testable import LMDBStore

/// What only a store on a disk can get wrong.
@Suite struct LMDBStoreTests {
  private func mode(_ path: String) throws -> Int {
    let attributes = try FileManager.default.attributesOfItem(atPath: path)
    return try #require(attributes[.posixPermissions] as? Int)
  }

  @Test func `Directory and files are the owner's alone`() throws {
    let directory = TemporaryDirectory()
    let nested = directory.path + "/a/b"
    let store = try LMDBHostStore<CheapHash>(at: nested)
    try store.create(try journalIdentity())
    #expect(try mode(directory.path) == 0o700)
    #expect(try mode(nested) == 0o700)
    for file in ["data.mdb", "lock.mdb", "writer.lock"] { #expect(try mode(nested + "/" + file) == 0o600) }
  }

  @Test func `A second writer is refused, in this process and in another`() throws {
    let test = try HostStoreUnderTest(.lmdb)
    let path = test.directory.path
    expect(.failed) { () throws(StoreError) in _ = try LMDBHostStore<CheapHash>(at: path) }
    expect(.failed) { () throws(StoreError) in _ = try LMDBHostStore<CheapHash>(readingAt: path) }
    test.close()
    // The lock is the open file description's, so this descriptor stands for another process.
    let other = open(path + "/writer.lock", O_RDWR)
    defer { close(other) }
    #expect(flock(other, LOCK_EX | LOCK_NB) == 0)
    #expect {
      try LMDBHostStore<CheapHash>(at: path)
    } throws: {
      $0 as? StoreError == .failed("\(path) is in use: another node writes to it")
    }
    #expect(flock(other, LOCK_UN) == 0)
    try test.reopen()
    #expect(try test.store.identity() != nil)
  }

  @Test func `A store is opened only as what it is`() throws {
    let host = try HostStoreUnderTest(.lmdb)
    host.close()
    let path = host.directory.path
    #expect {
      try LMDBServerStore<CheapHash>(at: path)
    } throws: {
      $0 as? StoreError
        == .failed("\(path) holds a host's store, not a server's: put each directory back to its place in node.data")
    }
  }

  /// What is there, what this program reads, that nothing was changed, and what to do.
  @Test(arguments: [1, 3] as [UInt8]) func `A store of another version is refused with words`(version: UInt8) throws {
    func refuse(_ directory: String, kind: UInt8, _ open: () throws -> Void) throws {
      try {
        let environment = try Environment(at: directory, .writing)
        let transaction = try environment.begin(.writing)
        let meta = try #require(try transaction.table("meta"))
        try transaction.put([kind, 0, 0, 0, version], at: Array("version".utf8), in: meta)
        try transaction.commit()
      }()
      let before = try Data(contentsOf: URL(filePath: directory + "/data.mdb"))
      #expect {
        try open()
      } throws: { error in
        guard case .failed(let text) = error as? StoreError else { return false }
        let words = [
          "\(directory) is a store of version \(version), from",
          version == 1 ? "an earlier release" : "a later release", "reads version 2", "changed nothing",
          "move \(directory) away and start",
          kind == 1 ? "a new journal begins" : "hosts deliver again",
        ]
        return words.allSatisfy { text.contains($0) }
      }
      #expect(try Data(contentsOf: URL(filePath: directory + "/data.mdb")) == before)
    }
    let host = try HostStoreUnderTest(.lmdb)
    host.close()
    try refuse(host.directory.path, kind: 1) { try host.reopen() }
    try refuse(host.directory.path, kind: 1) { _ = try LMDBHostStore<CheapHash>(readingAt: host.directory.path) }
    let server = try ServerStoreUnderTest(.lmdb)
    server.close()
    try refuse(server.directory.path, kind: 2) { try server.reopen() }
  }

  @Test func `What is not a store is not read as one`() throws {
    let directory = TemporaryDirectory()
    expect(.failed) { () throws(StoreError) in _ = try LMDBHostStore<CheapHash>(readingAt: directory.path) }
    try FileManager.default.createDirectory(atPath: directory.path, withIntermediateDirectories: true)
    expect(.failed) { () throws(StoreError) in _ = try LMDBHostStore<CheapHash>(readingAt: directory.path) }
    try Data(repeating: 7, count: 9000).write(to: URL(filePath: directory.path + "/data.mdb"))
    expect(.corrupt) { () throws(StoreError) in _ = try LMDBHostStore<CheapHash>(at: directory.path) }
  }

  @Test func `A copied folder is read, and not written`() throws {
    let test = try HostStoreUnderTest(.lmdb)
    _ = try test.store.commit(HostBatch { $0.records = [record(1), record(2)] })
    let copy = TemporaryDirectory()
    try FileManager.default.copyItem(atPath: test.directory.path, toPath: copy.path)
    let store = try LMDBHostStore<CheapHash>(readingAt: copy.path)
    #expect(try HostStoreContents(store) == HostStoreContents(test.store))
    expect(.failed) { () throws(StoreError) in _ = try store.commit(HostBatch { $0.records = [record(3)] }) }
    #expect(try store.length() == 2)
  }

  @Test(.enabled(if: PageCache.canBeDropped, "this file system keeps its pages"))
  func `P4: a start reads the store from the disk, not from the page cache`() throws {
    let directory = TemporaryDirectory()
    try {
      let environment = try Environment(at: directory.path, .writing)
      let transaction = try environment.begin(.writing)
      let table = try #require(try transaction.table("strings", creating: true))
      try transaction.put([UInt8](repeating: 7, count: 8 << 20), at: [1], in: table)
      try transaction.commit()
    }()
    let file = directory.path + "/data.mdb"
    #expect(try PageCache.residentBytes(of: file) >= 8 << 20)
    let environment = try Environment(at: directory.path, .writing)
    #expect(try PageCache.residentBytes(of: file) < 2 << 20)
    withExtendedLifetime(environment) {}
  }

  @Test func `P4: a full map refuses, changes nothing and passes`() throws {
    let directory = TemporaryDirectory()
    let environment = try Environment(at: directory.path, .writing, mapSize: 1 << 20)
    let store = try LMDBHostStore<CheapHash>(environment, .writing)
    try store.create(try journalIdentity())
    _ = try store.commit(HostBatch { $0.records = [record(1)] })
    let before = try HostStoreContents(store)
    let large = HostBatch { $0.records = (0..<40).map { record($0, size: 60_000) } }
    for _ in 0..<3 {
      expect(.full) { () throws(StoreError) in _ = try store.commit(large) }
      #expect(try HostStoreContents(store) == before)
    }
    #expect(try store.commit(HostBatch { $0.records = [record(2)] }).length == 2)
  }

  @Test func `P5: a flipped bit in any stored row is found, in its key or in its value`() throws {
    let key = stringKey(try host("web1"), 0xABCD_EF12_3456)
    let payload = record(77, size: 300)
    let batch = ServerBatch {
      $0.records = [run(key.key.host, [record(5, size: 50)])]
      $0.strings = [storedString(key, committed: 300, synced: 0)]
      $0.log = [logPayload(key, at: 0, payload)]
      $0.leaves = [ServerBatch.Leaves(key: key, first: 0, hashes: [digest(0x1234_5678_9ABC)])]
      $0.promises = [Promise(key: key.key, length: 900, root: digest(0x6543_2198_7654))]
      $0.cursors = [PeerCursor(peer: "a", cursor: FeedCursor(life: UUIDBytes(high: 1, low: 0x7777_1234), upTo: 3))]
    }
    let marks = StartMarks(present: StartMark(life: UUIDBytes(high: 2, low: 0x8888_1234), number: 4))
    func bytes(of value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
    let targets: [(what: String, bytes: [UInt8])] = [
      ("record", record(5, size: 50)), ("payload", payload), ("uuid in keys", bytes(of: key.key.file.bytes.high)),
      ("leaf", bytes(of: 0x1234_5678_9ABC)), ("promise", bytes(of: 0x6543_2198_7654)),
      ("row", Array("/var/log/a b".utf8)), ("identity", Array("version".utf8)),
      ("change", [2] + Array("web1\0".utf8)), ("feed", Array("feed".utf8)),
      ("epoch", bytes(of: 0x8888_1234) + bytes(of: 1)), ("cursor", bytes(of: 0x7777_1234) + bytes(of: 3)),
    ]
    for target in targets {
      let test = try ServerStoreUnderTest(.lmdb)
      try test.store.setStartMarks(marks)
      try test.store.commit(batch)
      test.close()
      try flipLastBit(of: target.bytes, in: test.directory.path + "/data.mdb")
      #expect("\(target.what)") {
        try test.reopen()
        _ = try ServerStoreContents(test.store, leaves: [key: 1], peers: ["a"])
      } throws: {
        ($0 as? StoreError)?.kind == .corrupt
      }
    }
  }

  /// A server's store of two files and a journal: changes 2, 3 and 1.
  private func changed() throws -> (test: ServerStoreUnderTest, keys: [StringKey]) {
    let test = try ServerStoreUnderTest(.lmdb)
    let web1 = try host("web1")
    let keys = [stringKey(web1, 1), stringKey(web1, 2)]
    try test.store.commit(
      ServerBatch {
        $0.records = [run(web1, [record(1)])]
        $0.strings = keys.map { storedString($0, committed: 4) }
      })
    return (test, keys)
  }

  /// Changes what a closed store has in a table.
  private func alter(
    _ test: ServerStoreUnderTest, _ table: String, _ change: (borrowing Transaction, Table) throws(StoreError) -> Void
  ) throws {
    test.close()
    try {
      let environment = try Environment(at: test.directory.path, .writing)
      let transaction = try environment.begin(.writing)
      try change(transaction, try #require(try transaction.table(table)))
      try transaction.commit()
    }()
    try test.reopen()
  }

  private func expectRefusal(
    _ subject: StoreSubject, _ location: SourceLocation = #_sourceLocation, _ body: () throws -> Void
  ) {
    #expect(sourceLocation: location) {
      try body()
    } throws: { error in
      guard case .refused(subject, .corrupt(let words)) = error as? StoreError else { return false }
      return words.contains("changed last with")
    }
  }

  @Test func `P5 M3: what changed last with a number that leads elsewhere is refused, the rest goes on`() throws {
    let (test, keys) = try changed()
    let journal = HostJournal(host: keys[0].key.host, journal: journalID(1))
    let (one, two) = (ServerTransaction.key(ofChange: 1), ServerTransaction.key(ofChange: 2))
    try alter(test, "changes") { transaction, table throws(StoreError) in
      try transaction.remove(one, from: table)
      // The first file's number leads to the second one.
      try transaction.put(encoded { $0.write(ChangedSubject.file(keys[1].key)) }, at: two, in: table)
    }
    let before = try test.store.strings()
    let records = run(journal.host, held: [record(1)], [record(2)])
    expectRefusal(.journal(records.after.key)) { try test.store.commit(ServerBatch { $0.records = [records] }) }
    expectRefusal(.string(keys[0])) {
      try test.store.commit(ServerBatch { $0.strings = keys.map { storedString($0, committed: 5) } })
    }
    // Who is named is in the batch.
    let branch = storedString(stringKey(journal.host, 1, 1), committed: 2)
    expectRefusal(.string(branch.key)) { try test.store.commit(ServerBatch { $0.strings = [branch] }) }
    #expect(try test.store.strings() == before)
    expect(.corrupt) { () throws(StoreError) in _ = try test.store.answer(.changes(after: 0, count: 9)) }
    try test.store.commit(ServerBatch { $0.strings = [storedString(keys[1], committed: 5)] })
    #expect(try test.store.answer(.changes(after: 2, count: 9)).changes.map(\.subject) == [.file(keys[1].key)])
  }

  @Test func `P5 M3: a change of what isn't held is damage, with words`() throws {
    for number in [4, 7] as [UInt64] {
      let (test, keys) = try changed()
      let unknown = [
        ChangedSubject.file(FileKey(host: keys[0].key.host, file: uuid(9))),
        .journal(HostJournal(host: keys[0].key.host, journal: journalID(9))),
      ]
      for subject in unknown {
        try alter(test, "changes") { transaction, table throws(StoreError) in
          try transaction.put(encoded { $0.write(subject) }, at: ServerTransaction.key(ofChange: number), in: table)
        }
        try alter(test, "meta") { transaction, table throws(StoreError) in
          try transaction.put(encoded { $0.write(number) }, at: Array("feed".utf8), in: table)
        }
        #expect {
          try test.store.answer(.changes(after: 3, count: 1))
        } throws: {
          $0 as? StoreError == .corrupt("change \(number) is about \(subject), of which nothing is held")
        }
      }
      #expect(try test.store.answer(.changes(after: 0, count: 3)).changes.count == 3)
    }
  }

  @Test func `P5 M3: a feed whose end isn't that of its changes is damage, with words`() throws {
    func expectDamage(_ change: (ServerStoreUnderTest) throws -> Void) throws {
      let (test, keys) = try changed()
      try change(test)
      let marks = StartMarks(present: StartMark(life: UUIDBytes(high: 1, low: 1), number: 1))
      let attempts: [() throws -> Void] = [
        { _ = try test.store.feed() },
        { _ = try test.store.answer(.changes(after: 0, count: 1)) },
        { try test.store.setStartMarks(marks) },
        { try test.store.commit(ServerBatch { $0.strings = [storedString(keys[0], committed: 5)] }) },
      ]
      for attempt in attempts {
        #expect {
          try attempt()
        } throws: { error in
          guard case .corrupt(let words) = error as? StoreError else { return false }
          return words.contains("the last change is")
        }
      }
      #expect(try test.store.startMarks() == nil)
      // What gives no number needs none.
      let promise = Promise(key: keys[0].key, length: 9, root: digest(9))
      try test.store.commit(ServerBatch { $0.promises = [promise] })
    }
    try expectDamage {
      try alter($0, "meta") { transaction, table throws(StoreError) in
        try transaction.remove(Array("feed".utf8), from: table)
      }
    }
    try expectDamage {
      try alter($0, "changes") { transaction, table throws(StoreError) in
        try transaction.remove(ServerTransaction.key(ofChange: 3), from: table)
      }
    }
  }

  @Test func `P5 M2: a damaged trie is made anew, and what is committed with it stays`() throws {
    let test = try ServerStoreUnderTest(.lmdb)
    let web1 = try host("web1")
    func files(_ numbers: ClosedRange<UInt64>) -> ServerBatch {
      ServerBatch {
        $0.strings = numbers.map { storedString(stringKey(web1, $0), committed: 7) }
        $0.folded = .max
      }
    }
    try test.store.commit(files(1...100))
    let before = try test.store.answer(.digest).digest
    try alter(test, "trie") { transaction, table throws(StoreError) in
      try transaction.put([1, 2, 3], at: encoded { $0.write(TriePrefix.root) }, in: table)
    }
    expect(.corrupt) { () throws(StoreError) in _ = try test.store.answer(.subtrie(.root)) }
    try test.store.commit(files(101...101))
    #expect(try test.store.answer(.rows([stringKey(web1, 101).key])).files.first?.row?.committed == 7)
    #expect(try test.store.answer(.digest).digest?.end == 0)
    try test.store.commit(files(1...1))
    let after = try test.store.answer(.digest).digest
    #expect(after?.end == 101 && after?.root != before?.root)
    guard case .inner? = try test.store.answer(.subtrie(.root)).subtrie else {
      Issue.record("no trie")
      return
    }
  }

  @Test func `K3: totals that can't be read are counted anew, and whole after the next commit`() throws {
    let test = try ServerStoreUnderTest(.lmdb)
    let web1 = try host("web1")
    let path = test.directory.path
    try test.store.commit(
      ServerBatch {
        $0.records = [run(web1, [record(1, size: 0xABC)])]
        $0.strings = [storedString(stringKey(web1, 1), committed: 7)]
        $0.promises = [Promise(key: FileKey(host: web1, file: uuid(1)), length: 9, root: digest(1))]
      })
    let whole = try test.store.totals()
    test.close()
    func sealed() throws -> [UInt8]? {
      let environment = try Environment(at: path, .writing)
      let transaction = try environment.begin(.writing)
      let table = try #require(try transaction.table("totals"))
      return try transaction.value(Array("web1\0".utf8), in: table)
    }
    try flipLastBit(of: try #require(try sealed()), in: path + "/data.mdb")
    #expect {
      try sealed()
    } throws: {
      ($0 as? StoreError)?.kind == .corrupt
    }
    try test.reopen()
    #expect(try test.store.totals() == whole)
    try test.store.commit(ServerBatch { $0.strings = [storedString(stringKey(web1, 2))] })
    #expect(try test.store.totals() == test.store.recount())
    test.close()
    #expect(try sealed() != nil)
  }

  /// Flips a bit in the last byte of every occurrence.
  private func flipLastBit(of pattern: [UInt8], in path: String) throws {
    var data = try Data(contentsOf: URL(filePath: path))
    var found = 0
    var start = data.startIndex
    while let range = data.range(of: Data(pattern), in: start..<data.endIndex) {
      data[range.upperBound - 1] ^= 0x10
      start = range.upperBound
      found += 1
    }
    try #require(found > 0)
    try data.write(to: URL(filePath: path))
  }

  @Test func `A reader on another thread sees the state before or after a commit`() async throws {
    let test = try HostStoreUnderTest(.lmdb)
    let store = test.store
    let last: UInt64 = 150
    func batch(_ generation: UInt64) -> HostBatch {
      HostBatch {
        $0.files = (0..<40).map { knownFile($0, length: generation) }
        $0.records = (0..<3).map { record($0 + Int(generation)) }
      }
    }
    _ = try store.commit(batch(0))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<2 {
        group.addTask {
          var seen: UInt64 = 0
          while seen < last {
            let generations = Set(try store.files().map(\.length))
            let generation = try #require(generations.first)
            #expect(generations.count == 1)
            #expect(generation >= seen)
            #expect(try store.length() >= (generation + 1) * 3)
            seen = generation
          }
        }
      }
      for generation in 1...last { _ = try store.commit(batch(generation)) }
      try await group.waitForAll()
    }
  }
}

/// mincore(2) over a whole file.
private enum PageCache {
  static func residentBytes(of path: String) throws -> Int {
    let descriptor = open(path, O_RDONLY)
    defer { close(descriptor) }
    let size = Int(lseek(descriptor, 0, SEEK_END))
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let map = try #require(mmap(nil, size, PROT_READ, MAP_SHARED, descriptor, 0))
    defer { munmap(map, size) }
    var pages = [UInt8](repeating: 0, count: (size + page - 1) / page)
    try #require(mincore(map, size, &pages) == 0)
    return pages.count { $0 & 1 == 1 } * page
  }

  static let canBeDropped: Bool = {
    let directory = TemporaryDirectory()
    let path = directory.path + "/scratch"
    guard mkdir(directory.path, 0o700) == 0 else { return false }
    let descriptor = open(path, O_RDWR | O_CREAT, 0o600)
    defer { close(descriptor) }
    let bytes = [UInt8](repeating: 1, count: 1 << 20)
    guard write(descriptor, bytes, bytes.count) == bytes.count, fsync(descriptor) == 0 else { return false }
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
    return (try? residentBytes(of: path)) == 0
  }()
}
