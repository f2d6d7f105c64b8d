package import WireProtocol
import JournalModel

/// What happens to the bytes between one host and one server, in both directions; a server that connects to another is
/// the link's host, with a number of its own.
///
/// Fault model: bytes of a stream arrive in order, whole, or not at all (TCP over TLS); they are cut anywhere, late,
/// held back for minutes, also of one connection alone while its successor works; a connection may be cut at a frame's
/// boundary, or a byte beside it. A partition holds back and loses ends and resets; nobody is told of it.
package struct LinkConditions: Sendable {
  /// Until when nothing passes, and until when news of an end are lost as well, by direction.
  var heldUntil: [UInt64] = [0, 0]
  var lostUntil: [UInt64] = [0, 0]
  var shreddedUntil: UInt64 = 0
  /// Every delivery ends a byte before a frame's boundary, at it, or a byte after it.
  var boundariesUntil: UInt64 = 0
  /// Single bytes.
  var dribbleUntil: UInt64 = 0
}

package enum Direction: Int, Sendable {
  case toServer, toHost
  static let all = [Direction.toServer, .toHost]
  var other: Direction { self == .toServer ? .toHost : .toServer }
}

/// One TCP connection.
package final class Connection {
  package let id: ConnectionID
  let host: Int
  let server: Int
  private(set) var streams: [ByteStream] = []
  private unowned let network: SimulatedNetwork
  /// What the host sent last waits that long.
  private(set) var drainsUntil: UInt64 = 0

  /// One end: whoever holds it gets bytes and, once, the end.
  struct End {
    var isOpen = true
    var receive: (([UInt8]) -> Void)?
    var ended: ((String) -> Void)?
  }
  /// By the direction that leads to the end.
  private var ends = [End(), End()]

  init(id: ConnectionID, host: Int, server: Int, network: SimulatedNetwork) {
    self.id = id
    self.host = host
    self.server = server
    self.network = network
    streams = [
      ByteStream(connection: self, direction: .toServer, network: network),
      ByteStream(connection: self, direction: .toHost, network: network),
    ]
  }

  func attach(at end: Direction, receive: @escaping ([UInt8]) -> Void, ended: @escaping (String) -> Void) {
    ends[end.rawValue].receive = receive
    ends[end.rawValue].ended = ended
  }

  /// Sends from the end that `direction` leaves.
  func send(_ bytes: [UInt8], _ direction: Direction, whenTaken: (() -> Void)? = nil) {
    guard ends[direction.other.rawValue].isOpen else { return }
    streams[direction.rawValue].write(bytes, whenTaken: whenTaken)
  }

  /// Runs once what was sent so far was taken; never if the connection ends first.
  func whenTaken(_ direction: Direction, _ run: @escaping () -> Void) {
    guard ends[direction.other.rawValue].isOpen else { return }
    streams[direction.rawValue].whenTaken(run)
  }

  /// The receiver at the end of `direction` has processed so many bytes.
  func consumed(_ count: Int, _ direction: Direction) { streams[direction.rawValue].consumed(count) }

  /// close(2) by the end that `direction` leaves: what was written still goes out, then the end.
  func close(_ direction: Direction) {
    guard detach(direction.other) else { return }
    streams[direction.rawValue].finish()
  }

  /// The end that `direction` leaves is gone at once: nothing more is sent but, unless `silently`, a reset.
  func abort(_ direction: Direction, silently: Bool, reason: String = "connection reset by peer") {
    guard detach(direction.other) else { return }
    streams[direction.rawValue].cut()
    guard !silently else {
      network.struck("half-open connection")
      return
    }
    network.notify(self, direction, reason)
  }

  /// Breaks the reference cycles of a finished run.
  func dissolve() {
    ends = [End(isOpen: false), End(isOpen: false)]
    for stream in streams { stream.cut() }
    streams = []
  }

  /// The host takes the connection for dead while its bytes are still on their way.
  func drain(until: UInt64) {
    let end = ends[Direction.toHost.rawValue]
    guard ends[Direction.toServer.rawValue].isOpen, detach(.toHost) else { return }
    drainsUntil = until
    streams[Direction.toHost.rawValue].cut()
    streams[Direction.toServer.rawValue].finish()
    network.struck("old connection drains")
    end.ended?("connection timed out")
  }

  /// Reset when so many more frames are on the wire, a byte before or after the boundary if `offset` says so.
  func cut(afterFrames frames: Int, offset: Int, _ direction: Direction) {
    guard !streams.isEmpty else { return }
    streams[direction.rawValue].cut(afterFrames: frames, offset: offset)
  }

  /// Both ends learn of a reset.
  func reset() {
    for direction in [Direction.toServer, .toHost] {
      streams[direction.rawValue].cut()
      network.notify(self, direction, "connection reset by peer")
    }
  }

  private func detach(_ end: Direction) -> Bool {
    guard ends[end.rawValue].isOpen else { return false }
    ends[end.rawValue] = End(isOpen: false)
    return true
  }

  func isOpen(at end: Direction) -> Bool { ends[end.rawValue].isOpen }

  func arrived(_ bytes: [UInt8], _ direction: Direction) {
    let end = ends[direction.rawValue]
    guard end.isOpen else {
      // Nobody is there: the machine answers with a reset, if it runs.
      guard network.isUp(self, direction) else { return }
      streams[direction.rawValue].cut()
      network.notify(self, direction.other, "connection reset by peer")
      return
    }
    end.receive?(bytes)
  }

  func end(_ direction: Direction, _ reason: String) {
    let end = ends[direction.rawValue]
    guard detach(direction) else { return }
    streams[direction.other.rawValue].cut()
    end.ended?(reason)
  }
}

