package import JournalModel

/// Received bytes and plain files on a server, as `ServerCore` asks for them by effects. Implemented by `LinuxIO` and by
/// `SimulatedWorld`; one conformance suite holds both. Synchronous; calls about different strings may run at the same
/// time on different threads, calls about one string come one at a time except `admit`, `admitTail`, `free`, `drop`.
package protocol ServerDataPlane: AnyObject {
  /// Takes a frame's bytes; they wait until one of the next four calls says what becomes of them.
  func hold(_ id: PayloadID, bytes: [UInt8])
  func admit(_ id: PayloadID, to key: StringKey, offset: UInt64)
  func admitTail(_ id: PayloadID, to key: StringKey, offset: UInt64, dropping: Int)
  func drop(_ id: PayloadID)
  /// Nil when the held bytes can't be read.
  func compare(_ id: PayloadID, with key: StringKey, in segment: Segment, offset: UInt64, count: Int) -> Bool?
  /// See `ProbeAnswer`. `offset` isn't before the segment's start; of the frame `count` bytes at least are there.
  func probe(_ id: PayloadID, against key: StringKey, in segment: Segment, offset: UInt64, count: Int) -> ProbeAnswer
  /// The root of the string's first `length` bytes, all of which are committed and the last of which stands in this
  /// segment; nil when they can't be read. So the next one.
  func root(of key: StringKey, in segment: Segment, length: UInt64) -> Digest?
  /// Committed bytes, behind `head`.
  func read(_ key: StringKey, in segment: Segment, offset: UInt64, count: Int, behind head: [UInt8]) -> [UInt8]?

  /// - Parameter segment: where held bytes are read, should the tree need some.
  func verify(
    _ key: StringKey, in segment: Segment, from: UInt64, root: Digest, promises: [Promise]
  ) -> VerifyAnswer
  func discard(_ key: StringKey, from: UInt64)
  /// Queued bytes, for the store's log.
  func queued(_ key: StringKey, offset: UInt64, length: Int) -> [UInt8]
  func free(_ key: StringKey, below: UInt64)
  /// Keeps nothing of it in memory: what is asked about it later stands on the store and the plain file.
  func forget(_ key: StringKey)

  /// - Parameter adopts: whether an empty file of that name is the one that is to be made.
  func create(_ key: StringKey, _ segment: Segment, adopts: Bool) -> CreateOutcome
  /// `from` and `upTo` are offsets of the string, as everywhere.
  func write(_ key: StringKey, _ segment: Segment, from: UInt64, upTo: UInt64, sync: Bool) -> DiskOutcome
  func sync(_ stored: [BytePath]) -> DiskOutcome
  /// Repairs a plain file (P3): `log` are the store's ranges of this string in order.
  func repair(
    _ key: StringKey, _ segment: Segment, synced: UInt64, committed: UInt64, log: [(offset: UInt64, bytes: [UInt8])],
    leftover: UInt64?
  ) -> RepairOutcome
  /// Nil when done, else what failed.
  func link(host: HostName, path: BytePath, to stored: BytePath) -> String?
}
