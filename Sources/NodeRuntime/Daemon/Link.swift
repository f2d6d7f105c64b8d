import HostCore
import JournalModel
import LinuxIO
import SecureTransport
import WireProtocol

/// One TLS connection on the loop: handshake, frames in, frames out. Lives on the loop's thread.
///
/// It reads a turn at a time, bounded in bytes, records, frames and time. What its transport carries beside frames (key
/// updates, records of a few bytes) it counts and tells: the machine decides how much of that is too much.
///
/// What is queued to be sent is bounded: by the machines, which allow one payload slice and what windows let go ahead, and
/// for answers by reading nothing more from a peer that doesn't take them. The machines end it for its silence then. Who
/// connected, a host, has no answer to give but `pong`, and leaves that out then: a window of records may take longer than
/// `silence` over a slow link, and the server has to be heard meanwhile (W4).
final class Link {
  enum Event {
    /// Whoever connected has begun a handshake, and was answered.
    case answered
    case open
    /// Bytes came, told once each `Limits.progress`.
    case heard
    case frame(Frame)
    case payload(PayloadHeader, [UInt8])
    /// The transport's work beyond what its frames justify, in units of an empty record.
    case wasted(Int)
    /// The bytes are no frames.
    case broken(String)
    /// Once, last.
    case closed(String)
  }

  private enum Phase { case connecting, handshaking, open, closing, closed }

  let id: ConnectionID
  let address: String
  private var session: TLSSession
  private let loop: EventLoop
  private var descriptor: Int32 { session.descriptor }
  private let onEvent: (Link, Event) -> Void
  private var phase: Phase
  private let hasConnected: Bool
  /// Between two servers. It is always read: two that both wait until the other one reads would wait for ever.
  private var isToPeer: Bool
  private var decoder: FrameDecoder
  private var output = OutputQueue()
  /// Bytes queued since the connection began, and of those the ones that the socket took.
  private var queued: UInt64 = 0
  private var sent: UInt64 = 0
  private var marks: [(at: UInt64, run: () -> Void)] = []
  private var isFlushAwaited = false
  private var isTurnAwaited = false
  private var isPaused = false
  /// Whether the last frame was large: the next one probably is.
  private var isBulk = false
  private var effort = Effort()
  private var heardAt = Instant(nanoseconds: 0)
  private let progress: Interval
  private var deadline: EventLoop.Timer?
  /// Why this side closes.
  private var farewell = "closed"

  /// Queued bytes beyond which no more answers are made.
  private static let outputLimit = 512 << 10
  /// To a peer, which is always read and answered: windows let no honest one come near that.
  private static let peerOutputLimit = 32 << 20
  /// Queued bytes that don't wait for others to be written with them.
  private static let gathered = 64 << 10
  /// What is written at once before others have their turn.
  private static let writeLimit = 1 << 20
  /// Payload of several records.
  private static let bulk = 64 << 10
  /// For whoever connected to say who it is: with TLS, and then with the first frame.
  private static let greetingLimit = Interval.seconds(10)
  private static let goodbyeLimit = Interval.seconds(2)

  init(
    id: ConnectionID, session: consuming TLSSession, isConnecting: Bool, to other: FrameSender = .server,
    address: String, limits: Limits, loop: EventLoop, onEvent: @escaping (Link, Event) -> Void
  ) {
    self.id = id
    self.session = session
    self.address = address
    self.loop = loop
    self.onEvent = onEvent
    phase = isConnecting ? .connecting : .handshaking
    hasConnected = isConnecting
    isToPeer = isConnecting && other == .peer
    decoder = FrameDecoder(limits: limits, from: isConnecting ? other : .host)
    progress = limits.progress
  }

  /// Whether the handshake was ever done.
  private(set) var wasOpen = false
  /// Who is at the other end, once it was.
  var peer: CertificateIdentity? { session.peer }

  func start() {
    // Whoever connects speaks first.
    do { try loop.watch(descriptor, for: hasConnected ? .write : .read) { [unowned self] in ready() } } catch {
      return loop.defer { [self] in end("\(error)") }
    }
    deadline = loop.schedule(after: Self.greetingLimit) { [unowned self] in
      if phase == .open { close(.silence, "no hello within 10 s") } else { end("no TLS handshake within 10 s") }
    }
  }

  /// The machine took the other side in: its time no longer ends.
  func welcome() { if phase == .open { deadline = nil } }

  /// The machine takes no more frames for now: what comes stays where it is.
  func pause() {
    isPaused = true
    if phase == .open { loop.change(descriptor, to: !output.isEmpty ? .write : .none) }
  }

