/// Appends big-endian integers and length-prefixed byte strings: the building blocks of every encoding.
package struct ByteWriter: Sendable {
  package private(set) var bytes: [UInt8] = []

  package init(reserving capacity: Int = 0) { bytes.reserveCapacity(capacity) }

  package mutating func write<I: FixedWidthInteger>(_ value: I) {
    withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
  }

  package mutating func write(raw: some Collection<UInt8>) { bytes.append(contentsOf: raw) }

  /// A 32-bit count, then the bytes.
  package mutating func write(counted value: some Collection<UInt8>) {
    write(UInt32(value.count))
    write(raw: value)
  }

  package mutating func write(_ value: Digest) {
    write(value.words.0)
    write(value.words.1)
    write(value.words.2)
    write(value.words.3)
  }

  package mutating func write(_ value: UUIDBytes) {
    write(value.high)
    write(value.low)
  }

  /// 0, or 1 and the value.
  package mutating func write<T>(optional value: T?, _ body: (inout ByteWriter, T) -> Void) {
    write(UInt8(value == nil ? 0 : 1))
    if let value { body(&self, value) }
  }
}

/// Why bytes are not an encoding, and where.
package struct DecodingFailure: Error, Hashable, Sendable {
  package enum Reason: Hashable, Sendable {
    case truncated
    case trailingBytes
    case tooLong(limit: Int)
    case badValue(String)
    case unknownVersion(UInt8)
    case checksum
  }
  package var offset: Int
  package var reason: Reason
  package init(offset: Int, reason: Reason) {
    self.offset = offset
    self.reason = reason
  }
}

/// Reads what `ByteWriter` writes; every read is bounded and checked.
package struct ByteReader: Sendable {
  private let bytes: ArraySlice<UInt8>
  private var position: Int
  private let start: Int

  package init(_ bytes: [UInt8]) { self.init(bytes[...]) }

  package init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    position = bytes.startIndex
    start = bytes.startIndex
  }

  /// Bytes read so far.
  package var offset: Int { position - start }
  package var remaining: Int { bytes.endIndex - position }

  package func failure(_ reason: DecodingFailure.Reason) -> DecodingFailure {
    DecodingFailure(offset: offset, reason: reason)
  }

  package mutating func read<I: FixedWidthInteger>(_: I.Type = I.self) throws(DecodingFailure) -> I {
    let size = MemoryLayout<I>.size
    guard remaining >= size else { throw failure(.truncated) }
    var value: I = 0
    for index in position..<(position + size) { value = (size == 1 ? 0 : value << 8) | I(truncatingIfNeeded: bytes[index]) }
    position += size
    return value
  }

  package mutating func readRaw(count: Int) throws(DecodingFailure) -> [UInt8] {
    guard count >= 0, remaining >= count else { throw failure(.truncated) }
    defer { position += count }
    return Array(bytes[position..<(position + count)])
  }

  /// A 32-bit count of at most `limit`, then so many bytes.
  package mutating func readCounted(limit: Int) throws(DecodingFailure) -> [UInt8] {
    try readRaw(count: readCount(limit: limit))
  }

  /// A 32-bit count of at most `limit`.
  package mutating func readCount(limit: Int) throws(DecodingFailure) -> Int {
    let count = try read(UInt32.self)
    guard count <= limit else { throw failure(.tooLong(limit: limit)) }
    return Int(count)
  }

  package mutating func readDigest() throws(DecodingFailure) -> Digest {
    Digest(words: try read(), try read(), try read(), try read())
  }

  package mutating func readUUID() throws(DecodingFailure) -> UUIDBytes {
    UUIDBytes(high: try read(), low: try read())
  }

  package mutating func readOptional<T>(
    _ body: (inout ByteReader) throws(DecodingFailure) -> T
  ) throws(DecodingFailure) -> T? {
    switch try read(UInt8.self) {
    case 0: nil
    case 1: try body(&self)
    default: throw failure(.badValue("a flag that is neither 0 nor 1"))
    }
  }

  package func end() throws(DecodingFailure) {
    if remaining > 0 { throw failure(.trailingBytes) }
  }
}
