import JournalModel
import JournalStore
import ServerCore
import Testing

/// K2: a start opens and repairs the plain files that may hold other than the committed bytes, and no others. That no
/// byte goes ahead of its commit unless a row says so is watched by `FakeWorld` in every test.
@Suite struct UnfinishedTests {
  /// How many plain files the next start repairs.
  private func repairs(_ world: FakeWorld, powerCut: Bool = false) -> Int {
    let before = world.performed[.repairFails] ?? 0
    world.crash(powerCut: powerCut)
    #expect(world.run())
    return (world.performed[.repairFails] ?? 0) - before
  }

  @Test(arguments: [false, true]) func `K2 a start after everything was folded opens no plain file`(
    powerCut: Bool
  ) throws {
    let limits = smallLimits()
    let world = FakeWorld(hosts: [firstStory(limits), smallAppends(limits)], limits: limits)
    world.start()
    #expect(world.run())
    #expect(try world.store.unfinished() == [])
    #expect(try world.store.logRanges() == [])
    #expect(repairs(world, powerCut: powerCut) == 0)
    #expect(world.verdict() == [])
  }

  @Test func `K2 a start repairs what a bulk write left behind, and nothing else`() throws {
    let limits = smallLimits()
    let host = firstStory(limits)
    let world = FakeWorld(hosts: [host], limits: limits)
    world.start()
    #expect(world.run())
    // Its first half lies in the file, and no commit will ever say so: the process dies.
    let next = (world.performed[.writeFails] ?? 0) + 1
    world.faults[.writeFails] = [next]
    host.write(1, text(60, 11))
    var turns = 0
    while world.performed[.writeFails] != next, turns < 1_000 {
      turns += 1
      #expect(!world.run(turns: 1))
    }
    #expect(try world.store.unfinished().map(\.key.file) == [FakeHost.uuid(2)])
    #expect(repairs(world) == 1)
    #expect(world.verdict() == [])
    #expect(try world.store.unfinished() == [])
    #expect(repairs(world) == 0)
  }

  @Test func `K2 a full log sends small payload ahead of its commit, and a row says so`() throws {
    var limits = smallLimits()
    limits.logCapacity = 8
    let world = FakeWorld(hosts: [smallAppends(limits)], limits: limits)
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
    #expect(try world.store.unfinished() == [])
  }

  /// Beside a store that isn't the one that wrote them last nothing is known of any plain file (P3).
  @Test func `K2 P3 all plain files are looked at beside an old store`() throws {
    let limits = smallLimits()
    let world = FakeWorld(hosts: [firstStory(limits)], limits: limits)
    world.start()
    #expect(world.run())
    let later = FakeWorld(hosts: [], limits: limits)
    later.disk = world.disk
    later.store = world.store
    later.start(counterMatches: false)
    #expect(later.run())
    #expect(later.performed[.repairFails] == 4)
  }
}