/// One direction of a connection.
final class ByteStream {
  private unowned let connection: Connection
  private unowned let network: SimulatedNetwork
  private let direction: Direction
  private var buffer: [UInt8] = []
  private var head = 0
  /// Bytes ever written, taken from the buffer onto the wire, and processed by the receiver.
  private var written = 0
  private var onWire = 0
  private var processed = 0
  private var waiting: [(end: Int, call: () -> Void)] = []
  private var isPumping = false
  private var lastArrival: UInt64 = 0
  private var isCut = false
  private var isFinished = false
  private var isEnded = false
  /// Where frames end, from what is on the wire on, and the last end that passed.
  private var frameEnds: [Int] = []
  private var inFlight: [[UInt8]] = []
  private var passedEnd = 0
  private var cutAfter: (frames: Int, offset: Int)?
  private var cutAt = Int.max
  private var fullSince: UInt64?

  init(connection: Connection, direction: Direction, network: SimulatedNetwork) {
    self.connection = connection
    self.direction = direction
    self.network = network
  }

  func write(_ bytes: [UInt8], whenTaken: (() -> Void)?) {
    guard !isCut, !isFinished else { return }
    buffer += bytes
    written += bytes.count
    frameEnds.append(written)
    if let (frames, offset) = cutAfter {
      cutAfter = frames > 1 ? (frames - 1, offset) : nil
      if frames <= 1 { cutAt = max(onWire, written + offset) }
    }
    if let whenTaken { waiting.append((written, whenTaken)) }
    noteFullness()
    pump(connection)
  }

  func whenTaken(_ run: @escaping () -> Void) {
    guard !isCut, !isFinished else { return }
    waiting.append((written, run))
    pump(connection)
  }

  func finish() {
    isFinished = true
    pump(connection)
  }

  func cut(afterFrames frames: Int, offset: Int) { cutAfter = (frames, offset) }

  func cut() {
    isCut = true
    buffer = []
    inFlight = []
    waiting = []
    noteFullness()
  }

  func consumed(_ count: Int) {
    processed += count
    noteFullness()
    pump(connection)
  }

