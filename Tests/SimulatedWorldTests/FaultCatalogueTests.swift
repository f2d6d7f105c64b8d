import SimulatedWorld
import Testing

@Suite struct FaultCatalogueTests {
  @Test func holdsEveryFaultThatAPlanNames() {
    var drawn: Set<String> = []
    for seed in 1...300 as ClosedRange<UInt64> {
      drawn.formUnion(PlanGenerator.plan(seed: seed).operations.compactMap(\.operation.faultName))
    }
    #expect(drawn.subtracting(FaultCatalogue.kinds) == [])
  }

  @Test func asksOfASwarmWhatItsSizeMakesCertain() {
    var counts = Dictionary(uniqueKeysWithValues: FaultCatalogue.kinds.map { ($0, 1) })
    #expect(FaultCatalogue.missing(from: counts, seeds: 10_000) == [])
    counts["clock freeze"] = 0
    counts["unlink undone server"] = nil
    #expect(FaultCatalogue.missing(from: counts, seeds: 100) == [])
    #expect(FaultCatalogue.missing(from: counts, seeds: 1_000) == ["clock freeze"])
    #expect(FaultCatalogue.missing(from: counts, seeds: 5_000) == ["clock freeze", "unlink undone server"])
    #expect(Set(FaultCatalogue.kinds).count == FaultCatalogue.kinds.count)
  }
}
