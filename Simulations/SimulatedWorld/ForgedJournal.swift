import JournalModel
import MerkleLog
import WireProtocol

/// A journal that an adversary makes up: correctly signed, whatever it says.
struct ForgedJournal {
  let host: HostName
  let id: JournalID
  let publicKey: Digest
  private(set) var records: [[UInt8]] = []
  private(set) var files: [(FileUUID, [UInt8])] = []
  /// Files whose records claim lengths at the end of all numbers.
  private(set) var hugeFiles: [FileUUID] = []
  var signsWrongly = false

  init(host: HostName, seed: UInt64, random: inout RandomStream) {
    self.host = host
    id = JournalID(Self.uuid(&random))
    publicKey = SimulatedSignatures.publicKey(of: host, seed: seed)
    var opened = JournalOpened(host: host, journal: id, publicKey: publicKey, binding: .journalKey(signature: []))
    opened.binding = .journalKey(signature: SimulatedSignatures.sign(opened.bindingBytes, publicKey: publicKey))
    add(.journalOpened(opened))
  }

  private static func uuid(_ random: inout RandomStream) -> UUIDBytes {
    UUIDBytes(high: random.next(), low: random.next()).marked(version: 4)
  }

  var hello: Frame { .hello(Hello(oldest: 1, newest: 1, host: host, journal: id, publicKey: publicKey)) }

  private mutating func add(_ body: RecordBody) {
    records.append(Record(time: WallTime(nanoseconds: Int64(records.count)), body: body).encoded())
  }

  private mutating func bear(_ file: FileUUID, _ identity: InodeIdentity, _ path: BytePath) {
    let now = WallTime(nanoseconds: 1)
    add(
      .fileBorn(
        FileBorn(
          file: file, identity: identity, isDerived: false, path: path, realPath: path, mode: 0o100644, owner: 0,
          group: 0, born: now, modified: now)))
  }

  private static func identity(_ random: inout RandomStream) -> InodeIdentity {
    InodeIdentity(number: random.next(), generation: random.next() >> 32, birth: WallTime(nanoseconds: 1))
  }

  mutating func addFile(bytes: [UInt8], limits: Limits, random: inout RandomStream) {
    let names = ["/log/main.log", "/../../etc/passwd", "/", "/a/./b//c", "/log/~new", "/latest/web0"]
    let file = FileUUID(Self.uuid(&random))
    addFile(file, Self.identity(&random), path: BytePath(random.pick(names)), bytes: bytes, limits: limits)
  }

  mutating func addFile(_ file: FileUUID, _ identity: InodeIdentity, path: BytePath, bytes: [UInt8], limits: Limits) {
    bear(file, identity, path)
    var tree = FileTree<SimulatedTree>(leafSize: limits.leafSize)
    for start in stride(from: 0, to: bytes.count, by: max(1, limits.extentSize)) {
      let extent = Array(bytes[start..<min(bytes.count, start + max(1, limits.extentSize))])
      tree.append(extent.span.bytes)
      add(
        .bytesAppended(
          BytesAppended(file: file, offset: UInt64(start), length: UInt64(extent.count), root: tree.root)))
    }
    files.append((file, bytes))
  }

  /// The journal as it was after so many records, and goes on otherwise.
  func forked(at length: Int, limits: Limits, random: inout RandomStream) -> ForgedJournal {
    var other = self
    other.records = Array(records.prefix(length))
    other.files = []
    for count in [1 + random.below(90), 1 + random.below(30)] {
      other.addFile(bytes: random.bytes(count), limits: limits, random: &random)
    }
    return other
  }

  /// The root over its first records, if it has as many.
  func root(at length: UInt64) -> Digest? {
    guard length <= UInt64(records.count) else { return nil }
    var frontier = Frontier<SimulatedTree>()
    for record in records.prefix(Int(length)) { frontier.append(SimulatedTree.leaf(record.span.bytes)) }
    return frontier.root
  }

  /// The longest of these heads that lies on it.
  func longest(of heads: [TreeHead]) -> TreeHead? {
    heads.filter { $0.length > 0 && $0.root == root(at: $0.length) }.max { $0.length < $1.length }
  }

  /// Other bytes under the uuids of another journal's files, some with the same beginning.
  mutating func addBranches(of other: ForgedJournal, limits: Limits, random: inout RandomStream) {
    for (file, bytes) in other.files {
      let shared = random.chance(500_000) ? random.below(bytes.count + 1) : 0
      let own = Array(bytes.prefix(shared)) + random.bytes(1 + random.below(220))
      addFile(file, Self.identity(&random), path: BytePath("/log/main.log"), bytes: own, limits: limits)
    }
  }

  func root(of file: FileUUID, at length: UInt64, limits: Limits) -> Digest? {
    guard let (_, bytes) = files.first(where: { $0.0 == file }), length <= UInt64(bytes.count) else { return nil }
    var tree = FileTree<SimulatedTree>(leafSize: limits.leafSize)
    tree.append(Array(bytes.prefix(Int(length))).span.bytes)
    return tree.root
  }

  mutating func addHugeRecords(random: inout RandomStream) {
    let claims: [(UInt64, UInt64)] = [(0, .max), (.max - 1, 1), (1 << 63, 1 << 62)]
    for (offset, length) in claims {
      let file = FileUUID(Self.uuid(&random))
      bear(file, Self.identity(&random), BytePath("/log/huge"))
      add(.bytesAppended(BytesAppended(file: file, offset: offset, length: length, root: publicKey)))
      hugeFiles.append(file)
    }
  }

  func frames(from first: Int, limits: Limits) -> [Frame] {
    Records.frames(first: UInt64(first), encoded: Array(records[first...]), limits: limits) { checkpoint($0) }
  }

  private func checkpoint(_ length: UInt64) -> Checkpoint {
    var frontier = Frontier<SimulatedTree>()
    for record in records.prefix(Int(length)) { frontier.append(SimulatedTree.leaf(record.span.bytes)) }
    var checkpoint = Checkpoint(host: host, journal: id, length: length, root: frontier.root, signature: [])
    checkpoint.signature = SimulatedSignatures.sign(checkpoint.signedBytes, publicKey: publicKey)
    if signsWrongly { checkpoint.signature[0] ^= 1 }
    return checkpoint
  }
}
