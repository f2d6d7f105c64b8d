import JournalModel
import JournalStore
import WireProtocol

/// A connection from a host, from the handshake of the transport to its end.
struct Connection {
  let peer: Peer
  var heard: Instant
  /// Something was sent since connections were last looked at.
  var hasSent = false
  /// Nil until `hello` was accepted.
  var session: Session?
  /// Of a channel: the connection to the peer, and its number there.
  var channel: (link: ConnectionID, number: UInt32)?
}

/// Who shows one certificate, by the names in it, on whatever connections.
struct Caller {
  /// What its connections may do together that brings nothing.
  var allowance: Allowance
  var connections = 0
  /// Those that haven't said hello, the oldest first.
  var strangers: [ConnectionID] = []

  mutating func enter(_ id: ConnectionID) {
    connections += 1
    strangers.append(id)
  }

  mutating func leave(_ id: ConnectionID) {
    connections -= 1
    strangers.removeAll { $0 == id }
  }
}

/// Whose connection it is.
struct SessionFacts {
  let journal: HostJournal
  let publicKey: Digest
  /// The host's sums, by their index.
  let tally: Int
  var host: HostName { journal.host }
}

/// What a connection is after `hello`.
struct Session {
  let facts: SessionFacts
  var records = RecordCourse.undecided
  /// What it goes on with unless it says so: nil where it was told of several sequences.
  var told: TreeHead?
  /// It said with what it goes on.
  var hasExtended = false
  /// Where the feed was when it was last told what is held.
  var position: FeedPosition?
  var isAskingHeads = false
  var credit: CreditLine
  /// In the list of those that may get more credit at the end of this step.
  var isCreditDue = false
  /// In the list of those that wait for a turn.
  var isWaiting = false
  /// When its turn ends, done or not: set once others wait for it, or once it can't go on.
  var turnEnds: Instant?
  /// When payload last came, or its turn began.
  var supplied = Instant(nanoseconds: 0)
  /// Strings whose uncommitted payload came over this connection.
  var owned: Set<Int> = []
  /// Those of them whose bytes end within an extent.
  var unfinished: Set<Int> = []
  /// Files whose payload is dropped until the host asks for them anew.
  var refused: Set<FileUUID> = []
  /// Files of which it doesn't go on with string 0, the oldest first.
  var courses = Courses()
  var queries: [ResumeQuery] = []
  /// What came, and waits for what it is about.
  var inbox = Inbox()
  /// The log has what this host does.
  var isReported = false
  /// For acknowledgements of what others supplied.
  var courtesy: Allowance
}

/// A page of W2, and the strings whose payload on its way must be settled before it can be answered.
struct ResumeQuery {
  var files: [FileUUID]
  var waiting: Set<Int> = []
  /// What the store has of files that aren't in memory.
  var looked: [FileUUID: [TreeHead]] = [:]
  var isLooking = false
}
