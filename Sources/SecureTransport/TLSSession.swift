import COpenSSL
import Glibc

/// One TLS session on one socket, owned by one loop: not for use by two threads at a time.
///
/// Every operation returns at once. `wantsRead` and `wantsWrite` say what the socket must become ready for before the
/// same operation is worth calling again; any operation may want either. Since OpenSSL reads ahead once the handshake is
/// done, a caller must read until `wantsRead` before it waits: decrypted bytes may be there while the socket is quiet.
///
/// In TLS 1.3 a client's handshake is done before the server has judged the client's certificate: a refusal shows at
/// the client's first read.
package struct TLSSession: ~Copyable, @unchecked Sendable {
  package enum Handshake: Hashable, Sendable {
    case done, wantsRead, wantsWrite
    case failed(String)
  }

  package enum Transfer: Hashable, Sendable {
    /// So many bytes, at least 1 (0 only for an empty buffer).
    case bytes(Int)
    case wantsRead, wantsWrite
    /// The peer said that it sends nothing more (close_notify); writing is still possible.
    case closed
    /// The session is dead; every later call gives the same reason.
    case failed(String)
  }

  /// The session writes at most so many bytes with one key (RFC 8446, 5.5: 2^24.5 records for AES-GCM), then updates it.
  package static let defaultKeyLifetime = 64 << 30

  private let ssl: Owned
  private let note: VerificationNote
  private let intake = Intake()
  private let socket: SocketDescriptor
  private var failure: String?
  private var bytesUnderKey = 0
  /// OpenSSL holds a record that the socket hasn't taken wholly.
  private var owesRecord = false
  package var keyLifetime = TLSSession.defaultKeyLifetime
  /// How often the key for writing was replaced.
  package private(set) var keyUpdates = 0

  init(_ ssl: consuming Owned, _ note: VerificationNote, _ socket: consuming SocketDescriptor) {
    note.attach(to: ssl.pointer)
    intake.attach(to: ssl.pointer)
    self.ssl = ssl
    self.note = note
    self.socket = socket
  }

  /// The socket's number, for registration with a poller.
  package var descriptor: Int32 { socket.number }

  /// Of a client's socket that became writable: nil if the connection stands, else why not.
  package func finishConnecting() -> String? { socket.finishConnecting() }

  /// Drives the handshake.
  package mutating func handshake() -> Handshake {
    if let failure { return .failed(failure) }
    OpenSSLErrors.clear()
    let result = SSL_do_handshake(ssl.pointer)
    if result == 1 {
      // One system call for many small records instead of two for each, up to OpenSSL's own buffer of 17 KiB, which it
      // gives back whenever it is empty. Not before: nothing of one who isn't known is read ahead.
      SSL_set_read_ahead(ssl.pointer, 1)
      intake.take()
      return .done
    }
    switch outcome(result, errno) {
    case .wantsRead: return .wantsRead
    case .wantsWrite: return .wantsWrite
    case .failed(let reason): return .failed(reason)
    case .bytes, .closed: return .failed(fail("peer closed during the handshake"))
    }
  }

  /// Reads what is there, at most the buffer's size and so many records with data. Records without data end it too.
  package mutating func read(into buffer: UnsafeMutableRawBufferPointer, records: Int = .max) -> Transfer {
    if let failure { return .failed(failure) }
    guard let base = buffer.baseAddress, buffer.count > 0 else { return .bytes(0) }
    var total = 0
    var rest = max(1, records)
    // One call gives one record, at most 16 KiB.
    while total < buffer.count, rest > 0 {
      rest -= 1
      OpenSSLErrors.clear()
      var count = 0
      let result = SSL_read_ex(ssl.pointer, base + total, buffer.count - total, &count)
      guard result == 1 else {
        let stop = outcome(result, errno)
        // A failure is kept for the next call; the other ends show again.
        return total > 0 ? .bytes(total) : stop
      }
      total += count
    }
    return .bytes(total)
  }

  /// What came since the handshake or the last time that this was asked.
  package func takeIntake() -> (records: Int, messages: Int) { intake.take() }

  /// Whether this side has answered the other's first message of the handshake.
  package var hasAnswered: Bool { BIO_number_written(SSL_get_wbio(ssl.pointer)) > 0 }

  /// Writes as much as the socket takes. After `wantsWrite` or a short count the next call must begin with the bytes
  /// that were not taken and be no shorter than what was left; they may have moved in memory.
  package mutating func write(_ buffer: UnsafeRawBufferPointer) -> Transfer {
    if let failure { return .failed(failure) }
    guard let base = buffer.baseAddress, buffer.count > 0 else { return .bytes(0) }
    var total = 0
    while total < buffer.count {
      updateKeyWhenWorn()
      OpenSSLErrors.clear()
      var count = 0
      let result = SSL_write_ex(ssl.pointer, base + total, buffer.count - total, &count)
      guard result == 1 else {
        let stop = outcome(result, errno)
        owesRecord = true
        return total > 0 ? .bytes(total) : stop
      }
      owesRecord = false
      total += count
      bytesUnderKey += count
    }
    return .bytes(total)
  }

  package mutating func write(_ bytes: RawSpan) -> Transfer {
    bytes.withUnsafeBytes { write($0) }
  }

  /// Says that nothing more will be written (close_notify); reading goes on. To be repeated on `wantsWrite`.
  package mutating func shutdown() -> Handshake {
    if let failure { return .failed(failure) }
    guard SSL_is_init_finished(ssl.pointer) == 1 else { return .done }
    OpenSSLErrors.clear()
    let result = SSL_shutdown(ssl.pointer)
    if result >= 0 || SSL_get_shutdown(ssl.pointer) & SSL_SENT_SHUTDOWN != 0 { return .done }
    switch outcome(result, errno) {
    case .wantsRead: return .wantsRead
    case .wantsWrite: return .wantsWrite
    case .failed(let reason): return .failed(reason)
    case .bytes, .closed: return .done
    }
  }

  /// Who the peer is, once the handshake is done: its certificate has been verified by the own authorities.
  package var peer: CertificateIdentity? {
    guard SSL_is_init_finished(ssl.pointer) == 1, let leaf = SSL_get0_peer_certificate(ssl.pointer) else { return nil }
    return CertificateIdentity(of: leaf)
  }

  /// The verified chain (DER, leaf first), once the handshake is done.
  package var peerChain: [[UInt8]] { CertificateFile.ders(SSL_get0_verified_chain(ssl.pointer)) }

  /// Of the negotiated session, for logs: `TLSv1.3 TLS_AES_128_GCM_SHA256`.
  package var summary: String {
    let cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(ssl.pointer)).map { String(cString: $0) } ?? "no cipher"
    return "\(String(cString: SSL_get_version(ssl.pointer))) \(cipher)"
  }
}

