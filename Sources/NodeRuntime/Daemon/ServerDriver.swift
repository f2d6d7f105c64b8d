import DataPlane
import HostCore
import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
import MerkleLog
import SecureTransport
import ServerCore
import WireProtocol

/// Performs a `ServerMachine`'s effects on the real world and brings the answers. Belongs to the loop's thread.
final class ServerDriver: @unchecked Sendable {
  private(set) var machine: ServerMachine<SHA256Tree>
  private let store: LMDBServerStore<SHA256Tree>
  private let counter: StartCounter
  private let files: LinuxServerFiles
  /// The keys as they are now.
  private let tls: (TLSContext.Side) throws(TransportError) -> TLSContext
  private let peers: [Destination]
  private var attempts: [Int: Int] = [:]
  private let listener: SocketDescriptor
  private let loop: EventLoop
  private let workers: Workers
  private let connections: ConnectionNumbers
  private let report: (ServerReport) -> Void
  private let halt: (String) -> Void
  private let onLinkFailure: (HostName, BytePath, String) -> Void
  private var links: [ConnectionID: Link] = [:]
  private var lobby: Lobby
  private var acceptAgain: EventLoop.Timer?
  private var counterDue: EventLoop.Timer?
  /// The store didn't go with the log root when this process began.
  private var isOlder = false
  private var recent: RecentCommits
  /// Since the counter was advanced last.
  private var hasCommitted = false
  /// Payload taken from sockets since the start.
  private(set) var receivedBytes: UInt64 = 0
  private var lastPayload: UInt64 = 0
  /// Called when what existed at `settle` is on every peer, and theirs here.
  var onSettled: (UInt64) -> Void = { _ in }
  /// Questions about strings that workers haven't answered yet.
  private var asked: [StringKey: Int] = [:]
  private let inputs = InputQueue<ServerInput>()
  private var effects: [ServerEffect] = []

  /// Connections of hosts; more are closed at once.
  private static let connectionLimit = 4_096
  /// Connections of those who haven't said who they are, and the part of all descriptors that these may be.
  private static let strangerLimit = 256
  private static let strangerShare = 8
  /// Connections that are taken before others have their turn.
  private static let acceptedAtOnce = 32

  init(
    settings: ServerSettings, verifier: any SignatureVerifier, store: LMDBServerStore<SHA256Tree>,
    counter: StartCounter, files: LinuxServerFiles,
    tls: @escaping (TLSContext.Side) throws(TransportError) -> TLSContext, peers: [Destination],
    listener: consuming SocketDescriptor,
    loop: EventLoop, workers: Workers, connections: ConnectionNumbers,
    report: @escaping (ServerReport) -> Void,
    halt: @escaping (String) -> Void, onLinkFailure: @escaping (HostName, BytePath, String) -> Void
  ) {
    machine = ServerMachine(settings: settings, verifier: verifier)
    self.store = store
    recent = RecentCommits(seen: 0)
    self.counter = counter
    self.files = files
    self.tls = tls
    self.peers = peers
    self.listener = listener
    lobby = Lobby(places: min(Self.strangerLimit, LinuxHostFiles.raisedDescriptorLimit() / Self.strangerShare))
    self.loop = loop
    self.workers = workers
    self.connections = connections
    self.report = report
    self.halt = halt
    self.onLinkFailure = onLinkFailure
  }

  func start(counterMatches: Bool) throws {
    isOlder = !counterMatches
    var cursors: [String: FeedCursor] = [:]
    for peer in peers { cursors[peer.name] = try store.cursor(of: peer.name) }
    let feed = try store.feed()
    recent = RecentCommits(seen: feed.last)
    take(
      .started(
        journals: try store.journals(), left: try store.leftUnfinished(promises: machine.settings.limits.promiseWindow),
        totals: try store.totals(), counterMatches: counterMatches, number: store.number, feed: feed,
        cursors: cursors))
  }

  var oldReader: OldReader? { store.oldReader }

  /// No connection is open.
  var isQuiet: Bool { links.isEmpty }

  /// One input, and everything that follows from it at once.
  func take(_ input: ServerInput) {
    inputs.take(input) { input in
      effects.removeAll(keepingCapacity: true)
      machine.step(input, at: Clocks.now(), wall: Clocks.wall(), into: &effects)
      for effect in effects { perform(effect) }
      // Every plain file is what its row says: from now on this store is the one that goes with them (P3).
      if isOlder, machine.mayCountOn {
        isOlder = false
        advanceCounter()
      }
    }
  }

