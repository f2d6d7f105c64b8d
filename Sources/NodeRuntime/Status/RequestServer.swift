import Glibc
import JournalModel
import LinuxIO
import Synchronization

/// What a `RequestServer` is asked, and by whom it is answered. Called on the server's thread, which must not wait.
protocol RequestService: Sendable {
  /// The request with which `bytes` begins, once all of it is there.
  func request(in bytes: [UInt8]) -> [UInt8]?
  /// Gives the answer to `reply`, at once or later, from any thread. A request that grew beyond its bound comes as far as
  /// it was read.
  func answer(_ request: [UInt8], to reply: Reply)
}

/// Where the answer to one request goes.
final class Reply: Sendable {
  private let give: @Sendable ([UInt8]) -> Void
  private let whenAbandoned = Mutex<(@Sendable () -> Void)?>(nil)

  init(_ give: @escaping @Sendable ([UInt8]) -> Void) { self.give = give }

  /// Only the first answer counts, and none when nobody waits any more.
  func callAsFunction(_ answer: [UInt8]) { give(answer) }

  /// `body` runs if the one who asked leaves before the answer.
  func onAbandoned(_ body: @escaping @Sendable () -> Void) { whenAbandoned.withLock { $0 = body } }

  fileprivate func abandon() {
    let body = whenAbandoned.withLock { body in
      defer { body = nil }
      return body
    }
    body?()
  }
}

/// Answers one short request on each connection of a listening socket: on one thread, which waits for none of them. So
/// clients that are slow, silent or stopped cost a descriptor for a few seconds; when too many are there, the oldest one
/// that holds things up makes room for the newest.
final class RequestServer: Sendable {
  struct Bounds: Sendable {
    var connections = 64
    /// Bytes of a request.
    var request: Int
    /// For a whole request, and for a whole answer once it is there.
    var asking = Interval.seconds(2)
    var answering = Interval.seconds(10)
    /// How long the other side may take to hang up after its answer: to close with its bytes unread would reset the
    /// connection before the answer arrived.
    var parting = Interval.seconds(1)
  }

  private let listener: Int32
  fileprivate let bounds: Bounds
  fileprivate let service: any RequestService
  private let wakeup: Wakeup
  private let isStopped = Atomic(false)
  private let answers = Mutex<[(connection: UInt64, bytes: [UInt8])]>([])

  /// Serves a socket that listens already, of which it keeps a descriptor of its own.
  init(listening number: Int32, bounds: Bounds, service: any RequestService) throws(SystemError) {
    wakeup = try Wakeup()
    listener = fcntl(number, F_DUPFD_CLOEXEC, 0)
    self.bounds = bounds
    self.service = service
    guard listener >= 0 else { throw SystemError("fcntl", code: errno) }
    _ = fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK)
    startThread { self.serve() }
  }

  deinit { if listener >= 0 { close(listener) } }

  func stop() {
    isStopped.store(true, ordering: .relaxed)
    wakeup.signal()
  }

  // MARK: On the server's thread

  private func serve() {
    var visitors = Visitors(of: self)
    while true {
      for answer in takeAnswers() { visitors.take(answer.bytes, for: answer.connection) }
      if isStopped.load(ordering: .relaxed) { return }
      visitors.dismiss(at: Clocks.now())
      wait(for: &visitors)
    }
  }

  private func takeAnswers() -> [(connection: UInt64, bytes: [UInt8])] {
    answers.withLock { answers in
      defer { answers = [] }
      return answers
    }
  }

  private func wait(for visitors: inout Visitors) {
    let now = Clocks.now()
    var entries = [
      pollfd(fd: wakeup.number, events: Int16(POLLIN), revents: 0),
      // A negative descriptor is passed over.
      pollfd(fd: visitors.mayEnter(at: now) ? listener : -1, events: Int16(POLLIN), revents: 0),
    ]
    entries += visitors.entries
    let count = poll(&entries, UInt(entries.count), visitors.timeout(at: now))
    guard count > 0 else { return }
    if entries[0].revents != 0 { wakeup.clear() }
    visitors.serve(entries.dropFirst(2))
    if entries[1].revents != 0 { visitors.accept(from: listener) }
  }

  fileprivate func reply(for connection: UInt64) -> Reply {
    Reply { [weak self] bytes in
      guard let self else { return }
      answers.withLock { $0.append((connection, bytes)) }
      wakeup.signal()
    }
  }
}

/// One connection. Closed at the end of its life.
private final class Visitor {
  enum Phase { case asking, waiting, answering, parting }

  let id: UInt64
  let number: Int32
  var phase = Phase.asking
  /// When it has to be through with its phase; nil while the node thinks.
  var deadline: Instant?
  var input: [UInt8] = []
  var output: ArraySlice<UInt8> = []
  var reply: Reply?

