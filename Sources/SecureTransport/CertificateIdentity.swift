import COpenSSL
import Glibc
package import JournalModel

/// What a certificate issued here may be used for. A role can only forbid (W6): a certificate that states none, such as
/// one of another authority, is not restricted beyond its extended key usage.
package enum CertificateRole: String, Hashable, Sendable, CaseIterable {
  /// Delivers its own log files.
  case host
  /// Receives, and talks to other servers.
  case server
  /// Delivers snapshots for the hosts that the certificate lists.
  case importer
}

/// What a certificate says about its holder, as text that is safe to print and to use as a name.
///
/// Roles and the hosts of an importer are URI names (RFC 5280, 4.2.1.6): `nimbus-journal:role:ROLE` and
/// `nimbus-journal:for:HOST`.
package struct CertificateIdentity: Hashable, Sendable {
  /// DNS names that are host names (`HostName`), in the certificate's order. Wildcards and anything else are left out.
  package var names: [String] = []
  /// IP addresses, as text.
  package var addresses: [String] = []
  /// Empty if the certificate states no role.
  package var roles: Set<CertificateRole> = []
  /// Hosts for which an importer may write.
  package var importsFor: [String] = []
  package var notAfter: WallTime

  package func permits(_ role: CertificateRole) -> Bool { roles.isEmpty || roles.contains(role) }

  /// The host names under which the holder may write (W5).
  package var writableHosts: [String] {
    (permits(.host) ? names : []) + (roles.contains(.importer) ? importsFor : [])
  }

  /// As which servers the holder may speak (W6).
  package var serverNames: [String] { permits(.server) ? names : [] }

  static let rolePrefix = "nimbus-journal:role:"
  static let forPrefix = "nimbus-journal:for:"
  /// More names than any certificate needs; the rest is ignored.
  static let maximumNames = 1_000
}

extension CertificateIdentity {
  /// `certificate` is an X509 that the caller owns.
  init(of certificate: OpaquePointer) {
    notAfter = WallTime(
      nanoseconds: CertificateTime.seconds(X509_get0_notAfter(certificate)).saturatingMultiplied(by: 1_000_000_000))
    guard let list = nj_x509_alternative_names(certificate) else {
      OpenSSLErrors.clear()
      return
    }
    defer { GENERAL_NAMES_free(list) }
    for index in 0..<min(nj_general_names_count(list), Int32(Self.maximumNames)) {
      var start: UnsafePointer<UInt8>?
      var count: Int32 = 0
      let type = nj_general_name_at(list, index, &start, &count)
      guard let start, count > 0 else { continue }
      add(type, Array(UnsafeBufferPointer(start: start, count: Int(count))))
    }
  }

  private mutating func add(_ type: Int32, _ bytes: [UInt8]) {
    switch type {
    case GEN_DNS:
      if let name = Self.hostName(bytes[...]) { names.append(name) }
    case GEN_IPADD:
      if let address = SocketAddress.text(ofAddress: bytes) { addresses.append(address) }
    case GEN_URI:
      if let role = Self.suffix(of: bytes, after: Self.rolePrefix) {
        if let role = CertificateRole(rawValue: String(decoding: role, as: UTF8.self)) { roles.insert(role) }
      } else if let host = Self.suffix(of: bytes, after: Self.forPrefix).flatMap(Self.hostName) {
        importsFor.append(host)
      }
    default: break
    }
  }

  private static func suffix(of bytes: [UInt8], after prefix: String) -> ArraySlice<UInt8>? {
    bytes.starts(with: prefix.utf8) ? bytes[prefix.utf8.count...] : nil
  }

  private static func hostName(_ bytes: ArraySlice<UInt8>) -> String? {
    bytes.allSatisfy { $0 < 0x80 } ? HostName(String(decoding: bytes, as: UTF8.self))?.text : nil
  }

  /// How to call a certificate in a message: its first name, else its subject's.
  static func title(of certificate: OpaquePointer) -> String {
    if let name = CertificateIdentity(of: certificate).names.first { return name }
    var buffer = [CChar](repeating: 0, count: 200)
    guard X509_NAME_oneline(X509_get_subject_name(certificate), &buffer, Int32(buffer.count)) != nil else {
      return "the peer"
    }
    let text = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    return text.isEmpty ? "the peer" : String(decoding: text, as: UTF8.self)
  }
}

enum CertificateTime {
  /// Seconds since 1970; the greatest value when it can't be read.
  static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
    var parts = tm()
    guard let time, ASN1_TIME_to_tm(time, &parts) == 1 else { return .max }
    return Int64(timegm(&parts))
  }

  /// `2026-11-22 15:54:00 UTC`
  static func text(_ time: UnsafePointer<ASN1_TIME>?) -> String {
    var parts = tm()
    guard let time, ASN1_TIME_to_tm(time, &parts) == 1 else { return "an unreadable date" }
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) "
      + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) UTC"
  }
}
