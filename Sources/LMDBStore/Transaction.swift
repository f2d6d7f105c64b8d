import CLMDB
import JournalModel
import JournalStore

/// One of the environment's named databases.
struct Table: Sendable {
  let name: String
  fileprivate let handle: MDB_dbi
}

/// Owns an LMDB transaction: it is aborted unless it was committed. Values pass sealed (`StoredValue`) and come back
/// checked.
struct Transaction: ~Copyable {
  private var handle: OpaquePointer?
  private let environment: Environment

  init(owning handle: OpaquePointer, of environment: Environment) {
    self.handle = handle
    self.environment = environment
  }

  deinit { if let handle { mdb_txn_abort(handle) } }

  /// Durable when it returns; nothing is visible when it throws.
  /// - Parameter usesReserve: whether it may take the room that is kept for commits that give room back.
  consuming func commit(usesReserve: Bool = false) throws(StoreError) {
    if !usesReserve { try environment.reserveSpace(for: handle) }
    let owned = handle
    handle = nil
    let code = mdb_txn_commit(owned)
    if code != 0 { throw environment.commitError(code) }
  }

  /// Nil when there is no such table.
  func table(_ name: String, creating: Bool = false) throws(StoreError) -> Table? {
    var table: MDB_dbi = 0
    let code = mdb_dbi_open(handle, name, creating ? UInt32(MDB_CREATE) : 0, &table)
    if code == MDB_NOTFOUND { return nil }
    try check(code, "open table \(name)")
    return Table(name: name, handle: table)
  }

  /// Of the snapshot that it reads: the last commit's; a write transaction's own.
  var number: UInt64 { UInt64(mdb_txn_id(handle)) }

  func count(of table: Table) throws(StoreError) -> UInt64 {
    var statistics = MDB_stat()
    try check(mdb_stat(handle, table.handle, &statistics), "count \(table.name)")
    return UInt64(statistics.ms_entries)
  }

  func value(_ key: [UInt8], in table: Table) throws(StoreError) -> [UInt8]? {
    var found = MDB_val()
    let code = withValue(of: key) { mdb_get(handle, table.handle, &$0, &found) }
    if code == MDB_NOTFOUND { return nil }
    try check(code, "read \(table.name)")
    return try Entry(table: table, key: key, sealed: found.bytes).value()
  }

  enum Placement {
    case anywhere
    /// The key must not be there yet.
    case new
    /// The key must lie behind all others.
    case last
  }

  func put(_ value: [UInt8], at key: [UInt8], in table: Table, _ placement: Placement = .anywhere) throws(StoreError) {
    let flags: Int32 =
      switch placement {
      case .anywhere: 0
      case .new: MDB_NOOVERWRITE
      case .last: MDB_APPEND
      }
    let sealed = StoredValue.seal(value, key: key)
    environment.willWrite(key.count + sealed.count, to: table.handle)
    let code = withValue(of: key) { key in
      withValue(of: sealed) { mdb_put(handle, table.handle, &key, &$0, UInt32(flags)) }
    }
    if code == MDB_KEYEXIST { throw .corrupt("\(table.name) \(key.hex): a row is there already") }
    if code != 0 { throw environment.noted(storeError(code, "write \(table.name)")) }
  }

  /// False when there is no such row.
  @discardableResult
  func remove(_ key: [UInt8], from table: Table) throws(StoreError) -> Bool {
    // The pages that lose a row are copied too.
    environment.willWrite(0, to: table.handle)
    let code = withValue(of: key) { mdb_del(handle, table.handle, &$0, nil) }
    if code != 0 && code != MDB_NOTFOUND { throw environment.noted(storeError(code, "write \(table.name)")) }
    return code == 0
  }

  /// Removes all rows.
  func empty(_ table: Table) throws(StoreError) {
    environment.willWrite(0, to: table.handle)
    let code = mdb_drop(handle, table.handle, 0)
    if code != 0 { throw environment.noted(storeError(code, "empty \(table.name)")) }
  }

  /// A row under a cursor.
  struct Entry {
    let table: Table
    let key: [UInt8]
    /// In LMDB's map: valid until the transaction changes or ends.
    fileprivate let sealed: UnsafeRawBufferPointer

    var byteCount: Int { sealed.count - StoredValue.overhead }

    /// No value is greater. A damaged page may claim more than there is memory, or than the file has.
    private static let greatestByteCount = 64 << 20

    func value() throws(StoreError) -> [UInt8] {
      guard sealed.count <= Self.greatestByteCount else {
        throw .corrupt("\(table.name) \(key.hex): a value of \(sealed.count) bytes")
      }
      do throws(DecodingFailure) { return try StoredValue.open([UInt8](sealed), key: key) } catch {
        throw corrupt(error)
      }
    }

    func corrupt(_ failure: DecodingFailure) -> StoreError {
      .corrupt("\(table.name) \(key.hex): \(failure.reason) at byte \(failure.offset)")
    }
  }

  /// Brings the rows from `first` on whose keys begin with `prefix`, in the order of keys, until `body` returns false.
  func scan(
    _ table: Table, from first: [UInt8], prefix: [UInt8] = [], _ body: (Entry) throws(StoreError) -> Bool
  ) throws(StoreError) {
    var opened: OpaquePointer?
    try check(mdb_cursor_open(handle, table.handle, &opened), "read \(table.name)")
    defer { mdb_cursor_close(opened) }
    var value = MDB_val()
    var found = MDB_val()
    // LMDB refuses an empty key, even to begin with.
    var code = withValue(of: first.isEmpty ? [0] : first) { key in
      let code = mdb_cursor_get(opened, &key, &value, MDB_SET_RANGE)
      found = key
      return code
    }
    var previous: [UInt8] = []
    while code == 0 {
      let key = [UInt8](found.bytes)
      // Damaged pages may lead in a circle.
      guard previous.lexicographicallyPrecedes(key) else { throw table.disorder(at: key) }
      previous = key
      guard key.starts(with: prefix), try body(Entry(table: table, key: key, sealed: value.bytes)) else { return }
      code = mdb_cursor_get(opened, &found, &value, MDB_NEXT)
    }
    if code != MDB_NOTFOUND { throw storeError(code, "read \(table.name)") }
  }

