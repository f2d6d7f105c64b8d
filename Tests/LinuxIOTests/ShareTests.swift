import Foundation
import JournalModel
import Testing

@testable import LinuxIO

/// However much one host has made, another one's work waits for a piece of each (P6, G3).
@Suite struct ShareTests {
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

  @Test func `P6 a path's directories are made by turns, and from where they end`() throws {
    let acts = try LinuxFiles()
    let root = try LogRoot(acts.root)
    let names = (0..<200).map { "d\($0)" }
    let path = BytePath(names.joined(separator: "/"))
    var paving = Paving(path)
    var turns = 1
    while try !root.pave(&paving, most: 64) { turns += 1 }
    #expect(turns == 4)
    var again = Paving(path)
    #expect(try root.pave(&again, most: 64))
    var longer = Paving(path.appending(Array("e/f".utf8)))
    #expect(try root.pave(&longer, most: 2))
    // Somebody removed a part of them.
    try FileManager.default.removeItem(atPath: String(decoding: acts.root.bytes, as: UTF8.self) + "/d0/d1")
    _ = try root.makeDirectories(path)
    _ = try root.directory(path)
    var short = Paving(BytePath("d0/d1/x"))
    #expect(try root.pave(&short, most: 64))
    _ = try root.directory(BytePath("d0/d1/x"))
  }
}
