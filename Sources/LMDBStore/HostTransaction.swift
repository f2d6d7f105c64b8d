import JournalModel
import JournalStore
import MerkleLog

struct HostTables: Sendable {
  static let names = [
    "records", "nodes", "files", "leaves", "delivered", "gaps", "living", "identities", "places", "positions",
  ]
  let meta, records, nodes, files, leaves, delivered, gaps, living, identities, places, positions: Table

  /// The tables in the order of `names`, the table of versions first.
  init(_ tables: [Table]) {
    meta = tables[0]
    records = tables[1]
    nodes = tables[2]
    files = tables[3]
    leaves = tables[4]
    delivered = tables[5]
    gaps = tables[6]
    living = tables[7]
    identities = tables[8]
    places = tables[9]
    positions = tables[10]
  }
}

/// One transaction over a host's tables.
struct HostTransaction<H: TreeHasher>: ~Copyable where H.Value == Digest {
  private let transaction: Transaction
  private let tables: HostTables

  init(_ transaction: consuming Transaction, _ tables: HostTables) {
    self.transaction = transaction
    self.tables = tables
  }

  consuming func commit() throws(StoreError) { try transaction.commit() }

  // MARK: Journal

  private static var identityKey: [UInt8] { Array("identity".utf8) }
  private static var headKey: [UInt8] { Array("head".utf8) }

