package import DataPlane
package import JournalModel
package import JournalStore
package import WireProtocol

// The door between a server's core and the world, as in `HostPort.swift`: an effect marked '-> x' is answered exactly
// once by that input unless the process dies; the others are performed in order and not answered. Effects about one
// string are performed in the order in which they were appended. A discard comes only while nothing is awaited about it.

/// Who is at the other end, as the transport authenticated it (W5): the subject alternative names of its certificate.
package struct Peer: Hashable, Sendable {
  package var names: [String]
  /// As which servers it may speak (W6).
  package var servers: [String]
  package var address: String
  package init(names: [String], servers: [String] = [], address: String) {
    self.names = names
    self.servers = servers
    self.address = address
  }

  /// Whoever shows the same names is the same.
  var holder: [String] { names + servers.map { "server " + $0 } }
}

/// Numbers a question about a root.
package struct RootID: Hashable, Sendable {
  package var value: UInt64
  package init(_ value: UInt64) { self.value = value }
}

/// Numbers a reading of the store.
package struct ReadID: Hashable, Sendable {
  package var value: UInt64
  package init(_ value: UInt64) { self.value = value }
}

package enum ServerInput: Hashable, Sendable {
  /// First input of a process. `left` are the files that the last one may have left unfinished
  /// (`ServerHoldingsStore.leftUnfinished`), `number` is that of the store's last commit; `counterMatches` is false when
  /// the start counters of store and log root differ (P3).
  case started(
    journals: [HeldJournal], left: [LoadedFile], totals: [HostName: HostTotals], counterMatches: Bool, number: UInt64,
    feed: Feed = Feed(), cursors: [String: FeedCursor] = [:])
  case tick
  case repaired(StringKey, RepairOutcome)
  case accepted(ConnectionID, Peer)
  /// The answer to `dial`: a connection to the peer of this index, as which it showed itself; or why there is none.
  case dialed(Int, ConnectionID, Peer)
  case undialed(Int, String)
  /// Any frame but payload.
  case received(ConnectionID, Frame)
  /// Bytes came (see `HostInput.progress`).
  case progress(ConnectionID)
  /// The transport worked for it beyond what its frames justify, in units of `Limits.allowance`.
  case wasted(ConnectionID, Int)
  case receivedPayload(ConnectionID, PayloadHeader, PayloadID)
  /// The bytes on the connection are no frame: it has been cut off.
  case broken(ConnectionID, String)
  case closed(ConnectionID, String = "closed")
  case compared(PayloadID, isEqual: Bool?)
  case probed(PayloadID, ProbeAnswer)
  case verified(StringKey, VerifyAnswer)
  case created(StringKey, CreateOutcome)
  case written(StringKey, upTo: UInt64, DiskOutcome)
  case synced([SyncedLength], DiskOutcome)
  /// With the store's number since.
  case committed(StoreError?, ServerCommitted = ServerCommitted(), number: UInt64 = 0)
  case loaded(ReadID, StoreAnswer)
  case unreadable(ReadID, StoreError)
  /// Nil when the held bytes can't be read.
  case rootComputed(RootID, Digest?)
  /// That frame of the channel was taken by the transport; false: its bytes can't be read.
  case supplied(ConnectionID, channel: UInt32, PayloadHeader, isSent: Bool)
  /// The transport took what was sent before this was asked.
  case taken(ConnectionID)
  /// When is all that is held here and by peers now held by all of them? -> settled, in time
  case settle(token: UInt64)
  case cancelSettle(token: UInt64)
  /// SIGTERM: finish nothing new, say goodbye.
  case stop

  package struct SyncedLength: Hashable, Sendable {
    package var key: StringKey
    package var length: UInt64
    package init(key: StringKey, length: UInt64) {
      self.key = key
      self.length = length
    }
  }
}

