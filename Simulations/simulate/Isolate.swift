import ArgumentParser
import Foundation
import SimulatedWorld

/// Metamorphic: one destination beside others of all kinds.
struct Isolate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "isolation", abstract: "Server 0 hears the same at the same time, however server 1 fares (G3).")
  @OptionGroup var seeds: LawSeeds
  @Option(help: "Only this law: exact or bounded.") var law: String?
  @Option(help: "Print the first seed's plan beside this neighbour, and don't run it.") var plan: String?

  func run() throws {
    let laws = try law.map { name in
      guard let law = Isolation.Law(rawValue: name) else { throw ValidationError("no law '\(name)'") }
      return [law]
    }
    if let plan {
      guard let neighbour = Isolation.Neighbour(rawValue: plan) else { throw ValidationError("no neighbour '\(plan)'") }
      let base = Isolation.plan(seed: seeds.first, laws?.first ?? .exact)
      return print(Isolation.beside(neighbour, base), terminator: "")
    }
    var isGood = true
    for law in laws ?? Isolation.Law.allCases {
      let holds = seeds.ask("isolation --law \(law.rawValue)") {
        Isolation.report(seed: $0, law)
      } summary: {
        Self.summary($0)
      }
      isGood = isGood && holds
    }
    if !isGood { throw ExitCode.failure }
  }

  private static func summary(_ reports: [Isolation.Report]) -> String {
    let pairs = reports.count * (Isolation.Neighbour.allCases.count - 1)
    let exact = reports.reduce(0) { $0 + $1.exact }
    let events = reports.reduce(0) { $0 + $1.events }
    let late = Double(reports.map(\.late).max() ?? 0) / 1e6
    let share = (reports.map(\.share).max() ?? 0) / 10
    return "beside \(exact) of \(pairs) neighbours equal to the nanosecond, "
      + "at most \(String(format: "%.3f", late)) ms late, \(share) % of what is allowed; \(events) frames"
  }
}
