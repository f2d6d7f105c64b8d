import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import ServerCore
import WireProtocol

/// A server of the small world: its node, and the process that runs there. A value, but for the machine, of which it has
/// the number (`ServerLives`).
struct ExhaustiveServer {
  /// What doesn't change.
  final class Setting {
    let scope: ExhaustiveScope
    let limits: Limits
    let journal: ExhaustiveJournal
    let name: String
    /// All other servers.
    let peers: [String]
    let lives: ServerLives
    /// What the commit that a machine asked for makes of a store.
    var commits: [CommitKey: (store: ExhaustiveStore, answer: ServerInput)] = [:]

    struct CommitKey: Hashable {
      var store: Digest128
      var batch: Digest128
    }

    init(_ scope: ExhaustiveScope, _ journal: ExhaustiveJournal, name: String, peers: [String]) {
      self.scope = scope
      self.journal = journal
      self.name = name
      self.peers = peers
      limits = scope.limits
      let wall = WallTime(nanoseconds: 1_800_000_000_000_000_000)
      lives = ServerLives(
        settings: ServerSettings(name: name, limits: limits, totalCredit: 1 << 20, peers: peers), wall: wall,
        merges: scope.areMerged)
    }
  }

  enum Operation: Hashable {
    case repair(StoredString, leftover: UInt64?)
    case create(StringKey, BytePath, adopts: Bool)
    case verify(StringKey, BytePath, from: UInt64, root: Digest, promises: [Promise])
    case compare(PayloadID, StringKey, BytePath, offset: UInt64, count: Int)
    case write(StringKey, BytePath, from: UInt64, upTo: UInt64, sync: Bool)
    case sync([ServerEffect.SyncTarget])
    case commit(ServerBatch)
    case admit(PayloadID, StringKey, offset: UInt64, dropping: Int)
    case discard(StringKey, from: UInt64)
    case free(StringKey, below: UInt64)
    case forget(StringKey)
    case load(ReadID, StoreQuery)
    case computeRoot(RootID, StringKey, BytePath, length: UInt64)
    case supply(ConnectionID, channel: UInt32, StringKey, BytePath, PayloadHeader)
  }
  /// What others are to hear, and hear once its effects are performed.
  enum Said {
    case frame(ConnectionID, Frame)
    case payload(ConnectionID, PayloadHeader, [UInt8])
    case dial(Int)
    case awaitTaken(ConnectionID)
    case cursor(PeerCursor)
    case close(ConnectionID, RefusalCode, String)
  }
  struct Crash: Hashable {
    /// Nil: the process alone ends.
    var power: ExhaustiveDisk.PowerCut?
    /// A bit for each lane.
    var done: UInt8
  }
  /// The most that a server ever stated.
  struct Stated: Hashable {
    var records: UInt64 = 0
    var lengths: [UInt64]
  }

  let setting: Setting
  var scope: ExhaustiveScope { setting.scope }
  var journal: ExhaustiveJournal { setting.journal }

  var store: ExhaustiveStore
  var disk = ExhaustiveDisk()
  /// The process: its machine, what is under way for it, and what it has in memory.
  var life = 0
  var node: ServerLives.Node { setting.lives.nodes[life] }
  var now = Instant(nanoseconds: 0)
  var isServing = false
  /// The store's commits, the background sync, the two files, what is read in the store, and what is read for peers.
  var lanes: [[Operation]] = Self.idle
  private static var idle: [[Operation]] { [[], [], [], [], [], []] }
  static var fileLanes: Range<Int> { 2..<4 }
  static var readingLane: Int { 4 }
  private static var peerLane: Int { 5 }
  var queues: [StringKey: ReceiveQueue<SimulatedTree>] = [:]
  var held: [PayloadID: [UInt8]] = [:]
  var nextPayload: UInt64 = 0
  var nextConnection: UInt64 = 0
  var mutations: ServerMutations
  /// The power goes while a write is being synced.
  var isTorn = false
  /// Connections of whose end it hasn't heard, and which it hasn't ended.
  var ended: [ConnectionID] = []
  var said: [Said] = []
  /// Bytes of each file that peers sent it.
  var supplied: [Int]

