import JournalModel
import JournalStore

// Rows as they stand in the tables: `design/formats.md`, 'LMDB tables'. Keys are big-endian, so that LMDB's order is the
// order of the numbers.

extension Transaction {
  /// The row at `key`, decoded to its last byte.
  func row<Row>(
    _ key: [UInt8], in table: Table, _ decode: (inout ByteReader) throws(DecodingFailure) -> Row
  ) throws(StoreError) -> Row? {
    guard let value = try value(key, in: table) else { return nil }
    do throws(DecodingFailure) {
      return try decoded(value, decode)
    } catch {
      throw .corrupt("\(table.name) \(key.hex): \(error.reason) at byte \(error.offset)")
    }
  }
}

extension Transaction.Entry {
  /// Key and value, each decoded to its last byte.
  func row<Key, Row>(
    key decodeKey: (inout ByteReader) throws(DecodingFailure) -> Key,
    value decodeValue: (Key, inout ByteReader) throws(DecodingFailure) -> Row
  ) throws(StoreError) -> Row {
    let value = try value()
    do throws(DecodingFailure) {
      let key = try decoded(key, decodeKey)
      return try decoded(value) { (reader: inout ByteReader) throws(DecodingFailure) in try decodeValue(key, &reader) }
    } catch {
      throw corrupt(error)
    }
  }
}

extension Transaction.Entry {
  /// The key to its last byte, whatever the value is.
  func decodeKey<Key>(_ decode: (inout ByteReader) throws(DecodingFailure) -> Key) throws(StoreError) -> Key {
    do throws(DecodingFailure) { return try decoded(key, decode) } catch { throw corrupt(error) }
  }
}

extension Transaction.Entry {
  /// A record with its number, which stands in the key behind `count` bytes.
  func record(behind count: Int) throws(StoreError) -> (number: UInt64, record: [UInt8]) {
    try row { (reader: inout ByteReader) throws(DecodingFailure) in
      _ = try reader.readRaw(count: count)
      return try reader.read(UInt64.self)
    } value: { (number, reader: inout ByteReader) throws(DecodingFailure) in
      (number: number, record: reader.readRest())
    }
  }
}

private func decoded<Row>(
  _ bytes: [UInt8], _ decode: (inout ByteReader) throws(DecodingFailure) -> Row
) throws(DecodingFailure) -> Row {
  var reader = ByteReader(bytes)
  let row = try decode(&reader)
  try reader.end()
  return row
}

/// A key or value of several parts.
func encoded(_ write: (inout ByteWriter) -> Void) -> [UInt8] {
  var writer = ByteWriter(reserving: 64)
  write(&writer)
  return writer.bytes
}

extension ByteWriter {
  mutating func write(_ key: SequenceKey) {
    write(key.journal)
    write(key.sequence)
  }

  mutating func write(_ key: StringKey) {
    write(key.key)
    write(key.string)
  }

  mutating func write(_ digests: [Digest]) {
    for digest in digests { write(digest) }
  }
}

extension ByteReader {
  mutating func readName() throws(DecodingFailure) -> String {
    let start = self
    var bytes: [UInt8] = []
    while true {
      let byte: UInt8 = try read()
      if byte == 0 { break }
      bytes.append(byte)
    }
    guard let name = String(validating: bytes, as: UTF8.self) else { throw start.failure(.badValue("not a name")) }
    return name
  }

  mutating func readHostName() throws(DecodingFailure) -> HostName {
    let start = self
    guard let host = HostName(try readName()) else { throw start.failure(.badValue("not a host name")) }
    return host
  }

  mutating func readFileKey() throws(DecodingFailure) -> FileKey {
    FileKey(host: try readHostName(), file: try readFile())
  }

  mutating func readSequenceKey() throws(DecodingFailure) -> SequenceKey {
    SequenceKey(
      journal: HostJournal(host: try readHostName(), journal: try readJournal()), sequence: try read())
  }

  mutating func readStringKey() throws(DecodingFailure) -> StringKey {
    StringKey(key: try readFileKey(), string: try read())
  }
}

extension ByteWriter {
  mutating func write(_ identity: JournalIdentity) {
    write(identity.host)
    write(identity.journal)
    write(identity.publicKey)
  }

  mutating func write(_ file: KnownFile) {
    write(file.inode.filesystem)
    write(file.inode.identity)
    write(UInt8(file.isDerived ? 1 : 0))
    write(file.path)
    write(file.born)
    write(file.length)
    write(file.root)
    write(file.tail)
    write(file.size)
    write(file.modified)
    write(optional: file.closed) { $0.write($1.rawValue) }
    write(optional: file.gapFrom) { $0.write($1) }
  }

