import COpenSSL
import Glibc
import JournalModel

/// What to put into a certificate.
package struct CertificateRequest: Hashable, Sendable {
  /// The host's or server's name: DNS name of the certificate, and of its files.
  package var name: String
  package var roles: Set<CertificateRole>
  /// Hosts that an importer may write for.
  package var importsFor: [String]
  /// IP addresses and DNS names beside `name`, for other clients' sake: nodes look for the name alone.
  package var addresses: [String]
  package var validity: CertificateValidity

  package init(
    name: String, roles: Set<CertificateRole>, importsFor: [String] = [], addresses: [String] = [],
    validity: CertificateValidity = .leaf
  ) {
    self.name = name
    self.roles = roles
    self.importsFor = importsFor
    self.addresses = addresses
    self.validity = validity
  }
}

/// From when until when, in seconds relative to the moment of issuing.
package struct CertificateValidity: Hashable, Sendable {
  package var from: Int
  package var until: Int

  package init(from: Int, until: Int) {
    self.from = from
    self.until = until
  }

  /// Begins an hour early, for the sake of clocks that are a little slow.
  package static func days(_ days: Int) -> CertificateValidity {
    CertificateValidity(from: -3600, until: days * 86_400)
  }
  package static let leaf = days(825)
  package static let authority = days(3650)
}

/// A private certificate authority in a directory: `ca.crt` and `ca.key` (ECDSA P-256).
///
/// Certificates of any other authority work as well; this one exists so that a fleet needs no other tool.
package struct CertificateAuthority: Hashable, Sendable {
  package let directory: String
  package var certificatePath: String { directory + "/ca.crt" }
  package var keyPath: String { directory + "/ca.key" }

  /// Makes the authority, and the directory if it is missing. Never replaces files.
  package static func make(
    in directory: String, validity: CertificateValidity = .authority
  ) throws(TransportError) -> CertificateAuthority {
    let authority = CertificateAuthority(directory: directory)
    try SecretFile.makeDirectory(directory, mode: 0o700)
    try refuseExisting([authority.keyPath, authority.certificatePath])
    let key = try Owned(nj_generate_p256(), { EVP_PKEY_free($0) }, "key")
    let certificate = try Owned(X509_new(), { X509_free($0) })
    let tag = try randomBytes(4).map { hexadecimal($0) }.joined()
    try fill(certificate.pointer, commonName: "nimbus-journal authority \(tag)", key.pointer, validity)
    try extend(
      certificate.pointer, issuer: certificate.pointer,
      [
        (NID_basic_constraints, "critical,CA:TRUE,pathlen:0"), (NID_key_usage, "critical,keyCertSign,cRLSign"),
        (NID_subject_key_identifier, "hash"),
      ])
    try sign(certificate.pointer, issuer: certificate.pointer, key.pointer)
    try PrivateKeyFile.create(authority.keyPath, key)
    try store(certificate.pointer, authority.certificatePath)
    return authority
  }

  /// An authority that `make` has made.
  package init(directory: String) {
    self.directory = directory.count > 1 && directory.hasSuffix("/") ? String(directory.dropLast()) : directory
  }

  /// Issues `NAME.crt` and `NAME.key` (mode 0600) into `output`, which is made if missing. Never replaces files.
  @discardableResult
  package func issue(
    _ request: CertificateRequest, into output: String
  ) throws(TransportError) -> (certificate: String, key: String) {
    let names = try alternativeNames(of: request)
    let own = try Credentials(certificate: certificatePath, key: keyPath)
    if let objection = CertificateFile.objection(to: own.leaf, certificatePath) { throw objection }
    let paths = (certificate: "\(output)/\(request.name).crt", key: "\(output)/\(request.name).key")
    try SecretFile.makeDirectory(output, mode: 0o755)
    try Self.refuseExisting([paths.key, paths.certificate])

    let key = try Owned(nj_generate_p256(), { EVP_PKEY_free($0) }, "key")
    let certificate = try Owned(X509_new(), { X509_free($0) })
    // A common name has at most 64 characters (RFC 5280, ub-common-name); nothing reads it but people.
    try Self.fill(certificate.pointer, commonName: String(request.name.prefix(64)), key.pointer, request.validity)
    let usage = request.roles.contains(.server) ? "serverAuth,clientAuth" : "clientAuth"
    try Self.extend(
      certificate.pointer, issuer: own.leaf,
      [
        (NID_basic_constraints, "critical,CA:FALSE"), (NID_key_usage, "critical,digitalSignature"),
        (NID_ext_key_usage, usage), (NID_subject_alt_name, names), (NID_subject_key_identifier, "hash"),
        (NID_authority_key_identifier, "keyid:always"),
      ])
    try Self.sign(certificate.pointer, issuer: own.leaf, own.key.pointer)
    try PrivateKeyFile.create(paths.key, key)
    try Self.store(certificate.pointer, paths.certificate)
    return paths
  }
}