  init(_ id: UInt64, _ number: Int32, until deadline: Instant) {
    self.id = id
    self.number = number
    self.deadline = deadline
  }

  deinit {
    close(number)
    if phase == .waiting { reply?.abandon() }
  }

  var interest: Int32 {
    switch phase {
    case .asking, .parting: POLLIN
    // Only that it has hung up.
    case .waiting: 0
    case .answering: POLLOUT
    }
  }
}

/// The connections of a `RequestServer`, in the order in which they came.
private struct Visitors {
  private unowned let server: RequestServer
  private var all: [Visitor] = []
  private var last: UInt64 = 0
  private var acceptAgain: Instant?

  init(of server: RequestServer) { self.server = server }

  var entries: [pollfd] { all.map { pollfd(fd: $0.number, events: Int16($0.interest), revents: 0) } }

  func timeout(at now: Instant) -> Int32 {
    guard let next = (all.compactMap(\.deadline) + [acceptAgain].compactMap { $0 }).min() else { return -1 }
    return next <= now ? 0 : Int32(clamping: (next - now).nanoseconds / 1_000_000 + 1)
  }

  mutating func dismiss(at now: Instant) {
    all.removeAll { $0.deadline.map { $0 <= now } ?? false }
    if let again = acceptAgain, again <= now { acceptAgain = nil }
  }

  // MARK: Entering

  /// Who waits for the node has its place until it has its answer.
  private var mostExpendable: Int? {
    [Visitor.Phase.parting, .asking, .answering].lazy.compactMap { phase in all.firstIndex { $0.phase == phase } }.first
  }

  func mayEnter(at now: Instant) -> Bool {
    acceptAgain == nil && (all.count < server.bounds.connections || mostExpendable != nil)
  }

  mutating func accept(from listener: Int32) {
    // A turn; the socket stays readable while more wait.
    for _ in 0..<16 {
      let now = Clocks.now()
      guard mayEnter(at: now) else { return }
      let number = Glibc.accept(listener, nil, nil)
      guard number >= 0 else {
        // Short of descriptors or memory: don't spin.
        if errno != EAGAIN, errno != EINTR, errno != ECONNABORTED { acceptAgain = now + .milliseconds(100) }
        return
      }
      _ = fcntl(number, F_SETFD, FD_CLOEXEC)
      _ = fcntl(number, F_SETFL, O_NONBLOCK)
      if all.count >= server.bounds.connections, let index = mostExpendable { all.remove(at: index) }
      last += 1
      all.append(Visitor(last, number, until: now + server.bounds.asking))
    }
  }

  // MARK: Serving

  /// `entries` are those that `entries` gave, with what poll(2) says of them.
  mutating func serve(_ entries: ArraySlice<pollfd>) {
    var gone: Set<UInt64> = []
    for (visitor, entry) in zip(all, entries) where entry.revents != 0 {
      if !serve(visitor) { gone.insert(visitor.id) }
    }
    if !gone.isEmpty { all.removeAll { gone.contains($0.id) } }
  }

  mutating func take(_ answer: [UInt8], for id: UInt64) {
    guard let index = all.firstIndex(where: { $0.id == id }), all[index].phase == .waiting else { return }
    let visitor = all[index]
    visitor.phase = .answering
    visitor.output = answer[...]
    visitor.deadline = Clocks.now() + server.bounds.answering
    if !write(visitor) { all.remove(at: index) }
  }

  /// False when the connection is over.
  private func serve(_ visitor: Visitor) -> Bool {
    switch visitor.phase {
    case .asking: read(visitor)
    case .waiting: false
    case .answering: write(visitor)
    case .parting: drain(visitor)
    }
  }

  private func read(_ visitor: Visitor) -> Bool {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = recv(visitor.number, &buffer, buffer.count, 0)
    guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
    visitor.input += buffer[..<count]
    let isTooLong = visitor.input.count > server.bounds.request
    guard let request = server.service.request(in: visitor.input) ?? (isTooLong ? visitor.input : nil) else {
      return true
    }
    let reply = server.reply(for: visitor.id)
    visitor.input = []
    visitor.reply = reply
    visitor.phase = .waiting
    visitor.deadline = nil
    server.service.answer(request, to: reply)
    return true
  }

  private func write(_ visitor: Visitor) -> Bool {
    while !visitor.output.isEmpty {
      let count = visitor.output.withUnsafeBytes {
        send(visitor.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
      visitor.output = visitor.output.dropFirst(count)
    }
    visitor.output = []
    shutdown(visitor.number, Int32(SHUT_WR))
    visitor.phase = .parting
    visitor.deadline = Clocks.now() + server.bounds.parting
    return true
  }

  private func drain(_ visitor: Visitor) -> Bool {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = recv(visitor.number, &buffer, buffer.count, 0)
    return count > 0 || count < 0 && (errno == EAGAIN || errno == EINTR)
  }
}
