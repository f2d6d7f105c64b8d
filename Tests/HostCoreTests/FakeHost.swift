import DataPlane
import HostCore
import JournalModel
import JournalStore
import MerkleLog
import Testing
import WireProtocol

/// One host's machine in a world where every effect is performed at once: file system, data plane, store and servers in
/// memory, time only where a test moves it. Checks J1 and the port's rules at every effect.
final class FakeHost {
  let files: FakeFileSystem
  let servers: [FakeServer]
  let settings: HostSettings
  let store: InMemoryHostStore<CheapHash>
  private var machine: HostMachine<CheapHash>
  private(set) var now: Instant
  private var random = SeededNumbers(seed: 1)

  // The data plane.
  private struct Attachment {
    var file: FileUUID
    var inode: InodeKey
    var path: BytePath
    var isPinned = false
    var descriptor: FakeFileSystem.Inode?
    var ingestor: Ingestor<CheapHash>
  }
  private var attached: [FileID: Attachment] = [:]
  /// Descriptors are closed whenever they may be.
  var hasFewDescriptors = false
  /// Leases are refused (no CAP_LEASE).
  var hasNoLeases = false

  // Connections.
  private var connections: [ConnectionID: Int] = [:]
  private var everConnected: [ConnectionID: Int] = [:]
  func connection(to server: Int) -> ConnectionID? { connections.first { $0.value == server }?.key }
  func server(of id: ConnectionID) -> Int? { everConnected[id] }
  private var nextConnection: UInt64 = 0

  // What a test looks at, and what it holds back.
  private(set) var reports: [HostReport] = []
  private(set) var effects: [HostEffect] = []
  private(set) var settled: [UInt64] = []
  /// What the store had noted of each server's files when a settlement was announced.
  private(set) var notedWhenSettled: [[UInt64]] = []
  /// How many gaps stood then.
  private(set) var gapsWhenSettled = 0
  private(set) var steps = 0
  /// The process is killed after so many steps.
  private let stopAfter: Int
  var holdsCommits = false
  private(set) var heldCommits: [HostBatch] = []
  var failsCommits: StoreError?
  /// What the store was asked, and what goes wrong with it.
  private(set) var queries: [HostQuery] = []
  var failsLoads: StoreError?
  /// The next so many questions are answered from the store as it was before its first commit.
  var olderAnswers = 0
  /// Files that the store refuses.
  var poisoned: Set<FileUUID> = []
  private(set) var refusals = 0
  /// Inputs that a test withholds: true to withhold.
  var withholds: (HostInput) -> Bool = { _ in false }
  private(set) var withheld: [HostInput] = []
  /// Runs before a listing is answered.
  var beforeListing: ((BytePath) -> Void)?
  /// Runs before writers are looked for.
  var beforeProbe: (() -> Void)?
  private var inbox: [HostInput] = []
  private var committed: UInt64 = 0
  private var readsUnderWay: Set<FileID> = []

  static let leafSize = 64
  static func limits() -> Limits {
    var limits = Limits()
    limits.leafSize = leafSize
    limits.extentSize = 256
    limits.payloadFrameSize = 50
    limits.tailSize = 16
    limits.recordsPerFrame = 4
    limits.recordWindow = 16
    limits.resumePage = 3
    return limits
  }

  init(
    _ files: FakeFileSystem, servers: [FakeServer], include: [String] = ["/log/**/*.log*"], exclude: [String] = [],
    excluded: Set<InodeKey> = [], followsAnyLink: Bool = false, limits: Limits = limits(),
    after earlier: FakeHost? = nil, mostHeld: Int = .max, stopAfter: Int = .max
  ) throws {
    self.files = files
    self.servers = servers
    self.stopAfter = stopAfter
    guard let host = HostName("web1") else { preconditionFailure() }
    let identity = JournalIdentity(
      host: host, journal: JournalID(UUIDBytes(high: 7, low: 7)), publicKey: Digest(words: 1, 2, 3, 4))
    settings = HostSettings(
      host: host, journal: identity.journal, publicKey: identity.publicKey, servers: servers.map(\.name),
      follow: [
        FollowRule(
          include: include.map { BytePath($0) }, exclude: exclude.map { BytePath($0) }, followsAnyLink: followsAnyLink)
      ],
      excluded: excluded, limits: limits, mostHeld: mostHeld)
    if let earlier {
      store = InMemoryHostStore(state: earlier.store.snapshot())
      now = earlier.now
      random = earlier.random
      nextConnection = earlier.nextConnection
      for server in servers { server.hangUp() }
      files.watches = []
      _ = files.takeHints()
    } else {
      store = InMemoryHostStore()
      now = Instant(nanoseconds: 1_000_000_000)
      try store.create(identity)
      let opened = JournalOpened(
        host: host, journal: identity.journal, publicKey: identity.publicKey,
        binding: .journalKey(signature: [UInt8](repeating: 1, count: 64)))
      var batch = HostBatch()
      batch.records = [Record(time: WallTime(nanoseconds: 0), body: .journalOpened(opened)).encoded()]
      _ = try store.commit(batch)
    }
    machine = HostMachine(settings: settings)
    committed = try store.length()
    give(.started(try store.start(servers: servers.map(\.name))))
  }

