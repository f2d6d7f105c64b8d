import DataPlane
import HostCore
import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
import MerkleLog
import SecureTransport
import WireProtocol

/// Performs a `HostMachine`'s effects on the real world and brings the answers. Belongs to the loop's thread; what may
/// wait for a disk or a name server runs on workers.
final class HostDriver: @unchecked Sendable {
  private(set) var machine: HostMachine<SHA256Tree>
  private let identity: JournalIdentity
  private let key: JournalKey
  private let store: LMDBHostStore<SHA256Tree>
  private let files: LinuxHostFiles
  private let destinations: [Destination]
  /// The keys as they are now.
  private let tls: () throws(TransportError) -> TLSContext
  private let loop: EventLoop
  private let workers: Workers
  private let connections: ConnectionNumbers
  private let report: (HostReport) -> Void
  private let halt: (String) -> Void
  private var links: [ConnectionID: Link] = [:]
  private var attempts: [ServerIndex: Int] = [:]
  /// Payload handed to sockets since the start.
  private(set) var sentBytes: UInt64 = 0
  private let inputs = InputQueue<HostInput>()
  /// What inotify told and nobody has looked at yet.
  private var hints = Fifo<WatchHint>()
  /// How long hints may keep others waiting.
  private static let hintShare = Interval.milliseconds(5)
  private var effects: [HostEffect] = []
  /// What leaves a connection behind the records that were asked for before it (W1).
  private struct Order {
    var recordsAsked = 0
    var recordsSent = 0
    var behind: [(after: Int, send: () -> Void)] = []
  }
  private var orders: [ConnectionID: Order] = [:]
  /// The records of the last commit, and the checkpoint behind them once one was signed: most are sent right after.
  private struct Latest {
    var records: [[UInt8]]
    var position: JournalPosition
    var checkpoint: Checkpoint?

    /// Large ones aren't kept in memory.
    var isLittle: Bool { records.saturatingSum { $0.count + 64 } <= 1 << 20 }
  }
  private var latest: Latest?
  /// Reads on behalf of a server, and what the machine is told when one takes too long.
  private var reads: [UInt64: (since: Instant, file: FileID, connection: ConnectionID)] = [:]
  private var lastRead: UInt64 = 0
  /// Reads that were given up and still hang: a file is not read for anybody again meanwhile.
  private var abandoned: [FileID: Int] = [:]
  /// Called when what existed at `settle` is on every server.
  var onSettled: (UInt64) -> Void = { _ in }

  init(
    settings: HostSettings, identity: JournalIdentity, key: JournalKey, store: LMDBHostStore<SHA256Tree>,
    files: LinuxHostFiles, destinations: [Destination],
    tls: @escaping () throws(TransportError) -> TLSContext, loop: EventLoop,
    workers: Workers, connections: ConnectionNumbers, report: @escaping (HostReport) -> Void,
    halt: @escaping (String) -> Void
  ) {
    machine = HostMachine(settings: settings)
    self.identity = identity
    self.key = key
    self.store = store
    self.files = files
    self.destinations = destinations
    self.tls = tls
    self.loop = loop
    self.workers = workers
    self.connections = connections
    self.report = report
    self.halt = halt
  }

  func start() throws {
    if let descriptor = files.notificationDescriptor {
      try loop.watch(descriptor, for: .read) { [unowned self] in takeHints() }
    }
    if let descriptor = files.mountDescriptor {
      try loop.watch(descriptor, for: .exceptional) { [unowned self] in take(.hinted(.mounted)) }
    }
    take(.started(try store.start(servers: destinations.map(\.name))))
  }

  /// No connection is open.
  var isQuiet: Bool { links.isEmpty }
  var oldReader: OldReader? { store.oldReader }

  /// One input, and everything that follows from it at once.
  func take(_ input: HostInput) {
    inputs.take(input) { input in
      effects.removeAll(keepingCapacity: true)
      machine.step(input, at: Clocks.now(), wall: Clocks.wall(), into: &effects)
      for effect in effects { perform(effect) }
    }
  }

  private func takeHints() {
    guard hints.isEmpty else { return }
    for hint in files.hints() { hints.append(hint) }
    takeSomeHints()
  }

  private func takeSomeHints() {
    let end = Clocks.now() + Self.hintShare
    while let hint = hints.popFirst() {
      take(.hinted(hint))
      if Clocks.now() >= end { return loop.awaitTurn { [weak self] in self?.takeSomeHints() } }
    }
  }

