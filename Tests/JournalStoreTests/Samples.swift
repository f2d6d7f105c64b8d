import JournalModel
import JournalStore
import MerkleLog
import Testing

func host(_ name: String) throws -> HostName { try #require(HostName(name)) }
func uuid(_ number: UInt64) -> FileUUID { FileUUID(UUIDBytes(high: number << 8, low: ~number)) }
func journalID(_ number: UInt64) -> JournalID { JournalID(UUIDBytes(high: 7, low: number)) }
func digest(_ number: UInt64) -> Digest { Digest(words: number, number &* 3, ~number, 5) }
func record(_ number: Int, size: Int = 20) -> [UInt8] {
  (0..<size).map { UInt8(truncatingIfNeeded: $0 &+ number &* 31) }
}

func journalIdentity() throws -> JournalIdentity {
  JournalIdentity(host: try host("web1"), journal: journalID(1), publicKey: digest(77))
}

let plainIdentity = InodeIdentity(number: 12, generation: 34, birth: WallTime(nanoseconds: 56))
let poorIdentity = InodeIdentity(number: 12, generation: nil, birth: nil)
let btrfsIdentity = InodeIdentity(
  number: .max, generation: 0, birth: WallTime(nanoseconds: -1), subvolume: UUIDBytes(high: 1, low: 2))

func knownFile(_ number: UInt64, length: UInt64 = 100, identity: InodeIdentity = plainIdentity) -> KnownFile {
  KnownFile(
    file: uuid(number), inode: InodeKey(filesystem: 9, identity: identity), isDerived: true,
    path: BytePath([0x2F, 0xFF, 0x0A]), born: WallTime(nanoseconds: -5), length: length, root: digest(length),
    tail: digest(length + 1), size: length + 3, modified: WallTime(nanoseconds: 8))
}

func stringKey(_ host: HostName, _ file: UInt64, _ string: UInt32 = 0) -> StringKey {
  StringKey(key: FileKey(host: host, file: uuid(file)), string: string)
}

/// A row that is wholly synced unless `synced` says otherwise.
func storedString(
  _ key: StringKey, committed: UInt64 = 0, synced: UInt64? = nil, identity: InodeIdentity = plainIdentity,
  branch: BranchPoint? = nil
) -> StoredString {
  StoredString(
    key: key, identity: identity, isDerived: true, path: BytePath("/var/log/a b"), born: WallTime(nanoseconds: 1),
    received: WallTime(nanoseconds: 2), parent: nil, committed: committed, root: digest(committed),
    synced: synced ?? committed,
    stored: BytePath("files/\(key.key.host)/x@\(key.key.file.bytes.high).\(key.string)"), recorded: committed,
    branch: key.string == 0 ? nil : branch ?? BranchPoint(start: 0, divergence: 0))
}

func logPayload(_ key: StringKey, at offset: UInt64, _ bytes: [UInt8]) -> ServerBatch.LogPayload {
  ServerBatch.LogPayload(key: key, offset: offset, bytes: bytes)
}

/// A run of records with the row that belongs to it. `held` are those before it, another sequence's too; of `kept` many
/// records a checkpoint stays, after that of `last`.
func run(
  _ host: HostName, journal: UInt64 = 1, sequence: UInt32 = 0, fork: ForkPoint? = nil, held: [[UInt8]] = [],
  _ records: [[UInt8]], key: Digest = digest(77), kept: [Int] = [], last: Int = 0
) -> ServerBatch.RecordRun {
  let sequence = SequenceKey(journal: HostJournal(host: host, journal: journalID(journal)), sequence: sequence)
  var frontier = Frontier<CheapHash>()
  for record in held { _ = frontier.append(record: record) }
  var nodes: [JournalNodes] = []
  var checkpoints: [Checkpoint] = []
  func checkpoint() -> Checkpoint {
    Checkpoint(
      host: host, journal: journalID(journal), length: frontier.size, root: frontier.root,
      signature: [UInt8](repeating: 9, count: 64))
  }
  if kept.contains(held.count) { checkpoints.append(checkpoint()) }
  for record in records {
    if let completed = frontier.append(record: record) { nodes.append(completed) }
    if kept.contains(Int(frontier.size)) { checkpoints.append(checkpoint()) }
  }
  let row = HeldJournal(
    key: sequence, publicKey: key, length: frontier.size, checkpoint: frontier.size == 0 ? nil : checkpoint(),
    frontier: frontier.subtrees, kept: KeptCheckpoint(length: UInt64(kept.last ?? last)), fork: fork)
  return ServerBatch.RecordRun(
    first: UInt64(held.count), encoded: records, after: row, checkpoints: checkpoints, nodes: nodes)
}

extension HostBatch {
  init(_ change: (inout HostBatch) -> Void) {
    self.init()
    change(&self)
  }
}

extension ServerBatch {
  init(_ change: (inout ServerBatch) -> Void) {
    self.init()
    change(&self)
  }
}

extension StoreError {
  enum Kind { case alreadyExists, outOfRange, full, corrupt, failedSync, failed }
  var kind: Kind {
    switch self {
    case .alreadyExists: .alreadyExists
    case .outOfRange: .outOfRange
    case .full: .full
    case .corrupt, .damaged: .corrupt
    case .refused(_, let why): why.kind
    case .failedSync: .failedSync
    case .failed: .failed
    }
  }
}

/// Expects `body` to throw an error of this kind.
func expect(
  _ kind: StoreError.Kind, _ location: SourceLocation = #_sourceLocation, _ body: () throws(StoreError) -> Void
) {
  do throws(StoreError) {
    try body()
    Issue.record("nothing was thrown", sourceLocation: location)
  } catch {
    #expect(error.kind == kind, "\(error)", sourceLocation: location)
  }
}

extension FeedCursor {
  /// All is held that was given.
  init(life: UUIDBytes, upTo number: UInt64) { self.init(life: life, held: number, seen: number) }
}
