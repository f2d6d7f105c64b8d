import DataPlane
import HostCore
import JournalModel
import JournalStore
import MerkleLog
import ServerCore
import WireProtocol

/// One life of a server's node.
final class ServerProcess: SimulatedProcess {
  let server: SimulatedServer
  private(set) var machine: ServerMachine<SimulatedTree>
  var status: ServerStatus { machine.status }
  let plane: SimulatedServerPlane
  struct Session {
    var connection: Connection
    var host: Int
    var decoder: FrameDecoder
    /// At which end of the connection this server is: at the host's if it connected, to a peer.
    var end = Direction.toServer
    /// What of a peer's feed was announced.
    var announced: [ChangedSubject: Change] = [:]
    var shownCursor: FeedCursor?
    /// Of which channel the next frame is, as it was said and heard.
    var channelSaid: UInt32?
    var channelHeard: UInt32?
    var heardAt = Instant(nanoseconds: 0)
    var isPaused = false
    /// What came meanwhile.
    var unread: [UInt8] = []
  }
  var sessions: [ConnectionID: Session] = [:]
  private var nextPayload: UInt64 = 0
  private var spare: [ServerEffect] = []
  var mutations: ServerMutations
  private(set) var isServing = false
  private var isCounterDue = false
  private var hasCommitted = false
  private var isOlder = false
  /// What the commit under way will have changed.
  private var underWay: ServerBatch?
  /// Its store may have more than it knows.
  var isCommitting: Bool { underWay != nil }

  init(server: SimulatedServer, world: World) {
    self.server = server
    var settings = server.settings
    settings.jitterSeed = UInt64(server.lives)
    machine = ServerMachine(settings: settings, verifier: SimulatedSignatures())
    mutations = ServerMutations(world.mutant)
    let store = server.store
    plane = SimulatedServerPlane(
      disk: server.disk, limits: world.limits, storedLeaves: { try store.leaves(of: $0, count: $1) },
      loggedBytes: { key, range in
        try store.logRanges(of: key).filter {
          $0.offset < range.upperBound && $0.offset + UInt64($0.length) > range.lowerBound
        }.map { ($0.offset, try store.logPayload(of: key, offset: $0.offset)) }
      })
    super.init(world: world, node: .server(server.index))
    plane.mutant = world.mutant
    plane.noticed = { [unowned self] in self.world.mark($0) }
    plane.overwriteAttempted = { [unowned self] path, from, length in
      self.world.oracle.fail(
        .overwrite, "server \(server.index): a write to \(path) from \(from), where the plain file has \(length) bytes")
    }
    applyFaults()
  }

  func applyFaults() {
    server.disk.isFull = server.has(.diskFull)
    server.disk.writesFail = server.has(.writeError)
    server.disk.readsFail = server.has(.readError)
    if server.take(.failSync) { server.disk.nextSyncFails = true }
    if server.take(.failDirectorySync) { server.disk.nextDirectorySyncFails = true }
  }

  override func befall(_ fault: Strike.Fault?) {
    befalling = fault
    server.disk.isFull = fault == .noSpace || server.has(.diskFull)
    server.disk.writesFail = fault == .inputOutput || server.has(.writeError)
    server.disk.nextSyncFails = fault == .failSync
  }

  func start() {
    server.disk.evictLostPages()
    do {
      server.store.begin(server.life)
      let counterMatches = try server.isStoreCurrent()
      if !counterMatches { world.mark(.storeFoundOld) }
      isOlder = !counterMatches
      try world.oracle.starts(server)
      world.oracle.forgetsPayload(server)
      var cursors: [String: FeedCursor] = [:]
      for peer in server.settings.peers { cursors[peer] = try server.store.cursor(of: peer) }
      input(
        .started(
          journals: try server.store.journals(),
          left: try server.store.leftUnfinished(promises: world.plan.knobs.limits.promiseWindow),
          totals: mutations.totals(try server.store.totals()), counterMatches: counterMatches,
          number: server.store.number, feed: try server.store.feed(), cursors: cursors))
      if isAlive { world.oracle.checkTotals(server) }
    } catch { world.oracle.fail(.crash, "the server's store can't be read: \(error)") }
  }

  func die(silently: Bool) {
    end()
    for (_, session) in sessions.sorted(by: { $0.key < $1.key }) {
      session.connection.abort(session.end.other, silently: silently)
    }
    sessions = [:]
  }

  func accept(_ connection: Connection, host: Int, peer: Peer) {
    enter(Session(connection: connection, host: host, decoder: FrameDecoder(limits: world.limits, from: .host)))
    run { [self] in input(.accepted(connection.id, peer)) }
  }

