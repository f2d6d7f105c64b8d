import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
import Testing

@testable import NodeRuntime

@Suite struct InspectionTests {
  static let file = FileUUID(UUIDBytes(high: 0x0123_4567_89AB_8DEF, low: 0x8123_4567_89AB_CDEF))
  static let inode = InodeKey(
    filesystem: 1, identity: InodeIdentity(number: 12, generation: 3, birth: WallTime(nanoseconds: 5)))
  static let root = Digest(words: 1, 2, 3, 4)
  static let path = BytePath(Array("/var/log/a\n.log".utf8))

  static func records(_ host: HostName, _ journal: JournalID) -> [[UInt8]] {
    let bodies: [RecordBody] = [
      .journalOpened(
        JournalOpened(
          host: host, journal: journal, publicKey: root,
          binding: .journalKey(signature: [UInt8](repeating: 1, count: 64)))),
      .fileBorn(
        FileBorn(
          file: file, identity: inode.identity, isDerived: true, path: path, realPath: path, mode: 0o100644, owner: 0,
          group: 0, born: WallTime(nanoseconds: 5), modified: WallTime(nanoseconds: 6),
          parent: Parent(file: file, length: 9, root: root, why: .truncated))),
      .bytesAppended(BytesAppended(file: file, offset: 0, length: 7, root: root)),
      .gap(
        Gap(subject: .file(file), lower: 3, upper: 7, reason: .truncated, provenLength: 3, provenRoot: root)),
      .fileClosed(FileClosed(file: file, length: 7, root: root, reason: .deleted)),
    ]
    return bodies.enumerated().map { Record(time: WallTime(nanoseconds: Int64($0)), body: $1).encoded() }
  }

  /// A host's data folder with one closed file; the store is closed again.
  static func makeHost(_ folder: DataFolder) throws {
    let host = try #require(HostName("web1"))
    let journal = JournalID(UUIDBytes(high: 1, low: 2))
    let store = try LMDBHostStore<SHA256Tree>(at: folder.hostStore)
    try store.create(JournalIdentity(host: host, journal: journal, publicKey: root))
    var batch = HostBatch()
    batch.records = records(host, journal)
    batch.files = [
      KnownFile(
        file: file, inode: inode, isDerived: true, path: path, born: WallTime(nanoseconds: 5), length: 7, root: root,
        tail: root, size: 7, modified: WallTime(nanoseconds: 6), closed: .deleted, gapFrom: 3)
    ]
    batch.delivered = [Delivered(server: "logs-a", file: file, length: 4)]
    _ = try store.commit(batch)
  }

  @Test func filesOfAHostSayWhatEachServerHas() throws {
    let directory = try TemporaryDirectory()
    let folder = DataFolder(path: directory.path)
    try Self.makeHost(folder)
    let inspection = try Inspection(data: folder, logs: nil, destinations: ["logs-a", "logs-b"])
    let row = try #require(try inspection.files().first)
    #expect(row.file == Self.file.text && row.host == "web1" && row.role == "host" && row.derived)
    #expect(row.path == "/var/log/a%0A.log")
    #expect(row.durable == .noted(["logs-a": 4, "logs-b": 0]))
    #expect(row.length == 7 && row.root == Self.root.hex && row.gapFrom == 3)
    #expect(row.reason == "deleted" && row.closed == "1970-01-01T00:00:00.000Z")
    #expect(row.parent?.length == 9 && row.parent?.why == "truncated")
    #expect(row.identity.inode == 12 && row.identity.generation == 3)
    #expect(row.identity.birth == "1970-01-01T00:00:00.000000005Z")
  }

  @Test func theOverviewSaysWhatIsHereD25() throws {
    let directory = try TemporaryDirectory()
    let folder = DataFolder(path: directory.path)
    try Self.makeHost(folder)
    let overview = try Inspection(data: folder, logs: nil, destinations: []).overview(name: nil)
    #expect(overview.name == "web1" && overview.roles == ["host"] && overview.hosts == 1)
    #expect(overview.files == 1 && overview.open == 0 && overview.length == 7 && overview.durable == nil)
    #expect(overview.gaps == 1)
    #expect(overview.journals.map(\.records) == [5] && overview.journals[0].root?.count == 64)
    let object = try StatusFieldTests.object(overview)
    for field in ["name", "roles", "hosts", "journals", "files", "open", "length", "durable", "gaps"] {
      #expect(object[field] != nil, "\(field)")
    }
    let text = InspectionText.overview(overview)
    #expect(text.hasPrefix("web1 (host): 1 host, 1 file, 0 open\nbytes: 7 journaled\n1 file with gaps"))
  }

  @Test func eventsComeInOrderWithTheirNumbers() throws {
    let directory = try TemporaryDirectory()
    let folder = DataFolder(path: directory.path)
    try Self.makeHost(folder)
    let inspection = try Inspection(data: folder, logs: nil, destinations: [])
    var events: [InspectedEvent] = []
    for journal in try inspection.journals() {
      try inspection.forEachRecord(of: journal) { events.append(InspectedEvent(journal, $0, $1)) }
    }
    #expect(events.map(\.type) == ["journal-opened", "file-born", "bytes-appended", "gap", "file-closed"])
    #expect(events.map(\.record) == [0, 1, 2, 3, 4])
    #expect(events.allSatisfy { !$0.detail.contains("\n") })
    #expect(events[3].offset == 3 && events[3].end == 7 && events[3].reason == "truncated")
  }

