import JournalModel
import JournalStore

/// Everything that the commit on its way makes durable, and what is then to be said.
struct GroupCommit {
  struct Row {
    var index: Int
    var row: StoredString
    /// End of the payload that becomes committed.
    var end: UInt64?
    var isBulk: Bool
    var newPromises: Int
  }
  struct Run {
    var index: Int
    var after: HeldJournal
  }
  /// Of a string that is set apart: what its records say goes on, or nothing could be verified after the next start.
  struct Promised {
    var index: Int
    var count: Int
  }
  var rows: [Row] = []
  var promised: [Promised] = []
  var runs: [Run] = []
  var hasLogPayload = false
}
