import DataPlane
import HostCore
import JournalModel
import JournalStore
import MerkleLog
import Testing
import WireProtocol

@testable import ServerCore

/// Every input is legal in every state: random ones end in refusals, never in a trap, and an honest host beside them
/// notices nothing.
@Suite struct RobustnessTests {
  /// A hostile host with valid keys and its own name, and answers from nowhere.
  struct Hostile {
    var generator: SeededGenerator
    let limits = smallLimits()
    var ids: [ConnectionID] = []
    var journals: [FakeHost] = []

    mutating func number(_ count: Int) -> Int { Int.random(in: 0..<count, using: &generator) }

    mutating func length() -> UInt64 {
      switch number(6) {
      case 0: UInt64.max - UInt64(number(3))
      case 1: UInt64(Int64.max) - UInt64(number(3))
      case 2: UInt64.random(in: 0...UInt64.max, using: &generator)
      default: UInt64(number(200))
      }
    }

    mutating func signedLength() -> UInt64 { min(length(), UInt64(Int64.max)) }

    mutating func uuid() -> FileUUID { FakeHost.uuid(UInt64(number(6))) }
    mutating func root() -> Digest { Digest(words: UInt64(number(4)), 0, 0, 0) }

    mutating func record(_ host: FakeHost) {
      switch number(8) {
      case 0:
        host.bear(
          uuid(), ["/a", "/../..", "/" + String(repeating: "x", count: 255)][number(3)], born: Int64(number(9)))
      case 1 where !host.files.isEmpty: host.write(number(host.files.count), text(number(60), number(9)))
      case 2:
        let appended = BytesAppended(file: uuid(), offset: signedLength(), length: signedLength(), root: root())
        host.append(.bytesAppended(appended), nil)
      case 3:
        let closed = FileClosed(file: uuid(), length: signedLength(), root: root(), reason: .vanished)
        host.append(.fileClosed(closed), nil)
      case 4:
        let gap = Gap(
          subject: .file(uuid()), lower: signedLength(), upper: UInt64.max, reason: .truncated,
          provenLength: signedLength(), provenRoot: root())
        host.append(.gap(gap), nil)
      case 5: host.append(.unknown(type: 5_000, body: [1]), nil)
      default:
        if !host.files.isEmpty { host.write(number(host.files.count), text(1 + number(90), number(3))) }
      }
    }

    mutating func frame(_ host: FakeHost) -> Frame {
      let count = UInt64(host.records.count)
      switch number(15) {
      case 0: return host.hello
      case 1...5:
        let first = number(3) == 0 ? UInt64(number(Int(count))) : sent[host.journal] ?? 0
        guard first < count else { return .ping(nonce: 0) }
        let end = min(count, first + 1 + UInt64(number(8)))
        sent[host.journal] = end
        return host.recordFrame(first..<end)
      case 6: return .resumeQuery((0..<number(5)).map { _ in uuid() })
      case 7: return .records(Records(first: length(), encoded: [[1]], checkpoint: host.checkpoint(at: 0)))
      case 8: return .credit(total: length())
      case 9: return .goodbye(code: .other, text: "")
      case 10, 11: return .extend(.nothing(of: host.files.randomElement(using: &generator)?.uuid ?? uuid()))
      case 13: return .journalQuery(length: length())
      case 14: return .extendJournal(TreeHead(length: UInt64(number(12)), root: root()))
      case 12: return .extend(DurablePrefix(file: uuid(), length: signedLength(), root: root()))
      default: return .pong(nonce: length())
      }
    }

    var sent: [JournalID: UInt64] = [:]