  private func perform(_ effect: ServerEffect) {
    switch effect {
    case .repair(let row, let leftover): repair(row, leftover: leftover)
    case .serve: serve()
    case .send(let connection, let frame):
      switch frame {
      case .welcome, .peerHello: welcome(connection)
      default: break
      }
      links[connection]?.send(frame)
    case .awaitTaken(let id): links[id]?.whenTaken { [weak self] in self?.take(.taken(id)) }
    case .pause(let connection): links[connection]?.pause()
    case .resume(let connection): links[connection]?.resume()
    case .close(let connection, let code, let text): links[connection]?.close(code, text)
    case .drop(let id): files.drop(id)
    case .admit, .admitTail, .discard, .free, .forget: performInMemory(effect)
    case .compare, .probe, .verify, .create, .write: performOnString(effect)
    case .sync(let targets): syncAll(targets)
    case .link(let host, let path): link(host, path)
    case .load(let id, let query): load(id, query)
    case .commit(let batch, let log): commit(batch, log)
    case .dial(let index): dial(index)
    case .computeRoot(let id, let key, let segment, let length):
      ask(.plainFiles, key) { [files] in .rootComputed(id, files.root(of: key, in: segment, length: length)) }
    case .supply(let link, let channel, let key, let segment, let header):
      supply(link, channel, key, segment, header)
    case .settled(let token): onSettled(token)
    case .halt(let reason): halt(reason)
    case .report(let event): report(event)
    }
  }

  // MARK: Bytes

  private func ask(_ lane: Lane, _ key: WorkKey, _ work: @escaping @Sendable () -> ServerInput) {
    workers.submit(lane, key) { [loop] in
      let answer = work()
      loop.post { [weak self] in self?.take(answer) }
    }
  }

  /// The same about a string.
  private func ask(_ lane: Lane, _ key: StringKey, _ work: @escaping @Sendable () -> ServerInput) {
    asked[key, default: 0] += 1
    workers.submit(lane, .string(key)) { [loop] in
      let answer = work()
      loop.post { [weak self] in
        guard let self else { return }
        asked[key] = asked[key].flatMap { $0 > 1 ? $0 - 1 : nil }
        take(answer)
      }
    }
  }

  /// What takes microseconds isn't handed over, which costs more than that, where nothing about its string comes before
  /// it.
  private func mayDoHere(_ key: StringKey) -> Bool { asked[key] == nil && workers.isFree(.string(key)) }

  private func performInMemory(_ effect: ServerEffect) {
    let files = files
    switch effect {
    case .admit(let id, let key, let offset): arrange(key) { files.admit(id, to: key, offset: offset) }
    case .admitTail(let id, let key, let offset, let dropping):
      arrange(key) { files.admitTail(id, to: key, offset: offset, dropping: dropping) }
    case .discard(let key, let from): arrange(key) { files.discard(key, from: from) }
    case .free(let key, let below): arrange(key) { files.free(key, below: below) }
    case .forget(let key): arrange(key) { files.forget(key) }
    default: break
    }
  }

  private func arrange(_ key: StringKey, _ work: @escaping @Sendable () -> Void) {
    if files.holdsLittle(key), mayDoHere(key) { return work() }
    workers.submit(.received, .string(key), work)
  }

  /// Work about one string runs in the order of its effects, also where one of them takes long.
  private func performOnString(_ effect: ServerEffect) {
    let files = files
    switch effect {
    case .compare(let id, let key, let segment, let offset, let count):
      ask(.plainFiles, key) {
        .compared(id, isEqual: files.compare(id, with: key, in: segment, offset: offset, count: count))
      }
    case .probe(let id, let key, let segment, let offset, let count):
      ask(.plainFiles, key) {
        .probed(id, files.probe(id, against: key, in: segment, offset: offset, count: count))
      }
    case .verify(let key, let segment, let from, let root, let promises):
      if mayDoHere(key),
        let answer = files.verifyAtOnce(key, in: segment, from: from, root: root, promises: promises)
      {
        return take(.verified(key, answer))
      }
      ask(.received, key) {
        .verified(key, files.verify(key, in: segment, from: from, root: root, promises: promises))
      }
    case .create(let key, let segment, let adopts):
      pave(files.paving(for: segment.path), .plainFiles, .string(key))
      ask(.plainFiles, key) { .created(key, files.create(key, segment, adopts: adopts)) }
    case .write(let key, let segment, let from, let end, let sync):
      ask(.plainFiles, key) {
        .written(key, upTo: end, files.write(key, segment, from: from, upTo: end, sync: sync))
      }
    default: break
    }
  }

