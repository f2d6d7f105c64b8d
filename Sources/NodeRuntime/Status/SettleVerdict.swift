import HostCore

/// Whether `status --settled` may say so: gaps and refusals count as settled only when they are allowed.
package struct SettleVerdict: Sendable, Hashable {
  package var isSettled: Bool
  /// Why not, one line each.
  package var reasons: [String]

  package init(_ result: SettleResult, allowGaps: Bool) {
    var reasons = result.unsettled.filter { !allowGaps || !result.isRefused($0) && !$0.isElsewhere }.map(\.line)
    // What a full list leaves out may be anything.
    let isWhole = result.unsettled.count < HostStatus.mostListed
    let isReached = result.reached || allowGaps && isWhole && !result.unsettled.isEmpty && reasons.isEmpty
    if !isReached { reasons += result.status.hanging.map(\.line) }
    if !isReached, reasons.isEmpty {
      reasons += result.status.servers.filter { $0.lagBytes > 0 || $0.lagEvents > 0 }.map {
        "\($0.name): \($0.lagBytes) bytes and \($0.lagEvents) records behind"
          + ($0.lastError.map { " (\(shown($0, limit: 300)))" } ?? "")
      }
      if reasons.isEmpty { reasons = ["not everything was durable in time"] }
    }
    if !allowGaps { reasons += result.status.objections(besides: result.unsettled) }
    self.reasons = reasons
    isSettled = isReached && reasons.isEmpty
  }
}

extension NodeStatus {
  /// What keeps a node that has delivered everything else from being settled, one line each: for `settled` and for
  /// `--settled` alike. Empty only when there is nothing.
  package var objections: [String] { objections(besides: []) }

  fileprivate func objections(besides said: [SettleResult.Unsettled]) -> [String] {
    var lines = waiting.filter { waiting in
      !said.contains { $0.file == waiting.file && $0.server == waiting.server }
    }.map(\.line)
    if waitingCount > waiting.count { lines.append("\(waitingCount - waiting.count) files more wait alone") }
    lines += servers.filter { server in
      server.lackingFiles > 0 && !said.contains { $0.isElsewhere && $0.server == server.name }
    }.map(\.lackingLine)
    lines += gaps.map(\.line)
    if gapCount > gaps.count { lines.append("\(gapCount - gaps.count) gaps more") }
    return lines
  }
}

extension SettleResult {
  /// A file that a server refused or that waits alone: nothing but an operator ends that. Of one that can't be read
  /// nobody knows what is missing: it never counts as settled.
  fileprivate func isRefused(_ entry: Unsettled) -> Bool {
    let found = status.waiting.filter { $0.file == entry.file }
    return found.contains { entry.server == nil || $0.server == entry.server } && !found.contains { $0.server == nil }
  }
}

extension SettleResult.Unsettled {
  package var line: String {
    let what = path ?? file ?? "journal"
    let amount = noted > durable ? "\(durable) of \(noted) durable" : "not durable"
    return (server.map { "\($0): " } ?? "") + "\(shown(what, limit: 300)): \(amount)"
      + (reason.map { " (\(shown($0, limit: 300)))" } ?? "")
  }
}

extension NodeStatus.Server {
  /// What only its peers can bring.
  package var lackingLine: String {
    "\(name): hasn't all of \(lackingFiles) or more files that ended before it was named, or that it lost"
  }
}

extension NodeStatus.Waiting {
  package var line: String {
    (server.map { "\($0): " } ?? "") + "\(shown(path, limit: 300)): waits alone: \(shown(reason, limit: 300))"
  }
}

extension NodeStatus.SetApart {
  package var line: String {
    let what = path.map { shown($0, limit: 300) } ?? file ?? "journal \(journal ?? "?")"
    return "\(host): \(what): \(shown(reason, limit: 300))"
  }
}

extension NodeStatus.Unfollowed {
  package var line: String { "\(shown(path, limit: 300)): \(shown(reason, limit: 400))" }
}

extension NodeStatus.Gap {
  package var line: String {
    "gap: \(shown(path ?? file ?? "?", limit: 300)): \(from) ..< \(to.map(String.init) ?? "unknown"), \(reason)"
      + (lacking.isEmpty ? "" : ", lacking on \(lacking.joined(separator: ", "))")
  }
}
