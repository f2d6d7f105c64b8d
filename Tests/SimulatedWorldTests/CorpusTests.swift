import SimulatedWorld
import Testing

/// Scripted scenarios: what users of other shippers lost (`scenarios.md`), each with a crash of either side at every
/// effect.
@Suite struct ScriptedScenarioTests {
  private static let scenarios: [(name: String, lines: [String])] = [
    (
      "S03 late writer after rename",
      [
        "0 mkdir host0 /log", "1000000 open host0 writer0 /log/a.log", "2000000 append host0 writer0 100 unique",
        "50000000 rename host0 /log/a.log /log/a.log.1", "60000000 append host0 writer0 64 unique",
        "61000000 open host0 writer1 /log/a.log", "62000000 append host0 writer1 128 banner",
        "900000000 append host0 writer0 10 unique",
      ]
    ),
    (
      "S16 inode reuse",
      [
        "0 mkdir host0 /log", "1000000 open host0 writer0 /log/a.log", "2000000 append host0 writer0 128 banner",
        "50000000 close host0 writer0", "50000000 unlink host0 /log/a.log", "50000000 open host0 writer0 /log/a.log",
        "50000001 append host0 writer0 128 banner",
      ]
    ),
    (
      "S26 truncate and refill to multiples of the leaf",
      [
        "0 mkdir host0 /log", "1000000 open host0 writer0 /log/a.log", "2000000 append host0 writer0 128 unique",
        "90000000 truncate host0 /log/a.log 0", "90000001 append host0 writer0 128 unique",
      ]
    ),
  ]

  @Test(arguments: 0..<3) func survivesACrashAtEveryEffect(of index: Int) throws {
    let scenario = Self.scenarios[index]
    for node in ["host0", "server0"] {
      for effect in 0..<60 {
        let lines = ["plan 1", "seed 5"] + scenario.lines + ["500000 killafter \(node) \(effect)"]
        let sorted = lines.prefix(2) + lines.dropFirst(2).sorted { Self.time($0) < Self.time($1) }
        let outcome = Simulation.run(try Plan(text: sorted.joined(separator: "\n")))
        #expect(outcome.failure == nil, "\(scenario.name), \(node) at effect \(effect)")
      }
    }
  }

  private static func time(_ line: String) -> UInt64 { UInt64(line.prefix { $0 != " " }) ?? 0 }

  /// Every planted bug that a seed of a few milliseconds shows is seen by that seed.
  @Test(arguments: [
    Mutant.acknowledgeOnReceipt, .writeWithoutSync, .forgetServerCommit, .forgetFileTable, .identityByNumber,
  ])
  func thePlantedBugIsSeen(mutant: Mutant) {
    let failures = (1...3).compactMap {
      Simulation.run(PlanGenerator.plan(seed: $0), mutant: mutant, observer: nil).failure
    }
    #expect(!failures.isEmpty)
  }
}