  /// A path may have thousands of directories: others have their turn meanwhile. What fails says the work behind it.
  private func pave(_ paving: Paving, _ lane: Lane, _ key: WorkKey) {
    let paving = Monitor(paving)
    workers.submitParts(lane, key) { [files] in paving.withLock { files.makesMore(&$0) } }
  }

  private func syncAll(_ targets: [ServerEffect.SyncTarget]) {
    ask(.sync, .sync) { [files] in
      .synced(targets.map { .init(key: $0.key, length: $0.length) }, files.sync(targets.map(\.stored)))
    }
  }

  /// Which file is the newest is asked when the link is made: several may have come since.
  private func link(_ host: HostName, _ path: BytePath) {
    pave(files.paving(forLink: path, of: host), .links, .links(host))
    workers.submit(.links, .links(host)) { [loop, files, store] in
      let failure: String?
      do throws(StoreError) {
        failure = try store.newest(host: host, latest: path).flatMap {
          files.link(host: host, path: path, to: $0.stored)
        }
      } catch { failure = "\(error)" }
      guard let failure else { return }
      loop.post { [weak self] in self?.onLinkFailure(host, path, failure) }
    }
  }

  private func repair(_ row: StoredString, leftover: UInt64?) {
    ask(.plainFiles, row.key) { [store, files] in
      do {
        // The survey of a start comes by every file: of few of them the log holds anything.
        let ranges = row.synced < row.committed ? try store.logRanges(of: row.key) : []
        let log = try ranges.map {
          (offset: $0.offset, bytes: try store.logPayload(of: row.key, offset: $0.offset))
        }
        return .repaired(
          row.key,
          files.repair(
            row.key, row.segment, synced: row.synced, committed: row.committed, log: log, leftover: leftover))
      } catch {
        return .repaired(row.key, .failed("\(error)"))
      }
    }
  }

  /// The counter follows the first commit after a pause at once, and then the commits, at most this far behind: a store
  /// that was restored from a backup of before that is told from the present one.
  private static let counterInterval = Interval.milliseconds(500)

  private func advanceCounterSoon() {
    guard counterDue == nil else { return hasCommitted = true }
    hasCommitted = false
    advanceCounter()
    counterDue = loop.schedule(after: Self.counterInterval) { [unowned self] in
      counterDue = nil
      if hasCommitted { advanceCounterSoon() }
    }
  }

  private func advanceCounter() {
    guard machine.mayCountOn else { return }
    // In the commits' order: the store takes one at a time. A full disk is tried again with the next commit; what a failed
    // sync left of the number nobody knows (P4).
    workers.submit(.serverCommit, .serverCommit) { [counter, store, loop] in
      guard let reason = counter.failedSync(advancing: store) else { return }
      loop.post { [weak self] in self?.halt(reason) }
    }
  }

  private func commit(_ batch: ServerBatch, _ log: [LogRange]) {
    defer { advanceCounterSoon() }
    let seen = recent.seen
    let hasPeers = !peers.isEmpty
    workers.submit(.serverCommit, .serverCommit) { [loop, store, files] in
      var batch = batch
      batch.log = log.map {
        ServerBatch.LogPayload(
          key: $0.key, offset: $0.offset, bytes: files.queued($0.key, offset: $0.offset, length: $0.length))
      }
      do throws(StoreError) {
        let done = try store.commit(batch)
        let number = store.number
        // Peers are told of it at once.
        let news = hasPeers ? RecentCommits.News(after: seen, with: batch, in: store) : nil
        batch.log = []
        let noted = batch
        loop.post { [weak self] in
          if hasPeers { self?.recent.note(noted, number: number, news) }
          self?.take(.committed(nil, done, number: number))
        }
      } catch { loop.post { [weak self] in self?.take(.committed(error)) } }
    }
  }

  private func load(_ id: ReadID, _ query: StoreQuery) {
    if let answer = recent.answer(query) { return take(.loaded(id, answer)) }
    ask(.holdings, .reading(id, query.host)) { [store] in
      do throws(StoreError) { return .loaded(id, try store.answer(query)) } catch { return .unreadable(id, error) }
    }
  }

  // MARK: Peers

  private func supply(
    _ id: ConnectionID, _ channel: UInt32, _ key: StringKey, _ segment: Segment, _ header: PayloadHeader
  ) {
    // One behind the other: the channel's number speaks of the next frame.
    let head = Frame.channel(channel).encoded() + Frame.payload(header).encoded()
    if let frame = files.readAtOnce(key, offset: header.offset, count: header.length, behind: head) {
      return supply(id, channel, header, frame)
    }
    workers.submit(.plainFiles, .string(key)) { [loop, files] in
      let frame = files.read(key, in: segment, offset: header.offset, count: header.length, behind: head)
      loop.post { [weak self] in self?.supply(id, channel, header, frame) }
    }
  }

