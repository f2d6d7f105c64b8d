import COpenSSL
import Glibc
import JournalModel
import SecureTransport
import Testing

@Suite("Certificates") struct CertificateTests {
  @Test("an authority and its certificates have the files, modes and extensions that they should")
  func files() throws {
    let fleet = try Fleet()
    #expect(Scratch.names(in: fleet.scratch.path + "/ca") == ["ca.crt", "ca.key"])
    #expect(Scratch.mode(of: fleet.authority.keyPath) == 0o600)
    #expect(Scratch.mode(of: fleet.authority.directory) == 0o700)
    let files = try fleet.files("web1", [.host])
    #expect(files.certificate.hasSuffix("/web1.crt"))
    #expect(Scratch.mode(of: files.key) == 0o600)
    let authority = try text(of: fleet.authority.certificatePath)
    for expected in ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "Subject Key Identifier", "prime256v1"] {
      #expect(authority.contains(expected))
    }
    let leaf = try text(of: files.certificate)
    for expected in [
      "CA:FALSE", "TLS Web Client Authentication", "Digital Signature", "DNS:web1, URI:nimbus-journal:role:host",
      "Authority Key Identifier", "CN=web1", "ecdsa-with-SHA256",
    ] { #expect(leaf.contains(expected), "\(expected)") }
    #expect(!leaf.contains("TLS Web Server Authentication"))
    #expect(!leaf.contains("Certificate Sign"))
    let server = try text(of: fleet.files("logs-a", [.server], addresses: ["::1", "logs.example.net"]).certificate)
    #expect(server.contains("TLS Web Server Authentication, TLS Web Client Authentication"))
    #expect(server.contains("DNS:logs-a, IP Address:0:0:0:0:0:0:0:1, DNS:logs.example.net"))
    let importer = try text(of: fleet.files("rescue", [.importer], for: ["web1"]).certificate)
    #expect(importer.contains("URI:nimbus-journal:role:importer, URI:nimbus-journal:for:web1"))
  }

  /// As `openssl x509 -text` prints it.
  private func text(of path: String) throws -> String {
    let bytes = try Scratch.contents(of: path)
    let input = BIO_new(BIO_s_mem())
    defer { BIO_free(input) }
    #expect(BIO_write(input, bytes, Int32(bytes.count)) == Int32(bytes.count))
    let certificate = try #require(nj_read_certificate(input))
    defer { X509_free(certificate) }
    let output = BIO_new(BIO_s_mem())
    defer { BIO_free(output) }
    X509_print(output, certificate)
    var start: UnsafeMutablePointer<CChar>?
    let count = nj_bio_bytes(output, &start)
    return String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
  }

  @Test("nothing that exists is replaced")
  func existing() throws {
    let fleet = try Fleet()
    let before = try Scratch.contents(of: fleet.authority.keyPath)
    let error = #expect(throws: TransportError.self) { try CertificateAuthority.make(in: fleet.authority.directory) }
    #expect(error?.reason == "exists already and is not replaced")
    #expect(try Scratch.contents(of: fleet.authority.keyPath) == before)
    let files = try fleet.files("web1", [.host])
    let key = try Scratch.contents(of: files.key)
    #expect(throws: TransportError.self) { try fleet.files("web1", [.host]) }
    unlink(files.certificate)
    #expect(throws: TransportError.self) { try fleet.files("web1", [.host]) }
    #expect(try Scratch.contents(of: files.key) == key)
    #expect(Scratch.names(in: fleet.scratch.path + "/certificates") == ["web1.key"])
  }

  @Test(
    "names and addresses that could smuggle something in are refused",
    arguments: ["", "web1,DNS:web2", "../web1", "-web1", ".web1", "web 1", "web1\n", "*.example", "wéb1", "a/b"])
  func hostileNames(name: String) throws {
    let fleet = try Fleet()
    #expect(throws: TransportError.self) { try fleet.files(name, [.host]) }
    #expect(throws: TransportError.self) { try fleet.files("web1", [.host], addresses: [name]) }
    #expect(throws: TransportError.self) { try fleet.files("web1", [.importer], for: [name]) }
    #expect(Scratch.names(in: fleet.scratch.path) == ["ca"])
  }

