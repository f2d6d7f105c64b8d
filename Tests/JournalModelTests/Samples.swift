import JournalModel

/// The values whose encodings `Vectors` holds.
enum Samples {
  static let time = WallTime(nanoseconds: 1_700_000_000_123_456_789)
  static let born = WallTime(nanoseconds: 1_699_999_999_004_000_000)
  static let host = HostName("web1") ?? fallback
  private static var fallback: HostName { preconditionFailure("web1 is a host name") }
  static let journal = JournalID(UUIDBytes(high: 0x0011_2233_4455_4677, low: 0x8899_aabb_ccdd_eeff))
  static let file = FileUUID(UUIDBytes(high: 0x0f0e_0d0c_0b0a_8908, low: 0x8706_0504_0302_0100))
  static let other = FileUUID(UUIDBytes(high: 0xf0f1_f2f3_f4f5_4ef7, low: 0xb8f9_fafb_fcfd_feff))
  static let subvolume = UUIDBytes(high: 0x1011_1213_1415_4617, low: 0x9819_1a1b_1c1d_1e1f)
  static let root = Digest(
    words: 0xa0a1_a2a3_a4a5_a6a7, 0xa8a9_aaab_acad_aeaf, 0xb0b1_b2b3_b4b5_b6b7, 0xb8b9_babb_bcbd_bebf)
  static let key = Digest(
    words: 0x2021_2223_2425_2627, 0x2829_2a2b_2c2d_2e2f, 0x3031_3233_3435_3637, 0x3839_3a3b_3c3d_3e3f)
  static let signature = [UInt8](0x40..<0x80)
  static let identity = InodeIdentity(number: 131_077, generation: 0x9c3f_21d7, birth: born)
  static let btrfs = InodeIdentity(number: 257, generation: 7, birth: born, subvolume: subvolume)
  static let bare = InodeIdentity(number: 42, generation: nil, birth: nil)
  static let checkpoint = Checkpoint(host: host, journal: journal, length: 1_000, root: root, signature: signature)

  private static let log = BytePath("/var/log/app.log")

  static let records: [(hex: String, record: Record)] = [
    (Vectors.journalOpened, record(.journalOpened(opened))),
    (Vectors.journalOpenedAgain, record(.journalOpened(openedAgain))),
    (Vectors.fileBorn, record(.fileBorn(fileBorn))),
    (Vectors.fileBornChild, record(.fileBorn(child))),
    (
      Vectors.bytesAppended,
      record(.bytesAppended(BytesAppended(file: file, offset: 65_536, length: 4_096, root: root)))
    ),
    (Vectors.rotated, record(.rotated(Rotated(file: file, from: log, to: BytePath("/var/log/app.log.1"))))),
    (Vectors.rotatedAway, record(.rotated(Rotated(file: file, from: BytePath("/var/log/app.log.1"), to: nil)))),
    (
      Vectors.fileClosed,
      Record(
        time: WallTime(nanoseconds: -1),
        body: .fileClosed(FileClosed(file: file, length: 69_632, root: root, reason: .deleted)))
    ),
    (Vectors.gapOfFile, record(.gap(gap(.file(file), 4_096, 69_632, .truncated)))),
    (Vectors.gapOfPath, record(.gap(gap(.path(BytePath("/var/log/lost.log")), 0, .max, .vanished)))),
    (Vectors.unknown, record(.unknown(type: 500, body: [0x00, 0xff, 0x10]))),
  ]

  static let opened = JournalOpened(
    host: host, journal: journal, publicKey: key,
    binding: .certificate(chain: [[0x30, 3, 2, 1, 1], [0x30, 3, 2, 1, 2]], signature: [0xde, 0xad, 0xbe, 0xef]))

  static let openedAgain = JournalOpened(
    host: host, journal: journal, publicKey: key, binding: .journalKey(signature: signature),
    earlier: [JournalHead(journal: JournalID(other.bytes), length: 99, root: root)],
    files: [FileHead(file: file, identity: identity, length: 65_537, root: root)],
    gapSince: WallTime(nanoseconds: time.nanoseconds - 1_000))

  static let fileBorn = FileBorn(
    file: file, identity: identity, isDerived: true, path: log,
    realPath: BytePath(Array("/srv/log/app".utf8) + [0xff, 0x0a] + Array(".log".utf8)), mode: 0o100640, owner: 0,
    group: 4, born: born, modified: time)

  static let child = FileBorn(
    file: other, identity: bare, isDerived: false, path: log, realPath: log, mode: 0o100644, owner: 1_000,
    group: 1_000, born: time, modified: time,
    parent: Parent(file: file, length: 65_536, root: root, why: .truncated))

  private static func gap(_ subject: Gap.Subject, _ lower: UInt64, _ upper: UInt64, _ reason: Gap.Reason) -> Gap {
    Gap(subject: subject, lower: lower, upper: upper, reason: reason, provenLength: 0, provenRoot: .zero)
  }

  private static func record(_ body: RecordBody) -> Record { Record(time: time, body: body) }
}
