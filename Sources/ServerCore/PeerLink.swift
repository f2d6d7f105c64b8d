import JournalModel
import JournalStore
import WireProtocol

/// A server that this one synchronises with, as configured.
struct PeerServer {
  enum Dialing {
    case idle
    case waiting(until: Instant)
    case underWay
  }
  let name: String
  /// How far its feed is durably held here.
  var cursor: FeedCursor?
  /// The connection in use, once both said hello.
  var link: ConnectionID?
  var dialing = Dialing.idle
  var attempts: UInt64 = 0
  var lastError: String?
  /// What it isn't known to hold of this server's feed, up to this number, and since when; as while it is away, of which
  /// nobody knows what it lacks.
  private(set) var lag: (number: UInt64, since: Instant)?

  init(name: String) { self.name = name }

  /// The peer holds this server's feed up to a number, of `last`.
  mutating func noteLag(holding held: UInt64, of last: UInt64, at now: Instant) {
    if let known = lag, held >= known.number { lag = nil }
    if held < last, lag == nil { lag = (last, now) }
  }

  mutating func noteAway(_ last: UInt64, at now: Instant) { lag = lag ?? (last, now) }
}

/// A connection to a peer.
struct PeerLink {
  /// Its index.
  let peer: Int
  /// This side connected.
  let isDialed: Bool
  let began: Instant
  var hasGreeted = false
  /// Of which channel the next frame is.
  private var ofChannel: UInt32?
  private var lastOpened: UInt32?
  var feed = FeedReader()
  var intake = PeerIntake()
  /// What the other side takes, by the channels that it opened.
  var supplies: [UInt32: Supply] = [:]
  var questions = TrieQuestions()
  /// When something that it had been asked for was asked of another peer instead.
  var wasSlow: Instant?
  var toldHoldings: HoldingsDigest?

  init(peer: Int, isDialed: Bool, at now: Instant) {
    began = now
    self.peer = peer
    self.isDialed = isDialed
  }

  /// Frames of payload on their way.
  var sending: Int { supplies.values.saturatingSum(\.sending) }
  /// Frames of records that the transport didn't take yet: they are in memory here, whatever the other side acknowledges.
  var untaken = 0
  /// May one more be read? Those that aren't acknowledged are in memory at one side or the other.
  var hasRoomForRecords: Bool {
    let reading = supplies.values.count { $0.records.isReading }
    let ahead = supplies.values.saturatingSum(\.records.ahead.count)
    return max(ahead, untaken) + reading < RecordSupply.mostAheadOfAll
  }
  var wants: Int { supplies.values.saturatingSum(\.wants) }
  /// That one side may have open.
  static var mostChannels: Int { 64 }
  /// The channel that was served last: others come before it.
  var served: UInt32 = 0

  subscript(place: SupplyPlace) -> FileSupplies {
    get { supplies[place.channel]?[place.lane] ?? FileSupplies() }
    _modify {
      if supplies[place.channel] == nil {
        var none = FileSupplies()
        yield &none
      } else {
        yield &supplies[place.channel]![place.lane]
      }
    }
  }

  mutating func expect(_ channel: UInt32) { ofChannel = channel }

  mutating func takeChannel() -> UInt32? {
    defer { ofChannel = nil }
    return ofChannel
  }

  /// Each side has every other number.
  mutating func nextChannel() -> UInt32? {
    let first: UInt32 = isDialed ? 0 : 1
    if let last = lastOpened, last > .max - 2 { return nil }
    let next = lastOpened.map { $0 + 2 } ?? first
    lastOpened = next
    return next
  }

  func isTheirs(_ channel: UInt32) -> Bool { (channel % 2 == 0) != isDialed }
}

/// What is announced to a peer, in the order of the feed.
struct FeedReader {
  /// Everything up to here was announced.
  var position: UInt64 = 0
  /// The greatest number that the store had when it was last read.
  var last: UInt64 = 0
  /// There may be more.
  var isBehind = false
  private(set) var isReading = false
  /// What was announced, and the other side hasn't noted.
  private var ahead = Fifo<UInt64>()
  private(set) var noted: UInt64 = 0
  private(set) var held: UInt64 = 0
  /// What was announced of each journal last.
  var journals: [HostJournal: [TreeHead]] = [:]
  /// Pings that are answered behind the next announcement that is read; behind the one that is being read.
  private var asked: [UInt64] = []
  private var answering: [UInt64] = []

  var isAsked: Bool { !asked.isEmpty }

  mutating func ask(_ nonce: UInt64) {
    asked.append(nonce)
    isBehind = true
  }

  mutating func beginReading() {
    isReading = true
    // What is committed from now on may not be in the answer.
    isBehind = false
    (answering, asked) = (asked, [])
  }

  /// Returns the pings that are answered now.
  mutating func endReading() -> [UInt64] {
    isReading = false
    defer { answering = [] }
    return answering
  }

  /// More than that isn't announced before the other side noted some of it.
  func room(_ limits: Limits) -> Int { max(0, limits.announcementsAhead - ahead.count) }

