import DataPlane
import JournalModel

/// Plain files as a value, with a page cache and a durable image. Nothing fails but the power.
struct ExhaustiveDisk: Hashable {
  struct File: Hashable {
    var cache: [UInt8] = []
    /// Nil while not even the name is.
    var durable: [UInt8]?
  }
  /// What a power cut leaves of bytes that weren't synced.
  enum PowerCut: Hashable {
    case nothing
    /// Half of them, garbage behind.
    case torn
  }
  private(set) var files: [BytePath: File] = [:]

  /// Whether a power cut takes anything.
  var isSynced: Bool { files.values.allSatisfy { $0.durable == $0.cache } }

  subscript(_ path: BytePath) -> File? { files[path] }

  mutating func create(_ path: BytePath, adopts: Bool, isDurable: Bool) -> CreateOutcome {
    if let file = files[path] {
      guard adopts, file.cache.isEmpty else { return .taken }
    }
    files[path] = File(durable: isDurable ? [] : nil)
    return .created
  }

  /// As the planes of the simulator and of Linux have it: a write begins at the plain file's end. Says what is wrong.
  mutating func append(_ path: BytePath, from: UInt64, _ bytes: [UInt8], sync: Bool) -> String? {
    guard let length = files[path]?.cache.count else { return "a write to a plain file that isn't there" }
    let start = Int(clamping: from)
    guard length >= start, length <= start + bytes.count else {
      return "a write at \(from) of a plain file of \(length) bytes"
    }
    files[path]?.cache += bytes.dropFirst(length - start)
    if sync { self.sync(path) }
    return nil
  }

  mutating func sync(_ path: BytePath) {
    if let cache = files[path]?.cache { files[path]?.durable = cache }
  }

  /// What `ServerDataPlane.repair` promises.
  mutating func repair(
    _ row: StoredRow, log: [(offset: UInt64, bytes: [UInt8])], leftover: UInt64?
  ) -> RepairOutcome {
    let old = files[row.path]?.cache ?? []
    guard UInt64(old.count) >= row.synced else { return .failed("the plain file is too short") }
    let excess = UInt64(old.count) - min(UInt64(old.count), max(row.committed, row.synced))
    if excess > 0, leftover.map({ excess > $0 }) ?? true { return .failed("more lies there than a crash leaves") }
    var bytes = Array(old.prefix(Int(clamping: row.synced)))
    for piece in log where piece.offset + UInt64(piece.bytes.count) > UInt64(bytes.count) {
      guard piece.offset <= UInt64(bytes.count) else { return .failed("a hole in the log") }
      bytes += piece.bytes.dropFirst(bytes.count - Int(piece.offset))
    }
    guard UInt64(bytes.count) == row.committed else { return .failed("the log doesn't reach the committed length") }
    files[row.path] = File(cache: bytes, durable: bytes)
    return .done
  }

  struct StoredRow {
    var path: BytePath
    var synced: UInt64
    var committed: UInt64
  }

  mutating func cutPower(_ cut: PowerCut) {
    for (path, file) in files {
      guard let durable = file.durable else {
        files[path] = nil
        continue
      }
      var bytes = durable
      let lost = file.cache.dropFirst(durable.count)
      if cut == .torn {
        bytes += lost.prefix(lost.count / 2)
        bytes += [UInt8](repeating: 0xEE, count: lost.count - lost.count / 2)
      }
      files[path] = File(cache: bytes, durable: bytes)
    }
  }
}
