import JournalModel
import JournalStore
import MerkleLog
import Testing
import WireProtocol

@testable import ServerCore

/// What is held is judged against what hosts have, and what a power cut would leave of it.
extension FakeWorld {
  /// What would be left of a string after a power cut at this moment.
  func durableBytes(_ row: StoredString) -> [UInt8] {
    let base = row.base.flatMap { store.snapshot().string($0) }
    var bytes = Array(base.map { durableBytes($0) }?.prefix(Int(row.start)) ?? [])
    bytes += disk[row.stored]?.durable.prefix(Int(row.synced - row.start)) ?? []
    let ranges = (try? store.logRanges())?.filter { $0.key == row.key } ?? []
    for range in ranges where range.offset + UInt64(range.length) > UInt64(bytes.count) {
      guard range.offset <= UInt64(bytes.count), let log = try? store.logPayload(of: row.key, offset: range.offset)
      else { break }
      bytes += log.suffix(Int(range.offset) + log.count - bytes.count)
    }
    return bytes
  }

  /// What a file's bytes are by each of the hosts that have its name: clones have other ones.
  private func originals(_ key: FileKey) -> [[UInt8]] {
    let hosts = fleet?.worlds.flatMap(\.hosts) ?? hosts
    return hosts.filter { $0.name == key.host }.flatMap(\.files).filter { $0.uuid == key.file }.map(\.bytes)
  }

  private func strings(_ key: FileKey) -> [StoredString] {
    let holdings = store.snapshot()
    return [holdings.string(key.first)].compactMap { $0 } + holdings.branches(of: key)
  }

  /// Whether the first `length` bytes that are durable of a string have this root.
  private func has(_ row: StoredString, _ root: Digest, at length: UInt64) -> Bool {
    row.committed == length ? row.root == root : self.root(durableBytes(row).prefix(Int(length))) == root
  }

  private func root(_ bytes: some Sequence<UInt8>) -> Digest {
    var tree = FileTree<MixHasher>(leafSize: settings.limits.leafSize)
    tree.append(Array(bytes).span.bytes)
    return tree.root
  }

  func judge(_ row: StoredString) {
    let bytes = durableBytes(row)
    if UInt64(bytes.count) != row.committed { complaints.append("committed \(row.committed), durable \(bytes.count)") }
    let originals = originals(row.key.key)
    if !originals.isEmpty, !originals.contains(where: { $0.starts(with: bytes) }) {
      complaints.append("other bytes durable")
    }
  }

  /// G2: whatever tells a host of a length is checked against the durable image.
  func judge(_ frame: Frame, to id: ConnectionID) {
    guard let index = links[id] else { return }
    let host = hosts[index]
    func check(_ file: FileUUID, _ length: UInt64, _ root: Digest? = nil) {
      acknowledgements += 1
      guard length > 0 else { return }
      let rows = strings(FileKey(host: host.name, file: file)).filter {
        $0.committed >= length && (root == nil || has($0, root!, at: length))
      }
      if rows.isEmpty { return complaints.append("\(length) bytes stated that aren't committed") }
      for row in rows { judge(row) }
    }
    switch frame {
    case .recordsDurable(let head): judge([head], of: host)
    case .welcome(let welcome): judge(welcome.heads, of: host)
    case .payloadDurable(let prefixes): for held in prefixes { check(held.file, held.length, held.root) }
    case .resumeAnswer(let files):
      for file in files { for string in file.strings { check(file.file, string.length, string.root) } }
    case .refusal(let refusal): if let file = refusal.file { check(file, refusal.length) }
    default: break
    }
  }

  private func judge(_ heads: [Checkpoint], of host: FakeHost) {
    let holdings = store.snapshot()
    acknowledgements += heads.count
    for head in heads {
      let isHeld = holdings.sequences(of: host.sequence(0).journal).contains { row in
        let frontier = try? holdings.frontier(of: row.key, at: head.length, hasher: MixHasher.self)
        return frontier?.root == head.root
      }
      if !isHeld { complaints.append("\(head.length) records stated that aren't durable") }
    }
  }

  /// All that is held of a host's journal.
  func histories(of host: FakeHost) -> [[[UInt8]]] {
    store.snapshot().sequences(of: host.sequence(0).journal).map {
      (try? store.records(of: $0.key, from: 0, count: .max, bytes: .max)) ?? []
    }
  }

