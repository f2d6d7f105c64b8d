import DataPlane
import HostCore
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

@testable import ServerCore

/// A whole world around one server: performs its effects on a simulated disk and the store in memory, in order or
/// delayed at random, plays honest hosts, and judges every acknowledgement against what would survive a power cut (G2),
/// every write against what the plain file holds (G5).
final class FakeWorld {
  enum Fault: Hashable {
    case writeFails, syncFails, commitFull, commitFails, createFails, nameTaken, unreadable, compareFails, repairFails,
      syncIsLost, fileUnusable, loadFails, loadStale
  }
  enum Mode { case inOrder, random }

  /// An effect that is answered, and everything about the same string stays behind it.
  private enum Operation {
    case repair(StoredString, leftover: UInt64?)
    case create(StringKey, Segment, adopts: Bool)
    case verify(StringKey, from: UInt64, root: Digest, promises: [Promise])
    case compare(PayloadID, StringKey, Segment, offset: UInt64, count: Int)
    case probe(PayloadID, StringKey, Segment, offset: UInt64, count: Int)
    case write(StringKey, Segment, from: UInt64, upTo: UInt64, sync: Bool)
    case sync([ServerEffect.SyncTarget])
    case commit(ServerBatch, log: [LogRange])
    case load(ReadID, StoreQuery)
    case computeRoot(RootID, StringKey, Segment, length: UInt64)
    case supply(ConnectionID, channel: UInt32, StringKey, Segment, PayloadHeader)
  }
  private enum Lane: Hashable {
    case string(StringKey), verifying(StringKey), sync, store
    case reading(ReadID)
    /// For a peer: beside whatever is done about the string.
    case peer(UInt64)
  }

  var settings: ServerSettings
  /// Other servers, and which of them this one is.
  weak var fleet: FakeFleet?
  var place = 0
  let hosts: [FakeHost]
  var machine: ServerMachine<MixHasher>
  var disk = FakeDisk()
  var store = InMemoryServerStore<MixHasher>()
  var generator: SeededGenerator
  var mode: Mode
  var now = Instant(nanoseconds: 1_000_000_000)
  /// 2027-01-15.
  var wall = WallTime(nanoseconds: 1_800_000_000_000_000_000)

  private var lanes: [(lane: Lane, queue: [Operation])] = []
  private var queues: [StringKey: ReceiveQueue<MixHasher>] = [:]
  private var stored: [StringKey: Segment] = [:]
  private var held: [PayloadID: [UInt8]] = [:]
  private var toHosts: [(ConnectionID, Frame)] = []
  private(set) var links: [ConnectionID: Int] = [:]
  private var nextConnection: UInt64 = 1
  private var nextPayload: UInt64 = 1
  private(set) var isServing = false
  /// False: what is sent arrives, but the transport doesn't say so, as if the other side spoke of what it didn't read.
  var takesOutput = true {
    didSet {
      guard takesOutput else { return }
      for id in untaken { feed(.taken(id)) }
      untaken = []
    }
  }
  private var untaken: [ConnectionID] = []
  private(set) var settled: Set<UInt64> = []
  private(set) var haltReason: String?

  /// Effects performed so far, over all lives of the server.
  private(set) var effects = 0
  var poisoned: Set<StoreSubject> = []
  /// What is refused from this commit on, until the next start.
  var laterPoisoned: StoreSubject?
  var poisonAtCommit: Int?
  private(set) var commits = 0
  /// Journals, rows and records of one commit.
  private(set) var rowsOfLastCommit = 0
  private(set) var mostRowsOfACommit = 0
  /// Rows of strings that have no plain file yet.
  private(set) var mostBirthsOfACommit = 0
  /// Commits that were refused for a name that another string has.
  private(set) var namesRefused = 0
  private(set) var performed: [Fault: Int] = [:]
  /// Of all starts, when the last one began to serve.
  private(set) var repairsBeforeServing = 0
  /// Crash before the effect with this number.
  var crashAt: Int?
  var crashes = 0
  /// The k-th operation of this kind fails.
  var faults: [Fault: Set<Int>] = [:]
  /// One in so many turns a connection is cut.
  var cutOneIn = 0
  private(set) var reports: [ServerReport] = []
  var complaints: [String] = []
  private(set) var mostPending: UInt64 = 0
  var acknowledgements = 0

