import DataPlane
import JournalModel

/// A directory that the follower lists and, where possible, watches.
final class Directory {
  enum Condition: Hashable { case unknown, listed, missing, failed }

  /// A name that leads to a followed file. `stamp` is the last listing that showed it.
  struct Binding {
    var file: FileID
    var isLink: Bool
    var stamp: UInt64
  }
  struct Child {
    var directory: Directory
    var inode: InodeKey
    var stamp: UInt64
  }
  /// What the next request will ask for.
  struct Wanted {
    var everything = false
    /// Everything, unless the directory has stood still.
    var changes = false
    var names: [[UInt8]] = []
    /// Which directory the path leads to.
    var place = false
    var isNothing: Bool { !everything && !changes && !place && names.isEmpty }
  }
  /// More names than this are asked for as everything.
  static let namesAtOnce = 512

  let path: BytePath
  /// Nil for the base of a pattern.
  let parent: Directory?
  var position: FollowPatterns.Position
  var condition = Condition.unknown
  /// The file system that held the directory when it was last listed.
  var filesystem: UInt64?
  var device: UInt64?
  /// The directory itself, as it was last listed in full: its path may lead to another one by now.
  var place: FileFacts?
  /// A link on its path that lends rights, as last seen.
  var lent: LentLink?
  var isOwn = false
  var isWatched = false
  /// For a base: watches tell when its path begins to lead elsewhere.
  var isWayWatched = true
  var isRemoved = false
  /// Removed while an answer was due, and found again: takes this one's place when that answer has come.
  var successor: Directory?
  var names: [[UInt8]: Binding] = [:]
  var children: [[UInt8]: Child] = [:]
  /// Symbolic links that a pattern finds, also those that lead nowhere: polled, since no watch sees their targets' bytes.
  var links: [[UInt8]] = []
  /// Names that the last listings showed but couldn't examine: looked at again, never taken as gone (D10, S07).
  var unexamined: [[UInt8]] = []
  /// Names that a pattern finds and that aren't followed; the empty one stands for a base itself.
  var unfollowed: [[UInt8]: Unfollowed] = [:]
  /// An answer is due; the scan that it counts for (0: none).
  var isAsked = false
  var askedForScan: UInt64 = 0
  /// A listing that waits for what the store knows of its inodes (K1).
  var held: HeldListing?
  /// The number of its last request.
  var request: UInt64 = 0
  var wanted = Wanted()
  private var wantedNames: Set<[UInt8]> = []
  var neededByScan: UInt64 = 0
  var doneInScan: UInt64 = 0
  var pollDue: Instant?
  /// What it was when it was listed in full, as long as the names that are known of it are those that were found then.
  var known: KnownDirectory?
  var listedInFull = Instant(nanoseconds: 0)
  var stamp: UInt64 = 0
  var reported: String?

  init(path: BytePath, parent: Directory?, position: FollowPatterns.Position) {
    self.path = path
    self.parent = parent
    self.position = position
  }

  /// Whether `name` is a name, and its path one that can be opened and journaled.
  func canHold(_ name: [UInt8]) -> Bool {
    !name.isEmpty && path.bytes.count + 1 + name.count <= BytePath.maximumByteCount
      && !name.contains { $0 == 0 || $0 == UInt8(ascii: "/") }
  }

  func path(of name: [UInt8]) -> BytePath { name.isEmpty ? path : path.appending(name) }

  func want(name: [UInt8]) {
    guard !wanted.everything else { return }
    guard wantedNames.insert(name).inserted else { return }
    wanted.names.append(name)
    if wanted.names.count > Self.namesAtOnce { wantEverything() }
  }

  /// With a watch: also one that stands may stand on what the path no longer leads to.
  func wantEverything() {
    wanted.everything = true
    wanted.names = []
    wantedNames = []
  }

  /// The request that is due now, if none is under way.
  func nextRequest() -> HostEffect? {
    guard !isAsked, !isRemoved, !wanted.isNothing else { return nil }
    defer {
      isAsked = true
      wanted = Wanted()
      wantedNames = []
    }
    let isWhole = wanted.everything || wanted.changes
    askedForScan = isWhole ? neededByScan : 0
    guard isWhole else { return .list(directory: path, names: wanted.names) }
    return .watch(directory: path, isBase: parent == nil, known: wanted.everything ? nil : knownWithWanted)
  }

  private var knownWithWanted: KnownDirectory? {
    guard var known, !wantedNames.isEmpty else { return known }
    known.names += wantedNames.subtracting(known.names).sorted { $0.lexicographicallyPrecedes($1) }
    return known
  }
}
