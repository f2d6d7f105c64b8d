import JournalModel
import LinuxIO
import Synchronization
import Testing

@testable import NodeRuntime

/// P6: the loop belongs to everyone.
@Suite struct EventLoopTests {
  private func run(_ loop: EventLoop, for limit: Interval = .seconds(10)) throws {
    let end = loop.schedule(after: limit) {
      Issue.record("the loop was kept from stopping")
      loop.stop()
    }
    try withExtendedLifetime(end) { try loop.run(deadline: { nil }, onDeadline: {}) }
  }

  @Test(arguments: ["turn", "handshake", "deferred", "posted"])
  func whoAlwaysHasMoreKeepsNobodyWaitingP6(_ kind: String) throws {
    let loop = try EventLoop()
    let rounds = Mutex(0)
    @Sendable func again() {
      rounds.withLock { $0 += 1 }
      switch kind {
      case "turn": loop.awaitTurn(again)
      case "handshake": loop.awaitHandshake(again)
      case "deferred": loop.defer(again)
      default: loop.post(again)
      }
    }
    again()
    let wasServed = Mutex(0)
    let timer = loop.schedule(after: .milliseconds(1)) {
      wasServed.withLock { $0 += 1 }
      loop.post {
        wasServed.withLock { $0 += 1 }
        loop.awaitTurn { loop.stop() }
      }
    }
    try withExtendedLifetime(timer) { try run(loop) }
    #expect(wasServed.withLock { $0 } == 2)
    #expect(rounds.withLock { $0 } > 1)
  }

  @Test func whatIsPostedInBulkLeavesRoomBetweenAndKeepsItsOrderP6() throws {
    let loop = try EventLoop()
    let seen = Mutex<[Int]>([])
    let slice = Interval.milliseconds(2)
    for number in 0..<50 {
      loop.post {
        let end = Clocks.now() + slice
        while Clocks.now() < end {}
        seen.withLock { $0.append(number) }
        if number == 49 { loop.stop() }
      }
    }
    // Comes long before 100 ms of posted work are over.
    let before = Mutex<Int?>(nil)
    let timer = loop.schedule(after: .milliseconds(1)) { before.withLock { $0 = seen.withLock { $0.count } } }
    try withExtendedLifetime(timer) { try run(loop) }
    #expect(seen.withLock { $0 } == Array(0..<50))
    #expect(try #require(before.withLock { $0 }) < 25)
  }

  @Test func timersFireInOrderAndNotOnceLetGoOf() throws {
    let loop = try EventLoop()
    let fired = Mutex<[Int]>([])
    func timer(_ number: Int, after milliseconds: UInt64) -> EventLoop.Timer {
      loop.schedule(after: .milliseconds(milliseconds)) { fired.withLock { $0.append(number) } }
    }
    let kept = [timer(3, after: 30), timer(1, after: 5), timer(2, after: 10)]
    _ = timer(9, after: 1)
    let end = loop.schedule(after: .milliseconds(40)) { loop.stop() }
    try withExtendedLifetime((kept, end)) { try run(loop) }
    #expect(fired.withLock { $0 } == [1, 2, 3])
  }
}