  init(
    hosts: [FakeHost], limits: Limits, seed: UInt64 = 1, mode: Mode = .inOrder, totalCredit: Int = 4_096,
    name: String = "logs-a", peers: [String] = []
  ) {
    settings = ServerSettings(name: name, limits: limits, totalCredit: totalCredit, peers: peers)
    self.hosts = hosts
    self.mode = mode
    generator = SeededGenerator(seed: seed)
    machine = ServerMachine(settings: settings, verifier: FakeVerifier())
  }

  // MARK: Life and death

  func start(counterMatches: Bool = true) {
    do {
      settings.jitterSeed = generator.next()
      machine = ServerMachine(settings: settings, verifier: FakeVerifier())
      store.begin(UUIDBytes(high: settings.jitterSeed, low: 1))
      var cursors: [String: FeedCursor] = [:]
      for peer in settings.peers { cursors[peer] = try store.cursor(of: peer) }
      try feed(
        .started(
          journals: store.journals(), left: store.leftUnfinished(promises: settings.limits.promiseWindow),
          totals: store.totals(),
          counterMatches: counterMatches, number: store.number, feed: store.feed(), cursors: cursors))
    } catch { complaints.append("the store: \(error)") }
  }

  /// The server's process ends; with `powerCut` also its page cache.
  func crash(powerCut: Bool) {
    crashes += 1
    lanes = []
    queues = [:]
    stored = [:]
    held = [:]
    readings = []
    toHosts = []
    links = [:]
    paused = []
    unread = [:]
    isServing = false
    haltReason = nil
    poisoned = []
    for host in hosts { host.disconnected() }
    fleet?.cut(all: self)
    if powerCut { disk.powerCut(&generator) }
    disk.dropCaches()
    store = InMemoryServerStore(state: store.snapshot())
    start()
  }

  func connect(_ index: Int) {
    let id = ConnectionID(nextConnection)
    nextConnection += 1
    links[id] = index
    hosts[index].connected(id)
    feed(.accepted(id, Peer(names: [hosts[index].name.text], address: "127.0.0.1")))
  }

  func cutConnection(of index: Int) {
    guard let id = hosts[index].connection else { return }
    links[id] = nil
    hosts[index].disconnected()
    forgetUnread(id)
    feed(.closed(id))
  }

  /// A connection that no honest host drives.
  func open(names: [String]) -> ConnectionID {
    let id = ConnectionID(nextConnection)
    nextConnection += 1
    feed(.accepted(id, Peer(names: names, address: "127.0.0.1")))
    return id
  }

  /// Connections that the server doesn't read at present, and what came on them.
  private(set) var paused: Set<ConnectionID> = []
  private var unread: [ConnectionID: [ServerInput]] = [:]
  private var feeding = 0

  private(set) var answers: [ConnectionID: [Frame]] = [:]
  private(set) var closed: [ConnectionID: RefusalCode] = [:]
  private(set) var sent: [ConnectionID: UInt64] = [:]

  func send(_ frame: Frame, on id: ConnectionID) { bring(.received(id, frame), on: id) }

  /// What comes on a connection that isn't read waits.
  private func bring(_ input: ServerInput, on id: ConnectionID) {
    if paused.contains(id) || unread[id] != nil { unread[id, default: []].append(input) } else { feed(input) }
  }

  private func readOn() {
    while let (id, waiting) = unread.filter({ !paused.contains($0.key) }).min(by: { $0.key < $1.key }) {
      unread[id] = waiting.count > 1 ? Array(waiting.dropFirst()) : nil
      feed(waiting[0])
    }
  }

  func send(_ header: PayloadHeader, _ bytes: [UInt8], on id: ConnectionID) {
    let payload = PayloadID(nextPayload)
    nextPayload += 1
    held[payload] = bytes
    sent[id, default: 0] += UInt64(max(0, header.length))
    bring(.receivedPayload(id, header, payload), on: id)
  }

  // MARK: Turns