  func enter(_ session: Session) {
    let id = session.connection.id
    sessions[id] = session
    session.connection.attach(
      at: session.end,
      receive: { [self] bytes in run { [self] in received(id, bytes) } },
      ended: { [self] _ in run { [self] in ended(id) } })
  }

  private func ended(_ id: ConnectionID) {
    guard sessions.removeValue(forKey: id) != nil else { return }
    world.oracle.linkEnded(server, id)
    input(.closed(id))
  }

  /// Bytes came.
  private func heard(_ id: ConnectionID) {
    let now = world.kernel.now
    guard let last = sessions[id]?.heardAt, now - last >= world.limits.progress else { return }
    sessions[id]?.heardAt = now
    after(1_000) { [self] in input(.progress(id)) }
  }

  private func received(_ id: ConnectionID, _ bytes: [UInt8]) {
    guard let session = sessions[id], !session.isPaused, session.unread.isEmpty else {
      sessions[id]?.unread += bytes
      return
    }
    session.connection.consumed(bytes.count, session.end)
    world.kernel.trace.mix(bytes)
    heard(id)
    sessions[id]?.decoder.feed(bytes.span.bytes)
    takeFrames(id)
  }

  private func pause(_ id: ConnectionID) {
    if sessions[id] != nil { world.mark(.paused) }
    sessions[id]?.isPaused = true
  }

  /// Not at once: what is under way is done first.
  private func resume(_ id: ConnectionID) {
    sessions[id]?.isPaused = false
    after(1_000) { [self] in
      guard let session = sessions[id], !session.isPaused else { return }
      sessions[id]?.unread = []
      received(id, session.unread)
    }
  }

  private func takeFrames(_ id: ConnectionID) {
    while isAlive, sessions[id]?.isPaused == false {
      do {
        guard let next = try sessions[id]?.decoder.next() else { return }
        switch next {
        case .frame(let frame):
          world.note(frame)
          world.timeline?.received(server, frame)
          let frame = receivedFromPeer(frame, on: id)
          if world.mutant == .acknowledgeRecordsOnReceipt, !isPeer(id), case .records(let records) = frame {
            perform(.send(id, .recordsDurable(records.checkpoint)))
          }
          input(.received(id, frame))
        case .payload(let header, let bytes):
          let payload = PayloadID(nextPayload)
          nextPayload += 1
          plane.hold(payload, bytes: bytes)
          world.timeline?.received(server, header, bytes)
          world.payloadBytes += UInt64(bytes.count)
          takes(header, on: id)
          if world.mutant == .acknowledgeOnReceipt, !isPeer(id) {
            let claimed = DurablePrefix(file: header.file, length: header.end, root: SimulatedTree.empty)
            perform(.send(id, .payloadDurable([claimed])))
          }
          input(.receivedPayload(id, header, payload))
        }
      } catch {
        if !isHostile(id) { world.oracle.fail(.wire, "host or server sent what is no frame: \(error)") }
        input(.broken(id, "\(error)"))
        if let session = sessions[id] { session.connection.abort(session.end.other, silently: false) }
        return ended(id)
      }
    }
  }

  func input(_ input: ServerInput) {
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
    if isOlder, machine.mayCountOn {
      isOlder = false
      advanceCounter()
    }
    world.oracle.bounded(server, waiting: plane.waitingBytes)
    arm(machine.nextDeadline) { [self] in self.input(.tick) }
  }

  // MARK: Effects

