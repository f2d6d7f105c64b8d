import JournalModel

/// `status` for people.
package struct StatusText {
  package let text: String

  package init(_ status: NodeStatus) {
    var lines = [
      "\(status.name) (\(status.roles.joined(separator: ", "))): \(Self.state(status))",
      "files: \(status.files.followed) followed, \(status.files.open) open",
    ]
    lines += status.alarms.map { "ALARM: \(shown($0, limit: 500))" }
    lines += Self.servers(status) + Self.hosts(status)
    if let digest = status.digest { lines.append("digest: \(digest)") }
    lines += status.peers.map { "peer \($0.name): \(shown($0.summary, limit: 300))" }
    if status.files.held > 0 {
      lines.append(
        "\(Self.count(status.files.held, "deleted file")) kept open for servers that lack them: "
          + "\(status.files.heldBytes) bytes of disk space")
    }
    if status.files.unprobed > 0 {
      lines.append(
        "\(Self.count(status.files.unprobed, "deleted file")) kept open since nobody can tell whether a writer has them: "
          + "the node lacks CAP_LEASE")
    }
    lines += status.branches.prefix(Self.listed).map {
      "\($0.host): \(Self.count($0.count, "string")) beside other bytes of the same file, kept (inspect files --json)"
    }
    lines += status.equivocations.prefix(Self.listed).map {
      "\($0.host): \(Self.count($0.count, "sequence")) beside other records of the same journal, kept (inspect)"
    }
    lines += status.servers.filter { $0.lackingFiles > 0 }.map(\.lackingLine)
    if status.gapCount > 0 { lines.append("\(Self.count(status.gapCount, "gap")):") }
    lines += status.gaps.prefix(Self.listed).map { "  \($0.line)" }
    if status.waitingCount > 0 { lines.append("\(Self.count(status.waitingCount, "file")) waiting alone:") }
    lines += status.waiting.prefix(Self.listed).map { "  \($0.line)" }
    if status.setApartCount > 0 { lines.append("\(status.setApartCount) set apart until a restart:") }
    lines += status.setApart.prefix(Self.listed).map { "  \($0.line)" }
    if status.unfollowedCount > 0 { lines.append("\(Self.count(status.unfollowedCount, "name")) not followed:") }
    lines += status.unfollowed.prefix(Self.listed).map { "  \($0.line)" }
    text = lines.joined(separator: "\n") + "\n"
  }

  /// A host whose logs grow is behind by what was written last: no cause for concern while all servers take it.
  private static func state(_ status: NodeStatus) -> String {
    if status.settled { return "settled" }
    let isDelivering = status.alarms.isEmpty && status.objections.isEmpty && status.servers.allSatisfy(\.connected)
    return isDelivering ? "delivering" : "not settled"
  }

  private static let listed = 20
  private static func count(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }

  private static func servers(_ status: NodeStatus) -> [String] {
    guard !status.servers.isEmpty else { return [] }
    var table = TextTable("SERVER", "ADDRESS", "STATE", ">BYTES BEHIND", ">RECORDS BEHIND", ">FOR", "LAST ERROR")
    for server in status.servers {
      table.add(
        server.name, server.address, server.connected ? "connected" : "DOWN", "\(server.lagBytes)",
        "\(server.lagEvents)", duration(server.lagSeconds), shown(server.lastError ?? "-", limit: 200))
    }
    return table.lines
  }

  private static func hosts(_ status: NodeStatus) -> [String] {
    guard !status.hosts.isEmpty else { return [] }
    var table = TextTable("HOST", "STATE", "LAST SEEN", ">FILES", ">BYTES", ">EXTENTS LACKING")
    for host in status.hosts {
      table.add(
        host.name, host.connected ? "connected" : "away", host.lastSeen ?? "-", "\(host.files)", "\(host.bytes)",
        "\(host.lackingExtents)")
    }
    return table.lines
  }

  static func duration(_ seconds: Double) -> String {
    switch seconds {
    case ..<0.001: "-"
    case _ where seconds.isNaN: "-"
    case ..<120: "\((seconds * 1000).rounded() / 1000) s"
    case ..<7_200: "\(Int(seconds / 60)) min"
    case ..<172_800: "\(Int(seconds / 3_600)) h"
    default: "\(Int(min(seconds, 1e12) / 86_400)) d"
    }
  }
}

/// Columns padded to their widest cell; `>` before a title aligns it to the right.
package struct TextTable {
  private var rows: [[String]]
  private let isRight: [Bool]

  package init(_ titles: String...) {
    isRight = titles.map { $0.hasPrefix(">") }
    rows = [titles.map { $0.hasPrefix(">") ? String($0.dropFirst()) : $0 }]
  }

  package mutating func add(_ cells: String...) { rows.append(cells) }

  package var lines: [String] {
    let widths = isRight.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      let cells = row.enumerated().map { column, cell in
        let padding = String(repeating: " ", count: widths[column] - cell.count)
        return isRight[column] ? padding + cell : cell + padding
      }
      let line = cells.joined(separator: "  ")
      return String(line.prefix(line.count - line.reversed().prefix { $0 == " " }.count))
    }
  }
}

/// `inspect` for people.
package enum InspectionText {
  package static func files(_ rows: [InspectedFile]) -> String {
    var table = TextTable("HOST", "FILE", "BORN", "STATE", ">LENGTH", "DURABLE", "PATH")
    for row in rows {
      let durable: String
      switch row.durable {
      case .here(let count): durable = "\(count)"
      case .noted(let counts):
        durable = counts.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
      }
      table.add(
        row.host, String(row.file.prefix(8)), row.born, row.reason ?? "open", "\(row.length)", durable, row.path)
    }
    return table.lines.joined(separator: "\n") + "\n"
  }

  package static func hosts(_ rows: [InspectedHost]) -> String {
    var table = TextTable("HOST", "ROLE", ">FILES", ">OPEN", ">LENGTH", ">DURABLE", ">RECORDS", "LAST RECORD")
    for row in rows {
      table.add(
        row.host, row.role, "\(row.files)", "\(row.open)", "\(row.length)", row.durable.map { "\($0)" } ?? "-",
        "\(row.journals.saturatingSum(\.records))", row.lastRecord ?? "-")
    }
    return table.lines.joined(separator: "\n") + "\n"
  }
}
