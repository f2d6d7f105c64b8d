import Dispatch
import Synchronization

/// Takes the node's state for whoever asks, on a thread of its own and once for all who wait: however many ask, the node
/// is asked by one at a time.
final class StatusDesk: Sendable {
  private struct State {
    var waiting: [@Sendable (NodeStatus) -> Void] = []
    var isClosed = false
  }
  private let state = Mutex(State())
  private let bell = DispatchSemaphore(value: 0)

  init(_ look: @escaping @Sendable () -> NodeStatus) {
    startThread { [self] in
      while let waiting = next() {
        guard !waiting.isEmpty else { continue }
        let status = look()
        for done in waiting { done(status) }
      }
    }
  }

  /// `done` runs on the desk's thread.
  func ask(_ done: @escaping @Sendable (NodeStatus) -> Void) {
    state.withLock { $0.waiting.append(done) }
    bell.signal()
  }

  func close() {
    state.withLock { $0.isClosed = true }
    bell.signal()
  }

  private func next() -> [@Sendable (NodeStatus) -> Void]? {
    bell.wait()
    return state.withLock { state in
      defer { state.waiting = [] }
      return state.isClosed ? nil : state.waiting
    }
  }
}
