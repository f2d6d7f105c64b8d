import JournalModel

// Layout: `design/protocol.md`, 'Frames'; vectors in `Tests/WireProtocolTests`.

extension Frame {
  package var type: FrameType {
    switch self {
    case .hello: .hello
    case .welcome: .welcome
    case .records: .records
    case .recordsDurable: .recordsDurable
    case .resumeQuery: .resumeQuery
    case .resumeAnswer: .resumeAnswer
    case .payload: .payload
    case .payloadDurable: .payloadDurable
    case .credit: .credit
    case .refusal: .refusal
    case .ping: .ping
    case .pong: .pong
    case .goodbye: .goodbye
    case .extend: .extend
    case .journalQuery: .journalQuery
    case .journalAnswer: .journalAnswer
    case .extendJournal: .extendJournal
    case .peerHello: .peerHello
    case .feed: .feed
    case .announce: .announce
    case .noted: .noted
    case .openChannel: .openChannel
    case .channel: .channel
    case .closeChannel: .closeChannel
    case .wantRecords: .wantRecords
    case .wantBytes: .wantBytes
    case .askTrie: .askTrie
    case .trieParts: .trieParts
    case .trieBucket: .trieBucket
    case .holdings: .holdings
    case .position: .position
    }
  }

  /// Appends the frame. Of `.payload` only the header is written: exactly `length` bytes must follow. A payload-durable
  /// of more than `FrameBounds.acknowledgements` files becomes several frames; text for operators is cut to its bound.
  /// - Precondition: other lists keep their bounds (`Limits`, `FrameBounds`).
  package func encode(into output: inout [UInt8]) {
    guard case .payloadDurable(let held) = self, held.count > FrameBounds.acknowledgements else {
      return encodeOne(into: &output)
    }
    for start in stride(from: 0, to: held.count, by: FrameBounds.acknowledgements) {
      let end = min(start + FrameBounds.acknowledgements, held.count)
      Frame.payloadDurable(Array(held[start..<end])).encodeOne(into: &output)
    }
  }

  package func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    encode(into: &bytes)
    return bytes
  }

  private func encodeOne(into output: inout [UInt8]) {
    var taken: [UInt8] = []
    swap(&taken, &output)
    let start = taken.count
    var writer = ByteWriter(appendingTo: taken)
    taken = []
    writer.write(UInt32(0))
    writer.write(type.rawValue)
    writeBody(to: &writer)
    let following = if case .payload(let header) = self { header.length } else { 0 }
    let size = writer.bytes.count - start - FrameBounds.headerSize + following
    writer.overwrite(UInt32(size), at: start)
    output = writer.bytes
  }

  private func writeBody(to writer: inout ByteWriter) {
    switch self {
    case .hello(let hello): hello.write(to: &writer)
    case .welcome(let welcome): welcome.write(to: &writer)
    case .records(let records): records.write(to: &writer)
    case .recordsDurable(let checkpoint): writer.write(checkpoint)
    case .resumeQuery(let files): writer.write(list: files) { $0.write($1) }
    case .resumeAnswer(let files): writer.write(list: files) { $1.write(to: &$0) }
    case .payload(let header):
      precondition(header.length > 0)
      writer.write(header.file)
      writer.write(header.offset)
    case .payloadDurable(let held):
      writer.write(list: held) { $1.write(to: &$0) }
    case .extend(let base): base.write(to: &writer)
    case .journalQuery(let length): writer.write(length)
    case .journalAnswer(let heads): writer.write(list: heads) { $1.write(to: &$0) }
    case .extendJournal(let head): head.write(to: &writer)
    case .credit(let total): writer.write(total)
    case .refusal(let refusal): refusal.write(to: &writer)
    case .ping(let nonce), .pong(let nonce): writer.write(nonce)
    case .goodbye(let code, let text):
      writer.write(code.rawValue)
      writer.write(text: text, limit: FrameBounds.textSize)
    case .peerHello(let hello): hello.write(to: &writer)
    case .feed(let start):
      writer.write(start.after)
      writer.write(flag: start.byTrie)
    case .announce(let announcement): announcement.write(to: &writer)
    case .noted(let noted):
      writer.write(noted.noted)
      writer.write(noted.held)
    case .openChannel(let opening):
      writer.write(opening.channel)
      writer.write(opening.journal.host)
      writer.write(opening.journal.journal)
      writer.write(opening.publicKey)
    case .channel(let channel): writer.write(channel)
    case .closeChannel(let end):
      writer.write(end.channel)
      writer.write(end.code.rawValue)
      writer.write(text: end.text, limit: FrameBounds.textSize)
    case .wantRecords(let wanted):
      writer.write(wanted.channel)
      wanted.head.write(to: &writer)
    case .wantBytes(let wanted):
      writer.write(wanted.channel)
      writer.write(wanted.file)
      wanted.head.write(to: &writer)
      writer.write(list: wanted.held) { $1.write(to: &$0) }
    case .askTrie(let prefix): writer.write(prefix)
    case .trieParts(let digests):
      precondition(digests.count == TriePrefix.fanOut)
      for digest in digests { writer.write(digest) }
    case .trieBucket(let bucket):
      precondition(bucket.changes.count <= FrameBounds.announcements)
      writer.write(flag: bucket.isLast)
      writer.write(list: bucket.changes) { $1.write(to: &$0) }
    case .holdings(let digest): writer.write(digest)
    case .position(let position): writer.write(position)
    }
  }
}

