import Foundation
import HostCore
import JournalModel
import Yams

extension Configuration {
  /// Reads a file. Everything that is wrong with it is in the error, not only the first thing.
  package static func read(file: String) throws(ConfigurationError) -> Configuration {
    let path = absolute(file)
    let bytes: [UInt8]
    do {
      bytes = try SmallFile.read(path, limit: maximumByteCount)
    } catch {
      throw ConfigurationError(problems: [
        ConfigurationProblem(file: path, line: nil, key: "", message: "can't be read: \(error.message)")
      ])
    }
    return try parse(bytes, file: path)
  }

  /// `file` is absolute; it names the place of problems and what relative paths are relative to.
  package static func parse(_ bytes: [UInt8], file: String) throws(ConfigurationError) -> Configuration {
    var reader = ConfigurationReader(file: file)
    let configuration = reader.configuration(of: bytes)
    if let configuration, reader.problems.isEmpty { return configuration }
    // Stable: what stands in one line keeps its order.
    let sorted = reader.problems.enumerated().sorted {
      ($0.element.line ?? 0, $0.offset) < ($1.element.line ?? 0, $1.offset)
    }
    throw ConfigurationError(problems: sorted.map(\.element))
  }

  static func absolute(_ path: String) -> String {
    path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
  }
}

extension ConfigurationReader {
  mutating func configuration(of bytes: [UInt8]) -> Configuration? {
    guard bytes.count <= Configuration.maximumByteCount else {
      complain(nil, "", "is larger than \(Quantity.text(bytes: UInt64(Configuration.maximumByteCount)))")
      return nil
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      complain(Self.lineOfBadUTF8(bytes), "", "is not UTF-8")
      return nil
    }
    guard let root = ConfigurationDocument.compose(text, into: &self) else {
      if problems.isEmpty { complain(nil, "", "is empty") }
      return nil
    }
    return sections(Entry(key: "", value: root, line: root.mark?.line))
  }

  private mutating func sections(_ entry: Entry) -> Configuration? {
    let root = section(entry, keys: ["node", "tls", "host", "server", "status"])
    let node = required("node", in: root, "name this machine with `node: { name: ... }`").flatMap { nodeSection($0) }
    let tls = required("tls", in: root, "certificate, key and authorities").flatMap { tlsSection($0) }
    let host = root.entries["host"].map { hostSection($0) }
    let server = root.entries["server"].map { serverSection($0) }
    let status = root.entries["status"].map { statusSection($0) }
    if !root.isBroken, root.entries["host"] == nil, root.entries["server"] == nil {
      complain(root.line, "", "has neither `host` nor `server`: a node needs a role")
    }
    // Each section that is there and wrong has said so.
    guard let node, let tls, problems.isEmpty else { return nil }
    var configuration = Configuration(
      file: file, node: node, tls: tls, host: host ?? nil, server: server ?? nil, status: status ?? nil, warnings: [])
    checkCombinations(configuration, in: root)
    configuration.warnings = warnings
    return configuration
  }

  private mutating func nodeSection(_ entry: Entry) -> Configuration.NodeSection? {
    let section = section(entry, keys: ["name", "data"])
    let name = required("name", in: section, "the name in this machine's certificate").flatMap { hostName($0) }
    let data = path(section.entries["data"], default: "/var/lib/nimbus-journal")
    guard let name, let data else { return nil }
    return .init(name: name, data: data)
  }

  private mutating func tlsSection(_ entry: Entry) -> Configuration.TLSSection? {
    let section = section(entry, keys: ["certificate", "key", "authorities"])
    let hint = "a file in PEM; `nimbus-journal keys` makes one"
    let certificate = required("certificate", in: section, hint).flatMap { path($0) }
    let key = required("key", in: section, hint).flatMap { path($0) }
    let authorities = required("authorities", in: section, hint).flatMap { path($0) }
    guard let certificate, let key, let authorities else { return nil }
    return .init(certificate: certificate, key: key, authorities: authorities)
  }

  private mutating func hostSection(_ entry: Entry) -> Configuration.HostSection? {
    let section = section(entry, keys: ["follow", "servers", "rescan", "poll"])
    let follow = required("follow", in: section, "what to follow: a list of `include` and `exclude` patterns")
      .map { followRules($0) }
    let servers = required("servers", in: section, "where to deliver: a list of `name` and `address`")
      .map { destinations($0) }
    let rescan = duration(
      section.entries["rescan"], default: Limits().rescanInterval, within: .seconds(1)...Interval.seconds(86_400))
    let poll = duration(
      section.entries["poll"], default: Limits().pollInterval, within: .milliseconds(10)...Interval.seconds(3_600))
    guard let follow, let servers, let rescan, let poll else { return nil }
    return .init(follow: follow, servers: servers, rescan: rescan, poll: poll)
  }

