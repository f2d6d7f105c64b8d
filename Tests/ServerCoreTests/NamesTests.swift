import JournalModel
import JournalStore
import ServerCore
import Testing

/// K5: every string has a plain file of its own, whatever names their hosts and others in the log root bring about.
@Suite struct NamesTests {
  /// Uuids that have their first digits in common: a short name shows no difference.
  private static func alike(_ number: UInt64) -> FileUUID {
    FileUUID(UUIDBytes(high: 0x1234_5678_0000_0000 + number, low: 1).marked(version: 8))
  }

  /// Births that ask for one name: equal paths, two spellings of one, equal time, equal first digits.
  private func collisions(_ limits: Limits, host name: String = "web1") -> FakeHost {
    let host = FakeHost(name, limits: limits)
    for (number, path) in ["/var/log/a", "/var/log/a", "/var//log/a", "/var/log/a/"].enumerated() {
      host.bear(Self.alike(UInt64(number)), path)
      host.write(number, text(20 + 5 * number, number))
    }
    return host
  }

  private func rows(_ world: FakeWorld) -> [StoredString] { (try? world.store.strings()) ?? [] }

  @Test(arguments: UInt64(0)..<20) func `K5 births that ask for one name get files of their own`(seed: UInt64) {
    let limits = smallLimits()
    let world = FakeWorld(
      hosts: [collisions(limits), collisions(limits, host: "web2")], limits: limits, seed: seed,
      mode: seed % 2 == 0 ? .random : .inOrder)
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
    #expect(Set(rows(world).map(\.stored)).count == 8)
  }

  @Test func `K5 hold through a power cut before every single effect`() {
    let limits = smallLimits()
    expectSurvival(ofPowerCutsEvery: 1, moreThan: 30, mode: .random, limits) { [collisions(limits)] }
  }

  @Test func `K5 a birth collides with a name that only the store remembers`() {
    let limits = smallLimits()
    let host = FakeHost("web1", limits: limits)
    host.bear(Self.alike(1), "/a")
    host.write(0, text(30, 1))
    let world = FakeWorld(hosts: [host], limits: limits)
    world.start()
    #expect(world.run())
    world.crash(powerCut: false)
    host.bear(Self.alike(2), "/a")
    host.write(1, text(30, 2))
    #expect(world.run())
    #expect(world.verdict() == [])
    #expect(world.namesRefused == 1)
  }

  @Test func `K5 names that differ only where they are escaped are different files`() {
    let limits = smallLimits()
    let host = FakeHost("web1", limits: limits)
    let paths = ["/a@b", "/a%40b", "/a%b", "/a%25b", "/./a", "/%2E/a", "/\u{1}", "/%01"]
    for (number, path) in paths.enumerated() {
      host.bear(Self.alike(UInt64(number)), path)
      host.write(number, text(9 + number, number))
    }
    let world = FakeWorld(hosts: [host], limits: limits)
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
    #expect(Set(rows(world).map(\.stored)).count == paths.count)
  }

  @Test(arguments: [[], [7, 7, 7]] as [[UInt8]]) func `K5 a stranger's file keeps its name, an empty one too`(
    bytes: [UInt8]
  ) throws {
    let limits = smallLimits()
    let host = FakeHost("web1", limits: limits)
    host.bear(Self.alike(1), "/a")
    let name = StoredName<MixHasher>.plain(
      host: host.name, path: BytePath("/a"), born: WallTime(nanoseconds: 1_700_000_000_000_000_000),
      file: Self.alike(1), attempt: 0)
    let world = FakeWorld(hosts: [host], limits: limits)
    world.disk.plant(name, bytes)
    world.start()
    #expect(world.run())
    host.write(0, text(50, 1))
    #expect(world.run())
    #expect(world.verdict() == [])
    #expect(world.disk[name]?.cache == bytes)
    #expect(rows(world).allSatisfy { $0.stored != name && $0.isMade })
  }

  /// A host whose births collide for ever costs one commit that is refused, not one for each birth.
  @Test func `K5 a flood of births that ask for one name costs one refused commit`() {
    var limits = smallLimits()
    limits.recordsPerFrame = 200
    limits.recordWindow = 2_000
    let host = FakeHost("web1", limits: limits)
    for number in 0..<1_000 { host.bear(Self.alike(UInt64(number)), "/a") }
    let world = FakeWorld(hosts: [host], limits: limits)
    world.start()
    #expect(world.run())
    #expect(world.verdict() == [])
    #expect(world.namesRefused == 1)
  }
}
