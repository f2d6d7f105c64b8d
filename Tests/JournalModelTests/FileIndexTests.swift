import JournalModel
import Testing

@Suite struct FileIndexTests {
  @Test(arguments: [UInt64(3), 50, 5_000]) func findsWhatAListFinds(hashes: UInt64) {
    var random = SystemRandomNumberGenerator()
    var index = FileIndex()
    var expected: [(id: FileID, hash: UInt64)] = []
    for step in 0..<4_000 {
      // Many at first, few later.
      if UInt64.random(in: 0..<4_000, using: &random) > step, UInt64.random(in: 0..<4, using: &random) > 0 {
        let hash = UInt64.random(in: 0..<hashes, using: &random) << 12
        index.insert(FileID(UInt32(step)), hash)
        expected.append((FileID(UInt32(step)), hash))
      } else if let place = expected.indices.randomElement(using: &random) {
        index.remove(expected[place].id, expected[place].hash)
        expected.remove(at: place)
      }
      let hash = UInt64.random(in: 0..<hashes, using: &random) << 12
      var found: [FileID] = []
      let none = index.first(hash) { id in
        if expected.contains(where: { $0.id == id && $0.hash == hash }) { found.append(id) }
        return false
      }
      #expect(none == nil)
      #expect(found == expected.filter { $0.hash == hash }.map(\.id))
    }
    for entry in expected { #expect(index.first(entry.hash) { $0 == entry.id } == entry.id) }
    for entry in expected { index.remove(entry.id, entry.hash) }
    for entry in expected { #expect(index.first(entry.hash) { _ in true } == nil) }
  }

  @Test func removesOnlyWhatIsThere() {
    var index = FileIndex()
    index.remove(FileID(1), 1)
    index.insert(FileID(1), 1)
    index.remove(FileID(2), 1)
    #expect(index.first(1) { _ in true } == FileID(1))
  }
}
