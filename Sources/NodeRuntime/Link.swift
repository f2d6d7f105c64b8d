import HostCore
import JournalModel
import LinuxIO
import SecureTransport
import WireProtocol

/// One TLS connection on the loop: handshake, frames in, frames out. Lives on the loop's thread.
///
/// What is queued to be sent is bounded: by the machines, which allow one payload slice and what windows let go ahead, and
/// for answers by reading nothing more from a peer that doesn't take them. The machines end it for its silence then. Who
/// connected, a host, has no answer to give but `pong`, and leaves that out then: a window of records may take longer than
/// `silence` over a slow link, and the server has to be heard meanwhile (W4).
final class Link {
  enum Event {
    case open
    /// Bytes came, told once each `Limits.progress`.
    case heard
    case frame(Frame)
    case payload(PayloadHeader, [UInt8])
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
  private var decoder: FrameDecoder
  private var output: [UInt8] = []
  private var outputStart = 0
  /// Bytes queued since the connection began, and of those the ones that the socket took.
  private var queued: UInt64 = 0
  private var sent: UInt64 = 0
  private var marks: [(at: UInt64, run: () -> Void)] = []
  private var input: [UInt8]
  private var isReadScheduled = false
  private var heardAt = Instant(nanoseconds: 0)
  private let progress: Interval
  private var deadline: EventLoop.Timer?

  private static let readSize = 128 << 10
  /// What one connection may read before the others have their turn.
  private static let turn = 1 << 20
  /// Queued bytes beyond which no more answers are made.
  private static let outputLimit = 4 << 20
  private static let handshakeLimit = Interval.seconds(10)
  private static let goodbyeLimit = Interval.seconds(2)

  init(
    id: ConnectionID, session: consuming TLSSession, isConnecting: Bool, address: String, limits: Limits,
    loop: EventLoop, onEvent: @escaping (Link, Event) -> Void
  ) {
    self.id = id
    self.session = session
    self.address = address
    self.loop = loop
    self.onEvent = onEvent
    phase = isConnecting ? .connecting : .handshaking
    hasConnected = isConnecting
    decoder = FrameDecoder(limits: limits)
    progress = limits.progress
    input = [UInt8](repeating: 0, count: Self.readSize)
  }

  /// Whether the handshake was ever done.
  private(set) var wasOpen = false
  /// Who is at the other end, once it was.
  var peer: CertificateIdentity? { session.peer }

  func start() {
    do { try loop.watch(descriptor, for: phase == .connecting ? .write : .both) { [unowned self] in ready() } } catch {
      return loop.defer { [self] in end("\(error)") }
    }
    deadline = loop.schedule(after: Self.handshakeLimit) { [unowned self] in
      if phase == .connecting || phase == .handshaking { end("no TLS handshake within 10 s") }
    }
  }

  // MARK: Sending

  private var isFull: Bool { output.count - outputStart > Self.outputLimit }
  private var mayRead: Bool { hasConnected || !isFull }

  func send(_ frame: Frame) {
    guard phase == .open else { return }
    if hasConnected, isFull, case .pong = frame { return }
    let before = output.count
    frame.encode(into: &output)
    queued += UInt64(output.count - before)
    flush()
  }

  /// Sends a payload frame; `taken` runs when the socket took its last byte.
  func send(_ header: PayloadHeader, bytes: [UInt8], taken: @escaping () -> Void) {
    guard phase == .open else { return }
    let before = output.count
    Frame.payload(header).encode(into: &output)
    output.append(contentsOf: bytes)
    queued += UInt64(output.count - before)
    marks.append((queued, taken))
    flush()
  }

  /// Says why, sends what is queued, closes.
  func close(_ code: RefusalCode, _ text: String) {
    guard phase == .open else { return end(text) }
    Frame.goodbye(code: code, text: text).encode(into: &output)
    phase = .closing
    marks = []
    deadline = loop.schedule(after: Self.goodbyeLimit) { [unowned self] in end(text) }
    flush()
    if phase == .closing, output.count == outputStart { end(text) }
  }

  // MARK: Events

  private func ready() {
    switch phase {
    case .connecting: finishConnecting()
    case .handshaking: handshake()
    case .open:
      flush()
      read()
    case .closing: flush()
    case .closed: break
    }
  }

  private func finishConnecting() {
    if let reason = session.finishConnecting() { return end(reason) }
    phase = .handshaking
    loop.change(descriptor, to: .both)
    handshake()
  }

  private func handshake() {
    switch session.handshake() {
    case .done:
      phase = .open
      wasOpen = true
      deadline = nil
      onEvent(self, .open)
      if phase == .open {
        flush()
        read()
      }
    case .wantsRead: loop.change(descriptor, to: .read)
    case .wantsWrite: loop.change(descriptor, to: .both)
    case .failed(let reason): end(reason)
    }
  }

  private func read() {
    var budget = Self.turn
    while phase == .open {
      guard mayRead else { return }
      let result = input.withUnsafeMutableBytes { session.read(into: $0) }
      switch result {
      case .bytes(let count):
        noteHeard()
        decoder.feed(input.span.extracting(first: count).bytes)
        deliver()
        budget -= count
        if budget <= 0 { return continueReadingLater() }
      case .wantsRead, .wantsWrite: return
      case .closed: return end("the other side closed the connection")
      case .failed(let reason): return end(reason)
      }
    }
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

  /// TLS may hold decrypted bytes that epoll doesn't know of.
  private func continueReadingLater() {
    guard !isReadScheduled else { return }
    isReadScheduled = true
    loop.defer { [weak self] in
      guard let self else { return }
      isReadScheduled = false
      if phase == .open { read() }
    }
  }

  private func deliver() {
    do {
      while phase == .open, let decoded = try decoder.next() {
        switch decoded {
        case .frame(let frame): onEvent(self, .frame(frame))
        case .payload(let header, let bytes): onEvent(self, .payload(header, bytes))
        }
      }
    } catch {
      onEvent(self, .broken("\(error)"))
      close(.protocolViolation, "not a frame: \(error)")
    }
  }

  private func flush() {
    while (phase == .open || phase == .closing), outputStart < output.count {
      let result = output.withUnsafeBytes { session.write(UnsafeRawBufferPointer(rebasing: $0[outputStart...])) }
      switch result {
      case .bytes(let count):
        let couldRead = mayRead
        outputStart += count
        sent += UInt64(count)
        // TLS may hold bytes that were left unread meanwhile.
        if !couldRead, mayRead { continueReadingLater() }
      case .wantsRead, .wantsWrite:
        loop.change(descriptor, to: mayRead ? .both : .write)
        return compact()
      case .closed: return end("the other side closed the connection")
      case .failed(let reason): return end(reason)
      }
    }
    compact()
    if phase == .closing { return end("closed") }
    if phase == .open { loop.change(descriptor, to: .read) }
    runMarks()
  }

  private func runMarks() {
    while let first = marks.first, first.at <= sent {
      marks.removeFirst()
      loop.defer(first.run)
    }
  }

  private func compact() {
    if outputStart == output.count {
      output.removeAll(keepingCapacity: output.capacity <= 1 << 20)
      outputStart = 0
    } else if outputStart > 1 << 20 {
      output.removeSubrange(..<outputStart)
      outputStart = 0
    }
    runMarks()
  }

  private func end(_ reason: String) {
    guard phase != .closed else { return }
    phase = .closed
    deadline = nil
    marks = []
    loop.unwatch(descriptor)
    _ = session.shutdown()
    onEvent(self, .closed(reason))
  }
}
