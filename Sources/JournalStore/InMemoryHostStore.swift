package import JournalModel
package import MerkleLog
import Synchronization

/// The twin of the LMDB store in memory: for the simulator and for tests. Held to the same conformance suite.
///
/// A power cut is modelled by whoever drives it: what `snapshot()` gives after a commit is what survives, and
/// `init(state:)` is the restart. Snapshots share storage with the store until one of them changes (copy on write), so
/// take them when something is to be restored, not after every commit.
package final class InMemoryHostStore<H: TreeHasher>: HostJournalStore where H.Value == Digest {
  package struct State: Sendable {
    fileprivate var identity: JournalIdentity?
    fileprivate var records: [[UInt8]] = []
    fileprivate var frontier = Frontier<H>()
    /// Perfect subtrees by level and index; level 0 are the records' leaf hashes.
    fileprivate var nodes: [[Digest]] = []
    fileprivate var files: [FileUUID: KnownFile] = [:]
    fileprivate var alive: Set<FileUUID> = []
    /// Files that may come back, by their identity and, where that isn't usable, by their last path.
    fileprivate var byIdentity: [InodeIdentity: Set<FileUUID>] = [:]
    fileprivate var byPath: [BytePath: Set<FileUUID>] = [:]
    fileprivate var leaves: [FileUUID: [Digest]] = [:]
    fileprivate var delivered: [String: [FileUUID: UInt64]] = [:]
    fileprivate var positions: [String: FeedPosition] = [:]
    package fileprivate(set) var number: UInt64 = 0
    fileprivate var standing: [UInt64: StandingGap] = [:]
    package init() {}
  }

  private struct Guarded: Sendable {
    var state: State
    var fault = FaultPoint()
  }
  private let guarded: Mutex<Guarded>

  package init(state: State = State()) { guarded = Mutex(Guarded(state: state)) }

  package func snapshot() -> State { guarded.withLock { $0.state } }

  /// See `FaultPoint`.
  package func failNextCommit(with error: StoreError?, isApplied: Bool = false) {
    guarded.withLock { $0.fault.failNext(with: error, isApplied: isApplied) }
  }

  package func identity() throws(StoreError) -> JournalIdentity? { guarded.withLock { $0.state.identity } }

  package func create(_ identity: JournalIdentity) throws(StoreError) {
    try guarded.withLock { (guarded: inout Guarded) throws(StoreError) in
      try guarded.fault.checkUsable()
      guard guarded.state.identity == nil else { throw .alreadyExists }
      try guarded.fault.commit {
        guarded.state.identity = identity
        guarded.state.number += 1
      }
    }
  }

  package func length() throws(StoreError) -> UInt64 { guarded.withLock { $0.state.frontier.size } }

  package func commit(_ batch: HostBatch) throws(StoreError) -> JournalPosition {
    try guarded.withLock { (guarded: inout Guarded) throws(StoreError) in
      try guarded.fault.checkUsable()
      guard guarded.state.identity != nil else { throw .failed("no journal has been created") }
      try batch.check(in: guarded.state)
      try guarded.fault.commit { guarded.state.apply(batch) }
      return JournalPosition(length: guarded.state.frontier.size, root: guarded.state.frontier.root)
    }
  }

  package func records(from first: UInt64, count: Int, bytes: Int) throws(StoreError) -> [[UInt8]] {
    guarded.withLock { page(of: $0.state.records, from: first, count: count, bytes: bytes) }
  }

  package func root(at length: UInt64) throws(StoreError) -> Digest {
    try guarded.withLock { (guarded: inout Guarded) throws(StoreError) in
      guard length <= guarded.state.frontier.size else { throw .outOfRange }
      let nodes = guarded.state.nodes
      return Frontier<H>.at(size: length) { (address: NodeAddress) -> Digest in
        nodes[Int(address.level)][Int(address.index)]
      }.root
    }
  }

  package func files() throws(StoreError) -> [KnownFile] {
    guarded.withLock { $0.state.files.values.sorted { $0.file < $1.file } }
  }

  package func leaves(of file: FileUUID, count: UInt64) throws(StoreError) -> [Digest] {
    try guarded.withLock { (guarded: inout Guarded) throws(StoreError) in
      try firstLeaves(guarded.state.leaves[file] ?? [], count: count)
    }
  }

  package func delivered(to server: String) throws(StoreError) -> [FileUUID: UInt64] {
    guarded.withLock { $0.state.delivered[server] ?? [:] }
  }

  package func delivered(to server: String, of file: FileUUID) throws(StoreError) -> UInt64? {
    guarded.withLock { $0.state.delivered(to: server, of: file) }
  }

  package func position(of server: String) throws(StoreError) -> FeedPosition? {
    guarded.withLock { $0.state.positions[server] }
  }

  package func notedServers() throws(StoreError) -> [String] {
    guarded.withLock { $0.state.delivered.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } }
  }

  package func file(_ file: FileUUID) throws(StoreError) -> KnownFile? { guarded.withLock { $0.state.file(file) } }

  package func living(servers: [String]) throws(StoreError) -> [StoredFile] {
    try guarded.withLock { (guarded: inout Guarded) throws(StoreError) in
      try guarded.state.livingFiles(servers: servers)
    }
  }

  package var number: UInt64 { guarded.withLock { $0.state.number } }

  package func answer(_ query: HostQuery, servers: [String]) throws(StoreError) -> HostAnswer {
    try snapshot().answer(query, servers: servers)
  }

  package func gaps() throws(StoreError) -> [StandingGap] {
    guarded.withLock { $0.state.gaps() }
  }
}

