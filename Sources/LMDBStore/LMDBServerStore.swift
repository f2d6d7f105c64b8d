package import JournalModel
package import JournalStore
package import MerkleLog
import Synchronization

/// A server's holdings in an LMDB environment of its own. Tables: `design/formats.md`, 'LMDB tables'.
package final class LMDBServerStore<H: TreeHasher>: ServerHoldingsStore where H.Value == Digest {
  private let environment: Environment
  private let tables: ServerTables
  private let life = Mutex<UUIDBytes?>(nil)

  /// Opens the store in `directory` for writing, and makes both (mode 0700) if there is none. Throws `.failed` while
  /// another process has it open for writing, or when it was written in a version that this program doesn't know.
  package convenience init(at directory: String) throws(StoreError) {
    try self.init(Environment(at: directory, .writing), .writing)
  }

  /// Opens an existing store for reading only: beside the node that writes it, or a copied directory. Not in a process
  /// that has it open already.
  package convenience init(readingAt directory: String) throws(StoreError) {
    try self.init(Environment(at: directory, .reading), .reading)
  }

  init(_ environment: Environment, _ access: Environment.Access) throws(StoreError) {
    self.environment = environment
    tables = ServerTables(try StoreKind.server.tables(ServerTables.names, of: environment, access))
  }

  private func begin(_ access: Environment.Access) throws(StoreError) -> ServerTransaction {
    ServerTransaction(try environment.begin(access), tables)
  }

  // MARK: Listings, which go on where a row can't be read (`Environment.list`)

  package func listJournals(_ body: (HeldJournal) throws -> Bool) throws -> [ListingDamage] {
    try environment.list(
      tables.journals, { (entry) throws(StoreError) in try ServerTransaction.journal(entry) }, body)
  }

  package func listStrings(_ body: (StoredString) throws -> Bool) throws -> [ListingDamage] {
    try environment.list(tables.strings, { (entry) throws(StoreError) in try ServerTransaction.string(entry) }, body)
  }

  /// Those of its own.
  package func listRecords(
    of sequence: SequenceKey, from first: UInt64, _ body: (UInt64, [UInt8]) throws -> Bool
  ) throws -> [ListingDamage] {
    let prefix = encoded { $0.write(sequence) }
    return try environment.list(
      tables.records, prefix: prefix, from: ServerTransaction.key(sequence, first),
      { (entry) throws(StoreError) in try entry.record(behind: prefix.count) }, body)
  }

  package var oldReader: OldReader? { environment.oldReader }

  // MARK: The promise

  package func startMarks() throws(StoreError) -> StartMarks? { try begin(.reading).startMarks() }

  package func setStartMarks(_ marks: StartMarks) throws(StoreError) {
    let transaction = try begin(.writing)
    try transaction.put(marks)
    try transaction.beginEpoch(of: marks.present.life)
    try transaction.commit()
  }

  package func begin(_ life: UUIDBytes) { self.life.withLock { $0 = life } }
  package func feed() throws(StoreError) -> Feed { try begin(.reading).feed() }
  package func cursor(of peer: String) throws(StoreError) -> FeedCursor? { try begin(.reading).cursor(of: peer) }

  package func totals() throws(StoreError) -> [HostName: HostTotals] { try begin(.reading).totals() }

  @discardableResult
  package func commit(_ batch: ServerBatch) throws(StoreError) -> ServerCommitted {
    let transaction = try begin(.writing)
    try batch.check(in: transaction, hasher: H.self)
    let committed = try transaction.put(batch, in: life.withLock { $0 }, hasher: H.self)
    try transaction.commit(usesReserve: batch.addsNothing)
    return committed
  }

  package func journals() throws(StoreError) -> [HeldJournal] { try begin(.reading).journals() }
  package func strings() throws(StoreError) -> [StoredString] { try begin(.reading).strings() }
  package func promises() throws(StoreError) -> [Promise] { try begin(.reading).promises() }
  package func unfinished() throws(StoreError) -> [StringKey] { try begin(.reading).unfinished() }
  package func logRanges() throws(StoreError) -> [LogRange] { try begin(.reading).logRanges() }

  package func logRanges(of key: StringKey) throws(StoreError) -> [LogRange] { try begin(.reading).logRanges(of: key) }
  package var number: UInt64 { environment.number }
  package func answer(_ query: StoreQuery) throws(StoreError) -> StoreAnswer {
    try begin(.reading).answer(query, hasher: H.self)
  }
  package func newest(host: HostName, latest: BytePath) throws(StoreError) -> StoredString? {
    try begin(.reading).newest(host, latest, hasher: H.self)
  }

  package func logPayload(of key: StringKey, offset: UInt64) throws(StoreError) -> [UInt8] {
    guard let bytes = try begin(.reading).heldPayload(of: key, at: offset) else { throw .outOfRange }
    return bytes
  }

  package func records(
    of key: SequenceKey, from first: UInt64, count: Int, bytes: Int
  ) throws(StoreError) -> [[UInt8]] {
    try begin(.reading).records(of: key, from: first, count: count, bytes: bytes)
  }

  package func checkpoint(of key: SequenceKey, beyond length: UInt64) throws(StoreError) -> Checkpoint? {
    try begin(.reading).checkpoint(of: key, beyond: length)
  }

  package func leaves(of key: StringKey, count: UInt64) throws(StoreError) -> [Digest] {
    try begin(.reading).leaves(of: key, count: count)
  }

  package func files(host: HostName, identity: InodeIdentity) throws(StoreError) -> [FileUUID] {
    try begin(.reading).files(host, identity)
  }
}

extension ServerBatch {
  /// Only rows change, promises are met and log payload is trimmed: after it there is more room than before.
  fileprivate var addsNothing: Bool {
    records.isEmpty && promises.isEmpty && leaves.isEmpty && log.isEmpty && cursors.isEmpty
      && folded == 0 && !(met.isEmpty && trims.isEmpty)
  }
}
