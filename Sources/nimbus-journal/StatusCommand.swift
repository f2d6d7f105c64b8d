import ArgumentParser
import Glibc
import JournalModel
import NodeRuntime

struct StatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Asks the running node how it is doing.",
    discussion: "With --settled the exit status is 0 once all that existed at the start is durable on every server, "
      + "and 3, with a list, if that isn't reached in time.")

  @OptionGroup var options: ConfigurationOption
  @Flag(help: "One JSON object.")
  var json = false
  @Option(help: "Wait so long, at most, until all that exists now is durable on every server: `60s`, `5m`.")
  var settled: String?
  @Flag(help: "With --settled: gaps and refused files count as settled.")
  var allowGaps = false

  func validate() throws {
    if allowGaps, settled == nil { throw ValidationError("--allow-gaps goes with --settled.") }
    if let settled { _ = try timeout(settled) }
  }

  func run() throws {
    let configuration = try options.read()
    if let settled {
      try settle(configuration, try timeout(settled))
    } else {
      guard let status = try ask(.status, configuration, patience: 30).status else { throw Self.noAnswer }
      try show(status)
    }
  }

  private func settle(_ configuration: Configuration, _ seconds: Double) throws {
    let end = ContinuousClock.now + .seconds(seconds)
    var (result, verdict) = try settlement(configuration, seconds)
    var pause = Duration.milliseconds(200)
    // All is delivered, but for a gap or a file that waits alone: a gap may be filled by the servers' peers, a file is tried
    // again.
    while !verdict.isSettled, result.reached, ContinuousClock.now + pause < end {
      poll(nil, 0, Int32(pause / .milliseconds(1)))
      pause = min(pause * 2, .seconds(5))
      let again = try settlement(configuration, max(0, (end - ContinuousClock.now) / .seconds(1)))
      // Out of time: what was missing before is said.
      guard again.0.reached else { break }
      (result, verdict) = again
    }
    var status = result.status
    status.settled = verdict.isSettled
    try show(status)
    guard verdict.isSettled else {
      let list = verdict.reasons.joined(separator: "\n  ")
      throw CommandFailure(message: "not settled:\n  \(list)", status: CommandFailure.unsettled)
    }
  }

  private func settlement(
    _ configuration: Configuration, _ seconds: Double
  ) throws -> (SettleResult, SettleVerdict) {
    let answer = try ask(.settle(timeout: seconds), configuration, patience: Int(seconds) + 30)
    guard let result = answer.settle else { throw Self.noAnswer }
    return (result, SettleVerdict(result, allowGaps: allowGaps))
  }

  private static let noAnswer = CommandFailure(message: "the node gave another answer than the one asked for")

  private func ask(_ request: ControlRequest, _ configuration: Configuration, patience: Int) throws -> ControlAnswer {
    do {
      return try ControlClient.ask(request, at: configuration.controlSocket, timeout: patience)
    } catch {
      throw CommandFailure(
        message: "\(error)\nis the node running? start it with: nimbus-journal node --config \(options.config)")
    }
  }

  private func timeout(_ text: String) throws -> Double {
    do {
      let seconds = Double(try Quantity.duration(text).nanoseconds) / 1e9
      guard seconds <= ControlRequest.longestTimeout else { throw ValidationError("--settled waits for 1d at most.") }
      return seconds
    } catch let failure as Quantity.Failure {
      throw ValidationError("--settled: \(failure.message).")
    }
  }

  private func show(_ status: NodeStatus) throws {
    if json { print(try JSON.line(status)) } else { print(StatusText(status).text, terminator: "") }
  }
}
