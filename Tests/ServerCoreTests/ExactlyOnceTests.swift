import JournalModel
import JournalStore
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
    expectSurvival(ofPowerCutsEvery: 1, moreThan: 80, mode: mode, limits) { [firstStory(limits)] }
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

/// P5: whatever the store refuses for a while, and wherever the power goes meanwhile, after a start that it takes all is
/// there once. Births, growth and closings that come while something is set apart are no less so.
@Suite struct SettingApartTests {
  enum Refused: CaseIterable { case firstFile, secondFile, journal }

  private func story(_ refused: Refused, mode: FakeWorld.Mode, seed: UInt64) -> FakeWorld {
    let limits = smallLimits()
    let (host, other) = (firstStory(limits), smallAppends(limits))
    let world = FakeWorld(hosts: [host, other], limits: limits, seed: seed, mode: mode)
    world.laterPoisoned =
      switch refused {
      case .firstFile: .string(StringKey(key: FileKey(host: host.name, file: host.files[0].uuid), string: 0))
      case .secondFile: .string(StringKey(key: FileKey(host: other.name, file: other.files[1].uuid), string: 0))
      case .journal: .journal(host.sequence(0))
      }
    return world
  }

  /// Refused from the `from`-th commit on until a start; the power goes before effect `crashAt`.
  private func verdict(_ world: FakeWorld, from: Int, crashAt: Int?) -> [String] {
    world.poisonAtCommit = from
    world.crashAt = crashAt
    world.start()
    _ = world.run(turns: 600)
    world.poisonAtCommit = nil
    world.poisoned = []
    world.crashAt = nil
    world.crash(powerCut: true)
    return world.run() ? world.verdict() : ["not settled"] + world.verdict()
  }

  @Test(arguments: Refused.allCases, [FakeWorld.Mode.inOrder, .random])
  func `G1 P5 refused from any commit on, all is there after a start`(refused: Refused, mode: FakeWorld.Mode) {
    for from in [1, 2, 3, 5, 8, 13] {
      let verdict = verdict(story(refused, mode: mode, seed: UInt64(from)), from: from, crashAt: nil)
      #expect(verdict == [], "from commit \(from)")
      if !verdict.isEmpty { break }
    }
  }

  @Test(arguments: Refused.allCases) func `G1 P5 the power goes before every effect of setting apart`(refused: Refused)
  {
    for from in [1, 4] {
      for index in stride(from: from, to: 90, by: 3) {
        let verdict = verdict(story(refused, mode: .random, seed: UInt64(index)), from: from, crashAt: index)
        #expect(verdict == [], "from commit \(from), power cut before effect \(index)")
        if !verdict.isEmpty { return }
      }
    }
  }

  @Test(arguments: Refused.allCases) func `P4 P5 the store is full beside what it refuses`(refused: Refused) {
    for call in 1...6 {
      let world = story(refused, mode: .random, seed: UInt64(call))
      world.faults = [.commitFull: [call, call + 1, call + 4], .commitFails: [call + 2]]
      let verdict = verdict(world, from: 1 + call / 2, crashAt: nil)
      #expect(verdict == [], "full at commit \(call)")
      if !verdict.isEmpty { break }
    }
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