  var stated: Stated
  /// What an oracle has against it.
  var complaint: String?

  init(_ setting: Setting) throws(StoreError) {
    self.setting = setting
    store = try ExhaustiveStore(
      InMemoryServerStore<SimulatedTree>.State(), leafSize: setting.limits.leafSize, peers: setting.peers)
    mutations = ServerMutations(setting.scope.mutant)
    stated = Stated(lengths: setting.journal.files.map { _ in 0 })
    supplied = setting.journal.files.map { _ in 0 }
    start()
  }

  mutating func complain(_ text: String) { complaint = complaint ?? text }

  /// The life stands for the machine, its clock and all that it ever said and asked for, in order; so that how much is
  /// left of that says what is left of it and of what has been received. Where machines are told apart by their fields,
  /// it stands for these only.
  struct State: Hashable {
    var life: Int
    var store: Digest128
    var disk: ExhaustiveDisk
    var left: [Int]
    var ended: [ConnectionID]
    var stated: Stated
    var process: Process?
  }
  struct Process: Hashable {
    var now: Instant
    var isServing: Bool
    var lanes: [[Operation]]
    var queues: Digest128
    var held: [PayloadID: [UInt8]]
    var nextPayload: UInt64
    var nextConnection: UInt64
    var mutations: Digest128
    var supplied: [Int]
  }
  var state: State {
    State(
      life: life, store: store.digest, disk: disk, left: lanes.map(\.count), ended: ended, stated: stated,
      process: scope.areMerged ? process : nil)
  }
  private var process: Process {
    Process(
      now: now, isServing: isServing, lanes: lanes, queues: Reflection.digest(queues), held: held,
      nextPayload: nextPayload, nextConnection: nextConnection, mutations: Reflection.digest(mutations),
      supplied: supplied)
  }

  // MARK: Lives

  private mutating func start() {
    let contents = store.contents
    let stored = InMemoryServerStore<SimulatedTree>(state: store.state)
    var cursors: [String: FeedCursor] = [:]
    for (peer, cursor) in zip(setting.peers, contents.told?.cursors ?? []) { cursors[peer] = cursor }
    input(
      .started(
        journals: contents.journals, left: (try? stored.leftUnfinished(promises: scope.limits.promiseWindow)) ?? [],
        totals: mutations.totals(contents.totals), counterMatches: true, number: 0,
        feed: contents.told?.feed ?? Feed(), cursors: cursors),
      isFirst: true)
  }

  /// The process ends when what comes first in some lanes is done and not answered, and with the power also what wasn't
  /// synced; the next one starts.
  mutating func crash(_ crash: Crash) {
    isTorn = crash.power == .torn
    for lane in lanes.indices where crash.done & 1 << lane != 0 { perform(lane) }
    isTorn = false
    judge()
    if let power = crash.power { disk.cutPower(power) }
    (life, now, isServing) = (0, Instant(nanoseconds: 0), false)
    (lanes, queues, held) = (Self.idle, [:], [:])
    (nextPayload, nextConnection) = (0, 0)
    (ended, said) = ([], [])
    mutations = ServerMutations(scope.mutant)
    start()
  }

  // MARK: Connections

  mutating func newConnection() -> ConnectionID {
    nextConnection += 1
    return ConnectionID(nextConnection)
  }

  mutating func receive(_ header: PayloadHeader, _ bytes: [UInt8], on id: ConnectionID) {
    nextPayload += 1
    let payload = PayloadID(nextPayload)
    held[payload] = bytes
    input(.receivedPayload(id, header, payload))
  }

  // MARK: The machine

  mutating func input(_ input: ServerInput, isFirst: Bool = false) {
    let answer = setting.lives.answer(after: isFirst ? nil : life, input, at: now)
    life = answer.node
    for effect in answer.effects { take(effect) }
  }

