// Encoding of journal-opened, the record that says whose journal this is: `design/formats.md`, 'journal-opened'.

extension JournalOpened {
  func write(to writer: inout ByteWriter) {
    precondition(earlier.count <= RecordBounds.tableEntries && files.count <= RecordBounds.tableEntries)
    writer.write(host)
    writer.write(journal)
    writer.write(publicKey)
    binding.write(to: &writer)
    writer.write(list: earlier) { $1.write(to: &$0) }
    writer.write(list: files) { $1.write(to: &$0) }
    writer.write(optional: gapSince) { $0.write($1) }
  }

  init(from reader: inout ByteReader) throws(DecodingFailure) {
    host = try reader.readHost()
    journal = try reader.readJournal()
    publicKey = try reader.readDigest()
    binding = try Binding(from: &reader)
    earlier = try reader.readList(limit: RecordBounds.tableEntries) { (reader) throws(DecodingFailure) in
      try JournalHead(from: &reader)
    }
    files = try reader.readList(limit: RecordBounds.tableEntries) { (reader) throws(DecodingFailure) in
      try FileHead(from: &reader)
    }
    gapSince = try reader.readOptional { (reader) throws(DecodingFailure) in try reader.readWallTime() }
  }
}

extension Binding {
  private enum Kind: UInt8 {
    case certificate = 1
    case journalKey = 2
  }

  fileprivate func write(to writer: inout ByteWriter) {
    switch self {
    case .certificate(let chain, let signature):
      precondition((1...RecordBounds.chainLength).contains(chain.count))
      precondition(chain.allSatisfy { (1...RecordBounds.certificateSize).contains($0.count) })
      precondition((1...RecordBounds.bindingSignatureSize).contains(signature.count))
      writer.write(Kind.certificate.rawValue)
      writer.write(list: chain) { $0.write(counted: $1) }
      writer.write(counted: signature)
    case .journalKey(let signature):
      writer.write(Kind.journalKey.rawValue)
      writer.write(signature: signature)
    }
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    switch try reader.readCase(Kind.self) {
    case .certificate:
      let chain = try reader.readList(limit: RecordBounds.chainLength) { (reader) throws(DecodingFailure) in
        let certificate = try reader.readCounted(limit: RecordBounds.certificateSize)
        guard !certificate.isEmpty else { throw reader.failure(.badValue("an empty certificate")) }
        return certificate
      }
      let signature = try reader.readCounted(limit: RecordBounds.bindingSignatureSize)
      guard !chain.isEmpty, !signature.isEmpty else { throw reader.failure(.badValue("an empty chain or signature")) }
      self = .certificate(chain: chain, signature: signature)
    case .journalKey:
      self = .journalKey(signature: try reader.readSignature())
    }
  }
}

extension JournalHead {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(journal)
    writer.write(length)
    writer.write(root)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    journal = try reader.readJournal()
    length = try reader.readLength()
    root = try reader.readDigest()
  }
}

extension FileHead {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(file)
    writer.write(identity)
    writer.write(length)
    writer.write(root)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    file = try reader.readFile()
    identity = try reader.readIdentity()
    length = try reader.readLength()
    root = try reader.readDigest()
  }
}
