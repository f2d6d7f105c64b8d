package import JournalModel
package import JournalStore
package import MerkleLog

/// A host's journal store in an LMDB environment of its own. Tables: `design/formats.md`, 'LMDB tables'.
package final class LMDBHostStore<H: TreeHasher>: HostJournalStore where H.Value == Digest {
  private let environment: Environment
  private let tables: HostTables

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
    tables = HostTables(try StoreKind.host.tables(HostTables.names, of: environment, access))
  }

  private func begin(_ access: Environment.Access) throws(StoreError) -> HostTransaction<H> {
    HostTransaction(try environment.begin(access), tables)
  }

  // MARK: Listings, which go on where a row can't be read (`Environment.list`)

  package func listRecords(
    from first: UInt64, _ body: (UInt64, [UInt8]) throws -> Bool
  ) throws -> [ListingDamage] {
    try environment.list(
      tables.records, from: encoded { $0.write(first) }, { (entry) throws(StoreError) in try entry.record(behind: 0) },
      body)
  }

  package func listFiles(_ body: (KnownFile) throws -> Bool) throws -> [ListingDamage] {
    try environment.list(
      tables.files, { (entry) throws(StoreError) in try HostTransaction<H>.knownFile(entry) }, body)
  }

  /// Without what a server has lost since.
  package func listDelivered(_ body: (Delivered) throws -> Bool) throws -> [ListingDamage] {
    var losses: [String: UInt64] = [:]
    return try environment.list(
      tables.delivered, { (entry) throws(StoreError) in try HostTransaction<H>.delivered(entry) },
      { note in
        let known = try losses[note.row.server] ?? begin(.reading).losses(of: note.row.server)
        losses[note.row.server] = known
        return try note.losses == known ? body(note.row) : true
      })
  }

  /// As many rows as the table of records says it has.
  package func recordCount() throws(StoreError) -> UInt64 { try environment.begin(.reading).count(of: tables.records) }

  package var oldReader: OldReader? { environment.oldReader }

  // MARK: The promise

  package func identity() throws(StoreError) -> JournalIdentity? {
    try begin(.reading).identity()
  }

  package func create(_ identity: JournalIdentity) throws(StoreError) {
    let transaction = try begin(.writing)
    guard try transaction.identity() == nil else { throw .alreadyExists }
    try transaction.put(identity)
    try transaction.commit()
  }

  package func length() throws(StoreError) -> UInt64 { try begin(.reading).head().size }

  package func commit(_ batch: HostBatch) throws(StoreError) -> JournalPosition {
    let transaction = try begin(.writing)
    guard try transaction.identity() != nil else { throw .failed("no journal has been created") }
    try batch.check(in: transaction)
    let head = try transaction.append(batch.records)
    try transaction.put(batch)
    try transaction.commit()
    return JournalPosition(length: head.size, root: head.root)
  }

  package func records(from first: UInt64, count: Int, bytes: Int) throws(StoreError) -> [[UInt8]] {
    try begin(.reading).records(from: first, count: count, bytes: bytes)
  }

  package func root(at length: UInt64) throws(StoreError) -> Digest { try begin(.reading).root(at: length) }
  package func files() throws(StoreError) -> [KnownFile] { try begin(.reading).files() }

  package func gaps() throws(StoreError) -> [StandingGap] { try begin(.reading).gaps() }

  package func leaves(of file: FileUUID, count: UInt64) throws(StoreError) -> [Digest] {
    try begin(.reading).leaves(of: file, count: count)
  }

  package func delivered(to server: String) throws(StoreError) -> [FileUUID: UInt64] {
    try begin(.reading).delivered(to: server)
  }

  package func delivered(to server: String, of file: FileUUID) throws(StoreError) -> UInt64? {
    try begin(.reading).delivered(to: server, of: file)
  }

  package func position(of server: String) throws(StoreError) -> FeedPosition? {
    try begin(.reading).position(of: server)
  }

  package func notedServers() throws(StoreError) -> [String] { try begin(.reading).notedServers() }

  package func file(_ file: FileUUID) throws(StoreError) -> KnownFile? { try begin(.reading).file(file) }

  package func living(servers: [String]) throws(StoreError) -> [StoredFile] {
    try begin(.reading).livingFiles(servers: servers)
  }

  package var number: UInt64 { environment.number }

  package func answer(_ query: HostQuery, servers: [String]) throws(StoreError) -> HostAnswer {
    try begin(.reading).answer(query, servers: servers)
  }
}
