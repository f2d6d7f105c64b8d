import JournalModel
import JournalStore
import MerkleLog

struct ServerTables: Sendable {
  static let names = ["journals", "records", "strings", "promises", "leaves", "log", "identities"]
  let meta, journals, records, strings, promises, leaves, log, identities: Table

  /// The tables in the order of `names`, the table of versions first.
  init(_ tables: [Table]) {
    meta = tables[0]
    journals = tables[1]
    records = tables[2]
    strings = tables[3]
    promises = tables[4]
    leaves = tables[5]
    log = tables[6]
    identities = tables[7]
  }
}

/// One transaction over a server's tables.
struct ServerTransaction: ~Copyable {
  private let transaction: Transaction
  private let tables: ServerTables

  init(_ transaction: consuming Transaction, _ tables: ServerTables) {
    self.transaction = transaction
    self.tables = tables
  }

  consuming func commit(usesReserve: Bool = false) throws(StoreError) {
    try transaction.commit(usesReserve: usesReserve)
  }

  private static var counterKey: [UInt8] { Array("start counter".utf8) }

  func startCounter() throws(StoreError) -> UInt64? {
    try transaction.row(Self.counterKey, in: tables.meta) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.read()
    }
  }

  func putStartCounter(_ value: UInt64) throws(StoreError) {
    try transaction.put(encoded { $0.write(value) }, at: Self.counterKey, in: tables.meta)
  }

  /// - Precondition: the batch was checked in this transaction.
  func put(_ batch: ServerBatch) throws(StoreError) {
    for run in batch.records {
      try StoreSubject.journal(run.after.key).refusing { () throws(StoreError) in try put(run) }
    }
    for row in batch.strings { try put(row) }
    for promise in batch.promises { try transaction.put([], at: Self.key(of: promise), in: tables.promises) }
    for met in batch.met {
      try StoreSubject.string(StringKey(key: met.key, string: 0)).refusing { () throws(StoreError) in
        try removePromises(met)
      }
    }
    for range in batch.leaves {
      try transaction.put(range.hashes, from: range.first, prefix: encoded { $0.write(range.key) }, in: tables.leaves)
    }
    for payload in batch.log where !payload.bytes.isEmpty {
      try transaction.put(payload.bytes, at: Self.logKey(payload.key, payload.offset), in: tables.log)
    }
    for trim in batch.trims {
      try StoreSubject.string(trim.key).refusing { () throws(StoreError) in try self.trim(trim) }
    }
  }

  private func put(_ run: ServerBatch.RecordRun) throws(StoreError) {
    let journal = Self.key(of: run.after.key)
    for (position, record) in run.encoded.enumerated() {
      let number = encoded { writer in
        writer.write(raw: journal)
        writer.write(run.first + UInt64(position))
      }
      try transaction.put(record, at: number, in: tables.records, .new)
    }
    try transaction.put(encoded { $0.write(run.after) }, at: journal, in: tables.journals)
  }

  private func put(_ row: StoredString) throws(StoreError) {
    try transaction.put(encoded { $0.write(row) }, at: encoded { $0.write(row.key) }, in: tables.strings)
    try transaction.put([], at: Self.identityKey(row.key.key, row.identity), in: tables.identities)
  }

  private func removePromises(_ met: ServerBatch.MetLength) throws(StoreError) {
    let prefix = encoded { $0.write(met.key) }
    var keys: [[UInt8]] = []
    try transaction.scan(tables.promises, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      let promise = try Self.promise(entry)
      guard promise.length <= met.length else { return false }
      keys.append(entry.key)
      return true
    }
    for key in keys { try transaction.remove(key, from: tables.promises) }
  }

  private func trim(_ trim: ServerBatch.Trim) throws(StoreError) {
    let prefix = encoded { $0.write(trim.key) }
    var keys: [[UInt8]] = []
    try transaction.scan(tables.log, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      let range = try Self.logRange(entry)
      guard range.offset.saturatingAdding(UInt64(range.length)) <= trim.below else { return false }
      keys.append(entry.key)
      return true
    }
    for key in keys { try transaction.remove(key, from: tables.log) }
  }
}

// MARK: Keys

extension ServerTransaction {
  static func key(of journal: HostJournal) -> [UInt8] {
    encoded { writer in
      writer.write(name: journal.host.text)
      writer.write(journal.journal)
    }
  }

  static func key(of promise: Promise) -> [UInt8] {
    encoded { writer in
      writer.write(promise.key)
      writer.write(promise.length)
      writer.write(promise.root)
    }
  }

  static func logKey(_ string: StringKey, _ offset: UInt64) -> [UInt8] {
    encoded { writer in
      writer.write(string)
      writer.write(offset)
    }
  }

