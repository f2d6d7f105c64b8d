/// `/metrics` in Prometheus' text format, version 0.0.4.
enum StatusMetrics {
  static func text(_ status: NodeStatus) -> String {
    var page = Page()
    page.gauge("settled", "1 when everything journaled is durable on every server", [("", status.settled ? 1 : 0)])
    page.gauge("alarms", "Conditions that stop the node from going on", [("", Double(status.alarms.count))])
    page.gauge("uptime_seconds", "Time since the start", [("", status.uptimeSeconds)])
    page.gauge("files_followed", "Files followed, or held", [("", Double(status.files.followed))])
    page.gauge("files_open", "Files that are not closed", [("", Double(status.files.open))])
    page.gauge(
      "names_unfollowed", "Names that a pattern finds and that aren't followed", [("", Double(status.unfollowedCount))])
    page.gauge("files_waiting", "Files that wait alone or were refused", [("", Double(status.waitingCount))])
    page.gauge("gaps", "Known losses", [("", Double(status.gapCount))])
    page.gauge("journal_records", "Records in the own journal", [("", Double(status.journalRecords))])
    page.counter("refusals_total", "Refusals since the start", [("", Double(status.refusals))])
    page.counter("sent_bytes_total", "Payload bytes handed to servers", [("", Double(status.sentBytes))])
    page.counter("received_bytes_total", "Payload bytes from hosts and peers", [("", Double(status.receivedBytes))])
    addServers(status, to: &page)
    addPeers(status, to: &page)
    addHosts(status, to: &page)
    return page.text
  }

  private static func addServers(_ status: NodeStatus, to page: inout Page) {
    func each(_ value: (NodeStatus.Server) -> Double) -> [(String, Double)] {
      status.servers.map { (label("server", $0.name), value($0)) }
    }
    page.gauge("server_connected", "1 when connected", each { $0.connected ? 1 : 0 })
    page.gauge("server_lag_bytes", "Journaled bytes not durable there", each { Double($0.lagBytes) })
    page.gauge("server_lag_events", "Records not durable there", each { Double($0.lagEvents) })
    page.gauge("server_lag_seconds", "Age of the oldest undelivered record or byte", each { $0.lagSeconds })
    page.gauge(
      "server_lacking_files", "Files that ended and that only its peers can bring it, so many at least",
      each { Double($0.lackingFiles) })
    page.counter("server_refusals_total", "Refusals by this server since the start", each { Double($0.refusals) })
  }

  private static func addPeers(_ status: NodeStatus, to page: inout Page) {
    func each(_ value: (NodeStatus.Peer) -> Double) -> [(String, Double)] {
      status.peers.map { (label("peer", $0.name), value($0)) }
    }
    page.gauge("peer_connected", "1 when connected", each { $0.connected ? 1 : 0 })
    page.gauge("peer_equal", "1 when both hold the same", each { $0.equal == true ? 1 : 0 })
    page.gauge("peer_lag_events", "Changes held here and not there", each { Double($0.lagEvents) })
    page.gauge("peer_lag_seconds", "Age of the oldest of them, or how long it is away", each(\.lagSeconds))
    page.gauge("peer_lacking_events", "Changes held there and not here", each { Double($0.lackingEvents) })
  }

  private static func addHosts(_ status: NodeStatus, to page: inout Page) {
    func each(_ value: (NodeStatus.Host) -> Double) -> [(String, Double)] {
      status.hosts.map { (label("host", $0.name), value($0)) }
    }
    page.gauge("host_connected", "1 when connected", each { $0.connected ? 1 : 0 })
    page.gauge(
      "host_branches", "Strings held of the host beside other bytes of the same file",
      status.branches.map { (label("host", $0.host), Double($0.count)) })
    page.gauge(
      "host_equivocations", "Sequences held of the host beside other records of the same journal",
      status.equivocations.map { (label("host", $0.host), Double($0.count)) })
    page.gauge("host_files", "Files held of the host", each { Double($0.files) })
    page.gauge("host_bytes", "Bytes held of the host", each { Double($0.bytes) })
    page.gauge(
      "host_lacking_extents", "Ranges of bytes that its records promise and that aren't held",
      each { Double($0.lackingExtents) })
  }

  private static func label(_ name: String, _ value: String) -> String {
    let escaped = value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    return "{\(name)=\"\(escaped)\"}"
  }

  private struct Page {
    var text = ""

    mutating func gauge(_ name: String, _ help: String, _ samples: [(labels: String, value: Double)]) {
      add(name, "gauge", help, samples)
    }
    mutating func counter(_ name: String, _ help: String, _ samples: [(labels: String, value: Double)]) {
      add(name, "counter", help, samples)
    }
    private mutating func add(_ name: String, _ type: String, _ help: String, _ samples: [(String, Double)]) {
      guard !samples.isEmpty else { return }
      let full = "nimbus_journal_\(name)"
      text += "# HELP \(full) \(help)\n# TYPE \(full) \(type)\n"
      for (labels, value) in samples { text += "\(full)\(labels) \(value.description)\n" }
    }
  }
}
