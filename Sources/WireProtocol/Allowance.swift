package import JournalModel

/// How much of what brings nothing one side puts up with from the other: so much at once, and so much a second. Frames
/// that change something are free; everything else is paid for from here, whatever it is.
///
/// It belongs to who is at the other end and not to a connection: who comes back finds it as it was left.
package struct Allowance: Sendable, Hashable {
  private let most: UInt64
  /// For one unit.
  private let nanoseconds: UInt64
  private var left: UInt64
  /// Up to when `left` counts what was regained.
  private var since: Instant
  /// Answers that what was sent to the other side may still bring.
  private var answers: UInt64 = 0

  /// Full.
  package init(_ limits: Limits, at now: Instant) {
    most = UInt64(max(1, limits.allowance))
    nanoseconds = 1_000_000_000 / UInt64(min(max(1, limits.allowancePerSecond), 1_000_000_000))
    left = most
    since = now
  }

  /// Something was sent, which the other side may answer with up to so many frames.
  package mutating func expect(answers count: Int) { answers &+= UInt64(max(0, count)) }

  /// A new connection: what was sent on the last one brings no answers any more.
  package mutating func expectNothing() { answers = 0 }

  /// A frame that may be an answer. False when it is none and was one too many.
  package mutating func takeAnswer(cost: Int, at now: Instant) -> Bool {
    if answers > 0 {
      answers -= 1
      return true
    }
    return take(cost, at: now)
  }

  /// False when there isn't so much left; then nothing is.
  package mutating func take(_ cost: Int, at now: Instant) -> Bool {
    regain(now)
    let cost = UInt64(max(0, cost))
    guard cost <= left else {
      left = 0
      return false
    }
    left -= cost
    return true
  }

  package mutating func isFull(at now: Instant) -> Bool {
    regain(now)
    return left == most
  }

  private mutating func regain(_ now: Instant) {
    let regained = (now - since).nanoseconds / nanoseconds
    guard regained < most - left else {
      (left, since) = (most, now)
      return
    }
    left += regained
    since = since + Interval(nanoseconds: regained * nanoseconds)
  }
}
