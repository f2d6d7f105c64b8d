import DataPlane
import HostCore
import JournalModel
import JournalStore
import Testing
import WireProtocol

/// Any input in any order: a mix of plausible answers to what the machine asked and of nonsense. Nothing traps, nothing
/// grows without bound, uncommitted records are offered to nobody (J1).
@Suite struct RobustnessTests {
  struct World {
    var random: SeededNumbers
    var asked: [HostEffect] = []
    var committed: UInt64 = 1
    var files: [FileUUID] = [FileUUID(UUIDBytes(high: 1, low: 1))]
    var now = Instant(nanoseconds: 1)

    mutating func pick<T>(_ choices: [T]) -> T { choices[Int.random(in: 0..<choices.count, using: &random)] }
    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
    mutating func number() -> UInt64 {
      pick([0, 1, 2, 3, 63, 64, 65, 100, 255, 256, 1_000, 4_096, UInt64(Int64.max), .max - 1, .max])
    }
    mutating func small() -> UInt64 { UInt64.random(in: 0..<160, using: &random) }
    mutating func digest() -> Digest { Digest(words: UInt64.random(in: 0..<3, using: &random), 0, 0, 0) }
    mutating func file() -> FileID { FileID(UInt32.random(in: 0..<12, using: &random)) }
    mutating func connection() -> ConnectionID { ConnectionID(UInt64.random(in: 0..<8, using: &random)) }
    mutating func uuid() -> FileUUID { pick(files) }
    mutating func wall() -> WallTime { WallTime(nanoseconds: pick([0, 1, 2, 3, .min, .max])) }
    mutating func directory() -> BytePath {
      BytePath(pick(["/log", "/log/x", "/log/y", "/log/x/z", "/", "", "/none"]))
    }
    mutating func name() -> [UInt8] {
      Array(
        pick(["a.log", "b.log", "c", "x", "y", "z", "", ".", "a/b", "\0", String(repeating: "n", count: 5_000)]).utf8)
    }
    mutating func inode() -> InodeKey {
      InodeKey(
        filesystem: pick([1, 1, 1, 2]),
        identity: InodeIdentity(
          number: UInt64.random(in: 0..<6, using: &random), generation: pick([nil, 1, 1, 2]),
          birth: pick([nil, WallTime(nanoseconds: 5), WallTime(nanoseconds: 5)])))
    }
  }
}

extension RobustnessTests.World {
  mutating func entry() -> DirectoryEntry {
    let facts = FileFacts(
      kind: pick([.regular, .regular, .regular, .directory, .other]), inode: inode(),
      size: chance(80) ? small() : number(), modified: wall(), links: pick([0, 1, 2]))
    return DirectoryEntry(
      name: name(), isSymbolicLink: chance(15), facts: chance(90) ? facts : nil,
      realPath: chance(20) ? BytePath(pick(["/r", "", "\0"])) : nil,
      freshUUID: chance(90) ? UUIDBytes(high: random.next(), low: chance(30) ? 0 : random.next()) : nil)
  }

  mutating func listing(_ directory: BytePath, _ names: [[UInt8]]?) -> Listing {
    let count = Int.random(in: 0..<7, using: &random)
    let outcome: Listing.Outcome =
      switch Int.random(in: 0..<10, using: &random) {
      case 0: .missing
      case 1: .failed(pick(["EIO", "EMFILE"]))
      default: .entries((0..<count).map { _ in entry() }, filesystem: pick([1, 1, 2]))
      }
    return Listing(directory: directory, names: names, outcome: outcome, isWatched: chance(80))
  }

  mutating func ingestAnswer(from: UInt64) -> IngestAnswer {
    let length = chance(90) ? from &+ small() : number()
    let leaves = LeafRange(file: uuid(), first: number(), hashes: chance(20) ? [digest()] : [])
    let outcome: IngestAnswer.Outcome = pick([
      .appended(Appended(length: length, root: digest(), tail: digest(), leaves: leaves)),
      .appended(Appended(length: length, root: digest(), tail: digest(), leaves: leaves)),
      .unchanged, .unchanged, .shrunk, .diverged, .gone, .failed("EIO"),
    ])
    return IngestAnswer(
      outcome: outcome, size: chance(70) ? length : number(), modified: wall(), links: pick([0, 1, 2]))
  }