  mutating func write(_ journal: HeldJournal) {
    write(journal.publicKey)
    write(journal.length)
    write(optional: journal.checkpoint) { $0.write($1) }
    write(journal.frontier)
    write(journal.kept.length)
    write(journal.kept.bytesSince)
    write(optional: journal.fork) { writer, fork in
      writer.write(fork.base)
      writer.write(fork.start)
    }
  }

  mutating func write(_ row: StoredString) {
    write(row.identity)
    write(UInt8(row.isDerived ? 1 : 0))
    write(row.path)
    write(row.born)
    write(row.received)
    write(optional: row.parent) { writer, parent in
      writer.write(parent.file)
      writer.write(parent.length)
      writer.write(parent.root)
      writer.write(parent.why.rawValue)
    }
    write(row.committed)
    write(row.root)
    write(row.synced)
    write(row.stored)
    write(UInt8(row.isMade ? 1 : 0))
    write(row.recorded)
    write(optional: row.closed) { $0.write($1.rawValue) }
    write(optional: row.gap) { writer, gap in
      writer.write(gap.lower)
      writer.write(gap.upper)
    }
    write(optional: row.branch) { writer, branch in
      writer.write(branch.base)
      writer.write(branch.start)
      writer.write(branch.divergence)
    }
  }
}

/// A row of `journals` or `strings` as it is stored: with the number of the last change of its journal or file, which the
/// first sequence's and the first string's row has. In all others it is 0.
struct Numbered<Row> {
  var row: Row
  var number: UInt64
}

extension ByteWriter {
  mutating func write(_ stored: Numbered<HeldJournal>) {
    write(stored.row)
    write(stored.number)
  }

  mutating func write(_ stored: Numbered<StoredString>) {
    write(stored.row)
    write(stored.number)
  }
}

extension ByteReader {
  mutating func readNumbered(_ key: SequenceKey) throws(DecodingFailure) -> Numbered<HeldJournal> {
    Numbered(row: try readHeldJournal(key), number: try readNumber(isFirst: key.sequence == 0))
  }

  mutating func readNumbered(_ key: StringKey) throws(DecodingFailure) -> Numbered<StoredString> {
    Numbered(row: try readStoredString(key), number: try readNumber(isFirst: key.string == 0))
  }

  private mutating func readNumber(isFirst: Bool) throws(DecodingFailure) -> UInt64 {
    let start = self
    let number: UInt64 = try read()
    guard isFirst || number == 0 else { throw start.failure(.badValue("a change's number where none belongs")) }
    return number
  }
}

extension ByteWriter {
  mutating func write(_ life: UUIDBytes) {
    write(life.high)
    write(life.low)
  }

  mutating func write(_ epochs: [Feed.Epoch]) {
    write(UInt32(epochs.count))
    for epoch in epochs {
      write(epoch.life)
      write(epoch.first)
    }
  }

  mutating func write(_ position: FeedPosition) {
    write(position.life)
    write(position.number)
  }

  mutating func write(_ cursor: FeedCursor) {
    write(cursor.life)
    write(cursor.held)
    write(cursor.seen)
  }
}

extension ByteWriter {
  mutating func write(_ leaf: TrieLeaf) {
    write(leaf.digest)
    write(leaf.subject)
  }
}

extension ByteReader {
  mutating func readTrieLeaf(at position: Digest) throws(DecodingFailure) -> TrieLeaf {
    TrieLeaf(position: position, digest: try readDigest(), subject: try readChangedSubject())
  }
}

extension ByteReader {
  mutating func readChangedSubject() throws(DecodingFailure) -> ChangedSubject {
    let start = self
    switch try read(UInt8.self) {
    case 1: return .journal(HostJournal(host: try readHostName(), journal: try readJournal()))
    case 2: return .file(try readFileKey())
    default: throw start.failure(.badValue("a change of something unknown"))
    }
  }

  mutating func readLife() throws(DecodingFailure) -> UUIDBytes {
    UUIDBytes(high: try read(), low: try read())
  }

  mutating func readEpochs() throws(DecodingFailure) -> [Feed.Epoch] {
    let start = self
    let count: UInt32 = try read()
    guard count <= Feed.mostEpochs else { throw start.failure(.badValue("\(count) epochs")) }
    var epochs: [Feed.Epoch] = []
    for _ in 0..<count { epochs.append(Feed.Epoch(life: try readLife(), first: try read())) }
    return epochs
  }

  mutating func readFeedPosition() throws(DecodingFailure) -> FeedPosition {
    FeedPosition(life: try readLife(), number: try read())
  }

  mutating func readFeedCursor() throws(DecodingFailure) -> FeedCursor {
    FeedCursor(life: try readLife(), held: try read(), seen: try read())
  }
}

