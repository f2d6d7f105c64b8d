import ArgumentParser
import Glibc
import NodeRuntime

@main struct NimbusJournal: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nimbus-journal",
    abstract: "Delivers log files to servers: every byte, at its place, exactly once.",
    discussion: "Machine-readable output goes to standard output, logs go to standard error. The exit status is 0 only "
      + "when what was asked holds.",
    version: "nimbus-journal 0.1.0, protocol 1, formats 2",
    subcommands: [
      NodeCommand.self, CheckCommand.self, KeysCommand.self, StatusCommand.self, InspectCommand.self,
    ])

  /// Commands throw what they found out as an error that describes itself.
  static func main() {
    if CommandLine.arguments.dropFirst().first == InspectCommand.configuration.commandName,
      let end = ProcessApart.run()
    {
      switch end {
      case .status(let status): Glibc.exit(status)
      case .crash(let signal):
        complain(
          "reading the store ended this command's process with signal \(signal): the store is damaged, or its disk can't "
            + "be read (dmesg); what was printed is not all. README, Troubleshooting, says what to do")
        Glibc.exit(EXIT_FAILURE)
      }
    }
    do {
      var command = try parseAsRoot()
      try command.run()
      flush(EXIT_SUCCESS)
    } catch let failure as CommandFailure {
      complain(failure.message)
      flush(failure.status)
    } catch {
      fflush(nil)
      exit(withError: error)
    }
  }

  /// Output that couldn't be written is no success. Threads may still run, or be about to end: what libraries free at the
  /// exit of a process (`OPENSSL_cleanup`, OPENSSL_init_crypto(3)) they may be using, or freeing themselves
  /// (openssl/openssl issue 6214), so it isn't asked for.
  private static func flush(_ status: Int32) -> Never {
    guard fflush(nil) == 0 else { _exit(status == 0 ? EXIT_FAILURE : status) }
    _exit(status)
  }
}