  /// Runs until every host is settled and the log is empty. False when it gets stuck.
  func run(turns: Int = 200_000) -> Bool {
    for _ in 0..<turns {
      if !complaints.isEmpty || !disk.complaints.isEmpty { return false }
      if let haltReason {
        reports.append(.storeBlocked("halted: \(haltReason)"))
        crash(powerCut: Bool.random(using: &generator))
      }
      if isSettled { return true }
      if !turn() { return false }
    }
    return false
  }

  /// All hosts side by side: each sends what it may, then everything happens. For many of them.
  func runInRounds(_ rounds: Int = 20_000, others: () -> Void = {}) -> Bool {
    for _ in 0..<rounds {
      if !complaints.isEmpty || !disk.complaints.isEmpty { return false }
      if isSettled { return true }
      var isIdle = true
      for index in hosts.indices where hosts[index].connection == nil { connect(index) }
      for index in hosts.indices {
        hosts[index].pump(&generator, now: now)
        while !hosts[index].outbox.isEmpty {
          isIdle = false
          deliver(from: index)
          mostPending = max(mostPending, machine.pendingBytes)
        }
        while lanes.count > 32 { performNext() }
      }
      others()
      while !lanes.isEmpty {
        isIdle = false
        performNext()
      }
      for (id, frame) in toHosts {
        guard let index = links[id] else { continue }
        isIdle = false
        hosts[index].receive(frame, now: now)
        complaints += hosts[index].complaints
      }
      toHosts = []
      if isIdle, !letTimePass() { return false }
    }
    return false
  }

  /// Performs everything that can be without hosts doing more.
  func drain(turns: Int = 100_000) {
    for _ in 0..<turns where !lanes.isEmpty { performNext() }
    toHosts = []
  }

  func advance(by interval: Interval) {
    now = now + interval
    feed(.tick)
  }

  var isSettled: Bool {
    hosts.allSatisfy(\.isSettled) && lanes.isEmpty && machine.status.loggedBytes == 0
      && machine.status.pendingBytes == 0 && machine.status.failing == 0
  }

  /// One thing that can be done, at random; false when there is none.
  func step() -> Bool {
    if let haltReason {
      reports.append(.storeBlocked("halted: \(haltReason)"))
      crash(powerCut: Bool.random(using: &generator))
    }
    return mayAct()
  }

  private func turn() -> Bool { mayAct() || letTimePass() }

  private func mayAct() -> Bool {
    if cutOneIn > 0, Int.random(in: 0..<cutOneIn, using: &generator) == 0 {
      cutConnection(of: Int.random(in: hosts.indices, using: &generator))
    }
    if isServing { for index in hosts.indices where hosts[index].connection == nil { connect(index) } }
    for host in hosts { host.pump(&generator, now: now) }
    mostPending = max(mostPending, machine.status.pendingBytes)
    var choices: [() -> Void] = []
    if !lanes.isEmpty { choices.append(performNext) }
    for index in hosts.indices where !hosts[index].outbox.isEmpty { choices.append { self.deliver(from: index) } }
    if !toHosts.isEmpty { choices.append(deliverToHost) }
    if choices.isEmpty { return false }
    choices[mode == .inOrder ? 0 : Int.random(in: choices.indices, using: &generator)]()
    return true
  }

  var deadline: Instant? { ([machine.nextDeadline] + hosts.map(\.nextRetry)).compactMap { $0 }.min() }

  func pass(to time: Instant) {
    now = max(now, time)
    for host in hosts { if let id = host.connection { feed(.received(id, .ping(nonce: 1))) } }
    feed(.tick)
  }

  private func letTimePass() -> Bool {
    let deadlines = [machine.nextDeadline] + hosts.map(\.nextRetry)
    guard let next = deadlines.compactMap({ $0 }).min() else { return false }
    now = max(next, now + Interval(nanoseconds: 1))
    // Hosts would send pings.
    for host in hosts { if let id = host.connection { feed(.received(id, .ping(nonce: 1))) } }
    feed(.tick)
    return true
  }

  private func deliver(from index: Int) {
    guard let id = hosts[index].connection else { return }
    switch hosts[index].outbox.removeFirst() {
    case .frame(let frame): send(frame, on: id)
    case .payload(let header, let bytes): send(header, bytes, on: id)
    }
  }

