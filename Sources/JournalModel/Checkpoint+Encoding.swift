// Checkpoints and bindings: what is signed and what is stored. `design/formats.md`, 'Checkpoint' and 'Binding'.

extension Checkpoint {
  package static let version: UInt8 = 1
  package static let signatureByteCount = 64
  /// The longest encoding of a checkpoint.
  package static let maximumByteCount =
    1 + 4 + HostName.maximumByteCount + 16 + 8 + Digest.byteCount + signatureByteCount

  /// What the journal key signs.
  package static func signedBytes(host: HostName, journal: JournalID, length: UInt64, root: Digest) -> [UInt8] {
    var writer = ByteWriter(reserving: 96 + host.text.utf8.count)
    writer.write(context: "nimbus checkpoint 1")
    writer.write(host)
    writer.write(journal)
    writer.write(length)
    writer.write(root)
    return writer.bytes
  }

  package var signedBytes: [UInt8] {
    Self.signedBytes(host: host, journal: journal, length: length, root: root)
  }

  package func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 160 + host.text.utf8.count)
    writer.write(self)
    return writer.bytes
  }

  package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
    var reader = ByteReader(bytes)
    self = try reader.readCheckpoint()
    try reader.end()
  }
}

extension ByteWriter {
  /// - Precondition: the signature has 64 bytes.
  package mutating func write(_ checkpoint: Checkpoint) {
    write(Checkpoint.version)
    write(checkpoint.host)
    write(checkpoint.journal)
    write(checkpoint.length)
    write(checkpoint.root)
    write(signature: checkpoint.signature)
  }
}

extension ByteReader {
  package mutating func readCheckpoint() throws(DecodingFailure) -> Checkpoint {
    try readVersion(Checkpoint.version)
    return Checkpoint(
      host: try readHost(), journal: try readJournal(), length: try readLength(), root: try readDigest(),
      signature: try readSignature())
  }
}

extension JournalOpened {
  /// What a binding's signature covers (W6).
  package static func bindingBytes(host: HostName, journal: JournalID, publicKey: Digest) -> [UInt8] {
    var writer = ByteWriter(reserving: 96 + host.text.utf8.count)
    writer.write(context: "nimbus binding 1")
    writer.write(host)
    writer.write(journal)
    writer.write(publicKey)
    return writer.bytes
  }

  package var bindingBytes: [UInt8] {
    Self.bindingBytes(host: host, journal: journal, publicKey: publicKey)
  }
}
