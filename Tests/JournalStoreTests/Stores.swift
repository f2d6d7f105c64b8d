import Foundation
import JournalModel
import JournalStore
import LMDBStore
import Testing

/// The implementations that the conformance suites are held over.
enum Backend: CaseIterable, Sendable {
  case memory, lmdb
}

/// A directory for one test, removed with it.
final class TemporaryDirectory: Sendable {
  let path = NSTemporaryDirectory() + "stores-" + UUID().uuidString
  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// A host's store that can be closed and opened again.
final class HostStoreUnderTest {
  private let backend: Backend
  let directory = TemporaryDirectory()
  private var memory = InMemoryHostStore<CheapHash>()
  private var lmdb: LMDBHostStore<CheapHash>?

  init(_ backend: Backend, created: Bool = true) throws {
    self.backend = backend
    try reopen()
    if created { try store.create(try journalIdentity()) }
  }

  var store: any HostJournalStore { lmdb ?? memory }

  func reopen() throws {
    switch backend {
    case .memory: memory = InMemoryHostStore(state: memory.snapshot())
    case .lmdb:
      lmdb = nil
      lmdb = try LMDBHostStore(at: directory.path)
    }
  }

  func close() { lmdb = nil }
}

/// A server's store that can be closed and opened again.
final class ServerStoreUnderTest {
  private let backend: Backend
  let directory = TemporaryDirectory()
  private var memory = InMemoryServerStore<CheapHash>()
  private var lmdb: LMDBServerStore<CheapHash>?

  init(_ backend: Backend) throws {
    self.backend = backend
    try reopen()
  }

  /// One with the same contents, which goes its own way from here on.
  init(copyOf other: ServerStoreUnderTest) throws {
    backend = other.backend
    memory = InMemoryServerStore(state: other.memory.snapshot())
    if backend == .lmdb { try FileManager.default.copyItem(atPath: other.directory.path, toPath: directory.path) }
    try reopen()
  }

  var store: any ServerHoldingsStore { lmdb ?? memory }

  /// Of no life until `begin` is called again.
  func reopen() throws {
    switch backend {
    case .memory: memory = InMemoryServerStore(state: memory.snapshot())
    case .lmdb:
      lmdb = nil
      lmdb = try LMDBServerStore(at: directory.path)
    }
  }

  func close() { lmdb = nil }
}

/// All that a host's store says, to compare two of them.
struct HostStoreContents: Equatable {
  var identity: JournalIdentity?
  var records: [[UInt8]]
  var roots: [Digest]
  var files: [KnownFile]
  var leaves: [[Digest]]
  var delivered: [[FileUUID: UInt64]]
  var living: [StoredFile]
  /// What inodes and paths of files lead to, and files by themselves (K1, K6).
  var found: HostAnswer
  var loaded: [StoredFile]
  /// Of each server, three at a time: what it isn't noted to have of files that ended.
  var lacked: [[StoredFile]] = []
  var haveEnded: [Bool]
  var former: [String]