extension CertificateAuthority {
  /// The subject alternative name in x509v3_config(5) notation. Everything that goes in has been checked against a
  /// narrow alphabet, so that no value can bring another one along.
  private func alternativeNames(of request: CertificateRequest) throws(TransportError) -> String {
    guard HostName(request.name) != nil else { throw Self.badName(request.name) }
    guard !request.roles.isEmpty else { throw TransportError(request.name, "needs at least one role") }
    guard request.importsFor.isEmpty != request.roles.contains(.importer) else {
      throw TransportError(
        request.name, "an importer needs the hosts that it imports for, and nobody else has such",
        hint: "--role importer --for HOST")
    }
    var entries = ["DNS:\(request.name)"]
    for address in request.addresses {
      if SocketAddress.bytes(ofAddress: address) != nil {
        entries.append("IP:\(address)")
      } else if HostName(address) != nil {
        entries.append("DNS:\(address)")
      } else {
        throw TransportError(address, "is neither an IP address nor a DNS name", hint: "without a port")
      }
    }
    for role in CertificateRole.allCases where request.roles.contains(role) {
      entries.append("URI:\(CertificateIdentity.rolePrefix)\(role.rawValue)")
    }
    for host in request.importsFor {
      guard HostName(host) != nil else { throw Self.badName(host) }
      entries.append("URI:\(CertificateIdentity.forPrefix)\(host)")
    }
    return entries.joined(separator: ",")
  }

  private static func badName(_ name: String) -> TransportError {
    TransportError(
      "'\(name)'", "is not a host name", hint: "1 to 253 characters of A-Z a-z 0-9 . _ -, not beginning with . or -")
  }

  private static func refuseExisting(_ paths: [String]) throws(TransportError) {
    for path in paths where access(path, F_OK) == 0 {
      throw TransportError(
        path, "exists already and is not replaced", hint: "move it away, or choose another directory")
    }
  }

  private static func fill(
    _ certificate: OpaquePointer, commonName: String, _ key: OpaquePointer, _ validity: CertificateValidity
  ) throws(TransportError) {
    // A positive serial number of 16 random bytes (RFC 5280, 4.1.2.2).
    var serial = try randomBytes(16)
    serial[0] = serial[0] & 0x7F | 0x40
    guard let number = BN_bin2bn(serial, Int32(serial.count), nil) else { throw failure("no serial number") }
    defer { BN_free(number) }
    let name = X509_get_subject_name(certificate)
    let text = Array(commonName.utf8)
    guard BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nil,
      X509_set_version(certificate, Int(X509_VERSION_3)) == 1,
      X509_gmtime_adj(X509_getm_notBefore(certificate), validity.from) != nil,
      X509_gmtime_adj(X509_getm_notAfter(certificate), validity.until) != nil,
      X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, text, Int32(text.count), -1, 0) == 1,
      X509_set_pubkey(certificate, key) == 1
    else { throw failure("can't fill a certificate") }
  }

  private static func extend(
    _ certificate: OpaquePointer, issuer: OpaquePointer, _ extensions: [(nid: Int32, value: String)]
  ) throws(TransportError) {
    for (nid, value) in extensions where nj_x509_add_extension(certificate, issuer, nid, value) != 1 {
      throw failure("can't add '\(value)'")
    }
  }

  private static func sign(
    _ certificate: OpaquePointer, issuer: OpaquePointer, _ key: OpaquePointer
  ) throws(TransportError) {
    // Ed25519 hashes by itself; the others sign a SHA-256.
    let digest = EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? nil : EVP_sha256()
    guard X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1, X509_sign(certificate, key, digest) > 0
    else { throw failure("can't sign a certificate") }
  }

  private static func store(_ certificate: OpaquePointer, _ path: String) throws(TransportError) {
    let bio = try Owned.memory()
    guard PEM_write_bio_X509(bio.pointer, certificate) == 1 else { throw failure("can't encode a certificate") }
    try SecretFile.create(path, bio.memoryBytes, mode: 0o644)
  }

  private static func randomBytes(_ count: Int) throws(TransportError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    guard RAND_bytes(&bytes, Int32(count)) == 1 else { throw failure("no random bytes") }
    return bytes
  }

  private static func hexadecimal(_ byte: UInt8) -> String {
    (byte < 16 ? "0" : "") + String(byte, radix: 16)
  }

  private static func failure(_ what: String) -> TransportError {
    TransportError("certificate", what + (OpenSSLErrors.drain().map { ": \($0)" } ?? ""))
  }
}
