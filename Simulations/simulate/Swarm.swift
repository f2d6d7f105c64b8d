import ArgumentParser
import Foundation
import SimulatedWorld

/// Runs seeds and writes one line of JSON for each: the swarm's child process, so that a trap in the core is a failing
/// seed and not the end of the swarm.
struct Worker: ParsableCommand {
  static let configuration = CommandConfiguration(shouldDisplay: false)
  @Option var first: UInt64
  @Option var count: UInt64
  @Option var step: UInt64 = 1
  @Option var mutant: String?
  @Flag var untilFailure = false
  @Flag var peers = false

  func run() throws {
    let mutant = try self.mutant.map { try Mutants.named($0) }
    var seed = first
    var done: UInt64 = 0
    while done < count {
      let plan = PlanGenerator.plan(seed: seed)
      defer { seed += step }
      if peers, plan.knobs[.peers] == 0 { continue }
      emit("B \(seed)")
      let report = SeedReport(Simulation.run(plan, mutant: mutant, observer: nil))
      emit("E " + String(decoding: try JSONEncoder().encode(report), as: UTF8.self))
      if untilFailure, report.failure != nil { return }
      done += 1
    }
  }

  private func emit(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
}

struct SeedReport: Codable, Sendable {
  var seed: UInt64
  var oracle: String?
  var failure: String?
  var events: UInt64
  var steps: UInt64
  var simulated: UInt64
  var load: UInt64
  var operations: Int
  var bytes: UInt64
  var digest: UInt64
  var faults: [String: Int]
  /// Faults that stand in the plan; the others strike by chance.
  var plannedFaults: Int
  var marks: [String: Int]

  static func crash(seed: UInt64) -> SeedReport {
    let failure = Failure(oracle: .crash, event: 0, time: 0, text: "the process died")
    return SeedReport(Outcome(seed: seed, failure: failure))
  }

  init(_ outcome: Outcome) {
    seed = outcome.seed
    oracle = outcome.failure?.oracle.rawValue
    failure = outcome.failure.map { "\($0)" }
    events = outcome.events
    steps = outcome.steps
    simulated = outcome.simulated
    load = outcome.load
    operations = outcome.operations
    bytes = outcome.bytes
    digest = outcome.digest
    faults = outcome.faults
    plannedFaults = outcome.plannedFaults
    marks = outcome.marks
  }
}

struct Swarm: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Runs many seeds in parallel and reports.")
  @Option(help: "How many seeds.") var seeds: UInt64 = 1_000
  @Option(help: "The first one.") var first: UInt64 = 1
  @Option(help: "Processes at a time.") var jobs: Int = ProcessInfo.processInfo.activeProcessorCount
  @Option(help: "Stop after so many failing seeds.") var failures: Int = 20
  @Option(help: "A sample of 1 in so many is run again, with another hash seed, and must agree.") var recheck: UInt64 =
    50
  @Option(help: "Where the plans of failing seeds go.") var plans = FailureLine.plans
  @Flag(help: "Only seeds whose servers are peers of one another; there are as many, further on.") var peers = false
  @Flag(help: "Report marks and faults that never came without failing.") var lenient = false

  func run() throws {
    let begin = Date()
    let collector = Collector(mostFailures: failures, plans: plans)
    let jobs = max(1, min(jobs, Int(seeds)))
    DispatchQueue.concurrentPerform(iterations: jobs) { job in
      let share = seeds / UInt64(jobs) + (UInt64(job) < seeds % UInt64(jobs) ? 1 : 0)
      work(from: first + UInt64(job), share, step: UInt64(jobs), collector)
    }
    let reports = collector.reports
    let disagreeing = recheckSample(reports)
    let isGood = SwarmReport(reports: reports, wall: Date().timeIntervalSince(begin), disagreeing: disagreeing)
      .print(lenient: lenient)
    if !isGood { throw ExitCode.failure }
  }

  /// Runs a share in child processes: a new one after each that died.
  private func work(from first: UInt64, _ count: UInt64, step: UInt64, _ collector: Collector) {
    var next = first
    var left = count
    while left > 0, !collector.isEnough {
      let result = runWorker(
        ["--first", "\(next)", "--count", "\(left)", "--step", "\(step)"] + (peers ? ["--peers"] : [])
      ) { collector.add($0) }
      guard result.done < left, let crashed = result.begun else { return }
      if result.isFinished { return }
      collector.addCrash(seed: crashed)
      left -= result.done + 1
      next = crashed + step
    }

    func runWorker(
      _ arguments: [String], each: (SeedReport) -> Bool
    ) -> (done: UInt64, begun: UInt64?, isFinished: Bool) {
      let (process, pipe) = ChildProcess.worker(arguments)
      do { try process.run() } catch { return (0, nil, true) }
      var done: UInt64 = 0
      var begun: UInt64?
      var rest = Data()
      while case let data = pipe.fileHandleForReading.availableData, !data.isEmpty {
        rest.append(data)
        while let newline = rest.firstIndex(of: UInt8(ascii: "\n")) {
          let line = String(decoding: rest[rest.startIndex..<newline], as: UTF8.self)
          rest = Data(rest[(newline + 1)...])
          if line.hasPrefix("B ") { begun = UInt64(line.dropFirst(2)) }
          guard let report = SeedReport(line: line) else { continue }
          done += 1
          if !each(report) {
            process.terminate()
            process.waitUntilExit()
            return (done, begun, true)
          }
        }
      }
      process.waitUntilExit()
      return (done, begun, process.terminationStatus == 0)
    }
  }

