package import JournalModel
import JournalStore

/// What a host can say of itself, computed when asked: `status --json`.
package struct HostStatus: Hashable, Sendable {
  package struct WaitingFile: Hashable, Sendable {
    package var file: FileUUID
    package var path: BytePath
    package var reason: String
  }
  package struct Server: Hashable, Sendable {
    package var name: String
    package var isConnected: Bool
    /// Journaled bytes and records that the server hasn't acknowledged; ranges in gaps aren't counted.
    package var lagBytes: UInt64
    package var lagEvents: UInt64
    /// Since when the oldest of them is journaled (as far as this process knows); nil when there is none.
    package var oldestUndelivered: Instant?
    package var lastError: String?
    /// Files that wait alone: refused, ahead, or of other bytes. At most `mostListed`; `waitingCount` counts all.
    package var waiting: [WaitingFile]
    package var waitingCount: Int
    /// Refusals since this process began.
    package var refusals: UInt64
    /// It is known to have every file that ended, but for what gaps say; and some that it said it hasn't.
    package var hasEndedFiles: Bool
    package var lackedEnded: [FileUUID]
  }
  /// A file or directory whose file system doesn't answer.
  package struct Hung: Hashable, Sendable {
    package var path: BytePath
    package var isDirectory: Bool
    package var since: Instant
  }
  package struct Unsettled: Hashable, Sendable {
    package var file: FileUUID
    package var path: BytePath
    package var lack: Lack
  }
  /// What a file still lacks before it counts as settled.
  package struct Lack: Hashable, Sendable {
    /// The first server that lacks bytes; nil while the host itself isn't done with the file.
    package var server: ServerIndex?
    /// Bytes that were noted, and how many of them are journaled, or durable on the server.
    package var noted: UInt64
    package var durable: UInt64
    package var reason: String
    /// The host can't give it any more, but the server's peers may.
    package var isElsewhere = false
  }
  package struct UnfollowedName: Hashable, Sendable {
    package var path: BytePath
    package var why: Unfollowed
  }
  package struct Settlement: Hashable, Sendable {
    package var token: UInt64
    /// False while the scan that it began with isn't over.
    package var isScanned: Bool
    package var unsettledCount: Int
    /// At most `mostListed` of them.
    package var unsettled: [Unsettled]
    /// The servers that the journal waits for, in records.
    package var journal: [Lack]
  }
  package static let mostListed = 100

  /// Every byte that was seen is journaled, and every byte and record journaled is durable on every server, or in a gap;
  /// and nothing hangs, which may hold bytes that nobody knows of.
  package var isSettled: Bool
  package var journalLength: UInt64
  package var journalBlocked: String?
  package var servers: [Server]
  /// Files that the data plane follows now, and incarnations not closed.
  package var filesFollowed: Int
  /// All files but those that are rows alone (K1).
  package var filesInMemory: Int
  package var filesOpen: Int
  /// Files of the journal that weren't found and may still turn up (D10).
  package var filesMissing: Int
  /// Files without a name whose last bytes some server still lacks: their descriptors keep them and their disk space.
  package var filesHeld: Int
  package var bytesHeld: UInt64
  /// Delivered files without a name that are held since nobody can tell whether a writer has them (F2).
  package var filesUnprobed: Int
  /// Gaps recorded and not healed.
  package var gaps: Int
  package var directories: Int
  package var unwatchedDirectories: [BytePath]
  package var unreadableDirectories: [BytePath]
  /// Files that were seen and can't be read: at most `mostListed`; `unreadableCount` counts all.
  package var unreadable: [WaitingFile]
  package var unreadableCount: Int
  /// What was asked and isn't answered within `Limits.hungAfter`, the oldest first: at most `mostListed` of `hungCount`.
  package var hung: [Hung]
  package var hungCount: Int
  /// Names that a pattern finds and that aren't followed, at most `mostListed`, those that keep the host from being settled
  /// first; `unfollowedCount` counts all, `owedNames` those first ones.
  package var unfollowed: [UnfollowedName]
  package var unfollowedCount: Int
  package var owedNames: Int
  /// Files that the journal's store refuses, since this process began: at most `mostListed` of `apartCount`.
  package var apart: [SetApart]
  package var apartCount: Int
  package var settlements: [Settlement]
}