    mutating func act(on world: FakeWorld) {
      if ids.isEmpty || number(20) == 0 {
        if journals.count < 5 {
          journals.append(FakeHost("evil", journal: UInt64(journals.count + 1), limits: limits))
        }
        let host = journals[number(journals.count)]
        let id = world.open(names: number(9) == 0 ? ["web9"] : ["evil"])
        ids.append(id)
        world.send(host.hello, on: id)
        sent[host.journal] = 0
        if case .welcome(let welcome) = world.answers[id]?.first { sent[host.journal] = welcome.heads.first?.length }
        owner[id] = host
      }
      let id = ids[number(ids.count)]
      guard let host = owner[id] else { return }
      record(host)
      switch number(6) {
      case 0, 1: world.send(frame(host), on: id)
      case 2, 3:
        // Plausible payload: right bytes where they go on, or nearly.
        guard !host.files.isEmpty else { return }
        let file = host.files[number(host.files.count)]
        guard !file.bytes.isEmpty else { return }
        let start = number(3) == 0 ? number(file.bytes.count) : min(Int(reached[file.uuid] ?? 0), file.bytes.count - 1)
        let end = min(file.bytes.count, start + 1 + number(48))
        var bytes = Array(file.bytes[start..<end])
        if number(10) == 0 { bytes[0] ^= 1 }
        reached[file.uuid] = UInt64(end)
        if number(12) == 0 {
          // Its bytes are others, it says: from the beginning.
          reached[file.uuid] = 0
          return world.send(.extend(.nothing(of: file.uuid)), on: id)
        }
        world.send(PayloadHeader(file: file.uuid, offset: UInt64(start), length: bytes.count), bytes, on: id)
      case 4:
        let size = 1 + number(60)
        world.send(PayloadHeader(file: uuid(), offset: length(), length: size), text(size, 1), on: id)
      default:
        if number(8) == 0 { world.feed(number(2) == 0 ? .closed(id) : .broken(id, "garbage")) }
        if number(3) == 0 { world.feed(strayAnswer()) }
      }
    }

    var owner: [ConnectionID: FakeHost] = [:]
    var reached: [FileUUID: UInt64] = [:]

    /// Answers to nothing: about strings that don't exist.
    mutating func strayAnswer() -> ServerInput {
      let key = StringKey(
        key: FileKey(host: HostName("nobody")!, file: uuid()), string: UInt32(number(3)))
      let leaves = LeafRange(file: uuid(), first: length(), hashes: [root()])
      switch number(8) {
      case 0:
        return .verified(
          key, VerifyAnswer(upTo: length(), root: root(), leaves: leaves, failedAt: number(2) == 0 ? length() : nil))
      case 1: return .written(key, upTo: length(), number(2) == 0 ? .done : .failedSync("EIO"))
      case 2: return .created(key, number(2) == 0 ? .created : .taken)
      case 3: return .repaired(key, .failed("EIO"))
      case 4:
        let answers = [
          ProbeAnswer.unreadable, .same(root: root()), .differs(at: length(), start: length(), root: root()),
        ]
        return number(2) == 0
          ? .compared(PayloadID(length()), isEqual: number(2) == 0) : .probed(PayloadID(length()), answers[number(3)])
      case 5: return .closed(ConnectionID(length()))
      case 6: return .received(ConnectionID(length()), .ping(nonce: 0))
      default: return .tick
      }
    }
  }

  @Test(arguments: UInt64(0)..<80) func `a hostile host changes nothing for others, and traps nothing`(seed: UInt64) {
    let limits = smallLimits()
    let world = FakeWorld(
      hosts: [firstStory(limits), smallAppends(limits)], limits: limits, seed: seed, mode: .random)
    for fault in FaultTests.faults {
      world.faults[fault] = Set((0..<5).map { _ in Int.random(in: 1...200, using: &world.generator) })
    }
    world.start()
    var hostile = Hostile(generator: SeededGenerator(seed: seed &+ 1_000))
    for round in 0..<300 {
      hostile.act(on: world)
      _ = world.run(turns: 4)
      #expect(world.mostPending <= 4_096 + 512)
      if seed % 4 == 0, round % 90 == 89 { world.crash(powerCut: true) }
    }
    for id in hostile.ids { world.feed(.closed(id)) }
    #expect(world.run())
    #expect(world.verdict().filter { $0 != "promises are left" } == [])
    #expect(world.machine.status.pendingBytes == 0)
  }

