import DataPlane
import JournalModel
import MerkleLog

/// One step of the machine: the time, and what comes of it.
struct Turn {
  let now: Instant
  let wall: WallTime
  var effects: [HostEffect]
  /// Files that a delivery asks the follower to look at again.
  var checks: [FileID] = []
  /// Files whose journaled or durable length moved, and those that go on as another, while a settlement waits.
  var isSettling: Bool
  private(set) var touched: [FileID] = []
  private(set) var reborn: [(from: FileID, to: FileID)] = []
  /// What servers said of files that aren't in memory.
  var words: [Word] = []
  /// Files with a gap of which a server has more.
  var advanced: [FileID] = []
  /// A server turned out to hold less than it had acknowledged.
  var hasLost = false

  mutating func touch(_ id: FileID) {
    if isSettling { touched.append(id) }
  }
  mutating func touch(_ id: FileID, rebornAs next: FileID) {
    if isSettling { reborn.append((id, next)) }
  }
  mutating func emit(_ effect: HostEffect) { effects.append(effect) }
  mutating func report(_ report: HostReport) { effects.append(.report(report)) }
}

/// What of the tree's hash the machine needs, so that nothing else is generic.
struct IdentitySource {
  /// The root of no bytes.
  let empty: Digest
  /// The uuid of incarnation 0 (D1).
  let derive: (InodeIdentity) -> FileUUID
  /// A random uuid out of an entry's random bytes, and bytes for the next one (D2).
  let draw: (UUIDBytes) -> (uuid: FileUUID, rest: UUIDBytes)

  init<H: TreeHasher>(_: H.Type, host: HostName) where H.Value == Digest {
    empty = H.empty
    derive = { FileUUID.derived(host: host, identity: $0) { H.digest($0) } }
    draw = { entropy in
      var writer = ByteWriter(reserving: 40)
      writer.write(context: "nimbus draw 1")
      writer.write(entropy)
      let words = H.digest(writer.bytes.span.bytes).words
      let uuid = FileUUID(UUIDBytes(high: words.0, low: words.1).marked(version: 4))
      return (uuid, UUIDBytes(high: words.2, low: words.3))
    }
  }
}
