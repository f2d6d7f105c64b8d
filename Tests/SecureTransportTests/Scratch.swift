import Glibc
import JournalModel
import SecureTransport

/// A temporary directory with everything a test made, removed at the end of its life.
final class Scratch {
  let path: String

  init() throws {
    var template = Array("/tmp/nimbus-journal-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw TransportError("/tmp", String(cString: strerror(errno))) }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    ignoreSIGPIPE()
  }

  deinit { Self.remove(path) }

  private static func remove(_ path: String) {
    if unlink(path) == 0 { return }
    for name in names(in: path) { remove("\(path)/\(name)") }
    rmdir(path)
  }

  static func names(in directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  static func contents(of path: String) throws -> [UInt8] {
    guard let file = fopen(path, "r") else { throw TransportError(path, String(cString: strerror(errno))) }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    let count = fread(&bytes, 1, bytes.count, file)
    return Array(bytes.prefix(count))
  }

  static func write(_ bytes: [UInt8], to path: String, mode: mode_t = 0o600) throws {
    guard let file = fopen(path, "w") else { throw TransportError(path, String(cString: strerror(errno))) }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
    chmod(path, mode)
  }

  static func mode(of path: String) -> mode_t {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode & 0o7777 : 0
  }
}

/// An authority and what it issues, in a scratch directory.
struct Fleet {
  let scratch: Scratch
  let authority: CertificateAuthority

  init() throws {
    scratch = try Scratch()
    authority = try CertificateAuthority.make(in: scratch.path + "/ca")
  }

  /// Issues `name` and returns where its files are.
  func files(
    _ name: String, _ roles: Set<CertificateRole>, for hosts: [String] = [], addresses: [String] = [],
    validity: CertificateValidity = .leaf
  ) throws -> CredentialFiles {
    let request = CertificateRequest(
      name: name, roles: roles, importsFor: hosts, addresses: addresses, validity: validity)
    let paths = try authority.issue(request, into: scratch.path + "/certificates")
    return CredentialFiles(certificate: paths.certificate, key: paths.key, authorities: authority.certificatePath)
  }
}
