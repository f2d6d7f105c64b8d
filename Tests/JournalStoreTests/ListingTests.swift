import Foundation
import JournalModel
import JournalStore
import Testing

@testable import LMDBStore

/// A listing prints all that can be read and says what can't: it never ends early in silence (P5).
@Suite struct ListingTests {
  private static let rows = 300

  private func key(_ number: Int) throws -> StringKey { stringKey(try host("web1"), UInt64(number) + 1) }

  /// A server's store of many strings and records, and its directory.
  private func filled() throws -> ServerStoreUnderTest {
    let test = try ServerStoreUnderTest(.lmdb)
    var batch = ServerBatch()
    batch.strings = try (0..<Self.rows).map { storedString(try key($0), committed: 0) }
    batch.records = [run(try host("web1"), (0..<Self.rows).map { record($0, size: 40) })]
    try test.store.commit(batch)
    return test
  }

  private struct Listed {
    var strings = 0
    var records: [UInt64] = []
    var damage: [ListingDamage] = []

    init(_ directory: String) throws {
      let store = try LMDBServerStore<CheapHash>(readingAt: directory)
      var strings = 0
      var records: [UInt64] = []
      damage = try store.listStrings { _ in
        strings += 1
        return true
      }
      let journal = SequenceKey(journal: HostJournal(host: try host("web1"), journal: journalID(1)))
      damage += try store.listRecords(of: journal, from: 0) { number, _ in
        records.append(number)
        return true
      }
      self.strings = strings
      self.records = records
    }
  }

  /// Every occurrence of `pattern`, with this bit of this byte flipped.
  private func flip(_ pattern: [UInt8], byte: Int, bit: Int, in path: String) throws {
    var data = try Data(contentsOf: URL(filePath: path))
    var start = data.startIndex
    var found = 0
    while let range = data.range(of: Data(pattern), in: start..<data.endIndex) {
      data[range.lowerBound + byte] ^= 1 << UInt8(bit)
      start = range.upperBound
      found += 1
    }
    try #require(found > 0)
    try data.write(to: URL(filePath: path))
  }

  @Test func `P5: the root of an older state is told from the present one's`() throws {
    let test = try filled()
    for number in 0..<40 {
      let mark = StartMark(life: UUIDBytes(high: 1, low: 1), number: UInt64(number))
      try test.store.setStartMarks(StartMarks(present: mark))
    }
    test.close()
    let path = test.directory.path + "/data.mdb"
    let sound = try Data(contentsOf: URL(filePath: path))
    let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))
    func number(_ page: Int) -> [UInt8] { sound[(page * pageSize + 144)..<(page * pageSize + 152)].reversed() }
    let newest = number(0).lexicographicallyPrecedes(number(1)) ? 1 : 0
    // The one of the state before, from the other meta page: as far away as a bit or several.
    var data = sound
    let (present, before) = (newest * pageSize + 128, (1 - newest) * pageSize + 128)
    data.replaceSubrange(present..<(present + 8), with: sound[before..<(before + 8)])
    try data.write(to: URL(filePath: path))
    expect(.corrupt) { () throws(StoreError) in
      _ = try LMDBServerStore<CheapHash>(readingAt: test.directory.path)
    }
    try sound.write(to: URL(filePath: path))
    #expect(try LMDBServerStore<CheapHash>(readingAt: test.directory.path).startMarks()?.present.number == 39)
  }

  @Test func `A sound store is listed whole`() throws {
    let test = try filled()
    test.close()
    let listed = try Listed(test.directory.path)
    #expect(listed.strings == Self.rows && listed.records == (0..<UInt64(Self.rows)).map { $0 })
    #expect(listed.damage == [])
  }

  @Test(arguments: [0, 1, 150, 298, 299])
  func `P5: a flipped bit in a record's key costs that record alone, and is told`(number: Int) throws {
    let test = try filled()
    test.close()
    let path = test.directory.path + "/data.mdb"
    let sound = try Data(contentsOf: URL(filePath: path))
    let inKey = encoded { writer in
      writer.write(name: "web1")
      writer.write(journalID(1))
      writer.write(UInt32(0))
      writer.write(UInt64(number))
    }
    let others = (0..<UInt64(Self.rows)).filter { $0 != UInt64(number) }
    for bit in 0..<8 {
      // The last byte but one of the number, and the first of the host's name: to either side among all rows.
      for byte in [inKey.count - 2, 0] {
        try flip(inKey, byte: byte, bit: bit, in: path)
        let listed = try Listed(test.directory.path)
        #expect(listed.records == others, "bit \(bit) of byte \(byte)")
        #expect(listed.damage.count == 1 && listed.damage.first?.description.contains("checksum") == true)
        try sound.write(to: URL(filePath: path))
      }
    }
  }

  @Test(arguments: [0, 1], [0, 3, 12, 40])
  func `P5: a flipped bit in a meta page's transaction number brings back no older state`(page: Int, bit: Int) throws {
    let test = try filled()
    for number in 0..<4 {
      let mark = StartMark(life: UUIDBytes(high: 1, low: 1), number: UInt64(number))
      try test.store.setStartMarks(StartMarks(present: mark))
    }
    test.close()
    let path = test.directory.path + "/data.mdb"
    var data = try Data(contentsOf: URL(filePath: path))
    let place = page * Int(sysconf(Int32(_SC_PAGESIZE))) + 144 + bit / 8
    data[place] ^= 1 << UInt8(bit % 8)
    try data.write(to: URL(filePath: path))
    do throws(StoreError) {
      let store = try LMDBServerStore<CheapHash>(readingAt: test.directory.path)
      // One more or less may look like the commit before: then nothing of it is missing.
      #expect(try store.startMarks()?.present.number == 3)
    } catch {
      #expect(error.kind == .corrupt)
    }
  }
}

/// Readers beside a writer.
@Suite struct ReaderTests {
  @Test func `The slots of a reader list are read`() {
    let text = "    pid     thread     txnid\n     12 7f00aa 31\n     13 7f00bb -\n(no active readers)\n"
    #expect(ReaderWatch.readers(in: text) == [.init(process: 12, transaction: 31)])
  }

  @Test func `A listing that is read slowly holds no state of the store`() throws {
    let test = try HostStoreUnderTest(.lmdb)
    let store = try #require(test.store as? LMDBHostStore<CheapHash>)
    func write(_ generation: Int) throws {
      _ = try store.commit(HostBatch { $0.files = (0..<200).map { knownFile($0, length: UInt64(generation)) } })
    }
    for generation in 0..<50 { try write(generation) }
    func size() throws -> Int {
      try #require(
        try FileManager.default.attributesOfItem(atPath: test.directory.path + "/data.mdb")[.size] as? Int)
    }
    let before = try size()
    var isFirst = true
    let damage = try store.listFiles { _ in
      if isFirst { for generation in 50..<300 { try write(generation) } }
      isFirst = false
      return true
    }
    #expect(damage == [])
    #expect(try size() <= before + (1 << 20))
  }
}
