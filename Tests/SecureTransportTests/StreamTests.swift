import Glibc
import SecureTransport
import Testing

extension SessionBox: StreamEnd {
  func read(_ limit: Int) -> StreamRead {
    var bytes = [UInt8](repeating: 0, count: limit)
    switch bytes.withUnsafeMutableBytes({ session.read(into: $0) }) {
    case .bytes(let count): return .bytes(Array(bytes.prefix(count)))
    case .wantsRead, .wantsWrite: return .nothing
    case .closed: return .end
    case .failed(let reason): return .failed(reason)
    }
  }

  func write(_ bytes: ArraySlice<UInt8>) -> Int? {
    switch bytes.withUnsafeBytes({ session.write($0) }) {
    case .bytes(let count): return count
    case .wantsRead, .wantsWrite: return 0
    case .closed, .failed: return nil
    }
  }

  func finish() { #expect(session.shutdown() == .done) }

  static func wait(_ first: SessionBox, _ second: SessionBox) {
    Sockets.wait([(first.session.descriptor, Int16(POLLIN)), (second.session.descriptor, Int16(POLLIN))])
  }
}

@Suite("Streams") struct StreamTests {
  let fleet: Fleet
  let client: TLSContext
  let server: TLSContext

  init() throws {
    fleet = try Fleet()
    client = try TLSContext(.client, fleet.files("web1", [.host]))
    server = try TLSContext(.server, fleet.files("logs-a", [.server]))
  }

  private func established(_ sockets: consuming SocketPair, keyLifetime: Int? = nil) throws -> (SessionBox, SessionBox)
  {
    let ends = (
      SessionBox(try client.connect(on: sockets.client, to: "logs-a")),
      SessionBox(try server.accept(on: sockets.server))
    )
    if let keyLifetime {
      ends.0.session.keyLifetime = keyLifetime
      ends.1.session.keyLifetime = keyLifetime
    }
    let reasons = Handshakes.run(client: ends.0, server: ends.1)
    try #require(reasons == (nil, nil))
    return ends
  }

  @Test("a session over TCP is a faithful byte stream, either way round")
  func tcp() throws {
    try StreamConformance { try established(Sockets.connected()) }.check()
    try StreamConformance {
      let ends = try established(Sockets.connected())
      return (ends.1, ends.0)
    }.check()
  }

  @Test("a session over a local pair with small buffers is a faithful byte stream")
  func pair() throws {
    try StreamConformance { try established(Sockets.pair()) }.check()
  }

