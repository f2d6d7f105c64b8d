import DataPlane
import JournalModel
import JournalStore

/// What one commit makes durable, while it is gathered and while it is under way.
struct Gathered {
  /// What it makes true of a file: its row, and where its records stand among `records`. No object [very many at once,
  /// each beside its file, left holes in the heap: 40 MB after 100,000 births].
  struct Change {
    let file: FollowedFile
    fileprivate(set) var row: KnownFile
    fileprivate(set) var birth: Int?
    fileprivate(set) var last: Int?
    fileprivate var append: Int?

    fileprivate init(_ file: FollowedFile) {
      self.file = file
      row = file.row
    }

    fileprivate mutating func move(_ place: (Int) -> Int?) {
      birth = birth.flatMap(place)
      last = last.flatMap(place)
      append = append.flatMap(place)
    }
  }
  private(set) var records: [Record] = []
  private(set) var changes: [Change] = []
  private(set) var leafCount = 0
  private var leaves: [LeafRange] = []
  private var gaps: [(index: Int, gap: OpenGap)] = []
  private var healed: [OpenGap] = []
  private(set) var notes: [Delivered] = []
  private var positions: [ServerPosition] = []
  private var forgotten: [String] = []
  private var isSealed = false

  /// What it costs the store, in rows.
  var size: Int { max(records.count, changes.count, leafCount / 64) }
  var vouches: Bool { !healed.isEmpty || changes.contains { $0.file.closed != nil } }
  var isEmpty: Bool { records.isEmpty && changes.isEmpty && leaves.isEmpty && healed.isEmpty && notes.isEmpty }

  mutating func append(_ record: Record) { records.append(record) }

  mutating func append(_ gap: OpenGap, _ record: Record) {
    gaps.append((records.count, gap))
    records.append(record)
  }

  mutating func heal(_ gap: OpenGap) { healed.append(gap) }

  mutating func appendBirth(of file: FollowedFile, _ record: Record) {
    let change = change(of: file)
    changes[change].birth = records.count
    changes[change].last = records.count
    append(record)
  }

  /// Growth of a file: joins its record of this batch while that stays within an extent (J3).
  mutating func appendGrowth(of file: FollowedFile, _ appended: Appended, extent: Int, at wall: WallTime) {
    let count = appended.length - file.length
    let change = change(of: file)
    if let index = changes[change].append, case .bytesAppended(var body) = records[index].body, count <= UInt64(extent),
      body.length <= UInt64(extent) - count
    {
      body.length += count
      body.root = appended.root
      records[index].body = .bytesAppended(body)
    } else {
      changes[change].append = records.count
      changes[change].last = records.count
      let body = BytesAppended(file: file.uuid, offset: file.length, length: count, root: appended.root)
      append(Record(time: wall, body: .bytesAppended(body)))
    }
    guard !appended.leaves.hashes.isEmpty else { return }
    leaves.append(appended.leaves)
    leafCount += appended.leaves.hashes.count
  }

  /// The file's row is part of it. Returns its place among `changes`.
  @discardableResult mutating func change(of file: FollowedFile) -> Int {
    if let change = file.change { return change }
    file.change = changes.count
    changes.append(Change(file))
    return changes.count - 1
  }

  // MARK: Committing

  /// Nothing more joins it: what comes from now on of its files is another commit's.
  mutating func seal() {
    isSealed = true
    for index in changes.indices {
      let file = changes[index].file
      changes[index].row = file.row
      file.change = nil
      file.commitsAhead += 1
    }
  }

  mutating func take(_ notes: [Delivered], at positions: [ServerPosition], forgetting forgotten: [String]) {
    self.notes = notes
    self.positions = positions
    self.forgotten = forgotten
  }

  /// For a journal that has `length` records.
  func batch(at length: UInt64) -> HostBatch {
    var batch = HostBatch()
    batch.records = records.map { $0.encoded() }
    batch.files = changes.map(\.row)
    batch.leaves = leaves
    batch.forgotten = forgotten
    batch.delivered = notes
    batch.positions = positions
    for (index, gap) in gaps { gap.record = length.saturatingAdd(index) }
    batch.gaps = gaps.map { StandingGap(record: $0.gap.record, file: $0.gap.file, upper: $0.gap.upper) }
    batch.healed = healed.map(\.record)
    return batch
  }

  // MARK: What the store refuses

  /// Whether it says anything of the file: where the file is then.
  func path(of uuid: FileUUID) -> BytePath? {
    changes.first { $0.file.uuid == uuid }?.row.path
  }

  /// Without the file, but for what is said to be lost of it: under its path when its birth goes as well. `unborn`: its
  /// path, when that went from a commit before this one. Returns the same for those that follow.
  mutating func leaveOut(_ uuid: FileUUID, unborn: BytePath?) -> BytePath? {
    let isBorn = changes.contains { $0.file.uuid == uuid && $0.birth != nil }
    let unborn = isBorn ? path(of: uuid) : unborn
    var places: [Int?] = []
    var kept: [Record] = []
    for var record in records {
      guard record.body.file != uuid || record.body.isGap else {
        places.append(nil)
        continue
      }
      if let path = unborn, case .gap(var gap) = record.body, gap.subject == .file(uuid) {
        gap.subject = .path(path)
        record.body = .gap(gap)
      }
      places.append(kept.count)
      kept.append(record)
    }
    records = kept
    for change in changes where change.file.uuid == uuid {
      if isSealed { change.file.commitsAhead -= 1 } else { change.file.change = nil }
    }
    changes.removeAll { $0.file.uuid == uuid }
    for index in changes.indices {
      changes[index].move { places[$0] }
      if !isSealed { changes[index].file.change = index }
    }
    leaves.removeAll { $0.file == uuid }
    leafCount = leaves.saturatingSum { $0.hashes.count }
    gaps = gaps.compactMap { gap in places[gap.index].map { ($0, gap.gap) } }
    return unborn
  }
}

/// A gap that stands. Its record's number holds from the moment its commit is under way, and for good when that is done:
/// what the store refuses leaves the batch, and later records move up.
final class OpenGap {
  fileprivate(set) var record: UInt64
  let file: FileUUID?
  let upper: UInt64

  init(record: UInt64 = 0, file: FileUUID?, upper: UInt64) {
    self.record = record
    self.file = file
    self.upper = upper
  }
}

extension RecordBody {
  /// The file that it is about, if it is one's.
  fileprivate var file: FileUUID? {
    switch self {
    case .fileBorn(let born): born.file
    case .bytesAppended(let appended): appended.file
    case .rotated(let rotated): rotated.file
    case .fileClosed(let closed): closed.file
    case .gap(let gap): if case .file(let file) = gap.subject { file } else { nil }
    case .journalOpened, .unknown: nil
    }
  }

  fileprivate var isGap: Bool { if case .gap = self { true } else { false } }
}
