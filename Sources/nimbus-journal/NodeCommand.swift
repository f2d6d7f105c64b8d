import ArgumentParser
import NodeRuntime

struct NodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node", abstract: "Runs the node in the foreground.",
    discussion: "Tells systemd READY=1. SIGTERM stops it cleanly. Logs go to standard error.")

  @OptionGroup var options: ConfigurationOption

  func run() throws {
    let configuration = try options.read()
    let status = try reported { try Node.run(configuration) }
    if status != 0 { throw CommandFailure(message: "", status: status) }
  }
}