  private func deliverToHost() {
    let (id, frame) = toHosts.removeFirst()
    guard let index = links[id], hosts[index].connection == id else { return }
    hosts[index].receive(frame, now: now)
    complaints += hosts[index].complaints
    if hosts[index].isMisled { cutConnection(of: index) }
  }

  private func performNext() {
    guard !lanes.isEmpty else { return }
    let lane = mode == .inOrder ? 0 : Int.random(in: lanes.indices, using: &generator)
    let operation = lanes[lane].queue.removeFirst()
    if lanes[lane].queue.isEmpty { lanes.remove(at: lane) }
    perform(operation)
  }

  // MARK: Effects

  /// What was read in the store, as the answers to what was just done.
  private var readings: [ServerInput] = []
  /// Answers of the store wait for their turn, also where everything else is done in order.
  var readsLate = false
  private(set) var lastReading: ReadID?

  private func read(_ id: ReadID, _ query: StoreQuery) {
    if isFaulty(.loadFails) { return readings.append(.unreadable(id, .failed("EIO"))) }
    do throws(StoreError) {
      // The oldest snapshot of all, in which nothing is.
      let store = isFaulty(.loadStale) ? InMemoryServerStore<MixHasher>() : store
      readings.append(.loaded(id, try store.answer(query)))
    } catch { complaints.append("the store: \(error)") }
  }

  private func answerReads() {
    while !readings.isEmpty { feed(readings.removeFirst()) }
  }

  func feed(_ input: ServerInput) {
    feeding += 1
    perform(input)
    if feeding == 1 { answerReads() }
    feeding -= 1
    if feeding == 0 { readOn() }
  }

  private func perform(_ input: ServerInput) {
    var effects: [ServerEffect] = []
    machine.step(input, at: now, wall: wall, into: &effects)
    for effect in effects {
      if self.effects == crashAt {
        crashAt = nil
        return crash(powerCut: true)
      }
      self.effects += 1
      take(effect)
    }
  }

  private func enqueue(_ operation: Operation, in lane: Lane) {
    if let index = lanes.firstIndex(where: { $0.lane == lane }) {
      lanes[index].queue.append(operation)
    } else {
      lanes.append((lane, [operation]))
    }
  }

