import DataPlane
import HostCore
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

/// One life of a host's node: performs the machine's effects with latencies and brings the answers.
final class HostProcess: SimulatedProcess {
  private let host: SimulatedHost
  private var machine: HostMachine<SimulatedTree>
  let plane: SimulatedHostPlane
  private let watches: WatchQueue
  private struct Session {
    var connection: Connection
    var server: ServerIndex
    var decoder: FrameDecoder
    var heardAt = Instant(nanoseconds: 0)
  }
  private var sessions: [ConnectionID: Session] = [:]
  private var spare: [HostEffect] = []
  private var mutations: HostMutations
  /// The configuration's servers, by their position in it.
  private let servers: [Int]
  /// Names older than this one stood before the process began.
  private(set) var firstEra = 0
  private(set) var settledTokens: Set<UInt64> = []
  /// What is owed for a token, by file.
  private var owed: [UInt64: [FileUUID: Int]] = [:]
  /// How often each server had lost something when it was last met.
  private var setbacksSeen: [Int: Int] = [:]
  private var wasAskedAgain = false
  /// Work that waits for a file system that hangs.
  private var held: [() -> Void] = []

  init(host: SimulatedHost, world: World) {
    self.host = host
    watches = WatchQueue(seed: world.plan.seed, name: "host\(host.index).\(host.lives)")
    mutations = HostMutations(world.mutant)
    let store = host.store
    plane = SimulatedHostPlane(
      disk: host.disk, watches: watches, limits: world.limits,
      random: RandomStream(seed: world.plan.seed, entity: "host\(host.index)", purpose: "plane.\(host.lives)"),
      storedLeaves: { try store.leaves(of: $0, count: $1) })
    var settings = host.settings
    if world.mutant == .callNothingHung { settings.limits.hungAfter = Interval(nanoseconds: .max / 4) }
    machine = HostMachine(settings: settings)
    servers = host.configured
    super.init(world: world, node: .host(host.index))
    watches.queueLimit = Int(world.plan.knobs[.hintQueue])
    watches.watchLimit = Int(world.plan.knobs[.watchLimit])
    watches.wake = { [weak self] in self?.hintsCame() }
    host.disk.watcher = watches
    plane.mutant = world.mutant
    plane.timeMargin = Int64(world.plan.knobs[.timeMargin])
    plane.lead = { [unowned self] in
      self.world.wall(.host(host.index)).nanoseconds - Int64(self.world.kernel.now.nanoseconds)
    }
    plane.interleave = { [unowned self] in self.world.interleave(host.index) }
    plane.didIngest = { [unowned self] file, inode, from, bytes, answer in
      self.world.oracle.ingested(host.index, file, inode, from: from, bytes, answer)
    }
    plane.didLoseDescriptor = { [unowned self] in self.world.oracle.lostDescriptor(host.index, $0) }
    host.disk.era += 1
    firstEra = host.disk.era
    applyFaults()
  }

  func applyFaults() {
    plane.faults.noDescriptors = host.has(.emfile)
    plane.faults.readsFail = host.has(.readError)
    plane.faults.interrupted = host.has(.interrupted)
    plane.faults.shortReads = host.has(.shortReads) || world.chance(.shortRead)
    guard !world.isCalm else { return watches.faults = WatchQueue.Faults() }
    watches.faults.loss = host.hintFaults.loss > 0 ? host.hintFaults.loss : world.plan.knobs[.hintLoss]
    watches.faults.duplicate =
      host.hintFaults.duplicate > 0 ? host.hintFaults.duplicate : world.plan.knobs[.hintDuplicate]
  }

  /// Holds work on a file system that hangs; `giveUp` is what the machine is told instead when that takes too long.
  private func holds(
    _ fileSystem: @escaping () -> UInt64?, giveUp: (() -> Void)? = nil
  ) -> (@escaping () -> Void) -> Bool {
    { [self] work in
      guard host.hangs(fileSystem()) else { return false }
      world.mark(.hung)
      held.append(work)
      if let giveUp { after(world.limits.hungAfter.nanoseconds, giveUp) }
      return true
    }
  }