  /// Whoever calls keeps the connection alive.
  private func pump(_ connection: Connection) {
    guard !isPumping, !isCut, !isEnded else { return }
    takeIntoSocket()
    let room = network.sendBuffer - (onWire - processed)
    let available = min(written - onWire, room, cutAt - onWire)
    if cutAt == onWire { return cutHere(connection) }
    if available <= 0 {
      if written == onWire, isFinished { sendEnd() }
      return
    }
    isPumping = true
    let held = network.heldUntil(connection, direction)
    guard held == 0 else {
      network.kernel.at(Instant(nanoseconds: held)) { [self, connection] in
        isPumping = false
        pump(connection)
      }
      return
    }
    let count = network.chunk(connection, available, toBoundary: toBoundary)
    let bytes = Array(buffer[head..<(head + count)])
    head += count
    onWire += count
    while let first = frameEnds.first, first <= onWire { passedEnd = frameEnds.removeFirst() }
    if head > 4_096, head * 2 > buffer.count {
      buffer.removeFirst(head)
      head = 0
    }
    let arrival = max(lastArrival, network.kernel.now.nanoseconds + network.latency())
    lastArrival = arrival
    inFlight.append(bytes)
    network.kernel.at(Instant(nanoseconds: arrival)) { [self, connection] in arrive(connection) }
    network.kernel.after(network.wireTime(count)) { [self, connection] in
      isPumping = false
      pump(connection)
    }
  }

  /// How far a delivery goes that shall end beside a boundary.
  private var toBoundary: Int {
    guard passedEnd != onWire, let next = frameEnds.first else { return 1 }
    return max(1, next - onWire - 1)
  }

  /// The socket takes no more: what is written waits in the process.
  private func noteFullness() {
    let now = network.kernel.now.nanoseconds
    if !isCut, written - processed > network.sendBuffer {
      fullSince = fullSince ?? now
    } else if let since = fullSince {
      fullSince = nil
      network.struck(now - since >= 60_000_000_000 ? "send buffer full for minutes" : "send buffer full")
    }
  }

  private func cutHere(_ connection: Connection) {
    cutAt = .max
    isPumping = true
    network.struck("cut at a frame's boundary")
    network.kernel.at(Instant(nanoseconds: max(lastArrival, network.kernel.now.nanoseconds))) { connection.reset() }
  }

  /// One delivery is due: the first that is on the wire, since holds that overlap may let a later one come due first.
  private func arrive(_ connection: Connection) {
    guard !isCut else { return }
    let held = network.heldUntil(connection, direction)
    guard held == 0 else {
      // Sent before the direction was blocked: arrives after, still in order.
      lastArrival = max(lastArrival, held)
      network.kernel.at(Instant(nanoseconds: held)) { [self, connection] in arrive(connection) }
      return
    }
    connection.arrived(inFlight.removeFirst(), direction)
  }

  /// What fits the socket's buffer counts as sent.
  private func takeIntoSocket() {
    let taken = min(written, processed + network.sendBuffer)
    while let first = waiting.first, first.end <= taken {
      waiting.removeFirst()
      network.kernel.after(1_000, first.call)
    }
  }

  private func sendEnd() {
    isEnded = true
    deliverEnd(at: max(lastArrival, network.kernel.now.nanoseconds + network.latency()))
  }

  /// After all that is on the wire.
  private func deliverEnd(at time: UInt64) {
    network.kernel.at(Instant(nanoseconds: time)) { [self, connection] in
      guard !isCut else { return }
      guard inFlight.isEmpty else {
        return deliverEnd(at: max(lastArrival, network.kernel.now.nanoseconds) + 1_000)
      }
      network.notifyNow(connection, direction, "closed by peer")
    }
  }
}