  /// The machine alone, fed anything at all, in any phase: answers come that no effect asked for.
  @Test(arguments: UInt64(0)..<60) func `random inputs in any phase trap nothing`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var machine = ServerMachine<MixHasher>(
      settings: ServerSettings(name: "s", limits: smallLimits(), totalCredit: 900), verifier: FakeVerifier())
    let host = firstStory(smallLimits())
    let stranger = firstStory(smallLimits(), host: "web3")
    var effects: [ServerEffect] = []
    var recent: [ServerEffect] = []
    if seed % 5 != 0 {
      feed(
        .started(journals: [], left: [], totals: [:], counterMatches: true, number: 0))
    }
    func number(_ count: Int) -> Int { Int.random(in: 0..<count, using: &generator) }
    func feed(_ input: ServerInput) {
      machine.step(
        input, at: Instant(nanoseconds: UInt64(number(90)) * 1_000_000_000), wall: WallTime(nanoseconds: 0),
        into: &effects)
      recent = (recent + effects).suffix(40)
      effects = []
    }
    for turn in 0..<2_000 {
      let id = ConnectionID(UInt64(number(4)))
      let file = host.files[number(4)]
      let key = StringKey(key: FileKey(host: host.name, file: file.uuid), string: number(9) == 0 ? 1 : 0)
      switch number(19) {
      case 17: feed(.received(id, .journalQuery(length: UInt64(number(90)))))
      case 18:
        let length = UInt64(number(host.records.count + 1))
        feed(.received(id, .extendJournal(host.head(at: length))))
      case 16:
        let asked = recent.compactMap { if case .load(let id, let query) = $0 { (id, query) } else { nil } }
        guard let (id, query) = asked.last else { continue }
        guard number(6) > 0 else {
          feed(.unreadable(id, .failed("EIO")))
          continue
        }
        let files: [LoadedFile] =
          switch query {
          case .files(let keys, _), .rows(let keys): keys.map { LoadedFile(key: $0, row: nil) }
          case .promises(let key, let length, _):
            [LoadedFile(key: key, row: nil, promisesEnd: number(2) == 0 ? nil : length / 2)]
          case .keys, .heads, .beginnings, .records, .frame, .roots, .changes, .digest, .subtrie, .triePart: []
          }
        // Too old, or with other files than were asked for.
        var answer = StoreAnswer(number: UInt64(number(2)), files: number(4) == 0 ? [] : files)
        if case .beginnings(_, let length) = query {
          let kept = KeptCheckpoint()
          answer.beginnings = (0..<number(3)).map {
            JournalBeginning(sequence: UInt32($0), length: length, frontier: host.frontier(at: length), kept: kept)
          }
        }
        if case .records(_, let first, _, _) = query, number(9) > 0 {
          answer.records = Array(host.records[min(Int(clamping: first), host.records.count)...].prefix(1 + number(4)))
        }
        feed(.loaded(id, answer))
      case 0: feed(.accepted(id, Peer(names: ["web1"], address: "")))
      case 1: feed(.received(id, host.hello))
      case 2: feed(.received(id, host.recordFrame(0..<UInt64(host.records.count))))
      case 3:
        let first = UInt64(number(host.records.count))
        feed(.received(id, (number(5) == 0 ? stranger : host).recordFrame(first..<UInt64(host.records.count))))
      case 4, 5, 6:
        let header = PayloadHeader(
          file: file.uuid, offset: UInt64(number(max(1, file.bytes.count))), length: number(50))
        feed(.receivedPayload(id, header, PayloadID(UInt64(turn))))
      case 7: feed(.received(id, .resumeQuery([file.uuid, file.uuid])))
      case 8: feed(.committed(number(6) == 0 ? .full("full") : number(30) == 0 ? .failed("EIO") : nil))
      case 9: feed(.created(key, [.created, .taken, .failed("EACCES")][number(3)]))
      case 10: feed(.written(key, upTo: UInt64(number(200)), number(5) == 0 ? .failed("ENOSPC") : .done))
      case 11:
        let length = file.roots.keys.sorted()[number(file.roots.count)]
        let leaves = LeafRange(file: file.uuid, first: 0, hashes: [])
        feed(
          .verified(
            key,
            VerifyAnswer(
              upTo: length, root: file.roots[length]!, leaves: leaves, failedAt: number(5) == 0 ? length : nil,
              unreadable: number(20) == 0 ? "EIO" : nil)))
      case 12: feed(.synced([.init(key: key, length: UInt64.max)], number(4) == 0 ? .failed("EMFILE") : .done))
      case 13:
        let asked = recent.compactMap { if case .compare(let id, _, _, _, _) = $0 { id } else { nil } }
        feed(
          .compared(asked.isEmpty ? PayloadID(1) : asked[number(asked.count)], isEqual: [true, false, nil][number(3)]))
      case 14: feed(number(2) == 0 ? .closed(id) : .broken(id, ""))
      default: feed(number(60) == 0 ? .stop : .tick)
      }
    }
    #expect(machine.status.pendingBytes < 900 * 3)
  }
}
