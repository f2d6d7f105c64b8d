import ArgumentParser
import Glibc
import NodeRuntime

/// Why what was asked doesn't hold, and the exit status that says so.
struct CommandFailure: Error {
  /// Empty when it has been said already.
  var message: String
  var status: Int32 = EXIT_FAILURE

  /// `status --settled` was not reached.
  static let unsettled: Int32 = 3
}

func complain(_ message: String) {
  guard !message.isEmpty else { return }
  LineLog.standardError("nimbus-journal: \(message)\n")
}

/// Gives errors that describe themselves to the operator as they are.
func reported<T>(_ body: () throws -> T) throws -> T {
  do {
    return try body()
  } catch let failure as CommandFailure {
    throw failure
  } catch let failure as ExitCode {
    throw failure
  } catch {
    throw CommandFailure(message: String(describing: error))
  }
}

struct ConfigurationOption: ParsableArguments {
  /// Where packages put it.
  static let standard = "/etc/nimbus-journal/node.yaml"

  @Option(name: .long, help: "The configuration file.")
  var config = Self.standard

  func read() throws -> Configuration {
    do {
      return try Configuration.read(file: config)
    } catch {
      let count = error.problems.count
      throw CommandFailure(
        message: "the configuration can't be used: \(count == 1 ? "1 problem" : "\(count) problems")\n\(error)")
    }
  }
}

extension ConfigurationOption {
  static func reading(_ file: String?) throws -> Configuration {
    var option = ConfigurationOption()
    option.config = file ?? standard
    return try option.read()
  }
}
