import CLMDB
import Glibc
import JournalStore

/// LMDB's two meta pages have no checksum, and the one with the greater transaction number counts: a bit that flips in a
/// number would bring back an older state without a word. Each commit writes one of them in turn, so the numbers differ
/// by one (by none in a new store).
enum MetaPages {
  /// `lmdb 0.9`: a page header of 16 bytes, then magic, version, address, map size, two tables of 48 bytes, last page.
  private static let transactionOffset = 144
  private static let attempts = 100

  static func check(in directory: String, _ environment: OpaquePointer) throws(StoreError) {
    var statistics = MDB_stat()
    var descriptor: Int32 = -1
    guard mdb_env_stat(environment, &statistics) == 0, mdb_env_get_fd(environment, &descriptor) == 0 else { return }
    // Beside a writer the two may be read from different moments.
    for _ in 0..<attempts {
      guard let first = transaction(in: descriptor, page: 0, size: Int(statistics.ms_psize)),
        let second = transaction(in: descriptor, page: 1, size: Int(statistics.ms_psize))
      else { throw .corrupt("\(directory)/data.mdb is cut off") }
      if max(first, second) - min(first, second) <= 1 { return }
    }
    throw .corrupt("\(directory)/data.mdb: its two meta pages don't belong together")
  }

  // MARK: Roots

  /// In a meta page and in the table of tables a table is 48 bytes, of which the last are the number of its root page.
  private static let tableSize = 48
  private static let rootOffset = 40
  private static let mainRootOffset = 128

  /// A root that a flipped bit turned into that of an older state is a page that is free by now: without this look it
  /// would be shown without a word, since no page says of which transaction it is.
  static func checkRoots(in directory: String, _ environment: OpaquePointer) throws(StoreError) {
    var opened: OpaquePointer?
    guard mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &opened) == 0, let transaction = opened else { return }
    defer { mdb_txn_abort(transaction) }
    guard let main = mainRoot(environment, UInt64(mdb_txn_id(transaction))) else { return }
    var roots: Set<UInt64> = [main]
    visit(transaction, table: 1) { value in
      guard value.count == tableSize else { return }
      roots.insert(value.loadUnaligned(fromByteOffset: rootOffset, as: UInt64.self))
    }
    var isFree = false
    visit(transaction, table: 0) { value in
      let count = value.count >= 8 ? value.loadUnaligned(as: UInt64.self) : 0
      for index in 0..<min(count, UInt64(value.count / 8) - min(1, UInt64(value.count / 8))) {
        let page = value.loadUnaligned(fromByteOffset: 8 * Int(index + 1), as: UInt64.self)
        if roots.contains(page) { isFree = true }
      }
    }
    if isFree { throw .corrupt("\(directory)/data.mdb: a table's root is a free page, of an older state") }
  }

  /// Of the state that a transaction reads; nil where that was written over meanwhile.
  private static func mainRoot(_ environment: OpaquePointer, _ transaction: UInt64) -> UInt64? {
    var statistics = MDB_stat()
    var descriptor: Int32 = -1
    guard mdb_env_stat(environment, &statistics) == 0, mdb_env_get_fd(environment, &descriptor) == 0 else { return nil }
    var page = [UInt64](repeating: 0, count: 20)
    let place = off_t(transaction & 1) * off_t(statistics.ms_psize)
    let count = page.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, place) }
    guard count == 8 * page.count, page[transactionOffset / 8] == transaction else { return nil }
    return page[mainRootOffset / 8]
  }

  private static func visit(
    _ transaction: OpaquePointer, table: MDB_dbi, _ body: (UnsafeRawBufferPointer) -> Void
  ) {
    var cursor: OpaquePointer?
    guard mdb_cursor_open(transaction, table, &cursor) == 0 else { return }
    defer { mdb_cursor_close(cursor) }
    var (key, value) = (MDB_val(), MDB_val())
    while mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0 {
      body(UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size))
    }
  }

  private static func transaction(in descriptor: Int32, page: Int, size: Int) -> UInt64? {
    var number: UInt64 = 0
    let count = withUnsafeMutableBytes(of: &number) {
      pread(descriptor, $0.baseAddress, $0.count, off_t(page * size + transactionOffset))
    }
    return count == MemoryLayout<UInt64>.size ? number : nil
  }
}
