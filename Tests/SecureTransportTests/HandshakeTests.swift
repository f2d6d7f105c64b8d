import COpenSSL
import Glibc
import JournalModel
import SecureTransport
import Testing

@Suite("TLS handshakes") struct HandshakeTests {
  let fleet: Fleet
  let serverFiles: CredentialFiles
  let hostFiles: CredentialFiles

  init() throws {
    fleet = try Fleet()
    serverFiles = try fleet.files("logs-a", [.server], addresses: ["127.0.0.1", "logs-a.example.net"])
    hostFiles = try fleet.files("web1", [.host])
  }

  private func handshake(
    _ client: TLSContext, _ server: TLSContext, name: String = "logs-a"
  ) throws -> (client: String?, server: String?) {
    let pair = try Handshakes.sessions(client: client, server: server, name: name)
    return Handshakes.run(client: pair.client, server: pair.server)
  }

  @Test("both sides know each other by name (W5)", arguments: ["127.0.0.1:0", "[::1]:0"])
  func mutual(address: String) throws {
    let pair = try Handshakes.sessions(
      client: TLSContext(.client, hostFiles), server: TLSContext(.server, serverFiles), name: "logs-a", at: address)
    #expect(pair.server.session.peer == nil)
    let ends = Handshakes.run(client: pair.client, server: pair.server)
    #expect(ends == (nil, nil))
    #expect(pair.client.session.peer?.names == ["logs-a", "logs-a.example.net"])
    #expect(pair.client.session.peer?.addresses == ["127.0.0.1"])
    #expect(pair.client.session.peer?.roles == [.server])
    #expect(pair.server.session.peer?.writableHosts == ["web1"])
    #expect(pair.server.session.peerChain.count == 2)
    #expect(pair.client.session.summary == "TLSv1.3 TLS_AES_128_GCM_SHA256")
  }

  @Test("a server's certificate must carry the configured name, whatever the address (W6)")
  func wrongName() throws {
    let ends = try handshake(TLSContext(.client, hostFiles), TLSContext(.server, serverFiles), name: "logs-b")
    #expect(ends.client == "the peer's certificate names logs-a, logs-a.example.net, not logs-b")
    #expect(ends.server?.hasPrefix("peer refused our certificate") == true)
  }