  @Test("one read takes a bounded number of records, and counts what brings no data (P6)")
  func boundedReads() throws {
    let (sender, receiver) = try established(Sockets.connected())
    _ = receiver.session.takeIntake()
    for _ in 0..<100 { #expect(sender.write([1]) == 1) }
    Sockets.wait([(receiver.session.descriptor, Int16(POLLIN))])
    var bytes = [UInt8](repeating: 0, count: 1_000)
    #expect(bytes.withUnsafeMutableBytes { receiver.session.read(into: $0, records: 10) } == .bytes(10))
    var received = 10
    while case .bytes(let count) = bytes.withUnsafeMutableBytes({ receiver.session.read(into: $0, records: 10) }) {
      received += count
    }
    #expect(received == 100)
    #expect(receiver.session.takeIntake() == (100, 0))
    // Each write is behind an update of the key.
    sender.session.keyLifetime = 1
    for _ in 0..<2_000 { #expect(sender.write([1]) == 1) }
    Sockets.wait([(receiver.session.descriptor, Int16(POLLIN))])
    var reads = 0
    var updates = 0
    received = 0
    while received < 2_000, reads < 100_000 {
      reads += 1
      if case .bytes(let count) = bytes.withUnsafeMutableBytes({ receiver.session.read(into: $0) }) {
        received += count
      }
      let intake = receiver.session.takeIntake()
      updates += intake.messages
      // What is in one buffer at most.
      #expect(intake.messages < 700)
    }
    #expect((received, updates) == (2_000, 2_000))
  }

  @Test("key updates under load change nothing for the reader (W4)")
  func keyUpdates() throws {
    try StreamConformance { try established(Sockets.pair(), keyLifetime: 20_000) }.check()
    let (sender, receiver) = try established(Sockets.connected(), keyLifetime: 20_000)
    for _ in 0..<10 { #expect(sender.write(Pattern.bytes(0..<16_384)) == 16_384) }
    #expect(sender.session.keyUpdates == 4)
    var received = 0
    while received < 163_840, case .bytes(let some) = receiver.read(200_000) { received += some.count }
    #expect(received == 163_840)
  }

  @Test("a byte changed on the way ends the session and is never delivered")
  func damagedRecord() throws {
    for position in [5, 20, 100, 1_000] {
      let one = try Sockets.pair()
      let two = try Sockets.pair()
      let sender = SessionBox(try client.connect(on: one.client, to: "logs-a"))
      let receiver = SessionBox(try server.accept(on: two.server))
      let wire = (near: one.server.number, far: two.client.number)
      func relay(damage: Int? = nil) {
        for (from, to) in [(wire.near, wire.far), (wire.far, wire.near)] {
          var bytes = [UInt8](repeating: 0, count: 65_536)
          let count = recv(from, &bytes, bytes.count, 0)
          guard count > 0 else { continue }
          if let damage, damage < count { bytes[damage] ^= 0x10 }
          send(to, bytes, count, Int32(MSG_NOSIGNAL))
        }
      }
      var isDone = (false, false)
      for _ in 0..<20 where !(isDone.0 && isDone.1) {
        isDone = (sender.session.handshake() == .done, receiver.session.handshake() == .done)
        relay()
      }
      try #require(isDone == (true, true))
      #expect(sender.write(Pattern.bytes(0..<2_000)) == 2_000)
      relay(damage: position)
      #expect(receiver.read(4_000) == .failed("data was damaged on the way (decryption failed or bad record mac)"))
      #expect(receiver.write([1]) == nil)
    }
  }

  @Test("a session that is dropped while the peer writes kills nobody (SIGPIPE)")
  func brokenPipe() throws {
    var ends: (SessionBox?, SessionBox) = try established(Sockets.connected())
    ends.0 = nil
    let block = [UInt8](repeating: 7, count: 100_000)
    var end: Int? = 0
    for _ in 0..<1_000 where end != nil { end = ends.1.write(block[...]) }
    #expect(end == nil)
  }
}

@Suite("Addresses and sockets") struct AddressTests {
  @Test(
    "addresses are read as written and say what is wrong",
    arguments: [
      ("127.0.0.1:7443", "127.0.0.1", 7443), ("[::1]:7443", "::1", 7443),
      ("logs-a.example.net:1", "logs-a.example.net", 1),
      ("[2001:db8::5]:65535", "2001:db8::5", 65535),
    ] as [(String, String, UInt16)])
  func good(text: String, host: String, port: UInt16) throws {
    let address = try Address(text)
    #expect(address == Address(host: host, port: port))
    #expect(address.description == text)
    #expect((address.literal == nil) == (host == "logs-a.example.net"))
    if let literal = address.literal { #expect(literal.description == text) }
  }

  @Test(
    "what is not an address is refused",
    arguments: [
      "", ":", "host", "host:", ":7443", "host:65536", "host:-1", "host:+1", "host:1 ", "::1:7443", "[::1]", "[]:1",
      "[1.2.3.4]:1", "[::g]:1", "ho st:1", "host\n:1", "host:123456",
    ])
  func bad(text: String) {
    #expect(throws: TransportError.self) { try Address(text) }
  }

  @Test("local names are resolved, unknown ones are an error")
  func resolving() throws {
    let found = try Address("localhost:80").resolve()
    #expect(found.contains { $0.description == "127.0.0.1:80" || $0.description == "[::1]:80" })
    let error = #expect(throws: TransportError.self) { try Address("nowhere.invalid:80").resolve() }
    #expect(error?.reason.hasPrefix("can't be resolved") == true)
  }

  @Test("a port in use, a refused connection and an empty queue are told")
  func failures() throws {
    let listening = try SocketDescriptor.listening(at: Address("127.0.0.1:0").resolve()[0])
    let local = listening.localAddress
    let address = try #require(local)
    if case .none = listening.accept() {} else { Issue.record("somebody was accepted") }
    let error = #expect(throws: TransportError.self) { _ = try SocketDescriptor.listening(at: address) }
    #expect(error?.description == "\(address): can't be listened at: Address already in use (does another node run?)")

    let free: SocketAddress
    do {
      let other = try SocketDescriptor.listening(at: Address("127.0.0.1:0").resolve()[0])
      let local = other.localAddress
      free = try #require(local)
    }
    do {
      let client = try SocketDescriptor.connecting(to: free)
      Sockets.wait([(client.number, Int16(POLLOUT))])
      #expect(client.finishConnecting() == "Connection refused")
    } catch {
      #expect(error.reason == "can't be reached: Connection refused")
    }
  }

  @Test("connections send at once, notice dead peers, and are closed on exec")
  func options() throws {
    let sockets = try Sockets.connected()
    for number in [sockets.client.number, sockets.server.number] {
      func option(_ level: Int32, _ name: Int32) -> Int32 {
        var value: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(number, level, name, &value, &size)
        return value
      }
      #expect(option(Int32(IPPROTO_TCP), TCP_NODELAY) != 0)
      #expect(option(Int32(IPPROTO_TCP), TCP_USER_TIMEOUT) == 30_000)
      #expect(option(SOL_SOCKET, SO_KEEPALIVE) != 0)
      #expect(fcntl(number, F_GETFD) & FD_CLOEXEC != 0)
      #expect(fcntl(number, F_GETFL) & O_NONBLOCK != 0)
    }
    withExtendedLifetime(sockets.client.number) {}
  }
}