  /// Seeds whose second run, under a fixed hash seed, gave another digest.
  private func recheckSample(_ reports: [SeedReport]) -> [UInt64] {
    guard recheck > 0 else { return [] }
    var result: [UInt64] = []
    for report in reports where report.seed % recheck == 0 && report.failure == nil {
      let again = try? ChildProcess.reports(
        from: report.seed, count: 1, environment: ["SWIFT_DETERMINISTIC_HASHING": "1"])
      if again?.last?.digest != report.digest { result.append(report.seed) }
    }
    return result
  }
}

final class Collector: @unchecked Sendable {
  private let lock = NSLock()
  private var all: [SeedReport] = []
  private var failed = 0
  private let mostFailures: Int

  private let plans: String

  init(mostFailures: Int, plans: String) {
    self.mostFailures = mostFailures
    self.plans = plans
  }

  var reports: [SeedReport] { lock.withLock { all.sorted { $0.seed < $1.seed } } }
  var isEnough: Bool { lock.withLock { failed >= mostFailures } }

  /// False when there are failures enough.
  func add(_ report: SeedReport) -> Bool {
    lock.withLock {
      all.append(report)
      if let failure = report.failure {
        failed += 1
        print(FailureLine.text(seed: report.seed, failure: failure, plans: plans))
      }
      return failed < mostFailures
    }
  }

  func addCrash(seed: UInt64) {
    _ = add(.crash(seed: seed))
  }
}

struct SwarmReport {
  var reports: [SeedReport]
  var wall: Double
  var disagreeing: [UInt64]

  func print(lenient: Bool) -> Bool {
    let failed = reports.filter { $0.failure != nil }
    let events = reports.reduce(0) { $0 + $1.events }
    let simulated = Double(reports.reduce(0) { $0 + $1.simulated }) / 1e9
    line("seeds", "\(reports.count), \(failed.count) failed")
    line("operations", spread(reports.map { Double($0.operations) }))
    line("faults planned", spread(reports.map { Double($0.plannedFaults) }))
    line("faults in all", spread(reports.map { Double($0.faults.values.reduce(0, +)) }))
    line("load, s", spread(reports.map { Double($0.load) / 1e9 }))
    line("payload, bytes", spread(reports.map { Double($0.bytes) }))
    line("simulated", String(format: "%.1f h, %.0f times wall time", simulated / 3_600, simulated / max(wall, 0.001)))
    line(
      "events",
      String(
        format: "%llu, %.0f per second in all, inputs %llu", events, Double(events) / max(wall, 0.001),
        reports.reduce(0) { $0 + $1.steps }))
    let faults = total("faults by kind", reports.map(\.faults))
    let spared = FaultCatalogue.missing(from: faults, seeds: reports.count)
    line("faults never hit", spared.isEmpty ? "none" : spared.joined(separator: ", "))
    let unknown = faults.keys.filter { !FaultCatalogue.kinds.contains($0) }.sorted()
    if !unknown.isEmpty { line("not in FaultCatalogue", unknown.joined(separator: ", ")) }
    let marks = total("marks", reports.map(\.marks))
    let never = Mark.allCases.map(\.rawValue).filter { marks[$0] == nil }
    line("marks never hit", never.isEmpty ? "none" : never.joined(separator: ", "))
    line("digest differs", disagreeing.isEmpty ? "none" : disagreeing.map(String.init).joined(separator: ", "))
    for (oracle, group) in Dictionary(grouping: failed, by: { $0.oracle ?? "" }).sorted(by: { $0.key < $1.key }) {
      line("failed: \(oracle)", group.prefix(10).map { String($0.seed) }.joined(separator: " "))
    }
    return failed.isEmpty && disagreeing.isEmpty && unknown.isEmpty && (never.isEmpty && spared.isEmpty || lenient)
  }

  private func line(_ name: String, _ text: String) {
    Swift.print(name.padding(toLength: max(18, name.count + 1), withPad: " ", startingAt: 0) + text)
  }

  private func spread(_ values: [Double]) -> String {
    let sorted = values.sorted()
    guard let first = sorted.first, let last = sorted.last else { return "-" }
    func at(_ share: Double) -> Double { sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))] }
    return String(format: "least %.1f, median %.1f, 90 %% %.1f, most %.1f", first, at(0.5), at(0.9), last)
  }

  @discardableResult private func total(_ name: String, _ counts: [[String: Int]]) -> [String: Int] {
    let sum = counts.reduce(into: [String: Int]()) { sum, one in sum.merge(one, uniquingKeysWith: +) }
    line(name, sum.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))
    return sum
  }
}