  private func take(_ effect: ServerEffect) {
    switch effect {
    case .repair(let row, let leftover): enqueue(.repair(row, leftover: leftover), in: .string(row.key))
    case .serve:
      isServing = true
      repairsBeforeServing = performed[.repairFails] ?? 0
    case .send(let id, let frame):
      if fleet?.carry(.frame(frame), from: self, id) == true { break }
      judge(frame, to: id)
      answers[id, default: []].append(frame)
      toHosts.append((id, frame))
    case .awaitTaken(let id): if takesOutput { feed(.taken(id)) } else { untaken.append(id) }
    case .pause(let id): paused.insert(id)
    case .resume(let id): paused.remove(id)
    case .close(let id, let code, _):
      closed[id] = code
      forgetUnread(id)
      fleet?.cut(id, of: self)
      if let index = links.removeValue(forKey: id) { hosts[index].disconnected() }
    case .admit(let payload, let key, let offset):
      guard let bytes = held.removeValue(forKey: payload) else { return complaints.append("admitted twice") }
      queue(of: key) { $0.admit(bytes, offset: offset) }
    case .drop(let payload):
      if held.removeValue(forKey: payload) == nil { complaints.append("dropped twice") }
    case .compare(let payload, let key, let path, let offset, let count):
      enqueue(.compare(payload, key, path, offset: offset, count: count), in: .string(key))
    case .probe(let payload, let key, let segment, let offset, let count):
      enqueue(.probe(payload, key, segment, offset: offset, count: count), in: .string(key))
    case .admitTail(let payload, let key, let offset, let dropping):
      guard let bytes = held.removeValue(forKey: payload) else { return complaints.append("admitted twice") }
      queue(of: key) { $0.admit(bytes, offset: offset, dropping: dropping) }
    case .verify(let key, let path, let from, let root, let promises):
      stored[key] = path
      enqueue(.verify(key, from: from, root: root, promises: promises), in: .verifying(key))
    case .discard(let key, let from):
      if lanes.contains(where: { $0.lane == .verifying(key) || $0.lane == .string(key) }) {
        complaints.append("discarded while worked on")
      }
      queue(of: key) { $0.discard(from: from) }
    case .create(let key, let segment, let adopts): enqueue(.create(key, segment, adopts: adopts), in: .string(key))
    case .write(let key, let path, let from, let upTo, let sync):
      enqueue(.write(key, path, from: from, upTo: upTo, sync: sync), in: .string(key))
    case .free(let key, let below): queue(of: key) { $0.free(below: below) }
    case .sync(let targets): enqueue(.sync(targets), in: .sync)
    case .commit(let batch, let log):
      if lanes.contains(where: { $0.lane == .store }) { complaints.append("two commits at a time") }
      enqueue(.commit(batch, log: log), in: .store)
    case .load(let id, let query):
      lastReading = id
      if mode == .inOrder, !readsLate { read(id, query) } else { enqueue(.load(id, query), in: .reading(id)) }
    case .forget(let key):
      if lanes.contains(where: { $0.lane == .verifying(key) || $0.lane == .string(key) }) {
        complaints.append("forgotten while worked on")
      }
      if let queue = queues.removeValue(forKey: key)?.queue, queue.byteCount > 0 {
        complaints.append("forgotten with bytes in memory")
      }
    case .link(let host, let path):
      if let newest = try? store.newest(host: host, latest: path) {
        disk.link(BytePath(Array("latest/\(host)/".utf8) + path.bytes), to: newest.stored)
      }
    case .settled(let token): settled.insert(token)
    case .dial(let peer): fleet?.dial(peer, from: self)
    case .computeRoot(let id, let key, let segment, let length):
      enqueue(.computeRoot(id, key, segment, length: length), in: .peer(id.value))
    case .supply(let id, let channel, let key, let segment, let header):
      enqueue(.supply(id, channel: channel, key, segment, header), in: .peer(1 << 32 | UInt64(channel)))
    case .halt(let reason): haltReason = reason
    case .report(let report): reports.append(report)
    }
  }

  private func forgetUnread(_ id: ConnectionID) {
    paused.remove(id)
    for case .receivedPayload(_, _, let payload) in unread.removeValue(forKey: id) ?? [] { held[payload] = nil }
  }

  private func queue(of key: StringKey, _ body: (inout ReceiveQueue<MixHasher>) -> Void) {
    body(&queues[key, default: ReceiveQueue(key: key, limits: settings.limits)])
  }

  private func isFaulty(_ fault: Fault) -> Bool {
    performed[fault, default: 0] += 1
    return faults[fault]?.contains(performed[fault]!) ?? false
  }