  func identity() throws(StoreError) -> JournalIdentity? {
    try transaction.row(Self.identityKey, in: tables.meta) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readJournalIdentity()
    }
  }

  func put(_ identity: JournalIdentity) throws(StoreError) {
    try transaction.put(encoded { $0.write(identity) }, at: Self.identityKey, in: tables.meta, .new)
  }

  /// Length and frontier of the journal. Throws `.corrupt` when the table of records has another length.
  func head() throws(StoreError) -> Frontier<H> {
    let head = try transaction.row(Self.headKey, in: tables.meta) {
      (reader: inout ByteReader) throws(DecodingFailure) in
      let size: UInt64 = try reader.read()
      return Frontier<H>(size: size, subtrees: try reader.readDigests(count: size.nonzeroBitCount))
    }
    let frontier = head ?? Frontier<H>()
    let count = try transaction.count(of: tables.records)
    guard count == frontier.size else {
      throw .corrupt("meta head: length \(frontier.size), but the table of records has \(count) rows")
    }
    return frontier
  }

  /// Appends records with the perfect subtrees that each completes.
  func append(_ records: [[UInt8]]) throws(StoreError) -> Frontier<H> {
    var head = try head()
    guard !records.isEmpty else { return head }
    for record in records {
      let address = encoded { $0.write(head.size) }
      var completed = [H.leaf(record.span.bytes)]
      head.append(completed[0]) { completed.append($1) }
      try transaction.put(record, at: address, in: tables.records, .last)
      try transaction.put(encoded { $0.write(completed) }, at: address, in: tables.nodes, .last)
    }
    let row = encoded { writer in
      writer.write(head.size)
      writer.write(head.subtrees)
    }
    try transaction.put(row, at: Self.headKey, in: tables.meta)
    return head
  }

  func records(from first: UInt64, count: Int, bytes: Int) throws(StoreError) -> [[UInt8]] {
    try transaction.page(of: tables.records, prefix: [], from: first, count: count, bytes: bytes)
  }

  func root(at length: UInt64) throws(StoreError) -> Digest {
    guard try length <= head().size else { throw .outOfRange }
    return try Frontier<H>.at(size: length) { (address) throws(StoreError) in try node(address) }.root
  }

  /// A perfect subtree stands in the row of the leaf that completes it, lowest level first.
  private func node(_ address: NodeAddress) throws(StoreError) -> Digest {
    let last = ((address.index + 1) << UInt64(address.level)) - 1
    let row = encoded { $0.write(last) }
    let subtrees = try transaction.row(row, in: tables.nodes) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readDigests(count: 1 + (last + 1).trailingZeroBitCount)
    }
    guard let subtrees, subtrees.indices.contains(Int(address.level)) else {
      throw .corrupt("nodes \(row.hex): missing")
    }
    return subtrees[Int(address.level)]
  }

  // MARK: Files

  /// Everything of the batch but its records.
  func put(_ batch: HostBatch) throws(StoreError) {
    for file in batch.files { try put(file) }
    for range in batch.leaves {
      try transaction.put(range.hashes, from: range.first, prefix: encoded { $0.write(range.file) }, in: tables.leaves)
    }
    try put(batch.delivered, forgetting: batch.forgotten)
    for row in batch.positions {
      try transaction.put(encoded { $0.write(row.position) }, at: Self.key(row.server), in: tables.positions)
    }
    for gap in batch.gaps {
      let subject = encoded {
        $0.write(optional: gap.file) { $0.write($1) }
        $0.write(gap.upper)
      }
      try transaction.put(subject, at: encoded { $0.write(gap.record) }, in: tables.gaps)
    }
    for number in batch.healed { try transaction.remove(encoded { $0.write(number) }, from: tables.gaps) }
  }

  /// With what finds it in the other tables, in place of what found it before.
  private func put(_ row: KnownFile) throws(StoreError) {
    let key = encoded { $0.write(row.file) }
    let old: KnownFile?
    // One that is damaged is whole again after this; what found it before leads to a row that isn't such any more.
    do throws(StoreError) { old = try file(row.file) } catch {
      guard case .corrupt = error else { throw error }
      old = nil
    }
    try transaction.put(encoded { $0.write(row) }, at: key, in: tables.files)
    let before = old.map { Self.index($0) } ?? Index()
    let now = Self.index(row)
    for (table, before, now) in [
      (tables.living, before.living, now.living), (tables.identities, before.identity, now.identity),
      (tables.places, before.place, now.place),
    ] where before != now {
      if let before { try transaction.remove(before, from: table) }
      if let now { try transaction.put([], at: now, in: table) }
    }
    if old == nil, now.living == nil { try transaction.remove(key, from: tables.living) }
  }

  /// Keys that lead to a row.
  private struct Index {
    var living: [UInt8]?
    var identity: [UInt8]?
    var place: [UInt8]?
  }

  private static func index(_ row: KnownFile) -> Index {
    var index = Index(living: row.isLiving ? encoded { $0.write(row.file) } : nil)
    guard row.mayComeBack else { return index }
    index.identity = key(row.inode.identity, row.file)
    if !row.inode.identity.isUsable { index.place = key(place: H.digest(row.path.bytes.span.bytes), row.file) }
    return index
  }

  static func key(_ identity: InodeIdentity, _ file: FileUUID) -> [UInt8] {
    encoded { writer in
      writer.write(identity)
      writer.write(file)
    }
  }

  static func key(place: Digest, _ file: FileUUID) -> [UInt8] {
    encoded { writer in
      writer.write(place)
      writer.write(file)
    }
  }

  /// The uuids behind a prefix of keys that end in one.
  private func owners(in table: Table, prefix: [UInt8]) throws(StoreError) -> [FileUUID] {
    var files: [FileUUID] = []
    try transaction.scan(table, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      files.append(
        try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
          _ = try reader.readRaw(count: prefix.count)
          return try reader.readFile()
        } value: { (file, _: inout ByteReader) throws(DecodingFailure) in
          file
        })
      return true
    }
    return files
  }

  func files() throws(StoreError) -> [KnownFile] {
    var files: [KnownFile] = []
    try transaction.scan(tables.files, from: []) { (entry) throws(StoreError) in
      files.append(try Self.knownFile(entry))
      return true
    }
    return files
  }

  static func knownFile(_ entry: Transaction.Entry) throws(StoreError) -> KnownFile {
    try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readFile()
    } value: { (file, reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readKnownFile(file)
    }
  }

  func gaps() throws(StoreError) -> [StandingGap] {
    var gaps: [StandingGap] = []
    try transaction.scan(tables.gaps, from: []) { (entry) throws(StoreError) in
      gaps.append(
        try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
          try reader.read(UInt64.self)
        } value: { (record, reader: inout ByteReader) throws(DecodingFailure) in
          StandingGap(
            record: record,
            file: try reader.readOptional { (reader: inout ByteReader) throws(DecodingFailure) in
              try reader.readFile()
            }, upper: try reader.read())
        })
      return true
    }
    return gaps
  }

  func leaves(of file: FileUUID, count: UInt64) throws(StoreError) -> [Digest] {
    try transaction.leaves(in: tables.leaves, prefix: encoded { $0.write(file) }, count: count)
  }

  // MARK: Acknowledgements

  static func key(_ server: String, _ file: FileUUID) -> [UInt8] {
    encoded { writer in
      writer.write(name: server)
      writer.write(file)
    }
  }

  private func put(_ notes: [Delivered], forgetting forgotten: [String]) throws(StoreError) {
    for server in Set(forgotten).sorted() {
      let losses = try losses(of: server).saturatingAdding(1)
      try transaction.put(encoded { $0.write(losses) }, at: Self.lossKey(server), in: tables.meta)
      try transaction.remove(Self.key(server), from: tables.positions)
    }
    var losses: [String: UInt64] = [:]
    for row in notes {
      if losses[row.server] == nil { losses[row.server] = try self.losses(of: row.server) }
      let count = losses[row.server] ?? 0
      let note = encoded { $0.write(DeliveredRow(length: row.length, losses: count)) }
      try transaction.put(note, at: Self.key(row.server, row.file), in: tables.delivered)
    }
  }

  static func key(_ server: String) -> [UInt8] { encoded { $0.write(name: server) } }

  func position(of server: String) throws(StoreError) -> FeedPosition? {
    try transaction.row(Self.key(server), in: tables.positions) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readFeedPosition()
    }
  }

  static func lossKey(_ server: String) -> [UInt8] { Array("losses ".utf8) + Array(server.utf8) }

  /// How often the server lost what it had: what was noted before the last time doesn't count.
  func losses(of server: String) throws(StoreError) -> UInt64 {
    try transaction.row(Self.lossKey(server), in: tables.meta) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.read(UInt64.self)
    } ?? 0
  }

  func delivered(to server: String) throws(StoreError) -> [FileUUID: UInt64] {
    let prefix = encoded { $0.write(name: server) }
    let losses = try losses(of: server)
    var lengths: [FileUUID: UInt64] = [:]
    try transaction.scan(tables.delivered, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      let note = try Self.delivered(entry)
      if note.losses == losses { lengths[note.row.file] = note.row.length }
      return true
    }
    return lengths
  }

  /// The first row of each is enough.
  func notedServers() throws(StoreError) -> [String] {
    var servers: [String] = []
    var from: [UInt8] = []
    while true {
      var found: [UInt8]?
      try transaction.scan(tables.delivered, from: from) { (entry) throws(StoreError) in
        let (server, _) = try entry.decodeKey { (reader: inout ByteReader) throws(DecodingFailure) in
          (try reader.readName(), try reader.readFile())
        }
        servers.append(server)
        found = encoded { $0.write(name: server) } + [UInt8](repeating: 0xFF, count: 17)
        return false
      }
      guard let found else { return servers }
      from = found
    }
  }

  static func delivered(_ entry: Transaction.Entry) throws(StoreError) -> (row: Delivered, losses: UInt64) {
    try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
      (server: try reader.readName(), file: try reader.readFile())
    } value: { (key, reader: inout ByteReader) throws(DecodingFailure) in
      let row = try reader.readDeliveredRow()
      return (Delivered(server: key.server, file: key.file, length: row.length), row.losses)
    }
  }
}