  private func fileSystem(of directory: BytePath) -> () -> UInt64? {
    { [host] in host.disk.inode(directory)?.fileSystem }
  }
  private func fileSystem(of id: FileID) -> () -> UInt64? { { [plane] in plane.inode(of: id)?.fileSystem } }

  /// A file system answers again.
  func releaseHeld() {
    let works = held
    held = []
    for work in works { work() }
  }

  /// What the machine hears of its question: the answer, or what it is told instead.
  private final class Once {
    private var isTold = false
    func tell(_ answer: () -> Void) {
      guard !isTold else { return }
      isTold = true
      answer()
    }
  }

  override func befall(_ fault: Strike.Fault?) {
    befalling = fault
    plane.faults.readsFail = fault == .inputOutput || host.has(.readError)
    watches.watchLimit = fault == .noSpace ? 0 : Int(world.plan.knobs[.watchLimit])
  }

  func overflowHints() { watches.overflow() }
  func noteMount() { watches.mounted() }

  /// Every hint comes, and comes once; those that are late come now.
  func calm() {
    applyFaults()
    run { [self] in takeHints() }
  }

  var hintCounts: WatchQueue.Counts { watches.counts }
  func isWatching(_ directory: BytePath) -> Bool { watches.isWatched(directory) }

  /// Asks what is settled of all that is journaled.
  func ask(_ token: UInt64) {
    run { [self] in
      owed[token] = world.oracle.owed(by: host)
      input(.settle(token: token))
    }
  }

  /// It learned of what the server lost.
  func hasMet(_ server: SimulatedServer) -> Bool { setbacksSeen[server.index] == server.setbacks }

  /// And took it in.
  func knows(_ server: SimulatedServer) -> Bool {
    hasMet(server) && machine.status.servers.contains { $0.name == server.name && $0.isConnected }
  }

  /// Asks once more when it has met every server since that server last lost anything: what it says before, it says by
  /// the word of servers that had not lost it yet.
  func askAgain(_ token: UInt64) {
    guard !wasAskedAgain, servers.allSatisfy({ hasMet(world.servers[$0]) }) else { return }
    wasAskedAgain = true
    ask(token)
  }

  /// What a settlement still waits for, in the host's own words.
  var unsettled: [String] {
    machine.status.settlements.flatMap { settlement in
      ["scanned \(settlement.isScanned), \(settlement.unsettledCount) files"]
        + settlement.unsettled.map { "\($0.file.text) \($0.lack.reason)" }
    }
  }

  /// The same by file; complete when none is left out.
  var unsettledFiles: (files: [FileUUID], isComplete: Bool) {
    let status = machine.status
    let waiting = status.settlements
    let isComplete =
      waiting.allSatisfy { $0.isScanned && $0.unsettledCount == $0.unsettled.count }
      && status.servers.allSatisfy { $0.hasEndedFiles || !$0.lackedEnded.isEmpty }
    return (waiting.flatMap { $0.unsettled.map(\.file) } + status.servers.flatMap(\.lackedEnded), isComplete)
  }

  func start() {
    do {
      input(.started(mutations.start(try host.store.start(servers: host.settings.servers))))
    } catch { world.oracle.fail(.crash, "the host's store can't be read: \(error)") }
  }

  /// The process is gone. `silently`: the power is, too, and nobody is told.
  func die(silently: Bool) {
    end()
    plane.die()
    host.disk.watcher = nil
    for (_, session) in sessions.sorted(by: { $0.key < $1.key }) {
      session.connection.abort(.toServer, silently: silently)
    }
    sessions = [:]
  }

  private func hintsCame() {
    let delay = world.latency(node, world.plan.knobs[.hintLatency]) + host.hintDelay(world.kernel.now)
    after(delay) { [self] in takeHints() }
  }

  private func takeHints() {
    for hint in mutations.hints(plane.hints()) {
      input(.hinted(hint))
      guard isAlive else { return }
    }
  }

