import SecureTransport

/// What `keys` does.
package enum Keys {
  package struct Failure: Error, Sendable, CustomStringConvertible {
    package var description: String
  }

  /// The paths of certificate and key.
  package static func makeAuthority(in directory: String) throws -> [String] {
    let authority = try CertificateAuthority.make(in: directory)
    return [authority.certificatePath, authority.keyPath]
  }

  /// The paths of certificate and key.
  package static func issue(
    from directory: String, name: String, roles: [String], hosts: [String], addresses: [String], into output: String
  ) throws -> [String] {
    var known: Set<CertificateRole> = []
    for role in roles {
      guard let role = CertificateRole(rawValue: role) else {
        let all = CertificateRole.allCases.map(\.rawValue).joined(separator: ", ")
        throw Failure(description: "'\(shown(role))' is not a role: \(all)")
      }
      known.insert(role)
    }
    let request = CertificateRequest(name: name, roles: known, importsFor: hosts, addresses: addresses)
    let made = try CertificateAuthority(directory: directory).issue(request, into: output)
    return [made.certificate, made.key]
  }
}
