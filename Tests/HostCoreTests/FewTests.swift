@testable import HostCore
import Testing

@Suite struct FewTests {
  @Test func holdsWhatAnArrayHolds() {
    var random = SystemRandomNumberGenerator()
    var few = Few<Int>()
    var expected: [Int] = []
    for step in 0..<2_000 {
      if Bool.random(using: &random) {
        few.append(step % 5)
        expected.append(step % 5)
      } else {
        let gone = Int.random(in: 0..<5, using: &random)
        few.removeAll { $0 == gone }
        expected.removeAll { $0 == gone }
      }
      #expect(Array(few) == expected)
      #expect(few.isEmpty == expected.isEmpty && few.first == expected.first && few.count == expected.count)
    }
  }
}
