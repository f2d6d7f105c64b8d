import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

/// One journal of one host: what is durable, and the verified records that wait for a commit.
///
/// A verified record is kept until it is durable, whatever becomes of its connection: a host that reconnects goes on
/// from the durable length, and what it repeats is compared with what waits.
struct JournalIntake<H: TreeHasher> where H.Value == Digest {
  /// The durable row.
  private(set) var held: HeldJournal
  /// Over all records taken.
  var frontier: Frontier<H>
  /// Encoded records from `base` on: those that aren't durable, and those that the present connection may repeat.
  var waiting: [[UInt8]] = []
  private(set) var base: UInt64
  var waitingBytes = 0
  /// The host's checkpoint over all of them.
  var checkpoint: Checkpoint?
  private(set) var connection: ConnectionID?
  /// Up to where the connection has shown its records (or was told at first that they are held), and what it was
  /// acknowledged.
  private var shown: UInt64 = 0
  private var acknowledged: UInt64 = 0
  /// In the list of what the next commit takes.
  var isDirty = false
  /// Why the store takes no more of it.
  var apart: String?

  init(_ held: HeldJournal) {
    self.held = held
    base = held.length
    frontier = Frontier(size: held.length, subtrees: held.frontier)
    checkpoint = held.checkpoint
  }

  /// Records taken so far, durable or not.
  var length: UInt64 { frontier.size }

  /// All records that aren't durable as one run.
  var run: ServerBatch.RecordRun {
    var after = held
    after.length = length
    after.checkpoint = checkpoint
    after.frontier = frontier.subtrees
    return ServerBatch.RecordRun(
      first: held.length, encoded: Array(waiting[Int(held.length - base)...]), after: after)
  }

  /// A connection goes on from the durable length that it is told.
  mutating func connect(_ id: ConnectionID) {
    connection = id
    shown = held.length
    acknowledged = held.length
  }

  /// Returns the bytes that are no longer kept; so do the next two.
  mutating func disconnect() -> Int {
    connection = nil
    return trim()
  }

  mutating func advance(to end: UInt64) -> Int {
    shown = max(shown, end)
    return trim()
  }

  mutating func becameDurable(_ after: HeldJournal) -> Int {
    held = after
    return trim()
  }

  /// What the connection has yet to be told, whoever supplied the records: the durable ones, by the host's checkpoint.
  mutating func unacknowledged() -> Checkpoint? {
    guard held.length > acknowledged else { return nil }
    acknowledged = held.length
    return held.checkpoint
  }

  /// What encoded records occupy, about: each is an array.
  static func footprint(of records: ArraySlice<[UInt8]>) -> Int { records.reduce(64 * records.count) { $0 + $1.count } }

  private mutating func trim() -> Int {
    let keep = connection == nil ? held.length : min(held.length, shown)
    let count = Int(keep - base)
    guard count > 0 else { return 0 }
    let bytes = Self.footprint(of: waiting[..<count])
    waiting.removeFirst(count)
    base = keep
    waitingBytes -= bytes
    return bytes
  }
}
