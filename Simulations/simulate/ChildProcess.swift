import Foundation
import SimulatedWorld

/// A `simulate worker` of its own: a trap in the core, or in a planted bug, is a failing seed and not the end of it all.
enum ChildProcess {
  /// This very program.
  static let executable =
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]

  static func worker(_ arguments: [String], _ environment: [String: String] = [:]) -> (Process, Pipe) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = ["worker"] + arguments
    let quiet = ProcessInfo.processInfo.environment.merging(["SWIFT_BACKTRACE": "enable=no"]) { $1 }
    process.environment = quiet.merging(environment) { $1 }
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    return (process, pipe)
  }

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

  /// Runs seeds to the end, or to the first that fails. One that died is reported as `.crash`.
  static func reports(
    from first: UInt64, count: UInt64, mutant: Mutant? = nil, withPeers: Bool = false, untilFailure: Bool = false,
    environment: [String: String] = [:]
  ) throws -> [SeedReport] {
    var arguments = ["--first", "\(first)", "--count", "\(count)"]
    if let mutant { arguments += ["--mutant", mutant.rawValue] }
    if withPeers { arguments += ["--peers"] }
    if untilFailure { arguments += ["--until-failure"] }
    let (process, pipe) = worker(arguments, environment)
    try process.run()
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    let lines = text.split(separator: "\n").map(String.init)
    var reports = lines.compactMap(SeedReport.init(line:))
    if process.terminationStatus != 0,
      let seed = lines.last(where: { $0.hasPrefix("B ") }).flatMap({ UInt64($0.dropFirst(2)) })
    {
      reports.append(.crash(seed: seed))
    }
    return reports
  }
}

extension SeedReport {
  /// A worker's line about a seed that has ended.
  init?(line: String) {
    guard line.hasPrefix("E "), let report = try? JSONDecoder().decode(Self.self, from: Data(line.dropFirst(2).utf8))
    else { return nil }
    self = report
  }
}
