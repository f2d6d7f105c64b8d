import JournalModel
import MerkleLog
import SimulatedWorld
import Testing

@Suite struct KernelTests {
  @Test func actionsRunByTimeThenInTheOrderOfScheduling() {
    let kernel = Kernel()
    var order: [Int] = []
    kernel.after(20) { order.append(3) }
    kernel.after(10) { order.append(1) }
    kernel.after(10) {
      order.append(2)
      kernel.after(0) { order.append(20) }
    }
    while kernel.step(until: Instant(nanoseconds: 100)) {}
    #expect(order == [1, 2, 20, 3])
    #expect(kernel.now.nanoseconds == 20)
    #expect(kernel.eventCount == 4)
  }

  @Test func aThousandRandomTimesComeInOrder() {
    let kernel = Kernel()
    var random = RandomStream(seed: 1, entity: "test", purpose: "times")
    var seen: [UInt64] = []
    for _ in 0..<1_000 { kernel.after(random.below(500)) { seen.append(kernel.now.nanoseconds) } }
    while kernel.step(until: Instant(nanoseconds: .max)) {}
    #expect(seen.count == 1_000)
    #expect(seen == seen.sorted())
  }

  @Test func streamsOfOneSeedAreIndependentAndRepeat() {
    func draw(_ purpose: String) -> [UInt64] {
      var stream = RandomStream(seed: 7, entity: "host0", purpose: purpose)
      return (0..<8).map { _ in stream.next() }
    }
    #expect(draw("disk") == draw("disk"))
    #expect(Set(draw("disk")).isDisjoint(with: draw("inotify")))
  }

  @Test func theTreesHashDependsOnBytesAndNotOnPieces() {
    let bytes = (0..<200).map { UInt8($0) }
    var whole = FileTree<SimulatedTree>(leafSize: 64)
    whole.append(bytes.span.bytes)
    var pieces = FileTree<SimulatedTree>(leafSize: 64)
    for index in bytes.indices { pieces.append(bytes.span.bytes.extracting(index..<(index + 1))) }
    #expect(whole.root == pieces.root)
    var other = FileTree<SimulatedTree>(leafSize: 64)
    let changed = Array(bytes.dropLast()) + [0]
    other.append(changed.span.bytes)
    #expect(other.root != whole.root)
  }
}
