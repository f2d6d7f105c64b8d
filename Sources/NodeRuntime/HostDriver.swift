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
  struct Destination {
    var name: String
    var address: Address
  }

  private(set) var machine: HostMachine<SHA256Tree>
  private let identity: JournalIdentity
  private let key: JournalKey
  private let store: LMDBHostStore<SHA256Tree>
  private let files: LinuxHostFiles
  private let destinations: [Destination]
  private let tls: TLSContext
  private let loop: EventLoop
  private let workers: WorkerPool<WorkKey>
  private let connections: ConnectionNumbers
  private let report: (HostReport) -> Void
  private let halt: (String) -> Void
  private var links: [ConnectionID: Link] = [:]
  private var attempts: [ServerIndex: Int] = [:]
  /// Payload handed to sockets since the start.
  private(set) var sentBytes: UInt64 = 0
  private let inputs = InputQueue<HostInput>()
  private var effects: [HostEffect] = []
  /// Called when what existed at `settle` is on every server.
  var onSettled: (UInt64) -> Void = { _ in }

  init(
    settings: HostSettings, identity: JournalIdentity, key: JournalKey, store: LMDBHostStore<SHA256Tree>,
    files: LinuxHostFiles, destinations: [Destination], tls: TLSContext, loop: EventLoop,
    workers: WorkerPool<WorkKey>, connections: ConnectionNumbers, report: @escaping (HostReport) -> Void,
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
    let length = try store.length()
    take(
      .started(
        files: try store.files(), journal: JournalPosition(length: length, root: try store.root(at: length)),
        delivered: try destinations.map { try store.delivered(to: $0.name) }, gaps: try store.gaps()))
  }

  /// No connection is open.
  var isQuiet: Bool { links.isEmpty }

  /// One input, and everything that follows from it at once.
  func take(_ input: HostInput) {
    inputs.take(input) { input in
      effects.removeAll(keepingCapacity: true)
      machine.step(input, at: Clocks.now(), wall: Clocks.wall(), into: &effects)
      for effect in effects { perform(effect) }
    }
  }

  private func takeHints() {
    for hint in files.hints() { take(.hinted(hint)) }
  }

  private func perform(_ effect: HostEffect) {
    switch effect {
    case .watch, .unwatch, .list: performOnNames(effect)
    case .attach, .relocate, .reborn, .release, .ingest, .probeWriters, .computeRoot: performOnFile(effect)
    case .commit(let batch): commit(batch)
    case .connect(let server): connect(server)
    case .disconnect(let connection, let reason): links[connection]?.close(.other, reason)
    case .send(let connection, let frame): links[connection]?.send(frame)
    case .sendRecords(let connection, let first, let end): sendRecords(connection, first..<end)
    case .sendPayload(let connection, let id, let header): sendPayload(connection, id, header)
    case .verifyHead(let connection, let length, let checkpoint):
      ask(.connection(connection)) { [identity, store] in
        .headVerified(connection, Self.isHead(checkpoint, length, of: identity, store))
      }
    case .settled(let token): onSettled(token)
    case .halt(let reason): halt(reason)
    case .report(let event): report(event)
    }
  }

  // MARK: Names and files

  /// Runs `work` where it may block, in order among work with the same key, and brings its answer to the machine.
  private func ask(_ key: WorkKey, _ work: @escaping @Sendable () -> HostInput) {
    workers.submit(key) { [loop] in
      let answer = work()
      loop.post { [weak self] in self?.take(answer) }
    }
  }

  private func performOnNames(_ effect: HostEffect) {
    switch effect {
    case .watch(let directory): ask(.directory(directory)) { [files] in .listed(files.watch(directory)) }
    case .list(let directory, let names):
      ask(.directory(directory)) { [files] in .listed(files.list(directory, names: names)) }
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
      ask(.file(id)) { [files] in .ingested(id, files.ingest(id, from: from, root: root, limit: limit)) }
    case .probeWriters(let id):
      ask(.file(id)) { [files] in .writersProbed(id, hasWriters: files.probeWriters(id)) }
    case .computeRoot(let connection, let id, let length):
      ask(.file(id)) { [files] in .rootComputed(connection, id, length: length, files.computeRoot(id, length: length)) }
    default: break
    }
  }

  // MARK: Journal

  /// Known losses, as the journal has them: how many, and the first ones. Reads the whole file table: not for the loop's
  /// thread, safe from any other.
  func gaps(limit: Int) throws -> (count: Int, first: [NodeStatus.Gap]) {
    let standing = try store.gaps()
    let first = standing.prefix(limit)
    let files = first.contains { $0.file != nil } ? try store.files() : []
    let paths = Dictionary(files.map { ($0.file, $0.path) }, uniquingKeysWith: { first, _ in first })
    let durable = try destinations.map { ($0.name, try store.delivered(to: $0.name)) }
    let gaps = try first.compactMap { standing -> NodeStatus.Gap? in
      guard let encoded = try store.records(from: standing.record, count: 1, bytes: .max).first,
        case .gap(let gap) = try Record(decoding: encoded).body
      else { return nil }
      var path: BytePath? = standing.file.flatMap { paths[$0] }
      if case .path(let lost) = gap.subject { path = lost }
      return .init(
        host: identity.host.text, file: standing.file?.text, path: path?.escaped, from: gap.lower,
        to: gap.upper == .max ? nil : gap.upper, reason: "\(gap.reason)",
        lacking: durable.filter { held in standing.file.map { held.1[$0] ?? 0 < gap.upper } ?? true }.map(\.0))
    }
    return (standing.count, gaps)
  }

  private func commit(_ batch: HostBatch) {
    ask(.hostCommit) { [store] in
      do throws(StoreError) { return .committed(try store.commit(batch)) } catch { return .commitFailed(error) }
    }
  }

  private static func isHead(
    _ checkpoint: Checkpoint, _ length: UInt64, of identity: JournalIdentity, _ store: LMDBHostStore<SHA256Tree>
  ) -> Bool {
    checkpoint.host == identity.host && checkpoint.journal == identity.journal && checkpoint.length == length
      && JournalKey.verify(checkpoint.signature, checkpoint.signedBytes, publicKey: identity.publicKey)
      && (try? store.root(at: length)) == checkpoint.root
  }

  /// Reads and signs on a worker, with the key of the connection's payload: what is sent later stays behind it (W1).
  private func sendRecords(_ connection: ConnectionID, _ range: Range<UInt64>) {
    let limits = machine.settings.limits
    workers.submit(.connection(connection)) { [loop, identity, key, store] in
      // As many frames as the bounds of one ask for, each with a checkpoint of its own (J2).
      let frames = Result {
        try Records.frames(
          first: range.lowerBound,
          encoded: try store.records(from: range.lowerBound, count: range.count, bytes: .max), limits: limits
        ) { length in
          var checkpoint = Checkpoint(
            host: identity.host, journal: identity.journal, length: length, root: try store.root(at: length),
            signature: [])
          checkpoint.signature = try key.sign(checkpoint.signedBytes)
          return checkpoint
        }
      }
      loop.post { [weak self] in self?.send(frames, on: connection) }
    }
  }

  private func send(_ frames: Result<[Frame], any Error>, on connection: ConnectionID) {
    guard let link = links[connection] else { return }
    do {
      for frame in try frames.get() { link.send(frame) }
    } catch {
      link.close(.other, "the journal can't be read: \(error)")
    }
  }

  // MARK: Connections

  private func connect(_ server: ServerIndex) {
    let destination = destinations[server.value]
    attempts[server, default: 0] += 1
    let attempt = attempts[server, default: 0]
    workers.submit(.resolve(server)) { [loop] in
      let answer: Result<SocketAddress, TransportError>
      do throws(TransportError) {
        let found = try destination.address.resolve()
        // A name may have several addresses: each attempt takes the next.
        answer = .success(found[attempt % found.count])
      } catch { answer = .failure(error) }
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
        session: try tls.connect(on: .connecting(to: address), to: destination.name), isConnecting: true,
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
    case .heard: take(.progress(link.id))
    case .frame(let frame): take(.received(link.id, frame))
    case .payload: link.close(.protocolViolation, "a server sends no payload to a host")
    case .broken: break
    case .closed(let reason):
      links[link.id] = nil
      take(.disconnected(server, link.wasOpen ? link.id : nil, reason: reason))
    }
  }

  private func sendPayload(_ connection: ConnectionID, _ id: FileID, _ header: PayloadHeader) {
    // A key of its own per connection: reading for one server waits for no other's.
    workers.submit(.connection(connection)) { [loop, files] in
      let bytes: Result<[UInt8], PayloadUnavailable>
      do throws(PayloadUnavailable) {
        bytes = .success(try files.read(id, offset: header.offset, length: header.length))
      } catch { bytes = .failure(error) }
      loop.post { [weak self] in self?.send(header, bytes, of: id, on: connection) }
    }
  }

  private func send(
    _ header: PayloadHeader, _ bytes: Result<[UInt8], PayloadUnavailable>, of id: FileID, on connection: ConnectionID
  ) {
    switch bytes {
    case .success(let bytes):
      links[connection]?.send(header, bytes: bytes) { [weak self] in
        self?.sentBytes += UInt64(header.length)
        self?.take(.payloadSent(connection, id, end: header.end))
      }
    case .failure(let error):
      take(.payloadUnavailable(connection, id, offset: header.offset, reason: error.reason))
    }
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