  func input(_ input: HostInput) {
    guard isAlive else { return }
    var effects = spare
    spare = []
    world.observe(node, "<- \(input)")
    machine.step(input, at: world.kernel.now, wall: wall, into: &effects)
    world.steps += 1
    world.kernel.trace.mix(UInt64(effects.count))
    for effect in effects {
      world.observe(node, "-> \(effect)")
      guard mayPerform(effect.possibleFaults) else { return }
      perform(effect)
    }
    effects.removeAll(keepingCapacity: true)
    spare = effects
    arm(machine.nextDeadline) { [self] in self.input(.tick) }
  }

  // MARK: Effects

  private func perform(_ effect: HostEffect) {
    let disk = world.plan.knobs[.diskLatency]
    let plane = plane
    if takeReset() { return breakConnection(effect) }
    switch effect {
    case .watch(let directory, let isBase, let known):
      list(directory) { plane.watch(directory, isBase: isBase, known: known) }
    case .unwatch(let directory): plane.unwatch(directory)
    case .list(let directory, let names): list(directory) { plane.list(directory, names: names) }
    case .attach(let id, let file, let inode, let path):
      plane.attach(id, file: file, inode: inode, path: path)
      world.oracle.attached(host.index, file, inode)
      // Let go of once, as moved out of sight: nothing holds it before it is read again.
      world.oracle.lostDescriptor(host.index, file)
    case .relocate(let id, let path, let isPinned): plane.relocate(id, path: path, isPinned: isPinned)
    case .reborn(let id, let next, let file):
      world.oracle.reborn(host.index, file, plane.inodeKey(of: id))
      plane.reborn(id, as: next, file: file)
    case .release(let id): plane.release(id)
    case .ingest(let id, let from, let root, let limit):
      job(.file(id), disk, holds: holds(fileSystem(of: id))) {
        plane.ingest(id, from: from, root: root, limit: limit)
      } answer: { [self] in
        input(.ingested(id, $0))
      }
    case .probeWriters(let id):
      job(.file(id), disk, holds: holds(fileSystem(of: id))) { [self] in
        befalling == nil ? plane.probeWriters(id) : nil
      } answer: { [self] in
        input(.writersProbed(id, hasWriters: $0))
      }
    case .commit(let batch): commit(batch)
    case .load(let id, let query): load(id, query)
    case .connect(let server): connect(server)
    case .disconnect(let id, _): sessions.removeValue(forKey: id)?.connection.close(.toServer)
    case .send(let id, let frame): send(frame, on: id)
    case .sendRecords(let id, let from, let upTo): sendRecords(id, from, upTo)
    case .sendPayload(let id, let file, let header): sendPayload(id, file, header)
    case .verifyHeads(let id, let heads):
      job(.free, disk) { [self] in
        heads.sorted { $0.length > $1.length }.first { (try? host.store.root(at: $0.length)) == $0.root }
      } answer: { [self] in
        input(.headsVerified(id, $0))
      }
    case .computeRoot(let connection, let id, let length):
      let once = Once()
      let giveUp = { [self] in once.tell { input(.unanswered(connection, id)) } }
      job(.free, disk, holds: holds(fileSystem(of: id), giveUp: giveUp)) {
        plane.computeRoot(id, length: length)
      } answer: { [self] root in
        once.tell { input(.rootComputed(connection, id, length: length, mutations.root(root, at: length))) }
      }
    case .halt(let reason): world.halted(node, reason)
    case .settled(let token):
      settledTokens.insert(token)
      if let owed = owed.removeValue(forKey: token) { world.oracle.saysSettled(host, owed) }
    case .report(let report): world.oracle.reported(host.index, report)
    }
  }

  private func list(_ directory: BytePath, _ work: @escaping () -> Listing) {
    job(.names, world.plan.knobs[.diskLatency], holds: holds(fileSystem(of: directory)), work) { [self] listing in
      if listing.isStill { world.mark(.stoodStill) }
      input(.listed(listing))
    }
  }

