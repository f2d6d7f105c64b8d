import JournalModel

/// The gaps that are recorded and not healed: how many, and which record to strike out when a file's bytes turn up.
struct StandingGaps {
  private var ofPaths = 0
  private var ofFiles: [FileUUID: UInt64] = [:]

  var count: Int { ofPaths + ofFiles.count }

  /// A file has one at most: with it the host is done with the file.
  mutating func add(_ record: UInt64, of file: FileUUID?) {
    if let file { ofFiles[file] = record } else { ofPaths += 1 }
  }

  /// The record of the file's gap, which stands no longer.
  mutating func heal(_ file: FileUUID) -> UInt64? { ofFiles.removeValue(forKey: file) }
}