extension PeerHello {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(oldest)
    writer.write(newest)
    writer.write(text: name, limit: FrameBounds.serverNameSize)
    writer.write(optional: cursor) { $0.write($1) }
    writer.write(features: features)
  }
}

extension Announcement {
  fileprivate func write(to writer: inout ByteWriter) {
    precondition(changes.count <= FrameBounds.announcements)
    writer.write(life)
    writer.write(last)
    writer.write(list: changes) { $1.write(to: &$0) }
  }
}

extension Change {
  fileprivate func write(to writer: inout ByteWriter) {
    precondition(heads.count <= FrameBounds.stringsPerFile)
    writer.write(number)
    switch subject {
    case .journal(let journal):
      writer.write(UInt8(1))
      writer.write(journal.host)
      writer.write(journal.journal)
    case .file(let key):
      writer.write(UInt8(2))
      writer.write(key.host)
      writer.write(key.file)
    }
    writer.write(optional: publicKey) { $0.write($1) }
    writer.write(list: heads) { $1.write(to: &$0) }
  }
}

extension ByteWriter {
  fileprivate mutating func write(_ position: FeedPosition) {
    write(position.life)
    write(position.number)
  }

  fileprivate mutating func write(_ cursor: FeedCursor) {
    write(cursor.life)
    write(cursor.held)
    write(cursor.seen)
  }
}

extension Hello {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(oldest)
    writer.write(newest)
    writer.write(host)
    writer.write(journal)
    writer.write(publicKey)
    writer.write(optional: position) { $0.write($1) }
    writer.write(features: features)
  }
}

extension Welcome {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(version)
    writer.write(text: server, limit: FrameBounds.serverNameSize)
    writer.write(optional: position) { $0.write($1) }
    writer.write(flag: isContinued)
    precondition(heads.count <= FrameBounds.sequencesPerJournal)
    writer.write(list: heads) { $0.write($1) }
    writer.write(credit)
    writer.write(features: features)
  }
}

extension Records {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(first)
    writer.write(list: encoded) { $0.write(counted: $1) }
    writer.write(checkpoint)
  }
}

extension HeldFile {
  fileprivate func write(to writer: inout ByteWriter) {
    precondition(strings.count <= FrameBounds.stringsPerFile)
    writer.write(file)
    writer.write(list: strings) { $1.write(to: &$0) }
  }
}

extension TreeHead {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(length)
    writer.write(root)
  }
}

extension DurablePrefix {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(file)
    writer.write(length)
    writer.write(root)
  }
}

extension Refusal {
  fileprivate func write(to writer: inout ByteWriter) {
    writer.write(optional: file) { $0.write($1) }
    writer.write(code.rawValue)
    writer.write(length)
    writer.write(text: text, limit: FrameBounds.textSize)
  }
}

extension ByteWriter {
  /// UTF-8, cut before the scalar that would cross `limit`.
  fileprivate mutating func write(text: String, limit: Int) {
    guard text.utf8.count > limit else { return write(counted: text.utf8) }
    var bytes: [UInt8] = []
    for scalar in text.unicodeScalars {
      let encoded = Array(UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
      guard bytes.count + encoded.count <= limit else { break }
      bytes += encoded
    }
    write(counted: bytes)
  }

  fileprivate mutating func write(features: [String]) {
    precondition(features.count <= FrameBounds.features)
    precondition(features.allSatisfy { (1...FrameBounds.featureSize).contains($0.utf8.count) })
    write(list: features) { $0.write(counted: $1.utf8) }
  }
}
