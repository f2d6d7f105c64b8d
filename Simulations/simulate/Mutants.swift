import ArgumentParser
import Foundation
import SimulatedWorld

/// Plants each bug in turn and counts the seeds until an oracle sees it.
struct Mutants: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Plants bugs; every one of them must be found.")
  @Argument(help: "Which; all when none is named.") var names: [String] = []
  @Option(help: "The most seeds for each.") var seeds: UInt64 = 300
  @Option(help: "The first seed.") var first: UInt64 = 1
  @Option(help: "Processes at a time.") var jobs: Int = ProcessInfo.processInfo.activeProcessorCount
  @Option(help: "A file of 'mutant seed' lines: that seed is tried before the search.") var known: String?
  @Flag(help: "Search, and write the fastest seeds found to the file of --known.") var record = false

  static func named(_ name: String) throws -> Mutant {
    guard let mutant = Mutant(rawValue: name) else { throw ValidationError("no mutant '\(name)'") }
    return mutant
  }

  /// How a planted bug was found.
  private struct Finding {
    var report: SeedReport
    /// Seeds run until then; nil: by the known one.
    var count: UInt64?
  }

  func run() throws {
    let chosen = try names.isEmpty ? Mutant.allCases.filter { !$0.isMissed } : names.map(Self.named)
    var seedOf = try Self.read(known, mayLack: record)
    let findings = Locked([Mutant: Finding]())
    let next = Locked(0)
    let (known, begin) = (record ? [:] : seedOf, Date())
    DispatchQueue.concurrentPerform(iterations: max(1, min(jobs, chosen.count))) { _ in
      while true {
        let index = next.with { value in
          defer { value += 1 }
          return value
        }
        guard index < chosen.count else { return }
        let mutant = chosen[index]
        let start = Date()
        let finding = find(mutant, known: known[mutant])
        findings.with { $0[mutant] = finding }
        describe(mutant, finding, seconds: Date().timeIntervalSince(start))
      }
    }
    let found = findings.with { $0 }
    if record {
      for (mutant, finding) in found { seedOf[mutant] = finding.report.seed }
      try write(seedOf)
    }
    let seconds = String(format: "%.1f s", Date().timeIntervalSince(begin))
    print("\(found.count) of \(chosen.count) found, \(seconds)")
    if found.count < chosen.count { throw ExitCode.failure }
  }

  private func find(_ mutant: Mutant, known seed: UInt64?) -> Finding? {
    if let seed, let report = Self.failures(mutant, from: seed, count: 1, untilFailure: true).first {
      return Finding(report: report, count: nil)
    }
    guard let report = Self.failures(mutant, from: first, count: seeds, untilFailure: true).first else { return nil }
    let count = report.seed - first + 1
    guard record else { return Finding(report: report, count: count) }
    // The fastest of those that follow it closely: a run ends with its failure.
    let others = Self.failures(mutant, from: report.seed, count: 16, untilFailure: false).filter { $0.events > 0 }
    return Finding(report: others.min { $0.events < $1.events } ?? report, count: count)
  }

  /// Seeds that fail without the planted bug too don't count.
  private static func failures(
    _ mutant: Mutant, from first: UInt64, count: UInt64, untilFailure: Bool
  ) -> [SeedReport] {
    let reports = try? ChildProcess.reports(
      from: first, count: count, mutant: mutant, withPeers: mutant.isBetweenServers, untilFailure: untilFailure)
    return (reports ?? []).filter { $0.failure != nil && passes($0.seed, without: mutant) }
  }

  private static func passes(_ seed: UInt64, without mutant: Mutant) -> Bool {
    let reports = try? ChildProcess.reports(from: seed, count: 1, withPeers: mutant.isBetweenServers)
    guard let report = reports?.first, report.failure == nil else {
      print("\(mutant.rawValue): seed \(seed) fails without it")
      return false
    }
    return true
  }

  private func describe(_ mutant: Mutant, _ finding: Finding?, seconds: TimeInterval) {
    let name = mutant.rawValue.padding(toLength: 28, withPad: " ", startingAt: 0)
    let time = String(format: "%.1f s", seconds)
    guard let finding else { return print("\(name) SURVIVED \(seeds) seeds, \(time)") }
    let how = finding.count.map { "\($0) seeds" } ?? "known seed \(finding.report.seed)"
    print("\(name) \(how), \(time), \((finding.report.failure ?? "").prefix(120))")
  }

  // MARK: Known seeds

  private static func read(_ path: String?, mayLack: Bool) throws -> [Mutant: UInt64] {
    guard let path, !mayLack || FileManager.default.fileExists(atPath: path) else { return [:] }
    var result: [Mutant: UInt64] = [:]
    for line in try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n") where !line.hasPrefix("#") {
      let words = line.split(separator: " ")
      guard words.count == 2, let seed = UInt64(words[1]) else { throw ValidationError("not 'mutant seed': \(line)") }
      // A mutant that is no more leaves its line behind.
      if let mutant = Mutant(rawValue: String(words[0])) { result[mutant] = seed }
    }
    return result
  }

  private func write(_ seedOf: [Mutant: UInt64]) throws {
    guard let known else { throw ValidationError("--record writes to the file of --known") }
    let lines = Mutant.allCases.compactMap { mutant in seedOf[mutant].map { "\(mutant.rawValue) \($0)" } }
    let text = "# Written by 'simulate mutants --record': a seed that shows each planted bug soon.\n"
    try (text + lines.joined(separator: "\n") + "\n").write(toFile: known, atomically: true, encoding: .utf8)
  }
}

/// A value that several threads share.
final class Locked<Value>: @unchecked Sendable {
  private let lock = NSLock()
  private var value: Value
  init(_ value: Value) { self.value = value }
  func with<Result>(_ body: (inout Value) -> Result) -> Result { lock.withLock { body(&value) } }
}