  @Test("importers name hosts, and nobody else does")
  func importers() throws {
    let fleet = try Fleet()
    #expect(throws: TransportError.self) { try fleet.files("rescue", [.importer]) }
    #expect(throws: TransportError.self) { try fleet.files("rescue", [.host], for: ["web1"]) }
    #expect(throws: TransportError.self) { try fleet.files("rescue", []) }
  }

  @Test("files that don't belong together, are missing, damaged or open to others are refused with a reason")
  func contexts() throws {
    let fleet = try Fleet()
    let good = try fleet.files("web1", [.host])
    let other = try fleet.files("web2", [.host])
    func reason(_ change: (inout CredentialFiles) throws -> Void) rethrows -> TransportError? {
      var files = good
      try change(&files)
      return #expect(throws: TransportError.self) { try TLSContext(.client, files) }
    }
    #expect(reason { $0.key = other.key }?.reason == "is not the key of the certificate in \(good.certificate)")
    #expect(
      reason { $0.certificate = "/nowhere" }?.description == "/nowhere: can't be opened: No such file or directory")
    #expect(reason { $0.authorities = good.key }?.reason == "holds no certificate in PEM form")
    #expect(reason { $0.certificate = good.key }?.reason == "holds no certificate in PEM form")
    let expired = try fleet.files("web3", [.host], validity: CertificateValidity(from: -100, until: -50))
    #expect(try TLSContext(.client, expired).objection()?.reason.hasPrefix("expired on 20") == true)
    let early = try fleet.files("web4", [.host], validity: CertificateValidity(from: 1_000, until: 5_000))
    #expect(try TLSContext(.client, early).objection()?.reason.hasPrefix("is not valid before 20") == true)
    #expect(try TLSContext(.client, good).objection() == nil)
    // Authorities whose time is over vouch for nobody; one that is good among them is enough.
    let past = try CertificateAuthority.make(
      in: fleet.scratch.path + "/past", validity: CertificateValidity(from: -100, until: -50))
    var old = good
    old.authorities = past.certificatePath
    #expect(try TLSContext(.client, old).objection()?.description.hasPrefix("\(past.certificatePath): expired") == true)
    old.authorities = fleet.scratch.path + "/both.crt"
    try Scratch.write(
      Scratch.contents(of: past.certificatePath) + Scratch.contents(of: good.authorities), to: old.authorities)
    #expect(try TLSContext(.client, old).objection() == nil)

    let bytes = try Scratch.contents(of: good.certificate)
    let half = fleet.scratch.path + "/half.crt"
    for count in stride(from: 0, to: bytes.count - 5, by: 41) {
      try Scratch.write(Array(bytes.prefix(count)), to: half)
      #expect(reason { $0.certificate = half }?.subject == half)
    }
    let second = fleet.scratch.path + "/second.crt"
    try Scratch.write(bytes + bytes.prefix(300) + Array("\n-----END CERTIFICATE-----\n".utf8), to: second)
    #expect(reason { $0.certificate = second }?.reason.contains("certificate 2") == true)
    chmod(good.key, 0o640)
    #expect(reason { _ in }?.hint == "chmod 600 \(good.key)")
  }
}

@Suite("Bindings") struct BindingTests {
  let fleet: Fleet
  let message = Array("nimbus binding 1, web1, journal, key".utf8)

  init() throws { fleet = try Fleet() }

  private func authorities() throws -> BindingAuthorities {
    try BindingAuthorities(file: fleet.authority.certificatePath)
  }

