import Glibc
package import JournalModel

extension WallTime {
  /// RFC 3339 in UTC, with milliseconds: `2026-11-22T16:30:00.123Z`. Years beyond 9999 have five digits and more.
  package var rfc3339: String { rfc3339(digits: 3) }
  package var rfc3339Nanoseconds: String { rfc3339(digits: 9) }

  private func rfc3339(digits: Int) -> String {
    let (seconds, fraction) = Self.divide(nanoseconds, by: 1_000_000_000)
    var time = time_t(seconds)
    var parts = tm()
    gmtime_r(&time, &parts)
    func padded(_ value: Int, _ digits: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
    }
    func two(_ value: Int32) -> String { padded(Int(value), 2) }
    return "\(padded(Int(parts.tm_year) + 1900, 4))-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
      + "T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(padded(Int(fraction), 9).prefix(digits))Z"
  }

  /// Rounds down, also before 1970.
  private static func divide(_ value: Int64, by divisor: Int64) -> (quotient: Int64, remainder: Int64) {
    let (quotient, remainder) = value.quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }

  static var now: WallTime {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return WallTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }
}
