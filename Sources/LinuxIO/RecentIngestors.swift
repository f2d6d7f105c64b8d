import DataPlane
import JournalModel

/// The trees of files that were read lately. One costs half a kilobyte, mostly libcrypto's; without it the next growth of
/// its file costs a look at the journal's leaves and one at the file's last 128 KiB (D4), which is little for a file that
/// grows seldom: what isn't read from one `age` to the one after the next goes. Not for two threads at a time.
struct RecentIngestors {
  /// Half of what is kept at most: those put away since `older` was begun, and those before.
  private let half: Int
  private var newer: [FileID: Ingestor<SHA256Tree>] = [:]
  private var older: [FileID: Ingestor<SHA256Tree>] = [:]

  init(atMost limit: Int) { half = max(1, limit / 2) }

  var count: Int { newer.count + older.count }

  /// The file's, which nobody else has from now on.
  mutating func take(_ id: FileID) -> Ingestor<SHA256Tree>? {
    newer.removeValue(forKey: id) ?? older.removeValue(forKey: id)
  }

  mutating func put(_ ingestor: Ingestor<SHA256Tree>, _ id: FileID) {
    if newer.count >= half { age() }
    newer[id] = ingestor
  }

  mutating func age() {
    older = newer
    newer = [:]
  }
}
