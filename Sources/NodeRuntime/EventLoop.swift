import JournalModel
import LinuxIO
import Synchronization

/// The one thread of a node that owns machines, sockets and timers: epoll (level-triggered), an eventfd by which other
/// threads hand it work, and a heap of timers. Everything but `post` and `stop` belongs to that thread.
final class EventLoop: @unchecked Sendable {
  enum Interest { case read, write, both, exceptional }

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
  private let posted = Mutex<[@Sendable () -> Void]>([])
  private var deferred: [() -> Void] = []
  private var handlers: [Int32: () -> Void] = [:]
  private var interests: [Int32: Interest] = [:]
  private var timers: [(at: Instant, Weak)] = []
  private var isStopped = false

  init() throws(SystemError) {
    epoll = try Epoll()
    wakeup = try Wakeup()
    try watch(wakeup.number, for: .read) { [unowned self] in takePosted() }
  }

  // MARK: From any thread

  /// Runs `body` on the loop's thread.
  func post(_ body: @escaping @Sendable () -> Void) {
    let wasEmpty = posted.withLock { queue in
      queue.append(body)
      return queue.count == 1
    }
    if wasEmpty { wakeup.signal() }
  }

  // MARK: On the loop's thread

  /// Runs `body` after what runs now.
  func `defer`(_ body: @escaping () -> Void) { deferred.append(body) }

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
    timers.append((Clocks.now() + delay, Weak(timer)))
    return timer
  }

  func stop() { isStopped = true }

  /// Runs until `stop`. `deadline` is asked before each wait.
  func run(deadline: () -> Instant?, onDeadline: () -> Void) throws(SystemError) {
    while true {
      runDeferred()
      if isStopped { return }
      let due = [deadline(), timers.lazy.map(\.at).min()].compactMap { $0 }.min()
      try epoll.wait(timeout: due.map { $0 - Clocks.now() }) { token, _ in handlers[Int32(token)]?() }
      let now = Clocks.now()
      runTimers(now)
      if let due = deadline(), due <= now { onDeadline() }
    }
  }

  private func runDeferred() {
    while !deferred.isEmpty {
      let batch = deferred
      deferred = []
      for body in batch { body() }
    }
  }

  private func runTimers(_ now: Instant) {
    timers.removeAll { $0.1.timer == nil }
    let due = timers.filter { $0.at <= now }
    guard !due.isEmpty else { return }
    timers.removeAll { $0.at <= now }
    for entry in due { entry.1.timer?.run() }
  }

  private func takePosted() {
    wakeup.clear()
    let batch = posted.withLock { queue in
      defer { queue = [] }
      return queue
    }
    for body in batch { body() }
  }
}

extension EventLoop.Interest {
  fileprivate var events: UInt32 {
    switch self {
    case .read: Epoll.readable
    case .write: Epoll.writable
    case .exceptional: Epoll.exceptional
    case .both: Epoll.readable | Epoll.writable
    }
  }
}
