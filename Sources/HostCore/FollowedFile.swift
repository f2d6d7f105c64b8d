import DataPlane
import JournalModel
import JournalStore

/// One incarnation of an inode's content, from its birth (or the process's start) until its end is journaled. There may be
/// very many: what few of them have at a time is `Rare`.
@dynamicMemberLookup
final class FollowedFile {
  enum Presence: Hashable {
    /// Known from the journal, not seen by this process, or let go of: the data plane knows nothing of it.
    case absent
    case named
    /// The last known name is gone, the descriptor is pinned. `isJournaled` once that is certain and recorded.
    case nameless(isJournaled: Bool)
  }
  /// At most one read of a file is under way.
  enum Reading: Hashable { case idle, queued, underWay }

  let id: FileID
  var links: UInt32 = 1
  let uuid: FileUUID
  var inode: InodeKey
  let isDerived: Bool
  let born: WallTime

  // Journaled, though perhaps not committed yet.
  private(set) var length: UInt64
  private(set) var root: Digest
  var tail: Digest

  // Committed: what deliveries may speak of (J1).
  /// Journal index of the last committed record about its birth or growth, and of its birth (0 for older ones).
  var lastRecord: UInt64 = 0
  var bornRecord: UInt64 = 0

  // The inode as last seen.
  var size: UInt64
  var modified: WallTime
  /// The greatest size that a read confirmed as this content's: bytes that were there, whether or not they were read.
  var furthest: UInt64
  /// The greatest size beyond what is journaled that listings showed since the last read began: whose it is, this content's
  /// or another's that came after it, only a read that begins later can tell. Every new file has one: among what is rare
  /// it would leave a hole in the heap for each [27 MB after 100,000 births].
  var glimpsed: UInt64 = 0

  // Names.
  var names = Few<Name>()
  /// The primary name's path; the last one when there is none.
  var path: BytePath
  /// What the next random uuid of this inode is drawn from (D2).
  var entropy = UUIDBytes(high: 0, low: 0)
  var mode: UInt32 = 0
  var owner: UInt32 = 0
  var group: UInt32 = 0

  // Reading.
  private var readDueOrNever = Instant(nanoseconds: .max)
  var readDue: Instant? {
    get { readDueOrNever.nanoseconds < .max ? readDueOrNever : nil }
    set { readDueOrNever = newValue ?? Instant(nanoseconds: .max) }
  }
  /// Where the file's records would stand if each took `coalescing` (J3): the 'theoretical arrival time' of the
  /// generic cell rate algorithm (ITU-T I.371, annex A).
  var paced = Instant(nanoseconds: 0)
  /// How often its bytes and size were looked at with success, for settlements.
  var looks: UInt64 = 0

  /// Where it stands among what is gathered for a commit that isn't full yet; commits about it that are under way or wait
  /// for their turn.
  var change: Int? {
    get { changeOrNone < .max ? Int(changeOrNone) : nil }
    set { changeOrNone = newValue.map { UInt32($0) } ?? .max }
  }
  private var changeOrNone = UInt32.max
  var commitsAhead: UInt32 = 0

  // Small ones stand together, so that no room is lost between them.
  var isCommitted: Bool
  var closed: FileClosed.Reason?
  var presence = Presence.absent
  var reading = Reading.idle
  var readsAgain = false
  /// The data plane holds no descriptor and no path leads to the inode.
  var isGone = false
  /// The answer under way is about an attachment that was let go.
  var discardsRead = false
  /// A read has shown that this inode has the file's bytes. False after a restart, or when its file system was away: the
  /// identity may be another living inode's as well (D2).
  var isConfirmed = true
  /// Since its names went: the descriptor is held.
  var isAtHand = false
  /// Must be read although size and times haven't moved.
  var needsCheck = false {
    didSet { if needsCheck, !isConfirmed, self.origin == nil { self.origin = Origin(inode.stored, path) } }
  }
  /// A delivery wants to hear when there is nothing more to read.
  var isAwaited = false

  // Without a name.
  var isProbing = false
  /// No writer is left (and none can come: there is no name to open).
  var hasNoWriter = false
  /// The last look for writers gave no answer: leases are for owners, or for those who may take any.
  var writersUnknown = false
  /// The answer under way is from before it had a name again.
  var discardsProbe = false
  /// Its last name was a symbolic link: the link's directory says nothing about the file's file system.
  var wasLink = false
  var isMissed = false
  /// It is among those that may leave memory.
  var isRetired = false

