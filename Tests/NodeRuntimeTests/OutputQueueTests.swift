import JournalModel
import Testing

@testable import NodeRuntime

/// P6: what waits for the socket.
@Suite struct OutputQueueTests {
  private func frame(_ number: Int, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: number + $0) }
  }

  @Test(arguments: UInt64(0)..<20) func `all comes out once, in order, whatever is taken at once`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var queue = OutputQueue()
    var expected: [UInt8] = []
    var got: [UInt8] = []
    for number in 0..<300 {
      if Int.random(in: 0..<3, using: &generator) > 0 {
        let count = Int.random(in: 1...([40, 3_000, 200_000].randomElement(using: &generator)!), using: &generator)
        let frame = frame(number, count)
        expected += frame
        if Bool.random(using: &generator) { queue.append(frame) } else { queue.append { $0 += frame } }
      } else {
        let limit = Int.random(in: 1...100_000, using: &generator)
        let offered = queue.withFirst(atMost: limit) { Array($0) }
        #expect(offered.isEmpty == queue.isEmpty)
        let part = Int.random(in: 0...offered.count, using: &generator)
        queue.take(part)
        got += offered.prefix(part)
        // What wasn't taken is offered again: a TLS record may be begun with it.
        let rest = queue.withFirst(atMost: .max) { Array($0) }
        #expect(rest.starts(with: offered.dropFirst(part)) || part == offered.count)
      }
      #expect(queue.count == expected.count - got.count)
    }
    while !queue.isEmpty {
      let offered = queue.withFirst(atMost: .max) { Array($0) }
      got += offered
      queue.take(offered.count)
    }
    #expect(got == expected)
  }

  @Test func `what nobody takes is cut between frames, behind what was begun`() {
    var queue = OutputQueue()
    for number in 0..<10 { queue.append(frame(number, 100_000)) }
    queue.append(frame(10, 10))
    queue.take(60_000)
    queue.truncate(to: 250_000)
    #expect(queue.count == 340_000)
    queue.append(frame(11, 5))
    var sizes: [Int] = []
    while !queue.isEmpty {
      sizes.append(queue.withFirst(atMost: .max) { $0.count })
      queue.take(sizes.last!)
    }
    #expect(sizes == [40_000, 100_000, 100_000, 100_000, 5])
  }

  @Test func `what speaks of the next frame goes with it`() {
    var queue = OutputQueue()
    queue.append { $0 += frame(0, 65_500) }
    queue.append(isFollowed: true) { $0 += frame(1, 100) }
    queue.append { $0 += frame(2, 100_000) }
    queue.append(frame(3, 100_000))
    queue.truncate(to: 1)
    #expect(queue.count == 165_600)
  }

  @Test func `what is little stays whole`() {
    var queue = OutputQueue()
    queue.append(frame(0, 100_000))
    queue.append(frame(1, 10))
    queue.truncate(to: 512 << 10)
    #expect(queue.count == 100_010)
  }
}
