import JournalModel
import JournalStore
import WireProtocol

/// What the other side of a channel asked for, and how far it has it. Records and bytes of files are on their way beside
/// each other, as from a host: records wait for no payload (W1).
struct Supply {
  let journal: HostJournal
  /// Nil until the other side said welcome.
  var heads: [TreeHead]?
  var credit: UInt64 = 0
  var spent: UInt64 = 0
  var records = RecordSupply()
  private var files = [FileSupplies](repeating: FileSupplies(), count: Lane.allCases.count)

  /// What lacks no more than a frame goes beside what is long, so that lines never wait behind a backlog; in each lane one
  /// file comes after the other: several that are long would use up the credit with pieces that no signed length covers
  /// yet, and none could go on (W1).
  enum Lane: Int, CaseIterable { case short, long }
  /// The lane that was served last: the other one comes before it.
  var served = Lane.long
  var turns: [Lane] { served == .long ? [.short, .long] : [.long, .short] }
  subscript(lane: Lane) -> FileSupplies {
    get { files[lane.rawValue] }
    _modify { yield &files[lane.rawValue] }
  }

  /// Frames of payload of all channels on their way.
  static var mostSending: Int { 4 }

  var sending: Int { files.count { $0.current?.sending != nil } }
  var wants: Int { records.wanted.count + files.saturatingSum(\.wanted.count) }
  /// Something that was asked for isn't sent yet.
  var isAsked: Bool {
    if wants > 0 || files.contains(where: { $0.current != nil }) { return true }
    if case .none = records.work { return false } else { return true }
  }

  /// Where it is to wait: behind what is asked for of the same file, if anything is, since frames of a file keep their
  /// order.
  func lane(for wanted: WantedBytes, _ limits: Limits) -> Lane {
    Lane.allCases.first { self[$0].has(wanted.file) }
      ?? (wanted.head.lacks(beyond: wanted.held) <= UInt64(max(1, limits.payloadFrameSize)) ? .short : .long)
  }

  init(journal: HostJournal) { self.journal = journal }
}

struct RecordSupply {
  enum Work {
    case none
    /// Of the sequences the one with this head is looked for, or where one and what the other side holds part.
    case choosing(TreeHead, [SequenceKey])
    case joining(SequenceKey, [TreeHead])
    case asking(SequenceKey)
    /// They go on, up to this length at least.
    case sending(upTo: UInt64)
  }
  var wanted = Fifo<TreeHead>()
  var work = Work.none
  /// They go on with this sequence; so many were sent, and so many acknowledged.
  var sequence: SequenceKey?
  var sent: UInt64 = 0
  var acknowledged: UInt64 = 0
  /// The ends of the frames that aren't acknowledged.
  var ahead = Fifo<UInt64>()
  var isReading = false
  /// Where the other side's sequences and this one are one was asked.
  var hasAsked = false

  /// Frames of one channel and of all that aren't acknowledged.
  static var mostAhead: Int { 4 }
  static var mostAheadOfAll: Int { 16 }
}

/// Whose turn it is to get bytes: of a channel of a link.
struct SupplyPlace: Hashable {
  var link: ConnectionID
  var channel: UInt32
  var lane: Supply.Lane
}

struct FileSupplies {
  var wanted = Fifo<WantedBytes>()
  var current: FileSupply?

  func has(_ file: FileUUID) -> Bool { current?.wanted.file == file || wanted.contains(where: { $0.file == file }) }
}

extension TreeHead {
  /// How much of it is lacking where the longest of these is its beginning.
  func lacks(beyond held: [TreeHead]) -> UInt64 { length - (held.map(\.length).filter { $0 <= length }.max() ?? 0) }
}

struct FileSupply {
  enum Work {
    case reading
    /// Which of its strings has what is wanted; from which of the heads on one of them goes on.
    case choosing([StoredString])
    case joining(StoredString, [TreeHead])
    case sending(StoredString, next: UInt64)
    /// The other side doesn't want it any more: what is on its way, or was asked about it, comes first.
    case withdrawn
  }
  let wanted: WantedBytes
  var rows: [StoredString] = []
  var work = Work.reading
  /// The end of the frame on its way.
  var sending: UInt64?
}