  private func commit(_ batch: HostBatch) {
    job(.commit, world.plan.knobs[.commitLatency]) { [self] () -> Result<JournalPosition, StoreError> in
      switch befalling {
      case .noSpace: return .failure(.full("ENOSPC"))
      case .inputOutput: return .failure(.failedSync("EIO"))
      default: break
      }
      if host.has(.storeFull) { return .failure(.full("ENOSPC")) }
      if host.take(.failStoreSync) { return .failure(.failedSync("EIO")) }
      if let row = batch.files.last, host.take(.refuseRow) { host.refused.insert(row.file) }
      if let row = batch.files.first(where: { host.refused.contains($0.file) }) {
        return .failure(.refused(.file(row.file), .corrupt("struck")))
      }
      do throws(StoreError) {
        let before = try host.store.length()
        var batch = batch
        switch world.mutant {
        case .forgetHostCommit where before > 8 && world.chance(.mutation):
          batch.records.removeLast(min(1, batch.records.count))
        case .forgetFileTable: batch.files = []
        case .forgetLeaves: batch.leaves = []
        case .forgetEnds: for index in batch.files.indices { batch.files[index].closed = nil }
        default: break
        }
        let position = try host.store.commit(batch)
        world.oracle.journaled(host.index, batch, from: before)
        return befalling == .failSync ? .failure(.failedSync("EIO")) : .success(position)
      } catch {
        switch error {
        case .corrupt, .refused: world.oracle.fail(.storeContract, "host: \(error)")
        default: break
        }
        return .failure(error)
      }
    } answer: { [self] in
      switch $0 {
      case .success(let position): input(.committed(position, number: host.store.number))
      case .failure(let error): input(.commitFailed(error))
      }
    }
  }

  /// Answers come late, in any order, from the store as it was at any moment between question and answer.
  private func load(_ id: LoadID, _ query: HostQuery) {
    let host = host
    job(.free, world.plan.knobs[.loadLatency]) { [self] () -> HostInput in
      if befalling == .inputOutput || host.isUnreadable(query) { return .loadFailed(id, .failed("EIO")) }
      do throws(StoreError) {
        // The oldest snapshot of all: nothing is in it.
        if host.isStale(query) {
          world.mark(.staleRow)
          return .loaded(id, try InMemoryHostStore<SimulatedTree>().answer(query, servers: host.settings.servers))
        }
        let answer = try host.store.answer(query, servers: host.settings.servers)
        if !answer.files.isEmpty { world.mark(.rowLoaded) }
        return .loaded(id, mutations.answer(answer))
      } catch { return .loadFailed(id, error) }
    } answer: { [self] in
      input($0)
    }
  }

  // MARK: Connections

  private func connect(_ server: ServerIndex) {
    let index = servers[server.value]
    let outcome = world.connect(host: host.index, server: index)
    after(outcome.delay) { [self] in
      guard let connection = world.accept(host: host.index, server: index, outcome.isPossible) else {
        input(.disconnected(server, nil, reason: "connection refused"))
        return
      }
      let id = connection.id
      sessions[id] = Session(
        connection: connection, server: server, decoder: FrameDecoder(limits: world.limits, from: .server))
      connection.attach(
        at: .toHost,
        receive: { [self] bytes in run { [self] in received(id, bytes) } },
        ended: { [self] reason in run { [self] in ended(id, reason) } })
      input(.connected(server, id))
    }
  }

  private func breakConnection(_ effect: HostEffect) {
    switch effect {
    case .send(let id, _), .sendRecords(let id, _, _), .sendPayload(let id, _, _): sessions[id]?.connection.reset()
    case .connect(let server):
      after(1_000) { [self] in input(.disconnected(server, nil, reason: "connection reset")) }
    default: break
    }
  }

  private func ended(_ id: ConnectionID, _ reason: String) {
    guard let session = sessions.removeValue(forKey: id) else { return }
    input(.disconnected(session.server, id, reason: reason))
  }

