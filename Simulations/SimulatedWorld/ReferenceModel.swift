import JournalModel
import JournalStore

/// What the whole system is, without time, disks, memory or connections: a journal is a list of records that only
/// grows; a server holds, for each host, the beginning of its journal and, for each file of which it holds the birth, the
/// beginning of its bytes up to a length that one of those records states. It acknowledges what it holds. Nothing is
/// ever taken back, whatever dies, but by an operator who puts an older store in the place of a server's.
///
/// Fed with what stores commit and what servers say; `Oracle` asks it at each of these events and at rest. What the
/// bytes are, and whether they survive a power cut, is the oracle's own question.
struct ReferenceModel {
  /// A host's journal: what its records say of files.
  private struct Journal {
    var records: [UInt64] = []
    /// By file: the birth's position, and each length that a record states with that record's position.
    var births: [FileUUID: Int] = [:]
    var lengths: [FileUUID: [UInt64: Int]] = [:]
  }
  private struct Holding: Hashable {
    var records = 0
    var lengths: [FileUUID: UInt64] = [:]
  }
  private var journals: [Int: Journal] = [:]
  /// By host: its records when it was last asked.
  private var asked: [Int: Int] = [:]
  /// By server, then host.
  private var holdings: [Int: [Int: Holding]] = [:]

  // MARK: Hosts

  func recordCount(_ host: Int) -> Int { journals[host]?.records.count ?? 0 }

  /// What is wrong with it, nil when nothing; so below.
  mutating func journal(_ host: Int, from first: Int, _ encoded: [[UInt8]]) -> String? {
    guard first == recordCount(host) else {
      return "records from \(first) are committed to a journal of \(recordCount(host))"
    }
    for bytes in encoded {
      let position = journals[host]?.records.count ?? 0
      journals[host, default: Journal()].records.append(Mix.hash(bytes))
      guard let record = try? Record(decoding: bytes) else { return "record \(position) can't be decoded" }
      switch record.body {
      case .fileBorn(let born): journals[host]?.births[born.file] = position
      case .bytesAppended(let appended): journals[host]?.lengths[appended.file, default: [:]][appended.end] = position
      default: break
      }
    }
    return nil
  }

  // MARK: Servers

  mutating func accept(_ server: Int, _ host: Int, from first: Int, _ encoded: [[UInt8]]) -> String? {
    let held = holdings[server]?[host]?.records ?? 0
    guard first == held else { return "records from \(first) after \(held)" }
    guard held + encoded.count <= recordCount(host) else { return "more records than the host has" }
    let journal = journals[host]?.records ?? []
    for (index, bytes) in encoded.enumerated() where Mix.hash(bytes) != journal[held + index] {
      return "record \(held + index) isn't the host's"
    }
    holdings[server, default: [:]][host, default: Holding()].records += encoded.count
    return nil
  }

  /// A file's row is committed: its birth is held, and its length is none that no held record states.
  mutating func hold(_ server: Int, _ host: Int, _ file: FileUUID, _ length: UInt64) -> String? {
    let holding = holdings[server]?[host] ?? Holding()
    guard let birth = journals[host]?.births[file], birth < holding.records else {
      return "\(file.text) is held before its birth (W1)"
    }
    let before = holding.lengths[file] ?? 0
    guard length >= before else { return "\(file.text) shrinks from \(before) to \(length)" }
    if length > before {
      guard let position = journals[host]?.lengths[file]?[length] else {
        return "\(file.text) is held up to \(length), which no record states (W3)"
      }
      guard position < holding.records else { return "\(file.text) is held up to \(length) before its record (W1)" }
    }
    holdings[server, default: [:]][host, default: Holding()].lengths[file] = length
    return nil
  }

  /// The operator's hand: the only thing that takes anything back.
  mutating func setBack(_ server: Int, _ host: Int, records: Int, lengths: [FileUUID: UInt64]) {
    holdings[server, default: [:]][host] = Holding(records: records, lengths: lengths)
  }