  mutating func announced(_ change: Change) {
    position = change.number
    ahead.append(change.number)
    noteJournal(change)
  }

  mutating func noteJournal(_ change: Change) {
    if case .journal(let journal) = change.subject { journals[journal] = change.heads }
  }

  /// False if that was never announced.
  mutating func take(_ noted: Noted) -> Bool {
    guard noted.noted <= position, noted.held <= position else { return false }
    while let first = ahead.first, first <= noted.noted { _ = ahead.popFirst() }
    self.noted = max(self.noted, noted.noted)
    held = max(held, noted.held)
    return true
  }
}

/// What a peer announced and this server doesn't hold, or doesn't know whether it does.
struct Lack {
  enum State {
    /// In the queue of those that are looked at.
    case unchecked
    /// Its rows are being read, or a root is being computed.
    case reading, comparing(Comparison)
    /// Looked at again when something of it is committed, or then.
    case later(Instant)
    /// It is to be asked for when others are done.
    case waiting(TreeHead, held: [TreeHead])
    /// Asked for on this channel. So many strings had that length.
    case wanted(ConnectionID, TreeHead, having: Int)
  }
  var number: UInt64
  var heads: [TreeHead]
  /// Those of them, or of earlier ones, that something longer begins with.
  var covered: Set<TreeHead> = []
  var publicKey: Digest?
  var since: Instant
  var state = State.unchecked
  /// How much was held when it was last looked at.
  var progress: UInt64 = 0
  /// How often it was asked for in vain.
  var attempts = 0
  /// In the queue of those that are looked at, or being read for it.
  var isQueued = false
  /// Its rows are being read, and something of it was committed meanwhile.
  var isBeingRead = false
  var isReadAgain = false
  /// Nothing that is held promises its bytes yet: it is looked at when records about it are
  /// taken, and when they are committed.
  var awaitsRecords = false
  /// Where the furthest frame ended that came of what was asked for last: what is repeated is no progress.
  var reached: UInt64 = 0
  var hasCome: Bool { reached > 0 }
  /// When it was asked for last.
  var asked: Instant?
  /// When another peer was found to be sending it.
  var elsewhere: Elsewhere?
  /// How often it was taken from a peer that was slow: where all are, each is given more time.
  var takeovers: UInt64 = 0

  var isToBeJudged: Bool {
    switch state {
    case .unchecked, .wanted: true
    case .reading, .comparing, .later, .waiting: false
    }
  }
}

/// How far what another peer sends had come (a journal: what is held of it), and all that came from that peer.
struct Elsewhere {
  var since: Instant
  var come: UInt64
  var ofLink: UInt64
}

/// Whether longer strings have what was announced.
struct Comparison {
  struct Question {
    var head: TreeHead
    var key: StringKey
    var segment: Segment
  }
  /// The first one is asked.
  var questions: [Question]
  var lacking: [TreeHead]
  var held: [TreeHead]
  var asked: RootID?
}

/// What is short before what is long, else in its order.
struct Waiting {
  private var short = Fifo<ChangedSubject>()
  private var long = Fifo<ChangedSubject>()

  mutating func append(_ subject: ChangedSubject, isShort: Bool) {
    if isShort { short.append(subject) } else { long.append(subject) }
  }
  mutating func prepend(_ subject: ChangedSubject, isShort: Bool) {
    if isShort { short.prepend(subject) } else { long.prepend(subject) }
  }
  mutating func popFirst(isShort: Bool) -> ChangedSubject? { isShort ? short.popFirst() : long.popFirst() }
}

/// What a peer announced: of each subject the newest, until it is held.
struct PeerIntake {
  var hasBegun = false
  /// In which the peer gave the last number; nil until something was announced.
  var life: UUIDBytes?
  /// Everything up to here was announced.
  var last: UInt64 = 0
  /// The greatest number that the peer gave.
  var end: UInt64 = 0
  private(set) var lacks: [ChangedSubject: Lack] = [:]
  /// Those of them that are journals, by host.
  private(set) var journals: [HostName: Set<HostJournal>] = [:]
  /// By number; those that have another one by now are over.
  private var order = Fifo<(number: UInt64, subject: ChangedSubject)>()
  var unchecked = Fifo<ChangedSubject>()
  var later = Heap<Instant, ChangedSubject>()
  /// To be asked for when others are done: a line before a backlog.
  var waiting = Waiting()

  /// What is short before what is long, and half as many more of it: a backlog leaves room for lines.
  mutating func nextToAsk(_ limits: Limits) -> ChangedSubject? {
    if wanted < limits.wantsAhead + limits.wantsAhead / 2, let short = waiting.popFirst(isShort: true) { return short }
    return wanted < limits.wantsAhead ? waiting.popFirst(isShort: false) : nil
  }

