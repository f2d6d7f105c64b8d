import CLinux
import DataPlane
import Glibc
import JournalModel

/// Makes a plain file hold exactly the committed bytes, before anything is served (P3). The one place where the daemon
/// shortens a file, and never below what is synced.
struct PlainFileRepair {
  var files: PlainFiles
  var stored: BytePath
  var synced: UInt64
  var committed: UInt64
  /// Ranges of the store's log, in order; they cover at least `synced ..< committed`.
  var log: [(offset: UInt64, bytes: [UInt8])]
  /// What a crash may have left beyond the committed length; nil: the store is older than the plain files.
  var leftover: UInt64?

  /// Returns under which name the old file was set aside, if it was. Throws when bytes that should be there are not.
  func perform() throws -> BytePath? {
    let file = try found()
    let size = try file.size()
    if size == synced, synced == committed { return nil }
    // What a failed sync left may lie in the cache only (P4).
    posix_fadvise(file.number, 0, 0, POSIX_FADV_DONTNEED)
    guard size >= synced else {
      throw Misplaced("somebody shortened the plain file: it has \(size) bytes, \(synced) were synced; put it back")
    }
    // Excess is counted from the committed length on: up to there the bytes are the log's own, folded and not yet synced.
    let excess = size - min(size, max(committed, synced))
    if size > synced, leftover.map({ excess > $0 }) ?? true { return try setAside(file) }
    if size > synced { _ = try retrying("ftruncate") { ftruncate(file.number, off_t(synced)) } }
    try writeLog(to: file)
    try files.syncing { () throws(SystemError) in try file.sync() }
    return nil
  }

  /// The file, made anew if nothing of it was ever synced.
  private func found() throws -> Descriptor {
    do {
      return try files.open(stored)
    } catch let error as Misplaced where error == .removed && synced == 0 {
      let directory = try files.makeDirectories(stored.directory)
      let file = try files.root.open(stored, O_RDWR | O_CREAT | O_EXCL, mode: 0o640)
      try files.syncing { () throws(SystemError) in
        try file.sync()
        try directory.sync()
      }
      files.keep(file, stored)
      return file
    }
  }

  /// Appends what the log has of `synced ..< committed`.
  private func writeLog(to file: Descriptor) throws {
    var end = synced
    for range in log where range.offset.saturatingAdding(UInt64(range.bytes.count)) > end && end < committed {
      guard range.offset <= end else { break }
      let upper = min(committed - range.offset, UInt64(range.bytes.count))
      try file.writeFully(range.bytes[Int(end - range.offset)..<Int(upper)], at: end)
      end = range.offset + upper
    }
    guard end == committed else {
      throw SourceFailure("the log lacks bytes from \(end) on, \(committed) are committed")
    }
  }

  /// Builds a new file beside and swaps the names: at no moment is there no file or a shorter one.
  private func setAside(_ old: Descriptor) throws -> BytePath {
    let (new, path) = try besides()
    var position: UInt64 = 0
    while position < synced {
      let bytes = try old.bytes(at: position, count: Int(min(synced - position, 1 << 20)))
      guard !bytes.isEmpty else { throw SourceFailure("the plain file ends at \(position), \(synced) were synced") }
      try new.writeFully(bytes[...], at: position)
      position += UInt64(bytes.count)
    }
    try writeLog(to: new)
    try files.syncing { () throws(SystemError) in try new.sync() }
    files.forget(stored)
    let directories = try files.root.exchange(path, stored)
    try files.syncing { () throws(SystemError) in for directory in directories { try directory.sync() } }
    return path
  }

  /// A new file `aside/<n>/<stored>`.
  private func besides() throws -> (Descriptor, BytePath) {
    var number = 0
    while true {
      number += 1
      let path = BytePath(Array("aside/\(number)/".utf8) + stored.bytes)
      let directory = try files.makeDirectories(path.directory)
      do {
        let file = try files.root.open(path, O_RDWR | O_CREAT | O_EXCL, mode: 0o640)
        try files.syncing { () throws(SystemError) in try directory.sync() }
        return (file, path)
      } catch let error as SystemError where error.code == EEXIST {
        continue
      }
    }
  }
}