  func resume() {
    isPaused = false
    guard phase == .open else { return }
    loop.change(descriptor, to: !output.isEmpty ? .both : .read)
    awaitTurn()
  }

  /// Ends a connection that hasn't come to its frames yet.
  func abandon(_ reason: String) { end(reason) }

  // MARK: Sending

  private var isFull: Bool { output.count > Self.outputLimit }
  private var mayRead: Bool { !isPaused && (hasConnected || isToPeer || !isFull) }

  func send(_ frame: Frame) {
    guard phase == .open else { return }
    if case .peerHello = frame { isToPeer = true }
    if hasConnected || isToPeer, isFull, case .pong = frame { return }
    if isToPeer, output.count > Self.peerOutputLimit { return end("the peer takes nothing") }
    let before = output.count
    // What of the output is cut when it closes is cut before the channel's number.
    let isFollowed = if case .channel = frame { true } else { false }
    output.append(isFollowed: isFollowed) { frame.encode(into: &$0) }
    queued += UInt64(output.count - before)
    flushSoon()
  }

  /// Sends a payload frame with its bytes; `taken` runs when the socket took its last byte.
  func send(payload frame: [UInt8], taken: @escaping () -> Void) {
    guard phase == .open else { return }
    output.append(frame)
    queued += UInt64(frame.count)
    marks.append((queued, taken))
    flushSoon()
  }

  /// Runs when the socket took all that was sent so far.
  func whenTaken(_ run: @escaping () -> Void) {
    guard phase == .open else { return }
    marks.append((queued, run))
    runMarks()
  }

  /// Says why, sends what is queued, closes. Of more than who reads would leave waiting, the first: it may be that nobody
  /// takes it, and the next connection is there already.
  func close(_ code: RefusalCode, _ text: String) {
    guard phase == .open else { return end(text) }
    output.truncate(to: Self.outputLimit)
    output.append { Frame.goodbye(code: code, text: text).encode(into: &$0) }
    phase = .closing
    farewell = text
    marks = []
    deadline = loop.schedule(after: Self.goodbyeLimit) { [unowned self] in end(text) }
    flush()
    if phase == .closing, output.isEmpty { end(text) }
  }

  // MARK: Events

  private func ready() {
    switch phase {
    case .connecting: finishConnecting()
    case .handshaking: awaitTurn()
    case .open:
      flush()
      if !isTurnAwaited { takeTurn() }
    case .closing: flush()
    case .closed: break
    }
  }

  private func finishConnecting() {
    if let reason = session.finishConnecting() { return end(reason) }
    phase = .handshaking
    loop.change(descriptor, to: .both)
    awaitTurn()
  }

  private func handshake() {
    switch session.handshake() {
    case .done:
      phase = .open
      wasOpen = true
      if hasConnected { deadline = nil }
      onEvent(self, .open)
      if phase == .open {
        flush()
        takeTurn()
      }
    case .wantsRead: awaitHandshake(.read)
    case .wantsWrite: awaitHandshake(.both)
    case .failed(let reason): end(reason)
    }
  }

  private func awaitHandshake(_ interest: EventLoop.Interest) {
    loop.change(descriptor, to: interest)
    if !hasConnected, session.hasAnswered { onEvent(self, .answered) }
  }

  /// TLS and the decoder may hold bytes that epoll doesn't know of.
  private func awaitTurn() {
    guard !isTurnAwaited else { return }
    isTurnAwaited = true
    let turn = { [weak self] in
      guard let self else { return }
      isTurnAwaited = false
      if phase == .handshaking { handshake() } else if phase == .open { takeTurn() }
    }
    if phase == .handshaking { loop.awaitHandshake(turn) } else { loop.awaitTurn(turn) }
  }

  /// What is there, as far as a turn goes.
  private func takeTurn() {
    var turn = ReadingTurn(began: Clocks.now())
    while phase == .open, mayRead {
      if turn.isOver { return awaitTurn() }
      if deliverNext(&turn) { continue }
      let result = readSome()
      effort.read(session.takeIntake())
      guard case .bytes(let count) = result else {
        settleEffort()
        switch result {
        case .closed: end("the other side closed the connection")
        case .failed(let reason): end(reason)
        case .bytes, .wantsRead, .wantsWrite: break
        }
        return
      }
      noteHeard()
      turn.bytes += count
      effort.bytes += count
    }
  }

