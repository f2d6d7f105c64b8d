import Glibc

/// Threads for calls that block on the disk or hash much. Work with equal keys runs one after another in the order of
/// submission; different keys run side by side, first come, first served.
package final class WorkerPool<Key: Hashable & Sendable>: Sendable {
  package typealias Work = @Sendable () -> Void

  private struct State {
    /// Waiting work; a key is in it while it is ready, running or waiting.
    var queues: [Key: Queue<Work>] = [:]
    var ready = Queue<Key>()
    var waiting = 0
    /// Somebody waits for room.
    var isCrowded = false
    var isStopping = false
  }

  private let state = Monitor(State())
  private let capacity: Int
  private let threads: Monitor<[pthread_t]>

  /// - Parameter capacity: how much work may wait; beyond that `submit` blocks its caller.
  package init(threads count: Int, capacity: Int = 65_536) throws(SystemError) {
    self.capacity = capacity
    threads = Monitor([])
    for _ in 0..<count {
      let thread = try Self.start { [state] in Self.run(state) }
      threads.withLock { $0.append(thread) }
    }
  }

  /// Work tells of its end by itself, as its last act.
  package func submit(_ key: Key, _ work: @escaping Work) {
    state.waiting { [capacity, monitor = state] state -> Void? in
      guard state.waiting < capacity else {
        state.isCrowded = true
        return nil
      }
      state.waiting += 1
      if state.queues[key] == nil {
        state.queues[key] = Queue()
        state.ready.append(key)
        // One thread for each key that becomes ready. Under the lock, so that it isn't one that just began to wait for
        // room.
        if state.isCrowded { monitor.wakeAll() } else { monitor.wakeOne() }
      }
      state.queues[key]?.append(work)
      return ()
    }
  }

  /// Does what was submitted, then ends the threads and waits for them. Nothing may be submitted after it.
  package func stop() {
    state.withLock { $0.isStopping = true }
    state.wakeAll()
    let all = threads.withLock { threads in
      defer { threads = [] }
      return threads
    }
    for thread in all { pthread_join(thread, nil) }
  }

  private static func run(_ state: Monitor<State>) {
    while let (key, work) = next(state) {
      work()
      // A key that is put back wakes nobody: this thread takes one from there now.
      state.withLock { state in
        if state.queues[key]?.isEmpty == true { state.queues[key] = nil } else { state.ready.append(key) }
      }
    }
  }

  private static func next(_ state: Monitor<State>) -> (Key, Work)? {
    state.waiting { [monitor = state] state -> (Key, Work)?? in
      guard let key = state.ready.popFirst() else {
        // A key that runs puts itself back when it has more work, by a thread that then looks again.
        return state.isStopping ? .some(nil) : nil
      }
      guard let work = state.queues[key]?.popFirst() else { preconditionFailure("a ready key has work") }
      state.waiting -= 1
      if state.isCrowded {
        state.isCrowded = false
        monitor.wakeAll()
      }
      return (key, work)
    }
  }

  private static func start(_ body: @escaping Work) throws(SystemError) -> pthread_t {
    var thread = pthread_t()
    let box = Unmanaged.passRetained(ThreadBody(run: body))
    let code = pthread_create(
      &thread, nil,
      { raw in
        guard let raw else { return nil }
        Unmanaged<ThreadBody>.fromOpaque(raw).takeRetainedValue().run()
        return nil
      }, box.toOpaque())
    guard code == 0 else {
      box.release()
      throw SystemError("pthread_create", code: code)
    }
    return thread
  }
}

/// What a thread runs, on its way through `pthread_create(3)`.
private final class ThreadBody: Sendable {
  let run: @Sendable () -> Void
  init(run: @escaping @Sendable () -> Void) { self.run = run }
}

/// First in, first out.
struct Queue<Element> {
  private var elements: [Element?] = []
  private var head = 0
  var isEmpty: Bool { head == elements.count }

  mutating func append(_ element: Element) { elements.append(element) }

  mutating func popFirst() -> Element? {
    guard head < elements.count else { return nil }
    defer {
      elements[head] = nil
      head += 1
      if head > 32, head * 2 > elements.count {
        elements.removeFirst(head)
        head = 0
      }
    }
    return elements[head]
  }
}