extension HostStatus {
  init(_ follower: Follower, _ settlements: [HostCore.Settlement]) {
    let files = follower.files.all
    let directories = follower.directories.values.filter { !$0.isRemoved }.sorted { $0.path < $1.path }
    servers = follower.deliveries.map { Server($0, files) }
    journalLength = follower.journal.position.length
    journalBlocked = follower.journal.blocked
    filesFollowed = files.count { $0.isAttached }
    filesInMemory = files.count
    filesOpen = files.count { $0.closed == nil }
    filesMissing = files.count { $0.presence == .absent && $0.closed == nil && follower.isOwed($0) }
    let held = files.filter { $0.isNameless && follower.isOwed($0) }
    filesHeld = held.count
    filesUnprobed = files.count { $0.isNameless && $0.writersUnknown && !follower.isOwed($0) }
    bytesHeld = held.saturatingSum(\.size)
    gaps = follower.gaps.count
    self.directories = directories.count
    unwatchedDirectories = directories.filter { $0.condition == .listed && !$0.isWatched }.map(\.path)
    unreadableDirectories = directories.filter { $0.condition == .failed }.map(\.path)
    let unread = files.filter { $0.isAttached && $0.unreadable != nil }
    unreadableCount = unread.count
    unreadable = unread.prefix(Self.mostListed).compactMap { file in
      file.unreadable.map { WaitingFile(file: file.uuid, path: file.path, reason: $0) }
    }
    let waits =
      follower.listingsUnderWay.hungSince.map { Hung(path: $0.key, isDirectory: true, since: $0.since) }
      + follower.reads.hungSince.compactMap { read in
        follower.files[read.key].map { Hung(path: $0.path, isDirectory: false, since: read.since) }
      }
    hungCount = waits.count
    hung = Array(waits.sorted { ($0.since, $0.path) < ($1.since, $1.path) }.prefix(Self.mostListed))
    self.settlements = settlements.map { Settlement($0, follower) }
    unfollowed = Self.unfollowed(directories)
    unfollowedCount = directories.saturatingSum(\.unfollowed.count)
    owedNames = follower.owedNames
    apartCount = follower.apart.count
    apart = Array(follower.apart.values.sorted { ($0.path, $0.file) < ($1.path, $1.file) }.prefix(Self.mostListed))
    isSettled =
      waits.isEmpty && follower.owedNames == 0 && follower.journal.expectedLength == journalLength
      && servers.allSatisfy { $0.lagBytes == 0 && $0.lagEvents == 0 }
      && follower.deliveries.allSatisfy(\.hasEndedFiles)
      && files.allSatisfy { $0.closed == .vanished || $0.extent <= $0.committedLength }
  }
}

extension HostStatus {
  private static func unfollowed(_ directories: [Directory]) -> [UnfollowedName] {
    var owed: [UnfollowedName] = []
    var others: [UnfollowedName] = []
    for directory in directories {
      for (name, why) in directory.unfollowed.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        let path = directory.path(of: name)
        if why.isOwed {
          owed.append(UnfollowedName(path: path, why: why))
        } else if others.count < mostListed {
          others.append(UnfollowedName(path: path, why: why))
        }
        guard owed.count < mostListed else { return owed }
      }
    }
    return owed + others.prefix(mostListed - owed.count)
  }
}

extension HostStatus.Server {
  init(_ delivery: Delivery, _ files: [FollowedFile]) {
    name = delivery.name
    isConnected = delivery.isOpen
    let length = delivery.journal.position.length
    lagEvents = length > delivery.durableRecords ? length - delivery.durableRecords : 0
    oldestUndelivered = delivery.recordsMark?.since
    lastError = delivery.lastError
    refusals = delivery.refusals
    hasEndedFiles = delivery.hasEndedFiles
    lackedEnded = delivery.lackedEnded ?? []
    lagBytes = 0
    waiting = []
    waitingCount = 0
    for file in files {
      let owed = min(file.committedLength, file.gapStart)
      let durable = delivery.durable(file.id)
      guard durable < owed else { continue }
      lagBytes = lagBytes.saturatingAdding(owed - durable)
      guard let cursor = delivery.cursors[file.id] else { continue }
      if let since = cursor.mark?.since { oldestUndelivered = min(oldestUndelivered ?? since, since) }
      guard let reason = cursor.trouble else { continue }
      waitingCount += 1
      if waiting.count < HostStatus.mostListed {
        waiting.append(HostStatus.WaitingFile(file: file.uuid, path: file.path, reason: reason))
      }
    }
  }
}

extension HostStatus.Settlement {
  init(_ settlement: Settlement, _ follower: Follower) {
    token = settlement.token
    isScanned = settlement.hasTargets
    unsettledCount = settlement.targets.count
    unsettled = []
    for id in settlement.targets.keys.sorted() where unsettled.count < HostStatus.mostListed {
      guard let file = follower.files[id], let target = settlement.targets[id],
        let lack = Settlement.lack(of: file, target, follower)
      else { continue }
      unsettled.append(HostStatus.Unsettled(file: file.uuid, path: file.path, lack: lack))
    }
    journal = settlement.hasTargets ? follower.deliveries.compactMap(settlement.lack(of:)) : []
  }
}
