import ArgumentParser
import Foundation
import SimulatedWorld

/// Everything that can happen in a world of one host, one to three servers and two files.
struct ExhaustiveSearch: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exhaustive", abstract: "Tries every interleaving of a small world, and every fault at every place.")
  @Option(help: "Servers, each one every other's peer; the host reaches the first one only: 1 to 3.") var servers = 1
  @Option(help: "Records of files, after the one that opens the journal: 1 to 4.") var records = 3
  @Option(help: "How payload goes: log or bulk; both when not said.") var way: String?
  @Option(help: "Frames that a file's bytes come in: 1 to 3.") var frames = 1
  @Option(help: "Crashes of the server, alone or with the power: 0 or 1.") var crashes = 1
  @Option(help: "Ends of a connection, by a cut or by the host's crash: 0 to 2.") var breaks = 2
  @Option(help: "Frames that records come in, the last ones alone.") var recordFrames = 1
  @Option(help: "Work on plain files: first (before anything else), one (worker), free (each file by itself).")
  var disk = "first"
  @Option(help: "Files that the server keeps in memory: 0 to 2.") var resident = 0
  @Option(help: "How often time passes though something else could be done: 0 to 2.") var ticks = 0
  @Option(help: "Under a planted bug, which is to be found.") var mutant: String?
  @Option(help: "Give up after so many states.") var states = 20_000_000
  @Flag(help: "Servers greet each other in one order, before the host connects.") var greeted = false
  @Flag(help: "Take machines for one that differ in no field; several servers always are.") var merge = false
  @Flag(help: "Print a line for each depth.") var progress = false

  func validate() throws {
    guard (1...3).contains(servers), (1...4).contains(records), (1...4).contains(recordFrames),
      (1...3).contains(frames), (0...1).contains(crashes), (0...2).contains(breaks), (0...2).contains(resident),
      (0...2).contains(ticks)
    else {
      throw ValidationError("out of range: see --help")
    }
  }

  func run() throws {
    let ways = try way.map { name in
      guard let way = ExhaustiveScope.Way(rawValue: name) else { throw ValidationError("no way '\(name)'") }
      return [way]
    }
    guard let disk = ExhaustiveScope.Disk(rawValue: disk) else { throw ValidationError("no such disk") }
    let mutant = try self.mutant.map { name in
      let mutant = try Mutants.named(name)
      guard ExhaustiveScope.mutants.contains(mutant) else {
        throw ValidationError("here are: \(ExhaustiveScope.mutants.map(\.rawValue).joined(separator: ", "))")
      }
      return mutant
    }
    // A planted bug is looked for in smaller scopes first, and also where the last record goes alone.
    let scopes = mutant == nil ? [(breaks, recordFrames)] : (0...breaks).flatMap { [($0, 1), ($0, 2)] }
    for (breaks, recordFrames) in scopes {
      for way in ways ?? ExhaustiveScope.Way.allCases {
        var scope = ExhaustiveScope()
        (scope.servers, scope.merges, scope.ticks) = (servers, merge, ticks)
        scope.isGreeted = greeted
        (scope.records, scope.recordFrames, scope.way, scope.frames) = (records, recordFrames, way, frames)
        (scope.crashes, scope.breaks, scope.disk) = (crashes, breaks, disk)
        (scope.mostStates, scope.mutant, scope.resident) = (states, mutant, resident)
        guard try search(scope) else { throw ExitCode.failure }
      }
    }
  }

  private func search(_ scope: ExhaustiveScope) throws -> Bool {
    let begin = Date()
    let report = try Exhaustive.search(scope) { report in
      if progress { printError("depth \(report.depth): \(report.states) states, \(report.transitions) transitions") }
    }
    let seconds = String(format: "%.1f s", Date().timeIntervalSince(begin))
    let servers = scope.servers == 1 ? "1 server" : "\(scope.servers) servers"
    let machines = scope.areMerged ? "states of machines" : "histories of the server"
    print(
      "exhaustive: 1 host, \(servers), \(scope.records) records of 2 files in \(scope.recordFrames) frames, payload by "
        + "\(scope.way.rawValue) in \(scope.frames) frames, \(scope.crashes) server crashes, \(scope.breaks) ends of a "
        + "connection, \(scope.ticks) early ticks, "
        + "\(scope.isGreeted ? "greeted, " : "")disk \(scope.disk.rawValue), \(scope.resident) files in memory: \(report.states) states, "
        + "\(report.transitions) transitions, \(report.ends) ends, the farthest state after \(report.depth) choices; "
        + "\(report.histories) \(machines), \(report.inputs) inputs, \(seconds)")
    guard let failure = report.failure else {
      print(report.isComplete ? "complete: no oracle objects" : "NOT COMPLETE: given up after \(report.states) states")
      return report.isComplete
    }
    print("FAILED after \(failure.schedule.count) choices: \(failure.complaint)")
    for (number, step) in failure.schedule.enumerated() { print("  \(number + 1). \(step)") }
    return false
  }
}
