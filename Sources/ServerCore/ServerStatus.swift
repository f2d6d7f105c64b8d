package import JournalModel
package import JournalStore
import WireProtocol

/// What an operator is shown of a server at one moment.
package struct ServerStatus: Hashable, Sendable {
  package struct Host: Hashable, Sendable {
    package var name: HostName
    package var connections: Int
    /// When anything last came from it; nil when it hasn't been seen since the start.
    package var lastSeen: Instant?
    /// What is durably held, as the store counts it (K3).
    package var totals: HostTotals
    /// Received and not yet committed.
    package var pendingBytes: UInt64
  }
  package struct SetApart: Hashable, Sendable {
    package enum Subject: Hashable, Sendable {
      case journal(HostJournal)
      case file(FileKey, BytePath)
    }
    package var subject: Subject
    package var why: String
  }
  package static let mostListed = 100

  package var hosts: [Host]
  package var isServing: Bool
  /// Why the store takes no commits at present.
  package var blocked: String?
  /// Strings whose plain file can't be written at present.
  package var failing: Int
  /// Journals and strings that the store refuses, until the next start: at most `mostListed` of `apartCount`, journals
  /// first.
  package var apart: [SetApart]
  package var apartCount: Int
  /// Files in memory (K1).
  package var resident: Int
  /// Bytes in the store's log.
  package var loggedBytes: UInt64
  /// Payload in memory that isn't committed, of all hosts.
  package var pendingBytes: UInt64
  /// Refusals sent since the start.
  package var refusals: UInt64
  package var connections: Int
}

/// The running sums of one host.
struct HostTally {
  let name: HostName
  /// Its connections after `hello`, the oldest first.
  var sessions: [ConnectionID] = []
  var connections: Int { sessions.count }
  var lastSeen: Instant?
  /// The store's row: nothing here counts beside it.
  var totals = HostTotals()
  var pending: UInt64 = 0
  /// Promised and not received, as far as it may still come.
  var owed: UInt64 = 0
  /// Something is promised of strings that aren't in memory, perhaps.
  var mayOweMore = false
  /// Its records that came since the last commit began, and whether no more is read until the next one begins.
  var intake = CommitShare()
  var isPaused = false
  /// Its strings for which there is something to commit.
  var dirty = Fifo<Int>()
  /// Its files that are to be loaded.
  var toLoad = Fifo<FileKey>()
  /// Its births collided with names of others (K5): their names carry the whole uuid from the start.
  var namesInFull = false
}
