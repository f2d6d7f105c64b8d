import JournalModel
import JournalStore
import Testing

@testable import LMDBStore

/// Rows as `design/formats.md` writes them, made by an encoder of its own (Python).
private enum Vectors {
  static let knownFile =
    "0000000000001234030000000000020005000000009c3f21d717979cfdfacc3f00010000000a2f7661722f6c6f672f61"
    + "17979cfdfacc3f000000000000011000a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
    + "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f000000000001104417979cfe362a0000"
    + "0102010000000000010000"
  static let delivered = "00000000000110000000000000000002"
  static let ownIdentityKey =
    "030000000000020005000000009c3f21d717979cfdfacc3f000f0e0d0c0b0a89088706050403020100"
  static let placeKey =
    "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf0f0e0d0c0b0a89088706050403020100"
  static let lossKey = "6c6f73736573206c6f67312e6578616d706c65"
  static let gap = "010f0e0d0c0b0a89088706050403020100"
  static let heldJournal =
    "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f00000000000000030101000000047765"
    + "623100112233445546778899aabbccddeeff0000000000000003a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5"
    + "b6b7b8b9babbbcbdbebf404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465"
    + "666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5"
    + "b6b7b8b9babbbcbdbebf202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
    + "00000000000000020000000000000096010000000100000000000000020000000000000000"
  static let sequenceKey = "776562310000112233445546778899aabbccddeeff00000003"
  static let nodesKey = "776562310000112233445546778899aabbccddeeff00000003000000000000007f"
  static let checkpointKey = "776562310000112233445546778899aabbccddeeff0000000300000000000003e8"
  static let nodes =
    "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
    + "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
  static let storedString =
    "030000000000020005000000009c3f21d717979cfdfacc3f00000000000a2f7661722f6c6f672f6117979cfdfacc3f00"
    + "17979cfe362a00000100112233445546778899aabbccddeeff0000000000001000202122232425262728292a2b2c2d2e"
    + "2f303132333435363738393a3b3c3d3e3f010000000000011000a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5"
    + "b6b7b8b9babbbcbdbebf00000000000100000000001666696c65732f776562312f7661722f6c6f672f61407801000000"
    + "0000011170000100000000000101d0000000000001117001000000020000000000010000"
    + "0000000000010040000000000000012c"
  static let changedJournal = "01776562310000112233445546778899aabbccddeeff"
  static let changedFile = "0277656231000f0e0d0c0b0a89088706050403020100"
  static let change = "000000000000012c"
  static let epochs =
    "00000002f0f1f2f3f4f54ef7b8f9fafbfcfdfeff000000000000000100112233445546778899aabbccddeeff0000000000000101"
  static let subjectKey = "c3b28e3ac9ffae239b565577dd301a000e0ef385b5d32e75dd42fd0e447d8452"
  static let subject =
    "bf47711c334fc62693b4cecd17fc73e8eee5845aa6c38894a20b7d12eb19816b0277656231000f0e0d0c0b0a890887060504"
    + "03020100"
  static let trieKey = "03a5f00000000000000000000000000000"
  static let trie =
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f08090a0b0c0d0e0f10111213141516171819"
    + "1a1b1c1d1e1f2021222324252627101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f18191a1b"
    + "1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637202122232425262728292a2b2c2d2e2f303132333435"
    + "363738393a3b3c3d3e3f28292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f40414243444546473031323334353637"
    + "38393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f38393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f5051"
    + "525354555657404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f48494a4b4c4d4e4f50515253"
    + "5455565758595a5b5c5d5e5f6061626364656667505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d"
    + "6e6f58595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f7071727374757677606162636465666768696a6b6c6d6e6f"
    + "707172737475767778797a7b7c7d7e7f68696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f80818283848586877071"
    + "72737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f78797a7b7c7d7e7f808182838485868788898a8b"
    + "8c8d8e8f9091929394959697"
  static let digestRow = "0000000000000101a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
  static let peerKey = "6c6f67732d6200"
  static let peer = "f0f1f2f3f4f54ef7b8f9fafbfcfdfeff00000000000000ff0000000000000100"
  static let stringKey = "77656231000f0e0d0c0b0a8908870605040302010000000000"
  static let logKey = "77656231000f0e0d0c0b0a89088706050403020100000000000000000000010000"
  static let promiseKey =
    "77656231000f0e0d0c0b0a890887060504030201000000000000011000a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2"
    + "b3b4b5b6b7b8b9babbbcbdbebf"
  static let identityKey =
    "7765623100030000000000020005000000009c3f21d717979cfdfacc3f000f0e0d0c0b0a89088706050403020100"
  static let nameKey = "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
  /// Born at 1,699,999,999,004,000,000 ns: complemented with its sign turned, as is the uuid.
  static let pathKey =
    "7765623100a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf686863020533c0fff0f1f2f3"
    + "f4f576f778f9fafbfcfdfeff"
  static let position = "f0f1f2f3f4f54ef7b8f9fafbfcfdfeff0000000000000100"
  static let positionKey = "6c6f67312e6578616d706c6500"
  static let deliveredKey = "6c6f67312e6578616d706c65000f0e0d0c0b0a89088706050403020100"
}

