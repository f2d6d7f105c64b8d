import HostCore
import JournalModel

/// What work is about: work with equal keys runs in the order in which it was given.
enum WorkKey: Hashable, Sendable {
  case directory(BytePath)
  case file(FileID)
  case string(StringKey)
  case connection(ConnectionID)
  case resolve(ServerIndex)
  /// One commit at a time for each store.
  case hostCommit, serverCommit
  case sync, links
}
