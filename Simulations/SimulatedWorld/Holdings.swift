import JournalModel
import JournalStore

/// All that a server holds of hosts: its store, its plain files, the names that point to them.
struct Holdings {
  private var journals: [HeldJournal] = []
  private var records: [[[UInt8]]] = []
  private var rows: [StoredString] = []
  private var leaves: [[Digest]] = []
  private var bytes: [StringKey: [UInt8]] = [:]
  private var promises: [Promise] = []
  private var log: [LogRange] = []
  /// By identity, in the order of the rows.
  private var files: [[FileUUID]] = []
  /// What every name below the log root leads to.
  private var names: [BytePath: [UInt8]] = [:]

  init(of server: SimulatedServer, _ oracle: Oracle) {
    do { try read(server, oracle) } catch { oracle.fail(.crash, "the server's store can't be read: \(error)") }
    walk(server.disk, BytePath("/"))
  }

  private mutating func read(_ server: SimulatedServer, _ oracle: Oracle) throws(StoreError) {
    let store = server.store
    journals = try store.journals().map { row in
      var row = row
      // Which checkpoints stay follows from the frames that the records came in.
      row.kept = KeptCheckpoint()
      return row
    }
    for row in journals { records.append(try store.records(of: row.key, from: 0, count: .max, bytes: .max)) }
    rows = try store.strings().map { row in
      var row = row
      // When this server heard of it.
      row.received = row.born
      return row
    }
    for row in rows {
      leaves.append(try store.leaves(of: row.key, count: row.committed / UInt64(oracle.world.limits.leafSize)))
      files.append(try store.files(host: row.key.key.host, identity: row.identity))
      bytes[row.key] = oracle.heldBytes(server, row)
    }
    promises = try store.promises()
    log = try store.logRanges()
  }

  private mutating func walk(_ disk: SimulatedDisk, _ folder: BytePath) {
    guard let directory = disk.inode(folder, followLast: false) else { return }
    for name in disk.names(of: directory) {
      let path = folder.appending(name)
      guard let entry = disk.inode(path, followLast: false) else { continue }
      if entry.kind == .directory { walk(disk, path) } else if !Self.isAside(name) { names[path] = entry.bytes }
    }
  }

  /// What a repair put out of the way, or began to put in its place: of what befell this server, not of what it was sent.
  private static func isAside(_ name: [UInt8]) -> Bool { name.contains("~aside") || name.ends(with: "~new") }

  func records(of journal: JournalIdentity) -> [[UInt8]] {
    let index = journals.firstIndex { $0.host == journal.host && $0.journal == journal.journal }
    return index.map { records[$0] } ?? []
  }

  func file(_ file: FileUUID, of host: HostName) -> [UInt8] {
    bytes[StringKey(key: FileKey(host: host, file: file), string: 0)] ?? []
  }

  private static func text(_ row: StoredString) -> String {
    let gap = row.gapFrom.map { ", a gap from \($0)" } ?? ""
    return "\(row.key.key.file.text): \(row.committed) bytes of \(row.recorded), \(row.synced) synced\(gap)"
  }

  /// Nil when nothing differs.
  func difference(from other: Holdings) -> String? {
    for (journal, before) in zip(journals, other.journals) where journal != before {
      return "\(journal.host.text): \(journal.length) records, before \(before.length)"
    }
    if journals.count != other.journals.count || records != other.records { return "other records" }
    for (row, before) in zip(rows, other.rows) where row != before {
      return "\(Self.text(row)), before \(Self.text(before))"
    }
    if rows.count != other.rows.count { return "\(rows.count) rows, before \(other.rows.count)" }
    for (row, pair) in zip(rows, zip(leaves, other.leaves)) where pair.0 != pair.1 {
      return "other leaves of \(row.key.key.file.text)"
    }
    for row in rows where bytes[row.key] != other.bytes[row.key] { return "other bytes of \(row.key.key.file.text)" }
    if promises != other.promises { return "\(promises.count) promises, before \(other.promises.count)" }
    if log != other.log { return "\(log.count) ranges in the log, before \(other.log.count)" }
    if files != other.files { return "other files by identity" }
    for path in Set(names.keys).union(other.names.keys).sorted() where names[path] != other.names[path] {
      func text(_ bytes: [UInt8]?) -> String { bytes.map { "\($0.count) bytes" } ?? "nothing" }
      return "\(String(decoding: path.bytes, as: UTF8.self)) is \(text(names[path])), before \(text(other.names[path]))"
    }
    return nil
  }
}
