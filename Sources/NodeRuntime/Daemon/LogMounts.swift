import HostCore
import JournalModel
import LinuxIO
import Logging

/// Watches for mounts that stand in the way of `server.logs`, and tells of each once. Belongs to the loop's thread.
final class LogMounts {
  /// Reads a file of `/proc`, which waits for no disk.
  private let look: () -> LogRootMounts?
  private let report: (ReportEvent) -> Void
  private(set) var present = LogRootMounts()
  private var timer: EventLoop.Timer?
  private static let period = Interval.seconds(10)

  init(look: @escaping () -> LogRootMounts?, report: @escaping (ReportEvent) -> Void) {
    self.look = look
    self.report = report
  }

  func watch(on loop: EventLoop) {
    check()
    timer = loop.schedule(after: Self.period) { [unowned self, unowned loop] in watch(on: loop) }
  }

  func check() {
    let before = present
    present = look() ?? LogRootMounts()
    for point in present.below where !before.below.contains(point) {
      report(
        ReportEvent(
          .error, "mount below", LogRootMounts.belowRemedy, subject: point.escaped, ["mount": point.escaped]))
    }
    if let over = present.over, over != before.over {
      report(
        ReportEvent(.error, "mount over", LogRootMounts.overRemedy, subject: over.escaped, ["mount": over.escaped]))
    }
  }

  var alarms: [String] {
    present.below.prefix(10).map { "\($0.escaped): \(LogRootMounts.belowRemedy)" }
      + (present.over.map { ["\($0.escaped): \(LogRootMounts.overRemedy)"] } ?? [])
  }
}

extension LogRootMounts {
  static let belowRemedy =
    "is mounted below server.logs, and nothing is stored across a mount: its files are refused. "
    + "Unmount it, or mount it as server.logs itself"
  static let overRemedy =
    "was mounted over server.logs while the node runs, which goes on beneath it: unmount it, or "
    + "restart the node"
}