  var status: HostStatus { machine.status }

  // MARK: Driving

  func give(_ input: HostInput) {
    inbox.append(input)
    run()
  }

  /// Until nothing more happens by itself.
  func run() {
    while true {
      while !inbox.isEmpty {
        let input = inbox.removeFirst()
        if withholds(input) { withheld.append(input) } else { step(input) }
      }
      inbox += files.takeHints().map { .hinted($0) }
      if inbox.isEmpty { return }
    }
  }

  func releaseWithheld() {
    withholds = { _ in false }
    inbox += withheld
    withheld = []
    run()
  }

  /// Lets time pass, deadline by deadline.
  func pass(_ interval: Interval) {
    run()
    let end = now + interval
    var ticks = 0
    while let due = machine.nextDeadline, due <= end {
      ticks += 1
      guard ticks < 100_000 else {
        Issue.record("ticks without end")
        return
      }
      now = max(now, due)
      giveUp()
      give(.tick)
    }
    now = end
    run()
  }

  private func step(_ input: HostInput) {
    steps += 1
    guard steps <= stopAfter else { return }
    guard steps < 2_000_000 else {
      Issue.record("steps without end")
      return
    }
    var new: [HostEffect] = []
    machine.step(input, at: now, wall: WallTime(nanoseconds: Int64(now.nanoseconds)), into: &new)
    effects += new
    for effect in new { perform(effect) }
  }

  // MARK: Effects

  /// Nothing below this path is answered; `hangsWhenSending`: no read for a server.
  var hangs: String?
  var hangsWhenSending = false
  private var hung: [(effect: HostEffect, since: Instant)] = []

  func heal() {
    hangs = nil
    let effects = hung
    hung = []
    for (effect, _) in effects { perform(effect) }
    run()
  }

  /// Whoever asked for bytes or a root is told that they don't come.
  private func giveUp() {
    let limit = settings.limits.hungAfter
    hung.removeAll { asked in
      guard asked.since + limit <= now else { return false }
      switch asked.effect {
      case .sendPayload(let connection, let id, _), .computeRoot(let connection, let id, _):
        inbox.append(.unanswered(connection, id))
        return true
      default: return false
      }
    }
    run()
  }

  private func isHung(_ effect: HostEffect) -> Bool {
    guard let hangs else { return false }
    if hangsWhenSending {
      switch effect {
      case .sendPayload, .computeRoot: break
      default: return false
      }
    }
    let path: BytePath? =
      switch effect {
      case .watch(let directory, _, _), .list(let directory, _): directory
      case .ingest(let id, _, _, _), .probeWriters(let id), .computeRoot(_, let id, _), .sendPayload(_, let id, _):
        attached[id]?.path
      default: nil
      }
    return path.map { text($0).hasPrefix(hangs) } ?? false
  }

  private func perform(_ effect: HostEffect) {
    guard !isHung(effect) else { return hung.append((effect, now)) }
    switch effect {
    case .watch(let directory, _, let known):
      if !files.refusesWatches, let real = files.resolve(text(directory)), real == text(directory) {
        files.watches.insert(real)
      }
      list(directory, names: nil, known: known)
    case .unwatch(let directory): files.watches.remove(text(directory))
    case .list(let directory, let names): list(directory, names: names)
    case .attach, .relocate, .reborn, .release, .ingest, .probeWriters, .computeRoot: performOnFile(effect)
    case .commit(let batch): commit(batch)
    case .load(let id, let query): load(id, query)
    case .connect(let server): connect(server)
    case .disconnect(let id, _): hangUp(id)
    case .send(let id, let frame): exchange(id) { $0.receive(frame) }
    case .sendRecords(let id, let first, let upTo): sendRecords(id, first, upTo)
    case .sendPayload(let id, let file, let header): sendPayload(id, file, header)
    case .verifyHeads(let id, let heads):
      let own = heads.filter { (try? store.root(at: $0.length)) == $0.root }
      inbox.append(.headsVerified(id, own.max { $0.length < $1.length }))
    case .halt: break
    case .settled(let token):
      settled.append(token)
      gapsWhenSettled = (try? store.gaps().count) ?? 0
      notedWhenSettled = machine.settings.servers.map { name in
        ((try? store.delivered(to: name)) ?? [:]).values.sorted()
      }
    case .report(let report): reports.append(report)
    }
  }

