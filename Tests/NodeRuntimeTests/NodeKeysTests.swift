import Glibc
import JournalModel
import SecureTransport
import Synchronization
import Testing

@testable import NodeRuntime

/// An authority, and a node's files that are put wrong and right again (D23).
@Suite struct NodeKeysTests {
  let directory: TemporaryDirectory
  let authority: CertificateAuthority
  let events = Events()

  final class Events: Sendable {
    private let all = Mutex<[ReportEvent]>([])
    func add(_ event: ReportEvent) { all.withLock { $0.append(event) } }
    var messages: [String] { all.withLock { $0.map { $0.pairs["why"] ?? $0.message } } }
  }

  init() throws {
    directory = try TemporaryDirectory()
    authority = try CertificateAuthority.make(in: directory.path + "/ca")
  }

  private func keys(_ roles: String = "host") throws -> NodeKeys {
    let host = """
      host:
        follow: [ { include: [ "/var/log/*" ] } ]
        servers: [ { name: a, address: "h:1" } ]
      """
    let server = "server: { listen: \"127.0.0.1:7443\" }"
    let text = """
      node: { name: web1, data: data }
      tls: { certificate: web1.crt, key: web1.key, authorities: ca/ca.crt }
      \(roles.contains("host") ? host : "")
      \(roles.contains("server") ? server : "")
      """
    let configuration = try parse(text, file: directory.path + "/node.yaml")
    return NodeKeys(configuration) { [events] in events.add($0) }
  }

  /// Puts a certificate and its key where the configuration names them, as one who renews them does.
  private func install(
    _ name: String = "web1", _ roles: Set<CertificateRole> = [.host], _ validity: CertificateValidity = .leaf,
    only part: String? = nil
  ) throws {
    let made = directory.path + "/made"
    let request = CertificateRequest(name: name, roles: roles, validity: validity)
    try authority.issue(request, into: made)
    for suffix in ["crt", "key"] {
      let new = "\(made)/\(name).\(suffix)"
      if part == nil || part == suffix {
        #expect(rename(new, "\(directory.path)/web1.\(suffix)") == 0)
      } else {
        unlink(new)
      }
    }
  }

  @Test func missingKeysAreSaidAndTakenUpWhenTheyCome() throws {
    let keys = try keys()
    #expect(keys.complaint?.contains("web1.crt: can't be opened") == true)
    #expect(throws: TransportError.self) { try keys.context(.client) }
    keys.look()
    #expect(events.messages.count == 1, "said once, not at each look")
    try install()
    keys.look()
    #expect(keys.complaint == nil)
    #expect(try keys.context(.client).identity.names == ["web1"])
    #expect(events.messages.last == "new keys are in use")
  }

  @Test func anExpiredCertificateIsUsedAndSaid() throws {
    try install("web1", [.host], CertificateValidity(from: -100, until: -50))
    let keys = try keys()
    // The servers' clocks judge it: this machine's may be the wrong one.
    _ = try keys.context(.client)
    #expect(keys.complaint?.contains("web1.crt: expired on 20") == true)
    try install()
    keys.look()
    #expect(keys.complaint == nil)
  }

  @Test func aCertificateOfTheFutureIsUsedAndSaid() throws {
    try install("web1", [.host], CertificateValidity(from: 5_000, until: 9_000))
    let keys = try keys()
    _ = try keys.context(.client)
    #expect(keys.complaint?.contains("is not valid before 20") == true)
  }

  @Test func halfOfANewPairLeavesTheFormerInUse() throws {
    try install()
    let keys = try keys()
    let before = try keys.context(.client)
    try install(only: "crt")
    keys.look()
    #expect(keys.complaint?.contains("is not the key of the certificate") == true)
    #expect(try keys.context(.client) === before)
    try install()
    keys.look()
    #expect(keys.complaint == nil)
    #expect(try keys.context(.client) !== before)
  }

  @Test func unchangedFilesAreNotReadAgain() throws {
    try install()
    let keys = try keys()
    let before = try keys.context(.client)
    for _ in 0..<10 { keys.look() }
    #expect(try keys.context(.client) === before)
  }

  static let wrongs: [(String, @Sendable (String) -> Void, String)] = [
    ("open to others", { chmod($0 + "/web1.key", 0o644) }, "others than its owner have access"),
    ("no key", { unlink($0 + "/web1.key") }, "web1.key: can't be opened"),
    ("no authorities", { unlink($0 + "/ca/ca.crt") }, "ca.crt: can't be opened"),
    ("an empty certificate", { truncate($0 + "/web1.crt", 0) }, "holds no certificate"),
    ("half a key", { truncate($0 + "/web1.key", 50) }, "holds no usable private key"),
    (
      "a directory",
      {
        unlink($0 + "/web1.crt")
        mkdir($0 + "/web1.crt", 0o700)
      }, "is not a regular file"
    ),
  ]

