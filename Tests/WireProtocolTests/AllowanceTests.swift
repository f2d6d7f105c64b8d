import JournalModel
import Testing
import WireProtocol

/// Lets an expectation change what it looks at.
private final class Account {
  private var allowance: Allowance
  init(_ limits: Limits, at now: Instant) { allowance = Allowance(limits, at: now) }
  func take(_ cost: Int, at now: Instant) -> Bool { allowance.take(cost, at: now) }
  func takeAnswer(cost: Int, at now: Instant) -> Bool { allowance.takeAnswer(cost: cost, at: now) }
  func isFull(at now: Instant) -> Bool { allowance.isFull(at: now) }
  func expect(answers: Int) { allowance.expect(answers: answers) }
  func expectNothing() { allowance.expectNothing() }
}

@Suite struct AllowanceTests {
  private let limits: Limits = {
    var limits = Limits()
    limits.allowance = 100
    limits.allowancePerSecond = 10
    return limits
  }()
  private func at(_ milliseconds: UInt64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

  @Test("P6 so much at once, then so much a second, and never more than at first")
  func refills() {
    let allowance = Account(limits, at: at(0))
    #expect(allowance.take(100, at: at(0)))
    #expect(!allowance.take(1, at: at(99)))
    #expect(allowance.take(1, at: at(100)))
    #expect(!allowance.take(1, at: at(199)))
    // Who tries again and again loses nothing of what time gives.
    #expect(allowance.take(1, at: at(200)))
    #expect(!allowance.isFull(at: at(10_199)))
    #expect(allowance.isFull(at: at(10_200)))
    #expect(allowance.take(100, at: Instant(nanoseconds: .max)))
    #expect(!allowance.take(1, at: Instant(nanoseconds: .max)))
  }

  @Test("P6 more than is left leaves nothing")
  func overdrawn() {
    let allowance = Account(limits, at: at(0))
    #expect(!allowance.take(101, at: at(0)))
    #expect(!allowance.take(1, at: at(0)))
    #expect(allowance.take(10, at: at(1_000)))
    #expect(allowance.take(-5, at: at(1_000)))
    #expect(!allowance.take(1, at: at(1_000)))
  }

  @Test("P6 answers are free as far as something was sent on this connection")
  func answers() {
    let allowance = Account(limits, at: at(0))
    allowance.expect(answers: 1_000)
    for _ in 0..<1_000 { #expect(allowance.takeAnswer(cost: 50, at: at(0))) }
    #expect(allowance.takeAnswer(cost: 50, at: at(0)))
    #expect(allowance.takeAnswer(cost: 50, at: at(0)))
    #expect(!allowance.takeAnswer(cost: 50, at: at(0)))
    allowance.expect(answers: 5)
    allowance.expectNothing()
    #expect(!allowance.takeAnswer(cost: 1, at: at(0)))
  }
}
