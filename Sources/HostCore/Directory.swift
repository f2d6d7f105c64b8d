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
    var watch = false
    var everything = false
    var names: [[UInt8]] = []
    var isNothing: Bool { !watch && !everything && names.isEmpty }
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
  var isWatched = false
  var isRemoved = false
  /// Removed while an answer was due, and found again: takes this one's place when that answer has come.
  var successor: Directory?
  var names: [[UInt8]: Binding] = [:]
  var children: [[UInt8]: Child] = [:]
  /// Symbolic links among the names, in the order in which they came: polled, since no watch sees their targets.
  var links: [[UInt8]] = []
  /// Names that the last listings showed but couldn't examine: looked at again, never taken as gone (D10, S07).
  var unexamined: [[UInt8]] = []
  /// An answer is due; the scan that it counts for (0: none).
  var isAsked = false
  var askedForScan: UInt64 = 0
  /// The number of its last request.
  var request: UInt64 = 0
  var wanted = Wanted()
  private var wantedNames: Set<[UInt8]> = []
  var neededByScan: UInt64 = 0
  var doneInScan: UInt64 = 0
  var pollDue: Instant?
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

  func want(name: [UInt8]) {
    guard !wanted.everything, !wanted.watch else { return }
    guard wantedNames.insert(name).inserted else { return }
    wanted.names.append(name)
    if wanted.names.count > Self.namesAtOnce { wantEverything() }
  }

  /// Watches too where no watch stands.
  func wantEverything() {
    wanted.everything = true
    if !isWatched { wanted.watch = true }
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
    askedForScan = wanted.everything || wanted.watch ? neededByScan : 0
    if wanted.watch { return .watch(directory: path) }
    return .list(directory: path, names: wanted.everything ? nil : wanted.names)
  }
}