extension InMemoryHostStore.State: HostSnapshot {
  package func file(_ file: FileUUID) -> KnownFile? { files[file] }
  package func files(having identity: InodeIdentity) -> [FileUUID] { (byIdentity[identity] ?? []).sorted() }
  package func files(lastAt path: BytePath) -> [FileUUID] { (byPath[path] ?? []).sorted() }
  package func living() -> [FileUUID] { alive.sorted() }
  package func gaps() -> [StandingGap] { standing.values.sorted { $0.record < $1.record } }
  package func files(after file: FileUUID?, count: Int) -> [FileUUID] {
    Array(files.keys.filter { key in file.map { $0 < key } ?? true }.sorted().prefix(count))
  }
  package func delivered(to server: String, of file: FileUUID) -> UInt64? { delivered[server]?[file] }
}

extension InMemoryHostStore.State: HostJournalView {
  package func leaf(of file: FileUUID, at index: UInt64) -> Digest? { leaves[file]?.element(at: index) }

  fileprivate mutating func apply(_ batch: HostBatch) {
    for record in batch.records { append(record) }
    number += 1
    for file in batch.files { put(file) }
    for range in batch.leaves { leaves[range.file, default: []].extend(from: range.first, with: range.hashes) }
    for server in batch.forgotten {
      delivered[server] = nil
      positions[server] = nil
    }
    for row in batch.delivered { delivered[row.server, default: [:]][row.file] = row.length }
    for row in batch.positions { positions[row.server] = row.position }
    for gap in batch.gaps { standing[gap.record] = gap }
    for number in batch.healed { standing[number] = nil }
  }

  private mutating func put(_ row: KnownFile) {
    if let old = files.updateValue(row, forKey: row.file) { index(old, isThere: false) }
    index(row, isThere: true)
  }

  private mutating func index(_ row: KnownFile, isThere: Bool) {
    func change(_ files: inout Set<FileUUID>) {
      if isThere { files.insert(row.file) } else { files.remove(row.file) }
    }
    if row.isLiving { change(&alive) }
    guard row.mayComeBack else { return }
    let identity = row.inode.identity
    change(&byIdentity[identity, default: []])
    if byIdentity[identity]?.isEmpty == true { byIdentity[identity] = nil }
    guard !identity.isUsable else { return }
    change(&byPath[row.path, default: []])
    if byPath[row.path]?.isEmpty == true { byPath[row.path] = nil }
  }

  private mutating func append(_ record: [UInt8]) {
    let leaf = H.leaf(record.span.bytes)
    put(leaf, level: 0)
    var completed: [Digest] = []
    frontier.append(leaf) { _, value in completed.append(value) }
    for (level, value) in completed.enumerated() { put(value, level: level + 1) }
    records.append(record)
  }

  private mutating func put(_ value: Digest, level: Int) {
    if nodes.count == level { nodes.append([]) }
    nodes[level].append(value)
  }
}

/// Records from `first`: at least one if there is one, at most `count` and about `bytes` bytes.
func page(of records: [[UInt8]], from first: UInt64, count: Int, bytes: Int) -> [[UInt8]] {
  guard first < UInt64(records.count), count > 0 else { return [] }
  var page: [[UInt8]] = []
  var size = 0
  for record in records[Int(first)...].prefix(count) {
    if !page.isEmpty, size + record.count > bytes { break }
    page.append(record)
    size += record.count
  }
  return page
}

func firstLeaves(_ leaves: [Digest], count: UInt64) throws(StoreError) -> [Digest] {
  guard count <= UInt64(leaves.count) else { throw .outOfRange }
  return Array(leaves.prefix(Int(count)))
}

extension [Digest] {
  func element(at index: UInt64) -> Digest? { index < UInt64(count) ? self[Int(index)] : nil }

  /// Appends what of `hashes`, which begin at index `first`, isn't held yet.
  mutating func extend(from first: UInt64, with hashes: [Digest]) {
    let known = count - Int(first)
    if known < hashes.count { append(contentsOf: hashes[known...]) }
  }
}
