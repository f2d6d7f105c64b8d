import JournalModel
import WireProtocol

/// The frames whose bytes `FrameVectors` holds.
enum Samples {
  /// Small lists, so that every bound is met within a few kilobytes.
  static let limits: Limits = {
    var limits = Limits()
    limits.payloadFrameSize = 500
    limits.recordsPerFrame = 5
    limits.resumePage = 10
    return limits
  }()

  static let host = HostName("web1") ?? fallback
  private static var fallback: HostName { preconditionFailure("web1 is a host name") }
  static let journal = JournalID(UUIDBytes(high: 0x0011_2233_4455_4677, low: 0x8899_aabb_ccdd_eeff))
  static let file = FileUUID(UUIDBytes(high: 0x0f0e_0d0c_0b0a_8908, low: 0x8706_0504_0302_0100))
  static let other = FileUUID(UUIDBytes(high: 0xf0f1_f2f3_f4f5_4ef7, low: 0xb8f9_fafb_fcfd_feff))
  static let root = Digest(
    words: 0xa0a1_a2a3_a4a5_a6a7, 0xa8a9_aaab_acad_aeaf, 0xb0b1_b2b3_b4b5_b6b7, 0xb8b9_babb_bcbd_bebf)
  static let key = Digest(
    words: 0x2021_2223_2425_2627, 0x2829_2a2b_2c2d_2e2f, 0x3031_3233_3435_3637, 0x3839_3a3b_3c3d_3e3f)
  static let checkpoint = Checkpoint(
    host: host, journal: journal, length: 1_000, root: root, signature: [UInt8](0x40..<0x80))
  private static let time = WallTime(nanoseconds: 1_700_000_000_123_456_789)

  static let frames: [(hex: String, frame: DecodedFrame)] =
    [
      (
        FrameVectors.hello,
        .frame(
          .hello(
            Hello(
              oldest: 1, newest: 1, host: host, journal: journal, publicKey: key, position: position, features: ["zstd"]
            )))
      ),
      (FrameVectors.welcomeNew, .frame(.welcome(welcome([])))),
      (FrameVectors.welcome, .frame(.welcome(welcome([checkpoint])))),
      (FrameVectors.records, .frame(.records(records))),
      (FrameVectors.recordsDurable, .frame(.recordsDurable(checkpoint))),
      (FrameVectors.resumeQuery, .frame(.resumeQuery([file, other]))),
      (
        FrameVectors.resumeAnswer,
        .frame(
          .resumeAnswer([
            HeldFile(file: file, strings: [TreeHead(length: 65_537, root: root)]), HeldFile(file: other, strings: []),
          ]))
      ),
      (
        FrameVectors.payload,
        .payload(PayloadHeader(file: file, offset: 65_536, length: 6), Array("hello\n".utf8))
      ),
      (FrameVectors.payloadDurable, .frame(.payloadDurable([DurablePrefix(file: file, length: 65_542, root: root)]))),
      (FrameVectors.extend, .frame(.extend(DurablePrefix(file: file, length: 65_542, root: root)))),
      (FrameVectors.extendNothing, .frame(.extend(.nothing(of: file)))),
      (FrameVectors.journalQuery, .frame(.journalQuery(length: 1_000))),
      (
        FrameVectors.journalAnswer,
        .frame(.journalAnswer([TreeHead(length: 998, root: root), TreeHead(length: 999, root: key)]))
      ),
      (FrameVectors.extendJournal, .frame(.extendJournal(TreeHead(length: 998, root: root)))),
      (FrameVectors.extendJournalNothing, .frame(.extendJournal(TreeHead(length: 0, root: .zero)))),
      (FrameVectors.credit, .frame(.credit(total: 33_554_438))),
      (
        FrameVectors.refusal,
        .frame(.refusal(Refusal(file: file, code: .diskFull, length: 65_536, text: "disk full: 0 bytes free")))
      ),
      (
        FrameVectors.refusalOfRecords,
        .frame(.refusal(Refusal(file: nil, code: .journalFork, length: 1_000, text: "")))
      ),
      (FrameVectors.ping, .frame(.ping(nonce: 0x0123_4567_89ab_cdef))),
      (FrameVectors.pong, .frame(.pong(nonce: 0x0123_4567_89ab_cdef))),
      (FrameVectors.goodbye, .frame(.goodbye(code: .shuttingDown, text: "bis später"))),
    ] + peerFrames