  /// Everything that is wrong at the end.
  func verdict() -> [String] {
    var wrong = complaints + disk.complaints
    let holdings = store.snapshot()
    for host in hosts {
      let histories = histories(of: host)
      if !histories.contains(host.records) { wrong.append("the records of \(host.name) aren't held as they are") }
      let isFork = histories.count > Set(hosts.filter { $0.sequence(0) == host.sequence(0) }.map(\.records)).count
      if isFork { wrong.append("\(host.name)'s journal is held as \(histories.count) sequences") }
      for file in host.files {
        let rows = strings(FileKey(host: host.name, file: file.uuid))
        let own = rows.filter { durableBytes($0).starts(with: file.bytes) }
        if own.isEmpty {
          wrong.append("\(file.path) is held by none of \(rows.map { "\($0.committed) of \($0.recorded)" })")
        }
        if rows.count == 1, own.first?.root != file.tree.root, hosts.count(where: { $0.name == host.name }) == 1 {
          wrong.append("root of \(file.path)")
        }
      }
    }
    for row in (try? store.strings()) ?? [] {
      let bytes = durableBytes(row)
      if row.committed != UInt64(bytes.count) || row.root != root(bytes) || row.synced != row.committed {
        wrong.append("row of \(row.path): committed \(row.committed) synced \(row.synced) of \(bytes.count)")
      }
      if disk[row.stored]?.cache != Array(bytes.dropFirst(Int(row.start))) { wrong.append("bytes of \(row.path)") }
      if let branch = row.branch, let base = row.base.flatMap({ holdings.string($0) }) {
        let shared = zip(durableBytes(base), bytes).prefix { $0 == $1 }.count
        if shared != Int(branch.divergence), row.isDistinct { wrong.append("\(row.path) leaves elsewhere") }
      }
      let originals = originals(row.key.key)
      if originals.count > 1, !originals.contains(where: { $0 == bytes }) {
        wrong.append("\(row.path): a string of nobody")
      }
    }
    // K3: counted once, whatever was repeated, and known to the machine.
    let totals = (try? store.recount()) ?? [:]
    if (try? store.totals()) != totals { wrong.append("totals differ from what is held") }
    for host in machine.status.hosts where host.totals != totals[host.name] ?? HostTotals() {
      wrong.append("status of \(host.name) differs from what is held")
    }
    let names = ((try? store.strings()) ?? []).map(\.stored)
    if Set(names).count != names.count { wrong.append("two strings share a plain file") }
    let isCloned = Set(hosts.map(\.name)).count < hosts.count
    if !isCloned, (try? store.promises()) != [] { wrong.append("promises are left") }
    if (try? store.logRanges()) != [] { wrong.append("log payload is left") }
    return wrong
  }
}

/// The story goes on to its end, with every byte, wherever the power goes: before every `stride`-th effect.
func expectSurvival(
  ofPowerCutsEvery stride: Int, moreThan count: Int, mode: FakeWorld.Mode, _ limits: Limits,
  _ hosts: () -> [FakeHost], sourceLocation: SourceLocation = #_sourceLocation
) {
  var index = 0
  while true {
    let world = FakeWorld(hosts: hosts(), limits: limits, seed: UInt64(index), mode: mode)
    world.crashAt = index
    world.start()
    let isSettled = world.run()
    let verdict = world.verdict()
    #expect(
      isSettled && verdict == [], "crash before effect \(index): \(verdict)", sourceLocation: sourceLocation)
    if !isSettled || !verdict.isEmpty || world.crashes == 0 { break }
    index += stride
  }
  #expect(index > count, sourceLocation: sourceLocation)
}

/// The same through failures, cuts and power cuts at random.
func expectSurvival(
  ofFailures faults: [FakeWorld.Fault], seed: UInt64, _ limits: Limits, _ hosts: [FakeHost],
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let world = FakeWorld(hosts: hosts, limits: limits, seed: seed, mode: .random)
  for fault in faults {
    world.faults[fault] = Set((0..<8).map { _ in Int.random(in: 1...120, using: &world.generator) })
  }
  world.cutOneIn = 80
  world.start()
  for _ in 0..<20 {
    world.crashAt = world.effects + Int.random(in: 1...120, using: &world.generator)
    _ = world.run(turns: 120)
  }
  world.crashAt = nil
  #expect(world.run(), sourceLocation: sourceLocation)
  #expect(world.verdict() == [], sourceLocation: sourceLocation)
}
