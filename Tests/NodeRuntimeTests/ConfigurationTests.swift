import HostCore
import JournalModel
import SecureTransport
import Testing

@testable import NodeRuntime

/// The sample of `design/interfaces.md`, word for word.
let sample = """
  node:
    name: web1                              # the name in the certificate; the host name in the merge key
    data: /var/lib/nimbus-journal           # journal, spool, journal key (mode 0700)
  tls:
    certificate: /etc/nimbus-journal/web1.crt
    key: /etc/nimbus-journal/web1.key
    authorities: /etc/nimbus-journal/ca.crt
  host:                                     # role host, if present
    follow:
      - include: ["/var/log/**/*.log", "/var/log/syslog*"]
        exclude: ["**/*.tmp"]
    servers:
      - { name: logs-a, address: "127.0.0.1:7443" }
      - { name: logs-b, address: "127.0.0.1:7444" }
  server:                                   # role server, if present
    listen: 127.0.0.1:7443
    logs: /srv/nimbus-journal               # plain files
    clients: mutual                         # mutual | server-only (then: how hosts are admitted)
    peers:
      - { name: logs-b, address: "127.0.0.1:7444" }
  status:
    listen: 127.0.0.1:9443                  # /metrics, /healthz, /status.json; a page for people at /
  """

let minimal = """
  node: { name: web1 }
  tls: { certificate: a.crt, key: a.key, authorities: ca.crt }
  host:
    follow: [ { include: [ "/var/log/*" ] } ]
    servers: [ { name: a, address: "h:1" } ]
  """

func parse(_ text: String, file: String = "/etc/nimbus/node.yaml") throws(ConfigurationError) -> Configuration {
  try Configuration.parse(Array(text.utf8), file: file)
}

func problems(_ text: String) -> [String] {
  do {
    _ = try parse(text)
    return []
  } catch {
    return error.problems.map { "\($0.line ?? 0):\($0.key): \($0.message)" }
  }
}