  /// What is missing of a payload frame is decrypted to where it stays, everything else to where frames are cut out of it:
  /// behind a large payload no more of that than it takes to find the next one.
  private func readSome() -> TLSSession.Transfer {
    guard decoder.missing > 0 else {
      let result = session.read(into: loop.scratch, records: isBulk ? 1 : ReadingTurn.recordsAtOnce)
      if case .bytes(let count) = result {
        decoder.feed(UnsafeRawBufferPointer(rebasing: loop.scratch[..<count]).bytes)
      }
      return result
    }
    var result = TLSSession.Transfer.wantsRead
    decoder.fill { room in
      result = session.read(into: room, records: ReadingTurn.recordsAtOnce)
      return if case .bytes(let count) = result { count } else { 0 }
    }
    return result
  }

  /// False when there is no whole frame.
  private func deliverNext(_ turn: inout ReadingTurn) -> Bool {
    do {
      guard let decoded = try decoder.next() else {
        settleEffort()
        return false
      }
      turn.frames += 1
      effort.frames += 1
      switch decoded {
      case .frame(let frame):
        isBulk = false
        onEvent(self, .frame(frame))
      case .payload(let header, let bytes):
        isBulk = bytes.count >= Self.bulk
        onEvent(self, .payload(header, bytes))
      }
    } catch {
      onEvent(self, .broken("\(error)"))
      close(.protocolViolation, "not a frame: \(error)")
    }
    return true
  }

  private func settleEffort() {
    let wasted = effort.settle()
    if wasted > 0, phase == .open { onEvent(self, .wasted(wasted)) }
  }

  private func noteHeard() {
    let now = Clocks.now()
    guard now - heardAt >= progress else { return }
    heardAt = now
    loop.defer { [weak self] in
      guard let self, phase == .open else { return }
      onEvent(self, .heard)
    }
  }

  /// With what else follows from the same input: few TLS records, each a write here and a wake-up there.
  private func flushSoon() {
    if output.count >= Self.gathered { return flush() }
    guard !isFlushAwaited else { return }
    isFlushAwaited = true
    loop.defer { [weak self] in
      self?.isFlushAwaited = false
      self?.flush()
    }
  }

  private func flush() {
    var rest = Self.writeLimit
    while (phase == .open || phase == .closing), !output.isEmpty {
      guard rest > 0 else { return awaitWriting() }
      let result = output.withFirst(atMost: rest) { session.write($0) }
      switch result {
      case .bytes(let count):
        let couldRead = mayRead
        output.take(count)
        rest -= count
        sent += UInt64(count)
        // What was left unread meanwhile may be here already.
        if !couldRead, mayRead, phase == .open { awaitTurn() }
      case .wantsRead, .wantsWrite: return awaitWriting()
      case .closed: return end("the other side closed the connection")
      case .failed(let reason): return end(reason)
      }
    }
    runMarks()
    if phase == .closing { return end(farewell) }
    if phase == .open { loop.change(descriptor, to: isPaused ? .none : .read) }
  }

  private func awaitWriting() {
    loop.change(descriptor, to: mayRead ? .both : .write)
    runMarks()
  }

  private func runMarks() {
    while let first = marks.first, first.at <= sent {
      marks.removeFirst()
      loop.defer(first.run)
    }
  }

  private func end(_ reason: String) {
    guard phase != .closed else { return }
    phase = .closed
    deadline = nil
    marks = []
    output.removeAll()
    loop.unwatch(descriptor)
    _ = session.shutdown()
    onEvent(self, .closed(reason))
  }
}

/// How much of a turn is used.
private struct ReadingTurn {
  let began: Instant
  var bytes = 0
  var frames = 0

  static let recordsAtOnce = 64
  private static let limit = Interval.milliseconds(1)

  /// Never before anything was done.
  var isOver: Bool {
    guard bytes > 0 || frames > 0 else { return false }
    return bytes >= 256 << 10 || frames >= 256 || Clocks.now() - began >= Self.limit
  }
}

/// What the transport did, beside what it was good for.
private struct Effort {
  var bytes = 0
  var frames = 0
  private var records = 0
  private var messages = 0

  /// One that is taken after the handshake changes keys: dozens of microseconds.
  private static let messageCost = 64
  /// Data for which a record of its own is fair.
  private static let recordSize = 512
  /// Not worth a word: a record counts as soon as its header is there, what it brings when it is whole.
  private static let slack = 64

  mutating func read(_ intake: (records: Int, messages: Int)) {
    records += intake.records
    messages += intake.messages
  }

  /// To be called when no whole frame is left: only then it is known what the records brought. What was found is told
  /// once.
  mutating func settle() -> Int {
    records = max(0, records - frames - bytes / Self.recordSize)
    (frames, bytes) = (0, bytes % Self.recordSize)
    let wasted = records + messages * Self.messageCost
    guard wasted >= Self.slack else { return 0 }
    (records, messages) = (0, 0)
    return wasted
  }
}
