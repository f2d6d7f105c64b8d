import JournalModel
import WireProtocol

/// SplitMix64: the same values for the same seed, everywhere.
struct Seeded: RandomNumberGenerator {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
  mutating func chance(_ one: Int, in all: Int) -> Bool { number(1...all) <= one }
  mutating func bytes(_ count: ClosedRange<Int>) -> [UInt8] {
    (0..<number(count)).map { _ in UInt8(truncatingIfNeeded: next() >> 24) }
  }

  /// One to three edits: a bit flipped, a byte changed, bytes inserted, removed, repeated, or the end cut off.
  mutating func mutated(_ bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    for _ in 0..<number(1...3) {
      let place = number(0...bytes.count)
      switch number(0...5) {
      case 0 where place < bytes.count: bytes[place] ^= 1 << UInt8(number(0...7))
      case 1 where place < bytes.count: bytes[place] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &self) ?? 0
      case 2: bytes.insert(contentsOf: self.bytes(1...9), at: place)
      case 3: bytes.removeSubrange(place..<min(bytes.count, place + number(1...9)))
      case 4: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 16)], at: place)
      default: bytes.removeSubrange(place...)
      }
    }
    return bytes
  }
}

/// Arbitrary frames, within the bounds of `Samples.limits`.
extension Seeded {
  mutating func uuid() -> UUIDBytes { UUIDBytes(high: next(), low: next()) }
  mutating func file() -> FileUUID { FileUUID(uuid()) }
  mutating func digest() -> Digest { Digest(words: next(), next(), next(), next()) }
  mutating func length() -> UInt64 { next() >> UInt64(number(2...63)) }
  mutating func text() -> String { String((0..<number(0...60)).map { _ in Array("aé😀 z")[number(0...4)] }) }
  mutating func code() -> RefusalCode { RefusalCode.allCases.randomElement(using: &self) ?? .other }
  mutating func features() -> [String] { (0..<number(0...4)).map { _ in "f" + text().prefix(10) } }

  mutating func checkpoint() -> Checkpoint {
    Checkpoint(
      host: Samples.host, journal: JournalID(uuid()), length: length(), root: digest(), signature: bytes(64...64))
  }

  private mutating func some() -> TreeHead { TreeHead(length: 1 + length() / 2, root: digest()) }
  private mutating func head() -> TreeHead { TreeHead(length: length(), root: digest()) }

  private mutating func position() -> FeedPosition? {
    chance(1, in: 2) ? FeedPosition(life: uuid(), number: next()) : nil
  }

  private mutating func cursor() -> FeedCursor? {
    chance(1, in: 2) ? FeedCursor(life: uuid(), held: next(), seen: next()) : nil
  }

  private mutating func change() -> Change {
    let heads = (0..<number(1...3)).map { _ in TreeHead(length: 1 + length() / 2, root: digest()) }
    if chance(1, in: 2) {
      return Change(number: 1 + next() / 2, subject: .file(FileKey(host: Samples.host, file: file())), heads: heads)
    }
    let journal = HostJournal(host: Samples.host, journal: JournalID(uuid()))
    return Change(number: 1 + next() / 2, subject: .journal(journal), publicKey: digest(), heads: heads)
  }

