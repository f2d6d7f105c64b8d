import JournalModel

extension Frame {
  /// Any frame but payload, whose bytes never become a `Frame` (see `FrameDecoder`).
  init(type: FrameType, body: ArraySlice<UInt8>, limits: Limits) throws(DecodingFailure) {
    var reader = ByteReader(body)
    self = try Self.read(type, from: &reader, limits: limits)
    try reader.end()
  }

  private static func read(
    _ type: FrameType, from reader: inout ByteReader, limits: Limits
  ) throws(DecodingFailure) -> Frame {
    switch type {
    case .hello: .hello(try Hello(from: &reader))
    case .welcome: .welcome(try Welcome(from: &reader))
    case .records: .records(try Records(from: &reader, limits: limits))
    case .recordsDurable: .recordsDurable(try reader.readCheckpoint())
    case .resumeQuery: .resumeQuery(try reader.readFiles(limit: limits.resumePage))
    case .resumeAnswer: .resumeAnswer(try reader.readHeldFiles(limit: limits.resumePage))
    case .payload: .payload(try PayloadHeader(from: &reader, length: 1))
    case .payloadDurable: .payloadDurable(try reader.readPrefixes(limit: FrameBounds.acknowledgements))
    case .extend: .extend(try reader.readPrefix())
    case .journalQuery: .journalQuery(length: try reader.readLength())
    case .journalAnswer: .journalAnswer(try reader.readHeads(limit: FrameBounds.heads))
    case .extendJournal: .extendJournal(try reader.readHead())
    case .credit: .credit(total: try reader.readLength())
    case .refusal: .refusal(try Refusal(from: &reader))
    case .ping: .ping(nonce: try reader.read())
    case .pong: .pong(nonce: try reader.read())
    case .goodbye: .goodbye(code: try reader.readCode(), text: try reader.readText(limit: FrameBounds.textSize))
    case .peerHello: .peerHello(try PeerHello(from: &reader))
    case .feed: .feed(FeedStart(after: try reader.read(), byTrie: try reader.readFlag()))
    case .announce: .announce(try Announcement(from: &reader))
    case .noted: .noted(Noted(noted: try reader.read(), held: try reader.read()))
    case .openChannel: .openChannel(try ChannelOpening(from: &reader))
    case .channel: .channel(try reader.read())
    case .closeChannel: .closeChannel(try ChannelEnd(from: &reader))
    case .wantRecords: .wantRecords(WantedRecords(channel: try reader.read(), head: try reader.readSome()))
    case .wantBytes: .wantBytes(try WantedBytes(from: &reader))
    case .askTrie: .askTrie(try reader.readTriePrefix())
    case .trieParts: .trieParts(try reader.readDigests(count: TriePrefix.fanOut))
    case .trieBucket: .trieBucket(try TrieBucket(from: &reader))
    case .holdings: .holdings(try reader.readHoldingsDigest())
    case .position: .position(try reader.readPosition())
    }
  }
}

extension Hello {
  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    oldest = try reader.read()
    newest = try reader.read()
    host = try reader.readHost()
    journal = try reader.readJournal()
    publicKey = try reader.readDigest()
    position = try reader.readOptional { (reader) throws(DecodingFailure) in try reader.readPosition() }
    features = try reader.readFeatures()
    guard oldest <= newest else { throw reader.failure(.badValue("versions \(oldest) to \(newest)")) }
  }
}

extension Welcome {
  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    version = try reader.read()
    server = try reader.readText(limit: FrameBounds.serverNameSize)
    position = try reader.readOptional { (reader) throws(DecodingFailure) in try reader.readPosition() }
    isContinued = try reader.readFlag()
    heads = try reader.readList(limit: FrameBounds.sequencesPerJournal) { (reader) throws(DecodingFailure) in
      try reader.readCheckpoint()
    }
    credit = try reader.readLength()
    features = try reader.readFeatures()
  }
}

extension Records {
  fileprivate init(from reader: inout ByteReader, limits: Limits) throws(DecodingFailure) {
    first = try reader.readLength()
    encoded = try reader.readList(limit: limits.recordsPerFrame) { (reader) throws(DecodingFailure) in
      try reader.readCounted(limit: Record.maximumByteCount)
    }
    guard !encoded.isEmpty else { throw reader.failure(.badValue("no records")) }
    checkpoint = try reader.readCheckpoint()
  }
}

extension PayloadHeader {
  /// - Parameter length: what the frame's header leaves for the bytes; at least 1.
  init(from reader: inout ByteReader, length: Int) throws(DecodingFailure) {
    file = try reader.readFile()
    offset = try reader.readLength()
    self.length = length
    guard offset + UInt64(length) <= UInt64(Int64.max) else {
      throw reader.failure(.badValue("an end beyond 2^63 - 1"))
    }
  }
}

extension Refusal {
  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    file = try reader.readOptional { (reader) throws(DecodingFailure) in try reader.readFile() }
    code = try reader.readCode()
    length = try reader.readLength()
    text = try reader.readText(limit: FrameBounds.textSize)
  }
}

