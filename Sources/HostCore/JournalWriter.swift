import DataPlane
import JournalModel
import JournalStore

/// Gathers records while a commit is under way; the next one takes them all (group commit). Nothing is ever dropped:
/// a batch that fails is tried again as it is.
final class JournalWriter {
  /// What a commit makes true of a file.
  private struct Outcome {
    var file: FollowedFile
    var length: UInt64
    var root: Digest
    var last: Int?
    var birth: Int?
  }
  /// More than this isn't gathered by reading on: a blocked journal must not fill the memory.
  static let mostPending = 4_096
  static let mostPendingLeaves = 65_536

  private let limits: Limits
  private(set) var position = JournalPosition(length: 0, root: .zero)
  private var records: [Record] = []
  private var dirty: [FollowedFile] = []
  private var leaves: [LeafRange] = []
  private var leafCount = 0
  private var gaps: [StandingGap] = []
  private var healed: [UInt64] = []
  private var underWay: HostBatch?
  private var outcomes: [Outcome] = []
  private(set) var isCommitting = false
  private(set) var retryDue: Instant?
  private(set) var blocked: String?

  init(limits: Limits) { self.limits = limits }

  func start(at position: JournalPosition) { self.position = position }

  /// Whether reading should pause until something is committed.
  var isFull: Bool { records.count >= Self.mostPending || leafCount >= Self.mostPendingLeaves }
  /// The journal's length when all that is gathered is committed.
  var expectedLength: UInt64 { position.length.saturatingAdd((underWay?.records.count ?? 0) + records.count) }

  // MARK: Gathering

  func append(_ body: RecordBody, at wall: WallTime) { records.append(Record(time: wall, body: body)) }

  func appendBirth(of file: FollowedFile, _ born: FileBorn, at wall: WallTime) {
    file.pendingBirth = records.count
    file.pendingLast = records.count
    append(.fileBorn(born), at: wall)
    markDirty(file)
  }

  /// Growth of a file: joins its record of this batch while that stays within an extent (J3).
  func appendGrowth(of file: FollowedFile, _ appended: Appended, at wall: WallTime) {
    let count = appended.length - file.length
    if let index = file.pendingAppend, case .bytesAppended(var body) = records[index].body,
      count <= UInt64(limits.extentSize), body.length <= UInt64(limits.extentSize) - count
    {
      body.length += count
      body.root = appended.root
      records[index].body = .bytesAppended(body)
    } else {
      file.pendingAppend = records.count
      file.pendingLast = records.count
      let body = BytesAppended(file: file.uuid, offset: file.length, length: count, root: appended.root)
      append(.bytesAppended(body), at: wall)
    }
    if !appended.leaves.hashes.isEmpty {
      leaves.append(appended.leaves)
      leafCount += appended.leaves.hashes.count
    }
    markDirty(file)
  }

  /// Appends a gap, which stands until it is healed. Returns the number of its record.
  func append(_ gap: Gap, at wall: WallTime) -> UInt64 {
    let number = expectedLength
    append(.gap(gap), at: wall)
    let file: FileUUID? = if case .file(let file) = gap.subject { file } else { nil }
    gaps.append(StandingGap(record: number, file: file))
    return number
  }

  /// The bytes of that gap turned up after all.
  func heal(_ gap: UInt64) { healed.append(gap) }

  /// The file's row changed.
  func markDirty(_ file: FollowedFile) {
    guard !file.isRowDirty else { return }
    file.isRowDirty = true
    dirty.append(file)
  }

  // MARK: Committing

  /// No commit is under way, and none waits to be tried again.
  var isFree: Bool { !isCommitting && retryDue == nil }
  func hasWork(notes: Bool) -> Bool { isFree && (underWay != nil || !isEmpty || notes) }
  /// Nothing is on its way to the store.
  var isIdle: Bool { !isCommitting && underWay == nil }
  /// The next commit is one that failed before, unchanged.
  var isRetry: Bool { underWay != nil }
  private var isEmpty: Bool { records.isEmpty && dirty.isEmpty && leaves.isEmpty && healed.isEmpty }

  /// Commits what is gathered, with `notes`. Call only while `hasWork`.
  func commit(notes: [Delivered], _ turn: inout Turn) {
    let batch = underWay ?? take(notes)
    underWay = batch
    isCommitting = true
    turn.emit(.commit(batch))
  }

  private func take(_ notes: [Delivered]) -> HostBatch {
    var batch = HostBatch()
    batch.records = records.map { $0.encoded() }
    batch.files = dirty.map(\.row)
    batch.leaves = leaves
    batch.delivered = notes
    batch.gaps = gaps
    batch.healed = healed
    for file in dirty {
      outcomes.append(
        Outcome(
          file: file, length: file.length, root: file.root, last: file.pendingLast, birth: file.pendingBirth))
      file.isRowDirty = false
      file.pendingAppend = nil
      file.pendingLast = nil
      file.pendingBirth = nil
    }
    records.removeAll(keepingCapacity: true)
    dirty.removeAll(keepingCapacity: true)
    leaves.removeAll(keepingCapacity: true)
    leafCount = 0
    gaps = []
    healed = []
    return batch
  }

  /// Everything of the batch under way is durable. Returns the files that it was about.
  func committed(_ position: JournalPosition, _ turn: inout Turn) -> [FollowedFile] {
    guard isCommitting, let batch = underWay else { return [] }
    isCommitting = false
    underWay = nil
    let base = position.length &- UInt64(batch.records.count)
    self.position = position
    for outcome in outcomes {
      let file = outcome.file
      file.isCommitted = true
      file.committedLength = outcome.length
      file.committedRoot = outcome.root
      if let last = outcome.last { file.lastRecord = base &+ UInt64(last) }
      if let birth = outcome.birth { file.bornRecord = base &+ UInt64(birth) }
    }
    if blocked != nil {
      blocked = nil
      turn.report(.journalUnblocked)
    }
    defer { outcomes.removeAll(keepingCapacity: true) }
    return outcomes.map(\.file)
  }

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

  func tick(_ turn: inout Turn) {
    if let due = retryDue, due <= turn.now { retryDue = nil }
  }
}