extension TLSSession {
  private mutating func updateKeyWhenWorn() {
    guard bytesUnderKey >= keyLifetime, !owesRecord,
      SSL_key_update(ssl.pointer, Int32(SSL_KEY_UPDATE_NOT_REQUESTED)) == 1
    else { return }
    bytesUnderKey = 0
    keyUpdates += 1
  }

  /// What a call that did not succeed means. `systemError` is errno directly after it.
  private mutating func outcome(_ result: Int32, _ systemError: Int32) -> Transfer {
    switch SSL_get_error(ssl.pointer, result) {
    case SSL_ERROR_WANT_READ: return .wantsRead
    case SSL_ERROR_WANT_WRITE: return .wantsWrite
    case SSL_ERROR_ZERO_RETURN: return .closed
    case SSL_ERROR_SYSCALL:
      OpenSSLErrors.clear()
      return .failed(fail(systemError == 0 ? PeerAlert.abrupt : PeerAlert.systemReason(systemError)))
    default:
      let (code, text) = OpenSSLErrors.drainCode() ?? (0, "unknown TLS failure")
      return .failed(fail(PeerAlert.reason(code: code, text: text, verification: note.reason)))
    }
  }

  private mutating func fail(_ reason: String) -> String {
    failure = reason
    return reason
  }
}

/// Words for what goes wrong on a session.
enum PeerAlert {
  static let abrupt = "peer closed the connection without goodbye"

  static func systemReason(_ code: Int32) -> String {
    switch code {
    case ECONNRESET, EPIPE: "peer reset the connection"
    case ETIMEDOUT: "peer stopped answering"
    default: String(cString: strerror(code))
    }
  }

  static func reason(code: UInt, text: String, verification: String?) -> String {
    switch ERR_GET_REASON(code) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED: verification ?? "peer's certificate was not accepted"
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: "peer presented no certificate"
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: abrupt
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
      "peer refused our certificate: it is not signed by the authorities that the peer trusts"
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED: "peer refused our certificate: expired, or one of the clocks is wrong"
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN,
      SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, SSL_R_TLSV1_ALERT_ACCESS_DENIED:
      "peer refused our certificate (\(text))"
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED: "peer refused our certificate: it is revoked"
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED: "peer requires a certificate"
    case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_TLSV1_ALERT_PROTOCOL_VERSION: "peer does not speak TLS 1.3"
    case SSL_R_WRONG_VERSION_NUMBER, SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST: "peer does not speak TLS"
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, SSL_R_SSLV3_ALERT_BAD_RECORD_MAC:
      "data was damaged on the way (\(text))"
    default: "TLS: \(text)"
    }
  }
}

/// Counts what came on one session: records of any kind, and messages of the handshake's kind, which after a handshake
/// are key updates and tickets. OpenSSL takes those without a word to its caller.
private final class Intake {
  private var records = 0
  private var messages = 0

  func attach(to ssl: OpaquePointer) {
    SSL_set_msg_callback(ssl) { isWritten, _, kind, _, _, _, context in
      guard isWritten == 0, let context else { return }
      let intake = Unmanaged<Intake>.fromOpaque(context).takeUnretainedValue()
      if kind == SSL3_RT_HEADER { intake.records += 1 } else if kind == SSL3_RT_HANDSHAKE { intake.messages += 1 }
    }
    SSL_ctrl(ssl, SSL_CTRL_SET_MSG_CALLBACK_ARG, 0, Unmanaged.passUnretained(self).toOpaque())
  }

  @discardableResult
  func take() -> (records: Int, messages: Int) {
    defer { (records, messages) = (0, 0) }
    return (records, messages)
  }
}