  private func perform(_ effect: HostEffect) {
    switch effect {
    case .watch, .unwatch, .list: performOnNames(effect)
    case .attach, .relocate, .reborn, .release, .ingest, .probeWriters, .computeRoot: performOnFile(effect)
    case .commit(let batch): commit(batch)
    case .load(let id, let query): load(id, query)
    case .connect(let server): connect(server)
    case .disconnect(let connection, let reason): links[connection]?.close(.other, reason)
    case .send(let connection, let frame): links[connection]?.send(frame)
    case .sendRecords(let connection, let first, let end): sendRecords(connection, first..<end)
    case .sendPayload(let connection, let id, let header): sendPayload(connection, id, header)
    case .verifyHeads(let connection, let heads):
      ask(.journal, .connection(connection)) { [store] in
        let longest = heads.sorted { $0.length > $1.length }.first { (try? store.root(at: $0.length)) == $0.root }
        return .headsVerified(connection, longest)
      }
    case .settled(let token): onSettled(token)
    case .halt(let reason): halt(reason)
    case .report(let event): report(event)
    }
  }

  // MARK: Names and files

  /// Runs `work` where it may block, in order among work with the same key, and brings its answer to the machine.
  private func ask(_ lane: Lane, _ key: WorkKey, _ work: @escaping @Sendable () -> HostInput) {
    workers.submit(lane, key) { [loop] in
      let answer = work()
      loop.post { [weak self] in self?.take(answer) }
    }
  }

  /// Reads a file on behalf of a server. If that takes longer than `hungAfter`, the machine is told so instead, and the
  /// answer comes to nothing.
  private func read<Answer: Sendable>(
    _ id: FileID, for connection: ConnectionID, _ work: @escaping @Sendable () -> Answer,
    answer: @escaping (HostDriver, Answer) -> Void
  ) {
    guard abandoned[id] == nil else { return take(.unanswered(connection, id)) }
    lastRead += 1
    let number = lastRead
    reads[number] = (Clocks.now(), id, connection)
    let taken = Taken(answer)
    workers.submit(.sending(files.mount(of: id)), .sending(connection, id)) { [loop] in
      let result = work()
      loop.post { [weak self] in
        guard let self else { return }
        guard reads.removeValue(forKey: number) == nil else { return taken.body(self, result) }
        abandoned[id] = abandoned[id].flatMap { $0 > 1 ? $0 - 1 : nil }
      }
    }
  }

  /// What is called on the loop's thread only.
  private struct Taken<Answer: Sendable>: @unchecked Sendable {
    let body: (HostDriver, Answer) -> Void
    init(_ body: @escaping (HostDriver, Answer) -> Void) { self.body = body }
  }

  /// Gives up reads that take too long.
  func review(at now: Instant) {
    let limit = machine.settings.limits.hungAfter
    for number in reads.keys.sorted() {
      guard let read = reads[number], read.since + limit <= now else { continue }
      reads[number] = nil
      abandoned[read.file, default: 0] += 1
      take(.unanswered(read.connection, read.file))
    }
  }

  /// Called now and then: memory of what isn't used goes.
  func age() { files.age() }

  func mount(of path: BytePath) -> Mount { files.mount(ofDirectory: path) }

  private func performOnNames(_ effect: HostEffect) {
    switch effect {
    case .watch(let directory, let isBase, let known):
      ask(.listings(mount(of: directory)), .directory(directory)) { [files] in
        .listed(files.watch(directory, isBase: isBase, known: known))
      }
    case .list(let directory, let names):
      ask(.listings(mount(of: directory)), .directory(directory)) { [files] in
        .listed(files.list(directory, names: names))
      }
    case .unwatch(let directory): files.unwatch(directory)
    default: break
    }
  }

