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
    var survivors = 0
    for mutant in chosen {
      let begin = Date()
      let found = try ChildProcess.firstFailure(from: first, count: seeds, mutant: mutant)
      let seconds = String(format: "%.1f s", Date().timeIntervalSince(begin))
      let name = mutant.rawValue.padding(toLength: 28, withPad: " ", startingAt: 0)
      if let found {
        print("\(name) \(found.seed - first + 1) seeds, \(seconds), \((found.failure ?? "").prefix(120))")
      } else {
        print("\(name) SURVIVED \(seeds) seeds, \(seconds)")
        survivors += 1
      }
    }
    print("\(chosen.count - survivors) of \(chosen.count) found")
    if survivors > 0 { throw ExitCode.failure }
  }
}

/// A worker of its own, since a bug may trap.
enum ChildProcess {
  /// Runs this program again and hands on each line; true when it ended well.
  static func lines(of executable: String, _ arguments: [String], each: (String) -> Void) -> Bool {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(["SWIFT_BACKTRACE": "enable=no"]) { $1 }
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    do { try process.run() } catch { return false }
    var rest = Data()
    while case let data = pipe.fileHandleForReading.availableData, !data.isEmpty {
      rest.append(data)
      while let newline = rest.firstIndex(of: UInt8(ascii: "\n")) {
        each(String(decoding: rest[rest.startIndex..<newline], as: UTF8.self))
        rest = Data(rest[(newline + 1)...])
      }
    }
    process.waitUntilExit()
    return process.terminationStatus == 0
  }

  static func firstFailure(from first: UInt64, count: UInt64, mutant: Mutant) throws -> SeedReport? {
    let process = Process()
    process.executableURL = URL(
      fileURLWithPath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
    process.arguments = [
      "worker", "--first", "\(first)", "--count", "\(count)", "--mutant", mutant.rawValue, "--until-failure",
    ]
    process.environment = ProcessInfo.processInfo.environment.merging(["SWIFT_BACKTRACE": "enable=no"]) { $1 }
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    try process.run()
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    let lines = text.split(separator: "\n")
    let reports = lines.filter { $0.hasPrefix("E ") }
      .compactMap { try? JSONDecoder().decode(SeedReport.self, from: Data($0.dropFirst(2).utf8)) }
    if let failed = reports.first(where: { $0.failure != nil }) { return failed }
    guard process.terminationStatus != 0,
      let seed = lines.last(where: { $0.hasPrefix("B ") }).flatMap({ UInt64($0.dropFirst(2)) })
    else { return nil }
    return .crash(seed: seed)
  }
}
