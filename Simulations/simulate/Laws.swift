import ArgumentParser
import Foundation
import SimulatedWorld

/// The seeds that a metamorphic law is asked of: what its commands have in common.
struct LawSeeds: ParsableArguments {
  @Option(help: "How many seeds.") var seeds: UInt64 = 50
  @Option(help: "The first one.") var first: UInt64 = 1
  @Option(help: "Processes at a time.") var jobs: Int = ProcessInfo.processInfo.activeProcessorCount

  /// Prints what failed, each seed with the command that shows it again, and a line about them all. True when none did.
  func ask<Report: LawReport>(
    _ command: String, _ check: @Sendable (UInt64) -> Report, summary: ([Report]) -> String
  ) -> Bool {
    let begin = Date()
    let reports = Self.run(first..<(first + seeds), jobs: jobs, check)
    let failed = reports.filter { !$0.failures.isEmpty }
    for report in failed {
      for failure in report.failures.prefix(5) { print("FAILED seed \(report.seed), \(failure)") }
      print("  simulate \(command) --first \(report.seed) --seeds 1")
    }
    let seconds = String(format: "%.1f s", Date().timeIntervalSince(begin))
    print("\(command): \(reports.count) seeds, \(failed.count) failed; \(summary(reports)), \(seconds)")
    return failed.isEmpty
  }

  /// Seeds over the cores, in threads; a world is one thread's own.
  private static func run<T: Sendable>(_ seeds: Range<UInt64>, jobs: Int, _ check: @Sendable (UInt64) -> T) -> [T] {
    let results = Locked([UInt64: T]())
    let jobs = max(1, jobs)
    DispatchQueue.concurrentPerform(iterations: jobs) { job in
      for seed in stride(from: seeds.lowerBound + UInt64(job), to: seeds.upperBound, by: jobs) {
        let result = check(seed)
        results.with { $0[seed] = result }
      }
    }
    return results.with { $0.sorted { $0.key < $1.key }.map(\.value) }
  }
}

/// Metamorphic: the same plans with other sizes.
struct ChunkSizes: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chunks", abstract: "Other frames, extents, slices and reads leave the same contents.")
  @OptionGroup var seeds: LawSeeds

  func run() throws {
    let sizes = Chunks.variants(of: Plan(seed: 0)).count
    let isGood = seeds.ask("chunks") {
      Chunks.report(seed: $0)
    } summary: { reports in
      "\(sizes) other sizes, \(reports.reduce(0) { $0 + $1.strings }) strings"
    }
    if !isGood { throw ExitCode.failure }
  }
}

/// Metamorphic: what hosts deliver, delivered again and in other orders.
struct MergeOrders: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge", abstract: "Repetition and another admissible order leave the same holdings.")
  @OptionGroup var seeds: LawSeeds

  func run() throws {
    let isGood = seeds.ask("merge") {
      Merge.report(seed: $0)
    } summary: { reports in
      func sum(_ value: KeyPath<Merge.Report, Int>) -> Int { reports.reduce(0) { $0 + $1[keyPath: value] } }
      return
        "\(sum(\.deliveries)) deliveries, \(sum(\.files)) files, \(sum(\.frames)) frames, \(sum(\.repeats)) repeated"
    }
    if !isGood { throw ExitCode.failure }
  }
}

/// In a world without faults.
struct EachByteOnce: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "once", abstract: "Where nothing is disturbed, servers are sent what they lack once.")
  @OptionGroup var seeds: LawSeeds
  @Flag(help: "Print the first seed's plan and don't run it.") var plan = false

  func run() throws {
    if plan { return print(Once.plan(seed: seeds.first), terminator: "") }
    let isGood = seeds.ask("once") {
      Once.report(seed: $0)
    } summary: { reports in
      "\(reports.reduce(0) { $0 + $1.sent }) bytes sent by peers"
    }
    if !isGood { throw ExitCode.failure }
  }
}
