import DataPlane
import JournalModel

/// Plain files with a page cache and a durable image. Fault model: a power cut keeps what was synced and of the rest any
/// prefix, possibly followed by garbage; a failed write leaves any prefix of its bytes in the cache.
struct FakeDisk {
  struct File {
    var cache: [UInt8] = []
    var durable: [UInt8] = []
  }
  private(set) var files: [BytePath: File] = [:]
  private(set) var links: [BytePath: BytePath] = [:]
  private(set) var setAside: [BytePath] = []
  /// Files whose sync failed: their pages count as clean, a later sync does nothing (P4).
  private var lost: Set<BytePath> = []
  var complaints: [String] = []

  subscript(_ path: BytePath) -> File? { files[path] }

  mutating func plant(_ path: BytePath, _ bytes: [UInt8]) { files[path] = File(cache: bytes, durable: bytes) }

  mutating func create(_ path: BytePath, adopts: Bool) -> CreateOutcome {
    if let file = files[path] { return adopts && file.cache.isEmpty ? .created : .taken }
    files[path] = File()
    return .created
  }

  mutating func write(_ path: BytePath, from: UInt64, _ bytes: [UInt8], sync: Bool) {
    guard var file = files[path] else { return complaints.append("write to a file that was never made") }
    let from = Int(from)
    if from > file.cache.count { return complaints.append("a hole: write at \(from) of \(file.cache.count) bytes") }
    let overlap = file.cache[from...].prefix(bytes.count)
    if !overlap.elementsEqual(bytes.prefix(overlap.count)) { complaints.append("other bytes written over \(from)") }
    file.cache.replaceSubrange(from..<(from + overlap.count), with: bytes)
    files[path] = file
    if sync { self.sync(path) }
  }

  mutating func failSync(_ path: BytePath) { lost.insert(path) }

  mutating func sync(_ path: BytePath) {
    if lost.contains(path) { return complaints.append("synced again after a failed sync") }
    if let cache = files[path]?.cache { files[path]?.durable = cache }
  }

  mutating func link(_ name: BytePath, to path: BytePath) { links[name] = path }

  /// What `ServerDataPlane.repair` promises.
  mutating func repair(
    _ path: BytePath, synced: UInt64, committed: UInt64, log: [(offset: UInt64, bytes: [UInt8])], leftover: UInt64?
  ) -> RepairOutcome {
    var bytes = files[path]?.cache ?? []
    if bytes.count < Int(synced) { return .failed("shorter than what was synced") }
    let excess = UInt64(bytes.count) - min(UInt64(bytes.count), max(committed, synced))
    let isSetAside = UInt64(bytes.count) > synced && (leftover.map { excess > $0 } ?? true)
    let old = bytes
    bytes.removeSubrange(Int(synced)...)
    for range in log {
      let end = range.offset + UInt64(range.bytes.count)
      if end <= UInt64(bytes.count) { continue }
      if range.offset > UInt64(bytes.count) { return .failed("the log has a hole") }
      bytes += range.bytes.suffix(Int(end) - bytes.count)
    }
    if bytes.count != Int(committed) { return .failed("the log doesn't reach the committed length") }
    files[path] = File(cache: bytes, durable: bytes)
    guard isSetAside else { return .done }
    let aside = BytePath(path.bytes + Array(".aside".utf8))
    files[aside] = File(cache: old, durable: old)
    setAside.append(aside)
    return .setAside(aside)
  }

  /// What a new process does first: what lies only in the cache of a file whose sync failed is forgotten (P4).
  mutating func dropCaches() {
    for path in lost { if let durable = files[path]?.durable { files[path]?.cache = durable } }
    lost = []
  }

  mutating func powerCut(_ generator: inout SeededGenerator) {
    lost = []
    for (path, file) in files.sorted(by: { $0.key < $1.key }) {
      var bytes = file.durable
      let lost = file.cache.dropFirst(bytes.count)
      bytes += lost.prefix(Int.random(in: 0...lost.count, using: &generator))
      let garbage =
        Int.random(in: 0...2, using: &generator) == 0 ? lost.count + 32 - (bytes.count - file.durable.count) : 0
      for _ in 0..<max(0, garbage) where !lost.isEmpty { bytes.append(0xEE) }
      files[path] = File(cache: bytes, durable: bytes)
    }
  }
}
