import JournalModel
import Testing
import WireProtocol

@Suite struct FrameDecoderTests {
  @Test("However the stream is cut into pieces, the frames are the same")
  func randomChunks() throws {
    var random = Seeded(2)
    for round in 0..<200 {
      let frames = (0..<random.number(1...20)).map { _ in random.decoded() }
      var stream: [UInt8] = []
      for frame in frames { frame.encode(into: &stream) }
      let greatest = [1, 3, 7, 64, 1_000, 100_000][round % 6]
      #expect(try decode(stream, pieces: { random.number(0...greatest) }) == frames)
      #expect(try decode(stream, filling: true, pieces: { random.number(0...greatest) }) == frames)
    }
  }

  /// - Parameter filling: every other piece of a payload is put where it belongs.
  private func decode(
    _ stream: [UInt8], filling: Bool = false, pieces: () -> Int
  ) throws -> [DecodedFrame] {
    var decoder = FrameDecoder(limits: Samples.limits)
    var frames: [DecodedFrame] = []
    var start = 0
    var round = 0
    while start < stream.count {
      let end = min(stream.count, start + pieces())
      round += 1
      if filling, round % 2 == 0, decoder.missing > 0 {
        decoder.fill { room in
          let count = min(room.count, end - start)
          room.copyBytes(from: stream[start..<(start + count)])
          start += count
          return count
        }
      } else {
        decoder.feed(stream.span.bytes.extracting(start..<end))
        start = end
      }
      while let frame = try decoder.next() { frames.append(frame) }
    }
    #expect(decoder.isAtBoundary)
    return frames
  }