  private mutating func head(_ length: UInt64) -> Checkpoint? {
    let journal = JournalID(UUIDBytes(high: 1, low: chance(90) ? 1 : 2))
    let root = digest()
    return HostName("web1").map {
      Checkpoint(host: $0, journal: journal, length: length, root: root, signature: [UInt8](repeating: 0, count: 64))
    }
  }

  mutating func frame() -> Frame {
    let prefixes = (0..<3).map { _ in
      DurablePrefix(file: uuid(), length: chance(80) ? small() : number(), root: digest())
    }
    let held = (0..<3).map { _ in
      HeldFile(
        file: uuid(),
        strings: (0..<Int(small() % 4)).map { _ in TreeHead(length: chance(80) ? small() : number(), root: digest()) }
      )
    }
    return switch Int.random(in: 0..<15, using: &random) {
    case 14:
      .journalAnswer(
        (0..<Int(small() % 4)).map { _ in TreeHead(length: chance(80) ? small() : number(), root: digest()) })
    case 0, 1, 2:
      .welcome(
        Welcome(
          version: chance(90) ? 1 : 2, server: "s", heads: (0..<small() % 3).compactMap { _ in head(small() % 5) },
          credit: number()))
    case 3, 4: head(chance(90) ? small() % 10 : number()).map { .recordsDurable($0) } ?? .pong(nonce: 0)
    case 5, 6, 7: .resumeAnswer(held)
    case 8, 9: .payloadDurable(prefixes)
    case 10: .credit(total: number())
    case 11:
      .refusal(
        Refusal(
          file: chance(80) ? uuid() : nil, code: pick(RefusalCode.allCases), length: number(), text: "no"))
    case 12: pick([.ping(nonce: number()), .pong(nonce: 0)])
    default:
      pick([
        .goodbye(code: .other, text: ""), .resumeQuery([]),
        .payload(PayloadHeader(file: uuid(), offset: .max, length: .max)),
      ])
    }
  }

  /// Something that nobody asked for.
  mutating func nonsense() -> HostInput {
    switch Int.random(in: 0..<19, using: &random) {
    case 0: .started(HostStart(journal: JournalPosition(length: number(), root: digest())))
    case 1, 2: .tick
    case 3, 4:
      .hinted(
        pick([
          .modified(directory: directory(), name: name()), .changed(directory: directory(), name: name()),
          .lost(directory: directory()), .overflow, .mounted,
        ]))
    case 5: .listed(listing(directory(), chance(50) ? nil : [name()]))
    case 6: .ingested(file(), ingestAnswer(from: number()))
    case 7: .writersProbed(file(), hasWriters: pick([nil, true, false]))
    case 8: .commitFailed(.full("x"))
    case 9: .connected(ServerIndex(pick([-1, 0, 1, 2, .max])), connection())
    case 10: .disconnected(ServerIndex(pick([-1, 0, 1, 2])), chance(50) ? nil : connection(), reason: "r")
    case 11, 12: .received(connection(), frame())
    case 13: .headsVerified(connection(), chance(50) ? TreeHead(length: small() % 5, root: digest()) : nil)
    case 14: .rootComputed(connection(), file(), length: number(), chance(80) ? digest() : nil)
    case 15: .payloadSent(connection(), file(), end: number())
    case 17: loaded(LoadID(number() % 8), .files([]))
    case 16: .payloadUnavailable(connection(), file(), offset: number(), reason: "r")
    default: pick([.settle(token: number()), .cancelSettle(token: number()), .cancelSettle(token: number())])
    }
  }

  mutating func row(_ uuid: FileUUID) -> KnownFile {
    KnownFile(
      file: uuid, inode: inode(), isDerived: true, path: BytePath("/log/a.log"), born: wall(), length: small(),
      root: digest(), tail: digest(), size: number(), modified: wall(),
      closed: pick([nil, nil, .deleted, .truncated, .vanished]), gapFrom: chance(20) ? number() : nil)
  }

  mutating func loaded(_ id: LoadID, _ query: HostQuery) -> HostInput {
    if chance(10) { return .loadFailed(id, pick([.failed("x"), .full("x"), .outOfRange])) }
    var answer = HostAnswer(number: chance(90) ? 100 : small())
    for _ in 0..<pick([0, 0, 1, 3]) {
      answer.files.append(StoredFile(row: row(uuid()), delivered: chance(80) ? [number(), number()] : []))
    }
    if case .inodes(let inodes) = query {
      for new in inodes {
        if chance(20), let derived = new.derived { answer.used.insert(derived) }
        if chance(10) { answer.unreadable[new.inode] = "x" }
      }
    }
    return .loaded(id, answer)
  }