  @Test func hostsAreFilteredByName() throws {
    let directory = try TemporaryDirectory()
    let folder = DataFolder(path: directory.path)
    try Self.makeHost(folder)
    let inspection = try Inspection(data: folder, logs: nil, destinations: [])
    #expect(try inspection.hosts().map(\.host) == ["web1"])
    #expect(try inspection.hosts().first?.journals.first?.records == 5)
    #expect(try inspection.files(of: HostName("web2")).isEmpty)
    #expect(try inspection.hosts(of: HostName("web2")).isEmpty)
  }

  @Test func anEmptyFolderIsAnErrorThatSaysSo() throws {
    let directory = try TemporaryDirectory()
    #expect(throws: Inspection.Failure.self) {
      _ = try Inspection(data: DataFolder(path: directory.path), logs: nil, destinations: [])
    }
  }
}

@Suite struct CheckTests {
  @Test func directoriesThatPatternsReachAreCountedOnce() throws {
    let directory = try TemporaryDirectory()
    let base = directory.path
    #expect(WatchLimits.directories(of: ["\(base)/*.log", "\(base)/syslog*"]) == 1)
    #expect(WatchLimits.directories(of: ["\(base)/**/*.log", "\(base)/*.log"]) == 1)
    #expect(WatchLimits.directories(of: ["\(base)/missing/*.log"]) == 1)
    #expect(WatchLimits.directories(of: ["\(base)/missing/**/*.log"]) == 0)
  }

  @Test func missingKeysAndUnmakeableDirectoriesFail() throws {
    let directory = try TemporaryDirectory()
    let text = """
      node: { name: web1, data: /proc/nowhere/data }
      tls: { certificate: a.crt, key: a.key, authorities: ca.crt }
      host:
        follow: [ { include: [ "\(directory.path)/*.log", "/proc/nowhere/*.log" ] } ]
        servers: [ { name: a, address: "127.0.0.1:1" } ]
      """
    var findings: [Finding] = []
    NodeCheck(try parse(text, file: directory.path + "/node.yaml")).run(offline: true) { findings.append($0) }
    func grade(_ subject: String) -> [Finding.Grade] { findings.filter { $0.subject == subject }.map(\.grade) }
    #expect(grade("configuration") == [.ok])
    #expect(grade("keys") == [.fail])
    // Two patterns without rotated names, one base that is there and one that isn't.
    #expect(grade("host.follow") == [.warn, .warn, .ok, .warn])
    #expect(grade("inotify").count >= 1)
    #expect(findings.allSatisfy { !$0.description.contains("\n") })
  }

  @Test(arguments: [("*.log", 1), ("*.log*", 0), ("*.log\", \"%@/*.log.[0-9]", 0), ("**", 0), ("syslog", 1)])
  func patternsThatMissRotatedNamesAreShown(pattern: String, count: Int) throws {
    let directory = try TemporaryDirectory()
    let patterns = "\"\(directory.path)/\(pattern.replacing("%@", with: directory.path))\""
    let text = """
      node: { name: web1, data: data }
      tls: { certificate: a.crt, key: a.key, authorities: ca.crt }
      host:
        follow: [ { include: [ \(patterns) ] } ]
        servers: [ { name: a, address: "127.0.0.1:1" } ]
      """
    var findings: [Finding] = []
    NodeCheck(try parse(text, file: directory.path + "/node.yaml")).run(offline: true) { findings.append($0) }
    #expect(findings.count { $0.message.contains("rotated names") } == count)
  }

  @Test func whatItMadeItAccepts() throws {
    let directory = try TemporaryDirectory()
    let keys = directory.path + "/keys"
    _ = try Keys.makeAuthority(in: keys)
    _ = try Keys.issue(from: keys, name: "web1", roles: ["host"], hosts: [], addresses: [], into: keys)
    #expect(throws: (any Error).self) {
      try Keys.issue(from: keys, name: "web2", roles: ["hots"], hosts: [], addresses: [], into: keys)
    }
    func grades(_ name: String, _ role: String) throws -> [Finding] {
      let text = """
        node: { name: \(name), data: data }
        tls: { certificate: keys/web1.crt, key: keys/web1.key, authorities: keys/ca.crt }
        \(role)
        """
      var findings: [Finding] = []
      NodeCheck(try parse(text, file: directory.path + "/node.yaml")).run(offline: true) { findings.append($0) }
      return findings.filter { $0.subject == "keys" }
    }
    let host = "host: { follow: [ { include: [ /log/* ] } ], servers: [ { name: a, address: 'h:1' } ] }"
    #expect(try grades("web1", host).map(\.grade) == [.ok])
    #expect(try grades("web2", host).first?.message.contains("is for web1, and node.name is web2") == true)
    #expect(try grades("web1", "server: { listen: 'h:1' }").map(\.grade) == [.fail])
  }
}