  /// What most files don't have: as long as all of it is as it is here, no room is taken for any of it.
  struct Rare: Equatable {
    /// While less is committed than journaled.
    var committed: Standing?
    /// As `glimpsed`, before the last read began.
    var expected: UInt64 = 0
    /// Listings asked for before this content began: what they show may be the one before it.
    var began: UInt64 = 0
    var gapFrom: UInt64?
    var unreadable: String?
    var failures: UInt64 = 0
    /// Why the journal's store refuses it: nothing more is read or journaled of it until the next start.
    var apart: String?
    /// While unconfirmed: what the journal has, and inodes that were read and aren't it. No `origin`: the inode that the
    /// file is taken for, and the present path.
    var origin: Origin?
    var refuted: [InodeKey] = []
    // Without a name.
    var pollDue: Instant?
    /// Looks in a row that found nothing new.
    var idlePolls: UInt64 = 0
    /// When it last brought new bytes, or lost its last name.
    var stillSince = Instant(nanoseconds: 0)
    /// The scan during which its name was missed, and when.
    var missedInScan: UInt64 = 0
    var missedAt: Instant?
  }
  struct Standing: Equatable {
    var length: UInt64
    var root: Digest
  }
  private final class Box {
    var facts = Rare()
  }
  private var rare: Box?

  subscript<Value: Equatable>(dynamicMember fact: WritableKeyPath<Rare, Value>) -> Value {
    get { (rare?.facts ?? Rare())[keyPath: fact] }
    set {
      let isUsual = newValue == Rare()[keyPath: fact]
      if rare == nil {
        if isUsual { return }
        rare = Box()
      }
      rare?.facts[keyPath: fact] = newValue
      if isUsual, rare?.facts == Rare() { rare = nil }
    }
  }

  init(
    id: FileID, uuid: FileUUID, inode: InodeKey, isDerived: Bool, born: WallTime, path: BytePath, empty: Digest
  ) {
    self.id = id
    self.uuid = uuid
    self.inode = inode
    self.isDerived = isDerived
    self.born = born
    self.path = path
    length = 0
    root = empty
    tail = empty
    isCommitted = false
    size = 0
    furthest = 0
    modified = born
  }

  init(id: FileID, known: KnownFile) {
    self.id = id
    uuid = known.file
    inode = known.inode
    isDerived = known.isDerived
    born = known.born
    path = known.path
    length = known.length
    root = known.root
    tail = known.tail
    closed = known.closed
    isCommitted = true
    size = known.size
    furthest = min(known.size, UInt64(Int64.max))
    modified = known.modified
    isConfirmed = false
    self.gapFrom = known.gapFrom
  }

  var committedLength: UInt64 { self.committed?.length ?? length }
  var committedRoot: Digest { self.committed?.root ?? root }

  /// So much is journaled of it; what is committed stays as it is.
  func journal(_ length: UInt64, _ root: Digest) {
    let committed = Standing(length: committedLength, root: committedRoot)
    self.length = length
    self.root = root
    self.committed = committed == Standing(length: length, root: root) ? nil : committed
  }

  func commit(_ length: UInt64, _ root: Digest) {
    let committed = Standing(length: length, root: root)
    self.committed = committed == Standing(length: self.length, root: self.root) ? nil : committed
  }

  /// A read begins: what it finds tells whose the sizes are that were seen before.
  func expectWhatWasGlimpsed() {
    if glimpsed > length { self.expected = max(self.expected, glimpsed) }
    glimpsed = 0
  }

  var isAttached: Bool { presence != .absent }
  /// What is read from it is the file's, as far as anybody knows.
  var isServable: Bool { isAttached && (isConfirmed || !needsCheck) }
  var isNameless: Bool { if case .nameless = presence { true } else { false } }

  /// Where the settled part ends from which on a gap lies; `length` where there is none.
  var gapStart: UInt64 { min(self.gapFrom ?? length, length) }

  /// The greatest size seen and not known to be another content's. Of one set apart all that follows lies in a gap.
  var extent: UInt64 { self.apart == nil ? max(length, furthest, self.expected, glimpsed) : length }

  /// Where the data plane finds the inode.
  var openPath: BytePath { primary?.realPath ?? path }
  var primary: Name? { names.first { $0.path == path } }

  var row: KnownFile {
    KnownFile(
      file: uuid, inode: (self.origin?.inode ?? inode).stored, isDerived: isDerived, path: path, born: born,
      length: length, root: root, tail: tail, size: size, modified: modified, closed: closed, gapFrom: self.gapFrom)
  }
}

/// What the journal has of a file that may be another inode by now.
struct Origin: Equatable {
  let inode: InodeKey
  var path: BytePath

  init(_ inode: InodeKey, _ path: BytePath) {
    self.inode = inode
    self.path = path
  }
}

/// A name of a followed file in a watched directory. Symbolic links are names as well (D9).
struct Name {
  var directory: Directory
  var name: [UInt8]
  var isLink: Bool
  /// Where a symbolic link leads.
  var realPath: BytePath?
  var path: BytePath { directory.path.appending(name) }
}

