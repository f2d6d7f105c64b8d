/// Appends big-endian integers and length-prefixed byte strings: the building blocks of every encoding.
/// Public, as `Fifo` is.
public struct ByteWriter: Sendable {
  public var bytes: [UInt8] = []

  @inlinable public init(reserving capacity: Int = 0) { bytes.reserveCapacity(capacity) }

  /// Goes on behind bytes that are already there; give the array away to have it not copied.
  @inlinable public init(appendingTo bytes: consuming [UInt8]) { self.bytes = bytes }

  @inlinable public mutating func write<I: FixedWidthInteger & BitwiseCopyable>(_ value: I) {
    withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
  }

  /// Fills in what was not known when the bytes at `offset` were written: a length, in most cases.
  @inlinable public mutating func overwrite<I: FixedWidthInteger & BitwiseCopyable>(_ value: I, at offset: Int) {
    withUnsafeBytes(of: value.bigEndian) { bytes.replaceSubrange(offset..<(offset + $0.count), with: $0) }
  }

  @inlinable public mutating func write(raw: some Collection<UInt8>) { bytes.append(contentsOf: raw) }

  /// A 32-bit count, then the bytes.
  @inlinable public mutating func write(counted value: some Collection<UInt8>) {
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

  /// A 32-bit count, then the values.
  @inlinable public mutating func write<T>(list values: [T], _ element: (inout ByteWriter, T) -> Void) {
    write(UInt32(values.count))
    for value in values { element(&self, value) }
  }

  /// 0 or 1.
  @inlinable public mutating func write(flag: Bool) { write(UInt8(flag ? 1 : 0)) }

  /// 0, or 1 and the value.
  @inlinable public mutating func write<T>(optional value: T?, _ body: (inout ByteWriter, T) -> Void) {
    write(flag: value != nil)
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

extension DecodingFailure: CustomStringConvertible {
  package var description: String { "byte \(offset): \(reason)" }
}

extension DecodingFailure.Reason: CustomStringConvertible {
  package var description: String {
    switch self {
    case .truncated: "ends too early"
    case .trailingBytes: "has bytes behind its end"
    case .tooLong(let limit): "more than \(limit) bytes or entries"
    case .badValue(let what): what
    case .unknownVersion(let version): "unknown version \(version)"
    case .checksum: "checksum doesn't match"
    }
  }
}

/// Reads what `ByteWriter` writes; every read is bounded and checked.
package struct ByteReader: Sendable {
  private let bytes: ArraySlice<UInt8>
  /// Bytes read so far.
  package private(set) var offset = 0

  package init(_ bytes: [UInt8]) { self.init(bytes[...]) }

  package init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

  package var remaining: Int { bytes.count - offset }

  package func failure(_ reason: DecodingFailure.Reason) -> DecodingFailure {
    DecodingFailure(offset: offset, reason: reason)
  }

  package mutating func read<I: FixedWidthInteger & BitwiseCopyable>(_: I.Type = I.self) throws(DecodingFailure) -> I {
    let size = MemoryLayout<I>.size
    guard remaining >= size else { throw failure(.truncated) }
    defer { offset += size }
    let start = offset
    return bytes.withUnsafeBytes { I(bigEndian: $0.loadUnaligned(fromByteOffset: start, as: I.self)) }
  }

  package mutating func readRaw(count: Int) throws(DecodingFailure) -> [UInt8] {
    guard count >= 0, remaining >= count else { throw failure(.truncated) }
    defer { offset += count }
    let start = bytes.startIndex + offset
    return Array(bytes[start..<(start + count)])
  }

  /// All that is left.
  package mutating func readRest() -> [UInt8] {
    defer { offset = bytes.count }
    return Array(bytes.dropFirst(offset))
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

  /// A 32-bit count of at most `limit`, then so many values.
  package mutating func readList<T>(
    limit: Int, _ element: (inout ByteReader) throws(DecodingFailure) -> T
  ) throws(DecodingFailure) -> [T] {
    var values: [T] = []
    for _ in 0..<(try readCount(limit: limit)) { values.append(try element(&self)) }
    return values
  }

  /// 0 or 1.
  package mutating func readFlag() throws(DecodingFailure) -> Bool {
    let start = self
    switch try read(UInt8.self) {
    case 0: return false
    case 1: return true
    default: throw start.failure(.badValue("a flag that is neither 0 nor 1"))
    }
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
    guard try readFlag() else { return nil }
    return try body(&self)
  }

  package func end() throws(DecodingFailure) {
    if remaining > 0 { throw failure(.trailingBytes) }
  }
}