  /// A frame, with the bytes that follow it if it is a payload.
  mutating func decoded() -> DecodedFrame {
    switch number(0...24) {
    case 0:
      .frame(
        .hello(
          Hello(
            oldest: 1, newest: UInt16(number(1...9)), host: Samples.host, journal: JournalID(uuid()),
            publicKey: digest(), position: position(), features: features())))
    case 1:
      .frame(
        .welcome(
          Welcome(
            version: UInt16(number(0...9)), server: text(), position: position(), isContinued: chance(1, in: 2),
            heads: (0..<number(0...3)).map { _ in checkpoint() },
            credit: length(), features: features())))
    case 2:
      .frame(
        .records(
          Records(
            first: length(), encoded: (0..<number(1...Samples.limits.recordsPerFrame)).map { _ in bytes(0...90) },
            checkpoint: checkpoint())))
    case 3: .frame(.recordsDurable(checkpoint()))
    case 4: .frame(.resumeQuery((0..<number(0...Samples.limits.resumePage)).map { _ in file() }))
    case 5:
      .frame(
        .resumeAnswer(
          (0..<number(0...Samples.limits.resumePage)).map { _ in
            HeldFile(
              file: file(),
              strings: (0..<number(0...3)).map { _ in TreeHead(length: length(), root: digest()) })
          }))
    case 6:
      .frame(
        .payloadDurable(
          (0..<number(0...20)).map { _ in DurablePrefix(file: file(), length: length(), root: digest()) }))
    case 7: .frame(.credit(total: length()))
    case 8:
      .frame(
        .refusal(Refusal(file: chance(1, in: 2) ? file() : nil, code: code(), length: length(), text: text())))
    case 9: .frame(.ping(nonce: next()))
    case 10: .frame(.pong(nonce: next()))
    case 11: .frame(.goodbye(code: code(), text: text()))
    case 12: .frame(.extend(DurablePrefix(file: file(), length: length(), root: digest())))
    case 13: .frame(.journalQuery(length: length()))
    case 14:
      .frame(.journalAnswer((0..<number(0...9)).map { _ in TreeHead(length: length(), root: digest()) }))
    case 15: .frame(.extendJournal(head()))
    case 16:
      .frame(.peerHello(PeerHello(oldest: 1, newest: 1, name: "s" + text(), cursor: cursor(), features: features())))
    case 17: .frame(.feed(FeedStart(after: next(), byTrie: chance(1, in: 2))))
    case 18:
      .frame(.announce(Announcement(life: uuid(), last: next(), changes: (0..<number(0...5)).map { _ in change() })))
    case 19: .frame(.noted(Noted(noted: next(), held: next())))
    case 20:
      .frame(
        .openChannel(
          ChannelOpening(
            channel: UInt32(truncatingIfNeeded: next()),
            journal: HostJournal(host: Samples.host, journal: JournalID(uuid())), publicKey: digest())))
    case 21: .frame(.channel(UInt32(truncatingIfNeeded: next())))
    case 22: .frame(.closeChannel(ChannelEnd(channel: UInt32(number(0...9)), code: code(), text: text())))
    case 23: .frame(.wantRecords(WantedRecords(channel: UInt32(number(0...9)), head: some())))
    case 24:
      .frame(
        .wantBytes(
          WantedBytes(
            channel: UInt32(number(0...9)), file: file(), head: some(), held: (0..<number(0...3)).map { _ in some() })))
    case 25: .frame(.askTrie((0..<number(0...32)).reduce(.root) { part, _ in part.child(number(0...15)) }))
    case 26: .frame(.trieParts((0..<16).map { _ in digest() }))
    case 27:
      .frame(.trieBucket(TrieBucket(changes: (0..<number(0...5)).map { _ in change() }, isLast: chance(1, in: 2))))
    case 28: .frame(.holdings(HoldingsDigest(root: digest(), end: next())))
    default: payload(bytes(1...Samples.limits.payloadFrameSize))
    }
  }

  private mutating func payload(_ bytes: [UInt8]) -> DecodedFrame {
    .payload(PayloadHeader(file: file(), offset: length(), length: bytes.count), bytes)
  }
}

extension DecodedFrame {
  /// As it stands on the wire.
  func encode(into bytes: inout [UInt8]) {
    switch self {
    case .frame(let frame): frame.encode(into: &bytes)
    case .payload(let header, let payload):
      Frame.payload(header).encode(into: &bytes)
      bytes += payload
    }
  }

  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    encode(into: &bytes)
    return bytes
  }
}

/// All frames of a byte stream that is fed at once, and how it ends.
func decodeAll(_ bytes: [UInt8], limits: Limits = Samples.limits) -> (frames: [DecodedFrame], error: FrameError?) {
  var decoder = FrameDecoder(limits: limits)
  decoder.feed(bytes.span.bytes)
  var frames: [DecodedFrame] = []
  do {
    while let frame = try decoder.next() { frames.append(frame) }
    return (frames, nil)
  } catch {
    return (frames, error)
  }
}
