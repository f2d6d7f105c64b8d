import JournalModel
import ServerCore
import Testing

/// Whole stories over the machine, a simulated disk and the store in memory.
@Suite struct ExactlyOnceTests {
  @Test func `G1 a story ends with equal bytes on plain files`() {
    let world = FakeWorld(hosts: [firstStory(smallLimits()), smallAppends(smallLimits())], limits: smallLimits())
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
    #expect(world.acknowledgements > 10)
    #expect(world.disk.links[BytePath("latest/web1/var/log/app.log")] != nil)
  }

  @Test(arguments: UInt64(0)..<60) func `G1 G2 hold in any order of answers`(seed: UInt64) {
    let limits = smallLimits()
    let world = FakeWorld(
      hosts: [firstStory(limits), smallAppends(limits)], limits: limits, seed: seed, mode: .random)
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
  }

  @Test(arguments: UInt64(0)..<60) func `G1 G2 hold while connections end at any moment`(seed: UInt64) {
    let limits = smallLimits()
    let world = FakeWorld(
      hosts: [firstStory(limits), smallAppends(limits)], limits: limits, seed: seed, mode: .random)
    world.cutOneIn = 25
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
  }

  @Test(arguments: [FakeWorld.Mode.inOrder, .random]) func `G1 G2 survive a power cut before every single effect`(
    mode: FakeWorld.Mode
  ) {
    let limits = smallLimits()
    var index = 0
    while true {
      let world = FakeWorld(hosts: [firstStory(limits)], limits: limits, seed: UInt64(index), mode: mode)
      world.crashAt = index
      world.start()
      let isSettled = world.run()
      let verdict = world.verdict()
      #expect(isSettled && verdict == [], "crash before effect \(index): \(verdict)")
      if !isSettled || !verdict.isEmpty || world.crashes == 0 { break }
      index += 1
    }
    #expect(index > 80)
  }

  @Test(arguments: UInt64(0)..<40) func `G1 G2 survive many power cuts`(seed: UInt64) {
    let limits = smallLimits()
    let world = FakeWorld(
      hosts: [firstStory(limits), smallAppends(limits)], limits: limits, seed: seed, mode: .random)
    world.cutOneIn = 60
    world.start()
    for _ in 0..<30 {
      world.crashAt = world.effects + Int.random(in: 1...60, using: &world.generator)
      _ = world.run(turns: 80)
    }
    world.crashAt = nil
    #expect(world.run())
    #expect(world.verdict() == [])
  }
}

@Suite struct FaultTests {
  static let faults: [FakeWorld.Fault] = [
    .writeFails, .syncFails, .commitFull, .commitFails, .createFails, .nameTaken, .unreadable, .compareFails,
    .repairFails, .syncIsLost, .fileUnusable,
  ]

  @Test(arguments: faults) func `P4 each failure at each call is refused, retried and healed`(fault: FakeWorld.Fault) {
    let limits = smallLimits()
    var call = 1
    while true {
      let world = FakeWorld(
        hosts: [firstStory(limits), smallAppends(limits)], limits: limits, seed: UInt64(call), mode: .random)
      world.faults = [fault: [call]]
      world.start()
      let isSettled = world.run()
      let verdict = world.verdict()
      #expect(isSettled && verdict == [], "\(fault) at call \(call): \(verdict)")
      if !isSettled || !verdict.isEmpty || world.performed[fault, default: 0] < call { break }
      call += 1
    }
  }

  @Test(arguments: UInt64(0)..<40) func `P4 many failures with crashes and cuts`(seed: UInt64) {
    let limits = smallLimits()
    let world = FakeWorld(
      hosts: [firstStory(limits), smallAppends(limits)], limits: limits, seed: seed, mode: .random)
    for fault in Self.faults {
      world.faults[fault] = Set((0..<12).map { _ in Int.random(in: 1...60, using: &world.generator) })
    }
    world.cutOneIn = 80
    world.crashAt = Int.random(in: 50...400, using: &world.generator)
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
  }
}
