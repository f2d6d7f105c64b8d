import Foundation
import JournalModel
import LinuxIO
import Testing

@testable import NodeRuntime

@Suite struct WorkerPoolTests {
  @Test func `Work with one key keeps its order while other keys run beside it`() throws {
    let pool = WorkerPool<TestLane, Int>()
    let done = Monitor([Int: [Int]]())
    let running = Monitor([Int: Int]())
    for step in 0..<2_000 {
      let key = step % 7
      pool.submit(step % 3 == 0 ? .slow : .many(key % 2), key) {
        running.withLock { $0[key, default: 0] += 1 }
        #expect(running.withLock { $0[key] } == 1)
        done.withLock { $0[key, default: []].append(step) }
        running.withLock { $0[key, default: 0] -= 1 }
      }
    }
    while !pool.isIdle({ _ in true }) { sched_yield() }
    for key in 0..<7 {
      #expect(done.withLock { $0[key] } == Array(stride(from: key, to: 2_000, by: 7)))
    }
  }

  @Test func `A key is free when nothing with it waits or runs`() throws {
    let pool = WorkerPool<TestLane, String>()
    let gate = Monitor(0)
    #expect(pool.isFree("a"))
    for _ in 0..<2 { pool.submit(.wide, "a") { gate.waiting { $0 > 0 ? ($0 -= 1) : nil } } }
    for _ in 0..<2 {
      #expect(!pool.isFree("a") && pool.isFree("b"))
      gate.withLock { $0 += 1 }
      gate.wakeAll()
    }
    while !pool.isIdle({ _ in true }) { sched_yield() }
    #expect(pool.isFree("a"))
    pool.stop()
  }

  @Test func `A key that waits holds up no other key`() throws {
    let pool = WorkerPool<TestLane, String>()
    let gate = Monitor(false)
    let seen = Monitor(0)
    pool.submit(.wide, "slow") { gate.waiting { $0 ? () : nil } }
    for _ in 0..<100 {
      pool.submit(.wide, "fast") {
        seen.withLock { $0 += 1 }
        seen.wakeAll()
      }
    }
    seen.waiting { $0 == 100 ? () : nil }
    gate.withLock { $0 = true }
    gate.wakeAll()
    pool.stop()
  }

  /// Work that waits until the gate opens, and a count of what began.
  private func hang(_ pool: WorkerPool<TestLane, Int>, _ lane: TestLane, keys: Range<Int>, behind gate: Monitor<Bool>)
    -> Monitor<Int>
  {
    let begun = Monitor(0)
    for key in keys {
      pool.submit(lane, key) {
        begun.withLock { $0 += 1 }
        begun.wakeAll()
        gate.waiting { $0 ? () : nil }
      }
    }
    return begun
  }

  @Test func `A3 What hangs in one lane holds up no other, and so many threads at most`() {
    let pool = WorkerPool<TestLane, Int>()
    let gate = Monitor(false)
    let begun = hang(pool, .wide, keys: 0..<100, behind: gate)
    begun.waiting { $0 == 2 ? () : nil }
    let seen = Monitor(0)
    @Sendable func add() {
      seen.withLock { $0 += 1 }
      seen.wakeAll()
    }
    pool.submit(.slow, 1_000, add)
    seen.waiting { $0 == 1 ? () : nil }
    // Called hung, two leave their places to two more; these are the last.
    let limit = Interval.milliseconds(1)
    while begun.withLock({ $0 }) < 4 { _ = pool.review(at: Clocks.now(), limit: limit) }
    while pool.review(at: Clocks.now(), limit: limit).map(\.count) != [4] { sched_yield() }
    #expect(pool.review(at: Clocks.now(), limit: limit).map(\.waiting) == [96])
    #expect(begun.withLock { $0 } == 4)
    // The end waits for none of it.
    #expect(pool.isIdle { $0 == .slow } && !pool.isIdle { $0 == .wide })
    gate.withLock { $0 = true }
    gate.wakeAll()
    begun.waiting { $0 == 100 ? () : nil }
    while !pool.isIdle({ _ in true }) { sched_yield() }
    #expect(pool.review(at: Clocks.now(), limit: limit).isEmpty)
    pool.stop()
  }

