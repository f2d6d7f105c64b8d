package import HostCore
package import JournalModel
package import Logging
package import ServerCore
import Synchronization

/// Logs reports, each once and not a million times, and so that nobody's flood hides what anybody else did: within a
/// `window` a repeat is counted and not written, and so is what goes beyond the budget of its kind and origin. When the
/// window ends, the counts are written.
package final class ReportLog: Sendable {
  package static let window = Interval.seconds(60)
  /// Most counts of one kind that are written with their origins when a window ends; the rest is written as one.
  static let countsListed = 20

  /// What one origin has reported of one kind in the present window.
  fileprivate struct Share {
    /// Of the reports written, to know their repeats; hashes, since a share must cost little whoever fills it.
    var written: Set<Int> = []
    var leftOut = 0
  }

  /// The shares of one kind.
  fileprivate struct Kind {
    var shares: [ReportEvent.Origin: Share] = [:]
    /// How many origins of each class have a share.
    var origins: [ReportEvent.Standing: Int] = [:]
  }
  fileprivate struct State {
    var began = Instant(nanoseconds: 0)
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
    if state.withLock({ $0.kinds[event.kind, default: Kind()].admits(event) }) { write(event) }
  }

  /// Writes the counts if a window has ended. Worth calling now and then when nothing is reported any more.
  package func flush(at now: Instant) {
    let ended: [String: Kind] = state.withLock { state in
      guard now - state.began >= Self.window else { return [:] }
      defer { state = State(began: now) }
      return state.kinds
    }
    for (name, kind) in ended.sorted(by: { $0.key < $1.key }) {
      for count in kind.counts { write(count.event(kind: name)) }
    }
  }

  private func write(_ event: ReportEvent) {
    logger.log(level: event.level, "\(event.message)", metadata: event.pairs.mapValues { .string($0) })
  }
}

extension ReportLog.Kind {
  mutating func admits(_ event: ReportEvent) -> Bool {
    let origin = place(event.origin)
    return shares[origin, default: ReportLog.Share()].admits(event.subject, budget: origin.budget)
  }

  /// The origin's own share; that of all others of its class when too many have one.
  private mutating func place(_ origin: ReportEvent.Origin) -> ReportEvent.Origin {
    guard shares[origin] == nil else { return origin }
    guard origins[origin.standing, default: 0] < origin.standing.limit else { return .others(origin.standing) }
    origins[origin.standing, default: 0] += 1
    return origin
  }

  struct Count {
    var origin: String
    var leftOut: Int
  }

  /// Who had reports left out, most first; those beyond `countsListed` in one.
  var counts: [Count] {
    let all = shares.filter { $0.value.leftOut > 0 }.map { Count(origin: $0.key.text, leftOut: $0.value.leftOut) }
      .sorted { ($1.leftOut, $0.origin) < ($0.leftOut, $1.origin) }
    let rest = all.dropFirst(ReportLog.countsListed)
    guard !rest.isEmpty else { return all }
    let sum = Count(origin: "\(rest.count) more", leftOut: rest.saturatingSum(\.leftOut))
    return all.prefix(ReportLog.countsListed) + [sum]
  }
}

extension ReportLog.Kind.Count {
  func event(kind: String) -> ReportEvent {
    var pairs = ["kind": kind, "suppressed": "\(leftOut)"]
    if !origin.isEmpty { pairs["of"] = origin }
    return ReportEvent(.warning, kind, "more of the same within the last minute was left out", pairs)
  }
}

extension ReportLog.Share {
  mutating func admits(_ subject: String, budget: Int) -> Bool {
    guard written.count < budget, written.insert(subject.hashValue).inserted else {
      leftOut += 1
      return false
    }
    return true
  }
}

extension ReportEvent.Origin {
  /// Lines of one kind within a window.
  package var budget: Int {
    switch self {
    case .node: 200
    case .directory, .peer: 50
    case .stranger: 5
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
