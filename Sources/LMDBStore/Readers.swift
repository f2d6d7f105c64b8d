import CLMDB
import Glibc
import JournalModel

/// A process that has been reading one old state of a store for long: none of the pages that were replaced since can be
/// used again, and the file grows with each commit.
package struct OldReader: Hashable, Sendable {
  package var process: Int32
  /// Commits since the state that it reads.
  package var commits: UInt64
}

/// Looks at a store's readers while it is written: slots of killed ones are given back, one that stands still is told.
struct ReaderWatch {
  private static let period: UInt64 = 1_000_000_000
  /// Fewer commits behind are no cause for concern.
  private static let many: UInt64 = 1_000
  private var due: UInt64 = 0
  private var seen: Reader?
  private(set) var oldest: OldReader?

  struct Reader: Hashable {
    var process: Int32
    var transaction: UInt64
  }

  mutating func look(at environment: OpaquePointer) {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    let now = UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    guard now >= due else { return }
    due = now + Self.period
    mdb_reader_check(environment, nil)
    let reader = Self.oldest(in: environment)
    var information = MDB_envinfo()
    mdb_env_info(environment, &information)
    let last = UInt64(information.me_last_txnid)
    oldest = reader.flatMap { reader in
      guard reader == seen, last.saturatingSubtracting(reader.transaction) > Self.many else { return nil }
      return OldReader(process: reader.process, commits: last - reader.transaction)
    }
    seen = reader
  }

  private static func oldest(in environment: OpaquePointer) -> Reader? {
    var text: [UInt8] = []
    withUnsafeMutablePointer(to: &text) { place in
      _ = mdb_reader_list(
        environment,
        { message, place in
          guard let message, let text = place?.assumingMemoryBound(to: [UInt8].self) else { return -1 }
          text.pointee += UnsafeRawBufferPointer(start: message, count: strlen(message))
          return 0
        }, place)
    }
    return readers(in: String(decoding: text, as: UTF8.self)).min { $0.transaction < $1.transaction }
  }

  /// As `mdb_reader_list` writes them: process, thread, transaction, or `-` for a slot that reads nothing now.
  static func readers(in text: String) -> [Reader] {
    text.split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ")
      guard fields.count == 3, let process = Int32(fields[0]), let transaction = UInt64(fields[2]) else { return nil }
      return Reader(process: process, transaction: transaction)
    }
  }
}
