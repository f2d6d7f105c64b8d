import SimulatedWorld
import Testing

@Suite struct ScriptedScenarioTests {
  /// The whole is `simulate every-effect`; this shows that strikes fall where they should and that a plan keeps them.
  @Test func survivesEveryFailureAtEveryEffect() throws {
    let text = """
      plan 1
      seed 5
      knob servers 1
      1000000 open host0 writer0 /log/a.log
      2000000 append host0 writer0 128 banner
      50000000 close host0 writer0
      50000000 unlink host0 /log/a.log
      50000000 open host0 writer0 /log/a.log
      50000001 append host0 writer0 128 banner
      """
    let plan = try Plan(text: text)
    let (clean, strikes) = try Simulation.strikes(of: plan)
    #expect(clean.failure == nil)
    #expect(Set(strikes.map(\.fault)) == Set(Strike.Fault.allCases))
    var digests: Set<UInt64> = []
    for strike in strikes {
      var struck = plan
      struck.strike = strike
      #expect(try Plan(text: "\(struck)") == struck)
      let outcome = Simulation.run(struck)
      #expect(outcome.failure == nil, "\(strike)")
      digests.insert(outcome.digest)
    }
    #expect(digests.count > strikes.count / 2)
  }

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
