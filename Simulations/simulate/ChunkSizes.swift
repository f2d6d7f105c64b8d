import ArgumentParser
import Foundation
import SimulatedWorld

/// Metamorphic: the same plans with other sizes.
struct ChunkSizes: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chunks", abstract: "Other frames, extents, slices and reads leave the same contents.")
  @Option(help: "How many seeds.") var seeds: UInt64 = 50
  @Option(help: "The first one.") var first: UInt64 = 1
  @Option(help: "Processes at a time.") var jobs: Int = ProcessInfo.processInfo.activeProcessorCount

  func run() throws {
    let begin = Date()
    let reports = Shares.run(first..<(first + seeds), jobs: jobs) { Chunks.report(seed: $0) }
    let failed = reports.filter { !$0.failures.isEmpty }
    for report in failed {
      for failure in report.failures.prefix(5) { print("FAILED seed \(report.seed), \(failure)") }
      print("  simulate chunks --first \(report.seed) --seeds 1")
    }
    let sizes = Chunks.variants(of: Plan(seed: 0)).count
    let strings = reports.reduce(0) { $0 + $1.strings }
    let seconds = String(format: "%.1f s", Date().timeIntervalSince(begin))
    print("\(reports.count) seeds in \(sizes) other sizes, \(failed.count) failed; \(strings) strings, \(seconds)")
    if !failed.isEmpty { throw ExitCode.failure }
  }
}
