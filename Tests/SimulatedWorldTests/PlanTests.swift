import SimulatedWorld
import Testing

@Suite struct PlanTests {
  @Test(arguments: 1...50 as ClosedRange<UInt64>) func aPlansTextReadsBackAsThePlan(seed: UInt64) throws {
    let plan = PlanGenerator.plan(seed: seed)
    #expect(try Plan(text: plan.description) == plan)
  }

  @Test(arguments: 1...50 as ClosedRange<UInt64>) func aSeedHasOperationsFaultsAndASecondOfLoad(seed: UInt64) {
    let plan = PlanGenerator.plan(seed: seed)
    #expect(plan.operations.count >= 100)
    #expect(plan.operations.count { $0.operation.faultName != nil } >= 10)
    #expect(plan.knobs[.loadEnd] >= 1_000_000_000)
    #expect(plan.operations.map(\.time) == plan.operations.map(\.time).sorted())
  }

  @Test(arguments: ["nonsense", "5 append host0", "knob colour 3", "7 kill host0 now", "x kill host0"])
  func aLineThatSaysNothingIsAnErrorWithItsNumber(line: String) {
    #expect(throws: Plan.SyntaxError(line: 3, text: line)) { try Plan(text: "plan 1\nseed 1\n\(line)\n") }
  }

  @Test func equalPlansGiveEqualRuns() {
    for seed: UInt64 in [3, 11] {
      let first = Simulation.run(PlanGenerator.plan(seed: seed))
      let second = Simulation.run(PlanGenerator.plan(seed: seed))
      #expect(first.digest == second.digest)
      #expect(first.events == second.events)
      #expect(first.failure == nil)
    }
  }

  @Test func shrinkingKeepsTheOracleAndDropsTheRest() throws {
    var shrinker = try #require(
      Shrinker(PlanGenerator.plan(seed: 1), mostRuns: 200) {
        Simulation.run($0, mutant: .acknowledgeOnReceipt, observer: nil)
      })
    let small = shrinker.shrink()
    #expect(small.operations.count <= 12)
    #expect(Simulation.run(small, mutant: .acknowledgeOnReceipt, observer: nil).failure?.oracle == .durability)
  }
}
