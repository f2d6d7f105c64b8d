package import DataPlane
package import JournalModel
package import JournalStore
package import WireProtocol

// The door between a host's core and the world. The daemon (NodeRuntime) and the simulator perform the effects and bring
// the answers as inputs; nothing else passes. Every effect marked '-> x' is answered exactly once by that input, unless
// the process dies; everything else is performed in order and not answered.

/// Position of a server in the configuration's list.
package struct ServerIndex: Hashable, Sendable, Comparable {
  package var value: Int
  package init(_ value: Int) { self.value = value }
  package static func < (l: ServerIndex, r: ServerIndex) -> Bool { l.value < r.value }
}

/// A question to the store.
package struct LoadID: Hashable, Sendable {
  package var value: UInt64
  package init(_ value: UInt64) { self.value = value }
}

// MARK: Inputs and effects

package enum HostInput: Hashable, Sendable {
  /// First input of a process: what the journal knows. `wall` accompanies every input that may write records.
  case started(HostStart)
  case tick
  case hinted(WatchHint)
  case listed(Listing)
  case ingested(FileID, IngestAnswer)
  /// Whether any process has the file open for writing; nil when the file system can't tell.
  case writersProbed(FileID, hasWriters: Bool?)
  /// With the store's number after it.
  case committed(JournalPosition, number: UInt64)
  case commitFailed(StoreError)
  case loaded(LoadID, HostAnswer)
  case loadFailed(LoadID, StoreError)
  case connected(ServerIndex, ConnectionID)
  /// A connection ended, or an attempt failed (`connection` nil).
  case disconnected(ServerIndex, ConnectionID?, reason: String)
  case received(ConnectionID, Frame)
  /// Bytes came, perhaps of a frame that isn't complete yet. At least once each `Limits.progress` in which any came: on
  /// a slow link a frame may take longer than `silence`.
  case progress(ConnectionID)
  /// The transport worked for it beyond what its frames justify, in units of `Limits.allowance`.
  case wasted(ConnectionID, Int)
  case headsVerified(ConnectionID, TreeHead?)
  case rootComputed(ConnectionID, FileID, length: UInt64, Digest?)
  /// The frame of `sendPayload` was handed to the socket in full.
  case payloadSent(ConnectionID, FileID, end: UInt64)
  /// The bytes of `sendPayload` couldn't be read as journaled; nothing was sent.
  case payloadUnavailable(ConnectionID, FileID, offset: UInt64, reason: String)
  /// The bytes or the root of a file that were asked for on a connection aren't there within `Limits.hungAfter`; nothing
  /// more comes of it.
  case unanswered(ConnectionID, FileID)
  /// An operator asks to be told when all that exists now is on every server (`status --settled`).
  case settle(token: UInt64)
  case cancelSettle(token: UInt64)
  /// SIGTERM: say goodbye, then nothing more.
  case stop
}

package enum HostEffect: Hashable, Sendable {
  /// Places a watch if it can, then lists the whole directory; for a base the components of its path are watched too
  /// (F1). Of one that has stood still since it was `known` so, these names alone are looked at (K6). -> listed
  case watch(directory: BytePath, isBase: Bool, known: KnownDirectory?)
  case unwatch(directory: BytePath)
  /// Lists the names, or everything. -> listed
  case list(directory: BytePath, names: [[UInt8]]?)
  /// Tells the data plane how to reach a file. The descriptor is opened when needed, closed when descriptors are
  /// scarce, and never closed while `isPinned` (no name is left).
  case attach(FileID, file: FileUUID, inode: InodeKey, path: BytePath)
  case relocate(FileID, path: BytePath, isPinned: Bool)
  /// The same inode goes on as the next incarnation, from length 0.
  case reborn(FileID, as: FileID, file: FileUUID)
  /// Closes and forgets.
  case release(FileID)
  /// Reads at most `limit` bytes from `from` on into the file's tree. The data plane makes sure that its tree stands at
  /// `from` with `root` (after a restart by the stored leaves, re-reading the open leaf and the leaf before it: D4),
  /// reads, and then compares size and the last `tailSize` bytes before `from`. -> ingested
  case ingest(FileID, from: UInt64, root: Digest, limit: Int)
  /// -> writersProbed
  case probeWriters(FileID)
  /// One at a time. -> committed, commitFailed
  case commit(HostBatch)
  /// Asks the store, as it is now or later (K1). -> loaded, loadFailed
  case load(LoadID, HostQuery)
  /// -> connected, disconnected
  case connect(ServerIndex)
  case disconnect(ConnectionID, reason: String)
  case send(ConnectionID, Frame)
  /// Sends the records as one frame with a checkpoint signed over `upTo` records (J2).
  case sendRecords(ConnectionID, from: UInt64, upTo: UInt64)
  /// At most one at a time for each connection and file system; behind the records whose sending was asked for before,
  /// in any order among themselves. -> payloadSent, payloadUnavailable, unanswered (or disconnected)
  case sendPayload(ConnectionID, FileID, PayloadHeader)
  /// Which of these heads, none beyond the journal's end, is the longest that lies on the local journal? -> headsVerified
  case verifyHeads(ConnectionID, [TreeHead])
  /// The tree's root at a length not beyond the journaled one, nil if it can't be had any more. Asked and answered for
  /// one connection alone: what a neighbour was told neither hurries nor delays it (G3). -> rootComputed, unanswered
  case computeRoot(ConnectionID, FileID, length: UInt64)
  case settled(token: UInt64)
  /// The journal's store must not go on: exit for the service manager (P4).
  case halt(String)
  case report(HostReport)
}

