import JournalModel
import JournalStore
import ServerCore
import Testing

/// K2: before it serves, a start opens and repairs the plain files that a crash may have left with other than the committed
/// bytes, and no others; those are looked at when they are used, or later. That no byte goes ahead of its commit unless a
/// row says so is watched by `FakeWorld` in every test.
@Suite struct UnfinishedTests {
  /// How many plain files the next start repairs before it serves; all are looked at in the end.
  private func repairs(_ world: FakeWorld, powerCut: Bool = false) throws -> Int {
    let before = world.performed[.repairFails] ?? 0
    world.crash(powerCut: powerCut)
    #expect(world.run())
    #expect(try (world.performed[.repairFails] ?? 0) - before >= world.store.strings().count)
    return world.repairsBeforeServing - before
  }

  @Test(arguments: [false, true]) func `K2 a start after everything was folded serves before it opens a plain file`(
    powerCut: Bool
  ) throws {
    let limits = smallLimits()
    let world = FakeWorld(hosts: [firstStory(limits), smallAppends(limits)], limits: limits)
    world.start()
    #expect(world.run())
    #expect(try world.store.unfinished() == [])
    #expect(try world.store.logRanges() == [])
    #expect(try repairs(world, powerCut: powerCut) == 0)
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
    #expect(try repairs(world) == 1)
    #expect(world.verdict() == [])
    #expect(try world.store.unfinished() == [])
    #expect(try repairs(world) == 0)
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
    #expect(later.repairsBeforeServing == 0)
  }

  /// The store is as it was before these bytes of the second file, which are in its plain file.
  private func restored(after bytes: [UInt8]) -> (FakeWorld, FakeHost) {
    let limits = smallLimits()
    let host = firstStory(limits)
    let world = FakeWorld(hosts: [host], limits: limits)
    world.start()
    #expect(world.run())
    let backup = world.store.snapshot()
    host.write(1, bytes)
    #expect(world.run())
    world.store = InMemoryServerStore(state: backup)
    return (world, host)
  }

  /// A store from a backup may have the same counter: what its plain files got since is found before they get more.
  @Test func `K2 P3 a plain file that is longer than its row says is looked at before its first use`() throws {
    let (world, host) = restored(after: text(60, 11))
    host.write(1, text(5, 12))
    #expect(try repairs(world) == 0)
    #expect(world.verdict() == [])
  }

  /// A crash leaves bytes beyond the committed length only where the store says that they may be written. Elsewhere they
  /// were acknowledged, and a store from a backup of the same run, with the same counter, forgot them.
  @Test(arguments: [5, 90])
  func `K2 P3 nothing that the store doesn't call unfinished is cut, whatever the counters say`(
    more: Int
  ) throws {
    let (world, host) = restored(after: text(9, 11))
    let acknowledged = host.files[1].bytes
    // More than fits the log gets a row before its bytes come: that mustn't make what lies there a crash's.
    host.write(1, text(more, 12))
    world.crash(powerCut: true)
    #expect(world.run())
    #expect(world.verdict() == [])
    #expect(world.disk.setAside.contains { world.disk[$0]?.cache == acknowledged })
  }
}
