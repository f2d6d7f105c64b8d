import COpenSSL
import SecureTransport
import Testing

enum ForeignKey {
  case rsa, p256, ed25519
  /// Ed25519's neutral point, for which everybody can sign.
  case neutral
}

/// A certificate as some other authority might have made it, by bare OpenSSL.
final class ForeignCertificate {
  let certificate: OpaquePointer
  let key: OpaquePointer

  /// Self-signed without an issuer. `extensions` are in x509v3_config(5) notation.
  init(_ type: ForeignKey, _ extensions: [(nid: Int32, value: String)], issuer: ForeignCertificate?) throws {
    let key =
      switch type {
      case .rsa: nj_generate_rsa(2_048)
      case .p256: nj_generate_p256()
      case .ed25519: nj_generate_ed25519()
      case .neutral:
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, [1] + [UInt8](repeating: 0, count: 31), 32)
      }
    self.key = try #require(key)
    certificate = try #require(X509_new())
    let issuer = issuer ?? self
    X509_set_version(certificate, 2)
    RAND_bytes(&serial, 8)
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial)
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60)
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3_600)
    X509_set_pubkey(certificate, key)
    let name = Array("foreign \(serial)".utf8)
    X509_NAME_add_entry_by_NID(
      X509_get_subject_name(certificate), NID_commonName, MBSTRING_UTF8, name, Int32(name.count), -1, 0)
    X509_set_issuer_name(certificate, X509_get_subject_name(issuer.certificate))
    for (nid, value) in extensions {
      try #require(nj_x509_add_extension(certificate, issuer.certificate, nid, value) == 1)
    }
    let digest = EVP_PKEY_get_base_id(issuer.key) == EVP_PKEY_ED25519 ? nil : EVP_sha256()
    try #require(X509_sign(certificate, issuer.key, digest) > 0)
  }

  private var serial: UInt64 = 0

  deinit {
    X509_free(certificate)
    EVP_PKEY_free(key)
  }

  func certificatePEM() throws -> [UInt8] { try pem { PEM_write_bio_X509($0, certificate) } }

  func keyPEM() throws -> [UInt8] { try pem { nj_write_private_key($0, key) } }

  private func pem(_ write: (OpaquePointer) -> Int32) throws -> [UInt8] {
    let output = try #require(BIO_new(BIO_s_mem()))
    defer { BIO_free(output) }
    try #require(write(output) == 1)
    var start: UnsafeMutablePointer<CChar>?
    let count = nj_bio_bytes(output, &start)
    return Array(UnsafeRawBufferPointer(start: start, count: count))
  }
}
