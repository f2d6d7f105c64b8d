import Glibc
import JournalModel
import SecureTransport
import Synchronization
import Testing

@testable import NodeRuntime

/// Many clients that are slow, silent or stopped, and one who only asks (D24).
@Suite(.serialized) struct RequestServerTests {
  /// A connection; closed at the end of its life.
  final class Client {
    let number: Int32

    init(owning number: Int32) { self.number = number }

    init(_ port: UInt16) throws {
      number = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
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
    }

    deinit { close(number) }

    func send(_ text: String) { _ = Glibc.send(number, text, text.utf8.count, Int32(MSG_NOSIGNAL)) }

    /// Whether the other side closes within `limit` milliseconds.
    func isClosed(within limit: Int32) -> Bool {
      var entry = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
      var byte: UInt8 = 0
      return poll(&entry, 1, limit) > 0 && recv(number, &byte, 1, 0) <= 0
    }
  }

  private static func milliseconds(_ body: () throws -> Void) rethrows -> Double {
    let took = try ContinuousClock().measure(body)
    return Double(took.components.seconds) * 1e3 + Double(took.components.attoseconds) / 1e15
  }

  @Test func twoHundredSlowRequestsKeepNobodyWaitingD24() throws {
    let server = try StatusServer(at: Address(host: "127.0.0.1", port: 0), node: FixedNode(fullStatus()))
    defer { server.stop() }
    let port = try #require(server.address?.port)
    var slow: [Client] = []
    for _ in 0..<200 {
      let client = try Client(port)
      client.send("G")
      slow.append(client)
    }
    for _ in 0..<20 {
      var answer = ""
      let took = try Self.milliseconds {
        answer = try StatusServerTests.exchange(port, "GET /healthz HTTP/1.1\r\n\r\n")
      }
      #expect(answer.hasSuffix("ok\n"))
      #expect(took < 1_000, "\(took) ms")
      for client in slow { client.send("x") }
    }
    #expect(slow[0].isClosed(within: 5_000), "the oldest made room")
  }

  @Test func aRequestHasSoLongAndNoLongerD24() throws {
    let server = try StatusServer(at: Address(host: "127.0.0.1", port: 0), node: FixedNode(fullStatus()))
    defer { server.stop() }
    let client = try Client(try #require(server.address?.port))
    client.send("GET / HTT")
    #expect(client.isClosed(within: 10_000))
  }

  /// A node whose long lists take as long as the test wants.
  final class SlowNode: NodeControl {
    let looks = Counter()
    let gate = Mutex(())
    func snapshot() -> NodeStatus {
      looks.add()
      return gate.withLock { _ in fullStatus() }
    }
    func glance() -> NodeStatus { fullStatus() }
    func settle(timeout: Interval, done: @escaping @Sendable (SettleResult) -> Void) -> @Sendable () -> Void { {} }
  }

  @Test func healthWaitsForNoLongListAndManyWhoAskAreOneD24() throws {
    let node = SlowNode()
    let server = try StatusServer(at: Address(host: "127.0.0.1", port: 0), node: node)
    defer { server.stop() }
    let port = try #require(server.address?.port)
    var askers: [Client] = []
    try node.gate.withLock { _ in
      for _ in 0..<40 {
        let client = try Client(port)
        client.send("GET /status.json HTTP/1.1\r\n\r\n")
        askers.append(client)
      }
      #expect(try StatusServerTests.exchange(port, "GET /healthz HTTP/1.1\r\n\r\n").hasSuffix("ok\n"))
    }
    for client in askers {
      var entry = pollfd(fd: client.number, events: Int16(POLLIN), revents: 0)
      #expect(poll(&entry, 1, 10_000) == 1)
    }
    #expect(node.looks.value <= 4, "\(node.looks.value) looks")
  }

  // MARK: The control socket

  @Test func slowAndStoppedClientsOfTheControlSocketKeepNobodyWaitingD24() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    var status = fullStatus()
    // More than a socket's buffer holds.
    status.alarms = (0..<20_000).map { "alarm \($0) " + String(repeating: "x", count: 100) }
    let server = try ControlServer(at: path, node: FixedNode(status))
    defer { server.stop() }
    // Half ask and never read, half never finish asking.
    var clients: [Client] = []
    for index in 0..<200 {
      let client = try Self.unixClient(path)
      client.send(index % 2 == 0 ? "{\"status\":{}}\n" : "{")
      clients.append(client)
    }
    for _ in 0..<5 { #expect(try ControlClient.ask(.status, at: path).status?.alarms.count == 20_000) }
  }

  @Test func whoStopsWaitingToSettleGivesHisPlaceBackD24() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let node = FixedNode(fullStatus())
    let server = try ControlServer(at: path, node: node)
    defer { server.stop() }
    func wait(_ what: String, until condition: () -> Bool) {
      for _ in 0..<1_000 where !condition() { usleep(10_000) }
      #expect(condition(), "\(what)")
    }
    var clients: [Client] = []
    for _ in 0..<32 {
      clients.append(try Self.unixClient(path))
      clients.last?.send("{\"settle\":{\"timeout\":80000}}\n")
    }
    wait("all wait") { node.timeouts.withLock { $0.count } == 32 }
    // They keep neither those who ask for the status nor, for ever, those who want to wait.
    #expect(try ControlClient.ask(.status, at: path).status?.name == "web1")
    #expect(throws: ControlFailure.self) { try ControlClient.ask(.settle(timeout: 1), at: path) }
    clients = []
    wait("those who left are noticed") { node.givenUp.value == 32 }
  }

  static func unixClient(_ path: String) throws -> Client { try Client(unix: path) }
}

extension RequestServerTests.Client {
  convenience init(unix path: String) throws {
    let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(result == 0)
    self.init(owning: number)
  }
}
