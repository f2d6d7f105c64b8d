import ArgumentParser
import Foundation
import SimulatedWorld

/// Metamorphic: one destination beside others of all kinds.
struct Isolate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "isolation", abstract: "Server 0 hears the same at the same time, however server 1 fares (G3).")
  @Option(help: "How many seeds.") var seeds: UInt64 = 50
  @Option(help: "The first one.") var first: UInt64 = 1
  @Option(help: "Processes at a time.") var jobs: Int = ProcessInfo.processInfo.activeProcessorCount
  @Option(help: "Only this law: exact or bounded.") var law: String?
  @Option(help: "Print the first seed's plan beside this neighbour, and don't run it.") var plan: String?

  func run() throws {
    let laws = try law.map { name in
      guard let law = Isolation.Law(rawValue: name) else { throw ValidationError("no law '\(name)'") }
      return [law]
    }
    if let plan {
      guard let neighbour = Isolation.Neighbour(rawValue: plan) else { throw ValidationError("no neighbour '\(plan)'") }
      return print(Isolation.beside(neighbour, Isolation.plan(seed: first, laws?.first ?? .exact)), terminator: "")
    }
    var isGood = true
    for law in laws ?? Isolation.Law.allCases {
      let begin = Date()
      let reports = Shares.run(first..<(first + seeds), jobs: jobs) { Isolation.report(seed: $0, law) }
      let failed = show(reports, law)
      print("\(law): \(Self.summary(reports)), \(String(format: "%.1f s", Date().timeIntervalSince(begin)))")
      isGood = isGood && failed == 0
    }
    if !isGood { throw ExitCode.failure }
  }

  /// How many failed.
  private func show(_ reports: [Isolation.Report], _ law: Isolation.Law) -> Int {
    let failed = reports.filter { !$0.failures.isEmpty }
    for report in failed {
      for failure in report.failures { print("FAILED seed \(report.seed), \(failure)") }
      print("  simulate isolation --first \(report.seed) --seeds 1 --law \(law.rawValue)")
    }
    return failed.count
  }

  private static func summary(_ reports: [Isolation.Report]) -> String {
    let failed = reports.count { !$0.failures.isEmpty }
    let pairs = reports.count * (Isolation.Neighbour.allCases.count - 1)
    let exact = reports.reduce(0) { $0 + $1.exact }
    let events = reports.reduce(0) { $0 + $1.events }
    let late = Double(reports.map(\.late).max() ?? 0) / 1e6
    let share = (reports.map(\.share).max() ?? 0) / 10
    return "\(reports.count) seeds, \(failed) failed; beside \(exact) of \(pairs) neighbours equal to the nanosecond, "
      + "at most \(String(format: "%.3f", late)) ms late, \(share) % of what is allowed; \(events) frames"
  }
}

/// Seeds over the cores, in threads; a world is one thread's own.
enum Shares {
  private final class Results<T>: @unchecked Sendable {
    let lock = NSLock()
    var all: [UInt64: T] = [:]
  }

  static func run<T: Sendable>(_ seeds: Range<UInt64>, jobs: Int, _ check: @Sendable (UInt64) -> T) -> [T] {
    let results = Results<T>()
    let jobs = max(1, jobs)
    DispatchQueue.concurrentPerform(iterations: jobs) { job in
      var seed = seeds.lowerBound + UInt64(job)
      while seed < seeds.upperBound {
        let result = check(seed)
        results.lock.withLock { results.all[seed] = result }
        seed += UInt64(jobs)
      }
    }
    return results.all.sorted { $0.key < $1.key }.map(\.value)
  }
}
