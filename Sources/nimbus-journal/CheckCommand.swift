import ArgumentParser
import NodeRuntime

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Checks configuration, keys, directories and limits, and reaches each server.",
    discussion: "One line for each finding: ok, warn or FAIL. The exit status is 1 if anything fails.")

  @OptionGroup var options: ConfigurationOption
  @Flag(help: "Don't connect to any server.")
  var offline = false

  func run() throws {
    var findings: [Finding] = []
    var failed = 0
    func show(_ finding: Finding) {
      print(finding)
      findings.append(finding)
      if finding.grade == .fail { failed += 1 }
    }
    do {
      let configuration = try Configuration.read(file: options.config)
      NodeCheck(configuration).run(offline: offline, show)
    } catch {
      for problem in error.problems { show(Finding(.fail, "configuration", "\(problem)")) }
    }
    if failed > 0 { throw CommandFailure(message: "\(failed) of \(findings.count) checks failed") }
  }
}
