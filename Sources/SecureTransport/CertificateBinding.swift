import COpenSSL
import JournalModel

/// A certificate's word for something that is not TLS: who holds host X's certificate says that journal key K is X's
/// (W5, W6). The signed bytes must begin with a context string of their own, so that the signature can stand for nothing
/// else; a TLS 1.3 handshake signs bytes that begin with 64 spaces (RFC 8446, 4.4.3).
package enum CertificateBinding {
  /// The chain of the certificate file (DER, leaf first) and its key's signature over `bytes`. An expired certificate
  /// is no obstacle: expiry isn't judged on bindings (W6).
  package static func sign(
    _ bytes: [UInt8], with files: CredentialFiles
  ) throws(TransportError) -> (chain: [[UInt8]], signature: [UInt8]) {
    let credentials = try Credentials(certificate: files.certificate, key: files.key)
    let chain = CertificateFile.ders(credentials.chain.pointer)
    let signature = try Signing.sign(bytes, with: credentials.key.pointer, files.key)
    guard isWithinBounds(chain, signature) else {
      throw TransportError(
        files.certificate, "has a chain or key too large for a journal",
        hint: "at most \(RecordBounds.chainLength) certificates of at most \(RecordBounds.certificateSize) bytes")
    }
    return (chain, signature)
  }

  /// Whether a journal can carry the two.
  static func isWithinBounds(_ chain: [[UInt8]], _ signature: [UInt8]) -> Bool {
    (1...RecordBounds.chainLength).contains(chain.count)
      && chain.allSatisfy { (1...RecordBounds.certificateSize).contains($0.count) }
      && (1...RecordBounds.bindingSignatureSize).contains(signature.count)
  }
}

/// The authorities by which a server judges bindings. Immutable and usable from any thread.
package final class BindingAuthorities: @unchecked Sendable {
  private let store: Owned

  /// Loads a PEM file of certificates.
  package init(file path: String) throws(TransportError) {
    let store = try Owned(X509_STORE_new(), { X509_STORE_free($0) }, path)
    try CertificateFile.trust(CertificateFile.load(path), path, in: store.pointer)
    self.store = store
  }

  /// Nil if `chain` (DER, leaf first) descends from these authorities, permits its holder to write as `hostName`, and
  /// its leaf's key made `signature` over `bytes`; else why not. Expiry isn't judged (W6). Any bytes may be given.
  package func refusal(
    chain: [[UInt8]], signature: [UInt8], over bytes: [UInt8], hostName: String
  ) -> String? {
    defer { OpenSSLErrors.clear() }
    guard CertificateBinding.isWithinBounds(chain, signature) else {
      return "the binding's chain or signature is missing or too long"
    }
    do {
      let certificates = try parse(chain)
      guard let leaf = nj_x509_stack_at(certificates.pointer, 0) else { return "the binding has no certificate" }
      let identity = CertificateIdentity(of: leaf)
      guard identity.writableHosts.contains(hostName) else {
        return
          "the binding's certificate is \(CertificateIdentity.title(of: leaf))'s and does not permit to write as \(hostName)"
      }
      if let reason = try chainRefusal(certificates, leaf, hostName) { return reason }
      guard let key = X509_get0_pubkey(leaf), Signing.verify(signature, bytes, with: key) else {
        return "the binding's signature is not by the key of its certificate"
      }
      return nil
    } catch { return error.reason }
  }

  private func parse(_ chain: [[UInt8]]) throws(TransportError) -> Owned {
    let stack = try Owned.certificates()
    for der in chain {
      var rest = 0
      let certificate = der.withUnsafeBufferPointer { buffer in
        var cursor = buffer.baseAddress
        let certificate = d2i_X509(nil, &cursor, buffer.count)
        rest = buffer.count - (cursor.map { $0 - buffer.baseAddress! } ?? 0)
        return certificate
      }
      guard let certificate, rest == 0, nj_x509_stack_push(stack.pointer, certificate) == 1 else {
        X509_free(certificate)
        throw TransportError("binding", "the binding's chain holds something that is not a certificate")
      }
    }
    return stack
  }

  private func chainRefusal(
    _ certificates: borrowing Owned, _ leaf: OpaquePointer, _ hostName: String
  ) throws(TransportError) -> String? {
    let context = try Owned(X509_STORE_CTX_new(), { X509_STORE_CTX_free($0) }, "binding")
    guard X509_STORE_CTX_init(context.pointer, store.pointer, leaf, certificates.pointer) == 1,
      X509_STORE_CTX_set_purpose(context.pointer, X509_PURPOSE_SSL_CLIENT) == 1
    else { return "the binding can't be checked" }
    X509_STORE_CTX_set_flags(context.pointer, UInt(X509_V_FLAG_NO_CHECK_TIME))
    X509_STORE_CTX_set_depth(context.pointer, TLSContext.maximumChainDepth)
    X509_STORE_CTX_set_verify_cb(context.pointer, VerificationFailure.refusingWeakKeys)
    if X509_verify_cert(context.pointer) == 1 { return nil }
    return VerificationFailure.reason(context.pointer, expected: hostName)
  }
}