  private func performOnFile(_ effect: HostEffect) {
    switch effect {
    case .attach(let id, let file, let inode, let path): files.attach(id, file: file, inode: inode, path: path)
    case .relocate(let id, let path, let isPinned): files.relocate(id, path: path, isPinned: isPinned)
    case .reborn(let id, let next, let file): files.reborn(id, as: next, file: file)
    case .release(let id): files.release(id)
    case .ingest(let id, let from, let root, let limit):
      ask(.followed(files.mount(of: id)), .file(id)) { [files] in
        .ingested(id, files.ingest(id, from: from, root: root, limit: limit))
      }
    case .probeWriters(let id):
      ask(.followed(files.mount(of: id)), .file(id)) { [files] in
        .writersProbed(id, hasWriters: files.probeWriters(id))
      }
    case .computeRoot(let connection, let id, let length):
      read(id, for: connection) { [files] in
        files.computeRoot(id, length: length)
      } answer: { driver, root in
        driver.take(.rootComputed(connection, id, length: length, root))
      }
    default: break
    }
  }

  // MARK: Journal

  /// Known losses, as the journal has them: how many, and the first ones. Reads the store: not for the loop's thread, safe
  /// from any other.
  func gaps(limit: Int) throws -> (count: Int, first: [NodeStatus.Gap]) {
    let standing = try store.gaps()
    let gaps = try standing.prefix(limit).compactMap { standing -> NodeStatus.Gap? in
      guard let encoded = try store.records(from: standing.record, count: 1, bytes: .max).first,
        case .gap(let gap) = try Record(decoding: encoded).body
      else { return nil }
      var path = try standing.file.flatMap { try store.file($0)?.path }
      if case .path(let lost) = gap.subject { path = lost }
      return .init(
        host: identity.host.text, file: standing.file?.text, path: path?.escaped, from: gap.lower,
        to: gap.upper == .max ? nil : gap.upper, reason: "\(gap.reason)",
        lacking: try destinations.map(\.name).filter { server in
          try standing.file.map { try store.delivered(to: server, of: $0) ?? 0 < gap.upper } ?? true
        })
    }
    return (standing.count, gaps)
  }

  private func commit(_ batch: HostBatch) {
    workers.submit(.hostCommit, .hostCommit) { [loop, store] in
      let (answer, latest): (HostInput, Latest?)
      do throws(StoreError) {
        let position = try store.commit(batch)
        answer = .committed(position, number: store.number)
        latest = Latest(records: batch.records, position: position)
      } catch { (answer, latest) = (.commitFailed(error), nil) }
      loop.post { [weak self] in
        if let latest, !latest.records.isEmpty { self?.latest = latest.isLittle ? latest : nil }
        self?.take(answer)
      }
    }
  }

  private func load(_ id: LoadID, _ query: HostQuery) {
    ask(.rows, .loading(id)) { [store, servers = destinations.map(\.name)] in
      do throws(StoreError) {
        return .loaded(id, try store.answer(query, servers: servers))
      } catch { return .loadFailed(id, error) }
    }
  }

  /// Those of the last commit at once, others read and signed on a worker. What is sent later stays behind them (W1).
  private func sendRecords(_ connection: ConnectionID, _ range: Range<UInt64>) {
    let limits = machine.settings.limits
    let order = orders[connection] ?? Order()
    orders[connection] = order
    orders[connection]?.recordsAsked += 1
    if order.recordsSent == order.recordsAsked, let frame = latestFrame(range) {
      return send(.success([frame]), on: connection)
    }
    workers.submit(.journal, .connection(connection)) { [loop, identity, key, store] in
      // As many frames as the bounds of one ask for, each with a checkpoint of its own (J2).
      let frames = Result {
        try Records.frames(
          first: range.lowerBound,
          encoded: try store.records(from: range.lowerBound, count: range.count, bytes: .max), limits: limits
        ) { length in
          try key.checkpoint(identity, TreeHead(length: length, root: try store.root(at: length)))
        }
      }
      loop.post { [weak self] in self?.send(frames, on: connection) }
    }
  }

  /// Nil unless it is all of the last commit, and one frame.
  private func latestFrame(_ range: Range<UInt64>) -> Frame? {
    guard var latest, range.upperBound == latest.position.length, range.count == latest.records.count else {
      return nil
    }
    let head = TreeHead(length: latest.position.length, root: latest.position.root)
    guard let checkpoint = latest.checkpoint ?? (try? key.checkpoint(identity, head)) else { return nil }
    latest.checkpoint = checkpoint
    self.latest = latest
    let frames = Records.frames(
      first: range.lowerBound, encoded: latest.records, limits: machine.settings.limits
    ) { _ in checkpoint }
    return frames.count == 1 ? frames[0] : nil
  }

