import JournalModel
import MerkleLog
import WireProtocol

/// What the host of the small world has journaled, all of it before the world begins.
struct ExhaustiveJournal {
  struct File {
    let id: FileUUID
    let bytes: [UInt8]
  }
  let host: HostName
  let id = JournalID(UUIDBytes(high: 7, low: 7).marked(version: 4))
  let publicKey: Digest
  let files: [File]
  private(set) var records: [[UInt8]] = []
  private let scope: ExhaustiveScope
  /// Over so many records.
  private var checkpoints: [Checkpoint] = []
  private var frontier = Frontier<SimulatedTree>()

  init?(_ scope: ExhaustiveScope) {
    guard let host = HostName("web1") else { return nil }
    self.scope = scope
    self.host = host
    publicKey = SimulatedSignatures.publicKey(of: host, seed: 1)
    files = (0..<2).map { number in
      File(
        id: FileUUID(UUIDBytes(high: UInt64(number + 1) << 40, low: UInt64(number + 1)).marked(version: 8)),
        bytes: scope.bytes(of: number))
    }
    var opened = JournalOpened(host: host, journal: id, publicKey: publicKey, binding: .journalKey(signature: []))
    opened.binding = .journalKey(signature: SimulatedSignatures.sign(opened.bindingBytes, publicKey: publicKey))
    checkpoints.append(checkpoint())
    add(.journalOpened(opened))
    for number in 0..<min(scope.records, 2) { add(birth(of: number)) }
    for file in files where !file.bytes.isEmpty {
      let end = UInt64(file.bytes.count)
      add(.bytesAppended(BytesAppended(file: file.id, offset: 0, length: end, root: root(of: file.id, at: end))))
    }
  }

  private func birth(of number: Int) -> RecordBody {
    let path = BytePath(number == 0 ? "/log/a" : "/log/b")
    let time = WallTime(nanoseconds: 1_700_000_000_000_000_000)
    let identity = InodeIdentity(number: UInt64(number + 2), generation: 1, birth: time)
    return .fileBorn(
      FileBorn(
        file: files[number].id, identity: identity, isDerived: true, path: path, realPath: path, mode: 0o100644,
        owner: 0, group: 0, born: time, modified: time))
  }

  private mutating func add(_ body: RecordBody) {
    let encoded = Record(time: WallTime(nanoseconds: Int64(records.count)), body: body).encoded()
    records.append(encoded)
    frontier.append(SimulatedTree.leaf(encoded.span.bytes))
    checkpoints.append(checkpoint())
  }

  private func checkpoint() -> Checkpoint {
    var made = Checkpoint(
      host: host, journal: id, length: UInt64(records.count), root: frontier.root, signature: [])
    made.signature = SimulatedSignatures.sign(made.signedBytes, publicKey: publicKey)
    return made
  }

  /// Nil beyond the journal's end.
  func checkpoint(at length: UInt64) -> Checkpoint? {
    length < UInt64(checkpoints.count) ? checkpoints[Int(length)] : nil
  }

  var bornFiles: Int { min(scope.records, files.count) }
  func index(of file: FileUUID) -> Int? { files.firstIndex { $0.id == file } }
  func file(_ key: StringKey) -> File? { files.first { $0.id == key.key.file } }
  func key(of file: Int) -> StringKey { StringKey(key: FileKey(host: host, file: files[file].id), string: 0) }

  /// The root of a file's first bytes; that of all of them where it isn't as long.
  func root(of file: FileUUID, at length: UInt64) -> Digest {
    var tree = FileTree<SimulatedTree>(leafSize: scope.limits.leafSize)
    if let found = files.first(where: { $0.id == file }) {
      tree.append(Array(found.bytes.prefix(Int(clamping: length))).span.bytes)
    }
    return tree.root
  }

  var hello: Frame { .hello(Hello(oldest: 1, newest: 1, host: host, journal: id, publicKey: publicKey)) }

  /// What is left of the journal, in the frames that the scope says: the last records go alone, the others together.
  func frames(from first: UInt64) -> [Frame] {
    var ends: [UInt64] = []
    for back in 0..<max(1, scope.recordFrames) { ends.append(UInt64(max(0, records.count - back))) }
    var frames: [Frame] = []
    var next = first
    for end in ends.reversed() where end > next {
      guard let checkpoint = checkpoint(at: end) else { break }
      frames.append(
        .records(Records(first: next, encoded: Array(records[Int(next)..<Int(end)]), checkpoint: checkpoint)))
      next = end
    }
    return frames
  }

  func payload(of file: Int, from offset: UInt64) -> [ExhaustiveHost.Sent] {
    let bytes = files[file].bytes
    let size = max(1, (bytes.count + scope.frames - 1) / scope.frames)
    return stride(from: Int(clamping: offset), to: bytes.count, by: size).map { start in
      let piece = Array(bytes[start..<min(start + size, bytes.count)])
      return .payload(PayloadHeader(file: files[file].id, offset: UInt64(start), length: piece.count), piece)
    }
  }
}
