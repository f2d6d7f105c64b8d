import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

/// One sequence of a host's journal: what is durable, and the verified records that wait for a commit.
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
  /// Of the frames of which not all is durable, with what their records take; and the nodes that those complete.
  private var frames: [(checkpoint: Checkpoint, bytes: UInt64)] = []
  private var nodes: [JournalNodes] = []
  /// The host's checkpoint over all of them.
  private var checkpoint: Checkpoint?
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
  func run(_ limits: Limits) -> ServerBatch.RecordRun {
    var after = held
    after.length = length
    after.checkpoint = checkpoint
    after.frontier = frontier.subtrees
    let (kept, last) = thinned(limits)
    after.kept = last
    return ServerBatch.RecordRun(
      first: held.length, encoded: Array(waiting[Int(held.length - base)...]), after: after, checkpoints: kept,
      nodes: nodes)
  }

  /// The checkpoints that stay beside the last one: where one were left out there would be more than a frame's worth of
  /// records between two.
  private func thinned(_ limits: Limits) -> ([Checkpoint], KeptCheckpoint) {
    var stays: [Checkpoint] = []
    var (kept, last) = (held.kept, held.checkpoint)
    for frame in frames {
      let bytes = kept.bytesSince.saturatingAdding(frame.bytes)
      let isBeyond =
        frame.checkpoint.length - kept.length > UInt64(max(1, limits.recordsPerFrame))
        || bytes > UInt64(max(1, limits.recordBytesPerFrame))
      if isBeyond, let last, last.length > kept.length {
        stays.append(last)
        kept = KeptCheckpoint(length: last.length, bytesSince: frame.bytes)
      } else {
        kept.bytesSince = bytes
      }
      last = frame.checkpoint
    }
    return (stays, kept)
  }

  /// Takes verified records.
  mutating func append(
    _ records: ArraySlice<[UInt8]>, _ completed: [JournalNodes], under checkpoint: Checkpoint, _ frontier: Frontier<H>
  ) {
    self.frontier = frontier
    self.checkpoint = checkpoint
    waiting.append(contentsOf: records)
    frames.append((checkpoint, records.saturatingSum { UInt64($0.count) }))
    nodes += completed
  }

  /// A connection goes on from the durable length, of which it was told so much.
  mutating func connect(_ id: ConnectionID, told length: UInt64) {
    connection = id
    shown = held.length
    acknowledged = length
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
    frames.removeAll { $0.checkpoint.length <= after.length }
    nodes.removeAll { $0.number < after.length }
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
