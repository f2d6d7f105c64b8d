/// A node's wall clock: it may be set, stand still, or run fast or slow. Nothing in the core may depend on it (F5).
package struct WallClock: Hashable, Sendable {
  private var base: Int64 = 0
  private var since: UInt64 = 0
  private var permille: Int64 = 1_000

  /// Nanoseconds since the world began, as this clock has it.
  func reading(_ now: UInt64) -> Int64 { base + Int64(now - since) / 1_000 * permille }

  mutating func step(_ offset: Int64) { base += offset }

  /// 1,000 is right, 0 stands still.
  mutating func run(permille: Int64, now: UInt64) {
    base = reading(now)
    since = now
    self.permille = permille
  }
}