  func acknowledges(_ server: Int, _ host: Int, records: UInt64) -> String? {
    let held = holdings[server]?[host]?.records ?? 0
    return records <= UInt64(held) ? nil : "\(records) records are acknowledged, \(held) held"
  }

  func acknowledges(_ server: Int, _ host: Int, _ file: FileUUID, _ length: UInt64) -> String? {
    let held = holdings[server]?[host]?.lengths[file] ?? 0
    return length <= held ? nil : "\(length) bytes of \(file.text) are acknowledged, \(held) held"
  }

  // MARK: At rest

  /// From now on the host has been asked when all that exists is delivered.
  mutating func ask(_ host: Int) { asked[host] = recordCount(host) }

  /// What a host that has answered says to be delivered.
  func lacks(_ server: Int, _ host: Int) -> String? {
    let held = holdings[server]?[host]?.records ?? 0
    let owed = asked[host] ?? 0
    return held >= owed
      ? nil : "\(held) records, \(owed) were there when the host was asked, and it says they are delivered"
  }

  /// The machine's store holds what the model holds, no more, no less.
  func differs(_ server: Int, _ host: Int, records: UInt64, lengths: [FileUUID: UInt64]) -> String? {
    let holding = holdings[server]?[host] ?? Holding()
    if UInt64(holding.records) != records { return "\(records) records, by the model \(holding.records)" }
    guard holding.lengths != lengths else { return nil }
    let files = Set(holding.lengths.keys).union(lengths.keys).sorted()
    let file = files.first { holding.lengths[$0] != lengths[$0] }
    return file.map {
      "\($0.text): \(lengths[$0].map(String.init) ?? "nothing"), by the model "
        + (holding.lengths[$0].map(String.init) ?? "nothing")
    }
  }
}

extension Oracle {
  /// The first record is there before the node's first start.
  func modelPrepared(_ host: SimulatedHost) {
    let first = (try? host.store.records(from: 0, count: .max, bytes: .max)) ?? []
    check(model.journal(host.index, from: 0, first), "host \(host.index)")
  }

  func modelJournaled(_ host: Int, _ batch: HostBatch, from first: UInt64) {
    check(model.journal(host, from: Int(first), batch.records), "host \(host)")
  }

  func modelCommitted(_ server: SimulatedServer, _ batch: ServerBatch) {
    for run in batch.records {
      guard let host = hostIndex(run.after.host) else { continue }
      check(model.accept(server.index, host, from: Int(run.first), run.encoded), "server \(server.index)")
    }
    for row in batch.strings {
      guard let host = hostIndex(row.key.key.host) else { continue }
      check(model.hold(server.index, host, row.key.key.file, row.committed), "server \(server.index)")
    }
  }

  func modelAtRest(_ server: SimulatedServer, _ host: SimulatedHost) {
    let (records, lengths) = stored(server, host)
    if host.process?.settledTokens.contains(World.settleToken) == true {
      check(model.lacks(server.index, host.index), "server \(server.index)")
    }
    check(
      model.differs(server.index, host.index, records: records, lengths: lengths), "server \(server.index) at rest")
  }

  func modelSetBack(_ server: SimulatedServer) {
    for host in world.hosts {
      let (records, lengths) = stored(server, host)
      model.setBack(server.index, host.index, records: Int(records), lengths: lengths)
    }
  }

  private func stored(_ server: SimulatedServer, _ host: SimulatedHost) -> (UInt64, [FileUUID: UInt64]) {
    var lengths: [FileUUID: UInt64] = [:]
    for row in (try? server.store.strings()) ?? [] where row.key.key.host == host.name {
      lengths[row.key.key.file] = row.committed
    }
    return (journalRow(server, host.index)?.length ?? 0, lengths)
  }

  func check(_ wrong: String?, _ place: String) {
    if let wrong { fail(.model, "\(place): \(wrong)") }
  }

  private func hostIndex(_ name: HostName) -> Int? { world.hosts.first { $0.name == name }?.index }
}
