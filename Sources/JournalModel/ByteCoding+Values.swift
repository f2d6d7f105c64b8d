// How the small values stand in every encoding: `design/formats.md`, 'Values'.

extension ByteWriter {
  package mutating func write(_ value: WallTime) { write(value.nanoseconds) }
  package mutating func write(_ value: FileUUID) { write(value.bytes) }
  package mutating func write(_ value: JournalID) { write(value.bytes) }
  package mutating func write(_ value: HoldingsDigest) {
    write(value.end)
    write(value.root)
  }

  package mutating func write(_ value: TriePrefix) {
    write(value.depth)
    write(value.bits)
  }

  package mutating func write(_ value: HostName) { write(counted: value.text.utf8) }

  /// - Precondition: `value.isStorable`.
  package mutating func write(_ value: BytePath) {
    precondition(value.isStorable)
    write(counted: value.bytes)
  }

  /// An Ed25519 signature, without a count.
  package mutating func write(signature: [UInt8]) {
    precondition(signature.count == Checkpoint.signatureByteCount)
    write(raw: signature)
  }
}

extension ByteReader {
  package mutating func readHoldingsDigest() throws(DecodingFailure) -> HoldingsDigest {
    let end: UInt64 = try read()
    return HoldingsDigest(root: try readDigest(), end: end)
  }

  package mutating func readTriePrefix() throws(DecodingFailure) -> TriePrefix {
    let start = self
    guard let prefix = TriePrefix(depth: try read(), bits: try read()) else {
      throw start.failure(.badValue("no part of a trie"))
    }
    return prefix
  }

  package mutating func readDigests(count: Int) throws(DecodingFailure) -> [Digest] {
    var digests: [Digest] = []
    for _ in 0..<count { digests.append(try readDigest()) }
    return digests
  }

  package mutating func readWallTime() throws(DecodingFailure) -> WallTime { WallTime(nanoseconds: try read()) }
  package mutating func readFile() throws(DecodingFailure) -> FileUUID { FileUUID(try readUUID()) }
  package mutating func readJournal() throws(DecodingFailure) -> JournalID { JournalID(try readUUID()) }

  package mutating func readHost() throws(DecodingFailure) -> HostName {
    let start = self
    let bytes = try readCounted(limit: HostName.maximumByteCount)
    guard let text = String(validating: bytes, as: UTF8.self), let host = HostName(text) else {
      throw start.failure(.badValue("not a host name"))
    }
    return host
  }

  package mutating func readPath() throws(DecodingFailure) -> BytePath {
    let start = self
    let path = BytePath(try readCounted(limit: BytePath.maximumByteCount))
    guard path.isStorable else { throw start.failure(.badValue("not a path")) }
    return path
  }

  package mutating func readSignature() throws(DecodingFailure) -> [UInt8] {
    try readRaw(count: Checkpoint.signatureByteCount)
  }

  /// A count of bytes or records: at most `Int64.max`, so that it fits `off_t` and no sum of two of them overflows.
  package mutating func readLength() throws(DecodingFailure) -> UInt64 {
    let start = self
    let value: UInt64 = try read()
    guard value <= UInt64(Int64.max) else { throw start.failure(.badValue("a length beyond 2^63 - 1")) }
    return value
  }

  /// A value of an enumeration by its number.
  package mutating func readCase<E: RawRepresentable>(
    _: E.Type = E.self
  ) throws(DecodingFailure) -> E where E.RawValue: FixedWidthInteger & BitwiseCopyable {
    let start = self
    let raw: E.RawValue = try read()
    guard let value = E(rawValue: raw) else { throw start.failure(.badValue("\(E.self) \(raw)")) }
    return value
  }

  /// A version byte that must be `version`.
  package mutating func readVersion(_ version: UInt8) throws(DecodingFailure) {
    let start = self
    let found: UInt8 = try read()
    guard found == version else { throw start.failure(.unknownVersion(found)) }
  }
}

extension BytePath {
  /// 1 ... `maximumByteCount` bytes, none of them NUL: what the kernel takes as a path and what records can carry.
  package var isStorable: Bool {
    (1...Self.maximumByteCount).contains(bytes.count) && !bytes.contains(0)
  }
}
