import ArgumentParser
import NodeRuntime

struct KeysCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "keys", abstract: "Makes a private certificate authority and certificates for a fleet.",
    discussion: "Certificates of any other authority work as well.", subcommands: [Authority.self, Issue.self])

  struct Authority: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Makes an authority: ca.crt, which every node gets, and ca.key, which stays where it is safe.")

    @Argument(help: "Where to put ca.crt and ca.key. Made if missing; nothing is replaced.")
    var directory: String

    func run() throws {
      let made = try reported { try Keys.makeAuthority(in: directory) }
      for path in made { print(path) }
    }
  }

  struct Issue: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Issues NAME.crt and NAME.key.")

    @Argument(help: "Where ca.crt and ca.key lie.")
    var directory: String
    @Option(help: "The node's name: node.name in its configuration.")
    var name: String
    @Option(help: "What it may be used for: host, server or importer. May be given several times.")
    var role: [String]
    @Option(name: .customLong("for"), help: "A host that an importer may write for. May be given several times.")
    var hosts: [String] = []
    @Option(help: "An IP address or DNS name beside the name. May be given several times.")
    var address: [String] = []
    @Option(help: "Where to put NAME.crt and NAME.key. Made if missing; nothing is replaced.")
    var out: String

    func run() throws {
      let made = try reported {
        try Keys.issue(from: directory, name: name, roles: role, hosts: hosts, addresses: address, into: out)
      }
      for path in made { print(path) }
    }
  }
}