  @Test("a host's certificate vouches for its own name only (W5)")
  func good() throws {
    let binding = try CertificateBinding.sign(message, with: fleet.files("web1", [.host]))
    let judge = try authorities()
    func refusal(_ name: String) -> String? {
      judge.refusal(chain: binding.chain, signature: binding.signature, over: message, hostName: name)
    }
    #expect(refusal("web1") == nil)
    #expect(refusal("web2") == "the binding's certificate is web1's and does not permit to write as web2")
    #expect(refusal("WEB1") != nil)
    #expect(
      judge.refusal(chain: binding.chain, signature: binding.signature, over: message + [0], hostName: "web1")
        == "the binding's signature is not by the key of its certificate")
  }

  @Test("expiry isn't judged on bindings (W6)")
  func expired() throws {
    let files = try fleet.files("web1", [.host], validity: CertificateValidity(from: -100, until: -50))
    let binding = try CertificateBinding.sign(message, with: files)
    #expect(
      try authorities().refusal(chain: binding.chain, signature: binding.signature, over: message, hostName: "web1")
        == nil)
  }

  @Test("only the server's own authorities count, and only roles that may write (W6)")
  func strangers() throws {
    let other = try Fleet()
    let judge = try authorities()
    let foreign = try CertificateBinding.sign(message, with: other.files("web1", [.host]))
    #expect(
      judge.refusal(chain: foreign.chain, signature: foreign.signature, over: message, hostName: "web1")
        == "certificate of web1 is not signed by the configured authorities")
    // Bringing the foreign authority along doesn't help.
    let root = try CertificateBinding.sign(
      message,
      with: CredentialFiles(
        certificate: other.authority.certificatePath, key: other.authority.keyPath, authorities: ""))
    #expect(
      judge.refusal(
        chain: foreign.chain + root.chain, signature: foreign.signature, over: message, hostName: "web1") != nil)
    let server = try CertificateBinding.sign(message, with: fleet.files("logs-a", [.server]))
    #expect(
      judge.refusal(chain: server.chain, signature: server.signature, over: message, hostName: "logs-a") != nil)
    let importer = try CertificateBinding.sign(message, with: fleet.files("rescue", [.importer], for: ["web1"]))
    #expect(
      judge.refusal(chain: importer.chain, signature: importer.signature, over: message, hostName: "web1") == nil)
    #expect(
      judge.refusal(chain: importer.chain, signature: importer.signature, over: message, hostName: "rescue") != nil)
  }

  @Test("a binding damaged at any byte is refused, and nothing crashes")
  func mutated() throws {
    let binding = try CertificateBinding.sign(message, with: fleet.files("web1", [.host]))
    let judge = try authorities()
    func isRefused(_ chain: [[UInt8]], _ signature: [UInt8]) -> Bool {
      judge.refusal(chain: chain, signature: signature, over: message, hostName: "web1") != nil
    }
    for index in binding.chain[0].indices {
      for change: UInt8 in [0x01, 0x80, 0xFF] {
        var leaf = binding.chain[0]
        leaf[index] ^= change
        #expect(isRefused([leaf], binding.signature), "byte \(index)")
      }
      #expect(isRefused([Array(binding.chain[0].prefix(index))], binding.signature))
    }
    for index in binding.signature.indices {
      var signature = binding.signature
      signature[index] ^= 0x01
      #expect(isRefused(binding.chain, signature), "signature byte \(index)")
      #expect(isRefused(binding.chain, Array(binding.signature.prefix(index))))
    }
    #expect(isRefused([], binding.signature))
    #expect(isRefused([[]], binding.signature))
    #expect(isRefused([binding.chain[0] + [0]], binding.signature))
    #expect(isRefused(Array(repeating: binding.chain[0], count: 9), binding.signature))
    #expect(isRefused([[UInt8](repeating: 0x30, count: 20_000)], binding.signature))
    #expect(isRefused(binding.chain, [UInt8](repeating: 0x30, count: 2_000)))
    #expect(ERR_peek_error() == 0, "the error queue is left empty")
  }

  @Test("RSA and Ed25519 keys of other authorities sign bindings too", arguments: [ForeignKey.rsa, .ed25519])
  func otherKeys(type: ForeignKey) throws {
    let own = try ForeignCertificate(type, [(NID_subject_alt_name, "DNS:web1")], issuer: nil)
    let path = fleet.scratch.path
    let files = CredentialFiles(certificate: path + "/own.crt", key: path + "/own.key", authorities: path + "/own.crt")
    try Scratch.write(own.certificatePEM(), to: files.certificate)
    try Scratch.write(own.keyPEM(), to: files.key)
    let binding = try CertificateBinding.sign(message, with: files)
    let judge = try BindingAuthorities(file: files.authorities)
    #expect(judge.refusal(chain: binding.chain, signature: binding.signature, over: message, hostName: "web1") == nil)
    var damaged = binding.signature
    damaged[20] ^= 1
    #expect(judge.refusal(chain: binding.chain, signature: damaged, over: message, hostName: "web1") != nil)
  }

  @Test("an authority with intermediates works, when they come along, and only then")
  func intermediates() throws {
    let authority = [(NID_basic_constraints, "critical,CA:TRUE"), (NID_key_usage, "critical,keyCertSign")]
    let root = try ForeignCertificate(.rsa, authority, issuer: nil)
    let middle = try ForeignCertificate(.p256, authority, issuer: root)
    let host = try ForeignCertificate(.p256, [(NID_subject_alt_name, "DNS:web1")], issuer: middle)
    let server = try ForeignCertificate(.ed25519, [(NID_subject_alt_name, "DNS:logs-a")], issuer: middle)
    let path = fleet.scratch.path
    func files(_ name: String, _ certificate: ForeignCertificate, chain: [UInt8]) throws -> CredentialFiles {
      let files = CredentialFiles(
        certificate: "\(path)/\(name).crt", key: "\(path)/\(name).key", authorities: path + "/root.crt")
      try Scratch.write(certificate.certificatePEM() + chain, to: files.certificate)
      try Scratch.write(certificate.keyPEM(), to: files.key)
      return files
    }
    try Scratch.write(root.certificatePEM(), to: path + "/root.crt")
    let whole = try files("web1", host, chain: middle.certificatePEM())
    let bare = try files("bare", host, chain: [])
    let serving = try TLSContext(.server, files("logs-a", server, chain: middle.certificatePEM()))
    func handshake(_ files: CredentialFiles) throws -> (client: String?, server: String?) {
      let pair = try Handshakes.sessions(client: TLSContext(.client, files), server: serving, name: "logs-a")
      return Handshakes.run(client: pair.client, server: pair.server)
    }
    #expect(try handshake(whole) == (nil, nil))
    #expect(try handshake(bare).server == "certificate of web1 is not signed by the configured authorities")

    let judge = try BindingAuthorities(file: path + "/root.crt")
    let binding = try CertificateBinding.sign(message, with: whole)
    #expect(binding.chain.count == 2)
    func refusal(_ chain: [[UInt8]]) -> String? {
      judge.refusal(chain: chain, signature: binding.signature, over: message, hostName: "web1")
    }
    #expect(refusal(binding.chain) == nil)
    #expect(refusal([binding.chain[0]]) == "certificate of web1 is not signed by the configured authorities")
    #expect(refusal([binding.chain[1]]) != nil)
    // No authority's certificate: one that web1's key signed.
    let below = try ForeignCertificate(.p256, [(NID_subject_alt_name, "DNS:web2")], issuer: host)
    let forged = try CertificateBinding.sign(
      message, with: files("web2", below, chain: host.certificatePEM() + middle.certificatePEM()))
    #expect(
      judge.refusal(chain: forged.chain, signature: forged.signature, over: message, hostName: "web2") != nil)
  }

  @Test("a certificate whose key anyone has vouches for nobody, whoever signed it")
  func weakCertificates() throws {
    let authority = [(NID_basic_constraints, "critical,CA:TRUE"), (NID_key_usage, "critical,keyCertSign")]
    let root = try ForeignCertificate(.p256, authority, issuer: nil)
    let host = try ForeignCertificate(.neutral, [(NID_subject_alt_name, "DNS:web1")], issuer: root)
    let path = fleet.scratch.path + "/root.crt"
    try Scratch.write(root.certificatePEM(), to: path)
    let forged = [1] + [UInt8](repeating: 0, count: 63)
    let neutral = [1] + [UInt8](repeating: 0, count: 31)
    #expect(JournalKeyTests.openSSLTakes(forged, message, neutral), "the test forges nothing")
    var der: UnsafeMutablePointer<UInt8>?
    let count = i2d_X509(host.certificate, &der)
    defer { CRYPTO_free(der, nil, 0) }
    let chain = [Array(UnsafeBufferPointer(start: der, count: Int(count)))]
    let refusal = try BindingAuthorities(file: path)
      .refusal(chain: chain, signature: forged, over: message, hostName: "web1")
    #expect(refusal == "certificate of web1: EE certificate key too weak")
  }
}