package enum ServerEffect: Hashable, Sendable {
  /// Makes the plain file hold exactly the bytes `row.start ..< row.committed`: cut at `row.synced`, rebuilt from the log,
  /// synced. A crash may have left so many bytes beyond the committed length, nil: none, and none beyond the synced one;
  /// of a file that has more nothing is cut, it is set aside. Makes it if missing and `row.synced` is `row.start`. Tried
  /// again after a failure, while others are served. -> repaired
  case repair(StoredString, leftover: UInt64?)
  /// What was unfinished is repaired: accept connections.
  case serve
  case send(ConnectionID, Frame)
  /// When did the transport take all that was sent so far? -> taken, unless the connection ends
  case awaitTaken(ConnectionID)
  /// Reads nothing more from the connection until `resume`: what its host sends waits there, or with the host. What is
  /// brought all the same is taken.
  case pause(ConnectionID)
  case resume(ConnectionID)
  /// Sends `goodbye`, then closes. Nothing more is brought from this connection but `closed`.
  case close(ConnectionID, RefusalCode, String)
  /// Appends the frame's bytes to the string's queue of received bytes.
  case admit(PayloadID, StringKey, offset: UInt64)
  case drop(PayloadID)
  /// Are the first `count` bytes of the frame equal to the held ones from `offset` on? `count` never goes beyond the
  /// committed length. The frame stays held. -> compared
  case compare(PayloadID, StringKey, Segment, offset: UInt64, count: Int)
  /// The same of bytes that are offered beside the string: where do they leave it? The frame stays held, and begins at that
  /// leaf then. -> probed
  case probe(PayloadID, StringKey, Segment, offset: UInt64, count: Int)
  /// Drops the first `dropping` bytes of the frame, which begins at `offset`, and appends the rest to the queue.
  case admitTail(PayloadID, StringKey, offset: UInt64, dropping: Int)
  /// Hashes queued bytes from `from` (where the tree stands, with `root`) to each promise in turn; the tree then stands at the greatest one met. -> verified
  case verify(StringKey, Segment, from: UInt64, root: Digest, promises: [Promise])
  /// Forgets queued bytes from `from` on.
  case discard(StringKey, from: UInt64)
  /// Makes the plain file with O_EXCL (directories as needed, synced). Comes again after a start for a string whose row
  /// says 'being made'; then only an empty file of that name is adopted. -> created
  case create(StringKey, Segment, adopts: Bool)
  /// Writes queued bytes to the plain file, and syncs it when `sync`. -> written
  case write(StringKey, Segment, from: UInt64, upTo: UInt64, sync: Bool)
  /// Frees queued bytes below `below`.
  case free(StringKey, below: UInt64)
  /// Syncs plain files. -> synced
  case sync([SyncTarget])
  /// `log` names queued bytes that ride inside the commit. One at a time. -> committed
  case commit(ServerBatch, log: [LogRange])
  /// Asks the store, as it is now or later (K1). -> loaded, or unreadable
  case load(ReadID, StoreQuery)
  /// Connects to the peer of this index. -> dialed, or undialed
  case dial(Int)
  /// The root of the string's first `length` bytes, the last of which stands in this segment. -> rootComputed
  case computeRoot(RootID, StringKey, Segment, length: UInt64)
  /// Sends `channel`, and right behind it the payload frame, with bytes that are held. -> supplied, unless the connection
  /// ends
  case supply(ConnectionID, channel: UInt32, StringKey, Segment, PayloadHeader)
  case settled(token: UInt64)
  /// Nothing more about this string follows, unless it is loaded again: what is kept of it in memory goes.
  case forget(StringKey)
  /// Points `latest/<host>/<path>` to the plain file of that name which is the newest by now
  /// (`ServerHoldingsStore.newest`). `path` is relative and escaped already. Sent when a file is made, and again after
  /// every start; performed in this order. Failures are reported only.
  case link(host: HostName, path: BytePath)
  /// The store must not go on: exit for the service manager (P4).
  case halt(String)
  case report(ServerReport)

  package struct SyncTarget: Hashable, Sendable {
    package var key: StringKey
    package var stored: BytePath
    /// What has been written.
    package var length: UInt64
    package init(key: StringKey, stored: BytePath, length: UInt64) {
      self.key = key
      self.stored = stored
      self.length = length
    }
  }
}

package enum ServerReport: Hashable, Sendable {
  case hostConnected(HostName, journal: JournalID, records: UInt64)
  case hostDisconnected(HostName, String)
  case peerRefused(Peer, RefusalCode, String)
  case born(FileKey, stored: BytePath)
  /// Other bytes than string 0's are kept, from here on.
  case branched(FileKey, stored: BytePath, at: UInt64)
  case gap(HostName, Gap)
  /// Other records than sequence 0's of a journal are kept, from this one on.
  case forked(HostJournal, at: UInt64)
  /// The path is nil when the file's birth isn't known.
  case refused(FileKey, BytePath?, RefusalCode, String)
  case setAside(FileKey, BytePath)
  case repairFailed(FileKey, String)
  /// The store refuses this journal, or this file, and nothing else.
  case journalSetApart(HostName, journal: JournalID, String)
  case fileSetApart(FileKey, BytePath, String)
  /// A peer is connected, and which of us connected.
  case peerConnected(String, isDialed: Bool)
  case peerDisconnected(String, String)
  case storeBlocked(String)
  case storeUnblocked
}

/// Signatures, as a port: OpenSSL in the daemon, a keyed hash in the simulator. Pure.
package protocol SignatureVerifier: Sendable {
  func isValid(_ checkpoint: Checkpoint, publicKey: Digest) -> Bool
  /// Why a key proves nothing, whatever it signs; nil when it can be a journal's.
  func objection(toKey publicKey: Digest) -> String?
  /// Nil when the binding vouches for the record's host name, journal id and key by this server's own authorities;
  /// else why not.
  func refusal(of opened: JournalOpened) -> String?
}

extension SignatureVerifier {
  /// No key is weak where signatures aren't cryptography.
  package func objection(toKey publicKey: Digest) -> String? { nil }
}

package struct ServerSettings: Sendable {
  package var name: String
  package var limits: Limits
  /// Payload that may be on its way over all connections, in bytes.
  package var totalCredit: Int
  /// Keeps servers that were started together from dialing together: another one at each start.
  package var jitterSeed: UInt64
  /// Servers that this one synchronises with (W6).
  package var peers: [String]
  package init(
    name: String, limits: Limits = Limits(), totalCredit: Int = 256 << 20, jitterSeed: UInt64 = 0, peers: [String] = []
  ) {
    self.name = name
    self.peers = peers
    self.jitterSeed = jitterSeed
    self.limits = limits
    self.totalCredit = totalCredit
  }
}