  /// A thread that comes out of its rest to work that hangs is no help to the work behind it.
  @Test func `A3 Work behind a thread that was idle gets one of its own`() {
    let pool = WorkerPool<TestLane, Int>()
    for _ in 0..<50 {
      let gate = Monitor(false)
      // One idle thread.
      let first = hang(pool, .slow, keys: 0..<1, behind: Monitor(true))
      first.waiting { $0 == 1 ? () : nil }
      while !pool.isIdle({ _ in true }) { sched_yield() }
      let begun = hang(pool, .wide, keys: 1..<3, behind: gate)
      begun.waiting { $0 == 2 ? () : nil }
      gate.withLock { $0 = true }
      gate.wakeAll()
      while !pool.isIdle({ _ in true }) { sched_yield() }
    }
    pool.stop()
  }

  @Test func `A3 However many lanes hang, each other one gets a thread`() {
    let pool = WorkerPool<TestLane, Int>()
    let gate = Monitor(false)
    let hanging = (0..<60).map { hang(pool, .many($0), keys: ($0 * 10)..<($0 * 10 + 10), behind: gate) }
    for begun in hanging { begun.waiting { $0 > 0 ? () : nil } }
    #expect(hanging.reduce(0) { sum, begun in sum + begun.withLock { $0 } } <= 64 + 60)
    let seen = Monitor(false)
    for lane in [TestLane.many(99), .slow] {
      seen.withLock { $0 = false }
      pool.submit(lane, 10_000) {
        seen.withLock { $0 = true }
        seen.wakeAll()
      }
      seen.waiting { $0 ? () : nil }
    }
    gate.withLock { $0 = true }
    gate.wakeAll()
    while !pool.isIdle({ _ in true }) { sched_yield() }
    pool.stop()
  }

  @Test func `Who waits for the end of work is told of it, and waits no longer than it may`() {
    let pool = WorkerPool<TestLane, Int>()
    let gate = Monitor(false)
    let begun = hang(pool, .wide, keys: 0..<2, behind: gate)
    begun.waiting { $0 == 2 ? () : nil }
    let soon = Clocks.now() + .milliseconds(20)
    #expect(!pool.awaitIdle(until: soon) { _ in true })
    #expect(Clocks.now() >= soon)
    #expect(pool.awaitIdle(until: Clocks.now() + .seconds(60)) { $0 == .slow })
    // Work that begets work, and ends while somebody begins to wait, again and again.
    for _ in 0..<2_000 {
      pool.submit(.slow, 7) { pool.submit(.many(1), 7) {} }
      #expect(pool.awaitIdle(until: Clocks.now() + .seconds(60)) { $0 != .wide })
    }
    gate.withLock { $0 = true }
    gate.wakeAll()
    #expect(pool.awaitIdle(until: Clocks.now() + .seconds(60)) { _ in true })
    pool.stop()
  }

  @Test func `P6 work for one waits for a piece of the others', and parts of something long for a turn of each`() {
    // Keys are host * 10,000 + number.
    let pool = WorkerPool<TestLane, Int>(for: { $0 / 10_000 })
    let gate = Monitor(false)
    let done = Monitor([Int]())
    pool.submit(.slow, 1) { gate.waiting { $0 ? () : nil } }
    let parts = Monitor(0)
    pool.submitParts(.slow, 2) {
      done.withLock { $0.append(2) }
      return parts.withLock {
        $0 += 1
        return $0 < 500
      }
    }
    for number in 3..<5_000 { pool.submit(.slow, number) { done.withLock { $0.append(number) } } }
    pool.submit(.slow, 2) { done.withLock { $0.append(-2) } }
    for number in 10_000..<10_003 { pool.submit(.slow, number) { done.withLock { $0.append(number) } } }
    gate.withLock { $0 = true }
    gate.wakeAll()
    while !pool.isIdle({ _ in true }) { sched_yield() }
    let order = done.withLock { $0 }
    // Of the other host one each time, before it and between its own.
    #expect(order.firstIndex(of: 10_002) ?? .max <= 6)
    // Nothing with the key overtakes what isn't done.
    let last = order.lastIndex(of: 2) ?? .max
    #expect(order.count { $0 == 2 } == 500 && order.firstIndex(of: -2) ?? 0 > last)
    // The long one didn't keep its own host's other work waiting either.
    #expect(order.firstIndex(of: 4_999) ?? .max < last)
    pool.stop()
  }
}

enum TestLane: WorkLane {
  case slow, wide
  case many(Int)
  var width: Int { self == .slow ? 1 : 2 }
  var isOneOfMany: Bool { if case .many = self { true } else { false } }
}