  private func perform(_ operation: Operation) {
    switch operation {
    case .repair(let row, let leftover):
      let isFailing = isFaulty(.repairFails)
      let isLost = !isFailing && isFaulty(.syncIsLost)
      if isLost { disk.failSync(row.stored) }
      feed(
        .repaired(
          row.key, isFailing ? .failed("EMFILE") : isLost ? .failedSync("EIO") : repair(row, leftover: leftover)))
    case .create(let key, let segment, let adopts):
      let path = segment.path
      let isFailing = isFaulty(.createFails)
      let isTaken = isFaulty(.nameTaken)
      let isLost = isFaulty(.syncIsLost)
      if isLost { disk.failSync(path) }
      let outcome: CreateOutcome =
        isLost
        ? .failedSync("EIO")
        : isFailing ? .failed("ENOSPC") : isTaken ? .taken : disk.create(path, adopts: adopts)
      feed(.created(key, outcome))
    case .verify(let key, let from, let root, let promises):
      feed(.verified(key, verify(key, from: from, root: root, promises: promises)))
    case .compare(let payload, let key, let segment, let offset, let count):
      let bytes = comparable(key, segment, offset: offset, count: count)
      let frame = held[payload] ?? []
      feed(.compared(payload, isEqual: bytes.map { $0.elementsEqual(frame.prefix(count)) }))
    case .probe(let payload, let key, let segment, let offset, let count):
      guard comparable(key, segment, offset: offset, count: count) != nil, var frame = held[payload] else {
        return feed(.probed(payload, .unreadable))
      }
      var probe = StringProbe<MixHasher>(leafSize: settings.limits.leafSize)
      let answer = try? probe.answer(
        &frame, offset: offset, count: count, storedLeaves: { try self.store.leaves(of: key, count: $0) },
        held: { offset, count in
          let queue = self.queues[key]?.queue ?? ByteQueue()
          return try queue.bytes(offset: offset, count: count) { Array(self.plainBytes(segment, $0, $1) ?? []) }
        })
      guard let answer else {
        complaints.append("what is compared can't be read")
        return feed(.probed(payload, .unreadable))
      }
      held[payload] = frame
      feed(.probed(payload, answer))
    case .write(let key, let segment, let from, let upTo, let sync):
      let path = segment.path
      let state = store.snapshot()
      if upTo > state.string(key)?.committed ?? 0, !state.isUnfinished(key) {
        complaints.append("K2: bytes ahead of their commit, and no row says so")
      }
      let bytes = queues[key]!.bytes(offset: from, length: Int(upTo - from))
      if isFaulty(.fileUnusable) { return feed(.written(key, upTo: upTo, .unusable("removed"))) }
      let isFailing = isFaulty(.writeFails)
      let count = isFailing ? Int.random(in: 0...bytes.count, using: &generator) : bytes.count
      let isLost = sync && !isFailing && isFaulty(.syncIsLost)
      disk.write(path, from: from - segment.start, Array(bytes.prefix(count)), sync: sync && !isFailing && !isLost)
      if isLost { disk.failSync(path) }
      feed(.written(key, upTo: upTo, isLost ? .failedSync("EIO") : isFailing ? .failed("ENOSPC") : .done))
    case .sync(let targets):
      let isFailing = isFaulty(.syncFails)
      if isFaulty(.syncIsLost) {
        for target in targets { disk.failSync(target.stored) }
        return feed(.synced([], .failedSync("EIO")))
      }
      if !isFailing { for target in targets { disk.sync(target.stored) } }
      let lengths = targets.map { ServerInput.SyncedLength(key: $0.key, length: $0.length) }
      feed(.synced(lengths, isFailing ? .failed("EMFILE") : .done))
    case .commit(var batch, let log):
      for range in log {
        let bytes = queues[range.key]!.bytes(offset: range.offset, length: range.length)
        batch.log.append(ServerBatch.LogPayload(key: range.key, offset: range.offset, bytes: bytes))
      }
      do throws(StoreError) {
        let done = try commit(batch)
        feed(.committed(nil, done, number: store.number))
      } catch { feed(.committed(error)) }
    case .load(let id, let query):
      read(id, query)
      answerReads()
    case .computeRoot(let id, let key, let segment, let length):
      let whole = length / UInt64(settings.limits.leafSize)
      let start = whole * UInt64(settings.limits.leafSize)
      let leaves = try? store.leaves(of: key, count: whole)
      let open = start == length ? [] : readable(key, segment, offset: start, count: Int(length - start))
      guard let leaves, let open else { return feed(.rootComputed(id, nil)) }
      var tree = FileTree<MixHasher>(leafSize: settings.limits.leafSize, leaves: leaves)
      tree.append(open.span.bytes)
      feed(.rootComputed(id, tree.root))
    case .supply(let id, let channel, let key, let segment, let header):
      let bytes = readable(key, segment, offset: header.offset, count: header.length)
      if let bytes {
        _ = fleet?.carry(.frame(.channel(channel)), from: self, id)
        _ = fleet?.carry(.payload(header, bytes), from: self, id)
      }
      feed(.supplied(id, channel: channel, header, isSent: bytes != nil))
    }
  }

  private func plainBytes(_ segment: Segment, _ offset: UInt64, _ count: Int) -> ArraySlice<UInt8>? {
    guard offset >= segment.start, let file = disk[segment.path] else { return nil }
    let place = Int(offset - segment.start)
    return place + count <= file.cache.count ? file.cache[place..<(place + count)] : nil
  }

