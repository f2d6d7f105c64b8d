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
  /// A server that this one synchronises with, as configured.
  package struct Peer: Hashable, Sendable {
    package var name: String
    package var isConnected: Bool
    package var lastError: String?
    /// Changes of the peer's that this server doesn't hold all of, as far as it knows, and of this server's the peer.
    package var lacking: UInt64
    package var lackingThere: UInt64
    /// Since when the peer lacks the oldest of the latter, as far as this process knows, or was last connected.
    package var behindSince: Instant?
    /// That of all that the peer holds, as it said last (M2).
    package var digest: HoldingsDigest?
    /// Each holds all that the other had announced, and their digests differ.
    package var differs = false
    package var isEqual: Bool { isConnected && lacking == 0 && lackingThere == 0 && !differs }
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
  package var peers: [Peer] = []
  /// The digest of what is held, which follows a little behind; current: it is that of all.
  package var digest: HoldingsDigest?
  package var isDigestCurrent = false
}

/// The running sums of one host.
struct HostTally {
  let name: HostName
  /// Its connections after `hello`, the oldest first.
  var sessions: [ConnectionID] = []
  /// Those of the host itself; the others are channels of peers.
  var connections: Int { sessions.count { !$0.isChannel } }
  /// Records of it were taken, durable or not.
  var hasRecords = false
  /// Nothing speaks of it: a peer named it, or it was refused.
  var isNobody: Bool {
    sessions.isEmpty && !hasRecords && lastSeen == nil && totals == HostTotals() && pending == 0 && toLoad.isEmpty
      && !awaitsCommit && intake.rows == 0
  }
  /// Of which something is durable.
  var journals: [HostJournal] = []
  var lastSeen: Instant?
  /// The store's row: nothing here counts beside it.
  var totals = HostTotals()
  var pending: UInt64 = 0
  /// Promised and not received, as far as it may still come.
  var owed: UInt64 = 0
  /// Something is promised of strings that aren't in memory, perhaps.
  var mayOweMore = false
  /// Its records that came since its last commit began, and whether no more is read until the next one begins.
  var intake = CommitShare()
  var isPaused = false
  /// Journals with records for its next commit, and strings that go with these.
  var dirtyJournals: [Int] = []
  var due: [Int] = []
  /// Other strings of which there is something to commit.
  var dirty = Fifo<Int>()
  /// Its files that are to be loaded.
  var toLoad = Fifo<FileKey>()
  /// Its births collided with names of others (K5): their names carry the whole uuid from the start.
  var namesInFull = false

  var awaitsCommit: Bool { !dirtyJournals.isEmpty || !due.isEmpty || !dirty.isEmpty }

  func hasMuchToCommit(_ limits: Limits) -> Bool { (intake + CommitShare(rows: dirty.count)).isMuch(limits) }
}
