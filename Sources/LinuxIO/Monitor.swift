public import Glibc
package import JournalModel

/// A value behind a mutex, with one condition to wait for. `pthread_mutex(3)`. Public, as `Fifo` is.
public final class Monitor<Value>: @unchecked Sendable {
  @usableFromInline let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  @usableFromInline let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  @usableFromInline var value: Value

  @inlinable public init(_ value: Value) {
    self.value = value
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(condition)
    mutex.deallocate()
    condition.deallocate()
  }

  @inlinable public func withLock<R, E: Error>(_ body: (inout Value) throws(E) -> R) throws(E) -> R {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body(&value)
  }

  /// Waits until `body` gives a value; it is asked again after each `wakeAll`, and one of those that wait after each
  /// `wakeOne`.
  @inlinable public func waiting<R>(_ body: (inout Value) -> R?) -> R {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while true {
      if let result = body(&value) { return result }
      pthread_cond_wait(condition, mutex)
    }
  }

  /// As `waiting`, but gives up, with nil, at `limit`.
  package func waiting<R>(until limit: Instant, _ body: (inout Value) -> R?) -> R? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while true {
      if let result = body(&value) { return result }
      let now = Clocks.now()
      guard now < limit else { return nil }
      // The clock of `limit` is none that a condition can wait by.
      var time = Clocks.monotonic(after: limit - now)
      pthread_cond_timedwait(condition, mutex, &time)
    }
  }

  @inlinable public func wakeAll() { pthread_cond_broadcast(condition) }
  @inlinable public func wakeOne() { pthread_cond_signal(condition) }
}