  private func send(_ frames: Result<[Frame], any Error>, on connection: ConnectionID) {
    guard let link = links[connection] else { return }
    do {
      for frame in try frames.get() { link.send(frame) }
    } catch {
      return link.close(.other, "the journal can't be read: \(error)")
    }
    orders[connection]?.recordsSent += 1
    while let order = orders[connection], let next = order.behind.first, next.after <= order.recordsSent {
      orders[connection]?.behind.removeFirst()
      next.send()
    }
  }

  // MARK: Connections

  private func connect(_ server: ServerIndex) {
    let destination = destinations[server.value]
    attempts[server, default: 0] += 1
    let attempt = attempts[server, default: 0]
    workers.submit(.names(destination.name), .resolve(destination.name)) { [loop] in
      let answer = destination.resolve(attempt)
      loop.post { [weak self] in self?.connect(server, destination, to: answer) }
    }
  }

  private func connect(
    _ server: ServerIndex, _ destination: Destination, to address: Result<SocketAddress, TransportError>
  ) {
    do {
      let address = try address.get()
      let link = Link(
        id: connections.next(),
        session: try tls().connect(on: .connecting(to: address), to: destination.name), isConnecting: true,
        address: address.description, limits: machine.settings.limits, loop: loop
      ) { [weak self] link, event in self?.handle(event, on: link, server) }
      links[link.id] = link
      link.start()
    } catch {
      take(.disconnected(server, nil, reason: "\(error)"))
    }
  }

  private func handle(_ event: Link.Event, on link: Link, _ server: ServerIndex) {
    switch event {
    case .open: take(.connected(server, link.id))
    case .answered: break
    case .heard: take(.progress(link.id))
    case .wasted(let cost): take(.wasted(link.id, cost))
    case .frame(let frame): take(.received(link.id, frame))
    case .payload: link.close(.protocolViolation, "a server sends no payload to a host")
    case .broken: break
    case .closed(let reason):
      links[link.id] = nil
      orders[link.id] = nil
      take(.disconnected(server, link.wasOpen ? link.id : nil, reason: reason))
    }
  }

  private func sendPayload(_ connection: ConnectionID, _ id: FileID, _ header: PayloadHeader) {
    let after = orders[connection]?.recordsAsked ?? 0
    let head = Frame.payload(header).encoded()
    if let frame = files.readAtOnce(id, offset: header.offset, length: header.length, behind: head) {
      return send(header, .success(frame), of: id, on: connection, after: after)
    }
    read(id, for: connection) { [files] in
      let frame: Result<[UInt8], PayloadUnavailable>
      do throws(PayloadUnavailable) {
        frame = .success(try files.read(id, offset: header.offset, length: header.length, behind: head))
      } catch { frame = .failure(error) }
      return frame
    } answer: { driver, frame in
      driver.send(header, frame, of: id, on: connection, after: after)
    }
  }

  private func send(
    _ header: PayloadHeader, _ frame: Result<[UInt8], PayloadUnavailable>, of id: FileID, on connection: ConnectionID,
    after: Int
  ) {
    guard links[connection] != nil else { return }
    guard orders[connection]?.recordsSent ?? 0 < after else { return send(header, frame, of: id, on: connection) }
    orders[connection]?.behind.append((after, { [weak self] in self?.send(header, frame, of: id, on: connection) }))
  }

  private func send(
    _ header: PayloadHeader, _ frame: Result<[UInt8], PayloadUnavailable>, of id: FileID, on connection: ConnectionID
  ) {
    switch frame {
    case .success(let frame):
      links[connection]?.send(payload: frame) { [weak self] in
        self?.sentBytes += UInt64(header.length)
        self?.take(.payloadSent(connection, id, end: header.end))
      }
    case .failure(let error):
      take(.payloadUnavailable(connection, id, offset: header.offset, reason: error.reason))
    }
  }
}

extension JournalKey {
  fileprivate func checkpoint(_ identity: JournalIdentity, _ head: TreeHead) throws -> Checkpoint {
    var checkpoint = Checkpoint(
      host: identity.host, journal: identity.journal, length: head.length, root: head.root, signature: [])
    checkpoint.signature = try sign(checkpoint.signedBytes)
    return checkpoint
  }
}

/// Connection ids of a node, never reused while it runs.
final class ConnectionNumbers {
  private var last: UInt64 = 0
  func next() -> ConnectionID {
    last += 1
    return ConnectionID(last)
  }
}
