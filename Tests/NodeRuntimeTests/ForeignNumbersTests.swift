import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
import Testing

@testable import NodeRuntime

/// What hosts, peers and stores wrote is shown whatever the numbers are: nothing that is done with them traps or wraps.
@Suite struct ForeignNumbersTests {
  static let numbers: [UInt64] = [
    0, 1, 1 << 31, 1 << 32, 1 << 53, UInt64(Int64.max) - 1, UInt64(Int64.max), 1 << 63, .max - 1, .max,
  ]
  static let lengths = numbers.filter { $0 <= UInt64(Int64.max) }
  static let times: [Int64] = [.min, .min + 1, -1_000_000_001, -1_000_000_000, -1, 0, 1, .max - 1, .max]

  static func uuid(_ number: Int) -> FileUUID { FileUUID(UUIDBytes(high: 7, low: UInt64(number))) }

  /// Every kind of record with every extreme number in each place that takes one.
  static func records(_ host: HostName, _ journal: JournalID) -> [[UInt8]] {
    let root = Digest(words: 1, 2, 3, 4)
    let path = BytePath("/a")
    var bodies: [RecordBody] = [
      .journalOpened(
        JournalOpened(
          host: host, journal: journal, publicKey: root,
          binding: .journalKey(signature: [UInt8](repeating: 1, count: 64)), gapSince: WallTime(nanoseconds: .min)))
    ]
    for (index, length) in lengths.enumerated() {
      for time in times {
        bodies.append(
          .fileBorn(
            FileBorn(
              file: uuid(index),
              identity: InodeIdentity(number: .max, generation: .max, birth: WallTime(nanoseconds: time)),
              isDerived: true, path: path, realPath: path, mode: .max, owner: .max, group: .max,
              born: WallTime(nanoseconds: time), modified: WallTime(nanoseconds: time),
              parent: Parent(file: uuid(index), length: length, root: root, why: .rewound))))
      }
      if length > 0 {
        bodies.append(.bytesAppended(BytesAppended(file: uuid(index), offset: 0, length: length, root: root)))
        bodies.append(
          .bytesAppended(
            BytesAppended(file: uuid(index), offset: UInt64(Int64.max) - length, length: length, root: root)))
      }
      bodies.append(.fileClosed(FileClosed(file: uuid(index), length: length, root: root, reason: .deleted)))
      bodies.append(
        .gap(
          Gap(
            subject: .file(uuid(index)), lower: length, upper: .max, reason: .unreadable, provenLength: length,
            provenRoot: root)))
    }
    return bodies.enumerated().map { Record(time: WallTime(nanoseconds: times[$0 % times.count]), body: $1).encoded() }
  }

  private static func host(_ folder: DataFolder) throws {
    let host = try #require(HostName("web1"))
    let root = Digest(words: 1, 2, 3, 4)
    let journal = JournalID(UUIDBytes(high: 1, low: 2))
    let store = try LMDBHostStore<SHA256Tree>(at: folder.hostStore)
    try store.create(JournalIdentity(host: host, journal: journal, publicKey: root))
    var batch = HostBatch()
    batch.records = records(host, journal)
    for (index, number) in numbers.enumerated() {
      for (position, time) in times.enumerated() {
        let identity = InodeIdentity(number: number, generation: number, birth: WallTime(nanoseconds: time))
        batch.files.append(
          KnownFile(
            file: uuid(index * times.count + position), inode: InodeKey(filesystem: number, identity: identity),
            isDerived: true, path: BytePath("/a"), born: WallTime(nanoseconds: time), length: number, root: root,
            tail: root, size: number, modified: WallTime(nanoseconds: time), closed: .deleted, gapFrom: number))
        batch.delivered.append(
          Delivered(server: "logs-a", file: uuid(index * times.count + position), length: number))
      }
    }
    _ = try store.commit(batch)
  }