  static func identityKey(_ file: FileKey, _ identity: InodeIdentity) -> [UInt8] {
    encoded { writer in
      writer.write(raw: owner(file.host, identity))
      writer.write(file.file)
    }
  }

  private static func owner(_ host: HostName, _ identity: InodeIdentity) -> [UInt8] {
    encoded { writer in
      writer.write(name: host.text)
      writer.write(identity)
    }
  }
}

// MARK: Reading

extension ServerTransaction {
  func journals() throws(StoreError) -> [HeldJournal] {
    try rows(of: tables.journals) { (entry) throws(StoreError) in try Self.journal(entry) }
  }

  static func journal(_ entry: Transaction.Entry) throws(StoreError) -> HeldJournal {
    try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
      HostJournal(host: try reader.readHostName(), journal: try reader.readJournal())
    } value: { (key, reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readHeldJournal(key)
    }
  }

  func strings() throws(StoreError) -> [StoredString] {
    try rows(of: tables.strings) { (entry) throws(StoreError) in try Self.string(entry) }
  }

  static func string(_ entry: Transaction.Entry) throws(StoreError) -> StoredString {
    try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readStringKey()
    } value: { (key, reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readStoredString(key)
    }
  }

  func promises() throws(StoreError) -> [Promise] {
    var promises: [Promise] = []
    try transaction.scan(tables.promises, from: []) { (entry) throws(StoreError) in
      promises.append(try Self.promise(entry))
      return true
    }
    return promises
  }

  func logRanges() throws(StoreError) -> [LogRange] {
    var ranges: [LogRange] = []
    try transaction.scan(tables.log, from: []) { (entry) throws(StoreError) in
      ranges.append(try Self.logRange(entry))
      return true
    }
    return ranges
  }

  func records(_ journal: HostJournal, from first: UInt64, count: Int, bytes: Int) throws(StoreError) -> [[UInt8]] {
    try transaction.page(of: tables.records, prefix: Self.key(of: journal), from: first, count: count, bytes: bytes)
  }

  func leaves(of string: StringKey, count: UInt64) throws(StoreError) -> [Digest] {
    try transaction.leaves(in: tables.leaves, prefix: encoded { $0.write(string) }, count: count)
  }

  func files(_ host: HostName, _ identity: InodeIdentity) throws(StoreError) -> [FileUUID] {
    let prefix = Self.owner(host, identity)
    var files: [FileUUID] = []
    try transaction.scan(tables.identities, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      files.append(
        try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
          _ = try reader.readHostName()
          _ = try reader.readIdentity()
          return try reader.readFile()
        } value: { (file, _: inout ByteReader) throws(DecodingFailure) in
          file
        })
      return true
    }
    return files
  }

  private func rows<Row>(
    of table: Table, _ decode: (Transaction.Entry) throws(StoreError) -> Row
  ) throws(StoreError) -> [Row] {
    var rows: [Row] = []
    try transaction.scan(table, from: []) { (entry) throws(StoreError) in
      rows.append(try decode(entry))
      return true
    }
    return rows
  }

  private static func promise(_ entry: Transaction.Entry) throws(StoreError) -> Promise {
    try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
      Promise(key: try reader.readFileKey(), length: try reader.read(), root: try reader.readDigest())
    } value: { (promise, _: inout ByteReader) throws(DecodingFailure) in
      promise
    }
  }

  private static func logRange(_ entry: Transaction.Entry) throws(StoreError) -> LogRange {
    try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
      (key: try reader.readStringKey(), offset: try reader.read(UInt64.self))
    } value: { (place, reader: inout ByteReader) throws(DecodingFailure) in
      LogRange(key: place.key, offset: place.offset, length: try reader.readRaw(count: reader.remaining).count)
    }
  }
}

extension ServerTransaction: ServerHoldingsView {
  func journal(_ journal: HostJournal) throws(StoreError) -> HeldJournal? {
    try transaction.row(Self.key(of: journal), in: tables.journals) {
      (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readHeldJournal(journal)
    }
  }

  func string(_ string: StringKey) throws(StoreError) -> StoredString? {
    try transaction.row(encoded { $0.write(string) }, in: tables.strings) {
      (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readStoredString(string)
    }
  }

  func leaf(of string: StringKey, at index: UInt64) throws(StoreError) -> Digest? {
    try transaction.leaf(in: tables.leaves, prefix: encoded { $0.write(string) }, at: index)
  }

  func heldPayload(of string: StringKey, at offset: UInt64) throws(StoreError) -> [UInt8]? {
    try transaction.value(Self.logKey(string, offset), in: tables.log)
  }
}
