import ArgumentParser
import Foundation
import SimulatedWorld

/// The deterministic simulator: see `design/simulation.md`.
@main struct Simulate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate", abstract: "Runs the real core in a simulated world, under every fault.",
    subcommands: [
      Run.self, Swarm.self, Replay.self, Shrink.self, Mutants.self, EveryEffect.self, Isolate.self, ChunkSizes.self,
      MergeOrders.self, EachByteOnce.self, ExhaustiveSearch.self, Worker.self,
    ])
}

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Runs the plan that a seed gives.")
  @Option(help: "The seed.") var seed: UInt64
  @Flag(help: "Print the plan and don't run it.") var plan = false
  @Flag(help: "Print every input and effect.") var trace = false

  func run() throws {
    let drawn = PlanGenerator.plan(seed: seed)
    if plan { return print(drawn, terminator: "") }
    try finish(Simulation.run(drawn, observer: trace ? { print($0) } : nil)) {
      FailureLine.text(seed: seed, failure: $0, plans: FailureLine.plans)
    }
  }
}

struct Replay: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Runs stored plans.")
  @Argument(help: "Plan files.") var plans: [String]
  @Flag(help: "Print every input and effect.") var trace = false

  func run() throws {
    for path in plans {
      let text = try String(contentsOfFile: path, encoding: .utf8)
      let plan = try Plan(text: text)
      try finish(Simulation.run(plan, observer: trace ? { print($0) } : nil)) {
        FailureLine.text(seed: plan.seed, plan: path, failure: $0)
      }
    }
  }
}

struct Shrink: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Makes a failing plan smaller.")
  @Argument(help: "A plan file.") var plan: String?
  @Option(help: "Or a seed.") var seed: UInt64?
  @Option(help: "Under a planted bug.") var mutant: String?
  @Option(help: "Where the smaller plan goes; else standard output.") var output: String?
  @Option(help: "The most runs.") var runs = 10_000

  func run() throws {
    let whole: Plan
    if let plan {
      whole = try Plan(text: String(contentsOfFile: plan, encoding: .utf8))
    } else {
      guard let seed else { throw ValidationError("a plan or a seed") }
      whole = PlanGenerator.plan(seed: seed)
    }
    let mutant = try self.mutant.map { try Mutants.named($0) }
    guard var shrinker = Shrinker(whole, mostRuns: runs, run: { Simulation.run($0, mutant: mutant, observer: nil) })
    else {
      print("the plan doesn't fail")
      throw ExitCode.failure
    }
    let small = shrinker.shrink()
    let outcome = Simulation.run(small, mutant: mutant, observer: nil)
    let comment = "# \(outcome.failure.map(String.init(describing:)) ?? "passes")\n"
    if let output {
      try (comment + "\(small)").write(toFile: output, atomically: true, encoding: .utf8)
    } else {
      print(comment + "\(small)", terminator: "")
    }
    printError("\(whole.operations.count) operations became \(small.operations.count) in \(shrinker.runs) runs")
  }
}

func printError(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

func finish(_ outcome: Outcome, line: (String) -> String) throws {
  let seconds = Double(outcome.simulated) / 1e9
  print(
    "seed \(outcome.seed): \(outcome.operations) operations, \(outcome.events) events, \(outcome.steps) inputs, "
      + "\(outcome.bytes) payload bytes, \(String(format: "%.1f", seconds)) s simulated, digest \(outcome.digest)")
  guard let failure = outcome.failure else { return }
  print(line("\(failure)"))
  throw ExitCode.failure
}