  /// Committed bytes, also of a string that isn't in memory and whose plain file nobody has looked at.
  private func readable(_ key: StringKey, _ segment: Segment, offset: UInt64, count: Int) -> [UInt8]? {
    if isFaulty(.compareFails) { return nil }
    let log = ((try? store.logRanges(of: key)) ?? []).compactMap { range in
      (try? store.logPayload(of: key, offset: range.offset)).map { (offset: range.offset, bytes: $0) }
    }
    return try? (queues[key]?.queue ?? ByteQueue()).bytes(offset: offset, count: count) { offset, count in
      try StoredBytes.read(offset..<(offset + UInt64(count)), log: log) { Array(plainBytes(segment, $0, $1) ?? []) }
    }
  }

  /// The plain file's bytes, for a comparison that doesn't fail.
  private func comparable(
    _ key: StringKey, _ segment: Segment, offset: UInt64, count: Int
  ) -> ArraySlice<UInt8>? {
    if isFaulty(.compareFails) { return nil }
    if let row = store.snapshot().string(key), row.committed < offset + UInt64(count) {
      complaints.append("compared beyond the committed length")
    }
    let queue = queues[key]?.queue ?? ByteQueue()
    let bytes = try? queue.bytes(offset: offset, count: count) { offset, count in
      guard let bytes = plainBytes(segment, offset, count) else { throw SourceFailure("not in the plain file") }
      return Array(bytes)
    }
    if bytes == nil { complaints.append("compared with bytes that aren't in the plain file") }
    return bytes.map { $0[...] }
  }

  private func commit(_ batch: ServerBatch) throws(StoreError) -> ServerCommitted {
    commits += 1
    rowsOfLastCommit = batch.strings.count + batch.records.reduce(0) { $0 + $1.encoded.count }
    mostRowsOfACommit = max(mostRowsOfACommit, rowsOfLastCommit)
    mostBirthsOfACommit = max(mostBirthsOfACommit, batch.strings.count { !$0.isMade })
    if let subject = laterPoisoned, commits == poisonAtCommit { poisoned.insert(subject) }
    // A store that refuses one thing, whatever else comes with it.
    for run in batch.records where poisoned.contains(.journal(run.after.key)) {
      throw .refused(.journal(run.after.key), .corrupt("poisoned"))
    }
    for row in batch.strings where poisoned.contains(.string(row.key)) {
      throw .refused(.string(row.key), .corrupt("poisoned"))
    }
    if isFaulty(.commitFull) { throw .full("MDB_MAP_FULL") }
    if isFaulty(.commitFails) { throw .failed("EIO") }
    // P2: a string commits without the log only what is synced in its plain file.
    let done: ServerCommitted
    do throws(StoreError) {
      done = try store.commit(batch)
    } catch {
      if case .refused(_, .alreadyExists) = error {
        namesRefused += 1
      } else {
        complaints.append("the store refused a batch: \(error)")
      }
      throw error
    }
    for row in batch.strings { judge(row) }
    return done
  }

  private func repair(_ row: StoredString, leftover: UInt64?) -> RepairOutcome {
    let ranges = (try? store.logRanges())?.filter { $0.key == row.key } ?? []
    let log = ranges.map { ($0.offset - row.start, (try? store.logPayload(of: row.key, offset: $0.offset)) ?? []) }
    return disk.repair(
      row.stored, synced: row.synced - row.start, committed: row.committed - row.start, log: log, leftover: leftover)
  }

  private func verify(_ key: StringKey, from: UInt64, root: Digest, promises: [Promise]) -> VerifyAnswer {
    if isFaulty(.unreadable) {
      let leaves = LeafRange(file: key.key.file, first: 0, hashes: [])
      return VerifyAnswer(upTo: from, root: root, leaves: leaves, failedAt: nil, unreadable: "EIO")
    }
    let segment = stored[key]
    let holder = segment?.holder(of: key, at: from) ?? key
    let answer = queues[key]!.verify(
      from: from, root: root, promises: promises, storedLeaves: { try self.store.leaves(of: holder, count: $0) },
      held: { offset, count in
        guard let bytes = segment.flatMap({ self.plainBytes($0, offset, count) }) else {
          throw SourceFailure("not in the plain file")
        }
        return Array(bytes)
      })
    if let reason = answer.unreadable { complaints.append("unreadable: \(reason)") }
    return answer
  }
}