  mutating func tick() {
    now = max(now, node.deadline ?? now)
    input(.tick)
  }

  private mutating func take(_ effect: ServerEffect) {
    switch effect {
    case .repair(let row, let leftover): enqueue(.repair(row, leftover: leftover), about: row.key)
    case .serve: isServing = true
    // Its host asks no other store.
    case .send(_, .position): break
    case .send(let id, let frame): said.append(.frame(id, mutations.frame(frame)))
    case .close(let id, let code, let text):
      said.append(.close(id, code, text))
      // What is said of it from now on means nothing to a machine that doesn't know it any more.
      ended.removeAll { $0 == id }
    case .admit(let payload, let key, let offset):
      enqueue(.admit(payload, key, offset: offset, dropping: 0), about: key)
    case .admitTail(let payload, let key, let offset, let dropping):
      enqueue(.admit(payload, key, offset: offset, dropping: dropping), about: key)
    case .drop(let payload): held[payload] = nil
    case .compare(let payload, let key, let path, let offset, let count):
      enqueue(.compare(payload, key, path.path, offset: offset, count: count), about: key)
    case .verify(let key, let path, let from, let root, let promises):
      enqueue(.verify(key, path.path, from: from, root: root, promises: promises), about: key)
    case .discard(let key, let from): enqueue(.discard(key, from: from), about: key)
    case .create(let key, let path, let adopts): enqueue(.create(key, path.path, adopts: adopts), about: key)
    case .write(let key, let path, let from, let upTo, let sync):
      enqueue(.write(key, path.path, from: from, upTo: upTo, sync: sync), about: key)
    case .free(let key, let below): enqueue(.free(key, below: below), about: key)
    case .sync(let targets): enqueue(.sync(targets), in: 1)
    case .commit(let batch, let log): commit(batch, log)
    case .load(let id, let query): enqueue(.load(id, query), in: Self.readingLane)
    case .forget(let key): enqueue(.forget(key), about: key)
    case .probe: complain("a host that says the same to all is compared beside what is held")
    case .dial(let peer): said.append(.dial(peer))
    case .awaitTaken(let id): said.append(.awaitTaken(id))
    case .computeRoot(let id, let key, let segment, let length):
      enqueue(.computeRoot(id, key, segment.path, length: length), in: Self.peerLane)
    case .supply(let id, let channel, let key, let segment, let header):
      enqueue(.supply(id, channel: channel, key, segment.path, header), in: Self.peerLane)
    case .settled: complain("nobody asked what is settled")
    case .pause, .resume: complain("a turn of records ends in so small a world")
    case .halt(let reason): complain("the server halts: \(reason)")
    case .link, .report: break
    }
  }

  private mutating func commit(_ batch: ServerBatch, _ log: [LogRange]) {
    var batch = batch
    for range in log {
      let bytes = queues[range.key]?.bytes(offset: range.offset, length: range.length) ?? []
      batch.log.append(ServerBatch.LogPayload(key: range.key, offset: range.offset, bytes: bytes))
    }
    mutations.batch(&batch)
    if !lanes[0].isEmpty { complain("two commits at a time") }
    enqueue(.commit(batch), in: 0)
  }

  // MARK: Work

  private mutating func enqueue(_ operation: Operation, about key: StringKey) {
    let file = scope.disk == .one ? 0 : journal.index(of: key.key.file) ?? 0
    enqueue(operation, in: 2 + file)
  }

  private mutating func enqueue(_ operation: Operation, in lane: Int) {
    lanes[lane].append(operation)
    performUnanswered(lane)
  }

  /// What isn't answered takes no time, but waits behind what does.
  private mutating func performUnanswered(_ lane: Int) {
    while let first = lanes[lane].first {
      switch first {
      case .admit(let payload, let key, let offset, let dropping):
        let bytes = held.removeValue(forKey: payload) ?? []
        queue(of: key) { $0.admit(bytes, offset: offset, dropping: dropping) }
      case .discard(let key, let from): queue(of: key) { $0.discard(from: from) }
      case .free(let key, let below): queue(of: key) { $0.free(below: below) }
      case .forget(let key): queues[key] = nil
      default: return
      }
      lanes[lane].removeFirst()
    }
  }