extension PeerHello {
  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    oldest = try reader.read()
    newest = try reader.read()
    name = try reader.readText(limit: FrameBounds.serverNameSize)
    cursor = try reader.readOptional { (reader) throws(DecodingFailure) in try reader.readCursor() }
    features = try reader.readFeatures()
    guard oldest <= newest else { throw reader.failure(.badValue("versions \(oldest) to \(newest)")) }
    guard !name.isEmpty else { throw reader.failure(.badValue("no name")) }
  }
}

extension Announcement {
  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    life = try reader.readUUID()
    last = try reader.read()
    changes = try reader.readList(limit: FrameBounds.announcements) { (reader) throws(DecodingFailure) in
      try Change(from: &reader)
    }
  }
}

extension TrieBucket {
  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    isLast = try reader.readFlag()
    changes = try reader.readList(limit: FrameBounds.announcements) { (reader) throws(DecodingFailure) in
      try Change(from: &reader)
    }
  }
}

extension Change {
  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    let start = reader
    let number: UInt64 = try reader.read()
    let kind: UInt8 = try reader.read()
    let host = try reader.readHost()
    let subject: ChangedSubject
    switch kind {
    case 1: subject = .journal(HostJournal(host: host, journal: try reader.readJournal()))
    case 2: subject = .file(FileKey(host: host, file: try reader.readFile()))
    default: throw start.failure(.badValue("a change of kind \(kind)"))
    }
    let key = try reader.readOptional { (reader) throws(DecodingFailure) in try reader.readDigest() }
    guard (kind == 1) == (key != nil) else {
      throw start.failure(.badValue("a journal without its key, or a file with one"))
    }
    self.init(
      number: number, subject: subject, publicKey: key, heads: try reader.readHeads(limit: FrameBounds.stringsPerFile))
    guard number > 0 else { throw start.failure(.badValue("a change with the number 0")) }
    guard !heads.isEmpty, heads.allSatisfy({ $0.length > 0 }) else {
      throw start.failure(.badValue("a change of nothing"))
    }
  }
}

extension ChannelOpening {
  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    channel = try reader.read()
    journal = HostJournal(host: try reader.readHost(), journal: try reader.readJournal())
    publicKey = try reader.readDigest()
  }
}

extension ChannelEnd {
  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    channel = try reader.read()
    code = try reader.readCode()
    text = try reader.readText(limit: FrameBounds.textSize)
  }
}

extension WantedBytes {
  fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
    channel = try reader.read()
    file = try reader.readFile()
    head = try reader.readSome()
    held = try reader.readList(limit: FrameBounds.stringsPerFile) { (reader) throws(DecodingFailure) in
      try reader.readSome()
    }
  }
}

extension ByteReader {
  /// A head of something.
  fileprivate mutating func readSome() throws(DecodingFailure) -> TreeHead {
    let start = self
    let head = try readHead()
    guard head.length > 0 else { throw start.failure(.badValue("a head of nothing")) }
    return head
  }

  fileprivate mutating func readPosition() throws(DecodingFailure) -> FeedPosition {
    FeedPosition(life: try readUUID(), number: try read())
  }

  fileprivate mutating func readCursor() throws(DecodingFailure) -> FeedCursor {
    FeedCursor(life: try readUUID(), held: try read(), seen: try read())
  }

  fileprivate mutating func readFiles(limit: Int) throws(DecodingFailure) -> [FileUUID] {
    try readList(limit: limit) { (reader) throws(DecodingFailure) in try reader.readFile() }
  }

  fileprivate mutating func readHeldFiles(limit: Int) throws(DecodingFailure) -> [HeldFile] {
    try readList(limit: limit) { (reader) throws(DecodingFailure) in
      HeldFile(file: try reader.readFile(), strings: try reader.readHeads(limit: FrameBounds.stringsPerFile))
    }
  }

  fileprivate mutating func readHeads(limit: Int) throws(DecodingFailure) -> [TreeHead] {
    try readList(limit: limit) { (reader) throws(DecodingFailure) in try reader.readHead() }
  }

  fileprivate mutating func readHead() throws(DecodingFailure) -> TreeHead {
    TreeHead(length: try readLength(), root: try readDigest())
  }

  fileprivate mutating func readPrefixes(limit: Int) throws(DecodingFailure) -> [DurablePrefix] {
    try readList(limit: limit) { (reader) throws(DecodingFailure) in try reader.readPrefix() }
  }

  fileprivate mutating func readPrefix() throws(DecodingFailure) -> DurablePrefix {
    DurablePrefix(file: try readFile(), length: try readLength(), root: try readDigest())
  }

  /// A code of a later version is `.other` (W4: an old peer must not fail on a new reason).
  fileprivate mutating func readCode() throws(DecodingFailure) -> RefusalCode {
    RefusalCode(rawValue: try read()) ?? .other
  }

  fileprivate mutating func readText(limit: Int) throws(DecodingFailure) -> String {
    let start = self
    let bytes = try readCounted(limit: limit)
    guard let text = String(validating: bytes, as: UTF8.self) else { throw start.failure(.badValue("not UTF-8")) }
    return text
  }

  fileprivate mutating func readFeatures() throws(DecodingFailure) -> [String] {
    try readList(limit: FrameBounds.features) { (reader) throws(DecodingFailure) in
      let name = try reader.readText(limit: FrameBounds.featureSize)
      guard !name.isEmpty else { throw reader.failure(.badValue("a feature without a name")) }
      return name
    }
  }
}
