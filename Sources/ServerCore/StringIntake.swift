import DataPlane
import JournalModel
import JournalStore
import WireProtocol

/// The pipeline of one string: received >= verified >= committed >= synced (P2).
///
/// Verified bytes are never given up: whatever fails is retried with the same bytes, so nothing that a plain file once
/// got is ever contradicted by what is written there later (G5). Only bytes that no promise reaches are discarded.
struct StringIntake {
  /// Whether there is a plain file. Payload commits in the batch that makes its name durable at the earliest: after a
  /// crash a row that names a file proves that the file is this string's own, and may be cut; a name that is merely
  /// intended would let a repair cut what someone else put there.
  enum PlainFile: Hashable {
    /// The row isn't durable yet.
    case none
    /// The row is; the name that it has now isn't.
    case claiming
    case creating
    /// Made; the row that says so isn't durable yet.
    case made
    case named
    case failed
    /// Loaded: a store or a log root from a backup may have come between, so its size is compared (and repaired) before it
    /// is first used, or in the background after a start (K2). Payload waits until then.
    case unproven
    case proving
    /// Its repair failed: what is held is stated and nothing is added.
    case broken
  }

  /// Whether a row says that the plain file is being made, or may hold bytes that are neither committed nor in the log, so
  /// that a start looks at it (K2).
  enum Unfinished {
    case absent
    /// The next commit is to put it: no such byte is written before.
    case wanted
    case arriving
    case durable
    case leaving
  }

  enum Tail {
    case kept
    /// What verifies no further is discarded: its connection is gone, or the host said that the rest won't come.
    case ending
    /// Discarded as soon as nothing is being done about the string.
    case doomed
  }

  struct VerifiedPoint {
    var end: UInt64
    var root: Digest
    /// The promises that were met up to here since the last point.
    var met: [PromiseWindow.Item]
    var leaves: LeafRange
  }

  struct Waiting {
    var connection: ConnectionID
    var header: PayloadHeader
    var payload: PayloadID
  }

  let tally: Int
  /// Of string 0: its file's other strings.
  var branches: [Int] = []
  /// The number that was last given to one of them.
  var lastBranch: UInt32 = 0
  /// Connections whose payload beside it waits until it can be compared.
  var probers: [ConnectionID] = []
  /// Payload beside it, or of one that it may be, is being compared with it.
  var probes = 0
  /// The newest image; `committed`, `root`, `synced` are the durable ones, `stored` as soon as the file is made.
  var row: StoredString
  var plain: PlainFile
  /// Which of its possible names the row has (`StoredName.plain`).
  var attempt = 0
  /// It was being made when the process started: an empty file of the row's name is its own.
  var adopts = false
  var promises: PromiseWindow
  /// What was committed before, the last one last: who asks for what came since has one of these.
  private var former: [TreeHead] = []
  /// Of string 0: promises about its file that no commit has made durable.
  var newPromises: [Promise] = []

  var received: UInt64
  var verified: UInt64
  var verifiedRoot: Digest
  var points: [VerifiedPoint] = []
  /// The promises against which bytes are being verified.
  var verifying: [PromiseWindow.Item] = []
  /// The received bytes don't meet the promises from `verified` up to here, but may meet a later one (J4).
  var passedOver: UInt64 = 0
  /// A gap was recorded from here on, and what it means for the bytes before it isn't known.
  var gapAhead: UInt64?
  /// What becomes of received bytes beyond `verified`.
  var tail = Tail.kept

  /// How far the plain file has been written.
  var written: UInt64
  /// End of the write that is on its way.
  var writing: UInt64?
  /// End of a range that goes straight to the plain file.
  var bulk: UInt64?
  var unfinished = Unfinished.absent
  /// The greatest end of a write that was begun, whatever became of it.
  var attempted: UInt64
  /// The last write, creation or reading failed; tried again later. New payload is refused meanwhile.
  var failure: (code: RefusalCode, text: String)?
  /// Why the store takes no more of it, until the next start.
  var apart: String?

  /// In its host's queue of what commits take, in the list of what the next one takes in any case, and why.
  var isDirty = false
  var isDue = false
  var isRowDirty = false
  var isPayloadInFlight = false
  /// The commit on its way has something of it.
  var isInFlight = false
  /// Used since it was last looked at as one that may leave memory.
  var isRecent = true
  var isUnsynced = false
  /// Known to be on the disk, not yet in a durable row.
  var syncedUpTo: UInt64

  var owner: ConnectionID?
  /// Its share of what its host owes.
  var owed: UInt64 = 0
  /// As its owner has it.
  var isUnfinished = false
  /// It was refused, and nobody asked for it anew.
  var isSetAside = false
  /// Frames that wait for a comparison or for a fold before it.
  var waiting: [Waiting] = []
  var comparing: Waiting?
  /// The compared frame's connection is gone or began anew: nothing is taken from the frame.
  var isComparisonVoid = false
  /// Told to the owner when the verified bytes are committed.
  var refusal: (code: RefusalCode, text: String)?
  /// Connections whose resume query waits for this string.
  var resumers: [ConnectionID] = []
  var reported: RefusalCode?

  init(row: StoredString, plain: PlainFile, tally: Int, promises: PromiseWindow = PromiseWindow()) {
    self.tally = tally
    self.row = row
    self.plain = plain
    self.promises = promises
    received = row.committed
    verified = row.committed
    verifiedRoot = row.root
    written = row.committed
    attempted = row.committed
    syncedUpTo = row.synced
  }

  private static var mostFormer: Int { 4 }

  mutating func commit(upTo end: UInt64, _ root: Digest) {
    if former.count == Self.mostFormer { former.removeFirst() }
    former.append(row.head)
    row.committed = end
    row.root = root
  }

  /// The root of its first `length` bytes, if it was just as long not long ago.
  func formerRoot(at length: UInt64) -> Digest? { former.last { $0.length == length }?.root }

  var committed: UInt64 { row.committed }
  var isVerifying: Bool { !verifying.isEmpty }
  /// Up to here nothing more is asked of received bytes.
  var examined: UInt64 { max(verified, passedOver) }
  /// The next length beyond this one that is recorded.
  func nextPromise(after length: UInt64) -> PromiseWindow.Next {
    length < row.recorded ? promises.next(after: length) : .none
  }
  /// Bytes that the log holds for it.
  var logged: UInt64 { row.committed - row.synced }
  /// Nothing of anybody is on its way.
  var isDrained: Bool {
    received == committed && waiting.isEmpty && comparing == nil && !isVerifying && !isPayloadInFlight
  }
  /// An answer about its bytes is awaited. Nothing is discarded meanwhile.
  var isWorkedOn: Bool {
    plain == .creating || isVerifying || writing != nil || comparing != nil || probes > 0
  }
  /// No commit has made its present name durable.
  var lacksName: Bool { plain == .none || plain == .claiming }
  var hasPlainFile: Bool { plain == .made || plain == .named }
  /// It has a plain file of which nobody knows whether it holds just the committed bytes.
  var isUnproven: Bool { plain == .unproven || plain == .proving || plain == .broken }
}