  private func perform(_ effect: ServerEffect) {
    let disk = world.plan.knobs[.diskLatency]
    let plane = plane
    if takeReset() {
      switch effect {
      case .send(let id, _), .supply(let id, _, _, _, _): sessions[id]?.connection.reset()
      default: break
      }
      return
    }
    switch effect {
    case .repair(let row, let leftover): repair(row, leftover)
    case .serve:
      isServing = true
      world.oracle.serves(server)
      advanceCounter()
    case .send(let id, let frame):
      let frame = mutations.frame(frame)
      world.oracle.sends(server, to: sessions[id]?.host, frame)
      world.timeline?.sent(server, frame)
      if isPeer(id) { sendsToPeer(frame, on: id) }
      if let session = sessions[id] { session.connection.send(frame.encoded(), session.end.other) }
    case .awaitTaken(let id):
      if let session = sessions[id] {
        session.connection.whenTaken(session.end.other) { [self] in run { [self] in input(.taken(id)) } }
      }
    case .pause(let id): pause(id)
    case .resume(let id): resume(id)
    case .close(let id, let code, let text): close(id, code, text)
    case .admit(let id, let key, let offset): inOrder(key) { plane.admit(id, to: key, offset: offset) }
    case .drop(let id): plane.drop(id)
    case .compare(let id, let key, let segment, let offset, let count):
      job(.string(key), disk) { [self] in
        befalling == nil ? plane.compare(id, with: key, in: segment, offset: offset, count: count) : nil
      } answer: {
        [self] in
        if world.mutant == .appendRepeats, $0 == true, segment.start == 0 {
          mutations.append(segment.path, offset, count, server.disk)
        }
        input(.compared(id, isEqual: $0))
      }
    case .probe(let id, let key, let segment, let offset, let count):
      job(.string(key), disk) { [self] in
        befalling == nil ? plane.probe(id, against: key, in: segment, offset: offset, count: count) : .unreadable
      } answer: {
        [self] in
        input(.probed(id, $0))
      }
    case .admitTail(let id, let key, let offset, let dropping):
      inOrder(key) { plane.admitTail(id, to: key, offset: offset, dropping: dropping) }
    case .verify(let key, let segment, let from, let root, let promises):
      job(.string(key), disk) {
        plane.verify(key, in: segment, from: from, root: root, promises: promises)
      } answer: { [self] in
        if mutations.isAnswered($0) { input(.verified(key, $0)) }
      }
    case .discard(let key, let from): inOrder(key) { plane.discard(key, from: from) }
    case .create(let key, let segment, let adopts):
      job(.string(key), disk) { [self] in
        befalling == .inputOutput ? .failed("EIO") : plane.create(key, segment, adopts: adopts)
      } answer: { [self] in
        if $0 == .created { mutations.made(key, in: server.store) }
        input(.created(key, $0))
      }
    case .write(let key, let segment, let from, let upTo, let sync):
      job(.string(key), sync ? disk * 4 : disk) {
        plane.write(key, segment, from: from, upTo: upTo, sync: sync)
      } answer: { [self] in
        input(.written(key, upTo: upTo, $0))
      }
    case .free(let key, let below): inOrder(key) { plane.free(key, below: below) }
    case .sync(let targets):
      job(.sync, disk * 4) {
        plane.sync(targets.map(\.stored))
      } answer: { [self] outcome in
        input(.synced(targets.map { ServerInput.SyncedLength(key: $0.key, length: $0.length) }, outcome))
      }
    case .commit(let batch, let log): commit(batch, log)
    case .load(let id, let query): load(id, query)
    case .forget(let key): inOrder(key) { plane.forget(key) }
    case .link(let host, let path):
      job(.sync, disk) { [self] in
        let newest = try? server.store.newest(host: host, latest: path)?.stored
        return (mutations.lastMade(host, path) ?? newest).flatMap { plane.link(host: host, path: path, to: $0) }
      } answer: { _ in
      }
    case .dial(let peer): dial(peer)
    case .computeRoot(let id, let key, let segment, let length):
      job(.string(key), disk) { [self] in
        befalling == nil ? plane.root(of: key, in: segment, length: length) : nil
      } answer: { [self] root in
        if root != nil { world.mark(.comparedWithLonger) }
        input(.rootComputed(id, mutations.root(root, of: key.key, length: length)))
      }
    case .supply(let id, let channel, let key, let segment, let header):
      supply(id, channel, key, segment, header)
    case .settled: break
    case .halt(let reason): world.halted(node, reason)
    case .report(let report): world.oracle.reported(server, report)
    }
  }

  /// Effects about one string are performed in the order in which they came, also behind one that takes long.
  private func inOrder(_ key: StringKey, _ work: @escaping () -> Void) {
    if isBusy(.string(key)) { job(.string(key), 1, work) { _ in } } else { work() }
  }

  private func repair(_ row: StoredString, _ leftover: UInt64?) {
    let plane = plane
    let store = server.store
    let ranges = (try? store.logRanges(of: row.key)) ?? []
    if row.committed > row.synced { world.mark(.repairedByLog) }
    job(.string(row.key), world.plan.knobs[.diskLatency]) { () -> RepairOutcome in
      let log = ranges.compactMap { range in
        (try? store.logPayload(of: range.key, offset: range.offset)).map { (offset: range.offset, bytes: $0) }
      }
      return plane.repair(
        row.key, row.segment, synced: row.synced, committed: row.committed, log: log, leftover: leftover)
    } answer: { [self] in
      input(.repaired(row.key, $0))
    }
  }

  private func isHostile(_ id: ConnectionID) -> Bool { sessions[id]?.host == world.adversary?.index }

