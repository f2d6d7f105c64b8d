import HostCore
import JournalModel
import WireProtocol

/// A connection from a host, from the handshake of the transport to its end.
struct Connection {
  let peer: Peer
  var heard: Instant
  /// Something was sent since connections were last looked at.
  var hasSent = false
  /// Nil until `hello` was accepted.
  var session: Session?
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

/// Whose connection it is, and the indices into the machine's tables.
struct SessionFacts {
  let host: HostName
  let tally: Int
  let journal: Int
}

/// What a connection is after `hello`.
struct Session {
  let facts: SessionFacts
  var credit: CreditLine
  /// In the list of those that may get more credit at the end of this step.
  var isCreditDue = false
  /// Strings whose uncommitted payload came over this connection.
  var owned: Set<Int> = []
  /// Files whose payload is dropped until the host asks for them anew.
  var refused: Set<FileUUID> = []
  var queries: [ResumeQuery] = []
  /// The log has what this host does.
  var isReported = false
}

/// A page of W2, and the strings whose payload on its way must be settled before it can be answered.
struct ResumeQuery {
  var files: [FileUUID]
  var waiting: Set<Int> = []
}

/// Payload that one connection may send (P2): the host may have sent `granted` bytes in all since it connected.
struct CreditLine {
  private(set) var granted: UInt64
  private(set) var consumed: UInt64 = 0
  /// Committed or dropped.
  private(set) var released: UInt64 = 0

  /// What the host counted on when it began: files under way then end only if it stays so.
  private let first: UInt64

  init(first: UInt64) {
    self.first = first
    granted = first
  }

  /// False when the host sends what it wasn't allowed to.
  mutating func consume(_ bytes: UInt64) -> Bool {
    let (sum, overflow) = consumed.addingReportingOverflow(bytes)
    guard !overflow, sum <= granted else { return false }
    consumed = sum
    return true
  }

  mutating func release(_ bytes: UInt64) { released += bytes }

  /// The new total when it is worth a frame: a quarter of the limit came back, or the host has less than half of it left.
  mutating func grant(limit: UInt64) -> UInt64? {
    // The host shares it out by what it was told at first.
    let limit = max(limit, first)
    let total = released + limit
    guard total > granted, total - granted >= limit / 4 || granted - consumed < limit / 2 else { return nil }
    granted = total
    return total
  }
}
