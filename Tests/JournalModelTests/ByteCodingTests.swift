import JournalModel
import Testing

@Suite struct ByteCodingTests {
  @Test("Integers of every width and sign come back, big-endian")
  func integers() throws {
    func check<I: FixedWidthInteger & BitwiseCopyable>(_ values: [I]) throws {
      for value in values + [.min, .max, 0, 1, .max / 2, .max / 3] {
        var writer = ByteWriter()
        writer.write(UInt8(0x55))
        writer.write(value)
        var expected: [UInt8] = [0x55]
        for shift in stride(from: I.bitWidth - 8, through: 0, by: -8) {
          expected.append(UInt8(truncatingIfNeeded: value >> shift))
        }
        #expect(writer.bytes == expected)
        var reader = ByteReader(writer.bytes)
        #expect(try reader.read(UInt8.self) == 0x55)
        #expect(try reader.read(I.self) == value)
        try reader.end()
      }
    }
    try check([UInt8(0x80), 0xff])
    try check([Int8(-1), -128, 127])
    try check([UInt16(0x8000), 0x1234])
    try check([Int16(-2), 0x1234])
    try check([UInt32(0x8000_0001)])
    try check([Int32(-3)])
    try check([UInt64(0x0123_4567_89ab_cdef)])
    try check([Int64(-1_700_000_000_123_456_789)])
  }

  @Test("A slice is read from its own beginning")
  func slices() throws {
    let bytes: [UInt8] = [9, 9, 9, 0, 0, 1, 0, 0, 0, 2, 0xaa, 0xbb, 7]
    var reader = ByteReader(bytes[3..<12])
    #expect(try reader.read(UInt16.self) == 0)
    #expect(try reader.read(UInt8.self) == 1)
    #expect(reader.offset == 3)
    #expect(try reader.readCounted(limit: 2) == [0xaa, 0xbb])
    #expect(reader.remaining == 0)
    #expect(throws: DecodingFailure(offset: 9, reason: .truncated)) { try reader.read(UInt8.self) }
    var rest = ByteReader(bytes[10...])
    _ = try rest.read(UInt8.self)
    #expect(rest.readRest() == [0xbb, 7])
    try rest.end()
  }

  @Test func countsAreBounded() throws {
    var reader = ByteReader([0, 0, 0, 3, 1, 2, 3])
    #expect(throws: DecodingFailure(offset: 4, reason: .tooLong(limit: 2))) { try reader.readCounted(limit: 2) }
    var huge = ByteReader([0xff, 0xff, 0xff, 0xff, 0])
    #expect(throws: DecodingFailure(offset: 4, reason: .truncated)) { try huge.readCounted(limit: .max) }
    var negative = ByteReader([1])
    #expect(throws: DecodingFailure(offset: 0, reason: .truncated)) { try negative.readRaw(count: -1) }
  }

  @Test func flags() throws {
    var reader = ByteReader([0, 1, 2])
    #expect(try reader.readFlag() == false)
    #expect(try reader.readFlag() == true)
    #expect(throws: DecodingFailure.self) { try reader.readFlag() }
  }

  @Test func overwriteFillsInALength() {
    var writer = ByteWriter(appendingTo: [1, 2])
    writer.write(UInt32(0))
    writer.write(UInt8(5))
    writer.overwrite(UInt32(0xa0b0_c0d0), at: 2)
    #expect(writer.bytes == [1, 2, 0xa0, 0xb0, 0xc0, 0xd0, 5])
  }
}

@Suite struct IdentifierTextTests {
  @Test func uuidText() throws {
    let text = "0f0e0d0c-0b0a-8908-8706-050403020100"
    #expect(Samples.file.text == text)
    #expect("\(Samples.file)" == text)
    #expect(FileUUID(text: text) == Samples.file)
    #expect(FileUUID(text: text.uppercased()) == Samples.file)
    #expect(JournalID(text: Samples.journal.text) == Samples.journal)
    #expect(UUIDBytes(bytes: Samples.file.bytes.bytes) == Samples.file.bytes)
    for bad in [
      "", "0f0e0d0c0b0a89088706050403020100", "0f0e0d0c-0b0a-8908-8706-05040302010", text + "0", text + "-",
      "0f0e0d0c-0b0a-8908-8706-05040302010g", "0f0e0d0-c0b0a-8908-8706-050403020100",
      "+f0e0d0c-0b0a-8908-8706-050403020100", "０f0e0d0c-0b0a-8908-8706-050403020100",
    ] {
      #expect(FileUUID(text: bad) == nil, "\(bad)")
    }
    #expect(UUIDBytes(bytes: [UInt8](repeating: 0, count: 15)) == nil)
    #expect(UUIDBytes(bytes: [UInt8](repeating: 0, count: 24)) == nil)
  }

  @Test("RFC 9562: version and variant bits, the rest untouched")
  func marked() {
    let ones = UUIDBytes(high: .max, low: .max).marked(version: 8)
    #expect(ones.text == "ffffffff-ffff-8fff-bfff-ffffffffffff")
    #expect(UUIDBytes(high: 0, low: 0).marked(version: 4).text == "00000000-0000-4000-8000-000000000000")
  }

  @Test func digests() throws {
    #expect(Samples.root.hex == "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf")
    #expect(Samples.root.bytes == [UInt8](0xa0..<0xc0))
    #expect(Digest(bytes: [UInt8](0xa0..<0xc0)) == Samples.root)
    #expect(Digest(hex: Samples.root.hex.uppercased()) == Samples.root)
    #expect(Digest(bytes: [UInt8](repeating: 0, count: 31)) == nil)
    #expect(Digest(bytes: [UInt8](repeating: 0, count: 40)) == nil)
    #expect(Digest(hex: String(repeating: "0", count: 63)) == nil)
    #expect(Digest(hex: String(repeating: "x", count: 64)) == nil)
  }

  @Test func hex() {
    #expect([UInt8](hex: "") == [])
    #expect([UInt8](hex: "00fFa1") == [0, 0xff, 0xa1])
    #expect([UInt8](hex: "0") == nil)
    #expect([UInt8](hex: "0é") == nil)
    #expect(([] as [UInt8]).hex == "")
  }

  @Test func hostNames() {
    for good in ["a", "web1", "A-b_c.d", String(repeating: "x", count: 253)] { #expect(HostName(good) != nil) }
    for bad in ["", ".", "..", ".a", "-a", "a/b", "a b", "a\u{0}", "é", "a%", String(repeating: "x", count: 254)] {
      #expect(HostName(bad) == nil, "\(bad)")
    }
  }

  @Test func paths() {
    #expect(BytePath("/a/b").directory == BytePath("/a"))
    #expect(BytePath("/a").directory == BytePath("/"))
    #expect(BytePath("/a/b").name == Array("b".utf8))
    #expect(BytePath("/").appending([0x61]) == BytePath("/a"))
    #expect(BytePath("/x").appending([0x61]) == BytePath("/x/a"))
  }
}
