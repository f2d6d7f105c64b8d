// Encoding of identities and the derivation of file uuids from them (D1): `design/formats.md`, 'Identity'.

private enum Present {
  static let generation: UInt8 = 1
  static let birth: UInt8 = 2
  static let subvolume: UInt8 = 4
}

extension ByteWriter {
  package mutating func write(_ identity: InodeIdentity) {
    var flags: UInt8 = 0
    if identity.generation != nil { flags |= Present.generation }
    if identity.birth != nil { flags |= Present.birth }
    if identity.subvolume != nil { flags |= Present.subvolume }
    write(flags)
    write(identity.number)
    if let generation = identity.generation { write(generation) }
    if let birth = identity.birth { write(birth) }
    if let subvolume = identity.subvolume { write(subvolume) }
  }
}

extension ByteReader {
  package mutating func readIdentity() throws(DecodingFailure) -> InodeIdentity {
    let start = self
    let flags: UInt8 = try read()
    guard flags & ~(Present.generation | Present.birth | Present.subvolume) == 0 else {
      throw start.failure(.badValue("identity flags \(flags)"))
    }
    return InodeIdentity(
      number: try read(),
      generation: flags & Present.generation == 0 ? nil : try read(),
      birth: flags & Present.birth == 0 ? nil : try readWallTime(),
      subvolume: flags & Present.subvolume == 0 ? nil : try readUUID())
  }
}

extension InodeIdentity {
  package func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 41)
    writer.write(self)
    return writer.bytes
  }

  package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
    var reader = ByteReader(bytes)
    self = try reader.readIdentity()
    try reader.end()
  }
}

extension FileUUID {
  /// What is hashed for the uuid of incarnation 0 (D1).
  package static func derivationInput(host: HostName, identity: InodeIdentity) -> [UInt8] {
    var writer = ByteWriter(reserving: 64 + host.text.utf8.count)
    writer.write(context: "nimbus file 1")
    writer.write(host)
    writer.write(identity)
    return writer.bytes
  }

  /// The uuid of incarnation 0 of an inode with a usable identity: the digest's first 16 bytes, marked as UUIDv8 (D1).
  /// - Parameter digest: SHA-256 in the daemon (`TreeHasher.digest`).
  package static func derived(
    host: HostName, identity: InodeIdentity, digest: (RawSpan) -> Digest
  ) -> FileUUID {
    let input = derivationInput(host: host, identity: identity)
    let words = digest(input.span.bytes).words
    return FileUUID(UUIDBytes(high: words.0, low: words.1).marked(version: 8))
  }
}

extension ByteWriter {
  /// Says what a signed or hashed byte string is, so that none can be taken for another kind: the text, then a NUL.
  package mutating func write(context: String) {
    write(raw: context.utf8)
    write(UInt8(0))
  }
}
