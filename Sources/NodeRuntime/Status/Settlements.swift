import JournalModel

/// Those who wait for `status --settled`. Belongs to the loop's thread.
struct Settlements {
  /// What is waited for.
  enum Part: Hashable { case servers, peers }

  private struct Waiter {
    var parts: Set<Part>
    let done: @Sendable (SettleResult) -> Void
    let limit: EventLoop.Timer
  }
  private var waiters: [UInt64: Waiter] = [:]
  private var last: UInt64 = 0

  mutating func nextToken() -> UInt64 {
    last += 1
    return last
  }

  mutating func wait(
    _ token: UInt64, for parts: Set<Part>, until limit: EventLoop.Timer,
    done: @escaping @Sendable (SettleResult) -> Void
  ) {
    waiters[token] = Waiter(parts: parts, done: done, limit: limit)
  }

  /// True when that was the last that somebody waited for.
  mutating func reached(_ token: UInt64, _ part: Part) -> Bool {
    waiters[token]?.parts.remove(part)
    return waiters[token]?.parts.isEmpty ?? false
  }

  func isWaiting(_ token: UInt64) -> Bool { waiters[token] != nil }

  /// Tells the one who waits, if there is still one.
  mutating func end(_ token: UInt64, _ result: SettleResult) { waiters.removeValue(forKey: token)?.done(result) }

  mutating func endAll(_ result: SettleResult) {
    for token in waiters.keys.sorted() { end(token, result) }
  }
}
