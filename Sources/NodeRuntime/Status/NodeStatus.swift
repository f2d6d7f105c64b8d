/// What `status --json` prints and `/status.json` serves. The names of the fields are a contract
/// (`design/interfaces.md`): fields may be added, none renamed. Absent values are written as null, not left out.
package struct NodeStatus: Codable, Sendable, Hashable {
  package var name: String
  /// `host`, `server` or both.
  package var roles: [String]
  /// Everything that the node has seen is durable on every server: what `--settled` waits for and says. No gap, nothing
  /// refused, nothing that waits alone or can't be read (those count with `--allow-gaps` only), no alarm.
  package var settled: Bool
  /// On a host: one for each destination, in the order of the configuration.
  package var servers: [Server] = []
  /// On a server: one for each configured peer.
  package var peers: [Peer] = []
  /// On a server: the digest of all that it holds (M2), as `inspect digest` prints it; null until it is that of all, a
  /// second or two after the last change.
  @Null package var digest: String?
  package var files = Files()
  /// On a server: one for each host that ever delivered.
  package var hosts: [Host] = []
  /// Known losses, in the order of their records, at most `listed`; `gapCount` counts all.
  package var gaps: [Gap] = []
  package var gapCount = 0
  /// Files that a server refused, that wait alone or that can't be read, at most `listed`; `waitingCount` counts all.
  package var waiting: [Waiting] = []
  package var waitingCount = 0
  /// Names that a pattern finds and that aren't followed, at most `listed`; `unfollowedCount` counts all.
  package var unfollowed: [Unfollowed] = []
  package var unfollowedCount = 0
  /// What a store refuses by itself, until the next start: on a host files, on a server files and journals; at most `listed`,
  /// `setApartCount` counts all.
  package var setApart: [SetApart] = []
  package var setApartCount = 0
  /// Hosts of whose files a server holds several strings that disagree.
  package var branches: [Branches] = []
  /// Hosts of whose journals a server holds several sequences that disagree: clones, or machines that were rolled back.
  package var equivocations: [Branches] = []
  /// Payload bytes since the start: handed to servers (host), received and committed (server).
  package var sentBytes: UInt64 = 0
  package var receivedBytes: UInt64 = 0
  /// Refusals since the start: told to hosts (server), told by servers (host).
  package var refusals: UInt64 = 0
  package var journalRecords: UInt64 = 0
  package var uptimeSeconds: Double = 0
  /// What stops the node from going on (`journal blocked: ...`), if anything.
  package var alarms: [String] = []
  /// File systems and disks that don't answer. Each is an alarm too.
  package var hanging: [Hanging] = []

  package static let listed = 1_000

  package init(name: String, roles: [String], settled: Bool) {
    self.name = name
    self.roles = roles
    self.settled = settled
  }

  package struct Hanging: Codable, Sendable, Hashable {
    /// Where the file system is mounted, or what of the node's own waits for its disk.
    package var what: String
    package var type: String
    package var seconds: Double
    /// Directories and files that were asked for and don't answer.
    package var count: Int
    package init(what: String, type: String, seconds: Double, count: Int) {
      self.what = what
      self.type = type
      self.seconds = seconds
      self.count = count
    }
  }

  package struct Server: Codable, Sendable, Hashable {
    package var name: String
    package var address: String
    package var connected: Bool
    /// Bytes and records that are journaled and not yet durable there.
    package var lagBytes: UInt64
    package var lagEvents: UInt64
    /// Age of the oldest of them; 0 when there are none.
    package var lagSeconds: Double
    @Null package var lastError: String?
    package var refusals: UInt64
    /// Files that ended before the server was named, or that it lost, and of which it hasn't all: so many at least. Only its
    /// peers can bring them.
    package var lackingFiles = 0
    package init(
      name: String, address: String, connected: Bool, lagBytes: UInt64 = 0, lagEvents: UInt64 = 0,
      lagSeconds: Double = 0, lastError: String? = nil, refusals: UInt64 = 0, lackingFiles: Int = 0
    ) {
      self.lackingFiles = lackingFiles
      self.name = name
      self.address = address
      self.connected = connected
      self.lagBytes = lagBytes
      self.lagEvents = lagEvents
      self.lagSeconds = lagSeconds
      self.lastError = lastError
      self.refusals = refusals
    }
  }

  package struct Peer: Codable, Sendable, Hashable {
    package var name: String
    package var address: String
    package var connected: Bool
    /// Always 0: announcements count changes, whose bytes nobody sums yet.
    package var lagBytes: UInt64 = 0
    /// Changes of this server's that the peer doesn't hold, and of the peer's that aren't held here.
    package var lagEvents: UInt64 = 0
    package var lackingEvents: UInt64 = 0
    /// Age of the oldest change that the peer doesn't hold, or how long it has been away; 0 when it holds all.
    package var lagSeconds: Double = 0
    @Null package var lastError: String?
    /// That of all that the peer holds (M2), as it said last; null until it did.
    @Null package var digest: String?
    /// Each holds all that the other announced, and their digests are the same as far as both are known; null while they
    /// aren't connected.
    @Null package var equal: Bool?

    package var summary: String {
      if !connected { return lastError ?? "not connected" }
      if equal == true { return "equal" }
      if lackingEvents == 0 && lagEvents == 0 { return "each has all of the other, but their digests differ" }
      return "\(lackingEvents) changes to get, \(lagEvents) for it to get"
    }
    package init(name: String, address: String, connected: Bool, lastError: String?) {
      self.name = name
      self.address = address
      self.connected = connected
      self.lastError = lastError
    }
  }

  package struct Files: Codable, Sendable, Hashable {
    /// Files that the host follows, or that the server holds.
    package var followed: Int
    /// How many of them are not closed.
    package var open: Int
    /// On a host: deleted files that are kept open, and their disk space kept, until every server has their bytes.
    package var held: Int
    package var heldBytes: UInt64
    /// On a host: deleted and delivered files that are kept open since it can't be told whether a writer has them
    /// (CAP_LEASE).
    package var unprobed: Int
    package init(followed: Int = 0, open: Int = 0, held: Int = 0, heldBytes: UInt64 = 0, unprobed: Int = 0) {
      self.unprobed = unprobed
      self.followed = followed
      self.open = open
      self.held = held
      self.heldBytes = heldBytes
    }
  }

  package struct Host: Codable, Sendable, Hashable {
    package var name: String
    package var connected: Bool
    /// RFC 3339, UTC; null when it wasn't seen since the node started.
    @Null package var lastSeen: String?
    package var files: Int
    package var bytes: UInt64
    /// Ranges of bytes that records which are held here promise, and that aren't held (yet).
    package var lackingExtents: UInt64
    package init(
      name: String, connected: Bool, lastSeen: String?, files: Int, bytes: UInt64, lackingExtents: UInt64 = 0
    ) {
      self.lackingExtents = lackingExtents
      self.name = name
      self.connected = connected
      self.lastSeen = lastSeen
      self.files = files
      self.bytes = bytes
    }
  }

  package struct Gap: Codable, Sendable, Hashable {
    package var host: String
    /// Null when the file was never known by more than its path.
    @Null package var file: String?
    /// Escaped as `BytePath.escaped` does.
    @Null package var path: String?
    package var from: UInt64
    /// Null where the end is unknown.
    @Null package var to: UInt64?
    package var reason: String
    /// On a host: the servers that don't hold all of it.
    package var lacking: [String]
    package init(
      host: String, file: String?, path: String?, from: UInt64, to: UInt64?, reason: String, lacking: [String] = []
    ) {
      self.host = host
      self.file = file
      self.path = path
      self.from = from
      self.to = to
      self.reason = reason
      self.lacking = lacking
    }
  }

  package struct Waiting: Codable, Sendable, Hashable {
    /// Null when the host itself can't read it.
    @Null package var server: String?
    package var file: String
    package var path: String
    package var reason: String
    package init(server: String?, file: String, path: String, reason: String) {
      self.server = server
      self.file = file
      self.path = path
      self.reason = reason
    }
  }

  package struct Unfollowed: Codable, Sendable, Hashable {
    package var path: String
    package var reason: String
    /// Bytes may be missing that should be delivered: the node isn't settled. False for what is left out on purpose.
    package var owed: Bool
    package init(path: String, reason: String, owed: Bool) {
      self.path = path
      self.reason = reason
      self.owed = owed
    }
  }

  package struct SetApart: Codable, Sendable, Hashable {
    package var host: String
    /// One of the two: a journal is refused as a whole.
    @Null package var journal: String?
    @Null package var file: String?
    @Null package var path: String?
    package var reason: String
    package init(host: String, journal: String? = nil, file: String? = nil, path: String? = nil, reason: String) {
      self.host = host
      self.journal = journal
      self.file = file
      self.path = path
      self.reason = reason
    }
  }

  package struct Branches: Codable, Sendable, Hashable {
    package var host: String
    /// Strings beside the first one of their file: `inspect files` lists them.
    package var count: Int
    package init(host: String, count: Int) {
      self.host = host
      self.count = count
    }
  }
}