@Suite struct TableVectorTests {
  private let file: FileUUID
  private let journal: JournalID
  private let key: StringKey
  private let root: Digest
  private let tail: Digest

  init() throws {
    file = FileUUID(UUIDBytes(high: 0x0F0E_0D0C_0B0A_8908, low: 0x8706_0504_0302_0100))
    journal = JournalID(UUIDBytes(high: 0x0011_2233_4455_4677, low: 0x8899_AABB_CCDD_EEFF))
    key = StringKey(key: FileKey(host: try host("web1"), file: file), string: 0)
    root = Self.digest(from: 0xA0)
    tail = Self.digest(from: 0x20)
  }

  private static func digest(from first: UInt64) -> Digest {
    func word(_ index: UInt64) -> UInt64 { (0..<8).reduce(0) { $0 << 8 | (first + index * 8 + $1) } }
    return Digest(words: word(0), word(1), word(2), word(3))
  }

  private let identity = InodeIdentity(
    number: 131_077, generation: 0x9C3F_21D7, birth: WallTime(nanoseconds: 1_699_999_999_004_000_000))

  @Test func `Values of the tables are as specified`() throws {
    let known = KnownFile(
      file: file, inode: InodeKey(filesystem: 0x1234, identity: identity), isDerived: true,
      path: BytePath("/var/log/a"), born: WallTime(nanoseconds: 1_699_999_999_004_000_000), length: 69_632, root: root,
      tail: tail, size: 69_700, modified: WallTime(nanoseconds: 1_700_000_000_000_000_000), closed: .truncated,
      gapFrom: 65_536)
    #expect(encoded { $0.write(known) }.hex == Vectors.knownFile)
    #expect(encoded { $0.write(optional: Optional(file)) { $0.write($1) } }.hex == Vectors.gap)
    let life = UUIDBytes(high: 0xf0f1_f2f3_f4f5_4ef7, low: 0xb8f9_fafb_fcfd_feff)
    #expect(encoded { $0.write(FeedPosition(life: life, number: 256)) }.hex == Vectors.position)
    #expect(encoded { $0.write(DeliveredRow(length: 69_632, losses: 2)) }.hex == Vectors.delivered)
    let sequence = SequenceKey(journal: HostJournal(host: key.key.host, journal: journal), sequence: 3)
    let held = HeldJournal(
      key: sequence, publicKey: Self.digest(from: 0x40), length: 3,
      checkpoint: Checkpoint(
        host: key.key.host, journal: journal, length: 3, root: root, signature: Array(0x40..<0x80)),
      frontier: [root, tail], kept: KeptCheckpoint(length: 2, bytesSince: 150), fork: ForkPoint(base: 1, start: 2))
    #expect(encoded { $0.write([root, tail]) }.hex == Vectors.nodes)
    #expect(encoded { $0.write(Numbered(row: held, number: 0)) }.hex == Vectors.heldJournal)
    let string = StoredString(
      key: key, identity: identity, isDerived: false, path: BytePath("/var/log/a"),
      born: WallTime(nanoseconds: 1_699_999_999_004_000_000),
      received: WallTime(nanoseconds: 1_700_000_000_000_000_000),
      parent: Parent(file: FileUUID(journal.bytes), length: 4096, root: tail, why: .truncated), committed: 69_632,
      root: root, synced: 65_536, stored: BytePath("files/web1/var/log/a@x"), recorded: 70_000,
      gap: StoredGap(lower: 66_000, upper: 70_000), branch: BranchPoint(base: 2, start: 65_536, divergence: 65_600))
    #expect(encoded { $0.write(Numbered(row: string, number: 300)) }.hex == Vectors.storedString)
    #expect(encoded { $0.write(key) }.hex == Vectors.stringKey, "the value in names")
    var totals = HostTotals()
    totals.files = 1
    totals.open = 2
    totals.branches = 3
    totals.forks = 4
    totals.bytes = 5
    totals.records = 6
    totals.recordBytes = 7
    totals.promises = 8
    totals.names = 9
    #expect(encoded { $0.write(totals) }.hex == (1...9).map { "000000000000000\($0)" }.joined())
  }

