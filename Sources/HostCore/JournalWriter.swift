import DataPlane
import JournalModel
import JournalStore

/// Gathers records while a commit is under way; the next one takes them all (group commit), or as many as go into one.
/// Nothing is ever dropped: a batch that finds no room is tried again as it is. What the store refuses of one file is set
/// apart, and a gap says so.
final class JournalWriter {
  /// More than this isn't gathered by reading on: a blocked journal must not fill the memory.
  static let mostPending = 4_096
  static let mostPendingLeaves = 65_536

  private let limits: Limits
  private(set) var position = JournalPosition(length: 0, root: .zero)
  /// The store's, when the last commit was answered (`HostJournalStore.number`).
  private(set) var number: UInt64 = 0
  private var gathered = Gathered()
  /// Those that are large enough, in their order.
  private var waiting: [Gathered] = []
  private var underWay: Gathered?
  private(set) var isCommitting = false
  private(set) var retryDue: Instant?
  private(set) var blocked: String?

  init(limits: Limits) { self.limits = limits }

  func start(at position: JournalPosition, number: UInt64) {
    self.position = position
    self.number = number
  }

  /// Whether reading should pause until something is committed.
  var isFull: Bool {
    waiting.reduce(gathered.records.count) { $0 + $1.records.count } >= Self.mostPending
      || waiting.reduce(gathered.leafCount) { $0 + $1.leafCount } >= Self.mostPendingLeaves
  }
  /// The journal's length when all that is gathered is committed.
  var expectedLength: UInt64 {
    let ahead = (underWay?.records.count ?? 0) + waiting.saturatingSum(\.records.count)
    return position.length.saturatingAdd(ahead + gathered.records.count)
  }

  // MARK: Gathering

  /// A record about a file, unless it is set apart.
  func append(_ body: RecordBody, of file: FollowedFile, at wall: WallTime) {
    guard file.apart == nil else { return }
    gathered.append(Record(time: wall, body: body))
  }

  func appendBirth(of file: FollowedFile, _ born: FileBorn, at wall: WallTime) {
    gathered.appendBirth(of: file, Record(time: wall, body: .fileBorn(born)))
  }

  func appendGrowth(of file: FollowedFile, _ appended: Appended, at wall: WallTime) {
    gathered.appendGrowth(of: file, appended, extent: limits.extentSize, at: wall)
  }

  /// Appends a gap, which stands until it is healed.
  func append(_ gap: Gap, at wall: WallTime) -> OpenGap {
    let file: FileUUID? = if case .file(let file) = gap.subject { file } else { nil }
    let open = OpenGap(file: file, upper: gap.upper)
    gathered.append(open, Record(time: wall, body: .gap(gap)))
    return open
  }

  /// The bytes of that gap turned up after all.
  func heal(_ gap: OpenGap) { gathered.heal(gap) }

  /// The file's row changed.
  func markDirty(_ file: FollowedFile) {
    guard file.apart == nil else { return }
    gathered.change(of: file)
  }

  /// What was gathered before need not be committed together with what follows.
  func divide() {
    guard gathered.size >= max(1, limits.commitSize) else { return }
    gathered.seal()
    waiting.append(gathered)
    gathered = Gathered()
  }

  // MARK: Committing

  /// No commit is under way, and none waits to be tried again.
  var isFree: Bool { !isCommitting && retryDue == nil }
  func hasWork(notes: Bool) -> Bool {
    isFree && (underWay != nil || !waiting.isEmpty || !gathered.isEmpty || notes)
  }
  /// Nothing is on its way to the store.
  var isIdle: Bool { !isCommitting && underWay == nil }
  /// The next commit is one that failed before.
  var isRetry: Bool { underWay != nil }

  /// What is committed next, unless it is a retry, ends files or strikes out gaps.
  var vouchesNext: Bool { (waiting.first ?? gathered).vouches }

  /// Commits what was gathered first, with `notes` and `positions`, before which all that is noted of `forgotten` goes.
  /// Call only while `hasWork`.
  func commit(
    notes: [Delivered], at positions: [ServerPosition], forgetting forgotten: [String], _ turn: inout Turn
  ) {
    if underWay == nil {
      underWay = takeFirst()
      underWay?.take(notes, at: positions, forgetting: forgotten)
    }
    guard let underWay else { return }
    isCommitting = true
    turn.emit(.commit(underWay.batch(at: position.length)))
  }

  private func takeFirst() -> Gathered {
    if !waiting.isEmpty { return waiting.removeFirst() }
    gathered.seal()
    defer { gathered = Gathered() }
    return gathered
  }

  /// Everything of the batch under way is durable. Returns the files that it was about.
  func committed(_ position: JournalPosition, number: UInt64, _ turn: inout Turn) -> [FollowedFile] {
    guard isCommitting, let done = underWay else { return [] }
    self.number = max(self.number, number)
    isCommitting = false
    underWay = nil
    let base = position.length &- UInt64(done.records.count)
    self.position = position
    for change in done.changes {
      let file = change.file
      file.isCommitted = true
      file.commitsAhead -= 1
      file.commit(change.row.length, change.row.root)
      if let last = change.last { file.lastRecord = base &+ UInt64(last) }
      if let birth = change.birth { file.bornRecord = base &+ UInt64(birth) }
    }
    if blocked != nil {
      blocked = nil
      turn.report(.journalUnblocked)
    }
    return done.changes.map(\.file)
  }

  /// The same is tried again after a while: there may be room then.
  func failed(_ error: StoreError, _ turn: inout Turn) {
    guard isCommitting else { return }
    isCommitting = false
    retryDue = turn.now + limits.retry
    let reason = "\(error)"
    if blocked != reason {
      blocked = reason
      turn.report(.journalBlocked(reason))
    }
  }

  /// The store refuses the file, whatever comes with it: all that isn't committed of it is left out, and the rest tried
  /// again at once. Each refusal leaves less. Returns its path; nil if the batch that was refused has nothing of it.
  func leaveOut(_ file: FileUUID) -> BytePath? {
    guard isCommitting, let path = underWay?.path(of: file) else { return nil }
    isCommitting = false
    var unborn = underWay?.leaveOut(file, unborn: nil)
    for index in waiting.indices { unborn = waiting[index].leaveOut(file, unborn: unborn) }
    _ = gathered.leaveOut(file, unborn: unborn)
    return path
  }

  func tick(_ turn: inout Turn) {
    if let due = retryDue, due <= turn.now { retryDue = nil }
  }
}