/// What `status --settled` waited for.
package struct SettleResult: Codable, Sendable, Hashable {
  /// Everything noted at the moment of the request is durable on every server or lies in a gap.
  package var reached: Bool
  /// What is not, when not: at most `NodeStatus.listed`.
  package var unsettled: [Unsettled]
  /// The node's state when the wait ended.
  package var status: NodeStatus
  package init(reached: Bool, unsettled: [Unsettled], status: NodeStatus) {
    self.reached = reached
    self.unsettled = unsettled
    self.status = status
  }

  package struct Unsettled: Codable, Sendable, Hashable {
    /// The server that lacks it; null on a server.
    @Null package var server: String?
    /// Null for the journal's records.
    @Null package var file: String?
    @Null package var path: String?
    /// Bytes (records for the journal) that were noted, and that are durable.
    package var noted: UInt64
    package var durable: UInt64
    @Null package var reason: String?
    /// The host can't give it any more, but the server's peers may.
    package var isElsewhere: Bool
    package init(
      server: String?, file: String?, path: String?, noted: UInt64, durable: UInt64, reason: String?,
      isElsewhere: Bool = false
    ) {
      self.isElsewhere = isElsewhere
      self.server = server
      self.file = file
      self.path = path
      self.noted = noted
      self.durable = durable
      self.reason = reason
    }
  }
}

/// An optional that is written as null.
@propertyWrapper
package struct Null<Value: Codable & Sendable & Hashable>: Codable, Sendable, Hashable {
  package var wrappedValue: Value?
  package init(wrappedValue: Value?) { self.wrappedValue = wrappedValue }
  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    wrappedValue = container.decodeNil() ? nil : try container.decode(Value.self)
  }
  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if let wrappedValue { try container.encode(wrappedValue) } else { try container.encodeNil() }
  }
}