  @Test func `Rows of the feed are as specified`() throws {
    let host = key.key.host
    let subjects: [(ChangedSubject, String)] = [
      (.journal(HostJournal(host: host, journal: journal)), Vectors.changedJournal),
      (.file(key.key), Vectors.changedFile),
    ]
    for (subject, vector) in subjects {
      let bytes = encoded { $0.write(subject) }
      #expect(bytes.hex == vector)
      var reader = ByteReader(bytes)
      #expect(try reader.readChangedSubject() == subject && reader.remaining == 0)
    }
    #expect(ServerTransaction.key(ofChange: 300).hex == Vectors.change)
    let life = UUIDBytes(high: 0xF0F1_F2F3_F4F5_4EF7, low: 0xB8F9_FAFB_FCFD_FEFF)
    let epochs = [Feed.Epoch(life: life, first: 1), Feed.Epoch(life: journal.bytes, first: 257)]
    let bytes = encoded { $0.write(epochs) }
    #expect(bytes.hex == Vectors.epochs)
    var reader = ByteReader(bytes)
    #expect(try reader.readEpochs() == epochs && reader.remaining == 0)
    #expect(ServerTransaction.key(ofPeer: "logs-b").hex == Vectors.peerKey)
    let cursor = FeedCursor(life: life, held: 255, seen: 256)
    #expect(encoded { $0.write(cursor) }.hex == Vectors.peer)
    // One encoding for each value: nothing else is a change, and no more epochs are kept.
    for wrong in [0, 3, 2] as [UInt8] {
      var reader = ByteReader([wrong])
      #expect(throws: DecodingFailure.self) { try reader.readChangedSubject() }
    }
    var many = ByteReader(encoded { $0.write([Feed.Epoch](repeating: epochs[0], count: Feed.mostEpochs + 1)) })
    #expect(throws: DecodingFailure.self) { try many.readEpochs() }
  }

  @Test func `Rows of the trie are those of the format`() throws {
    func digest(_ hex: some StringProtocol) throws -> Digest {
      var reader = ByteReader(try #require([UInt8](hex: String(hex))))
      return try reader.readDigest()
    }
    let leaf = TrieLeaf(
      position: try digest(Vectors.subjectKey), digest: try digest(Vectors.subject.prefix(64)), subject: .file(key.key))
    #expect(encoded { $0.write(leaf) }.hex == Vectors.subject)
    #expect(ServerTransaction.key(ofPosition: leaf.position).hex == Vectors.subjectKey)
    var reader = ByteReader(try #require([UInt8](hex: Vectors.subject)))
    #expect(try reader.readTrieLeaf(at: leaf.position) == leaf && reader.remaining == 0)
    #expect(ServerTransaction.key(of: TriePrefix.root.child(10).child(5).child(15)).hex == Vectors.trieKey)
    let parts = (0..<16).map { Self.digest(from: $0 * 8) }
    #expect(encoded { $0.write(parts) }.hex == Vectors.trie)
    let whole = HoldingsDigest(root: root, end: 257)
    #expect(encoded { $0.write(whole) }.hex == Vectors.digestRow)
    reader = ByteReader(try #require([UInt8](hex: Vectors.digestRow)))
    #expect(try reader.readHoldingsDigest() == whole && reader.remaining == 0)
  }

  @Test func `A change's number stands in the first row alone`() throws {
    for (string, isFirst) in [(0, true), (1, false)] as [(UInt32, Bool)] {
      let key = StringKey(key: key.key, string: string)
      var reader = ByteReader(encoded { $0.write(Numbered(row: storedString(key), number: 3)) })
      let stored = try? reader.readNumbered(key)
      #expect(isFirst ? stored?.number == 3 && stored?.row == storedString(key) : stored == nil)
      let sequence = SequenceKey(journal: HostJournal(host: key.key.host, journal: journal), sequence: string)
      let row = HeldJournal(key: sequence, publicKey: root, length: 0, checkpoint: nil, frontier: [])
      var other = ByteReader(encoded { $0.write(Numbered(row: row, number: 3)) })
      let held = try? other.readNumbered(sequence)
      #expect(isFirst ? held?.number == 3 && held?.row == row : held == nil)
    }
  }

  @Test func `Keys of the tables are as specified`() throws {
    #expect(encoded { $0.write(key) }.hex == Vectors.stringKey)
    #expect(ServerTransaction.logKey(key, 65_536).hex == Vectors.logKey)
    let sequence = SequenceKey(journal: HostJournal(host: key.key.host, journal: journal), sequence: 3)
    #expect(encoded { $0.write(sequence) }.hex == Vectors.sequenceKey)
    #expect(ServerTransaction.key(sequence, 127).hex == Vectors.nodesKey)
    #expect(ServerTransaction.key(sequence, 1_000).hex == Vectors.checkpointKey)
    let promise = Promise(key: key.key, length: 69_632, root: root)
    #expect(ServerTransaction.key(of: promise).hex == Vectors.promiseKey)
    #expect(ServerTransaction.key(ofName: root).hex == Vectors.nameKey)
    let named = ServerBatch.NamedFile(
      key: key.key, latest: BytePath("var/log/a"), born: WallTime(nanoseconds: 1_699_999_999_004_000_000))
    #expect(ServerTransaction.pathKey(named, root).hex == Vectors.pathKey)
    #expect(ServerTransaction.prefix(of: key.key.host).hex == "7765623100")
    #expect(ServerTransaction.identityKey(key.key, identity).hex == Vectors.identityKey)
    #expect(HostTransaction<CheapHash>.key("log1.example", file).hex == Vectors.deliveredKey)
    #expect(HostTransaction<CheapHash>.key("log1.example").hex == Vectors.positionKey)
    #expect(HostTransaction<CheapHash>.key(identity, file).hex == Vectors.ownIdentityKey)
    #expect(HostTransaction<CheapHash>.key(place: root, file).hex == Vectors.placeKey)
    #expect(HostTransaction<CheapHash>.lossKey("log1.example").hex == Vectors.lossKey)
  }
}
