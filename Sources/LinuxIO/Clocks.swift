import CLinux
import Glibc
package import JournalModel

/// The machine's clocks and its randomness.
package enum Clocks {
  /// CLOCK_BOOTTIME: monotonic, and goes on while the machine sleeps (F5).
  package static func now() -> Instant {
    Instant(nanoseconds: UInt64(nanoseconds(of: CLOCK_BOOTTIME)))
  }

  /// CLOCK_REALTIME. Metadata only.
  package static func wall() -> WallTime { WallTime(nanoseconds: nanoseconds(of: CLOCK_REALTIME)) }

  /// Nanoseconds by which CLOCK_REALTIME is ahead of CLOCK_BOOTTIME: less than before once it was set back.
  static func lead() -> Int64 {
    nanoseconds(of: CLOCK_REALTIME).saturatingAdding(-nanoseconds(of: CLOCK_BOOTTIME))
  }

  /// What CLOCK_MONOTONIC will say after so long.
  static func monotonic(after interval: Interval) -> timespec {
    let then = nanoseconds(of: CLOCK_MONOTONIC).saturatingAdding(Int64(clamping: interval.nanoseconds))
    return timespec(tv_sec: Int(then / 1_000_000_000), tv_nsec: Int(then % 1_000_000_000))
  }

  private static func nanoseconds(of clock: clockid_t) -> Int64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}

package enum Randomness {
  /// `getrandom(2)`.
  package static func bytes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let got = getrandom(buffer.baseAddress.map { $0 + filled }, min(count - filled, 256), 0)
        // Fails only by EINTR for so few bytes, and by ENOSYS on kernels that lack all else that this needs too.
        if got > 0 { filled += got } else { precondition(errno == EINTR, "the kernel has no getrandom") }
      }
    }
  }

  /// A random uuid (RFC 9562, version 4).
  package static func uuid() -> UUIDBytes {
    let bytes = bytes(16)
    func word(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
    return UUIDBytes(high: word(0..<8), low: word(8..<16)).marked(version: 4)
  }
}