extension HostTransaction: HostJournalView {
  func leaf(of file: FileUUID, at index: UInt64) throws(StoreError) -> Digest? {
    try transaction.leaf(in: tables.leaves, prefix: encoded { $0.write(file) }, at: index)
  }
}

extension HostTransaction: HostSnapshot {
  var number: UInt64 { transaction.number }

  func file(_ file: FileUUID) throws(StoreError) -> KnownFile? {
    try transaction.row(encoded { $0.write(file) }, in: tables.files) {
      (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readKnownFile(file)
    }
  }

  func files(having identity: InodeIdentity) throws(StoreError) -> [FileUUID] {
    try owners(in: tables.identities, prefix: identity.encoded())
  }

  func files(lastAt path: BytePath) throws(StoreError) -> [FileUUID] {
    try owners(in: tables.places, prefix: encoded { $0.write(H.digest(path.bytes.span.bytes)) })
  }

  func living() throws(StoreError) -> [FileUUID] { try owners(in: tables.living, prefix: []) }

  func files(after file: FileUUID?, count: Int) throws(StoreError) -> [FileUUID] {
    var files: [FileUUID] = []
    guard count > 0 else { return files }
    try transaction.scan(tables.files, from: file.map { after in encoded { $0.write(after) } + [0] } ?? []) {
      (entry) throws(StoreError) in
      files.append(
        try entry.decodeKey { (reader: inout ByteReader) throws(DecodingFailure) in
          try reader.readFile()
        })
      return files.count < count
    }
    return files
  }

  func delivered(to server: String, of file: FileUUID) throws(StoreError) -> UInt64? {
    let row = try transaction.row(Self.key(server, file), in: tables.delivered) {
      (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readDeliveredRow()
    }
    guard let row, row.losses == (try losses(of: server)) else { return nil }
    return row.length
  }
}
