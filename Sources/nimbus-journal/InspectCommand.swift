import ArgumentParser
import JournalModel
import NodeRuntime

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Reads the journals, also while the node runs, also of a copied data folder.",
    discussion: "Alone it prints an overview. --config defaults to \(ConfigurationOption.standard).",
    subcommands: [Overview.self, Events.self, Files.self, Hosts.self, DigestOfAll.self],
    defaultSubcommand: Overview.self)

  struct Source: ParsableArguments {
    @Option(help: "The configuration file. (default: \(ConfigurationOption.standard))")
    var config: String?
    @Option(help: "Instead of --config: a data folder (node.data), or a copy of one.")
    var data: String?
    @Option(help: "With --data: the log root (server.logs), or a copy of it.")
    var logs: String?
    @Option(help: "Only this host.")
    var host: String?
    @Flag(help: "One JSON object a line.")
    var json = false

    var filter: HostName? { host.flatMap { HostName($0) } }

    func validate() throws {
      guard config == nil || data == nil else { throw ValidationError("Give either --config or --data.") }
      if logs != nil, data == nil { throw ValidationError("--logs goes with --data.") }
      if let host, HostName(host) == nil { throw ValidationError("'\(host)' is not a host name.") }
    }

    func open() throws -> Inspection {
      let inspection = try opened()
      guard let filter else { return inspection }
      // A name that nobody has is a typo, and an empty list would read like 'nothing is held'.
      let hosts = Set(try reported { try inspection.journals().map(\.host.text) })
      guard hosts.contains(filter.text) else {
        throw CommandFailure(
          message: "no journal of a host '\(filter)' is here, only of: \(hosts.sorted().joined(separator: ", "))")
      }
      return inspection
    }

    /// The node's name, where it is known.
    func name() throws -> String? {
      try data == nil ? ConfigurationOption.reading(config).node.name.text : nil
    }

    private func opened() throws -> Inspection {
      if let data {
        return try reported { try Inspection(data: DataFolder(path: data), logs: logs, destinations: []) }
      }
      let configuration = try ConfigurationOption.reading(config)
      return try reported {
        try Inspection(
          data: configuration.dataFolder, logs: configuration.server?.logs,
          destinations: configuration.host?.servers.map(\.name.text) ?? [])
      }
    }
  }

  struct Overview: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "What is here: journals with their heads, files, bytes, gaps (printed when no other is named).")
    @OptionGroup var source: Source

    func run() throws {
      let inspection = try source.open()
      let name = try source.name()
      let overview = try reported { try inspection.overview(name: name, of: source.filter) }
      if source.json {
        print(try JSON.line(overview))
      } else {
        print(InspectionText.overview(overview), terminator: "")
      }
      try reported { try inspection.complain() }
    }
  }

  struct Events: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Every record of the journals, in order.")
    @OptionGroup var source: Source

    func run() throws {
      let inspection = try source.open()
      try reported {
        for journal in try inspection.journals(of: source.filter) {
          try inspection.forEachRecord(of: journal) { number, record in
            let event = InspectedEvent(journal, number, record)
            if source.json { return print(try JSON.line(event)) }
            let file = event.file.map { String($0.prefix(8)) } ?? "-"
            print("\(event.time)  \(event.host)  \(number)  \(event.type)  \(file)  \(event.detail)")
          }
        }
        try inspection.complain()
      }
    }
  }

  struct Files: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Every file, with what is journaled and what is durable.")
    @OptionGroup var source: Source

    func run() throws {
      let inspection = try source.open()
      let rows = try reported { try inspection.files(of: source.filter) }
      if source.json {
        for row in rows { print(try JSON.line(row)) }
      } else {
        print(InspectionText.files(rows), terminator: "")
      }
      try reported { try inspection.complain() }
    }
  }

  struct DigestOfAll: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "digest", abstract: "One line for all that a server holds: equal on servers that hold the same.")
    @OptionGroup var source: Source

    func run() throws {
      let inspection = try source.open()
      let digest = try reported { try inspection.digest(of: source.filter) }
      print(source.json ? try JSON.line(digest) : digest.line)
      try reported { try inspection.complain() }
    }
  }

  struct Hosts: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Every host, with its journals and totals.")
    @OptionGroup var source: Source

    func run() throws {
      let inspection = try source.open()
      let rows = try reported { try inspection.hosts(of: source.filter) }
      if source.json {
        for row in rows { print(try JSON.line(row)) }
      } else {
        print(InspectionText.hosts(rows), terminator: "")
      }
      try reported { try inspection.complain() }
    }
  }
}