/// All links of a world.
package final class SimulatedNetwork {
  let kernel: Kernel
  let sendBuffer: Int
  private let bandwidth: UInt64
  private let typicalLatency: UInt64
  private let splitFrames: UInt64
  private let isSteady: Bool
  private var conditions: [[LinkConditions]]
  private var random: RandomStream
  private var nextID: UInt64 = 1
  var struck: (String) -> Void = { _ in }
  private(set) var connections: [Connection] = []
  var isHostUp: (Int) -> Bool = { _ in true }
  var isServerUp: (Int) -> Bool = { _ in true }

  init(kernel: Kernel, seed: UInt64, knobs: Knobs) {
    self.kernel = kernel
    sendBuffer = Int(knobs[.sendBuffer])
    bandwidth = max(1, knobs[.bandwidth])
    typicalLatency = knobs[.networkLatency]
    splitFrames = knobs[.splitFrames]
    isSteady = knobs[.steady] > 0
    let row = [LinkConditions](repeating: LinkConditions(), count: Int(knobs[.servers]))
    let ownRows = knobs[.peers] > 0 ? Int(knobs[.servers]) : 0
    conditions = [[LinkConditions]](repeating: row, count: Int(knobs[.hosts]) + 1 + ownRows)
    random = RandomStream(seed: seed, entity: "network", purpose: "latency")
  }

  func connect(host: Int, server: Int) -> Connection {
    let connection = Connection(id: ConnectionID(nextID), host: host, server: server, network: self)
    nextID += 1
    connections.removeAll { !$0.isOpen(at: .toServer) && !$0.isOpen(at: .toHost) }
    connections.append(connection)
    return connection
  }

  func latency() -> UInt64 {
    if isSteady { return typicalLatency }
    let latency = random.latency(typicalLatency)
    if latency > 2 * typicalLatency { struck("latency tail") }
    return latency
  }
  func wireTime(_ count: Int) -> UInt64 { UInt64(count) * 1_000_000_000 / bandwidth }

  func chunk(_ connection: Connection, _ available: Int, toBoundary: Int) -> Int {
    let conditions = conditions[connection.host][connection.server]
    if conditions.dribbleUntil > kernel.now.nanoseconds { return 1 }
    if conditions.boundariesUntil > kernel.now.nanoseconds { return min(available, toBoundary) }
    if conditions.shreddedUntil > kernel.now.nanoseconds { return min(available, 1 + random.below(7)) }
    return random.chance(splitFrames) ? 1 + random.below(available) : available
  }

  /// Zero when bytes pass now.
  func heldUntil(_ connection: Connection, _ direction: Direction) -> UInt64 {
    let drain = direction == .toServer ? connection.drainsUntil : 0
    let until = max(drain, conditions[connection.host][connection.server].heldUntil[direction.rawValue])
    return until > kernel.now.nanoseconds ? until : 0
  }

  func passes(host: Int, server: Int, _ direction: Direction) -> Bool {
    conditions[host][server].heldUntil[direction.rawValue] <= kernel.now.nanoseconds
  }

  func isUp(_ connection: Connection, _ end: Direction) -> Bool {
    end == .toServer ? isServerUp(connection.server) : isHostUp(connection.host)
  }

  /// Tells the end that `direction` leads to, unless the news are lost on the way.
  func notify(_ connection: Connection, _ direction: Direction, _ reason: String) {
    kernel.after(latency()) { [self] in notifyNow(connection, direction, reason) }
  }

  fileprivate func notifyNow(_ connection: Connection, _ direction: Direction, _ reason: String) {
    let conditions = conditions[connection.host][connection.server]
    guard conditions.lostUntil[direction.rawValue] <= kernel.now.nanoseconds else {
      struck("half-open connection")
      return
    }
    let held = conditions.heldUntil[direction.rawValue]
    guard held <= kernel.now.nanoseconds else {
      kernel.at(Instant(nanoseconds: held)) { [self] in notifyNow(connection, direction, reason) }
      return
    }
    connection.end(direction, reason)
  }

  // MARK: Faults

  func partition(host: Int, server: Int, _ direction: Direction, duration: UInt64) {
    let until = kernel.now.nanoseconds + duration
    conditions[host][server].heldUntil[direction.rawValue] = until
    conditions[host][server].lostUntil[direction.rawValue] = until
  }

  func clog(host: Int, server: Int, _ direction: Direction, duration: UInt64) {
    conditions[host][server].heldUntil[direction.rawValue] = kernel.now.nanoseconds + duration
  }

  func shred(host: Int, server: Int, duration: UInt64) {
    conditions[host][server].shreddedUntil = kernel.now.nanoseconds + duration
  }

  func boundaries(host: Int, server: Int, duration: UInt64) {
    conditions[host][server].boundariesUntil = kernel.now.nanoseconds + duration
  }

  func dribble(host: Int, server: Int, duration: UInt64) {
    conditions[host][server].dribbleUntil = kernel.now.nanoseconds + duration
  }

  func connections(_ host: Int, _ server: Int) -> [Connection] {
    connections.filter { $0.host == host && $0.server == server }
  }

  func reset(host: Int, server: Int) {
    for connection in connections where connection.host == host && connection.server == server { connection.reset() }
  }

  func heal() {
    for host in conditions.indices {
      for server in conditions[host].indices { conditions[host][server] = LinkConditions() }
    }
  }
}
