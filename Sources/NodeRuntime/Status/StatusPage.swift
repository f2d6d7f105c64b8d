/// The page for people: at a glance, is anything missing? No script, nothing from elsewhere; reloads itself.
enum StatusPage {
  static func html(_ status: NodeStatus) -> String {
    """
    <!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="3">
    <meta name="viewport" content="width=device-width"><title>\(text(status.name)) \(verdict(status).word)</title>
    <style>\(style)</style></head><body>
    <h1>\(text(status.name)) <small>\(text(status.roles.joined(separator: " and ")))</small></h1>
    <p class="verdict \(verdict(status).mood)">\(verdict(status).sentence)</p>
    \(alarms(status))\(servers(status))\(hosts(status))\(peers(status))\(waiting(status))\(gaps(status))
    <p class="small">\(status.files.followed) files, \(status.files.open) open. \
    <a href="/status.json">status.json</a> <a href="/metrics">metrics</a></p>
    </body></html>

    """
  }

  private static let style = """
    body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}
    table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px
    solid #ddd;overflow-wrap:anywhere}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}small,.small{color:#666}
    .verdict{padding:.8rem 1rem;border-radius:.4rem;font-weight:600}.good{background:#d9f2dd;color:#0a4d16}
    .bad{background:#f9d6d5;color:#7a0f0b}.busy{background:#fdf0c8;color:#5c4300}
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}
    .good{background:#14401d;color:#c5efcd}.bad{background:#571a17;color:#ffd5d2}.busy{background:#4a3a0a;color:#fbe7a8}}
    """

  /// Red: something is lost, refused, or can't go on without a person. Yellow: on its way. Green: nothing is missing.
  static func verdict(_ status: NodeStatus) -> (mood: String, word: String, sentence: String) {
    let down = status.servers.filter { !$0.connected }.count
    if !status.alarms.isEmpty { return ("bad", "ALARM", "The node can't go on as it should.") }
    if status.gapCount > 0 || status.waitingCount > 0 {
      return ("bad", "INCOMPLETE", "\(status.gapCount) gaps, \(status.waitingCount) files wait alone.")
    }
    if status.servers.contains(where: { $0.lackingFiles > 0 }) {
      return ("bad", "INCOMPLETE", "A server lacks files that ended, which only its peers can bring.")
    }
    if down > 0 { return ("bad", "DOWN", "\(down) of \(status.servers.count) servers can't be reached.") }
    if !status.settled { return ("busy", "delivering", "On its way: not everything is durable everywhere yet.") }
    return ("good", "complete", "Nothing is missing.")
  }

  private static func alarms(_ status: NodeStatus) -> String {
    status.alarms.map { "<p class=\"verdict bad\">\(text($0))</p>\n" }.joined()
  }

  private static func servers(_ status: NodeStatus) -> String {
    table(
      ["Server", "", "#Bytes behind", "#Records behind", "#Ended files lacking", "For", "Last error"],
      status.servers.map { server in
        let isGood = server.connected && server.lagBytes == 0 && server.lagEvents == 0 && server.lackingFiles == 0
        let mood = !server.connected ? "bad" : isGood ? "good" : "busy"
        return [
          "<td>\(text(server.name))<br><small>\(text(server.address))</small>",
          "<td><span class=\"verdict \(mood)\">\(!server.connected ? "down" : isGood ? "complete" : "behind")</span>",
          "<td class=n>\(server.lagBytes)", "<td class=n>\(server.lagEvents)", "<td class=n>\(server.lackingFiles)",
          "<td>\(StatusText.duration(server.lagSeconds))", "<td>\(text(server.lastError ?? ""))",
        ]
      })
  }

  private static func hosts(_ status: NodeStatus) -> String {
    let branches = Dictionary(status.branches.map { ($0.host, $0.count) }, uniquingKeysWith: +)
    let equivocations = Dictionary(status.equivocations.map { ($0.host, $0.count) }, uniquingKeysWith: +)
    return table(
      ["Host", "", "Last seen", "#Files", "#Bytes", "#Extents lacking", "#Branches", "#Equivocations"],
      status.hosts.prefix(listed).map { host in
        [
          "<td>\(text(host.name))", "<td>\(host.connected ? "connected" : "away")",
          "<td>\(text(host.lastSeen ?? "not since the start"))", "<td class=n>\(host.files)",
          "<td class=n>\(host.bytes)", "<td class=n>\(host.lackingExtents)", "<td class=n>\(branches[host.name] ?? 0)",
          "<td class=n>\(equivocations[host.name] ?? 0)",
        ]
      })
  }

  private static func peers(_ status: NodeStatus) -> String {
    table(
      ["Peer", "", "Digest"],
      status.peers.map { ["<td>\(text($0.name))", "<td>\(text($0.summary))", "<td>\(text($0.digest ?? ""))"] })
      + (status.digest.map { "<p>Digest of all that is held here: \(text($0))</p>" } ?? "")
  }

  private static func waiting(_ status: NodeStatus) -> String {
    table(
      ["Waits alone", "Server", "Why"],
      status.waiting.prefix(listed).map {
        ["<td>\(text($0.path))", "<td>\(text($0.server ?? ""))", "<td>\(text($0.reason))"]
      })
  }

  private static func gaps(_ status: NodeStatus) -> String {
    table(
      ["Gap", "#From", "#To", "Why"],
      status.gaps.prefix(listed).map { gap in
        [
          "<td>\(text(gap.path ?? gap.file ?? "?"))", "<td class=n>\(gap.from)",
          "<td class=n>\(gap.to.map(String.init) ?? "unknown")", "<td>\(text(gap.reason))",
        ]
      })
  }

  private static let listed = 100

  /// Titles that begin with `#` stand over numbers. Nothing when there are no rows.
  private static func table(_ titles: [String], _ rows: [[String]]) -> String {
    guard !rows.isEmpty else { return "" }
    let head = titles.map { $0.hasPrefix("#") ? "<th class=n>\($0.dropFirst())" : "<th>\($0)" }.joined()
    return "<table><tr>\(head)\n" + rows.map { "<tr>\($0.joined())\n" }.joined() + "</table>\n"
  }

  /// Text from files, hosts and servers as text.
  private static func text(_ value: String) -> String {
    var result = ""
    for scalar in shown(value, limit: 500).unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