  private static let life = UUIDBytes(high: 0xf0f1_f2f3_f4f5_4ef7, low: 0xb8f9_fafb_fcfd_feff)
  private static let position = FeedPosition(life: life, number: 256)
  private static let peerFrames: [(hex: String, frame: DecodedFrame)] = [
    (
      FrameVectors.peerHello,
      .frame(
        .peerHello(
          PeerHello(oldest: 1, newest: 1, name: "logs-b", cursor: FeedCursor(life: life, held: 255, seen: 256))))
    ),
    (
      FrameVectors.peerHelloNew,
      .frame(.peerHello(PeerHello(oldest: 1, newest: 1, name: "logs-b", cursor: nil, features: ["zstd"])))
    ),
    (FrameVectors.feed, .frame(.feed(FeedStart(after: 255, byTrie: false)))),
    (FrameVectors.feedByTrie, .frame(.feed(FeedStart(after: 255, byTrie: true)))),
    (
      FrameVectors.announce,
      .frame(
        .announce(
          Announcement(
            life: life, last: 257,
            changes: [
              Change(
                number: 256, subject: .journal(HostJournal(host: host, journal: journal)), publicKey: key,
                heads: [TreeHead(length: 1_000, root: root)]),
              Change(
                number: 257, subject: .file(FileKey(host: host, file: file)),
                heads: [TreeHead(length: 5, root: key), TreeHead(length: 65_542, root: root)]),
            ])))
    ),
    (FrameVectors.announceNothing, .frame(.announce(Announcement(life: life, last: 257, changes: [])))),
    (FrameVectors.noted, .frame(.noted(Noted(noted: 257, held: 255)))),
    (
      FrameVectors.openChannel,
      .frame(
        .openChannel(
          ChannelOpening(channel: 3, journal: HostJournal(host: host, journal: journal), publicKey: key)))
    ),
    (FrameVectors.channel, .frame(.channel(3))),
    (FrameVectors.closeChannel, .frame(.closeChannel(ChannelEnd(channel: 3, code: .superseded, text: "bis später")))),
    (
      FrameVectors.wantRecords,
      .frame(.wantRecords(WantedRecords(channel: 3, head: TreeHead(length: 1_000, root: root))))
    ),
    (
      FrameVectors.wantBytes,
      .frame(
        .wantBytes(
          WantedBytes(
            channel: 3, file: file, head: TreeHead(length: 65_542, root: root),
            held: [TreeHead(length: 5, root: key)])))
    ),
    (FrameVectors.askTrie, .frame(.askTrie(TriePrefix.root.child(10).child(5).child(15)))),
    (FrameVectors.trieParts, .frame(.trieParts((0..<16).map { digest(from: UInt8($0 * 8)) }))),
    (
      FrameVectors.trieBucket,
      .frame(
        .trieBucket(
          TrieBucket(
            changes: [
              Change(
                number: 257, subject: .file(FileKey(host: host, file: file)),
                heads: [TreeHead(length: 65_542, root: root)])
            ], isLast: true)))
    ),
    (FrameVectors.trieBucketMore, .frame(.trieBucket(TrieBucket(changes: [], isLast: false)))),
    (FrameVectors.position, .frame(.position(position))),
    (FrameVectors.holdings, .frame(.holdings(HoldingsDigest(root: root, end: 257)))),
  ]

  private static func digest(from first: UInt8) -> Digest {
    func word(_ index: UInt8) -> UInt64 { (0..<8).reduce(0) { $0 << 8 | UInt64(first + index * 8 + $1) } }
    return Digest(words: word(0), word(1), word(2), word(3))
  }

  private static func welcome(_ heads: [Checkpoint]) -> Welcome {
    Welcome(
      version: 1, server: "logs-a", position: heads.isEmpty ? nil : position, isContinued: !heads.isEmpty, heads: heads,
      credit: 33_554_432)
  }

  private static let records = Records(
    first: 998,
    encoded: [
      Record(
        time: time, body: .bytesAppended(BytesAppended(file: file, offset: 65_536, length: 4_096, root: root))
      ).encoded(),
      Record(time: time, body: .unknown(type: 500, body: [0x00, 0xff, 0x10])).encoded(),
    ], checkpoint: checkpoint)
}
