import COpenSSL
import Glibc
import JournalModel

/// Where a node's certificate chain, its key and the authorities that it trusts lie (PEM files).
package struct CredentialFiles: Hashable, Sendable {
  /// The node's certificate, then intermediate ones.
  package var certificate: String
  package var key: String
  package var authorities: String

  package init(certificate: String, key: String, authorities: String) {
    self.certificate = certificate
    self.key = key
    self.authorities = authorities
  }
}

enum CertificateFile {
  static let maximumCertificates = 1_000

  /// All certificates of a PEM file, in order; at least one.
  static func load(_ path: String) throws(TransportError) -> Owned {
    let bytes = try SecretFile.read(path, isSecret: false)
    return try parse(bytes, path)
  }

  static func parse(_ bytes: [UInt8], _ path: String) throws(TransportError) -> Owned {
    let stack = try Owned.certificates()
    let bio = try readable(bytes, path)
    OpenSSLErrors.clear()
    var count = 0
    while let certificate = nj_read_certificate(bio.pointer) {
      count += 1
      guard count <= maximumCertificates, nj_x509_stack_push(stack.pointer, certificate) == 1 else {
        X509_free(certificate)
        throw TransportError(path, "holds more than \(maximumCertificates) certificates")
      }
    }
    let failure = OpenSSLErrors.drain()
    guard count > 0 else {
      throw TransportError(path, "holds no certificate in PEM form")
    }
    // 'no start line' is how the end of the file shows; anything else is damage behind a good certificate.
    if let failure, failure != "no start line" {
      throw TransportError(path, "certificate \(count + 1) is damaged: \(failure)")
    }
    return stack
  }

  /// Adds every certificate of a PEM file, as `load` gave them, to an X509_STORE.
  static func trust(
    _ authorities: borrowing Owned, _ path: String, in store: OpaquePointer?
  ) throws(TransportError) {
    for index in 0..<nj_x509_stack_count(authorities.pointer) {
      guard X509_STORE_add_cert(store, nj_x509_stack_at(authorities.pointer, index)) == 1 else {
        throw TransportError(path, "certificate \(index + 1): \(OpenSSLErrors.drain() ?? "can't be used")")
      }
    }
  }

  static func readable(_ bytes: [UInt8], _ path: String) throws(TransportError) -> Owned {
    let bio = try Owned.memory()
    guard BIO_write(bio.pointer, bytes, Int32(bytes.count)) == Int32(bytes.count) else {
      throw TransportError(path, OpenSSLErrors.drain() ?? "out of memory")
    }
    return bio
  }

  static func der(_ certificate: OpaquePointer) -> [UInt8] {
    let count = i2d_X509(certificate, nil)
    guard count > 0 else { return [] }
    var bytes = [UInt8](repeating: 0, count: Int(count))
    let written = bytes.withUnsafeMutableBufferPointer { buffer in
      var cursor = buffer.baseAddress
      return i2d_X509(certificate, &cursor)
    }
    return written == count ? bytes : []
  }

  static func ders(_ stack: OpaquePointer?) -> [[UInt8]] {
    guard let stack else { return [] }
    return (0..<nj_x509_stack_count(stack)).compactMap { nj_x509_stack_at(stack, $0).map(der) }
  }
}

enum PrivateKeyFile {
  static func load(_ path: String) throws(TransportError) -> Owned {
    let bytes = try SecretFile.read(path, isSecret: true)
    let bio = try CertificateFile.readable(bytes, path)
    OpenSSLErrors.clear()
    let key = nj_read_private_key(bio.pointer)
    if key == nil {
      let reason = OpenSSLErrors.drain() ?? "unknown"
      throw TransportError(
        path, "holds no usable private key in PEM form: \(reason)", hint: "a key with a passphrase can't be used")
    }
    OpenSSLErrors.clear()
    return try Owned(key, { EVP_PKEY_free($0) }, path)
  }

  /// Stores a key as PKCS#8 PEM with mode 0600; never replaces a file.
  static func create(_ path: String, _ key: borrowing Owned) throws(TransportError) {
    let bio = try Owned.memory()
    guard nj_write_private_key(bio.pointer, key.pointer) == 1 else {
      throw TransportError(path, OpenSSLErrors.drain() ?? "the key can't be encoded")
    }
    try SecretFile.create(path, bio.memoryBytes, mode: 0o600)
  }
}

/// A certificate chain (leaf first) with its key, checked against each other.
struct Credentials: ~Copyable {
  let chain: Owned
  let key: Owned

  var leaf: OpaquePointer { nj_x509_stack_at(chain.pointer, 0) }

  init(certificate: String, key keyPath: String) throws(TransportError) {
    let chain = try CertificateFile.load(certificate)
    let key = try PrivateKeyFile.load(keyPath)
    guard X509_check_private_key(nj_x509_stack_at(chain.pointer, 0), key.pointer) == 1 else {
      OpenSSLErrors.clear()
      throw TransportError(keyPath, "is not the key of the certificate in \(certificate)")
    }
    self.chain = chain
    self.key = key
  }

}

extension CertificateFile {
  /// Why the certificate of the file is not valid at `time` (now if nil).
  static func objection(
    to certificate: OpaquePointer, _ path: String, at time: WallTime? = nil
  ) -> TransportError? {
    var seconds = time.map { Int(clamping: $0.nanoseconds / 1_000_000_000) } ?? Glibc.time(nil)
    if X509_cmp_time(X509_get0_notAfter(certificate), &seconds) <= 0 {
      return TransportError(
        path, "expired on \(CertificateTime.text(X509_get0_notAfter(certificate)))", hint: "issue a new certificate")
    }
    if X509_cmp_time(X509_get0_notBefore(certificate), &seconds) >= 0 {
      let start = CertificateTime.text(X509_get0_notBefore(certificate))
      return TransportError(path, "is not valid before \(start)", hint: "is this machine's clock right?")
    }
    return nil
  }
}
