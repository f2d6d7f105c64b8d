import ArgumentParser
import Foundation
import SimulatedWorld

/// Every failure at every effect of scripted scenarios: one run each, all oracles on.
struct EveryEffect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs plans with every failure at every effect of every node, or repeats one of these runs.")
  @Argument(help: "Plan files.") var plans: [String]
  @Option(help: "Only this node.") var node: String?
  @Option(help: "Only this effect of the node, counted from 0.") var effect: Int?
  @Option(help: "Only these faults (kill, powerCut, killUnanswered, powerCutUnanswered, EIO, ENOSPC, failSync, reset).")
  var fault: [String] = []
  @Option(help: "Only one run in so many, another one for each effect.") var step = 1
  @Option(help: "Processes at a time.") var jobs: Int = ProcessInfo.processInfo.activeProcessorCount
  @Option(help: "Print so many failures of each scenario.") var failures: Int = 5
  @Flag(help: "Print every input and effect of the one run.") var trace = false
  @Flag(help: "Print the plan of the one run.") var plan = false
  @Option(help: .hidden) var share: Int?
  @Option(help: .hidden) var from = 0

  mutating func validate() throws {
    for name in fault where Strike.Fault(rawValue: name) == nil { throw ValidationError("no fault '\(name)'") }
    if let node, Node(text: node) == nil { throw ValidationError("no node '\(node)'") }
    if step < 1 || jobs < 1 { throw ValidationError("at least 1") }
  }

  func run() throws {
    if let share { return try work(share) }
    if plan || trace { return try repeatOne() }
    let begin = Date()
    let tally = Tally(paths: plans, mostFailures: failures)
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    DispatchQueue.concurrentPerform(iterations: jobs) { share in
      var from: Int? = 0
      while let next = from { from = child(own, share: share, from: next, tally) }
    }
    let isGood = tally.print(seconds: Date().timeIntervalSince(begin))
    if !isGood { throw ExitCode.failure }
  }

  // MARK: One run

  private func repeatOne() throws {
    guard plans.count == 1, let path = plans.first else { throw ValidationError("one plan") }
    let chosen = try strikes(Self.read(path)).strikes
    guard chosen.count == 1, let strike = chosen.first else {
      throw ValidationError("\(chosen.count) runs fit: name node, effect and fault")
    }
    var struck = try Self.read(path)
    struck.strike = strike
    if plan { return print(struck, terminator: "") }
    let outcome = Simulation.run(struck, observer: { print($0) })
    try finish(outcome) {
      FailureLine.text(seed: struck.seed, plan: path, failure: $0, replay: Self.command(path, strike))
    }
  }

  static func command(_ path: String, _ strike: Strike) -> String {
    "simulate every-effect \(path) --node \(strike.node) --effect \(strike.effect) --fault \(strike.fault.rawValue)"
  }

  static func read(_ path: String) throws -> Plan {
    try Plan(text: String(contentsOfFile: path, encoding: .utf8))
  }

  private func strikes(_ plan: Plan) throws -> (clean: Outcome, strikes: [Strike]) {
    let all = try Simulation.strikes(of: plan)
    let chosen = all.strikes.enumerated().filter { index, strike in
      (node.map { $0 == "\(strike.node)" } ?? true) && (effect.map { $0 == strike.effect } ?? true)
        && (fault.isEmpty || fault.contains(strike.fault.rawValue)) && index % step == 0
    }
    return (all.clean, chosen.map(\.element))
  }

  // MARK: Shares

  /// A child's share of all runs, each announced, so that a trap is a failure of that run.
  private func work(_ share: Int) throws {
    var number = -1
    for (index, path) in plans.enumerated() {
      let plan = try Self.read(path)
      let (clean, strikes) = try strikes(plan)
      if share == 0, from == 0 {
        emit("C \(index) \(clean.failure.map { "\($0)" } ?? "")")
        for (node, count) in effectCounts(strikes) { emit("N \(index) \(node) \(count)") }
      }
      for strike in strikes {
        number += 1
        guard number % jobs == share, number >= from else { continue }
        emit("B \(number) \(index) \(strike.node) \(strike.effect) \(strike.fault.rawValue)")
        var struck = plan
        struck.strike = strike
        let failure = Simulation.run(struck).failure
        emit("E \(index) \(failure.map { "\($0)".replacingOccurrences(of: "\n", with: " ") } ?? "")")
      }
    }
  }

  private func effectCounts(_ strikes: [Strike]) -> [(Node, Int)] {
    Dictionary(grouping: strikes, by: \.node).map { ($0.key, ($0.value.map(\.effect).max() ?? -1) + 1) }
      .sorted { $0.0 < $1.0 }
  }

  private func emit(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

  /// Runs a share until its end or a trap; where to go on after that.
  private func child(_ own: String, share: Int, from: Int, _ tally: Tally) -> Int? {
    var arguments = ["every-effect"] + plans
    arguments += ["--share", "\(share)", "--from", "\(from)", "--jobs", "\(jobs)", "--step", "\(step)"]
    for name in fault { arguments += ["--fault", name] }
    if let node { arguments += ["--node", node] }
    if let effect { arguments += ["--effect", "\(effect)"] }
    var begun: [String] = []
    let isFinished = ChildProcess.lines(of: own, arguments) { line in
      let words = line.split(separator: " ", maxSplits: 5).map(String.init)
      if words.first == "B" { begun = words }
      tally.take(words, begun: begun, line)
      if words.first == "E" { begun = [] }
    }
    if isFinished { return nil }
    guard begun.count == 6, let number = Int(begun[1]) else {
      tally.broke("a child process died before its first run")
      return nil
    }
    tally.take(["E", begun[2]], begun: begun, "E \(begun[2]) the process died")
    return number + 1
  }
}

