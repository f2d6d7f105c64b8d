import JournalModel
import JournalStore

/// The gaps that are recorded and not healed: how many, and which records to strike out when a file's bytes turn up, here
/// or on all servers.
struct StandingGaps {
  private var ofPaths = 0
  private var ofFiles: [FileUUID: [OpenGap]] = [:]

  var count: Int { ofPaths + ofFiles.values.saturatingSum(\.count) }

  mutating func add(_ gap: OpenGap) {
    if let file = gap.file { ofFiles[file, default: []].append(gap) } else { ofPaths += 1 }
  }

  func has(_ file: FileUUID) -> Bool { ofFiles[file] != nil }

  /// Those whose files servers may have in full, from their peers.
  var filesWithEnd: [FileUUID] { ofFiles.keys.filter { end(of: $0) ?? .max < .max }.sorted() }

  /// Where the last gap of the file ends; nil when it has none.
  func end(of file: FileUUID) -> UInt64? { ofFiles[file]?.lazy.map(\.upper).max() }

  /// The file's gaps, which stand no longer.
  mutating func heal(_ file: FileUUID) -> [OpenGap] { ofFiles.removeValue(forKey: file) ?? [] }
}
