import JournalModel
import Testing

@Suite struct ChecksumTests {
  private func crc(_ bytes: [UInt8]) -> UInt32 { CRC32C.checksum(bytes.span.bytes) }

  @Test("RFC 3720, B.4 (printed there least significant byte first)")
  func publishedVectors() {
    #expect(crc([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(crc([UInt8](repeating: 0xff, count: 32)) == 0x62A8_AB43)
    #expect(crc([UInt8](0..<32)) == 0x46DD_794E)
    #expect(crc([UInt8]((0..<32).reversed())) == 0x113F_DB5C)
    #expect(crc(readCommand) == 0xD996_3A56)
    #expect(crc(Array("123456789".utf8)) == 0xE306_9283)
    #expect(crc([]) == 0)
  }

  /// RFC 3720, B.4: an iSCSI SCSI Read (10) command PDU.
  private var readCommand: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 48)
    for (position, value) in [
      (0, 0x01), (1, 0xc0), (16, 0x14), (22, 0x04), (27, 0x14), (31, 0x18), (32, 0x28), (40, 0x02),
    ] {
      bytes[position] = UInt8(value)
    }
    return bytes
  }

  @Test("Eight bytes at a time gives what one bit at a time gives, at every length and alignment")
  func againstDefinition() {
    var random = Seeded(5)
    let bytes = random.bytes(200...200)
    for start in 0..<9 {
      for end in start...bytes.count {
        let part = Array(bytes[start..<end])
        #expect(crc(part) == bitwise(part))
        #expect(CRC32C.checksum(bytes.span.bytes.extracting(start..<end)) == bitwise(part))
      }
    }
  }

  private func bitwise(_ bytes: [UInt8]) -> UInt32 {
    var crc = ~UInt32(0)
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ 0x82F6_3B78 : crc >> 1 }
    }
    return ~crc
  }

  @Test("J8: the envelope of stored values")
  func storedValueVectors() throws {
    #expect(StoredValue.seal(Array("nimbus".utf8)).hex == Vectors.storedValue)
    #expect(StoredValue.seal([]).hex == Vectors.storedEmpty)
    #expect(try StoredValue.open(#require([UInt8](hex: Vectors.storedValue))) == Array("nimbus".utf8))
  }

  @Test("P5: the checksum covers the row's key")
  func storedValueUnderItsKey() throws {
    let key = Array("files".utf8)
    let sealed = StoredValue.seal(Array("nimbus".utf8), key: key)
    #expect(sealed.hex == Vectors.storedUnderKey)
    #expect(try StoredValue.open(sealed, key: key) == Array("nimbus".utf8))
    #expect(throws: DecodingFailure.self) { try StoredValue.open(sealed, key: Array("filet".utf8)) }
    #expect(throws: DecodingFailure.self) { try StoredValue.open(sealed) }
  }

  @Test("A checksum goes on where another ended")
  func continued() {
    let bytes = Array("123456789".utf8)
    for split in 0...bytes.count {
      let first = CRC32C.checksum(bytes.span.bytes.extracting(0..<split))
      #expect(CRC32C.checksum(bytes.span.bytes.extracting(split..<9), after: first) == 0xE306_9283)
    }
  }

  @Test("P5: no flipped bit, no truncation of a stored value goes unnoticed")
  func everyFlippedBit() {
    var random = Seeded(6)
    for count in [0, 1, 7, 8, 9, 100] {
      let sealed = StoredValue.seal(random.bytes(count...count))
      for bit in 0..<(sealed.count * 8) {
        var flipped = sealed
        flipped[bit / 8] ^= 1 << UInt8(bit % 8)
        #expect(throws: DecodingFailure.self) { try StoredValue.open(flipped) }
      }
      for end in sealed.indices {
        #expect(throws: DecodingFailure.self) { try StoredValue.open(Array(sealed[..<end])) }
      }
    }
  }
}