  @Test(arguments: wrongs.indices)
  func whateverIsWrongIsSaidAndKeepsNothingElseUp(index: Int) throws {
    try install()
    Self.wrongs[index].1(directory.path)
    let keys = try keys()
    #expect(keys.complaint?.contains(Self.wrongs[index].2) == true, "\(Self.wrongs[index].0): \(keys.complaint ?? "-")")
    #expect(throws: TransportError.self) { try keys.context(.client) }
  }

  @Test func anothersCertificateIsNotShownToServers() throws {
    try install("web9")
    let keys = try keys()
    #expect(keys.complaint?.contains("is for web9, and node.name is web1") == true)
    #expect(throws: TransportError.self) { try keys.context(.client) }
  }

  @Test func aServerKeepsItsAuthoritiesWhileTheyCantBeRead() throws {
    try install("web1", [.server])
    let keys = try keys("server")
    #expect(keys.complaint == nil && keys.authorities != nil)
    unlink(authority.certificatePath)
    keys.look()
    #expect(keys.complaint?.contains("ca.crt") == true && keys.authorities != nil)
    _ = try keys.context(.server)
  }

  @Test func aNodeOfBothRolesUsesWhatOneCertificatePermits() throws {
    try install("web1", [.host])
    let keys = try keys("host server")
    #expect(keys.complaint?.contains("is not issued for a server") == true)
    _ = try keys.context(.client)
    #expect(throws: TransportError.self) { try keys.context(.server) }
  }

  @Test func afterItsEndNothingIsRead() throws {
    let keys = try keys()
    keys.stop()
    #expect(!keys.look())
  }
}

@Suite struct DirectoryRightsTests {
  private func made(_ path: String, _ mode: mode_t) {
    #expect(mkdir(path, 0o700) == 0)
    #expect(chmod(path, mode) == 0)
  }

  @Test(arguments: [(0o700, false), (0o755, false), (0o775, true), (0o757, true), (0o1777, true)] as [(mode_t, Bool)])
  func aDirectoryThatOthersMayWriteIsSaidD24(_ mode: mode_t, _ isSaid: Bool) throws {
    let directory = try TemporaryDirectory()
    made(directory.path + "/data", mode)
    let said = DirectoryRights.objections(to: directory.path + "/data")
    #expect(said.isEmpty != isSaid, "\(said)")
  }

  @Test func whatLiesAboveCountsUnlessItIsStickyD24() throws {
    let directory = try TemporaryDirectory()
    made(directory.path + "/top", 0o777)
    made(directory.path + "/top/data", 0o700)
    let path = directory.path + "/top/data"
    #expect(DirectoryRights.objections(to: path).count == 1)
    #expect(DirectoryRights.objections(to: path + "/not/yet").count == 1)
    chmod(directory.path + "/top", 0o1777)
    #expect(DirectoryRights.objections(to: path) == [])
  }

  @Test func thePlaceThatALinkLeadsToCountsAsWellD24() throws {
    let directory = try TemporaryDirectory()
    made(directory.path + "/real", 0o777)
    #expect(symlink(directory.path + "/real", directory.path + "/link") == 0)
    #expect(!DirectoryRights.objections(to: directory.path + "/link").isEmpty)
  }

  @Test func filesThatTheNodeGoesByCountAndEachFaultIsSaidOnceD24() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path
    made(path + "/etc", 0o777)
    for name in ["node.yaml", "a.crt", "a.key", "ca.crt"] {
      let number = open(path + "/etc/" + name, O_CREAT | O_WRONLY, 0o600)
      close(number)
    }
    chmod(path + "/etc/ca.crt", 0o666)
    let configuration = try parse(minimal, file: path + "/etc/node.yaml")
    let said = DirectoryRights.findings(for: configuration).filter { $0.message.hasPrefix(path) }
    #expect(said.map(\.subject) == ["configuration", "tls.authorities"], "\(said)")
    let file = path + "/etc/ca.crt"
    #expect(said.last?.message == "\(file) has mode 666: others could change it (chmod go-w \(file))")
  }

  @Test(.enabled(if: getuid() == 0, "only root can give a directory away"))
  func aDirectoryOfAnotherUserIsSaidD24() throws {
    let directory = try TemporaryDirectory()
    made(directory.path + "/data", 0o700)
    #expect(chown(directory.path + "/data", 65_534, 65_534) == 0)
    #expect(DirectoryRights.objections(to: directory.path + "/data").first?.contains("belongs to user 65534") == true)
  }
}
