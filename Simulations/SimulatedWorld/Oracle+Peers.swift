import JournalModel
import JournalStore
import MerkleLog
import ServerCore
import WireProtocol

// What servers that are one another's peers owe each other (M1, M3), and what nobody may say of what isn't held (G2).

extension Oracle {
  // MARK: At each event

  /// Only what is durable is announced.
  func announces(_ server: SimulatedServer, _ change: Change) {
    for head in change.heads where !holds(server, change.subject, head) {
      fail(.durability, "server \(server.index) announces \(head.length) of \(change.subject) and doesn't hold it (G2)")
    }
  }

  /// Whatever of a peer's feed is said to be held is.
  func notes(_ server: SimulatedServer, _ held: UInt64, of announced: [ChangedSubject: Change]) {
    for change in announced.values where change.number <= held {
      for head in change.heads where !holds(server, change.subject, head) {
        return fail(
          .durability,
          "server \(server.index) says that it has a peer's feed up to \(held), and lacks \(head.length) of \(change.subject)"
        )
      }
    }
  }

  private func holds(_ server: SimulatedServer, _ subject: ChangedSubject, _ head: TreeHead) -> Bool {
    heads(server, subject).contains { $0 == head || $0.length > head.length }
  }

  /// No run has more of anything.
  private static var numbers: ClosedRange<UInt32> { 0...64 }

  private func heads(_ server: SimulatedServer, _ subject: ChangedSubject) -> [TreeHead] {
    let store = server.store.snapshot()
    switch subject {
    case .journal(let journal):
      return Self.numbers.compactMap { store.journal(SequenceKey(journal: journal, sequence: $0)) }
        .map { TreeHead(length: $0.length, root: $0.checkpoint?.root ?? .zero) }
    case .file(let key):
      return Self.numbers.compactMap { store.string(StringKey(key: key, string: $0)) }
        .map { TreeHead(length: $0.committed, root: $0.root) }
    }
  }

  /// A peer of this world keeps to the protocol.
  func accused(_ server: SimulatedServer, peer: Int, _ code: RefusalCode, _ text: String) {
    switch code {
    case .protocolViolation, .badSignature, .nameNotYours, .versionUnsupported, .badName:
      fail(.wire, "server \(server.index) accuses server \(world.dialingServer(peer) ?? -1): \(code): \(text)")
    default: break
    }
  }

  // MARK: At rest

  func holdsAll(_ host: SimulatedHost, _ known: Followed, at server: SimulatedServer) -> Bool {
    guard let row = row(server, host, known), !isDamaged(server, row) else { return false }
    return Int(row.committed) >= known.journaled
  }

  /// In what servers that are one another's peers differ, or what one of them doesn't know to be equal; nil: nothing, or
  /// they aren't peers.
  func peersLack() -> String? {
    guard world.hasPeers else { return nil }
    // What rotted can't be supplied, and who asked for it asks again.
    let damaged = damagedFiles()
    let sets = world.servers.map { holdings($0, except: damaged) }
    for server in world.servers.dropFirst() {
      let (one, other) = (sets[0], sets[server.index])
      guard one != other else { continue }
      let subjects = Set(one.keys).union(other.keys).filter { one[$0] != other[$0] }
      let texts = subjects.map { subject in
        "\(subject): server 0 \(text(one[subject])), server \(server.index) \(text(other[subject]))"
      }
      return "servers differ: " + texts.sorted().prefix(3).joined(separator: "; ")
    }
    if let owed = owedBeside(damaged) { return owed }
    guard damaged.isEmpty else { return nil }
    for server in world.servers {
      guard let status = server.process?.status else { return "server \(server.index) isn't running" }
      for peer in status.peers {
        guard peer.isConnected else {
          return "server \(server.index) isn't connected to \(peer.name): \(peer.lastError ?? "")"
        }
        if peer.lacking > 0 || peer.lackingThere > 0 {
          return
            "server \(server.index) lacks \(peer.lacking) changes of \(peer.name), which lacks \(peer.lackingThere)"
        }
        guard let digest = status.digest, status.isDigestCurrent else { return "server \(server.index) has no digest" }
        if peer.digest?.root != digest.root {
          return
            "server \(server.index) has the digest \(digest), and \(peer.name) says \(peer.digest.map { "\($0)" } ?? "none")"
        }
      }
    }
    return nil
  }

