import COpenSSL

/// Signatures by the type of the key: Ed25519 (RFC 8032), ECDSA with SHA-256 in DER form (RFC 5480), RSA-PSS with SHA-256
/// and a salt of 32 bytes (RFC 8017, 8.1).
enum Signing {
  static func sign(_ bytes: [UInt8], with key: OpaquePointer, _ subject: String) throws(TransportError) -> [UInt8] {
    OpenSSLErrors.clear()
    let context = try Owned(EVP_MD_CTX_new(), { EVP_MD_CTX_free($0) }, subject)
    guard let scheme = Scheme(of: key) else { throw TransportError(subject, Scheme.unsupported) }
    var options: OpaquePointer?
    var count = 0
    guard EVP_DigestSignInit(context.pointer, &options, scheme.digest, nil, key) == 1, scheme.configure(options),
      EVP_DigestSign(context.pointer, nil, &count, bytes, bytes.count) == 1
    else { throw TransportError(subject, "can't sign: \(OpenSSLErrors.drain() ?? "unknown")") }
    var signature = [UInt8](repeating: 0, count: count)
    guard EVP_DigestSign(context.pointer, &signature, &count, bytes, bytes.count) == 1 else {
      throw TransportError(subject, "can't sign: \(OpenSSLErrors.drain() ?? "unknown")")
    }
    return Array(signature.prefix(count))
  }

  /// False for anything malformed, and for whatever anyone could have signed (`WeakKey`).
  static func verify(_ signature: [UInt8], _ bytes: [UInt8], with key: OpaquePointer) -> Bool {
    defer { OpenSSLErrors.clear() }
    guard let scheme = Scheme(of: key), scheme != .ed25519 || isSound(signature, key) else { return false }
    guard let context = EVP_MD_CTX_new() else { return false }
    defer { EVP_MD_CTX_free(context) }
    var options: OpaquePointer?
    return EVP_DigestVerifyInit(context, &options, scheme.digest, nil, key) == 1 && scheme.configure(options)
      && EVP_DigestVerify(context, signature, signature.count, bytes, bytes.count) == 1
  }

  /// R of small order would tell the world the private key; that S is below the group's order is for OpenSSL to check.
  private static func isSound(_ signature: [UInt8], _ key: OpaquePointer) -> Bool {
    signature.count == JournalKey.signatureByteCount && !WeakKey.isSmallOrder(signature.prefix(32))
      && WeakKey.objection(to: key) == nil
  }

  private enum Scheme {
    case ed25519, ecdsa, rsaPSS

    static let unsupported = "has a key of a type that can't sign here (Ed25519, ECDSA and RSA can)"

    init?(of key: OpaquePointer) {
      switch EVP_PKEY_get_base_id(key) {
      case EVP_PKEY_ED25519: self = .ed25519
      case EVP_PKEY_EC: self = .ecdsa
      case EVP_PKEY_RSA, EVP_PKEY_RSA_PSS: self = .rsaPSS
      default: return nil
      }
    }

    var digest: OpaquePointer? { self == .ed25519 ? nil : EVP_sha256() }

    func configure(_ options: OpaquePointer?) -> Bool {
      guard self == .rsaPSS else { return true }
      return EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) == 1
        && EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST) == 1
    }
  }
}