  @Test("Bytes may be fed many times before frames are taken")
  func feedAhead() throws {
    var random = Seeded(3)
    let frames = (0..<200).map { _ in random.decoded() }
    var decoder = FrameDecoder(limits: Samples.limits)
    for frame in frames { decoder.feed(frame.encoded.span.bytes) }
    for frame in frames { #expect(try decoder.next() == frame) }
    #expect(try decoder.next() == nil)
    #expect(decoder.isAtBoundary)
  }

  @Test("The stream's end in the middle of a frame can be told")
  func boundary() throws {
    var decoder = FrameDecoder(limits: Samples.limits)
    #expect(decoder.isAtBoundary)
    let bytes = try #require([UInt8](hex: FrameVectors.payload))
    for count in 1..<bytes.count {
      decoder.feed(bytes.span.bytes.extracting((count - 1)..<count))
      #expect(try decoder.next() == nil)
      #expect(!decoder.isAtBoundary)
    }
  }

  @Test("An unknown type is refused by its header", arguments: [0, 32, 255] as [UInt8])
  func unknownType(type: UInt8) {
    #expect(decodeAll([0, 0, 0, 0, type]).error == .unknownType(type, at: 0))
  }

  @Test("A size outside its type's bounds is refused by 5 bytes, before a body is held", arguments: FrameType.allCases)
  func sizes(type: FrameType) {
    let allowed = type.bodySizes(Samples.limits)
    for size in [allowed.lowerBound - 1, allowed.upperBound + 1, 0xffff_ffff] {
      let header = (0..<4).map { UInt8(truncatingIfNeeded: size >> (24 - 8 * $0)) } + [type.rawValue]
      #expect(decodeAll(header).error == .badSize(type, size: size, allowed: allowed, at: 0))
    }
    for size in [allowed.lowerBound, allowed.upperBound] {
      let header = (0..<4).map { UInt8(truncatingIfNeeded: size >> (24 - 8 * $0)) } + [type.rawValue]
      #expect(decodeAll(header).error == nil)
    }
  }

  @Test("The greatest frame of each type passes")
  func greatestFrames() throws {
    let limits = Samples.limits
    let longName = try #require(HostName(String(repeating: "h", count: HostName.maximumByteCount)))
    var checkpoint = Samples.checkpoint
    checkpoint.host = longName
    let features = Array(repeating: String(repeating: "f", count: 64), count: 64)
    let text = String(repeating: "t", count: 512)
    let strings = Array(repeating: TreeHead(length: 1, root: Samples.root), count: FrameBounds.stringsPerFile)
    let record = [UInt8](repeating: 1, count: Record.maximumByteCount / limits.recordsPerFrame)
    let lastRecord = record + [UInt8](repeating: 1, count: Record.maximumByteCount % limits.recordsPerFrame)
    let position = FeedPosition(life: Samples.journal.bytes, number: 1)
    let frames: [Frame] = [
      .hello(
        Hello(
          oldest: 1, newest: 1, host: longName, journal: Samples.journal, publicKey: Samples.key, position: position,
          features: features)),
      .welcome(
        Welcome(
          version: 1, server: String(repeating: "s", count: 253), position: position,
          heads: Array(repeating: checkpoint, count: FrameBounds.sequencesPerJournal), credit: 1, features: features)),
      .journalAnswer(Array(repeating: TreeHead(length: 1, root: Samples.root), count: FrameBounds.heads)),
      .records(
        Records(
          first: 0, encoded: Array(repeating: record, count: limits.recordsPerFrame - 1) + [lastRecord],
          checkpoint: checkpoint)),
      .resumeQuery(Array(repeating: Samples.file, count: limits.resumePage)),
      .resumeAnswer(Array(repeating: HeldFile(file: Samples.file, strings: strings), count: limits.resumePage)),
      .payloadDurable(
        Array(
          repeating: DurablePrefix(file: Samples.file, length: 1, root: Samples.root),
          count: FrameBounds.acknowledgements)),
      .recordsDurable(checkpoint),
      .refusal(Refusal(file: Samples.file, code: .quota, length: 1, text: text)),
      .goodbye(code: .quota, text: text),
      .peerHello(
        PeerHello(
          oldest: 1, newest: 1, name: String(repeating: "s", count: 253),
          cursor: FeedCursor(life: Samples.journal.bytes, held: 1, seen: 1), features: features)),
      .announce(
        Announcement(
          life: Samples.journal.bytes, last: 1,
          changes: Array(
            repeating: Change(
              number: 1, subject: .journal(HostJournal(host: longName, journal: Samples.journal)),
              publicKey: Samples.key, heads: strings), count: FrameBounds.announcements))),
      .openChannel(
        ChannelOpening(
          channel: 1, journal: HostJournal(host: longName, journal: Samples.journal), publicKey: Samples.key)),
      .closeChannel(ChannelEnd(channel: 1, code: .quota, text: text)),
      .wantBytes(WantedBytes(channel: 1, file: Samples.file, head: strings[0], held: strings)),
    ]
    for frame in frames {
      let bytes = frame.encoded()
      #expect(bytes.count - FrameBounds.headerSize == frame.type.bodySizes(limits).upperBound, "\(frame.type)")
      #expect(decodeAll(bytes).frames == [.frame(frame)], "\(frame.type)")
    }
  }

  @Test("An error says where the frame began, and stays")
  func errorsStay() throws {
    var stream = Frame.ping(nonce: 1).encoded() + (try #require([UInt8](hex: FrameVectors.payload)))
    let position = UInt64(stream.count)
    stream += [0, 0, 0, 9, 11] + [UInt8](repeating: 0, count: 9)
    stream += Frame.ping(nonce: 2).encoded()
    let expected = FrameError.badSize(.ping, size: 9, allowed: 8...8, at: position)
    for size in [1, 5, 1_000] {
      var decoder = FrameDecoder(limits: Samples.limits)
      var frames = 0
      var error: FrameError?
      for start in stride(from: 0, to: stream.count, by: size) {
        decoder.feed(stream.span.bytes.extracting(start..<min(stream.count, start + size)))
        do {
          while try decoder.next() != nil { frames += 1 }
        } catch let found {
          error = found
        }
      }
      #expect(frames == 2)
      #expect(error == expected)
      #expect(throws: expected) { try decoder.next() }
      #expect(!decoder.isAtBoundary)
    }
    #expect("\(expected)" == "frame at byte \(position): a ping of 9 bytes, allowed are 8 to 8")
  }

  @Test("What a side may not send, or not first, is refused by its header (P6)")
  func unexpectedFrames() throws {
    let firsts: [FrameSender: Set<FrameType>] = [
      .host: [.hello, .peerHello], .server: [.welcome, .refusal, .goodbye], .peer: [.peerHello, .goodbye],
    ]
    let later: [FrameSender: Set<FrameType>] = [
      .host: [
        .records, .journalQuery, .extendJournal, .resumeQuery, .extend, .payload, .ping, .pong, .goodbye,
      ],
      .server: [
        .recordsDurable, .journalAnswer, .resumeAnswer, .payloadDurable, .position, .credit, .refusal, .ping, .pong,
        .goodbye,
      ],
      .peer: Set(FrameType.allCases).subtracting([.hello, .peerHello, .resumeQuery, .resumeAnswer, .position]),
    ]
    let greetings: [FrameSender: [UInt8]] = [
      .host: try #require([UInt8](hex: FrameVectors.hello)), .server: try #require([UInt8](hex: FrameVectors.welcome)),
      .peer: try #require([UInt8](hex: FrameVectors.peerHello)),
    ]
    for (side, greeting) in greetings {
      for type in FrameType.allCases {
        let size = UInt32(type.bodySizes(Samples.limits).upperBound)
        let header = (0..<4).map { UInt8(truncatingIfNeeded: size >> (24 - 8 * $0)) } + [type.rawValue]
        for isFirst in [true, false] {
          var decoder = FrameDecoder(limits: Samples.limits, from: side)
          if !isFirst {
            decoder.feed(greeting.span.bytes)
            #expect(try decoder.next() != nil)
          }
          let at = isFirst ? 0 : UInt64(greeting.count)
          decoder.feed(header.span.bytes)
          if (isFirst ? firsts : later)[side]?.contains(type) == true {
            #expect(try decoder.next() == nil)
          } else {
            #expect(throws: FrameError.unexpected(type, isFirst: isFirst, at: at)) { try decoder.next() }
          }
        }
      }
    }
  }

  private func announcement(_ subject: ChangedSubject, key: Digest?, _ lengths: [UInt64]) -> Frame {
    let heads = lengths.map { TreeHead(length: $0, root: Samples.root) }
    let change = Change(number: 1, subject: subject, publicKey: key, heads: heads)
    return .announce(Announcement(life: Samples.journal.bytes, last: 1, changes: [change]))
  }

  @Test("What comes behind a server's hello is a peer's")
  func whoConnectsIsAPeerOnceItSaysSo() throws {
    var decoder = FrameDecoder(limits: Samples.limits, from: .host)
    let stream = try #require([UInt8](hex: FrameVectors.peerHello)) + Frame.noted(Noted(noted: 1, held: 1)).encoded()
    decoder.feed(stream.span.bytes)
    #expect(try decoder.next() != nil)
    #expect(try decoder.next() == .frame(.noted(Noted(noted: 1, held: 1))))
  }

  @Test("Values that no frame may carry are refused")
  func badValues() {
    let file = Samples.file
    let beyond = UInt64(1) << 63
    var beyondAll = Samples.checkpoint
    beyondAll.length = beyond
    let nothing = TreeHead(length: 0, root: Samples.root)
    let frames: [Frame] = [
      .recordsDurable(beyondAll), .credit(total: beyond),
      .payload(PayloadHeader(file: file, offset: beyond, length: 1)),
      .payload(PayloadHeader(file: file, offset: beyond - 1, length: 1)),
      .payloadDurable([DurablePrefix(file: file, length: beyond, root: Samples.root)]),
      .extend(DurablePrefix(file: file, length: beyond, root: Samples.root)),
      .resumeAnswer([HeldFile(file: file, strings: [TreeHead(length: beyond, root: Samples.root)])]),
      .hello(Hello(oldest: 2, newest: 1, host: Samples.host, journal: Samples.journal, publicKey: Samples.key)),
      .records(Records(first: 0, encoded: [], checkpoint: Samples.checkpoint)),
      .resumeQuery(Array(repeating: file, count: Samples.limits.resumePage + 1)),
      .peerHello(PeerHello(oldest: 2, newest: 1, name: "a", cursor: nil)),
      .peerHello(PeerHello(oldest: 1, newest: 1, name: "", cursor: nil)),
      .wantRecords(WantedRecords(channel: 1, head: nothing)),
      .wantBytes(WantedBytes(channel: 1, file: file, head: nothing, held: [])),
      .wantBytes(WantedBytes(channel: 1, file: file, head: TreeHead(length: 1, root: Samples.root), held: [nothing])),
      announcement(.file(FileKey(host: Samples.host, file: file)), key: Samples.key, [1]),
      announcement(.journal(HostJournal(host: Samples.host, journal: Samples.journal)), key: nil, [1]),
      announcement(.file(FileKey(host: Samples.host, file: file)), key: nil, []),
      announcement(.file(FileKey(host: Samples.host, file: file)), key: nil, [0]),
      announcement(.file(FileKey(host: Samples.host, file: file)), key: nil, [beyond]),
    ]
    for frame in frames {
      #expect(decodeAll(frame.encoded()).error != nil, "\(frame)")
    }
    let largest = PayloadHeader(file: file, offset: beyond - 2, length: 1)
    #expect(decodeAll(Frame.payload(largest).encoded() + [7]).frames == [.payload(largest, [7])])
  }

  @Test("Fuzz: 200,000 mutated and random streams decode to what re-encodes alike, or fail")
  func fuzz() {
    var random = Seeded(4)
    let seeds = Samples.frames.map(\.frame.encoded) + (0..<100).map { _ in random.decoded().encoded }
    var decoded = 0
    for round in 0..<200_000 {
      let bytes: [UInt8]
      if round.isMultiple(of: 8) {
        let body = random.bytes(0...120)
        bytes = [0, 0, 0, UInt8(body.count), UInt8(random.number(0...14))] + body
      } else {
        bytes = random.mutated(seeds[random.number(0...(seeds.count - 1))])
      }
      if expectCanonical(bytes) { decoded += 1 }
    }
    #expect(decoded > 10_000)
  }

  @Test("A million bytes, one by one, give what they give in one piece")
  func byteByByte() throws {
    var random = Seeded(5)
    var stream: [UInt8] = []
    while stream.count < 1_000_000 { random.decoded().encode(into: &stream) }
    let bytewise = try decode(stream, pieces: { 1 })
    let atOnce = decodeAll(stream)
    #expect(atOnce.error == nil)
    #expect(bytewise == atOnce.frames)
  }
}