/// The files that live or are owed, and of the others those that haven't left memory (K1).
final class FileTable {
  private var byID = FileSlots<FollowedFile>()
  /// Present incarnations by their inode's number alone, in the order in which they came: a file system may come back as
  /// another device, and two may hold one identity (D2). The rest of it is compared in the file [as a key of the table it
  /// cost 400 bytes a file].
  private var byNumber = FileIndex()
  /// Those whose identity isn't usable, by their last path as well.
  private var byPath: [BytePath: [FileID]] = [:]
  private var byUUID = FileIndex()
  /// Uuids of files that ended, until whoever asks the store is told so.
  private var gone: Set<FileUUID> = []
  /// Those of them whose end is durable.
  private var ended: [FileUUID] = []
  private var order: [FileID] = []
  private var nextID: UInt32 = 0

  var count: Int { byID.count }

  func makeID() -> FileID {
    defer { nextID &+= 1 }
    return FileID(nextID)
  }

  /// Enters a file; one of the same inode is no longer found by it.
  func insert(_ file: FollowedFile) {
    byID[file.id] = file
    byUUID.insert(file.id, Self.hash(file.uuid))
    index(file)
    order.append(file.id)
    if order.count > 64, order.count > 2 * byID.count { order.removeAll { byID[$0] == nil } }
  }

  func isGone(_ uuid: FileUUID) -> Bool { gone.contains(uuid) }
  func isUsed(_ uuid: FileUUID) -> Bool { self[uuid] != nil || gone.contains(uuid) }

  func remove(_ file: FollowedFile) {
    leave(file)
    gone.insert(file.uuid)
  }

  /// It is a row from now on.
  func leave(_ file: FollowedFile) {
    byID[file.id] = nil
    byUUID.remove(file.id, Self.hash(file.uuid))
    unindex(file)
  }

  private static func hash(_ uuid: FileUUID) -> UInt64 { uuid.bytes.high ^ uuid.bytes.low }

  /// All that was gathered about a file that went is durable.
  func noteEnd(of file: FollowedFile) { ended.append(file.uuid) }

  /// No question is open that was asked before these ends were durable.
  func forgetEnded() {
    guard !ended.isEmpty else { return }
    gone.subtract(ended)
    ended = []
  }

  /// The file is taken to be this inode from now on.
  func move(_ file: FollowedFile, to inode: InodeKey) {
    unindex(file)
    file.inode = inode
    index(file)
  }

  func move(_ file: FollowedFile, to path: BytePath) {
    unindex(file)
    file.path = path
    index(file)
  }

  private func index(_ file: FollowedFile) {
    byNumber.insert(file.id, file.inode.identity.number)
    if !file.inode.identity.isUsable { byPath[file.path, default: []].append(file.id) }
  }

  private func unindex(_ file: FollowedFile) {
    byNumber.remove(file.id, file.inode.identity.number)
    if !file.inode.identity.isUsable { Self.remove(file.id, from: &byPath, at: file.path) }
  }

  private static func remove<Key>(_ id: FileID, from index: inout [Key: [FileID]], at key: Key) {
    index[key]?.removeAll { $0 == id }
    if index[key]?.isEmpty == true { index[key] = nil }
  }

  /// Files whose identity the inode has: on the same file system where the identity alone says little.
  func sharing(_ inode: InodeKey) -> [FollowedFile] {
    var found: [FollowedFile] = []
    visit(inode.identity.number) { file in
      let isOne = file.inode.identity == inode.identity
      if isOne, inode.identity.isUsable || file.inode.filesystem == inode.filesystem { found.append(file) }
    }
    return found
  }

  /// Files without a usable identity that had this path last.
  func lastAt(_ path: BytePath) -> [FollowedFile] { (byPath[path] ?? []).compactMap { byID[$0] } }

  subscript(id: FileID) -> FollowedFile? { byID[id] }
  subscript(uuid: FileUUID) -> FollowedFile? {
    byUUID.first(Self.hash(uuid)) { byID[$0]?.uuid == uuid }.flatMap { byID[$0] }
  }
  /// Of several the one that came last.
  subscript(inode: InodeKey) -> FollowedFile? {
    var last: FollowedFile?
    visit(inode.identity.number) { if $0.inode == inode { last = $0 } }
    return last
  }

  /// Those that may have the number, in the order in which they came.
  private func visit(_ number: UInt64, _ body: (FollowedFile) -> Void) {
    _ = byNumber.first(number) { id in
      if let file = byID[id] { body(file) }
      return false
    }
  }

  /// In the order in which they were entered.
  var all: [FollowedFile] { order.compactMap { byID[$0] } }
}
