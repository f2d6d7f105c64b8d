import ArgumentParser
import Foundation
import SimulatedWorld

/// Plants each bug in turn and counts the seeds until an oracle sees it.
struct Mutants: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Plants bugs; every one of them must be found.")
  @Argument(help: "Which; all when none is named.") var names: [String] = []
  @Option(help: "The most seeds for each.") var seeds: UInt64 = 300
  @Option(help: "The first seed.") var first: UInt64 = 1

  static func named(_ name: String) throws -> Mutant {
    guard let mutant = Mutant(rawValue: name) else { throw ValidationError("no mutant '\(name)'") }
    return mutant
  }

  func run() throws {
    let chosen = try names.isEmpty ? Mutant.allCases : names.map(Self.named)
    var survivors: [Mutant] = []
    for mutant in chosen {
      let begin = Date()
      var found: Outcome?
      for seed in first..<(first + seeds) where found == nil {
        let outcome = Self.runApart(seed, mutant)
        if outcome?.failure != nil { found = outcome }
      }
      let seconds = String(format: "%.1f s", Date().timeIntervalSince(begin))
      let name = mutant.rawValue.padding(toLength: 28, withPad: " ", startingAt: 0)
      if let found, let failure = found.failure {
        print("\(name) \(found.seed - first + 1) seeds, \(seconds), \(failure.oracle.rawValue): \(failure.text.prefix(110))")
      } else {
        print("\(name) SURVIVED \(seeds) seeds, \(seconds)")
        survivors.append(mutant)
      }
    }
    print("\(chosen.count - survivors.count) of \(chosen.count) found")
    if !survivors.isEmpty { throw ExitCode.failure }
  }

  private static func runApart(_ seed: UInt64, _ mutant: Mutant) -> Outcome? {
    Simulation.run(PlanGenerator.plan(seed: seed), mutant: mutant, observer: nil)
  }
}
