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

  private static func transaction(in descriptor: Int32, page: Int, size: Int) -> UInt64? {
    var number: UInt64 = 0
    let count = withUnsafeMutableBytes(of: &number) {
      pread(descriptor, $0.baseAddress, $0.count, off_t(page * size + transactionOffset))
    }
    return count == MemoryLayout<UInt64>.size ? number : nil
  }
}