  var isReading = false
  /// Those whose rows are read when the present reading is done.
  var unread: [ChangedSubject] = []
  /// Asked for and not answered, in all and by channel.
  private(set) var wanted = 0
  var wantedOn: [ConnectionID: Int] = [:]
  /// The least number of what was given up: nothing from there on counts as held before it is announced again.
  private(set) var floor: UInt64?
  /// Looks for what the peer held before the feed's beginning; what it found, until that is held or announced again.
  var walk: TrieWalk?
  private(set) var found: Set<ChangedSubject> = []
  /// The digest of all that the peer holds, as it said last.
  var holdings: HoldingsDigest?
  /// Channels that this side opened; by journal those for records, and by host those for files.
  var channels: [UInt32: ConnectionID] = [:]
  var byJournal: [HostJournal: ConnectionID] = [:]
  var byHost: [HostName: ConnectionID] = [:]
  /// Bytes of payload that came and were wanted.
  private(set) var received: UInt64 = 0
  /// What the peer was told last, and when.
  var told = Noted(noted: 0, held: 0)
  var toldAt = Instant(nanoseconds: 0)

  var isWalking: Bool { walk != nil || !found.isEmpty }
  /// Up to here everything is held.
  var held: UInt64 {
    if isWalking { return 0 }
    return min(
      order.first.map { $0.number.saturatingSubtracting(1) } ?? last, floor.map { $0.saturatingSubtracting(1) } ?? .max)
  }
  /// None while what was held before the feed's beginning isn't known.
  var cursor: FeedCursor? { isWalking ? nil : life.map { FeedCursor(life: $0, held: held, seen: end) } }
  var count: Int { lacks.count }
  subscript(_ subject: ChangedSubject) -> Lack? { lacks[subject] }

  mutating func endReading() {
    isReading = false
    for subject in unread { unchecked.append(subject) }
    unread = []
  }

  /// Found by the walk: nothing counts as held before it is.
  mutating func putFound(_ lack: Lack, for subject: ChangedSubject) {
    put(lack, for: subject)
    found.insert(subject)
  }

  /// Of what was found and is announced again the feed speaks from now on.
  mutating func put(_ lack: Lack, for subject: ChangedSubject) {
    found.remove(subject)
    if lacks.updateValue(lack, forKey: subject)?.number != lack.number {
      order.append((lack.number, subject))
    }
    if case .journal(let journal) = subject { journals[journal.host, default: []].insert(journal) }
    trim()
  }

  mutating func change(_ subject: ChangedSubject, _ body: (inout Lack) -> Void) {
    guard var lack = lacks.removeValue(forKey: subject) else { return }
    body(&lack)
    lacks[subject] = lack
  }

  mutating func noteReceived(_ header: PayloadHeader) {
    received = received.saturatingAdding(UInt64(max(0, header.length)))
  }

  mutating func noteWanted(on channel: ConnectionID, _ change: Int) {
    wanted += change
    let left = (wantedOn[channel] ?? 0) + change
    wantedOn[channel] = left > 0 ? left : nil
  }

  mutating func giveUp(_ subject: ChangedSubject) {
    if let number = lacks[subject]?.number { floor = min(floor ?? .max, found.contains(subject) ? 0 : number) }
    remove(subject)
  }

  mutating func remove(_ subject: ChangedSubject) {
    lacks[subject] = nil
    if case .journal(let journal) = subject {
      journals[journal.host]?.remove(journal)
      if journals[journal.host]?.isEmpty == true { journals[journal.host] = nil }
    }
    found.remove(subject)
    trim()
  }

  private mutating func trim() {
    while let first = order.first, lacks[first.subject]?.number != first.number { _ = order.popFirst() }
    guard order.count > 2 * lacks.count + 64 else { return }
    order.removeAll()
    for (subject, lack) in lacks.sorted(by: { $0.value.number < $1.value.number }) {
      order.append((lack.number, subject))
    }
  }

  /// Records of the host are expected, which may promise what nothing does yet.
  func expectsRecords(of host: HostName) -> Bool {
    journals[host]?.contains { lacks[.journal($0)]?.attempts == 0 } ?? false
  }

  /// Those that were asked for on a channel.
  func wanted(on id: ConnectionID) -> [ChangedSubject] {
    lacks.filter { if case .wanted(id, _, _) = $0.value.state { true } else { false } }
      .sorted { ($0.value.number, "\($0.key)") < ($1.value.number, "\($1.key)") }.map(\.key)
  }
}

/// What a root is computed for.
enum RootQuestion {
  case announced(ConnectionID, ChangedSubject)
  case supply(SupplyPlace)
}

extension StoredString {
  /// Which of a file's strings has this one's byte at an offset in its plain file.
  func holder(of offset: UInt64, among rows: [StoredString]) -> (row: StoredString, end: UInt64)? {
    var (row, end) = (self, committed)
    while offset < row.start {
      end = min(end, row.start)
      guard let branch = row.branch, let base = rows.first(where: { $0.key.string == branch.base }), base.key < row.key
      else { return nil }
      row = base
    }
    return offset < end ? (row, end) : nil
  }

  var head: TreeHead { TreeHead(length: committed, root: root) }
}