  private func supply(_ id: ConnectionID, _ channel: UInt32, _ header: PayloadHeader, _ frame: [UInt8]?) {
    guard let frame else { return take(.supplied(id, channel: channel, header, isSent: false)) }
    links[id]?.send(payload: frame) { [weak self] in
      self?.take(.supplied(id, channel: channel, header, isSent: true))
    }
  }

  private func dial(_ index: Int) {
    let peer = peers[index]
    attempts[index, default: 0] += 1
    let attempt = attempts[index, default: 0]
    workers.submit(.names(peer.name), .resolve(peer.name)) { [loop] in
      let answer = peer.resolve(attempt)
      loop.post { [weak self] in self?.dial(index, answer) }
    }
  }

  private func dial(_ index: Int, _ address: Result<SocketAddress, TransportError>) {
    do {
      let address = try address.get()
      let link = Link(
        id: connections.next(), session: try tls(.client).connect(on: .connecting(to: address), to: peers[index].name),
        isConnecting: true, to: .peer, address: address.description, limits: machine.settings.limits, loop: loop
      ) { [weak self] link, event in self?.handle(event, on: link, dialing: index) }
      links[link.id] = link
      link.start()
    } catch {
      take(.undialed(index, "\(error)"))
    }
  }

  private func handle(_ event: Link.Event, on link: Link, dialing index: Int) {
    switch event {
    case .open: take(.dialed(index, link.id, Peer(link)))
    case .closed(let reason) where !link.wasOpen:
      links[link.id] = nil
      take(.undialed(index, reason))
    default: handle(event, on: link)
    }
  }

  // MARK: Connections

  private func serve() {
    advanceCounter()
    listen()
  }

  func stop() {
    loop.unwatch(listener.number)
    take(.stop)
  }

  private func acceptAll() {
    for _ in 0..<Self.acceptedAtOnce {
      switch listener.accept() {
      case .connection(let socket, let address): accept(socket, from: address)
      case .none: return
      case .failed: return pauseAccepting()
      }
    }
  }

  /// Short of descriptors: the socket stays readable, and the loop must not spin on it.
  private func pauseAccepting() {
    loop.unwatch(listener.number)
    acceptAgain = loop.schedule(after: .milliseconds(100)) { [unowned self] in listen() }
  }

  private func listen() {
    do { try loop.watch(listener.number, for: .read) { [unowned self] in acceptAll() } } catch { halt("\(error)") }
  }

  private func accept(_ socket: consuming SocketDescriptor, from address: SocketAddress) {
    guard links.count - lobby.count < Self.connectionLimit, let session = try? tls(.server).accept(on: socket) else {
      return
    }
    let link = Link(
      id: connections.next(), session: session, isConnecting: false, address: address.description,
      limits: machine.settings.limits, loop: loop
    ) { [weak self] link, event in self?.handle(event, on: link) }
    links[link.id] = link
    if let crowdedOut = lobby.enter(link.id, from: address.address) {
      links[crowdedOut]?.abandon("it didn't say who it is, and its place was needed")
    }
    link.start()
  }

  /// It said who it is.
  private func welcome(_ connection: ConnectionID) {
    lobby.know(connection)
    links[connection]?.welcome()
  }

  private func handle(_ event: Link.Event, on link: Link) {
    switch event {
    case .open:
      take(.accepted(link.id, Peer(link)))
    case .answered: lobby.answered(link.id)
    case .heard: take(.progress(link.id))
    case .wasted(let cost): take(.wasted(link.id, cost))
    case .frame(let frame): take(.received(link.id, frame))
    case .payload(let header, let bytes):
      lastPayload += 1
      receivedBytes += UInt64(header.length)
      let id = PayloadID(lastPayload)
      files.hold(id, bytes: bytes)
      take(.receivedPayload(link.id, header, id))
    case .broken(let reason): take(.broken(link.id, reason))
    case .closed(let reason):
      links[link.id] = nil
      lobby.leave(link.id)
      if link.wasOpen {
        take(.closed(link.id, reason))
      } else {
        report(.peerRefused(Peer(names: [], address: link.address), .other, "TLS handshake: \(reason)"))
      }
    }
  }
}

extension Peer {
  fileprivate init(_ link: Link) {
    self.init(
      names: link.peer?.writableHosts ?? [], servers: link.peer?.serverNames ?? [], address: link.address)
  }
}
