import JournalModel
import JournalStore
import MerkleLog

struct ServerTables: Sendable {
  static let names = [
    "journals", "records", "strings", "promises", "leaves", "log", "identities", "names", "totals", "unfinished",
    "paths", "nodes", "checkpoints", "changes", "peers", "subjects", "trie",
  ]
  let meta, journals, records, strings, promises, leaves, log, identities, names, totals, unfinished, paths, nodes,
    checkpoints, changes, peers, subjects, trie: Table

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
    names = tables[8]
    totals = tables[9]
    unfinished = tables[10]
    paths = tables[11]
    nodes = tables[12]
    checkpoints = tables[13]
    changes = tables[14]
    peers = tables[15]
    subjects = tables[16]
    trie = tables[17]
  }
}

/// One transaction over a server's tables.
struct ServerTransaction: ~Copyable {
  let transaction: Transaction
  let tables: ServerTables

  init(_ transaction: consuming Transaction, _ tables: ServerTables) {
    self.transaction = transaction
    self.tables = tables
  }

  consuming func commit(usesReserve: Bool = false) throws(StoreError) {
    try transaction.commit(usesReserve: usesReserve)
  }

  private static var marksKey: [UInt8] { Array("start".utf8) }

  func startMarks() throws(StoreError) -> StartMarks? {
    try transaction.row(Self.marksKey, in: tables.meta) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readStartMarks()
    }
  }

  func put(_ marks: StartMarks) throws(StoreError) {
    try transaction.put(encoded { $0.write(marks) }, at: Self.marksKey, in: tables.meta)
  }

  /// - Precondition: the batch was checked in this transaction.
  func put<H: TreeHasher>(
    _ batch: ServerBatch, in life: UUIDBytes?, hasher: H.Type
  ) throws(StoreError) -> ServerCommitted where H.Value == Digest {
    // Before anything is changed: what can't be read is counted instead, and must not be counted twice.
    var totals: [HostName: HostTotals] = [:]
    for host in batch.hosts { totals[host] = try self.totals(of: host) }
    var held = try heldRows(before: batch)
    let changes = batch.changes { held.strings[$0]?.committed ?? 0 }
    let position = try give(numbersTo: changes, in: life, &held)
    for run in batch.records {
      try StoreSubject.journal(run.after.key).refusing { () throws(StoreError) in try put(run, held) }
      totals[run.after.host, default: HostTotals()].count(run)
    }
    for row in batch.strings {
      try put(row, held, hasher: hasher)
      totals[row.key.key.host, default: HostTotals()].count(
        row, insteadOf: held.strings.updateValue(row, forKey: row.key))
    }
    try putFirstRows(of: changes, held, beside: batch)
    for cursor in batch.cursors { try put(cursor) }
    for promise in batch.promises where try put(promise) {
      totals[promise.key.host, default: HostTotals()].promises += 1
    }
    for promise in batch.met where try transaction.remove(Self.key(of: promise), from: tables.promises) {
      totals[promise.key.host]?.countMet()
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
    for file in batch.named {
      try transaction.put([], at: Self.pathKey(file, H.digest(file.latest.bytes.span.bytes)), in: tables.paths)
    }
    for key in batch.unfinished { try transaction.put([], at: encoded { $0.write(key) }, in: tables.unfinished) }
    for key in batch.finished { try transaction.remove(encoded { $0.write(key) }, from: tables.unfinished) }
    if batch.foldsAnew { try forgetTrie() }
    if batch.folded > 0 { try fold(batch.folded, hasher: H.self) }
    totals = totals.filter { $0.value != HostTotals() }
    for (host, totals) in totals {
      try transaction.put(encoded { $0.write(totals) }, at: Self.prefix(of: host), in: tables.totals)
    }
    return ServerCommitted(totals: totals, position: position)
  }

  private func put(_ run: ServerBatch.RecordRun, _ held: HeldRows) throws(StoreError) {
    let key = run.after.key
    for (position, record) in run.encoded.enumerated() {
      try transaction.put(record, at: Self.key(key, run.first + UInt64(position)), in: tables.records, .new)
    }
    for nodes in run.nodes {
      let row = encoded { $0.write(nodes.subtrees) }
      try transaction.put(row, at: Self.key(key, nodes.number), in: tables.nodes, .new)
    }
    for checkpoint in run.checkpoints {
      let row = encoded { $0.write(checkpoint) }
      try transaction.put(row, at: Self.key(key, checkpoint.length), in: tables.checkpoints, .new)
    }
    try put(run.after, held)
  }

  private func put(_ row: HeldJournal, _ held: HeldRows) throws(StoreError) {
    let stored = Numbered(row: row, number: held.number(of: row.key))
    try transaction.put(encoded { $0.write(stored) }, at: encoded { $0.write(row.key) }, in: tables.journals)
  }

  private func put(_ row: StoredString, _ held: HeldRows) throws(StoreError) {
    let stored = Numbered(row: row, number: held.number(of: row.key))
    try transaction.put(encoded { $0.write(stored) }, at: encoded { $0.write(row.key) }, in: tables.strings)
  }

  /// Of what changed in another sequence or string only: the first row has the number.
  private func putFirstRows(
    of changes: [ServerBatch.Changed], _ held: HeldRows, beside batch: ServerBatch
  ) throws(StoreError) {
    guard !changes.isEmpty else { return }
    let journals = Set(batch.records.map(\.after.key))
    let strings = Set(batch.strings.map(\.key))
    for change in changes {
      switch change.subject {
      case .journal(let journal):
        guard let first = held.sequences[journal], !journals.contains(first.key) else { continue }
        try put(first, held)
      case .file(let key):
        guard let first = held.strings[key.first], !strings.contains(first.key) else { continue }
        try put(first, held)
      }
    }
  }

  /// In place of the one that is held.
  private func put<H: TreeHasher>(
    _ row: StoredString, _ held: HeldRows, hasher: H.Type
  ) throws(StoreError) where H.Value == Digest {
    let old = held.strings[row.key]
    if old?.stored != row.stored {
      if let old { try transaction.remove(Self.key(ofName: old.nameDigest(hasher)), from: tables.names) }
      let name = Self.key(ofName: row.nameDigest(hasher))
      try transaction.put(encoded { $0.write(row.key) }, at: name, in: tables.names, .new)
    }
    try put(row, held)
    guard old?.identity != row.identity else { return }
    try transaction.put([], at: Self.identityKey(row.key.key, row.identity), in: tables.identities)
  }

  /// False if it is there already, or as many others of its length as are used.
  private func put(_ promise: Promise) throws(StoreError) -> Bool {
    let prefix = encoded { writer in
      writer.write(promise.key)
      writer.write(promise.length)
    }
    var (isHeld, roots) = (false, 0)
    try transaction.scan(tables.promises, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      if try Self.promise(entry) == promise { isHeld = true }
      roots += 1
      return roots < Promise.mostRoots && !isHeld
    }
    guard !isHeld, roots < Promise.mostRoots else { return false }
    try transaction.put([], at: Self.key(of: promise), in: tables.promises)
    return true
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
  /// In the tables `records`, `nodes` and `checkpoints`.
  static func key(_ sequence: SequenceKey, _ number: UInt64) -> [UInt8] {
    encoded { writer in
      writer.write(sequence)
      writer.write(number)
    }
  }

  static func key(of promise: Promise) -> [UInt8] {
    encoded { writer in
      writer.write(promise.key)
      writer.write(promise.length)
      writer.write(promise.root)
    }
  }

  static func key(ofName digest: Digest) -> [UInt8] { encoded { $0.write(digest) } }

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

  /// The newest comes first: birth and uuid are complemented.
  static func pathKey(_ file: ServerBatch.NamedFile, _ latest: Digest) -> [UInt8] {
    encoded { writer in
      writer.write(raw: pathPrefix(file.key.host, latest))
      writer.write(~(UInt64(bitPattern: file.born.nanoseconds) ^ 1 << 63))
      writer.write(~file.key.file.bytes.high)
      writer.write(~file.key.file.bytes.low)
    }
  }

  private static func pathPrefix(_ host: HostName, _ latest: Digest) -> [UInt8] {
    encoded { writer in
      writer.write(name: host.text)
      writer.write(latest)
    }
  }

  private static func owner(_ host: HostName, _ identity: InodeIdentity) -> [UInt8] {
    encoded { writer in
      writer.write(name: host.text)
      writer.write(identity)
    }
  }
}

// MARK: Totals

extension ServerTransaction {
  static func prefix(of host: HostName) -> [UInt8] { encoded { $0.write(name: host.text) } }

  /// Of every host of which anything is held.
  func totals() throws(StoreError) -> [HostName: HostTotals] {
    var hosts: [HostName] = []
    try transaction.scan(tables.totals, from: []) { (entry) throws(StoreError) in
      // A key that is no name is damage like a row that is lost.
      var reader = ByteReader(entry.key)
      if let host = try? reader.readHostName() { hosts.append(host) }
      return true
    }
    var totals: [HostName: HostTotals] = [:]
    for host in hosts { totals[host] = try self.totals(of: host) }
    return totals
  }

  /// A row that can't be read is counted anew, and is whole again after the host's next commit: numbers are no reason to
  /// stop.
  func totals(of host: HostName) throws(StoreError) -> HostTotals {
    do throws(StoreError) {
      return try transaction.row(Self.prefix(of: host), in: tables.totals) {
        (reader: inout ByteReader) throws(DecodingFailure) in
        try reader.readHostTotals()
      } ?? HostTotals()
    } catch {
      guard case .corrupt = error else { throw error }
      return try counted(host)
    }
  }

  /// The totals by their definition. What can't be read isn't counted.
  func counted(_ host: HostName) throws(StoreError) -> HostTotals {
    var totals = HostTotals()
    let prefix = Self.prefix(of: host)
    try transaction.scan(tables.strings, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      if let row = try? Self.string(entry) { totals.count(row, insteadOf: nil) }
      return true
    }
    try transaction.scan(tables.journals, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      if let row = try? Self.journal(entry), row.key.sequence > 0 { totals.forks += 1 }
      return true
    }
    try transaction.scan(tables.records, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      totals.records += 1
      totals.recordBytes = totals.recordBytes.saturatingAdding(UInt64(max(0, entry.byteCount)))
      return true
    }
    try transaction.scan(tables.promises, from: prefix, prefix: prefix) { (_) throws(StoreError) in
      totals.promises += 1
      return true
    }
    return totals
  }
}

// MARK: Reading

extension ServerTransaction {
  func journals() throws(StoreError) -> [HeldJournal] {
    try rows(of: tables.journals) { (entry) throws(StoreError) in try Self.journal(entry) }
  }

  static func journal(_ entry: Transaction.Entry) throws(StoreError) -> HeldJournal {
    try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readSequenceKey()
    } value: { (key, reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readNumbered(key).row
    }
  }

  func strings() throws(StoreError) -> [StoredString] {
    try rows(of: tables.strings) { (entry) throws(StoreError) in try Self.string(entry) }
  }

  static func string(_ entry: Transaction.Entry) throws(StoreError) -> StoredString {
    try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readStringKey()
    } value: { (key, reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readNumbered(key).row
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

  func unfinished() throws(StoreError) -> [StringKey] {
    try rows(of: tables.unfinished) { (entry) throws(StoreError) in
      try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
        try reader.readStringKey()
      } value: { (key, _: inout ByteReader) throws(DecodingFailure) in
        key
      }
    }
  }

  func logRanges(of key: StringKey? = nil) throws(StoreError) -> [LogRange] {
    var ranges: [LogRange] = []
    let prefix = key.map { key in encoded { $0.write(key) } } ?? []
    try transaction.scan(tables.log, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      ranges.append(try Self.logRange(entry))
      return true
    }
    return ranges
  }

  /// The newest file of a name under `latest`.
  func newest<H: TreeHasher>(
    _ host: HostName, _ latest: BytePath, hasher: H.Type
  ) throws(StoreError) -> StoredString? where H.Value == Digest {
    let prefix = Self.pathPrefix(host, H.digest(latest.bytes.span.bytes))
    var newest: FileUUID?
    try transaction.scan(tables.paths, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      newest = try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
        _ = try reader.readRaw(count: prefix.count + 8)
        let (high, low) = (try reader.read(UInt64.self), try reader.read(UInt64.self))
        return FileUUID(UUIDBytes(high: ~high, low: ~low))
      } value: { (file, _: inout ByteReader) throws(DecodingFailure) in
        file
      }
      return false
    }
    guard let newest else { return nil }
    return try string(FileKey(host: host, file: newest).first)
  }

  /// Of a branch, its base has those before its own.
  func leaves(of string: StringKey, count: UInt64) throws(StoreError) -> [Digest] {
    let prefix = encoded { $0.write(string) }
    guard string.string > 0, let base = try self.string(string)?.base else {
      return try transaction.leaves(in: tables.leaves, prefix: prefix, count: count)
    }
    let first = min(count, try firstLeaf(of: string) ?? count)
    let shared = try leaves(of: base, count: first)
    return try shared + transaction.leaves(in: tables.leaves, prefix: prefix, from: first, count: count - first)
  }

  /// The index of the first leaf of its own.
  private func firstLeaf(of string: StringKey) throws(StoreError) -> UInt64? {
    let prefix = encoded { $0.write(string) }
    var first: UInt64?
    try transaction.scan(tables.leaves, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      var reader = ByteReader(entry.key)
      do throws(DecodingFailure) {
        _ = try reader.readStringKey()
        first = try reader.read()
      } catch { throw .corrupt("leaves of \(string): \(error.reason)") }
      return false
    }
    return first
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

extension ServerTransaction: StoreSnapshot {
  var number: UInt64 { transaction.number }

  func promises(of key: FileKey, beyond length: UInt64, count: Int) throws(StoreError) -> PromisePage {
    var page = PromisePage()
    guard length < .max else { return page }
    let prefix = encoded { $0.write(key) }
    let first = encoded { writer in
      writer.write(raw: prefix)
      writer.write(length + 1)
    }
    try transaction.scan(tables.promises, from: first, prefix: prefix) { (entry) throws(StoreError) in
      page.add(try Self.promise(entry), upTo: count)
    }
    return page
  }

  func branches(of key: FileKey) throws(StoreError) -> [StoredString] {
    let prefix = encoded { $0.write(key) }
    let first = encoded { $0.write(StringKey(key: key, string: 1)) }
    var rows: [StoredString] = []
    try transaction.scan(tables.strings, from: first, prefix: prefix) { (entry) throws(StoreError) in
      rows.append(try Self.string(entry))
      return true
    }
    return rows
  }

  func greatestPromise(of key: FileKey) throws(StoreError) -> UInt64? {
    let prefix = encoded { $0.write(key) }
    let greatest = Promise(key: key, length: .max, root: Digest(words: .max, .max, .max, .max))
    return try transaction.last(in: tables.promises, prefix: prefix, upTo: Self.key(of: greatest)).map {
      (entry) throws(StoreError) in try Self.promise(entry).length
    }
  }

  func isUnfinished(_ key: StringKey) throws(StoreError) -> Bool {
    try transaction.value(encoded { $0.write(key) }, in: tables.unfinished) != nil
  }

  func keys(after key: FileKey?, count: Int) throws(StoreError) -> [FileKey] {
    var keys: [FileKey] = []
    let first = key.map { key in encoded { $0.write(StringKey(key: key, string: .max)) } } ?? []
    try transaction.scan(tables.strings, from: first) { (entry) throws(StoreError) in
      guard keys.count < count else { return false }
      let found = try Self.string(entry).key
      if found.string == 0, key.map({ $0 < found.key }) ?? true { keys.append(found.key) }
      return true
    }
    return keys
  }
}

// MARK: Sequences of a journal

extension ServerTransaction {
  func journal(_ key: SequenceKey) throws(StoreError) -> HeldJournal? { try numbered(key)?.row }

  func numbered(_ key: SequenceKey) throws(StoreError) -> Numbered<HeldJournal>? {
    try transaction.row(encoded { $0.write(key) }, in: tables.journals) {
      (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readNumbered(key)
    }
  }

  func sequences(of journal: HostJournal) throws(StoreError) -> [HeldJournal] {
    var rows: [HeldJournal] = []
    let prefix = encoded { $0.write(journal) }
    try transaction.scan(tables.journals, from: prefix, prefix: prefix) { (entry) throws(StoreError) in
      rows.append(try Self.journal(entry))
      return true
    }
    return rows
  }

  func ownRecords(
    of key: SequenceKey, from first: UInt64, count: Int, bytes: Int
  ) throws(StoreError) -> [[UInt8]] {
    try transaction.page(
      of: tables.records, prefix: encoded { $0.write(key) }, from: first, count: count, bytes: bytes)
  }

  func ownNodes(of key: SequenceKey, at number: UInt64) throws(StoreError) -> [Digest]? {
    try transaction.row(Self.key(key, number), in: tables.nodes) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readDigests(count: reader.remaining / Digest.byteCount)
    }
  }

  func ownCheckpoint(of key: SequenceKey, upTo length: UInt64) throws(StoreError) -> Checkpoint? {
    try transaction.last(
      in: tables.checkpoints, prefix: encoded { $0.write(key) }, upTo: Self.key(key, length)
    ).map { (entry) throws(StoreError) in try Self.checkpoint(entry) }
  }

  func ownCheckpoint(of key: SequenceKey, beyond length: UInt64) throws(StoreError) -> Checkpoint? {
    guard length < .max else { return nil }
    var found: Checkpoint?
    let prefix = encoded { $0.write(key) }
    try transaction.scan(tables.checkpoints, from: Self.key(key, length + 1), prefix: prefix) {
      (entry) throws(StoreError) in
      found = try Self.checkpoint(entry)
      return false
    }
    return found
  }

  private static func checkpoint(_ entry: Transaction.Entry) throws(StoreError) -> Checkpoint {
    try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
      _ = try reader.readSequenceKey()
      return try reader.read(UInt64.self)
    } value: { (_, reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readCheckpoint()
    }
  }
}

extension ServerTransaction: ServerHoldingsView {
  func string(_ string: StringKey) throws(StoreError) -> StoredString? { try numbered(string)?.row }

  func numbered(_ string: StringKey) throws(StoreError) -> Numbered<StoredString>? {
    try transaction.row(encoded { $0.write(string) }, in: tables.strings) {
      (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readNumbered(string)
    }
  }

  func owner(ofName digest: Digest) throws(StoreError) -> StringKey? {
    try transaction.row(Self.key(ofName: digest), in: tables.names) {
      (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readStringKey()
    }
  }

  func hasLeaves(of string: StringKey) throws(StoreError) -> Bool { try firstLeaf(of: string) != nil }

  func leaf(of string: StringKey, at index: UInt64) throws(StoreError) -> Digest? {
    try transaction.leaf(in: tables.leaves, prefix: encoded { $0.write(string) }, at: index)
  }

  func heldPayload(of string: StringKey, at offset: UInt64) throws(StoreError) -> [UInt8]? {
    try transaction.value(Self.logKey(string, offset), in: tables.log)
  }
}
