import SimulatedWorld
import Testing

@Suite struct MergeTests {
  /// The whole is `simulate merge`.
  @Test func repetitionAndOtherOrdersLeaveTheSameHoldings() {
    let report = Merge.report(seed: 1)
    #expect(report.failures.isEmpty)
    #expect(report.files > 10)
    #expect(report.repeats > 50)
  }

  /// What is right in every single run and depends on the order, the laws see.
  @Test(arguments: [Mutant.gapFromHeld, .linkLast])
  func anIntakeThatDependsOnTheOrderIsSeen(mutant: Mutant) {
    let failures = (1...20).lazy.compactMap {
      Simulation.run(PlanGenerator.plan(seed: $0), mutant: mutant, observer: nil).failure
    }
    #expect(failures.first?.oracle == .merge)
  }

  @Test func anIntakeThatCountsRepeatsIsSeen() {
    #expect(Merge.outcome(of: PlanGenerator.plan(seed: 1), mutant: .appendRepeats).failure != nil)
  }
}