@Suite struct ConfigurationTests {
  @Test func theSampleOfTheDesignIsAccepted() throws {
    let configuration = try parse(sample)
    #expect(configuration.node.name.text == "web1")
    #expect(configuration.node.data == "/var/lib/nimbus-journal")
    #expect(configuration.tls.authorities == "/etc/nimbus-journal/ca.crt")
    let host = try #require(configuration.host)
    #expect(
      host.follow == [
        FollowRule(
          include: [BytePath("/var/log/**/*.log"), BytePath("/var/log/syslog*")], exclude: [BytePath("/**/*.tmp")])
      ])
    #expect(host.servers.map(\.name.text) == ["logs-a", "logs-b"])
    #expect(host.servers.map(\.address.port) == [7443, 7444])
    let server = try #require(configuration.server)
    #expect(server.listen == .init(host: "127.0.0.1", port: 7443))
    #expect(server.logs == "/srv/nimbus-journal")
    #expect(server.peers.map(\.name.text) == ["logs-b"])
    #expect(configuration.status?.listen.description == "127.0.0.1:9443")
    #expect(configuration.roles == ["host", "server"])
    #expect(configuration.warnings == [])
  }

  @Test func whatIsLeftOutHasASensibleDefault() throws {
    let configuration = try parse(minimal)
    #expect(configuration.node.data == "/var/lib/nimbus-journal")
    #expect(configuration.limits.rescanInterval == .seconds(60))
    #expect(configuration.limits.pollInterval == .milliseconds(500))
    #expect(configuration.server == nil)
    #expect(configuration.warnings.isEmpty)
    let server = try parse(
      "node: {name: s}\ntls: {certificate: c, key: k, authorities: a}\nserver: {listen: \"[::1]:7443\"}")
    #expect(server.server?.logs == "/srv/nimbus-journal")
    #expect(server.server?.credit == 256 << 20)
    #expect(server.server?.listen == .init(host: "::1", port: 7443))
    #expect(server.server?.listen.description == "[::1]:7443")
  }

  @Test func relativePathsAreRelativeToTheFile() throws {
    let configuration = try Configuration.parse(
      Array(
        minimal.replacing("\"/var/log/*\"", with: "logs/**/*.log, ./one.log, ../two/../three.log")
          .replacing("web1 }", with: "web1, data: ../data/. }").utf8),
      file: "/etc/nimbus/node.yaml")
    #expect(configuration.tls.key == "/etc/nimbus/a.key")
    #expect(configuration.node.data == "/etc/data")
    #expect(
      configuration.host?.follow.first?.include
        == [
          BytePath("/etc/nimbus/logs/**/*.log"), BytePath("/etc/nimbus/one.log"), BytePath("/etc/three.log"),
        ])
  }

  @Test func durationsAndSizesHaveUnits() throws {
    let text = minimal + "\n  rescan: 5m\n  poll: 250ms\nserver: { listen: 'h:2', credit: 1GiB }"
    let configuration = try parse(text)
    #expect(configuration.limits.rescanInterval == .seconds(300))
    #expect(configuration.limits.pollInterval == .milliseconds(250))
    #expect(configuration.server?.credit == 1 << 30)
  }

  static let errors: [(replace: String, with: String, expected: String)] = [
    ("node:\n", "nodes:\n", "1:nodes: unknown key; did you mean `node`?"),
    ("    name: web1 ", "    nmae: web1 ", "2:node.nmae: unknown key; did you mean `name`?"),
    ("    name: web1 ", "    name: -web ", "2:node.name: `-web` is not a name"),
    ("    name: web1 ", "    name: 17 ", "2:node.name: expected text, found the number 17"),
    ("    name: web1 ", "    name: yes ", "2:node.name: expected text, found the truth value `yes`"),
    ("    name: web1 ", "    name: ~ ", "2:node.name: expected text, found nothing"),
    ("    name: web1 ", "    name: [web1] ", "2:node.name: expected text, found a list"),
    ("    name: web1 ", "    name: a/b ", "2:node.name: `a/b` is not a name"),
    ("    name: web1 ", "    name: web1\n    name: web2 ", "2:name: is given more than once"),
    ("    key: /etc/nimbus-journal/web1.key\n", "", "4:tls.key: is missing"),
    ("  host: ", "  hosts: ", "8:hosts: unknown key; did you mean `host`?"),
    ("\"/var/log/syslog*\"", "\"*.log\"", "10:host.follow[0].include[1]: `*.log` is not absolute"),
    ("\"/var/log/syslog*\"", "\"/var/log/\"", "10:host.follow[0].include[1]: names a directory"),
    ("\"/var/log/syslog*\"", "\"/var/**.log\"", "10:host.follow[0].include[1]: `**` stands for whole directories"),
    ("\"/var/log/syslog*\"", "\"/var/[ab\"", "10:host.follow[0].include[1]: `[` without `]`"),
    (
      "\"/var/log/syslog*\"", "\"/\(String(repeating: "a/**/", count: 9))*.log\"",
      "10:host.follow[0].include[1]: more than 8 times `**` in `/a/**/a/**"
    ),
    ("\"/var/log/syslog*\"", "\"/var/*/../x\"", "10:host.follow[0].include[1]: `..` behind a wildcard"),
    ("[\"**/*.tmp\"]", "[\"*.tmp\"]", "11:host.follow[0].exclude[0]: `*.tmp` is not absolute"),
    ("[\"**/*.tmp\"]", "[]", "11:host.follow[0].exclude: the list of patterns is empty"),
    ("[\"**/*.tmp\"]", "\"**/*.tmp\"", "11:host.follow[0].exclude: expected a list of patterns, found text"),
    ("[\"**/*.tmp\"]", "[**/*.tmp]", "11:: is not YAML"),
    (
      "name: logs-b, address: \"127.0.0.1:7444\" }\n  server", "name: logs-a, address: \"h:1\" }\n  server",
      "14:host.servers[1]: the server logs-a is listed twice"
    ),
    (
      "\"127.0.0.1:7444\" }\n  server", "\"127.0.0.1:7443\" }\n  server",
      "14:host.servers[1]: logs-b and logs-a have the same address"
    ),
    (
      "\"127.0.0.1:7444\" }\n  server", "\"127.0.0.1\" }\n  server",
      "14:host.servers[1].address: `127.0.0.1` has no port"
    ),
    (
      "\"127.0.0.1:7444\" }\n  server", "\"::1:7444\" }\n  server",
      "14:host.servers[1].address: `::1:7444` an IPv6 address stands in brackets: write [ADDRESS]:PORT"
    ),
    (
      "\"127.0.0.1:7444\" }\n  server", "\"a b:7444\" }\n  server", "14:host.servers[1].address: `a b:7444` has no host"
    ),
    ("\"127.0.0.1:7444\" }\n  server", "\"h:0\" }\n  server", "14:host.servers[1].address: `h:0`: 0 is not a port"),
    (
      "\"127.0.0.1:7444\" }\n  server", "\"h:65536\" }\n  server",
      "14:host.servers[1].address: `h:65536` '65536' is not a port"
    ),
    ("    listen: 127.0.0.1:7443\n", "", "15:server.listen: is missing"),
    ("    listen: 127.0.0.1:7443\n", "    listen: 7443\n", "16:server.listen: expected text, found the number 7443"),
    (
      "    clients: mutual ", "    clients: server-only ",
      "18:server.clients: `server-only` is not available in this version"
    ),
    ("    clients: mutual ", "    clients: anyone ", "18:server.clients: `anyone` is neither"),
    ("    clients: mutual ", "    credit: 64 ", "18:server.credit: `64` lacks its unit"),
    ("    clients: mutual ", "    credit: 64M ", "18:server.credit: `M` is not a unit here"),
    ("    clients: mutual ", "    credit: 1KiB ", "18:server.credit: 1KiB is not within 1MiB and 64GiB"),
    ("    clients: mutual ", "    credit: 99999999999TiB ", "18:server.credit: 99999999999TiB is too large"),
    ("    clients: mutual ", "    credit: -1GiB ", "18:server.credit: expected a whole number with a unit"),
    (
      "name: logs-b, address: \"127.0.0.1:7444\" }\n  status", "name: web1, address: \"h:1\" }\n  status",
      "15:server.peers: web1 is this node itself"
    ),
    ("  - { name: logs-a", "  - { nam: logs-a", "13:host.servers[0].nam: unknown key; did you mean `name`?"),
    ("    listen: 127.0.0.1:9443 ", "    listen: 127.0.0.1:7443 ", "21:status.listen: 127.0.0.1:7443 is taken"),
    ("    logs: /srv/nimbus-journal ", "    logs: /var/lib/nimbus-journal ", "15:server.logs: is the same directory"),
    ("\"/var/log/syslog*\"", "\"/srv/nimbus-journal/files/*\"", "8:host.follow[0].include[1]: lies in server.logs"),
    ("  tls:\n", "  tls: &x\n", "4:: anchors"),
    ("    servers:\n", "    rescan: 30\n    servers:\n", "12:host.rescan: `30` lacks its unit"),
    ("    servers:\n", "    poll: 1ms\n    servers:\n", "12:host.poll: 1ms is not within 10ms and 1h"),
    ("    servers:\n", "    rescan: [30s]\n    servers:\n", "12:host.rescan: expected a value, found a list"),
    ("    servers:\n", "\tservers:\n", "12:: is not YAML"),
  ]

  @Test(arguments: errors)
  func eachErrorSaysWhere(_ replace: String, _ with: String, _ expected: String) {
    let text = sample.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\n")
    let changed = text.replacingFirst(replace, with: with)
    #expect(changed != nil, "the sample lacks \(replace)")
    let found = problems(changed ?? "")
    #expect(found.contains { $0.hasPrefix(expected) }, "\(found)")
  }

  @Test func depthsInARowAreOne() throws {
    let many = "/var/log/" + String(repeating: "**/", count: 1_300) + "*.log"
    let configuration = try parse(try #require(minimal.replacingFirst("/var/log/*", with: many)))
    #expect(configuration.host?.follow.first?.include == [BytePath("/var/log/**/*.log")])
  }

  static let statusAddresses: [(String, Bool)] = [
    ("127.0.0.1:9443", false), ("127.9.9.9:9443", false), ("[::1]:9443", false), ("localhost:9443", false),
    ("[::ffff:127.0.0.1]:9443", false), ("0.0.0.0:9443", true), ("[::]:9443", true), ("192.0.2.1:9443", true),
    ("web1:9443", true), ("[::ffff:10.0.0.1]:9443", true),
  ]

  @Test(arguments: statusAddresses)
  func aStatusPageForEverybodyIsAWarningD24(_ address: String, _ isWarned: Bool) throws {
    let configuration = try parse(minimal + "\nstatus: { listen: \"\(address)\" }\n")
    #expect(configuration.warnings.contains { $0.key == "status.listen" } == isWarned)
  }

  @Test func everythingWrongIsToldAtOnce() {
    let found = problems(
      """
      node: { name: "a b", colour: red }
      tls: { certificate: 1 }
      server: { listen: x, clients: server-only }
      node: { name: x }
      status: []
      """)
    #expect(
      found.map { $0.split(separator: " ").first.map(String.init) ?? "" }.sorted()
        == [
          "1:node:", "2:tls.authorities:", "2:tls.certificate:", "2:tls.key:", "3:server.clients:", "3:server.listen:",
          "5:status:",
        ].sorted(), "\(found)")
  }

  @Test func aNodeWithoutARoleIsRefused() {
    let found = problems("node: {name: a}\ntls: {certificate: c, key: k, authorities: a}\n")
    #expect(found == ["1:: has neither `host` nor `server`: a node needs a role"])
  }

  @Test(arguments: ["", "   \n", "# nothing\n", "---\n...\n"])
  func anEmptyFileIsRefused(_ text: String) { #expect(!problems(text).isEmpty) }

  @Test func textThatIsNoUTF8IsRefusedWithItsLine() {
    do {
      _ = try Configuration.parse(Array("node:\n  name: ".utf8) + [0xFF, 0x0A], file: "/x")
      Issue.record("accepted")
    } catch { #expect(error.problems.first?.line == 2) }
  }

  @Test func tooManyServersOrPatternsOrBytesAreRefused() {
    let servers = (0..<65).map { "{ name: s\($0), address: 'h:\($0 + 1)' }" }.joined(separator: ", ")
    #expect(problems(minimal.replacing("{ name: a, address: \"h:1\" }", with: servers)).contains { $0.contains("64") })
    let patterns = (0..<1001).map { "/log/\($0)" }.joined(separator: ", ")
    #expect(problems(minimal.replacing("\"/var/log/*\"", with: patterns)).contains { $0.contains("1000") })
    #expect(problems(minimal + "\n#" + String(repeating: "x", count: 1 << 20)).contains { $0.contains("1MiB") })
  }

  @Test func nestedAliasesAreRefusedAtOnce() {
    var bomb = "a0: &a0 [x, x]\n"
    for level in 1..<40 { bomb += "a\(level): &a\(level) [*a\(level - 1), *a\(level - 1)]\n" }
    bomb += "? *a39\n: x\n"
    #expect(problems(bomb).first?.contains("anchors") == true)
    #expect(problems("\"a\":&b [1]\n? *b\n: 1\n").first?.contains("anchors") == true)
    #expect(problems("a: 'x'\n\u{85}&b c: *b\n").first?.contains("anchors") == true)
  }

  @Test func deepNestingIsRefusedAtOnce() {
    #expect(!problems(String(repeating: "[", count: 200_000)).isEmpty)
    #expect(!problems(String(repeating: "{a: ", count: 100_000)).isEmpty)
    #expect(!problems(String(repeating: "- ", count: 100_000)).isEmpty)
    #expect(!problems(String(repeating: "? ", count: 100_000)).isEmpty)
  }

  @Test func anAmpersandWithinANameIsText() throws {
    let configuration = try parse(minimal.replacing("/var/log/*", with: "/srv/R&D/a & b/*"))
    #expect(configuration.host?.follow.first?.include == [BytePath("/srv/R&D/a & b/*")])
  }

  @Test func aMessageNeverQuotesControlCharacters() {
    let found = problems(minimal.replacing("web1", with: "\"a\\e[2Jb\\nforged\\u202e\""))
    #expect(found.count == 1)
    #expect(found[0].unicodeScalars.allSatisfy { $0.properties.generalCategory.isPrintable })
  }
}

extension String {
  func replacingFirst(_ part: String, with other: String) -> String? {
    guard let range = firstRange(of: part) else {
      // The sample is indented by its literal; tables above are written with that indentation.
      let dedented = part.split(separator: "\n", omittingEmptySubsequences: false)
        .map { $0.hasPrefix("  ") ? String($0.dropFirst(2)) : String($0) }.joined(separator: "\n")
      let replacement = other.split(separator: "\n", omittingEmptySubsequences: false)
        .map { $0.hasPrefix("  ") ? String($0.dropFirst(2)) : String($0) }.joined(separator: "\n")
      guard let range = firstRange(of: dedented) else { return nil }
      return replacingCharacters(in: range, with: replacement)
    }
    return replacingCharacters(in: range, with: other)
  }

  private func replacingCharacters(in range: Range<String.Index>, with other: String) -> String {
    self[..<range.lowerBound] + other + self[range.upperBound...]
  }
}