/// What a server had acknowledged of a file, and how often it had lost what it had by then.
struct DeliveredRow: Hashable {
  var length: UInt64
  var losses: UInt64
}

extension ByteWriter {
  mutating func write(_ row: DeliveredRow) {
    write(row.length)
    write(row.losses)
  }
}

extension ByteReader {
  mutating func readDeliveredRow() throws(DecodingFailure) -> DeliveredRow {
    DeliveredRow(length: try read(), losses: try read())
  }
}

extension ByteWriter {
  mutating func write(_ mark: StartMark) {
    write(mark.life)
    write(mark.number)
  }

  mutating func write(_ marks: StartMarks) {
    write(marks.present)
    write(optional: marks.earlier) { $0.write($1) }
  }
}

extension ByteReader {
  mutating func readStartMark() throws(DecodingFailure) -> StartMark {
    StartMark(life: try readLife(), number: try read())
  }

  mutating func readStartMarks() throws(DecodingFailure) -> StartMarks {
    StartMarks(
      present: try readStartMark(),
      earlier: try readOptional { (reader: inout ByteReader) throws(DecodingFailure) in try reader.readStartMark() })
  }
}

extension ByteWriter {
  mutating func write(_ totals: HostTotals) {
    write(totals.files)
    write(totals.open)
    write(totals.branches)
    write(totals.forks)
    write(totals.bytes)
    write(totals.records)
    write(totals.recordBytes)
    write(totals.promises)
    write(totals.names)
  }
}

extension ByteReader {
  mutating func readHostTotals() throws(DecodingFailure) -> HostTotals {
    var totals = HostTotals()
    totals.files = try read()
    totals.open = try read()
    totals.branches = try read()
    totals.forks = try read()
    totals.bytes = try read()
    totals.records = try read()
    totals.recordBytes = try read()
    totals.promises = try read()
    totals.names = try read()
    return totals
  }
}

extension ByteReader {
  mutating func readJournalIdentity() throws(DecodingFailure) -> JournalIdentity {
    JournalIdentity(host: try readHost(), journal: try readJournal(), publicKey: try readDigest())
  }

  mutating func readKnownFile(_ file: FileUUID) throws(DecodingFailure) -> KnownFile {
    let filesystem: UInt64 = try read()
    return KnownFile(
      file: file, inode: InodeKey(filesystem: filesystem, identity: try readIdentity()), isDerived: try readFlag(),
      path: try readPath(), born: try readWallTime(), length: try read(), root: try readDigest(),
      tail: try readDigest(), size: try read(), modified: try readWallTime(), closed: try readClosed(),
      gapFrom: try readOffset())
  }

  mutating func readHeldJournal(_ key: SequenceKey) throws(DecodingFailure) -> HeldJournal {
    let publicKey = try readDigest()
    let length: UInt64 = try read()
    let checkpoint = try readOptional { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readCheckpoint()
    }
    return HeldJournal(
      key: key, publicKey: publicKey, length: length, checkpoint: checkpoint,
      frontier: try readDigests(count: length.nonzeroBitCount),
      kept: KeptCheckpoint(length: try read(), bytesSince: try read()),
      fork: try readOptional { (reader: inout ByteReader) throws(DecodingFailure) in
        ForkPoint(base: try reader.read(), start: try reader.read())
      })
  }

  mutating func readStoredString(_ key: StringKey) throws(DecodingFailure) -> StoredString {
    StoredString(
      key: key, identity: try readIdentity(), isDerived: try readFlag(), path: try readPath(),
      born: try readWallTime(), received: try readWallTime(),
      parent: try readOptional { (reader: inout ByteReader) throws(DecodingFailure) in
        Parent(
          file: try reader.readFile(), length: try reader.read(), root: try reader.readDigest(),
          why: try reader.readCase())
      },
      committed: try read(), root: try readDigest(), synced: try read(), stored: try readPath(),
      isMade: try readFlag(), recorded: try read(), closed: try readClosed(),
      gap: try readOptional { (reader: inout ByteReader) throws(DecodingFailure) in
        StoredGap(lower: try reader.read(), upper: try reader.read())
      },
      branch: try readOptional { (reader: inout ByteReader) throws(DecodingFailure) in
        BranchPoint(base: try reader.read(), start: try reader.read(), divergence: try reader.read())
      })
  }

  private mutating func readClosed() throws(DecodingFailure) -> FileClosed.Reason? {
    try readOptional { (reader: inout ByteReader) throws(DecodingFailure) in try reader.readCase() }
  }

  private mutating func readOffset() throws(DecodingFailure) -> UInt64? {
    try readOptional { (reader: inout ByteReader) throws(DecodingFailure) in try reader.read() }
  }
}
