import Foundation
import Glibc
import JournalModel
import SecureTransport
import Testing

@testable import NodeRuntime

/// The names of `design/interfaces.md`, against which others script.
@Suite struct StatusFieldTests {
  static func object(_ value: some Encodable) throws -> [String: Any] {
    let line = try JSON.line(value)
    #expect(!line.contains("\n"))
    return try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
  }

  @Test func statusHasTheFieldsOfTheContract() throws {
    let status = try Self.object(fullStatus())
    for field in ["name", "roles", "settled", "servers", "peers", "files", "hosts", "gaps", "branches"] {
      #expect(status[field] != nil, "\(field)")
    }
    let servers = try #require(status["servers"] as? [[String: Any]])
    for field in ["name", "connected", "lagBytes", "lagEvents", "lagSeconds", "lastError"] {
      #expect(servers.allSatisfy { $0[field] != nil }, "servers[].\(field)")
    }
    #expect(servers[1]["lastError"] is NSNull)
    let peers = try #require(status["peers"] as? [[String: Any]])
    for field in ["name", "connected", "lagBytes", "lagEvents", "lagSeconds", "lastError", "digest", "equal"] {
      #expect(peers.allSatisfy { $0[field] != nil }, "peers[].\(field)")
    }
    let files = try #require(status["files"] as? [String: Any])
    #expect(files["followed"] as? Int == 5 && files["open"] as? Int == 4)
    let hosts = try #require(status["hosts"] as? [[String: Any]])
    for field in ["lastSeen", "files", "bytes"] { #expect(hosts.allSatisfy { $0[field] != nil }, "hosts[].\(field)") }
  }

  @Test func inspectFilesHasTheFieldsOfTheContract() throws {
    let identity = InodeIdentity(number: 1, generation: nil, birth: nil)
    let root = Digest.zero
    let parent = Parent(file: FileUUID(UUIDBytes(high: 1, low: 2)), length: 3, root: root, why: .truncated)
    for durable in [InspectedFile.Durable.here(3), .noted(["logs-a": 3])] {
      let row = InspectedFile(
        host: "web1", role: "host", file: "f", identity: .init(identity), derived: false, path: "/a", born: "t",
        closed: nil, reason: nil, length: 3, durable: durable, root: root.hex, stored: nil, plainBytes: nil,
        parent: .init(parent), gapFrom: nil)
      let object = try Self.object(row)
      for field in [
        "host", "file", "identity", "derived", "path", "born", "closed", "reason", "length", "durable", "root",
        "stored",
        "branches", "parent",
      ] { #expect(object[field] != nil, "\(field)") }
      #expect(object["closed"] is NSNull)
      let parent = try #require(object["parent"] as? [String: Any])
      for field in ["uuid", "length", "root", "why"] { #expect(parent[field] != nil, "parent.\(field)") }
      switch durable {
      case .here: #expect(object["durable"] as? Int == 3)
      case .noted: #expect((object["durable"] as? [String: Int]) == ["logs-a": 3])
      }
    }
  }

  @Test func statusForPeopleNamesWhatIsMissing() {
    let text = StatusText(fullStatus()).text
    for part in [
      "web1", "not settled", "logs-a", "DOWN", "Connection refused", "/w: waits alone", "gap: /a: 1 ..< unknown",
    ] {
      #expect(text.contains(part), "\(part)")
    }
  }

  @Test func beingBehindIsNoTroubleWhileAllServersTakeIt() {
    var status = NodeStatus(name: "web1", roles: ["host"], settled: false)
    status.servers = [.init(name: "logs-a", address: "h:1", connected: true, lagBytes: 9, lagEvents: 1)]
    #expect(StatusText(status).text.hasPrefix("web1 (host): delivering\n"))
    status.servers[0].connected = false
    #expect(StatusText(status).text.hasPrefix("web1 (host): not settled\n"))
    status.servers = []
    status.settled = true
    #expect(StatusText(status).text.hasPrefix("web1 (host): settled\n"))
  }

  @Test func whatOnlyPeersCanBringIsSaid() {
    var status = NodeStatus(name: "web1", roles: ["host"], settled: false)
    status.servers = [.init(name: "logs-a", address: "h:1", connected: true, lackingFiles: 3)]
    let line = "logs-a: hasn't all of 3 or more files that ended before it was named, or that it lost"
    #expect(StatusText(status).text.hasPrefix("web1 (host): not settled\n"))
    #expect(StatusText(status).text.contains("\n\(line)\n"))
    #expect(status.objections == [line])
    #expect(StatusPage.verdict(status).mood == "bad")
    let lack = SettleResult.Unsettled(
      server: "logs-a", file: nil, path: "files that ended", noted: 9, durable: 9, reason: "so", isElsewhere: true)
    let result = SettleResult(reached: false, unsettled: [lack], status: status)
    #expect(SettleVerdict(result, allowGaps: false).reasons == ["logs-a: files that ended: not durable (so)"])
    #expect(SettleVerdict(result, allowGaps: true).isSettled)
  }

  @Test func tablesAreAligned() {
    var table = TextTable("NAME", ">N", "END")
    table.add("a", "1", "x")
    table.add("longer", "100", "")
    #expect(table.lines == ["NAME      N  END", "a         1  x", "longer  100"])
  }
}

@Suite struct StatusServerTests {
  static func ask(_ request: String, of node: FixedNode = FixedNode(fullStatus())) -> (code: Int, text: String) {
    let response = Self.response(to: Array(request.utf8), of: node)
    return (response.status.code, String(decoding: response.bytes, as: UTF8.self))
  }

  static func response(to head: [UInt8], of node: FixedNode) -> StatusResponse {
    let request = StatusRequest(head)
    switch request.asked {
    case .refused(let response): return response
    case .subject(let subject): return request.response(subject, node.snapshot())
    }
  }

  static let requests: [(String, Int)] = [
    ("GET / HTTP/1.1\r\nHost: x", 200), ("GET /metrics HTTP/1.0", 200), ("GET /status.json?x=y HTTP/1.1", 200),
    ("HEAD /healthz HTTP/1.1", 200), ("GET /etc/passwd HTTP/1.1", 404), ("GET //  HTTP/1.1", 400),
    ("POST / HTTP/1.1", 405), ("get / HTTP/1.1", 405), ("GET / HTTP/2", 400), ("GET /", 400), ("", 400),
    ("\u{0}\u{1}", 400), ("GET /" + String(repeating: "a", count: 9_000) + " HTTP/1.1", 431),
  ]

  @Test(arguments: requests)
  func requestsAreAnswered(_ request: String, _ code: Int) {
    let answer = Self.ask(request)
    #expect(answer.code == code)
    #expect(answer.text.hasPrefix("HTTP/1.1 \(code) "))
    #expect(answer.text.contains("\r\nConnection: close\r\n"))
  }

  @Test func headHasNoBody() {
    #expect(Self.ask("HEAD / HTTP/1.1").text.hasSuffix("\r\n\r\n"))
  }

  @Test func healthIsBadOnlyForTheNodesOwnTrouble() {
    #expect(Self.ask("GET /healthz HTTP/1.1").code == 200)
    var status = fullStatus()
    status.alarms = ["journal blocked: disk full"]
    #expect(Self.ask("GET /healthz HTTP/1.1", of: FixedNode(status)).code == 503)
  }

  @Test func thePageEscapesWhatComesFromAfar() {
    var status = fullStatus()
    status.waiting[0].path = "/<script>\"'&<\u{301}b>"
    let page = Self.ask("GET / HTTP/1.1", of: FixedNode(status)).text
    // By bytes: to compare characters would hide a `<` under an accent.
    let bytes = Array(page.utf8)
    #expect(bytes.firstRange(of: Array("<script>".utf8)) == nil)
    #expect(bytes.firstRange(of: Array("<\u{301}".utf8)) == nil)
    #expect(bytes.firstRange(of: Array("&lt;script&gt;&quot;&#39;&amp;&lt;\u{301}b&gt;".utf8)) != nil)
  }

  @Test func thePageShowsAtAGlanceWhetherSomethingIsMissing() {
    var status = NodeStatus(name: "a", roles: ["host"], settled: true)
    #expect(StatusPage.verdict(status).mood == "good")
    status.settled = false
    #expect(StatusPage.verdict(status).mood == "busy")
    status.servers = [.init(name: "s", address: "h:1", connected: false)]
    #expect(StatusPage.verdict(status).mood == "bad")
    status.servers = []
    status.gapCount = 1
    #expect(StatusPage.verdict(status).mood == "bad")
  }

  @Test func metricsAreWellFormed() {
    var status = fullStatus()
    status.servers[0].name = "a\"b\\c\nd"
    let text = StatusMetrics.text(status)
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      let parts = line.split(separator: " ")
      #expect(line.hasPrefix("nimbus_journal_") && Double(parts.last ?? "") != nil, "\(line)")
    }
    #expect(text.contains("nimbus_journal_server_lag_bytes{server=\"a\\\"b\\\\c\\nd\"} 17.0\n"))
    #expect(text.contains("nimbus_journal_gaps 2.0\n"))
  }

  @Test func itServesOverASocketAndBoundsWhatItReads() throws {
    let server = try StatusServer(at: Address(host: "127.0.0.1", port: 0), node: FixedNode(fullStatus()))
    defer { server.stop() }
    let port = try #require(server.address?.port)
    #expect(try Self.exchange(port, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").hasSuffix("\r\n\r\nok\n"))
    #expect(try Self.exchange(port, String(repeating: "x", count: 20_000)).hasPrefix("HTTP/1.1 431 "))
    #expect(try Self.exchange(port, "GET /metrics HTTP/1.1\r\n\r\n").contains("nimbus_journal_settled 0.0"))
  }

  /// All that comes until the other side closes.
  static func exchange(_ port: UInt16, _ request: String) throws -> String {
    let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(number) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(number, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    try #require(result == 0)
    let bytes = Array(request.utf8)
    _ = send(number, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    var answer: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4_096)
    while case let count = recv(number, &buffer, buffer.count, 0), count > 0 { answer += buffer[..<count] }
    return String(decoding: answer, as: UTF8.self)
  }

  @Test func aFuzzedRequestIsAlwaysAnsweredWithASaneStatus() {
    var chance = SeededGenerator(seed: 4)
    let seed = Array("GET /status.json HTTP/1.1\r\nHost: localhost\r\nAccept: */*".utf8)
    let node = FixedNode(fullStatus())
    for _ in 0..<3_000 {
      var bytes = seed
      for _ in 0..<Int.random(in: 1...6, using: &chance) {
        let index = Int.random(in: 0..<bytes.count, using: &chance)
        bytes[index] = UInt8.random(in: 0...255, using: &chance)
      }
      let code = Self.response(to: bytes, of: node).status.code
      #expect([200, 400, 404, 405].contains(code))
    }
  }
}

@Suite struct ServiceManagerTests {
  @Test func theServiceManagerGetsTheDatagram() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/notify"
    let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    defer { close(number) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(result == 0)
    #expect(ServiceManager.send("READY=1", to: path))
    var buffer = [UInt8](repeating: 0, count: 64)
    let count = recv(number, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    #expect(String(decoding: buffer.prefix(max(0, count)), as: UTF8.self) == "READY=1")
    #expect(!ServiceManager.send("READY=1", to: directory.path + "/nobody"))
    #expect(!ServiceManager.send("READY=1", to: "relative"))
    #expect(!ServiceManager.send("READY=1", to: "/" + String(repeating: "x", count: 200)))
  }
}