  private mutating func queue<T>(
    of key: StringKey, _ body: (inout ReceiveQueue<SimulatedTree>) -> T
  ) -> T {
    body(&queues[key, default: ReceiveQueue(key: key, limits: setting.limits)])
  }

  /// Does what is next in a lane, and says so.
  mutating func answer(_ lane: Int) {
    guard let answer = perform(lane) else { return }
    judge()
    lanes[lane].removeFirst()
    performUnanswered(lane)
    input(answer)
  }

  @discardableResult
  private mutating func perform(_ lane: Int) -> ServerInput? {
    guard let operation = lanes[lane].first else { return nil }
    return perform(operation)
  }

  private mutating func perform(_ operation: Operation) -> ServerInput? {
    switch operation {
    case .repair(let row, let leftover): return .repaired(row.key, repair(row, leftover: leftover))
    case .create(let key, let path, let adopts):
      return .created(
        key, disk.create(path, adopts: adopts, isDurable: scope.mutant != .skipDirectorySync))
    case .verify(let key, let path, let from, let root, let promises):
      return .verified(key, verify(key, path, from: from, root: root, promises: promises))
    case .compare(let payload, _, let path, let offset, let count):
      let bytes = bytes(of: path, from: offset, count)
      return .compared(payload, isEqual: bytes.map { $0.elementsEqual((held[payload] ?? []).prefix(count)) })
    case .write(let key, let path, let from, let upTo, let sync):
      let bytes = queues[key]?.bytes(offset: from, length: Int(upTo - from)) ?? []
      let isSynced = sync && !isTorn && scope.mutant != .writeWithoutSync
      if let wrong = disk.append(path, from: from, bytes, sync: isSynced) {
        complain(wrong)
      }
      return .written(key, upTo: upTo, .done)
    case .sync(let targets):
      if scope.mutant != .acknowledgeBeforeSync { for target in targets { disk.sync(target.stored) } }
      return .synced(targets.map { ServerInput.SyncedLength(key: $0.key, length: $0.length) }, .done)
    case .load(let id, let query):
      do throws(StoreError) {
        var answer = mutations.answer(try read(query).answer(query, hasher: SimulatedTree.self))
        // Commits aren't numbered here: two states that differ in nothing else are one.
        answer.number = 0
        return .loaded(id, answer)
      } catch { return .unreadable(id, error) }
    case .computeRoot(let id, let key, let path, let length):
      return .rootComputed(id, root(of: key, path, length))
    case .supply(let id, let channel, let key, let path, let header):
      let bytes = readable(key, path, from: header.offset, header.length)
      if let bytes, scope.mutant != .loseSupply {
        said.append(.frame(id, .channel(channel)))
        said.append(.payload(id, header, bytes))
      }
      return .supplied(id, channel: channel, header, isSent: bytes != nil)
    case .commit(let batch): return perform(batch)
    case .admit, .discard, .free, .forget: return nil
    }
  }

  /// As the store is now.
  private func read(_ query: StoreQuery) -> InMemoryServerStore<SimulatedTree>.State {
    guard scope.mutant == .announceEarly, case .changes = query, case .commit(let batch)? = lanes[0].first else {
      return store.state
    }
    let ahead = stored
    return (try? ahead.commit(batch)) == nil ? store.state : ahead.snapshot()
  }

  private func root(of key: StringKey, _ path: BytePath, _ length: UInt64) -> Digest? {
    let size = UInt64(setting.limits.leafSize)
    let start = length / size * size
    guard let leaves = try? stored.leaves(of: key, count: length / size),
      let open = start == length ? [] : readable(key, path, from: start, Int(length - start))
    else { return nil }
    var tree = FileTree<SimulatedTree>(leafSize: setting.limits.leafSize, leaves: leaves)
    tree.append(open.span.bytes)
    return tree.root
  }

