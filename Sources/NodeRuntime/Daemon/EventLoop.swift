import HostCore
import JournalModel
import LinuxIO
import Synchronization

/// The one thread of a node that owns machines, sockets and timers: epoll (level-triggered), an eventfd by which other
/// threads hand it work, and a heap of timers. Everything but `post` and `stop` belongs to that thread.
///
/// It belongs to everyone: one iteration takes from each source what is there and no more, and of those that may bring
/// much only as much as a few milliseconds allow. Who has more waits for the next one.
final class EventLoop: @unchecked Sendable {
  /// `none`: an end or an error is still told, once.
  enum Interest { case none, read, write, both, exceptional }

  /// Cancelled by letting go of it.
  final class Timer {
    fileprivate let run: () -> Void
    fileprivate init(run: @escaping () -> Void) { self.run = run }
  }

  private final class Weak {
    weak var timer: Timer?
    init(_ timer: Timer) { self.timer = timer }
  }

  private let epoll: Epoll
  private let wakeup: Wakeup
  private struct Posted: Sendable {
    var bodies: [@Sendable () -> Void] = []
    /// The loop looks here only once it is woken.
    var isAsleep = false
  }
  private let posted = Mutex(Posted())
  /// Of what was posted, what had no time yet.
  private var taken = Fifo<@Sendable () -> Void>()
  private var deferred: [() -> Void] = []
  private var turns = Fifo<() -> Void>()
  private var handshakes = Fifo<() -> Void>()
  private var handlers: [Int32: () -> Void] = [:]
  private var interests: [Int32: Interest] = [:]
  private var timers = Heap<Instant, Weak>()
  private var isStopped = false
  /// Where sockets are read into: one for all, since one is read at a time and nothing stays in it.
  let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 128 << 10, alignment: 16)

  /// How long posted work, and turns, may keep the others waiting in one iteration.
  private static let share = Interval.milliseconds(5)
  private static let handshakeShare = Interval.milliseconds(1)

  init() throws(SystemError) {
    epoll = try Epoll()
    wakeup = try Wakeup()
    try watch(wakeup.number, for: .read) { [unowned self] in wakeup.clear() }
  }

  deinit { scratch.deallocate() }

  // MARK: From any thread

  /// Runs `body` on the loop's thread. While that is awake it costs no system call.
  func post(_ body: @escaping @Sendable () -> Void) {
    let wasAsleep = posted.withLock { posted in
      posted.bodies.append(body)
      defer { posted.isAsleep = false }
      return posted.isAsleep
    }
    if wasAsleep { wakeup.signal() }
  }

  // MARK: On the loop's thread

  /// Runs `body` after what runs now.
  func `defer`(_ body: @escaping () -> Void) { deferred.append(body) }

  /// Runs `body` when its turn has come, after what is ready by itself. A turn is to be short: who has more to do waits
  /// for another one.
  func awaitTurn(_ body: @escaping () -> Void) { turns.append(body) }

  /// The same for a step of a TLS handshake, which may take a millisecond and can't be made shorter: there is about one
  /// an iteration, so that those who are connected have the greater part of the loop however many others come.
  func awaitHandshake(_ body: @escaping () -> Void) { handshakes.append(body) }

  func watch(_ descriptor: Int32, for interest: Interest, handler: @escaping () -> Void) throws(SystemError) {
    try epoll.add(descriptor, events: interest.events, token: UInt64(descriptor))
    handlers[descriptor] = handler
    interests[descriptor] = interest
  }

  func change(_ descriptor: Int32, to interest: Interest) {
    guard let present = interests[descriptor], present != interest else { return }
    interests[descriptor] = interest
    // Fails only for a descriptor that isn't watched.
    try? epoll.modify(descriptor, events: interest.events, token: UInt64(descriptor))
  }

  /// To be called before the descriptor is closed.
  func unwatch(_ descriptor: Int32) {
    guard handlers.removeValue(forKey: descriptor) != nil else { return }
    interests[descriptor] = nil
    try? epoll.remove(descriptor)
  }

  func schedule(after delay: Interval, _ body: @escaping () -> Void) -> Timer {
    let timer = Timer(run: body)
    timers.push(Clocks.now() + delay, Weak(timer))
    return timer
  }

  func stop() { isStopped = true }

  /// Runs until `stop`. `deadline` is asked before each wait.
  func run(deadline: () -> Instant?, onDeadline: () -> Void) throws(SystemError) {
    while true {
      runDeferred()
      if isStopped { return }
      let due = [deadline(), timers.leastKey].compactMap { $0 }.min()
      takePosted(fallingAsleep: !hasWork)
      let timeout = hasWork ? Interval(nanoseconds: 0) : due.map { $0 - Clocks.now() }
      try epoll.wait(timeout: timeout) { token, _ in
        handlers[Int32(token)]?()
        runDeferred()
      }
      takePosted(fallingAsleep: false)
      let now = Clocks.now()
      runTimers(now)
      if let due = deadline(), due <= now { onDeadline() }
      runDeferred()
      runAtMost(Self.share, taken.count) { taken.popFirst() }
      runAtMost(Self.share, turns.count) { turns.popFirst() }
      runAtMost(Self.handshakeShare, handshakes.count) { handshakes.popFirst() }
    }
  }

  private var hasWork: Bool { !deferred.isEmpty || !taken.isEmpty || !turns.isEmpty || !handshakes.isEmpty }

  private func runDeferred() {
    if deferred.isEmpty { return }
    let batch = deferred
    deferred = []
    for body in batch { body() }
  }

  /// What waits now, `count` of it, as far as `share` goes. At least one.
  private func runAtMost(_ share: Interval, _ count: Int, _ next: () -> (() -> Void)?) {
    guard count > 0 else { return }
    let end = Clocks.now() + share
    for _ in 0..<count {
      next()?()
      runDeferred()
      if Clocks.now() >= end { return }
    }
  }

  private func runTimers(_ now: Instant) {
    while let (_, entry) = timers.pop(if: { $0 <= now }) { entry.timer?.run() }
  }

  /// Falls asleep only if nothing was posted.
  private func takePosted(fallingAsleep: Bool) {
    let batch = posted.withLock { posted in
      defer { posted.bodies = [] }
      posted.isAsleep = fallingAsleep && posted.bodies.isEmpty
      return posted.bodies
    }
    for body in batch { taken.append(body) }
  }
}

extension EventLoop.Interest {
  fileprivate var events: UInt32 {
    switch self {
    case .none: Epoll.once
    case .read: Epoll.readable
    case .write: Epoll.writable
    case .exceptional: Epoll.exceptional
    case .both: Epoll.readable | Epoll.writable
    }
  }
}