  private mutating func serverSection(_ entry: Entry) -> Configuration.ServerSection? {
    let section = section(entry, keys: ["listen", "logs", "credit", "clients", "peers"])
    let listen = required("listen", in: section, "an address and port such as `0.0.0.0:7443`").flatMap {
      self.address($0)
    }
    let logs = path(section.entries["logs"], default: "/srv/nimbus-journal")
    let credit = size(section.entries["credit"], default: 256 << 20, within: 1 << 20...64 << 30)
    if let clients = section.entries["clients"], let mode = word(clients) { clientMode(mode, clients) }
    let peers = section.entries["peers"].map { destinations($0) } ?? []
    guard let listen, let logs, let credit else { return nil }
    return .init(listen: listen, logs: logs, credit: Int(credit), peers: peers)
  }

  private mutating func clientMode(_ mode: String, _ entry: Entry) {
    switch mode {
    case "mutual": break
    case "server-only":
      complain(entry.line, entry.key, "`server-only` is not available in this version: use `mutual`")
    default: complain(entry.line, entry.key, "`\(shown(mode))` is neither `mutual` nor `server-only`")
    }
  }

  private mutating func statusSection(_ entry: Entry) -> Configuration.StatusSection? {
    let section = section(entry, keys: ["listen"])
    let listen = required("listen", in: section, "an address and port such as `127.0.0.1:9443`").flatMap {
      self.address($0)
    }
    return listen.map { .init(listen: $0) }
  }

  // MARK: Lists

  private mutating func followRules(_ entry: Entry) -> [FollowRule] {
    var rules: [FollowRule] = []
    var count = 0
    for item in list(entry, limit: Configuration.maximumPatterns, of: "follow sections") {
      let section = section(item, keys: ["include", "exclude", "links"])
      let include =
        required("include", in: section, "a list of patterns").map { patterns($0, use: .include, count: &count) } ?? []
      let exclude = section.entries["exclude"].map { patterns($0, use: .exclude, count: &count) } ?? []
      let followsAnyLink = section.entries["links"].map { anyLink($0) } ?? false
      rules.append(FollowRule(include: include, exclude: exclude, followsAnyLink: followsAnyLink))
    }
    if count > Configuration.maximumPatterns {
      complain(entry.line, entry.key, "\(count) patterns are more than the \(Configuration.maximumPatterns) allowed")
    }
    return rules
  }

  private mutating func anyLink(_ entry: Entry) -> Bool {
    guard let value = word(entry) else { return false }
    if value != "any", value != "own" {
      complain(entry.line, entry.key, "`\(shown(value))` is neither `own` (links that lend nobody rights) nor `any`")
    }
    return value == "any"
  }

  private mutating func patterns(_ entry: Entry, use: FollowPattern.Use, count: inout Int) -> [BytePath] {
    var result: [BytePath] = []
    for item in list(entry, limit: Configuration.maximumPatterns, of: "patterns") {
      count += 1
      guard let text = text(item) else { continue }
      do throws(FollowPattern.Failure) {
        let pattern = try FollowPattern.resolve(text, use: use, base: base)
        result.append(BytePath(pattern))
      } catch {
        complain(item.line, item.key, error.message)
      }
    }
    return result
  }

  private mutating func destinations(_ entry: Entry) -> [Configuration.Destination] {
    var found: [Configuration.Destination] = []
    for item in list(entry, limit: Configuration.maximumServers, of: "servers") {
      let section = section(item, keys: ["name", "address"])
      let name = required("name", in: section, "the name in the server's certificate").flatMap { hostName($0) }
      let address = required("address", in: section, "`host:port`").flatMap { self.address($0) }
      guard let name, let address else { continue }
      if found.contains(where: { $0.name == name }) {
        complain(item.line, item.key, "the server \(name) is listed twice")
      } else if let other = found.first(where: { $0.address == address }) {
        complain(item.line, item.key, "\(name) and \(other.name) have the same address \(address)")
      }
      found.append(.init(name: name, address: address))
    }
    return found
  }

  static func lineOfBadUTF8(_ bytes: [UInt8]) -> Int {
    var line = 1
    for part in bytes.split(separator: 0x0A, omittingEmptySubsequences: false) {
      if String(validating: part, as: UTF8.self) == nil { return line }
      line += 1
    }
    return line
  }
}
