import Testing

@testable import LinuxIO

@Suite struct RecentBytesTests {
  @Test func whatGrowsIsThereFromItsFirstByteThatIsKeptOn() {
    var recent = RecentBytes<String>(limit: 1 << 20, mostOfOne: 10)
    recent.note([1, 2, 3], of: "a", at: 100)
    recent.note([4, 5], of: "a", at: 103)
    #expect(recent.bytes(of: "a", at: 100, count: 5) == [1, 2, 3, 4, 5])
    #expect(recent.bytes(of: "a", at: 102, count: 2) == [3, 4])
    #expect(recent.bytes(of: "a", at: 99, count: 2) == nil)
    #expect(recent.bytes(of: "a", at: 104, count: 2) == nil)
    #expect(recent.bytes(of: "b", at: 100, count: 1) == nil)
    #expect(recent.bytes(of: "a", at: .max, count: 2) == nil)
    // A hole, then more than is kept of one.
    recent.note([7], of: "a", at: 106)
    #expect(recent.bytes(of: "a", at: 104, count: 1) == nil)
    #expect(recent.bytes(of: "a", at: 106, count: 1) == [7])
    recent.note([8, 9, 10, 11, 12, 13, 14, 15, 16, 17], of: "a", at: 107)
    #expect(recent.bytes(of: "a", at: 106, count: 1) == nil)
    #expect(recent.bytes(of: "a", at: 107, count: 10)?.last == 17)
    recent.note([UInt8](repeating: 1, count: 11), of: "a", at: 117)
    #expect(recent.bytes(of: "a", at: 107, count: 1) == nil)
  }

  @Test func whatWasNotedLongAgoGoes() {
    var recent = RecentBytes<Int>(limit: 4_096, mostOfOne: 100)
    for key in 0..<1_000 {
      recent.note([UInt8](repeating: 1, count: 72), of: key, at: 5)
      recent.note([2], of: -1, at: UInt64(key))
    }
    let kept = (0..<1_000).count { recent.bytes(of: $0, at: 5, count: 72) != nil }
    #expect((1...20).contains(kept))
    #expect(recent.bytes(of: 999, at: 5, count: 1) != nil)
    #expect(recent.bytes(of: -1, at: 999, count: 1) == [2])
  }
}