  private static func server(_ folder: DataFolder) throws {
    let host = try #require(HostName("web1"))
    let root = Digest(words: 1, 2, 3, 4)
    let store = try LMDBServerStore<SHA256Tree>(at: folder.serverStore)
    var batch = ServerBatch()
    for (index, number) in numbers.enumerated() {
      for (position, time) in times.enumerated() {
        let key = StringKey(key: FileKey(host: host, file: uuid(index * times.count + position)), string: 0)
        batch.strings.append(
          StoredString(
            key: key, identity: InodeIdentity(number: number, generation: nil, birth: nil), isDerived: false,
            path: BytePath("/a"), born: WallTime(nanoseconds: time), received: WallTime(nanoseconds: time),
            parent: Parent(file: key.key.file, length: number, root: root, why: .truncated), committed: number,
            root: root, synced: number, stored: BytePath("files/x\(index).\(position)"), recorded: number,
            closed: .deleted,
            gap: StoredGap(lower: number, upper: number)))
      }
    }
    try store.commit(batch)
  }

  @Test(arguments: [host, server]) func inspectionShowsAnyNumber(fill: @Sendable (DataFolder) throws -> Void) throws {
    let directory = try TemporaryDirectory()
    let folder = DataFolder(path: directory.path)
    try fill(folder)
    let inspection = try Inspection(data: folder, logs: nil, destinations: ["logs-a"])
    let files = try inspection.files()
    #expect(files.count == Self.numbers.count * Self.times.count || files.isEmpty)
    for file in files { _ = try JSON.line(file) }
    _ = InspectionText.files(files)
    let hosts = try inspection.hosts()
    #expect(hosts.allSatisfy { $0.length == .max })
    for host in hosts { _ = try JSON.line(host) }
    _ = InspectionText.hosts(hosts)
    for journal in try inspection.journals() {
      try inspection.forEachRecord(of: journal) { number, record in
        let event = InspectedEvent(journal, number, record)
        #expect(!event.detail.contains("\n"))
        _ = try JSON.line(event)
      }
    }
    try inspection.complain()
  }

  @Test(arguments: times) func anyTimeHasAText(time: Int64) throws {
    let text = WallTime(nanoseconds: time).rfc3339Nanoseconds
    #expect(text.hasSuffix("Z") && text.utf8.count == 30)
  }

  @Test func timesAreRoundedDown() {
    #expect(WallTime(nanoseconds: .min).rfc3339Nanoseconds == "1677-09-21T00:12:43.145224192Z")
    #expect(WallTime(nanoseconds: -1).rfc3339Nanoseconds == "1969-12-31T23:59:59.999999999Z")
    #expect(WallTime(nanoseconds: -1_000_000_000).rfc3339 == "1969-12-31T23:59:59.000Z")
    #expect(WallTime(nanoseconds: .max).rfc3339Nanoseconds == "2262-04-11T23:47:16.854775807Z")
  }

  @Test(arguments: numbers) func statusShowsAnyNumber(number: UInt64) throws {
    var status = fullStatus()
    for seconds in [Double(number), -Double(number), .infinity, -.infinity, .nan] {
      status.servers = [
        .init(
          name: "a", address: "h:1", connected: true, lagBytes: number, lagEvents: number, lagSeconds: seconds,
          refusals: number)
      ]
      status.hosts = [.init(name: "w", connected: true, lastSeen: nil, files: .max, bytes: number)]
      status.files = .init(followed: .max, open: .max, held: .max, heldBytes: number)
      status.gaps = [.init(host: "w", file: nil, path: nil, from: number, to: number, reason: "r")]
      status.gapCount = .max
      status.waitingCount = .max
      status.sentBytes = number
      status.receivedBytes = number
      status.refusals = number
      status.journalRecords = number
      status.uptimeSeconds = Double(number)
      _ = StatusText(status).text
      _ = StatusMetrics.text(status)
      _ = StatusPage.html(status)
      _ = SettleVerdict(
        SettleResult(
          reached: false,
          unsettled: [.init(server: nil, file: nil, path: nil, noted: number, durable: .max, reason: nil)],
          status: status), allowGaps: false)
    }
  }
}
