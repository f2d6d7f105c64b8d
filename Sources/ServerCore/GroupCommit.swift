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
  /// How far peers' feeds are held, by the peers' indices.
  var cursors: [Int: FeedCursor] = [:]
  var hasLogPayload = false
  /// The trie follows the feed, and nothing else.
  var isFold = false
}

/// A commit that is being put together.
struct Gathering {
  var group = GroupCommit()
  var batch = ServerBatch()
  var log: [LogRange] = []
  /// What the log will hold with it.
  var logged: UInt64
  /// Strings that are in it.
  var taken: Set<Int> = []
  /// What each host has of rows that aren't there for its records, and of the log's part.
  var shares: [Int: CommitShare] = [:]
  /// Strings that something is left of for the next one.
  var putOff: [Int] = []
  /// Strings for whose payload the log has no room beside that of the others.
  var leftOut: [Int] = []

  var isEmpty: Bool { group.rows.isEmpty && group.runs.isEmpty && group.promised.isEmpty && group.cursors.isEmpty }
}

/// What is one host's in a commit. A commit is as long as what is in it, and everybody's acknowledgements wait for its
/// end: so that no host has more in one than a frame's worth (P6).
struct CommitShare {
  /// Records, or rows of strings.
  var rows = 0
  var bytes = 0
  /// Of files and of the directories above them.
  var names = 0

  static func + (l: CommitShare, r: CommitShare) -> CommitShare {
    CommitShare(
      rows: l.rows.saturatingAdding(r.rows), bytes: l.bytes.saturatingAdding(r.bytes),
      names: l.names.saturatingAdding(r.names))
  }

  /// Names for each record that a turn has room for: few paths are as deep as that.
  private static var namesPerRecord: Int { 8 }

  func isUsed(_ limits: Limits) -> Bool {
    rows >= limits.recordsPerFrame || bytes >= limits.recordBytesPerFrame
      || names >= Self.namesPerRecord * limits.recordsPerFrame
  }

  /// More than a quarter of a turn: a commit is noticeably longer for it.
  func isMuch(_ limits: Limits) -> Bool {
    let records = limits.recordsPerFrame / 4
    return rows > records || bytes > limits.recordBytesPerFrame / 4 || names > Self.namesPerRecord * records
  }
}