  /// An answer to one of the effects that ask.
  mutating func answer() -> HostInput? {
    guard !asked.isEmpty else { return nil }
    let index = Int.random(in: 0..<asked.count, using: &random)
    switch asked.remove(at: index) {
    case .watch(let directory, _, _): return .listed(listing(directory, nil))
    case .list(let directory, let names): return .listed(listing(directory, names))
    case .ingest(let id, let from, _, _): return .ingested(id, ingestAnswer(from: from))
    case .load(let id, let query): return loaded(id, query)
    case .probeWriters(let id): return .writersProbed(id, hasWriters: pick([nil, true, false, false]))
    case .commit(let batch):
      for encoded in batch.records {
        do {
          if case .fileBorn(let born) = try Record(decoding: encoded).body { files.append(born.file) }
        } catch {
          Issue.record("a record that can't be read again: \(error)")
        }
      }
      if files.count > 20 { files.removeFirst(files.count - 20) }
      if chance(10) {
        let refused = batch.files.randomElement(using: &random).map { StoreError.refused(.file($0.file), .failed("r")) }
        return .commitFailed(pick([.full("f"), .failed("x"), refused ?? .full("f")]))
      }
      committed &+= UInt64(batch.records.count)
      return .committed(JournalPosition(length: chance(98) ? committed : number(), root: digest()), number: small())
    case .connect(let server):
      return chance(80) ? .connected(server, connection()) : .disconnected(server, nil, reason: "no")
    case .verifyHeads(let id, let heads): return .headsVerified(id, chance(80) ? heads.first : nil)
    case .computeRoot(let connection, let id, let length):
      return .rootComputed(connection, id, length: length, chance(90) ? digest() : nil)
    case .sendPayload(let id, let file, let header):
      return chance(80)
        ? .payloadSent(id, file, end: header.end)
        : .payloadUnavailable(id, file, offset: header.offset, reason: "gone")
    default: return nil
    }
  }

  mutating func note(_ effect: HostEffect) {
    switch effect {
    case .watch, .list, .ingest, .probeWriters, .commit, .load, .connect, .verifyHeads, .computeRoot, .sendPayload:
      asked.append(effect)
    default: break
    }
  }
}

extension RobustnessTests {
  @Test(arguments: 0..<16) func anyInputsInAnyOrder(seed: Int) throws {
    var world = World(random: SeededNumbers(seed: UInt64(seed)))
    let host = try #require(HostName("web1"))
    var limits = FakeHost.limits()
    limits.resumePage = 2
    let settings = HostSettings(
      host: host, journal: JournalID(UUIDBytes(high: 1, low: 1)), publicKey: world.digest(),
      servers: ["s", "t"], follow: [FollowRule(include: [BytePath("/log/**/*.log"), BytePath("/log/x/*")])],
      limits: limits)
    var machine = HostMachine<CheapHash>(settings: settings)
    var effects: [HostEffect] = []
    let known = (0..<4).map { index in world.row(FileUUID(UUIDBytes(high: 1, low: UInt64(index)))) }
    let start = HostStart(
      files: known.map { StoredFile(row: $0, delivered: [world.number()]) },
      journal: JournalPosition(length: 1, root: .zero), noted: [world.number()])
    machine.step(.started(start), at: world.now, wall: world.wall(), into: &effects)
    for step in 0..<2_500 {
      for effect in effects { world.note(effect) }
      #expect(effects.count < 2_000, "step \(step)")
      effects = []
      let isNonsense = world.chance(seed % 3 == 0 ? 60 : 10)
      var input = isNonsense ? world.nonsense() : (world.answer() ?? world.nonsense())
      if let due = machine.nextDeadline, world.chance(10) {
        world.now = max(world.now, due)
        input = .tick
      } else if world.chance(2), seed % 5 == 0 {
        world.now = Instant(nanoseconds: world.number() >> 2)
      }
      machine.step(input, at: world.now, wall: world.wall(), into: &effects)
      if step % 500 == 0 { _ = machine.status }
    }
    #expect(world.asked.count < 2_000)
    var ticks = 0
    while let due = machine.nextDeadline, due <= world.now, ticks < 1_000 {
      ticks += 1
      effects = []
      machine.step(.tick, at: world.now, wall: world.wall(), into: &effects)
    }
    #expect(ticks < 1_000, "a tick leaves nothing due")
  }
}
