package import HostCore
package import JournalModel
package import Logging
package import ServerCore
import Synchronization

/// Logs reports, each once and not a million times, and so that nobody's flood hides what anybody else did: within a
/// `window` a repeat is counted and not written, and so is what goes beyond the budget of its kind and origin. When the
/// window, which begins with the first report of the kind and origin, has ended, one line tells how much was left out,
/// for which reasons, and about which files.
package final class ReportLog: Sendable {
  package static let window = Interval.seconds(60)
  /// How often windows that have ended are looked for.
  private static let round = Interval.seconds(10)
  /// Most counts of one kind that are written with their origins in a round; the rest is written as one.
  static let countsListed = 20

  /// What one origin has reported of one kind in its present window.
  fileprivate struct Share {
    let began: Instant
    /// Of the reports written, to know their repeats; hashes, since a share must cost little whoever fills it.
    var written: Set<Int> = []
    var leftOut = LeftOut()
  }

  /// The shares of one kind.
  fileprivate struct Kind {
    var shares: [ReportEvent.Origin: Share] = [:]
    /// How many origins of each class have a share.
    var origins: [ReportEvent.Standing: Int] = [:]
  }
  fileprivate struct State {
    var nextRound = Instant(nanoseconds: 0)
    var kinds: [String: Kind] = [:]
  }

  private let logger: Logger
  private let servers: [String]
  private let state = Mutex(State())

  package init(logger: Logger, servers: [String] = []) {
    self.logger = logger
    self.servers = servers
  }

  package func report(_ report: HostReport, at now: Instant) { log(report.event(servers: servers), at: now) }
  package func report(_ report: ServerReport, at now: Instant) { log(report.event, at: now) }

  package func log(_ event: ReportEvent, at now: Instant) {
    guard event.level >= logger.logLevel else { return }
    flush(at: now)
    if state.withLock({ $0.kinds[event.kind, default: Kind()].admits(event, at: now) }) { write(event) }
  }

  /// Writes the counts of windows that have ended. To be called now and then, also when nothing is reported any more.
  package func flush(at now: Instant) {
    let ended: [String: Kind] = state.withLock { state in
      guard now >= state.nextRound else { return [:] }
      state.nextRound = now + Self.round
      return state.takeShares { now - $0.began >= Self.window }
    }
    write(ended)
  }

  /// Writes all counts, for nobody will come back to them.
  package func end() { write(state.withLock { $0.takeShares { _ in true } }) }

  private func write(_ ended: [String: Kind]) {
    for (name, kind) in ended.sorted(by: { $0.key < $1.key }) {
      for count in kind.counts { write(count.event(kind: name)) }
    }
  }

  private func write(_ event: ReportEvent) {
    logger.log(level: event.level, "\(event.message)", metadata: event.pairs.mapValues { .string($0) })
  }
}

extension ReportLog.State {
  mutating func takeShares(where isOver: (ReportLog.Share) -> Bool) -> [String: ReportLog.Kind] {
    var taken: [String: ReportLog.Kind] = [:]
    for name in kinds.keys {
      taken[name] = kinds[name]?.takeShares(where: isOver)
      if kinds[name]?.shares.isEmpty == true { kinds[name] = nil }
    }
    return taken
  }
}

extension ReportLog.Kind {
  mutating func admits(_ event: ReportEvent, at now: Instant) -> Bool {
    let origin = place(event.origin)
    return shares[origin, default: ReportLog.Share(began: now)].admits(event, budget: origin.budget)
  }

  /// The origin's own share; that of all others of its class when too many have one.
  private mutating func place(_ origin: ReportEvent.Origin) -> ReportEvent.Origin {
    guard shares[origin] == nil else { return origin }
    guard origins[origin.standing, default: 0] < origin.standing.limit else { return .others(origin.standing) }
    origins[origin.standing, default: 0] += 1
    return origin
  }

  fileprivate mutating func takeShares(where isOver: (ReportLog.Share) -> Bool) -> Self {
    let taken = shares.filter { isOver($0.value) }
    for origin in taken.keys {
      shares[origin] = nil
      if case .others = origin { continue }
      origins[origin.standing, default: 1] -= 1
    }
    return Self(shares: taken)
  }

  struct Count {
    var origin: String
    var leftOut: LeftOut
  }

  /// Who had reports left out, most first; those beyond `countsListed` in one.
  var counts: [Count] {
    let all = shares.filter { $0.value.leftOut.count > 0 }.map { Count(origin: $0.key.text, leftOut: $0.value.leftOut) }
      .sorted { ($1.leftOut.count, $0.origin) < ($0.leftOut.count, $1.origin) }
    let rest = all.dropFirst(ReportLog.countsListed)
    guard !rest.isEmpty else { return all }
    let sum = Count(origin: "\(rest.count) more", leftOut: rest.reduce(into: LeftOut()) { $0.add($1.leftOut) })
    return all.prefix(ReportLog.countsListed) + [sum]
  }
}

