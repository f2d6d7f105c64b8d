import JournalModel
import Testing

@Suite struct RecordEncodingTests {
  @Test("J8: every record type has the bytes of its vector", arguments: Samples.records.indices)
  func vectors(index: Int) throws {
    let (hex, record) = Samples.records[index]
    #expect(record.encoded().hex == hex)
    #expect(try Record(decoding: #require([UInt8](hex: hex))) == record)
  }

  @Test("The vectors cover every type that this version knows")
  func coverage() {
    #expect(Set(Samples.records.map { $0.record.body.type }) == [1, 2, 3, 4, 5, 6, 500])
  }

  @Test func roundTrip() throws {
    var random = Seeded(1)
    for _ in 0..<5_000 {
      let record = random.record()
      let bytes = record.encoded()
      #expect(try Record(decoding: bytes) == record)
      #expect(bytes.count <= Record.maximumByteCount)
    }
  }

  @Test("No beginning of an encoding is an encoding")
  func truncation() {
    var random = Seeded(2)
    let records = Samples.records.map(\.record) + (0..<100).map { _ in random.record() }
    for record in records {
      let bytes = record.encoded()
      // The body of an unknown type is whatever is left: only its header can be cut.
      let end = if case .unknown = record.body { Record.headerByteCount } else { bytes.count }
      for count in 0..<end {
        #expect(throws: DecodingFailure.self) { try Record(decoding: Array(bytes[..<count])) }
      }
    }
  }

  @Test("Nothing may follow a record")
  func trailing() {
    for (_, record) in Samples.records {
      if case .unknown = record.body { continue }
      let bytes = record.encoded()
      #expect(throws: DecodingFailure(offset: bytes.count, reason: .trailingBytes)) {
        try Record(decoding: bytes + [0])
      }
    }
  }

  @Test("J8: what decodes re-encodes to the same bytes, whatever byte is changed", arguments: Samples.records.indices)
  func everyByteChanged(index: Int) {
    let bytes = Samples.records[index].record.encoded()
    for position in bytes.indices {
      for value in UInt8.min...UInt8.max where value != bytes[position] {
        var changed = bytes
        changed[position] = value
        expectCanonical(changed)
      }
    }
  }

  @Test("J7: an unknown type is kept as it is")
  func unknownType() throws {
    for type in [UInt16(0), 7, 255, .max] {
      let record = Record(time: Samples.time, body: .unknown(type: type, body: [1, 2, 3]))
      let bytes = record.encoded()
      #expect(try Record(decoding: bytes) == record)
      #expect(try Record(decoding: bytes).encoded() == bytes)
    }
  }

  @Test("J7: unknown framing is refused")
  func unknownVersion() {
    for version in [UInt8(0), 2, 255] {
      var bytes = Samples.records[4].record.encoded()
      bytes[0] = version
      #expect(throws: DecodingFailure(offset: 0, reason: .unknownVersion(version))) { try Record(decoding: bytes) }
    }
  }

  @Test("Bounds hold at their edge")
  func bounds() throws {
    var opened = Samples.opened
    let certificate = [UInt8](repeating: 1, count: RecordBounds.certificateSize)
    opened.binding = .certificate(
      chain: Array(repeating: certificate, count: RecordBounds.chainLength),
      signature: [UInt8](repeating: 2, count: RecordBounds.bindingSignatureSize))
    opened.files = Array(repeating: Samples.openedAgain.files[0], count: RecordBounds.tableEntries)
    opened.earlier = Array(repeating: Samples.openedAgain.earlier[0], count: RecordBounds.tableEntries)
    let greatest = Record(time: Samples.time, body: .journalOpened(opened))
    #expect(try Record(decoding: greatest.encoded()) == greatest)

    let room = Record.maximumByteCount - Record.headerByteCount
    let full = Record(time: Samples.time, body: .unknown(type: 9, body: [UInt8](repeating: 7, count: room)))
    let bytes = full.encoded()
    #expect(try Record(decoding: bytes) == full)
    #expect(throws: DecodingFailure(offset: 0, reason: .tooLong(limit: Record.maximumByteCount))) {
      try Record(decoding: bytes + [7])
    }
  }

  @Test("Values that no host may journal are refused")
  func badValues() {
    let file = Samples.file
    let root = Samples.root
    let appended = { BytesAppended(file: file, offset: $0, length: $1, root: root) }
    let bodies: [RecordBody] = [
      .bytesAppended(appended(0, 0)),
      .bytesAppended(appended(.max, 1)),
      .bytesAppended(appended(UInt64(Int64.max), 1)),
      .bytesAppended(appended(1, .max)),
      .fileClosed(FileClosed(file: file, length: 1 << 63, root: root, reason: .deleted)),
      .gap(Gap(subject: .file(file), lower: 2, upper: 1, reason: .truncated, provenLength: 0, provenRoot: root)),
      .gap(
        Gap(subject: .file(file), lower: 0, upper: .max - 1, reason: .truncated, provenLength: 0, provenRoot: root)),
    ]
    for body in bodies {
      let bytes = Record(time: Samples.time, body: body).encoded()
      #expect(throws: DecodingFailure.self, "\(body)") { try Record(decoding: bytes) }
    }
    var born = Samples.fileBorn
    born.identity = Samples.bare
    #expect(throws: DecodingFailure.self, "D1: derived from what is no usable identity") {
      try Record(decoding: Record(time: Samples.time, body: .fileBorn(born)).encoded())
    }
  }

  @Test("Paths are bytes: 1 to 4095, without NUL")
  func paths() throws {
    func bytes(of path: [UInt8]) -> [UInt8] {
      var writer = ByteWriter()
      writer.write(counted: path)
      return writer.bytes
    }
    for path in [[1], [0xff, 0xfe], [UInt8](repeating: 0x2f, count: 4_095)] as [[UInt8]] {
      var reader = ByteReader(bytes(of: path))
      #expect(try reader.readPath() == BytePath(path))
    }
    for path in [[], [0], [0x2f, 0, 0x61], [UInt8](repeating: 0x2f, count: 4_096)] as [[UInt8]] {
      var reader = ByteReader(bytes(of: path))
      #expect(throws: DecodingFailure.self) { try reader.readPath() }
    }
  }

  @Test("Fuzz: 200,000 mutated and random inputs decode to what re-encodes alike, or fail")
  func fuzz() {
    var random = Seeded(3)
    let seeds = Samples.records.map { $0.record.encoded() } + (0..<200).map { _ in random.record().encoded() }
    var decoded = 0
    for round in 0..<200_000 {
      let bytes: [UInt8]
      if round.isMultiple(of: 8) {
        bytes = [1, 0, UInt8.random(in: 0...8, using: &random)] + random.bytes(0...120)
      } else {
        bytes = random.mutated(seeds[Int.random(in: 0..<seeds.count, using: &random)])
      }
      if expectCanonical(bytes) { decoded += 1 }
    }
    #expect(decoded > 10_000)
  }
}

/// Whether the bytes are a record; if so, its only encoding is these bytes.
@discardableResult
func expectCanonical(_ bytes: [UInt8]) -> Bool {
  guard let record = try? Record(decoding: bytes) else { return false }
  if record.encoded() != bytes { Issue.record("not canonical: \(bytes.hex)") }
  return true
}
