/// A point of the monotonic clock, in nanoseconds since an arbitrary origin (CLOCK_BOOTTIME in the daemon, virtual
/// time in the simulator). Every decision that depends on time uses this and never wall time (F5).
package struct Instant: Hashable, Sendable, Comparable {
  package var nanoseconds: UInt64
  package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  package static func < (l: Instant, r: Instant) -> Bool { l.nanoseconds < r.nanoseconds }
  /// A point beyond all is never reached.
  package static func + (l: Instant, r: Interval) -> Instant {
    Instant(nanoseconds: l.nanoseconds.saturatingAdding(r.nanoseconds))
  }
  /// Zero when `r` lies after `l`.
  package static func - (l: Instant, r: Instant) -> Interval {
    Interval(nanoseconds: l < r ? 0 : l.nanoseconds - r.nanoseconds)
  }
}

/// A length of time in nanoseconds.
package struct Interval: Hashable, Sendable, Comparable {
  package var nanoseconds: UInt64
  package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
  package static func milliseconds(_ n: UInt64) -> Interval {
    Interval(nanoseconds: n.saturatingMultiplied(by: 1_000_000))
  }
  package static func seconds(_ n: UInt64) -> Interval {
    Interval(nanoseconds: n.saturatingMultiplied(by: 1_000_000_000))
  }
  package static func < (l: Interval, r: Interval) -> Bool { l.nanoseconds < r.nanoseconds }
}

/// Wall time in nanoseconds since 1970-01-01 UTC. Metadata only: nothing is decided by it (F5).
package struct WallTime: Hashable, Sendable, Comparable {
  package var nanoseconds: Int64
  package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
  package static func < (l: WallTime, r: WallTime) -> Bool { l.nanoseconds < r.nanoseconds }
  package static func - (l: WallTime, r: Interval) -> WallTime {
    WallTime(nanoseconds: l.nanoseconds.saturatingSubtracting(Int64(clamping: r.nanoseconds)))
  }
}
