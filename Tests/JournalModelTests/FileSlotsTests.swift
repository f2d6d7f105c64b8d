import JournalModel
import Testing

@Suite struct FileSlotsTests {
  @Test func holdWhatADictionaryHolds() {
    var random = SystemRandomNumberGenerator()
    var slots = FileSlots<Int>()
    var expected: [FileID: Int] = [:]
    for step in 0..<20_000 {
      // Files come in order, and mostly go again.
      let id = FileID(UInt32(step / 20 + Int.random(in: 0..<200, using: &random)))
      switch Int.random(in: 0..<4, using: &random) {
      case 0:
        slots[id] = step
        expected[id] = step
      case 1: #expect(slots.removeValue(forKey: id) == expected.removeValue(forKey: id))
      case 2:
        slots[id] = nil
        expected[id] = nil
      default: #expect(slots[id] == expected[id])
      }
      #expect(slots.count == expected.count)
    }
    for number in 0..<UInt32(1_300) { #expect(slots[FileID(number)] == expected[FileID(number)]) }
    #expect(slots[FileID(.max)] == nil)
  }
}