  init(_ store: any HostJournalStore, leaves counts: [FileUUID: UInt64] = [:], servers: [String] = []) throws {
    identity = try store.identity()
    let length = try store.length()
    records = try store.records(from: 0, count: .max, bytes: .max)
    #expect(UInt64(records.count) == length)
    roots = try [length, length / 2, length * 7 / 8].map { try store.root(at: $0) }
    files = try store.files()
    leaves = try counts.sorted { $0.key < $1.key }.map { try store.leaves(of: $0.key, count: $0.value) }
    delivered = try servers.map { try store.delivered(to: $0) }
    living = try store.living(servers: servers)
    #expect(living.map(\.row) == files.filter(\.isLiving))
    loaded = try store.answer(.files(files.map(\.file)), servers: servers).files
    #expect(loaded.map(\.row) == files)
    let inodes = files.map { NewInode(inode: $0.inode, path: $0.path, derived: $0.file) }
    found = try store.answer(.inodes(inodes), servers: servers)
    #expect(Set(found.files) == Set(loaded.filter(\.row.mayComeBack)))
    haveEnded = try store.start(servers: servers).haveEnded
    former = try store.start(servers: []).former
    for server in servers {
      var (after, rows): (FileUUID?, [StoredFile]) = (nil, [])
      repeat {
        let answer = try store.answer(.ended(after: after, server: server, examined: 3), servers: servers)
        rows += answer.files
        after = answer.last
      } while after != nil
      lacked.append(rows)
      let standing = Set(try store.gaps().compactMap(\.file))
      let expected = loaded.filter { file in
        let noted = file.delivered[servers.firstIndex(of: server)!]
        let gap = standing.contains(file.row.file) ? file.row.gapFrom : nil
        return file.row.closed != nil && noted < min(file.row.length, gap ?? .max)
      }
      #expect(rows.map(\.row.file) == expected.map(\.row.file))
    }
    for (server, held) in zip(servers, delivered) {
      for file in files { #expect(try store.delivered(to: server, of: file.file) == held[file.file]) }
    }
    // Each store counts its own commits.
    found.number = 0
  }
}

/// All that a server's store says.
struct ServerStoreContents: Equatable {
  var marks: StartMarks?
  var journals: [HeldJournal]
  var records: [[[UInt8]]]
  var heads: [[TreeHead]] = []
  var beginnings: [[JournalBeginning]] = []
  var checkpoints: [Checkpoint?] = []
  var strings: [StoredString]
  var promises: [Promise]
  var ranges: [LogRange]
  var payload: [[UInt8]]
  var leaves: [[Digest]]
  var owned: [[FileUUID]]
  var totals: [HostName: HostTotals]
  /// As they are loaded, and as their keys are listed, three at a time (K1).
  var loaded: [LoadedFile]
  var keys: [FileKey] = []
  var newest: [StoredString?]
  var feed: Feed
  /// Three at a time (M3).
  var changes: [Change] = []
  var cursors: [FeedCursor?]

  init(
    _ store: any ServerHoldingsStore, leaves counts: [StringKey: UInt64] = [:], peers: [String] = []
  ) throws {
    marks = try store.startMarks()
    journals = try store.journals()
    records = try journals.map { try store.records(of: $0.key, from: 0, count: .max, bytes: .max) }
    for row in journals {
      heads.append(try store.answer(.heads(row.key.journal, upTo: .max)).heads)
      for length in [0, row.start, row.length / 2, row.length] {
        beginnings.append(try store.answer(.beginnings(row.key.journal, length: length)).beginnings)
        checkpoints.append(try store.checkpoint(of: row.key, beyond: length))
      }
    }
    strings = try store.strings()
    promises = try store.promises()
    ranges = try store.logRanges()
    payload = try ranges.map { try store.logPayload(of: $0.key, offset: $0.offset) }
    leaves = try counts.sorted { $0.key < $1.key }.map { try store.leaves(of: $0.key, count: $0.value) }
    owned = try strings.map { try store.files(host: $0.key.key.host, identity: $0.identity) }
    totals = try store.totals()
    loaded = try store.answer(.files(strings.map(\.key.key), promises: 3)).files
    for _ in strings {
      keys += try store.answer(.keys(after: keys.last, count: 3)).files.map(\.key)
    }
    newest = try Set(strings.map(\.key.key.host)).sorted().map { try store.newest(host: $0, latest: BytePath("a")) }
    #expect(try totals == store.recount())
    feed = try store.feed()
    while true {
      let answer = try store.answer(.changes(after: changes.last?.number ?? 0, count: 3))
      #expect(answer.feed == feed)
      if answer.changes.isEmpty { break }
      changes += answer.changes
    }
    cursors = try peers.map { try store.cursor(of: $0) }
  }
}