  /// The row with the greatest key up to `end`, if that begins with `prefix`.
  func last(in table: Table, prefix: [UInt8], upTo end: [UInt8]) throws(StoreError) -> Entry? {
    var opened: OpaquePointer?
    try check(mdb_cursor_open(handle, table.handle, &opened), "read \(table.name)")
    defer { mdb_cursor_close(opened) }
    let behind = table.step(opened, MDB_SET_RANGE, end)
    if case .row(let entry)? = behind, entry.key == end { return entry }
    switch table.step(opened, behind == nil ? MDB_LAST : MDB_PREV) {
    case .row(let entry): return entry.key.starts(with: prefix) ? entry : nil
    case .damaged(let error), .broken(let error): throw error
    case nil: return nil
    }
  }
}

// MARK: Through damage

extension Transaction {
  /// Where a listing of damaged tables stands.
  struct Place {
    let prefix: [UInt8]
    /// Rows from here on are to be brought, or those behind it.
    fileprivate(set) var bound: [UInt8]
    fileprivate var isBehind = false
    fileprivate(set) var isAtEnd = false

    init(prefix: [UInt8], bound: [UInt8]) {
      self.prefix = prefix
      self.bound = prefix.lexicographicallyPrecedes(bound) ? bound : prefix
    }

    fileprivate func isReached(by key: [UInt8]) -> Bool {
      isBehind ? bound.lexicographicallyPrecedes(key) : !key.lexicographicallyPrecedes(bound)
    }
  }

  enum Step {
    case row(Entry)
    /// One row that can't be read.
    case damaged(StoreError)
    /// LMDB finds no way through its pages.
    case broken(StoreError)
  }

  /// Brings what lies from `place` on, sound rows in ascending order and what can't be read between them, until `body`
  /// returns false; `place` then is where to go on.
  ///
  /// A damaged key misleads LMDB's search to either side. So the walk begins at a sound row before the place, and goes
  /// on from row to row.
  func walk(_ table: Table, _ place: inout Place, _ body: (Step) throws(StoreError) -> Bool) throws(StoreError) {
    var opened: OpaquePointer?
    try check(mdb_cursor_open(handle, table.handle, &opened), "read \(table.name)")
    defer { mdb_cursor_close(opened) }
    var step = table.start(opened, before: place)
    var previous: [UInt8]?
    while let found = step {
      switch found {
      case .damaged: _ = try body(found)
      case .broken:
        _ = try body(found)
        return place.isAtEnd = true
      case .row(let entry):
        if let previous, !previous.lexicographicallyPrecedes(entry.key) {
          _ = try body(.broken(table.disorder(at: entry.key)))
          return place.isAtEnd = true
        }
        previous = entry.key
        guard place.isReached(by: entry.key) else { break }
        guard entry.key.starts(with: place.prefix) else { return place.isAtEnd = true }
        place.bound = entry.key
        place.isBehind = true
        guard try body(found) else { return }
      }
      step = table.step(opened, MDB_NEXT)
    }
    place.isAtEnd = true
  }
}

extension Table {
  fileprivate func disorder(at key: [UInt8]) -> StoreError {
    .corrupt("\(name) \(key.hex): rows are out of order from here on")
  }

  /// The last sound row before the place, else the first row.
  fileprivate func start(_ cursor: OpaquePointer?, before place: Transaction.Place) -> Transaction.Step? {
    guard !place.bound.isEmpty else { return step(cursor, MDB_FIRST) }
    var found = step(cursor, MDB_SET_RANGE, place.bound) ?? step(cursor, MDB_LAST)
    var next: [UInt8]?
    while let current = found {
      switch current {
      case .broken: return current
      case .damaged: break
      case .row(let entry):
        if let next, !entry.key.lexicographicallyPrecedes(next) { return .broken(disorder(at: entry.key)) }
        guard place.isReached(by: entry.key) else { return current }
        next = entry.key
      }
      found = step(cursor, MDB_PREV)
    }
    return step(cursor, MDB_FIRST)
  }

  /// Where the cursor comes to; nil beyond the first and the last row.
  fileprivate func step(
    _ cursor: OpaquePointer?, _ operation: MDB_cursor_op, _ wanted: [UInt8] = []
  ) -> Transaction.Step? {
    var key = MDB_val()
    var value = MDB_val()
    let code = withValue(of: wanted) { given in
      key = given
      return mdb_cursor_get(cursor, &key, &value, operation)
    }
    if code == MDB_NOTFOUND { return nil }
    guard code == 0 else { return .broken(storeError(code, "read \(name)")) }
    let entry = Transaction.Entry(table: self, key: [UInt8](key.bytes), sealed: value.bytes)
    do throws(StoreError) { _ = try entry.value() } catch { return .damaged(error) }
    return .row(entry)
  }
}

extension MDB_val {
  fileprivate var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: mv_data, count: mv_size) }
}

private func withValue(of bytes: [UInt8], _ body: (inout MDB_val) -> Int32) -> Int32 {
  bytes.withUnsafeBytes { raw in
    var value = MDB_val(mv_size: raw.count, mv_data: UnsafeMutableRawPointer(mutating: raw.baseAddress))
    return body(&value)
  }
}