  private func close(_ id: ConnectionID, _ code: RefusalCode, _ text: String) {
    guard let session = sessions[id] else { return }
    if !isHostile(id) { world.note(.goodbye(code: code, text: text)) }
    if isPeer(id) { world.oracle.accused(server, peer: session.host, code, text) }
    world.oracle.linkEnded(server, id)
    session.connection.send(Frame.goodbye(code: code, text: text).encoded(), session.end.other)
    session.connection.close(session.end.other)
    after(1_000) { [self] in ended(id) }
  }

  /// As `ServerDriver` does it.
  private func advanceCounterSoon() {
    guard !isCounterDue else { return hasCommitted = true }
    hasCommitted = false
    isCounterDue = true
    advanceCounter()
    after(500_000_000) { [self] in
      isCounterDue = false
      if hasCommitted { advanceCounterSoon() }
    }
  }

  private func advanceCounter() {
    guard machine.mayCountOn else { return }
    job(.commit, 1_000) { [self] in
      try? server.advanceCounter()
    } answer: { _ in
    }
  }

  private func commit(_ batch: ServerBatch, _ log: [LogRange]) {
    defer { advanceCounterSoon() }
    var batch = batch
    for range in log {
      let bytes = plane.queued(range.key, offset: range.offset, length: range.length)
      batch.log.append(ServerBatch.LogPayload(key: range.key, offset: range.offset, bytes: bytes))
    }
    mutations.batch(&batch)
    checkCursors(batch)
    underWay = batch
    let server = server
    let complete = batch
    var done = ServerCommitted()
    job(.commit, world.plan.knobs[.commitLatency]) { [self] () -> StoreError? in
      var batch = complete
      switch befalling {
      case .noSpace: return .full("ENOSPC")
      case .inputOutput: return .failedSync("EIO")
      default: break
      }
      if server.has(.storeFull) { return .full("ENOSPC") }
      if server.take(.failStoreSync) { return .failedSync("EIO") }
      if let error = refusal(of: batch) { return error }
      do throws(StoreError) {
        if world.mutant == .forgetServerCommit, world.chance(.mutation) { return nil }
        if world.mutant == .forgetPromises { batch.promises = [] }
        if world.mutant == .forgetOthers {
          let held = server.store.snapshot()
          batch.promises.removeAll { $0.length <= held.string($0.key.first)?.committed ?? 0 }
        }
        if world.mutant == .trimEarly {
          batch.trims += batch.log.map { ServerBatch.Trim(key: $0.key, below: $0.offset + UInt64($0.bytes.count)) }
          batch.log = []
        }
        done = try server.store.commit(mutations.kept(batch))
        world.oracle.committed(server, batch)
        return befalling == .failSync ? .failedSync("EIO") : nil
      } catch {
        switch error {
        // Another string has the name: the server is to give the next one.
        case .refused(_, .alreadyExists): break
        case .corrupt, .refused: world.oracle.fail(.storeContract, "server \(server.index): \(error)")
        default: break
        }
        return error
      }
    } answer: { [self] error in
      underWay = nil
      input(.committed(error, done, number: server.store.number))
    }
  }

  /// Answers come late, in any order, from the store as it was at any moment between question and answer.
  private func load(_ id: ReadID, _ query: StoreQuery) {
    let server = server
    job(.free, world.plan.knobs[.loadLatency]) { [self] () -> ServerInput in
      if befalling == .inputOutput || server.has(.storeUnreadable) { return .unreadable(id, .failed("EIO")) }
      do throws(StoreError) {
        // The oldest snapshot of all: nothing is in it.
        if server.isStale() {
          world.mark(.staleLoad)
          return .loaded(id, try InMemoryServerStore<SimulatedTree>().answer(query))
        }
        if case .promises = query { world.mark(.windowRead) }
        if world.mutant == .announceEarly, case .changes = query, let underWay {
          let ahead = InMemoryServerStore<SimulatedTree>(state: server.store.snapshot())
          ahead.begin(server.life)
          if (try? ahead.commit(underWay)) != nil { return .loaded(id, try ahead.answer(query)) }
        }
        return .loaded(id, mutations.answer(try server.store.answer(query)))
      } catch { return .unreadable(id, error) }
    } answer: { [self] in
      input($0)
    }
  }

  private func refusal(of batch: ServerBatch) -> StoreError? {
    let subjects = batch.records.map { StoreSubject.journal($0.after.key) } + batch.strings.map { .string($0.key) }
    // A string more often than not: a journal takes all of its host along.
    if let struck = subjects.last, server.take(.refuseRow) { server.refused.insert(struck) }
    return subjects.first { server.refused.contains($0) }.map { .refused($0, .corrupt("struck")) }
  }
}
