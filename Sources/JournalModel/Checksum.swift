/// CRC-32C (Castagnoli; RFC 3720, appendix B.4).
package enum CRC32C {
  private static let table: [[UInt32]] = {
    var tables = [[UInt32]](repeating: [UInt32](repeating: 0, count: 256), count: 8)
    for index in 0..<256 {
      var value = UInt32(index)
      for _ in 0..<8 { value = value & 1 == 1 ? (value >> 1) ^ 0x82F6_3B78 : value >> 1 }
      tables[0][index] = value
    }
    for index in 0..<256 {
      for slice in 1..<8 {
        let previous = tables[slice - 1][index]
        tables[slice][index] = (previous >> 8) ^ tables[0][Int(previous & 0xFF)]
      }
    }
    return tables
  }()
  private static let flat: [UInt32] = table.flatMap { $0 }

  /// The checksum of `bytes`, or of what `preceding` is the checksum of followed by `bytes`.
  package static func checksum(_ bytes: RawSpan, after preceding: UInt32 = 0) -> UInt32 {
    flat.withUnsafeBufferPointer { t in
      var crc = ~preceding
      var offset = 0
      while bytes.byteCount - offset >= 8 {
        let word = UInt64(littleEndian: bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt64.self))
        let low = UInt32(truncatingIfNeeded: word) ^ crc
        let high = UInt32(truncatingIfNeeded: word >> 32)
        crc =
          t[1792 + Int(low & 0xFF)] ^ t[1536 + Int((low >> 8) & 0xFF)] ^ t[1280 + Int((low >> 16) & 0xFF)]
          ^ t[1024 + Int(low >> 24)] ^ t[768 + Int(high & 0xFF)] ^ t[512 + Int((high >> 8) & 0xFF)]
          ^ t[256 + Int((high >> 16) & 0xFF)] ^ t[Int(high >> 24)]
        offset += 8
      }
      while offset < bytes.byteCount {
        let byte = bytes.unsafeLoad(fromUncheckedByteOffset: offset, as: UInt8.self)
        crc = (crc >> 8) ^ t[Int((crc ^ UInt32(byte)) & 0xFF)]
        offset += 1
      }
      return ~crc
    }
  }
}

/// The envelope of every stored value: version, CRC-32C of its key and of what follows, payload. A value that fails
/// either check is an error and never data (J8, P5). The key is covered because a bit that flips there would silently
/// make the value another row's.
package enum StoredValue {
  package static let version: UInt8 = 1

  /// Bytes that the envelope adds.
  package static let overhead = 5

  package static func seal(_ payload: [UInt8], key: [UInt8] = []) -> [UInt8] {
    var writer = ByteWriter(reserving: payload.count + overhead)
    writer.write(version)
    writer.write(checksum(of: payload, key))
    writer.write(raw: payload)
    return writer.bytes
  }

  private static func checksum(of payload: [UInt8], _ key: [UInt8]) -> UInt32 {
    CRC32C.checksum(payload.span.bytes, after: CRC32C.checksum(key.span.bytes))
  }

  package static func open(_ sealed: [UInt8], key: [UInt8] = []) throws(DecodingFailure) -> [UInt8] {
    var reader = ByteReader(sealed)
    let found: UInt8 = try reader.read()
    guard found == version else { throw reader.failure(.unknownVersion(found)) }
    let checksum: UInt32 = try reader.read()
    let payload = try reader.readRaw(count: reader.remaining)
    guard self.checksum(of: payload, key) == checksum else { throw reader.failure(.checksum) }
    return payload
  }
}