  private func list(_ directory: BytePath, names: [[UInt8]]?, known: KnownDirectory? = nil) {
    beforeListing?(directory)
    inbox.append(.listed(files.listing(of: directory, names: names, known: known, random: &random)))
  }

  private func performOnFile(_ effect: HostEffect) {
    switch effect {
    case .attach(let id, let file, let inode, let path):
      #expect(attached[id] == nil, "attached once")
      attached[id] = Attachment(
        file: file, inode: inode, path: path, ingestor: Ingestor(limits: settings.limits))
    case .relocate(let id, let path, let isPinned):
      attached[id]?.path = path
      attached[id]?.isPinned = isPinned
    case .reborn(let id, let next, let file):
      guard var attachment = attached.removeValue(forKey: id) else {
        Issue.record("reborn, not attached")
        return
      }
      attachment.file = file
      attachment.ingestor = Ingestor(limits: settings.limits)
      attached[next] = attachment
    case .release(let id):
      #expect(attached.removeValue(forKey: id) != nil, "released once")
    case .ingest(let id, let from, let root, let limit):
      #expect(readsUnderWay.insert(id).inserted, "one read of a file at a time")
      let answer = ingest(id, from, root, limit)
      readsUnderWay.remove(id)
      inbox.append(.ingested(id, answer))
    case .probeWriters(let id):
      beforeProbe?()
      inbox.append(.writersProbed(id, hasWriters: hasNoLeases ? nil : attached[id]?.descriptor.map { $0.writers > 0 }))
    case .computeRoot(let connection, let id, let length):
      let inode = open(id)
      let root = inode.flatMap { inode in
        length > UInt64(inode.bytes.count)
          ? nil : CheapHash.root(of: Array(inode.bytes.prefix(Int(length))), leafSize: settings.limits.leafSize)
      }
      inbox.append(.rootComputed(connection, id, length: length, root))
    default: break
    }
  }

  private func open(_ id: FileID) -> FakeFileSystem.Inode? {
    guard let attachment = attached[id] else {
      Issue.record("\(id) isn't attached")
      return nil
    }
    if let held = attachment.descriptor { return held }
    guard let inode = files.open(attachment.path), inode.key == attachment.inode else { return nil }
    attached[id]?.descriptor = inode
    return inode
  }

  private func ingest(_ id: FileID, _ from: UInt64, _ root: Digest, _ limit: Int) -> IngestAnswer {
    if let path = attached[id]?.path, let reason = files.unreadableFiles[text(path)] {
      return IngestAnswer(outcome: .failed(reason), size: 0, modified: WallTime(nanoseconds: 0), links: 0)
    }
    guard let inode = open(id), var attachment = attached[id] else {
      return IngestAnswer(outcome: .gone, size: 0, modified: WallTime(nanoseconds: 0), links: 0)
    }
    var answer = attachment.ingestor.ingest(inode, file: attachment.file, from: from, root: root, limit: limit) {
      try store.leaves(of: attachment.file, count: $0)
    }
    if inode.key != attachment.inode {
      attachment.inode = inode.key
      answer.inode = inode.key
    }
    if hasFewDescriptors, !attachment.isPinned { attachment.descriptor = nil }
    attached[id] = attachment
    return answer
  }

  var openDescriptors: Int { attached.values.count { $0.descriptor != nil } }
  var attachedCount: Int { attached.count }

  // MARK: Store

  private func commit(_ batch: HostBatch) {
    #expect(heldCommits.isEmpty, "one commit at a time")
    if holdsCommits { return heldCommits.append(batch) }
    if let error = failsCommits { return inbox.append(.commitFailed(error)) }
    if let file = (batch.files.map(\.file) + batch.leaves.map(\.file)).first(where: poisoned.contains) {
      refusals += 1
      return inbox.append(.commitFailed(.refused(.file(file), .corrupt("leaf 0"))))
    }
    for gap in batch.gaps {
      let record = Int(gap.record &- committed)
      let isGap = batch.records.indices.contains(record) && (try? Record(decoding: batch.records[record]).body).isGap
      #expect(isGap, "a gap's number is its record's")
    }
    do {
      let position = try store.commit(batch)
      committed = position.length
      inbox.append(.committed(position, number: store.number))
    } catch {
      Issue.record("the store refuses a batch: \(error)")
    }
  }