/// What came of all runs, by scenario.
private final class Tally: @unchecked Sendable {
  private struct Scenario {
    var runs = 0
    var failed = 0
    var effects: [String] = []
  }
  private let lock = NSLock()
  private let paths: [String]
  private let mostFailures: Int
  private var scenarios: [Scenario]
  private var isBroken = false

  init(paths: [String], mostFailures: Int) {
    self.paths = paths
    self.mostFailures = mostFailures
    scenarios = paths.map { _ in Scenario() }
  }

  func broke(_ text: String) {
    lock.withLock { isBroken = true }
    Swift.print("FAILED: \(text)")
  }

  func take(_ words: [String], begun: [String], _ line: String) {
    guard words.count >= 2, let index = Int(words[1]), scenarios.indices.contains(index) else { return }
    let text = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false).dropFirst(2).joined()
    lock.withLock {
      switch words[0] {
      case "C": if !text.isEmpty { fail(index, "without a strike: \(text)", "simulate replay \(paths[index])") }
      case "N": scenarios[index].effects.append(text.replacingOccurrences(of: " ", with: ": "))
      case "E":
        scenarios[index].runs += 1
        guard !text.isEmpty, begun.count == 6 else { return }
        let command =
          "simulate every-effect \(paths[index]) --node \(begun[3]) --effect \(begun[4]) --fault \(begun[5])"
        fail(index, text, command)
      default: break
      }
    }
  }

  private func fail(_ index: Int, _ text: String, _ command: String) {
    scenarios[index].failed += 1
    if scenarios[index].failed <= mostFailures { Swift.print("FAILED \(text)\n  \(command) --trace") }
  }

  func print(seconds: Double) -> Bool {
    for (path, scenario) in zip(paths, scenarios) {
      let name = (path as NSString).lastPathComponent.replacingOccurrences(of: ".plan", with: "")
        .padding(toLength: 32, withPad: " ", startingAt: 0)
      Swift.print(
        "\(name) \(scenario.runs) runs, \(scenario.failed) failed (\(scenario.effects.joined(separator: ", ")))")
    }
    let runs = scenarios.reduce(0) { $0 + $1.runs }
    let failed = scenarios.reduce(0) { $0 + $1.failed }
    Swift.print("\(paths.count) scenarios, \(runs) runs, \(failed) failed, \(String(format: "%.1f s", seconds))")
    return failed == 0 && !isBroken
  }
}