  @Test("a client of another authority is refused, and both sides say why")
  func foreignClient() throws {
    let other = try Fleet()
    var files = try other.files("web1", [.host])
    files.authorities = fleet.authority.certificatePath
    let ends = try handshake(TLSContext(.client, files), TLSContext(.server, serverFiles))
    #expect(ends.server == "certificate of web1 is not signed by the configured authorities")
    #expect(
      ends.client == "peer refused our certificate: it is not signed by the authorities that the peer trusts")
  }

  @Test("a server of another authority is refused")
  func foreignServer() throws {
    let other = try Fleet()
    let files = try other.files("logs-a", [.server])
    let ends = try handshake(TLSContext(.client, hostFiles), TLSContext(.server, files))
    #expect(ends.client == "certificate of logs-a is not signed by the configured authorities")
    #expect(ends.server != nil)
  }

  @Test("an expired or not yet valid certificate is refused with its date")
  func expired() throws {
    let validity = CertificateValidity(from: -3_000, until: -100)
    let expired = try fleet.files("web2", [.host], validity: validity)
    let then = WallTime(nanoseconds: (Int64(time(nil)) - 1_000) * 1_000_000_000)
    let ends = try handshake(TLSContext(.client, expired, judgedAt: then), TLSContext(.server, serverFiles))
    #expect(ends.server?.hasPrefix("certificate of web2 expired on 20") == true)
    #expect(ends.client == "peer refused our certificate: expired, or one of the clocks is wrong")

    let early = try fleet.files("logs-c", [.server], validity: CertificateValidity(from: 7_200, until: 36_000))
    let later = WallTime(nanoseconds: (Int64(time(nil)) + 10_000) * 1_000_000_000)
    let others = try handshake(
      TLSContext(.client, hostFiles), TLSContext(.server, early, judgedAt: later), name: "logs-c")
    #expect(others.client?.contains("certificate of logs-c is not valid before 20") == true)
  }

  @Test("a host's certificate can't serve, a server's may also deliver (W6)")
  func roles() throws {
    let error = #expect(throws: TransportError.self) { try TLSContext(.server, hostFiles) }
    #expect(error?.reason == "is not issued for a server")
    let peer = try fleet.files("logs-b", [.server])
    #expect(try handshake(TLSContext(.client, peer), TLSContext(.server, serverFiles)) == (nil, nil))
    let context = try TLSContext(.client, peer)
    #expect(context.identity.writableHosts == [])
    let both = try TLSContext(.client, fleet.files("both", [.server, .host]))
    #expect(both.identity.writableHosts == ["both"])
    let importer = try TLSContext(.client, fleet.files("rescue", [.importer], for: ["web1", "web9"]))
    #expect(importer.identity.writableHosts == ["web1", "web9"])
  }

  @Test("a client without a certificate, or with TLS 1.2, is refused")
  func rawClients() throws {
    let without = try rawHandshake { _ in }
    #expect(without.server == "peer presented no certificate")
    let old = try rawHandshake { _ = nj_ssl_ctx_set_tls12_only($0) }
    #expect(old.server == "peer does not speak TLS 1.3")
    #expect(!old.clientDone)
  }

  /// A client by bare OpenSSL against our server.
  private func rawHandshake(_ configure: (OpaquePointer?) -> Void) throws -> (clientDone: Bool, server: String?) {
    let sockets = try Sockets.connected()
    let server = SessionBox(try TLSContext(.server, serverFiles).accept(on: sockets.server))
    let context = SSL_CTX_new(TLS_client_method())
    defer { SSL_CTX_free(context) }
    configure(context)
    let ssl = SSL_new(context)
    defer { SSL_free(ssl) }
    SSL_set_fd(ssl, sockets.client.number)
    SSL_set_connect_state(ssl)
    var clientDone = false
    for _ in 0..<100 {
      ERR_clear_error()
      clientDone = SSL_do_handshake(ssl) == 1 || clientDone
      ERR_clear_error()
      switch server.session.handshake() {
      case .failed(let reason): return (clientDone, reason)
      case .done: return (clientDone, nil)
      case .wantsRead, .wantsWrite:
        Sockets.wait([(server.session.descriptor, Int16(POLLIN)), (sockets.client.number, Int16(POLLIN))])
      }
    }
    return (clientDone, "never ended")
  }

  @Test("a peer that speaks something else, or nothing, gets a reason and no more (W4)")
  func garbage() throws {
    let texts: [(String, String)] = [
      ("GET / HTTP/1.1\r\n\r\n", "peer does not speak TLS"),
      (String(repeating: "\u{16}\u{03}\u{01}", count: 40), "TLS"), ("\u{80}\u{80}\u{80}\u{80}\u{80}\u{80}", "TLS"),
    ]
    for (text, expected) in texts {
      let sockets = try Sockets.connected()
      let server = SessionBox(try TLSContext(.server, serverFiles).accept(on: sockets.server))
      #expect(server.session.handshake() == .wantsRead)
      let bytes = Array(text.utf8)
      #expect(send(sockets.client.number, bytes, bytes.count, 0) == bytes.count)
      Glibc.shutdown(sockets.client.number, Int32(SHUT_WR))
      var end = TLSSession.Handshake.wantsRead
      while end == .wantsRead, Sockets.wait([(server.session.descriptor, Int16(POLLIN))]) {
        end = server.session.handshake()
      }
      guard case .failed(let reason) = end else {
        Issue.record("\(text): \(end)")
        continue
      }
      #expect(reason.contains(expected) || reason.contains("peer closed"), "\(text): \(reason)")
      #expect(server.session.handshake() == end, "a dead session stays dead")
    }
  }

  @Test("a peer that goes away during the handshake is told apart")
  func cutOff() throws {
    let server: SessionBox
    do {
      let sockets = try Sockets.connected()
      server = SessionBox(try TLSContext(.server, serverFiles).accept(on: sockets.server))
      #expect(server.session.handshake() == .wantsRead)
    }
    Sockets.wait([(server.session.descriptor, Int16(POLLIN))])
    #expect(server.session.handshake() == .failed("peer closed the connection without goodbye"))
  }

  @Test("a handshake through every damaged byte never crashes and never succeeds with other names")
  func damaged() throws {
    let client = try TLSContext(.client, hostFiles)
    let server = try TLSContext(.server, serverFiles)
    for position in stride(from: 0, to: 400, by: 7) {
      let one = try Sockets.connected()
      let two = try Sockets.connected()
      let clientBox = SessionBox(try client.connect(on: one.client, to: "logs-a"))
      let serverBox = SessionBox(try server.accept(on: two.server))
      _ = clientBox.session.handshake()
      var bytes = [UInt8](repeating: 0, count: 4_096)
      Sockets.wait([(one.server.number, Int16(POLLIN))])
      let count = recv(one.server.number, &bytes, bytes.count, 0)
      guard position < count else { continue }
      bytes[position] ^= 0x41
      send(two.client.number, bytes, count, 0)
      Glibc.shutdown(two.client.number, Int32(SHUT_WR))
      Sockets.wait([(serverBox.session.descriptor, Int16(POLLIN))])
      if case .done = serverBox.session.handshake() { Issue.record("a damaged hello at \(position) was accepted") }
    }
  }
}
