import JournalModel
import Testing

/// Numbers at which something that adds, subtracts or multiplies without thinking ends the process or wraps.
let extremes: [UInt64] = [
  0, 1, 2, 1 << 31, 1 << 32, 1 << 53, UInt64(Int64.max) - 1, UInt64(Int64.max), 1 << 63, .max - 1, .max,
]
let signedExtremes: [Int64] = [.min, .min + 1, -(1 << 53), -(1 << 32), -1, 0, 1, 1 << 32, 1 << 53, .max - 1, .max]

@Suite struct SaturatingTests {
  private func check<Number: FixedWidthInteger>(_ numbers: [Number]) {
    for a in numbers {
      for b in numbers {
        let (x, y) = (Double(a), Double(b))
        #expect(a.saturatingAdding(b) == exact(a.addingReportingOverflow(b), x + y))
        #expect(a.saturatingSubtracting(b) == exact(a.subtractingReportingOverflow(b), x - y))
        #expect(a.saturatingMultiplied(by: b) == exact(a.multipliedReportingOverflow(by: b), x * y))
      }
    }
  }

  private func exact<Number: FixedWidthInteger>(
    _ result: (partialValue: Number, overflow: Bool), _ real: Double
  ) -> Number {
    result.overflow ? (real > 0 ? .max : .min) : result.partialValue
  }

  @Test func resultsThatDontFitStayAtTheBound() {
    check(extremes)
    check(signedExtremes)
    #expect(extremes.saturatingSum { $0 } == .max)
    #expect([1, 2, 3].saturatingSum { UInt64($0) } == 6)
  }

  @Test func timeGoesNoFurtherThanItsEnds() {
    for a in extremes {
      for b in extremes {
        let sum = Instant(nanoseconds: a) + Interval(nanoseconds: b)
        #expect(sum >= Instant(nanoseconds: a))
        _ = Instant(nanoseconds: a) - Instant(nanoseconds: b)
        #expect(Interval.seconds(a) >= Interval(nanoseconds: a) || a == 0)
        #expect(Interval.milliseconds(a) >= Interval(nanoseconds: a) || a == 0)
      }
    }
    for time in signedExtremes {
      for b in extremes {
        let earlier = WallTime(nanoseconds: time) - Interval(nanoseconds: b)
        #expect(earlier <= WallTime(nanoseconds: time))
      }
    }
  }
}