/// What an operator should know, once each.
package enum HostReport: Hashable, Sendable {
  case born(FileUUID, BytePath)
  case rotated(FileUUID, from: BytePath, to: BytePath?)
  case truncated(FileUUID, BytePath, length: UInt64, next: FileUUID)
  case closed(FileUUID, BytePath, length: UInt64, FileClosed.Reason)
  /// `lacking`: the servers that don't hold all of it.
  case gap(Gap, BytePath, lacking: [ServerIndex])
  /// A file waits alone: why, and what would end it.
  case waiting(FileUUID, BytePath, String)
  case resumed(FileUUID, BytePath)
  /// The server holds other bytes under the file's uuid: its own are delivered beside them.
  case beside(ServerIndex, FileUUID, BytePath)
  /// The server holds other records of this journal: its own are delivered beside them, from the one with that number on
  /// or an earlier one.
  case journalBeside(ServerIndex, from: UInt64)
  case unreadable(BytePath, String)
  case unwatched(BytePath)
  /// A name that a pattern finds, and that isn't followed.
  case unfollowed(BytePath, Unfollowed)
  /// Whether a writer still has a removed file open can't be told, here and for others like it: said once.
  case writersUnknown(BytePath)
  /// A removed file is no longer held open although a writer may still have it.
  case gaveUp(FileUUID, BytePath)
  case serverUp(ServerIndex, records: UInt64)
  /// It holds fewer records than it had acknowledged: what was delivered to it is asked about anew, and delivered again
  /// as far as it is still there.
  case serverLost(ServerIndex, records: UInt64, acknowledged: UInt64)
  /// Its store isn't the one that acknowledged, or an earlier state of it: what was delivered is asked about anew.
  case serverPutBack(ServerIndex)
  case serverDown(ServerIndex, reason: String)
  case refused(ServerIndex, FileUUID?, BytePath?, RefusalCode, String)
  case journalBlocked(String)
  /// The journal's store refuses the file: it is followed no further until the next start, others go on.
  case setApart(FileUUID, BytePath, String)
  case journalUnblocked
}

/// How a host's core is set up.
package struct HostSettings: Sendable {
  package var host: HostName
  package var journal: JournalID
  package var publicKey: Digest
  package var servers: [String]
  package var follow: [FollowRule]
  /// The node's own data, logs and log root: never followed (D9). Directories and files by inode.
  package var excluded: Set<InodeKey>
  /// The node's user: whoever may name what only this user can read lends nothing to anybody (D9).
  package var user: UInt32
  package var limits: Limits
  /// Files without a name that may hold a descriptor at once. Beyond that they are let go of, the longest still first.
  package var mostHeld: Int
  /// Seed of the jitter of reconnects.
  package var jitterSeed: UInt64
  package init(
    host: HostName, journal: JournalID, publicKey: Digest, servers: [String], follow: [FollowRule],
    excluded: Set<InodeKey> = [], user: UInt32 = 0, limits: Limits = Limits(), mostHeld: Int = .max,
    jitterSeed: UInt64 = 0
  ) {
    self.host = host
    self.journal = journal
    self.publicKey = publicKey
    self.servers = servers
    self.follow = follow
    self.excluded = excluded
    self.user = user
    self.limits = limits
    self.mostHeld = mostHeld
    self.jitterSeed = jitterSeed
  }
}

/// Glob patterns over absolute paths: `?`, `*`, `[a-z]`, `[!a-z]` within one component, `**` for any number of
/// components. A file is followed when an include matches and no exclude does.
package struct FollowRule: Hashable, Sendable {
  package var include: [BytePath]
  package var exclude: [BytePath]
  /// Also by links that lend the node's rights to whoever made them (D9).
  package var followsAnyLink: Bool
  package init(include: [BytePath], exclude: [BytePath] = [], followsAnyLink: Bool = false) {
    self.include = include
    self.exclude = exclude
    self.followsAnyLink = followsAnyLink
  }
}
