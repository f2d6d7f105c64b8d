import JournalModel
import WireProtocol

/// Where a delivery stands with one file.
final class Cursor {
  enum State: Hashable {
    /// Nothing is known on this connection.
    case unknown
    /// Waits for its page of questions.
    case unasked
    case asked
    /// The data plane computes the root at the first one's length.
    indirect case comparing([TreeHead])
    /// The server holds more than is committed: each of these, the shortest first.
    indirect case ahead([TreeHead])
    case active
    /// Answered, but the file isn't at hand.
    case parked
    /// Asked again when its time has come.
    case retrying
    /// Waits alone; asked again slowly, and on the next connection.
    case stuck
  }
  var state = State.unknown
  /// Acknowledged; handed to the connection; covered by a record that was sent on it (W1).
  var durable: UInt64
  var sent: UInt64 = 0 { didSet { everSent = max(everSent, sent) } }
  /// The furthest that was sent on the connection, also where sending began again further down after a refusal.
  var everSent: UInt64 = 0
  var promised: UInt64 = 0
  /// Up to where the server's root was last compared with the file's: what is durable beyond rests on the order of the
  /// connection, and not if other bytes turn out to be held.
  var proven: UInt64 = 0
  /// What was last asked for wasn't there in time.
  var isSilent = false
  var isInTurns = false
  var isUnpromised = false
  var isNoteDirty = false
  /// The server itself has said what it holds, since this process began.
  var hasAnswered = false
  /// It was refused, or couldn't be read: only bytes that become durable end that.
  var isRefused = false
  /// The server holds several strings of it: payload needs a word of which one it goes on with.
  var hasSeveral = false
  /// It was said that the server holds other bytes under its uuid.
  var isBeside = false

  /// What most files don't have: an object, which is there while there is anything in it.
  private final class Rare {
    var claimed: UInt64?
    var trouble: String?
    var refusal: RefusalCode?
    var mark: (length: UInt64, since: Instant)?
    var isEmpty: Bool { claimed == nil && trouble == nil && refusal == nil && mark == nil }
  }
  private var rare: Rare?

  init(durable: UInt64) { self.durable = durable }

  /// It is asked about because that much was acknowledged of it, more than the server got from here.
  var claimed: UInt64? {
    get { rare?.claimed }
    set { set(\.claimed, newValue) }
  }
  /// What keeps it waiting, as last reported.
  var trouble: String? {
    get { rare?.trouble }
    set { set(\.trouble, newValue) }
  }
  /// The code of the last refusal since bytes became durable.
  var refusal: RefusalCode? {
    get { rare?.refusal }
    set { set(\.refusal, newValue) }
  }
  /// A length not durable yet, and since when it is journaled.
  var mark: (length: UInt64, since: Instant)? { rare?.mark }

  private func set<Value>(_ fact: ReferenceWritableKeyPath<Rare, Value?>, _ value: Value?) {
    if rare == nil {
      guard value != nil else { return }
      rare = Rare()
    }
    rare?[keyPath: fact] = value
    if rare?.isEmpty == true { rare = nil }
  }

  /// To what is durable: all else was one connection's.
  func rewind() {
    proven = durable
    everSent = durable
    sent = durable
    promised = durable
  }

  func mark(_ length: UInt64, at now: Instant) {
    if let mark, durable >= mark.length { set(\.mark, nil) }
    if mark == nil, durable < length { set(\.mark, (length, now)) }
  }
}
