import COpenSSL
import Glibc
package import JournalModel

/// One side's settings for mutually authenticated TLS 1.3 sessions (RFC 8446): its certificate and key, and the
/// authorities by which it judges peers. Immutable and usable from any thread; sessions keep what they need of it.
///
/// No earlier protocol version, renegotiation, resumption, tickets, early data or compression.
package final class TLSContext: @unchecked Sendable {
  package enum Side: Hashable, Sendable { case server, client }

  package let side: Side
  /// What the own certificate says.
  package let identity: CertificateIdentity
  private let context: Owned
  private let files: CredentialFiles
  private let trusted: Owned

  /// Fastest first: SHA-256 and AES-128-GCM have instructions on every machine that matters.
  static let cipherSuites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
  static let maximumChainDepth: Int32 = 8

  /// Loads the files and checks them against each other. `judgedAt` is the time at which peers' certificates are judged
  /// (now, at each handshake, if nil); the own one's time is theirs to judge (`objection`).
  package init(_ side: Side, _ files: CredentialFiles, judgedAt time: WallTime? = nil) throws(TransportError) {
    self.side = side
    context = try Owned(
      SSL_CTX_new(side == .server ? TLS_server_method() : TLS_client_method()), { SSL_CTX_free($0) }, "TLS")
    let credentials = try Credentials(certificate: files.certificate, key: files.key)
    identity = CertificateIdentity(of: credentials.leaf)
    self.files = files
    trusted = try CertificateFile.load(files.authorities)
    try Self.checkRole(side, credentials, identity, files.certificate)
    try Self.configure(context.pointer)
    try Self.install(credentials, in: context.pointer, files)
    try CertificateFile.trust(trusted, files.authorities, in: SSL_CTX_get_cert_store(context.pointer))
    if let time {
      X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(context.pointer), Int(time.nanoseconds / 1_000_000_000))
    }
  }

  /// Why the own certificate is not valid at `time` (now if nil), so that peers whose clocks agree refuse it; or why none
  /// of the authorities is, so that every peer is refused here.
  package func objection(at time: WallTime? = nil) -> TransportError? {
    let own = SSL_CTX_get0_certificate(context.pointer)
    if let objection = own.flatMap({ CertificateFile.objection(to: $0, files.certificate, at: time) }) {
      return objection
    }
    let authorities = (0..<nj_x509_stack_count(trusted.pointer)).compactMap { nj_x509_stack_at(trusted.pointer, $0) }
    let objections = authorities.compactMap { CertificateFile.objection(to: $0, files.authorities, at: time) }
    return objections.count == authorities.count ? objections.last : nil
  }

  /// A server's session on an accepted, non-blocking socket. (`side` must be `.server`.)
  package func accept(on socket: consuming SocketDescriptor) throws(TransportError) -> TLSSession {
    precondition(side == .server)
    let ssl = try newSession(on: socket)
    SSL_set_accept_state(ssl.pointer)
    return TLSSession(ssl, VerificationNote(expected: nil), socket)
  }

  /// A client's session on a connected, non-blocking socket. The server's certificate must carry `name` as one of its
  /// alternative DNS names; the address that was connected doesn't matter. (`side` must be `.client`.)
  package func connect(on socket: consuming SocketDescriptor, to name: String) throws(TransportError) -> TLSSession {
    precondition(side == .client)
    let ssl = try newSession(on: socket)
    SSL_set_connect_state(ssl.pointer)
    let flags = UInt32(X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS)
    SSL_set_hostflags(ssl.pointer, flags)
    guard HostName(name) != nil, SSL_set1_host(ssl.pointer, name) == 1 else {
      OpenSSLErrors.clear()
      throw TransportError(name, "is not a server name")
    }
    return TLSSession(ssl, VerificationNote(expected: name), socket)
  }

  private func newSession(on socket: borrowing SocketDescriptor) throws(TransportError) -> Owned {
    OpenSSLErrors.clear()
    let ssl = try Owned(SSL_new(context.pointer), { SSL_free($0) }, "TLS")
    guard SSL_set_fd(ssl.pointer, socket.number) == 1 else {
      throw TransportError("TLS", OpenSSLErrors.drain() ?? "the socket can't be used")
    }
    return ssl
  }
}

extension TLSContext {
  private static func configure(_ context: OpaquePointer) throws(TransportError) {
    guard nj_ssl_ctx_set_tls13_only(context) == 1, SSL_CTX_set_ciphersuites(context, cipherSuites) == 1,
      SSL_CTX_set_num_tickets(context, 0) == 1
    else { throw TransportError("TLS 1.3", OpenSSLErrors.drain() ?? "is not available in this OpenSSL") }
    nj_ssl_ctx_set_modes(context)
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, VerificationNote.callback)
    SSL_CTX_set_verify_depth(context, maximumChainDepth)
  }

  private static func install(
    _ credentials: borrowing Credentials, in context: OpaquePointer, _ files: CredentialFiles
  ) throws(TransportError) {
    guard SSL_CTX_use_certificate(context, credentials.leaf) == 1 else {
      throw TransportError(files.certificate, OpenSSLErrors.drain() ?? "can't be used")
    }
    for index in 1..<max(1, nj_x509_stack_count(credentials.chain.pointer)) {
      let intermediate = nj_x509_stack_at(credentials.chain.pointer, index)
      guard nj_ssl_ctx_add_chain_certificate(context, intermediate) == 1 else {
        throw TransportError(files.certificate, "certificate \(index + 1): \(OpenSSLErrors.drain() ?? "can't be used")")
      }
    }
    guard SSL_CTX_use_PrivateKey(context, credentials.key.pointer) == 1 else {
      throw TransportError(files.key, OpenSSLErrors.drain() ?? "can't be used")
    }
  }

  private static func checkRole(
    _ side: Side, _ credentials: borrowing Credentials, _ identity: CertificateIdentity, _ path: String
  ) throws(TransportError) {
    let purpose = side == .server ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT
    let isGood = X509_check_purpose(credentials.leaf, purpose, 0) == 1
    OpenSSLErrors.clear()
    guard isGood, side == .client || identity.permits(.server) else {
      let hint = side == .server ? "keys issue --role server" : "keys issue --role host"
      throw TransportError(path, "is not issued for a \(side)", hint: hint)
    }
  }
}

/// Makes writes to a connection that the peer has reset an error instead of a signal that ends the process. OpenSSL
/// writes to sockets with write(2), which takes no MSG_NOSIGNAL: every process that uses sessions calls this once.
package func ignoreSIGPIPE() { _ = signal(SIGPIPE, SIG_IGN) }