  /// Bytes came.
  private func heard(_ id: ConnectionID) {
    let now = world.kernel.now
    guard let last = sessions[id]?.heardAt, now - last >= world.limits.progress else { return }
    sessions[id]?.heardAt = now
    after(1_000) { [self] in input(.progress(id)) }
  }

  private func received(_ id: ConnectionID, _ bytes: [UInt8]) {
    sessions[id]?.connection.consumed(bytes.count, .toHost)
    world.kernel.trace.mix(bytes)
    heard(id)
    sessions[id]?.decoder.feed(bytes.span.bytes)
    while isAlive {
      do {
        guard let next = try sessions[id]?.decoder.next() else { return }
        guard case .frame(let frame) = next else { return cutOff(id, "payload from a server") }
        world.note(frame)
        world.oracle.granted(id, frame)
        guard let server = sessions[id]?.server, let frame = mutations.frame(frame, from: server.value) else {
          continue
        }
        if case .welcome = frame { setbacksSeen[servers[server.value]] = world.servers[servers[server.value]].setbacks }
        input(.received(id, frame))
      } catch { return cutOff(id, "\(error)") }
    }
  }

  private func cutOff(_ id: ConnectionID, _ reason: String) {
    world.oracle.fail(.wire, "server sent what is no frame: \(reason)")
    sessions[id]?.connection.abort(.toServer, silently: false)
    ended(id, reason)
  }

  private func send(_ frame: Frame, on id: ConnectionID) {
    sessions[id]?.connection.send(frame.encoded(), .toServer)
  }

  private func sendRecords(_ id: ConnectionID, _ from: UInt64, _ upTo: UInt64) {
    do {
      let encoded = try host.store.records(from: from, count: Int(upTo - from), bytes: .max)
      guard encoded.count == Int(upTo - from) else {
        return world.oracle.fail(.durabilityOrder, "records \(from)..<\(upTo) are offered before they are durable (J1)")
      }
      let root = try host.store.root(at: upTo)
      send(.records(Records(first: from, encoded: encoded, checkpoint: host.checkpoint(upTo, root))), on: id)
    } catch { world.oracle.fail(.durabilityOrder, "records up to \(upTo) are offered before they are durable (J1)") }
  }

  private func sendPayload(_ id: ConnectionID, _ file: FileID, _ header: PayloadHeader) {
    let plane = plane
    let once = Once()
    let giveUp = { [self] in once.tell { input(.unanswered(id, file)) } }
    let holds = holds(fileSystem(of: file), giveUp: giveUp)
    job(.free, world.plan.knobs[.diskLatency], holds: holds) { () -> Result<[UInt8], PayloadUnavailable> in
      do throws(PayloadUnavailable) {
        return .success(try plane.read(file, offset: header.offset, length: header.length))
      } catch { return .failure(error) }
    } answer: { [self] bytes in
      once.tell { sent(bytes, id, file, header) }
    }
  }

  private func sent(
    _ bytes: Result<[UInt8], PayloadUnavailable>, _ id: ConnectionID, _ file: FileID, _ header: PayloadHeader
  ) {
    switch bytes {
    case .failure(let error):
      guard sessions[id] != nil else { return }
      if world.mutant == .waitForUnreadable { return after(50_000_000) { [self] in sendPayload(id, file, header) } }
      input(.payloadUnavailable(id, file, offset: header.offset, reason: error.reason))
    case .success(let bytes):
      let isLost = world.mutant == .loseSentPayload && world.chance(.mutation)
      let frame = isLost ? [] : Frame.payload(header).encoded() + bytes
      if let server = sessions[id]?.server { mutations.sent(header, to: server.value) }
      world.oracle.sendsPayload(id, header.length)
      sessions[id]?.connection.send(frame, .toServer) { [self] in
        run { [self] in
          guard sessions[id] != nil else { return }
          input(.payloadSent(id, file, end: header.end))
        }
      }
    }
  }
}