extension ReportLog.Kind.Count {
  func event(kind: String) -> ReportEvent {
    var pairs = ["kind": kind, "suppressed": "\(leftOut.count)"]
    if !origin.isEmpty { pairs["of"] = origin }
    pairs["why"] = leftOut.whyText
    pairs["files"] = leftOut.filesText
    return ReportEvent(leftOut.level, kind, "more of the same within the last minute was left out", pairs)
  }
}

extension ReportLog.Share {
  mutating func admits(_ event: ReportEvent, budget: Int) -> Bool {
    var hasher = Hasher()
    hasher.combine(event.origin)
    hasher.combine(event.subject)
    guard written.count < budget, written.insert(hasher.finalize()).inserted else {
      leftOut.add(event)
      return false
    }
    return true
  }
}

/// What a share didn't write: how much, and of each reason and file as much as one line bears.
private struct LeftOut {
  private(set) var count = 0
  private(set) var level = Logger.Level.trace
  private var reasons: [Reason] = []
  private var files: [String] = []
  private var hasMoreFiles = false

  private struct Reason {
    /// What makes two reasons the same: the code where there is one, since a peer may choose words.
    var key: String
    var text: String
    var count: Int
  }
  private static let mostReasons = 8
  private static let others = "other reasons"
  private static let mostFiles = 8
  private static let mostCharacters = 160

  mutating func add(_ event: ReportEvent) {
    count = count.saturatingAdding(1)
    level = max(level, event.level)
    let why = event.pairs["why"] ?? event.pairs["reason"]
    let parts = [event.pairs["code"], why].compactMap { $0 }
    if let key = parts.first { add(Reason(key: Self.short(key), text: parts.joined(separator: ": "), count: 1)) }
    if let file = [event.pairs["path"], event.pairs["file"]].compactMap({ $0 }).first(where: { $0 != "-" }) {
      add(file)
    }
  }

  mutating func add(_ other: LeftOut) {
    count = count.saturatingAdding(other.count)
    level = max(level, other.level)
    for reason in other.reasons { add(reason) }
    for file in other.files { add(file) }
    hasMoreFiles = hasMoreFiles || other.hasMoreFiles
  }

  private mutating func add(_ reason: Reason) {
    if let known = reasons.firstIndex(where: { $0.key == reason.key }) {
      reasons[known].count = reasons[known].count.saturatingAdding(reason.count)
    } else if reasons.count < Self.mostReasons || reason.key == Self.others {
      reasons.append(Reason(key: reason.key, text: Self.short(reason.text), count: reason.count))
    } else {
      add(Reason(key: Self.others, text: Self.others, count: reason.count))
    }
  }

  private mutating func add(_ file: String) {
    let file = Self.short(file)
    guard !hasMoreFiles, !files.contains(file) else { return }
    if files.count < Self.mostFiles { files.append(file) } else { hasMoreFiles = true }
  }

  var whyText: String? {
    reasons.isEmpty ? nil : reasons.map { "\($0.text) (\($0.count))" }.joined(separator: "; ")
  }

  var filesText: String? {
    files.isEmpty ? nil : files.joined(separator: ", ") + (hasMoreFiles ? ", ..." : "")
  }

  private static func short(_ text: String) -> String {
    text.utf8.count <= mostCharacters ? text : shown(text, limit: mostCharacters)
  }
}

extension ReportEvent.Origin {
  /// Lines of one kind within a window.
  package var budget: Int {
    switch self {
    case .node: 200
    case .directory, .peer, .stranger: 50
    case .others(let standing): standing == .stranger ? 20 : 200
    }
  }

  fileprivate var standing: ReportEvent.Standing {
    switch self {
    case .node: .node
    case .directory: .directory
    case .peer: .peer
    case .stranger: .stranger
    case .others(let standing): standing
    }
  }

  /// For the log; empty for the node itself.
  fileprivate var text: String {
    switch self {
    case .node: ""
    case .directory(let path): path
    case .peer(let name): name
    case .stranger(let address): address
    case .others(.directory): "other directories"
    case .others(.stranger): "other addresses"
    case .others: "others"
    }
  }
}

extension ReportEvent.Standing {
  /// How many origins have a share of their own in each kind of report. Peers have certificates; anyone can be a
  /// stranger, and a user of this machine can make directories.
  fileprivate var limit: Int {
    switch self {
    case .node: 1
    case .peer: 4_096
    case .directory: 256
    case .stranger: 64
    }
  }
}
