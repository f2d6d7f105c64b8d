import HostCore
import JournalModel
import LinuxIO
import ServerCore
import WireProtocol

/// What work is about: work with equal keys runs in the order in which it was given.
enum WorkKey: Hashable, Sendable {
  case directory(BytePath)
  case file(FileID)
  case string(StringKey)
  case connection(ConnectionID)
  /// A file's bytes for one server.
  case sending(ConnectionID, FileID)
  /// By its name.
  case resolve(String)
  /// One commit at a time for each store.
  case hostCommit, serverCommit
  case reading(ReadID, HostName?)
  case loading(LoadID)
  case sync
  /// One after another for each host: the last one of a name counts.
  case links(HostName)

  /// The host that a server does this for, as a number: hosts have their turns.
  @Sendable static func beneficiary(_ key: WorkKey) -> Int {
    switch key {
    case .string(let key): key.key.host.hashValue
    case .links(let host): host.hashValue
    case .reading(_, let host): host?.hashValue ?? 0
    case .directory, .file, .connection, .sending, .resolve, .hostCommit, .serverCommit, .loading, .sync: 0
    }
  }
}

/// What work waits for (G3): what hangs in one lane delays nothing in another.
enum Lane: WorkLane {
  case hostCommit, serverCommit
  /// What a server's store has: beside its commits, which don't wait for it.
  case holdings
  /// What a host's store has of files, likewise.
  case rows
  /// The journal's records and checkpoints, for sending.
  case journal
  /// Hashing of received bytes.
  case received
  /// Plain files, their syncs and links, each apart: a commit waits for none of them.
  case plainFiles, sync, links
  /// Directories, followed files, and these for sending, by file system.
  case listings(Mount), followed(Mount), sending(Mount)
  /// The address of a server, by its name.
  case names(String)

  var width: Int {
    switch self {
    case .hostCommit, .serverCommit, .sync, .links, .names: 1
    case .journal, .holdings, .rows, .listings: 2
    case .received, .plainFiles, .followed, .sending: 4
    }
  }

  var isOneOfMany: Bool {
    switch self {
    case .listings, .followed, .sending, .names: true
    case .hostCommit, .serverCommit, .holdings, .rows, .journal, .received, .plainFiles, .sync, .links: false
    }
  }
}

typealias Workers = WorkerPool<Lane, WorkKey>
