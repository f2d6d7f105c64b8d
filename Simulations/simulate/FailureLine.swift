import Foundation
import SimulatedWorld

/// The one line from which a failure can be replayed: revision, seed, plan, oracle, event, command.
enum FailureLine {
  /// The revision of the tree that this program was built in.
  static let revision: String = {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    let folder = URL(fileURLWithPath: ChildProcess.executable).deletingLastPathComponent().path
    process.arguments = ["git", "-C", folder, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return "unknown" }
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    let name = text.trimmingCharacters(in: .whitespacesAndNewlines)
    return process.terminationStatus == 0 && !name.isEmpty ? name : "unknown"
  }()

  static func text(
    seed: UInt64, plan: String, failure: String, replay: String? = nil
  ) -> String {
    let command = replay ?? "\(ChildProcess.executable) replay \(plan)"
    let text = "FAILED revision \(revision), seed \(seed), plan \(plan), oracle \(failure); replay: \(command)"
    // A failure may name a path with any byte in it.
    return String(text.map { $0.isNewline ? "?" : $0 })
  }

  /// Of a seed: its plan is written down, since seeds rot with the code that draws from them.
  static func text(seed: UInt64, failure: String, plans: String) -> String {
    let path = "\(plans)/seed-\(seed).plan"
    let folder = URL(fileURLWithPath: plans)
    try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let plan = PlanGenerator.plan(seed: seed)
    guard (try? "\(plan)".write(toFile: path, atomically: true, encoding: .utf8)) != nil else {
      return text(
        seed: seed, plan: "not written", failure: failure, replay: "\(ChildProcess.executable) run --seed \(seed)")
    }
    return text(seed: seed, plan: path, failure: failure)
  }

  static let plans = NSTemporaryDirectory() + "simulate-failures"
}
