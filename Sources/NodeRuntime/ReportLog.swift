package import HostCore
package import JournalModel
package import Logging
package import ServerCore
import Synchronization

/// Logs reports, each once and not a million times: a repeat within `window` is counted and not written, and so is
/// what goes beyond `budget` lines of one kind within it. When the window ends, the counts are written.
package final class ReportLog: Sendable {
  package static let window = Interval.seconds(60)
  /// Lines of one kind within a window.
  package static let budget = 200
  /// Different reports remembered for counting repeats.
  static let remembered = 4_096

  private struct State {
    var began = Instant(nanoseconds: 0)
    var repeats: [Identity: Int] = [:]
    /// Lines written, and reports left out, of each kind.
    var kinds: [String: (written: Int, leftOut: Int)] = [:]
  }
  private struct Identity: Hashable {
    var kind: String
    var subject: String
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
    let isWritten = state.withLock { state in
      let identity = Identity(kind: event.kind, subject: event.subject)
      var counts = state.kinds[event.kind] ?? (0, 0)
      defer { state.kinds[event.kind] = counts }
      if let count = state.repeats[identity] {
        state.repeats[identity] = count + 1
        counts.leftOut += 1
        return false
      }
      if state.repeats.count < Self.remembered { state.repeats[identity] = 0 }
      guard counts.written < Self.budget else {
        counts.leftOut += 1
        return false
      }
      counts.written += 1
      return true
    }
    if isWritten { write(event) }
  }

  /// Writes the counts if a window has ended. Worth calling now and then when nothing is reported any more.
  package func flush(at now: Instant) {
    let leftOut: [(kind: String, count: Int)] = state.withLock { state in
      guard now - state.began >= Self.window else { return [] }
      let result = state.kinds.filter { $0.value.leftOut > 0 }.map { ($0.key, $0.value.leftOut) }
      state = State(began: now)
      return result.sorted { $0.0 < $1.0 }
    }
    for (kind, count) in leftOut {
      write(
        ReportEvent(
          .warning, kind, "more of the same within the last minute was left out",
          ["kind": kind, "suppressed": "\(count)"]))
    }
  }

  private func write(_ event: ReportEvent) {
    logger.log(level: event.level, "\(event.message)", metadata: event.pairs.mapValues { .string($0) })
  }
}