  private func load(_ id: LoadID, _ query: HostQuery) {
    queries.append(query)
    if let error = failsLoads { return inbox.append(.loadFailed(id, error)) }
    do throws(StoreError) {
      let from = olderAnswers > 0 ? InMemoryHostStore<CheapHash>() : store
      olderAnswers -= min(olderAnswers, 1)
      inbox.append(.loaded(id, try from.answer(query, servers: settings.servers)))
    } catch { Issue.record("the store answers nothing: \(error)") }
  }

  func releaseCommits() {
    holdsCommits = false
    let held = heldCommits
    heldCommits = []
    for batch in held { commit(batch) }
    run()
  }

  // MARK: Network

  private func connect(_ server: ServerIndex) {
    guard servers[server.value].isUp else {
      return inbox.append(.disconnected(server, nil, reason: "refused"))
    }
    nextConnection += 1
    let id = ConnectionID(nextConnection)
    connections[id] = server.value
    everConnected[id] = server.value
    servers[server.value].accept(id)
    inbox.append(.connected(server, id))
  }

  private func hangUp(_ id: ConnectionID) {
    guard let index = connections.removeValue(forKey: id) else { return }
    if servers[index].connection == id { servers[index].hangUp() }
  }

  /// The network drops the connection.
  func cut(_ server: Int) {
    guard let id = servers[server].connection else { return }
    hangUp(id)
    give(.disconnected(ServerIndex(server), id, reason: "cut"))
  }

  private func exchange(_ id: ConnectionID, _ body: (FakeServer) -> Void) {
    guard let index = connections[id], servers[index].connection == id else { return }
    body(servers[index])
    inbox += servers[index].takeOutbox().map { .received(id, $0) }
  }

  func checkpoint(at length: UInt64) -> Checkpoint? {
    (try? store.root(at: length)).map {
      Checkpoint(
        host: settings.host, journal: settings.journal, length: length, root: $0,
        signature: [UInt8](repeating: 1, count: 64))
    }
  }

  private func sendRecords(_ id: ConnectionID, _ first: UInt64, _ upTo: UInt64) {
    #expect(upTo <= committed, "nothing uncommitted is offered (J1)")
    guard let encoded = try? store.records(from: first, count: Int(upTo - first), bytes: .max),
      let checkpoint = checkpoint(at: upTo)
    else {
      Issue.record("records that the store doesn't have")
      return
    }
    exchange(id) { $0.receive(.records(Records(first: first, encoded: encoded, checkpoint: checkpoint))) }
  }

  private func sendPayload(_ id: ConnectionID, _ file: FileID, _ header: PayloadHeader) {
    #expect((1...settings.limits.payloadFrameSize).contains(header.length))
    guard let attachment = attached[file], attachment.file == header.file, let inode = open(file),
      header.end <= UInt64(inode.bytes.count)
    else { return inbox.append(.payloadUnavailable(id, file, offset: header.offset, reason: "can't be read")) }
    let bytes = Array(inode.bytes[Int(header.offset)..<Int(header.end)])
    exchange(id) { $0.receive(header, bytes) }
    inbox.append(.payloadSent(id, file, end: header.end))
  }
}

extension RecordBody? {
  fileprivate var isGap: Bool { if case .gap = self { true } else { false } }
}

extension FakeHost {
  /// What the journal holds, less the opening.
  var journal: [RecordBody] {
    let encoded = (try? store.records(from: 1, count: .max, bytes: .max)) ?? []
    return encoded.compactMap { try? Record(decoding: $0).body }
  }
  var gaps: [Gap] { journal.compactMap { if case .gap(let gap) = $0 { gap } else { nil } } }
  var closings: [FileClosed] { journal.compactMap { if case .fileClosed(let closed) = $0 { closed } else { nil } } }
  var births: [FileBorn] { journal.compactMap { if case .fileBorn(let born) = $0 { born } else { nil } } }
  var rotations: [Rotated] { journal.compactMap { if case .rotated(let rotated) = $0 { rotated } else { nil } } }
}