  /// What rotted on one server others still get from a third one that has it all.
  private func owedBeside(_ damaged: Set<FileKey>) -> String? {
    for host in world.hosts where !damaged.isEmpty {
      for known in ordered(host.index)
      where damaged.contains(FileKey(host: host.name, file: known.file)) && known.isBorn && !known.isMixed {
        guard world.servers.contains(where: { holdsAll(host, known, at: $0) }) else { continue }
        let lacking = world.servers.first { server in
          row(server, host, known).map { !isDamaged(server, $0) && Int($0.committed) < known.journaled } ?? true
        }
        if let lacking { return "server \(lacking.index) lacks some of \(known.file.text), which another one has" }
      }
    }
    return nil
  }

  private func text(_ heads: Set<TreeHead>?) -> String {
    guard let heads else { return "nothing" }
    return "[" + heads.map { "\($0.length)" }.sorted().joined(separator: " ") + "]"
  }

  private func damagedFiles() -> Set<FileKey> {
    var files: Set<FileKey> = []
    for server in world.servers where server.disk.everyFile.contains(where: \.isDamaged) {
      for row in (try? server.store.strings()) ?? [] where isDamaged(server, row) { files.insert(row.key.key) }
    }
    return files
  }

  private func holdings(_ server: SimulatedServer, except damaged: Set<FileKey>) -> [ChangedSubject: Set<TreeHead>] {
    var heads: [ChangedSubject: Set<TreeHead>] = [:]
    for row in (try? server.store.strings()) ?? [] where row.isDistinct && !damaged.contains(row.key.key) {
      heads[.file(row.key.key), default: []].insert(TreeHead(length: row.committed, root: row.root))
    }
    for row in (try? server.store.journals()) ?? [] {
      let head = TreeHead(length: row.length, root: row.checkpoint?.root ?? .zero)
      heads[.journal(row.key.journal), default: []].insert(head)
    }
    return heads
  }

  /// What the trie says, as far as it has followed, is what follows from the rows (M2).
  func checkDigests() {
    for server in world.servers {
      guard let process = server.process, !process.isCommitting, process.status.isDigestCurrent,
        let digest = process.status.digest
      else { continue }
      let leaves = holdings(server, except: []).map { HoldingsTrie<SimulatedTree>.leaf($0, TreeHead.ordered($1)) }
      let root = HoldingsTrie<SimulatedTree>.root(of: leaves.sorted { $0.position < $1.position })
      if root != digest.root {
        fail(.storedBytes, "server \(server.index): the trie's digest isn't that of what is held (M2)")
      }
    }
  }

  /// Equal heads are equal bytes: whatever one server's plain files and log have, the others have.
  func checkBetweenServers() {
    guard world.hasPeers else { return }
    let damaged = damagedFiles()
    var first: [FileKey: [TreeHead: [UInt8]]] = [:]
    for server in world.servers {
      for row in (try? server.store.strings()) ?? [] where row.isDistinct && !damaged.contains(row.key.key) {
        let head = TreeHead(length: row.committed, root: row.root)
        let bytes = heldBytes(server, row)
        if bytes.count != Int(row.committed) {
          fail(.lost, "server \(server.index): \(row.key.key.file.text) has \(bytes.count) of \(row.committed) bytes")
        }
        if let other = first[row.key.key]?[head], other != bytes {
          fail(.storedBytes, "server \(server.index): \(row.key.key.file.text) has other bytes under an equal root")
        }
        first[row.key.key, default: [:]][head] = bytes
      }
      if server.wasReplaced, server.suppliedBytes > 0 { world.mark(.replacedAndHealed) }
    }
  }
}
