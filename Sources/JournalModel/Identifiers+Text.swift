// The identifiers as byte strings and as text. Text is lower case; either case is read.

extension Digest {
  /// Nil unless there are 32 bytes.
  package init?(bytes: some Collection<UInt8>) {
    guard bytes.count == Self.byteCount, let words = bigEndianWords(bytes) else { return nil }
    self.init(words: words[0], words[1], words[2], words[3])
  }

  package var bytes: [UInt8] {
    var writer = ByteWriter(reserving: Self.byteCount)
    writer.write(self)
    return writer.bytes
  }

  /// Nil unless `hex` is 64 hexadecimal digits.
  package init?(hex: String) {
    guard let bytes = [UInt8](hex: hex) else { return nil }
    self.init(bytes: bytes)
  }

  /// 64 hexadecimal digits.
  package var hex: String { bytes.hex }
}

extension Digest: CustomStringConvertible {
  package var description: String { hex }
}

extension UUIDBytes {
  /// Nil unless there are 16 bytes.
  package init?(bytes: some Collection<UInt8>) {
    guard bytes.count == 16, let words = bigEndianWords(bytes) else { return nil }
    self.init(high: words[0], low: words[1])
  }

  package var bytes: [UInt8] {
    var writer = ByteWriter(reserving: 16)
    writer.write(self)
    return writer.bytes
  }

  /// Nil unless `text` is a uuid as RFC 9562, section 4, writes it: 8-4-4-4-12 hexadecimal digits.
  package init?(text: String) {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.map(\.utf8.count) == [8, 4, 4, 4, 12], let bytes = [UInt8](hex: parts.joined()) else { return nil }
    self.init(bytes: bytes)
  }

  /// 8-4-4-4-12 hexadecimal digits.
  package var text: String {
    let digits = Array(bytes.hex)
    return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(digits[$0]) }.joined(separator: "-")
  }
}

extension UUIDBytes: CustomStringConvertible {
  package var description: String { text }
}

extension FileUUID: CustomStringConvertible {
  package init?(text: String) {
    guard let bytes = UUIDBytes(text: text) else { return nil }
    self.init(bytes)
  }
  package var text: String { bytes.text }
  package var description: String { text }
}

extension JournalID: CustomStringConvertible {
  package init?(text: String) {
    guard let bytes = UUIDBytes(text: text) else { return nil }
    self.init(bytes)
  }
  package var text: String { bytes.text }
  package var description: String { text }
}

extension [UInt8] {
  /// Two lower-case hexadecimal digits for each byte.
  package var hex: String {
    let digits = Array<UInt8>("0123456789abcdef".utf8)
    return String(unsafeUninitializedCapacity: count * 2) { buffer in
      for (index, byte) in enumerated() {
        buffer[index * 2] = digits[Int(byte >> 4)]
        buffer[index * 2 + 1] = digits[Int(byte & 15)]
      }
      return count * 2
    }
  }

  /// Nil unless `hex` is an even number of hexadecimal digits.
  package init?(hex: String) {
    self.init()
    let digits = hex.utf8
    guard digits.count.isMultiple(of: 2) else { return nil }
    reserveCapacity(digits.count / 2)
    var high: UInt8?
    for digit in digits {
      guard let value = hexadecimalValue(digit) else { return nil }
      guard let first = high else {
        high = value
        continue
      }
      append(first << 4 | value)
      high = nil
    }
  }
}

private func hexadecimalValue(_ digit: UInt8) -> UInt8? {
  switch digit {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
  default: nil
  }
}

/// Nil unless the bytes make up whole words.
private func bigEndianWords(_ bytes: some Collection<UInt8>) -> [UInt64]? {
  guard bytes.count.isMultiple(of: 8) else { return nil }
  var words: [UInt64] = []
  for (index, byte) in bytes.enumerated() {
    if index.isMultiple(of: 8) { words.append(0) }
    words[words.count - 1] = words[words.count - 1] << 8 | UInt64(byte)
  }
  return words
}
