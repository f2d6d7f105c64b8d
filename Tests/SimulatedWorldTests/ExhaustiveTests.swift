import SimulatedWorld
import Testing

@Suite struct ExhaustiveTests {
  private func scope(_ way: ExhaustiveScope.Way, mutant: Mutant? = nil) -> ExhaustiveScope {
    var scope = ExhaustiveScope()
    (scope.way, scope.breaks, scope.mutant) = (way, 0, mutant)
    scope.recordFrames = mutant == nil ? 1 : 2
    return scope
  }

  /// The whole is `simulate exhaustive`.
  @Test(arguments: ExhaustiveScope.Way.allCases)
  func everyCrashAtEveryPlaceLeavesEverythingExactlyOnce(way: ExhaustiveScope.Way) throws {
    let report = try Exhaustive.search(scope(way))
    #expect(report.failure?.complaint == nil)
    #expect(report.isComplete)
    #expect(report.states > 300)
    #expect(report.ends > 40)
  }

  @Test(arguments: [
    Mutant.acknowledgeOnReceipt, .acknowledgeRecordsOnReceipt, .forgetServerCommit, .skipRepair, .acknowledgeBeforeSync,
  ])
  func plantedBugsAreFoundByTheShortestWay(mutant: Mutant) throws {
    #expect(try Exhaustive.search(scope(.log, mutant: mutant)).failure?.schedule.isEmpty == false)
  }

  private func peers(mutant: Mutant? = nil) -> ExhaustiveScope {
    var scope = ExhaustiveScope()
    (scope.servers, scope.records, scope.resident) = (2, 1, 2)
    (scope.crashes, scope.breaks, scope.mutant) = (0, 0, mutant)
    return scope
  }

  /// The beginning only: the whole is `simulate exhaustive --servers 2`.
  @Test func nothingIsWrongAsTwoServersBegin() throws {
    var scope = peers()
    scope.mostStates = 300
    #expect(try Exhaustive.search(scope).failure?.complaint == nil)
  }

  @Test func whatIsAnnouncedBeforeItIsHeldIsFoundBetweenTwoServers() throws {
    let report = try Exhaustive.search(peers(mutant: .announceEarly))
    #expect(report.failure?.complaint.contains("announced, and not held") == true)
  }

  @Test func bytesThatNoRowAnnouncedAreFoundK2() throws {
    #expect(try Exhaustive.search(scope(.bulk, mutant: .announceLate)).failure?.schedule.isEmpty == false)
  }
}
