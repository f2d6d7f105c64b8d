import COpenSSL

/// Turns OpenSSL's verdict on a chain into a sentence for an operator.
enum VerificationFailure {
  /// A verify callback: a certificate whose key is worth nothing is refused, whoever signed it; all else stays.
  static let refusingWeakKeys: @convention(c) (Int32, OpaquePointer?) -> Int32 = { isGood, context in
    guard isGood == 1, let context, let certificate = X509_STORE_CTX_get_current_cert(context),
      let key = X509_get0_pubkey(certificate), WeakKey.objection(to: key) != nil
    else { return isGood }
    let isLeaf = X509_STORE_CTX_get_error_depth(context) == 0
    X509_STORE_CTX_set_error(context, isLeaf ? X509_V_ERR_EE_KEY_TOO_SMALL : X509_V_ERR_CA_KEY_TOO_SMALL)
    return 0
  }

  /// `context` is an X509_STORE_CTX just after a failed check. `expected` is the name that the peer should have.
  static func reason(_ context: OpaquePointer, expected: String?) -> String {
    let code = X509_STORE_CTX_get_error(context)
    let isLeaf = X509_STORE_CTX_get_error_depth(context) == 0
    let certificate = X509_STORE_CTX_get_current_cert(context)
    let leaf = expected ?? X509_STORE_CTX_get0_cert(context).map(CertificateIdentity.title) ?? "the peer"
    let subject = "certificate of \(isLeaf ? leaf : certificate.map(CertificateIdentity.title) ?? "an authority")"
    switch code {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return "\(subject) expired on \(CertificateTime.text(certificate.flatMap { X509_get0_notAfter($0) }))"
    case X509_V_ERR_CERT_NOT_YET_VALID:
      let start = CertificateTime.text(certificate.flatMap { X509_get0_notBefore($0) })
      return "\(subject) is not valid before \(start): one of the clocks is wrong"
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
      X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, X509_V_ERR_CERT_SIGNATURE_FAILURE:
      // Shows at whatever depth the chain breaks off; it is the peer's certificate that isn't vouched for.
      return "certificate of \(leaf) is not signed by the configured authorities"
    case X509_V_ERR_HOSTNAME_MISMATCH:
      let names = certificate.map { CertificateIdentity(of: $0).names } ?? []
      let found = names.isEmpty ? "names nobody" : "names \(names.prefix(8).joined(separator: ", "))"
      return "the peer's certificate \(found), not \(expected ?? "whom it should")"
    case X509_V_ERR_INVALID_PURPOSE:
      return "\(subject) is not issued for this role (extended key usage)"
    case X509_V_ERR_CERT_REVOKED:
      return "\(subject) is revoked"
    default:
      return "\(subject): \(String(cString: X509_verify_cert_error_string(Int(code))))"
    }
  }
}

/// Where the verification callback of one session leaves its reason.
final class VerificationNote {
  let expected: String?
  var reason: String?
  init(expected: String?) { self.expected = expected }

  /// Slot 0 of a session's ex_data is the application's (SSL_set_app_data(3)).
  static let slot: Int32 = 0

  func attach(to ssl: OpaquePointer) { SSL_set_ex_data(ssl, Self.slot, Unmanaged.passUnretained(self).toOpaque()) }

  /// The verify callback: adds OpenSSL's verdict on weak keys, and notes the first failure.
  static let callback: @convention(c) (Int32, OpaquePointer?) -> Int32 = { verdict, context in
    let isGood = VerificationFailure.refusingWeakKeys(verdict, context)
    guard isGood == 0, let context,
      let ssl = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()),
      let pointer = SSL_get_ex_data(OpaquePointer(ssl), slot)
    else { return isGood }
    let note = Unmanaged<VerificationNote>.fromOpaque(pointer).takeUnretainedValue()
    if note.reason == nil { note.reason = VerificationFailure.reason(context, expected: note.expected) }
    return isGood
  }
}
