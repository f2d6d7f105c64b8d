// Encoding of records: `design/formats.md`, 'Records'; vectors in `Tests/JournalModelTests`. Canonical: one record has
// one encoding, and bytes that are not exactly it are refused, so that the journal's leaves can be recomputed.

extension Record {
  package static let version: UInt8 = 1
  /// The longest encoding of a record.
  package static let maximumByteCount = 1 << 20
  /// Bytes before the body: version, type, time.
  package static let headerByteCount = 11

  /// - Precondition: the record keeps the bounds of `RecordBounds`, its paths are storable, and an `.unknown` has a type
  ///   that this version does not know.
  package func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 256)
    writer.write(Self.version)
    writer.write(body.type)
    writer.write(time)
    body.write(to: &writer)
    precondition(writer.bytes.count <= Self.maximumByteCount)
    return writer.bytes
  }

  /// Fails on anything that `encoded()` doesn't write. An unknown type is not a failure (J7).
  package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
    guard bytes.count <= Self.maximumByteCount else {
      throw DecodingFailure(offset: 0, reason: .tooLong(limit: Self.maximumByteCount))
    }
    var reader = ByteReader(bytes)
    try reader.readVersion(Self.version)
    let type: UInt16 = try reader.read()
    time = try reader.readWallTime()
    body = try RecordBody(type: type, from: &reader)
    try reader.end()
  }
}

/// Bounds of what a record carries.
package enum RecordBounds {
  package static let chainLength = 8
  package static let certificateSize = 16 << 10
  package static let bindingSignatureSize = 1 << 10
  /// Entries of each table in journal-opened.
  package static let tableEntries = 4_096
}

/// The numbers of the record types. Never reused.
private enum RecordType: UInt16 {
  case journalOpened = 1
  case fileBorn = 2
  case bytesAppended = 3
  case rotated = 4
  case fileClosed = 5
  case gap = 6
}

extension RecordBody {
  /// The type's number in the encoding.
  package var type: UInt16 {
    switch self {
    case .journalOpened: RecordType.journalOpened.rawValue
    case .fileBorn: RecordType.fileBorn.rawValue
    case .bytesAppended: RecordType.bytesAppended.rawValue
    case .rotated: RecordType.rotated.rawValue
    case .fileClosed: RecordType.fileClosed.rawValue
    case .gap: RecordType.gap.rawValue
    case .unknown(let type, _): type
    }
  }

  fileprivate func write(to writer: inout ByteWriter) {
    switch self {
    case .journalOpened(let body): body.write(to: &writer)
    case .fileBorn(let body): body.write(to: &writer)
    case .bytesAppended(let body): body.write(to: &writer)
    case .rotated(let body): body.write(to: &writer)
    case .fileClosed(let body): body.write(to: &writer)
    case .gap(let body): body.write(to: &writer)
    case .unknown(let type, let bytes):
      precondition(RecordType(rawValue: type) == nil)
      writer.write(raw: bytes)
    }
  }

  fileprivate init(type: UInt16, from reader: inout ByteReader) throws(DecodingFailure) {
    switch RecordType(rawValue: type) {
    case .journalOpened: self = .journalOpened(try JournalOpened(from: &reader))
    case .fileBorn: self = .fileBorn(try FileBorn(from: &reader))
    case .bytesAppended: self = .bytesAppended(try BytesAppended(from: &reader))
    case .rotated: self = .rotated(try Rotated(from: &reader))
    case .fileClosed: self = .fileClosed(try FileClosed(from: &reader))
    case .gap: self = .gap(try Gap(from: &reader))
    case nil: self = .unknown(type: type, body: reader.readRest())
    }
  }
}

extension FileBorn {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(file)
    writer.write(identity)
    writer.write(flag: isDerived)
    writer.write(path)
    writer.write(realPath)
    writer.write(mode)
    writer.write(owner)
    writer.write(group)
    writer.write(born)
    writer.write(modified)
    writer.write(optional: parent) { $1.write(to: &$0) }
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    file = try reader.readFile()
    identity = try reader.readIdentity()
    isDerived = try reader.readFlag()
    guard identity.isUsable || !isDerived else {
      throw reader.failure(.badValue("derived from an identity that is not usable"))
    }
    path = try reader.readPath()
    realPath = try reader.readPath()
    mode = try reader.read()
    owner = try reader.read()
    group = try reader.read()
    born = try reader.readWallTime()
    modified = try reader.readWallTime()
    parent = try reader.readOptional { (reader) throws(DecodingFailure) in try Parent(from: &reader) }
  }
}

extension Parent {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(file)
    writer.write(length)
    writer.write(root)
    writer.write(why.rawValue)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    file = try reader.readFile()
    length = try reader.readLength()
    root = try reader.readDigest()
    why = try reader.readCase()
  }
}

extension BytesAppended {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(file)
    writer.write(offset)
    writer.write(length)
    writer.write(root)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    file = try reader.readFile()
    offset = try reader.readLength()
    length = try reader.readLength()
    guard length > 0, offset + length <= UInt64(Int64.max) else {
      throw reader.failure(.badValue("an extent that is empty or reaches beyond 2^63 - 1"))
    }
    root = try reader.readDigest()
  }
}

extension Rotated {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(file)
    writer.write(from)
    writer.write(optional: to) { $0.write($1) }
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    file = try reader.readFile()
    from = try reader.readPath()
    to = try reader.readOptional { (reader) throws(DecodingFailure) in try reader.readPath() }
  }
}

extension FileClosed {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(file)
    writer.write(length)
    writer.write(root)
    writer.write(reason.rawValue)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    file = try reader.readFile()
    length = try reader.readLength()
    root = try reader.readDigest()
    reason = try reader.readCase()
  }
}

extension Gap {
  fileprivate func write(to writer: inout ByteWriter) {
    switch subject {
    case .file(let file):
      writer.write(UInt8(1))
      writer.write(file)
    case .path(let path):
      writer.write(UInt8(2))
      writer.write(path)
    }
    writer.write(lower)
    writer.write(upper)
    writer.write(reason.rawValue)
    writer.write(provenLength)
    writer.write(provenRoot)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    switch try reader.read(UInt8.self) {
    case 1: subject = .file(try reader.readFile())
    case 2: subject = .path(try reader.readPath())
    case let kind: throw reader.failure(.badValue("gap subject \(kind)"))
    }
    lower = try reader.readLength()
    upper = try reader.read()
    guard lower <= upper, upper <= UInt64(Int64.max) || upper == .max else {
      throw reader.failure(.badValue("a range that ends before it begins, or beyond 2^63 - 1"))
    }
    reason = try reader.readCase()
    provenLength = try reader.readLength()
    provenRoot = try reader.readDigest()
  }
}