  /// Committed bytes, from memory, from the log or from the plain file.
  private func readable(_ key: StringKey, _ path: BytePath, from offset: UInt64, _ count: Int) -> [UInt8]? {
    try? (queues[key]?.queue ?? ByteQueue()).bytes(offset: offset, count: count) { offset, count in
      try StoredBytes.read(offset..<(offset + UInt64(count)), log: store.log(of: key)) {
        bytes(of: path, from: $0, $1) ?? []
      }
    }
  }

  private mutating func repair(_ row: StoredString, leftover: UInt64?) -> RepairOutcome {
    if scope.mutant == .skipRepair { return .done }
    let forgets = scope.mutant == .forgetLog
    let range = ExhaustiveDisk.StoredRow(
      path: row.stored, synced: row.synced, committed: forgets ? row.synced : row.committed)
    let outcome = disk.repair(
      range, log: forgets ? [] : store.log(of: row.key), leftover: leftover)
    if outcome != .done { complain("a repair ends with \(outcome)") }
    return outcome
  }

  private mutating func verify(
    _ key: StringKey, _ path: BytePath, from: UInt64, root: Digest, promises: [Promise]
  ) -> VerifyAnswer {
    let (disk, state) = (disk, store.state)
    let answer = queue(of: key) {
      $0.verify(
        from: from, root: root, promises: promises,
        storedLeaves: { try InMemoryServerStore<SimulatedTree>(state: state).leaves(of: key, count: $0) },
        held: { offset, count in
          guard let bytes = Self.bytes(of: path, from: offset, count, on: disk) else {
            throw SourceFailure("not in the plain file")
          }
          return bytes
        })
    }
    if let reason = answer.unreadable { complain("a verification can't read: \(reason)") }
    return answer
  }

  private func bytes(of path: BytePath, from offset: UInt64, _ count: Int) -> [UInt8]? {
    Self.bytes(of: path, from: offset, count, on: disk)
  }

  private static func bytes(
    of path: BytePath, from offset: UInt64, _ count: Int, on disk: ExhaustiveDisk
  ) -> [UInt8]? {
    guard let file = disk[path], file.cache.count >= Int(offset) + count else { return nil }
    return Array(file.cache[Int(offset)..<(Int(offset) + count)])
  }

  private mutating func perform(_ batch: ServerBatch) -> ServerInput {
    for cursor in batch.cursors { said.append(.cursor(cursor)) }
    let key = Setting.CommitKey(store: store.digest, batch: Digest128(batch))
    if let known = setting.commits[key] {
      store = known.store
      return known.answer
    }
    let answer = commit(batch)
    setting.commits[key] = (store, answer)
    return answer
  }

  private var stored: InMemoryServerStore<SimulatedTree> {
    let stored = InMemoryServerStore<SimulatedTree>(state: store.state)
    // Its store is never put back: one life is enough.
    if !setting.peers.isEmpty { stored.begin(UUIDBytes(high: 1, low: 1)) }
    return stored
  }

  private mutating func commit(_ commit: ServerBatch) -> ServerInput {
    var batch = commit
    if scope.mutant == .forgetPromises { batch.promises = [] }
    if scope.mutant == .trimEarly {
      batch.trims += batch.log.map { ServerBatch.Trim(key: $0.key, below: $0.offset + UInt64($0.bytes.count)) }
      batch.log = []
    }
    guard scope.mutant != .forgetServerCommit else { return .committed(nil) }
    let stored = stored
    do throws(StoreError) {
      let done = try stored.commit(batch)
      store = try ExhaustiveStore(stored.snapshot(), leafSize: setting.limits.leafSize, peers: setting.peers)
      return .committed(nil, done)
    } catch {
      complain("the store: \(error)")
      return .committed(error)
    }
  }
}
