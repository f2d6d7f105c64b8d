import JournalModel
import JournalStore
import ServerCore

extension Oracle {
  func unsettled() -> String {
    var parts: [String] = []
    for host in world.hosts {
      for known in ordered(host.index) where known.isBorn {
        for server in world.servers {
          let held = Int(row(server, host, known)?.committed ?? 0)
          guard held < known.journaled, held < known.owed else { continue }
          parts.append("server \(server.index) has \(held) of \(known.journaled) bytes of \(known.file.text)")
        }
      }
      parts += unread(host).map { "not journaled: \($0)" }
      parts += host.process?.unsettled.map { "host \(host.index): \($0)" } ?? []
      if host.process == nil { parts.append("host \(host.index) isn't running") }
    }
    return "not settled: " + (parts.isEmpty ? "no reason to be seen" : parts.prefix(4).joined(separator: "; "))
  }

  func ordered(_ host: Int) -> [Followed] { followed[host].values.sorted { $0.file < $1.file } }

  func row(_ server: SimulatedServer, _ host: SimulatedHost, _ known: Followed) -> StoredString? {
    server.store.snapshot().string(StringKey(key: FileKey(host: host.name, file: known.file), string: 0))
  }

  /// After healing: everything that exists stands everywhere, once, byte for byte.
  func checkAtRest() {
    for host in world.hosts {
      for path in unread(host) { fail(.missing, "not followed to its end: \(path)") }
      for known in ordered(host.index) { checkHistory(host, known) }
      for server in world.servers {
        checkHoldings(server, host)
        modelAtRest(server, host)
      }
    }
    checkBetweenServers()
    checkDigests()
    for server in world.servers {
      checkForeign(server)
      checkBranches(server)
      checkForks(server)
      checkTotals(server)
    }
    checkSalvage()
  }

  /// Files that a pattern finds now and whose bytes are not all journaled under their living uuid.
  func unread(_ host: SimulatedHost, where isMeant: (SimulatedDisk.Inode) -> Bool = { _ in true }) -> [String] {
    var result: [String] = []
    var seen: Set<ObjectIdentifier> = []
    for (path, inode) in livingFiles(host) where seen.insert(ObjectIdentifier(inode)).inserted && isMeant(inode) {
      let candidates = ordered(host.index).filter { $0.inode === inode && $0.isBorn }
      if inode.isOverwritten || candidates.contains(where: \.isMixed) { continue }
      let isComplete = candidates.contains {
        $0.journaled == inode.bytes.count && $0.bytes.prefix($0.journaled).elementsEqual(inode.bytes)
      }
      if !isComplete {
        let lengths = candidates.map { "\($0.file.text): \($0.journaled)" }.joined(separator: ", ")
        result.append("\(String(decoding: path.bytes, as: UTF8.self)) has \(inode.bytes.count) bytes [\(lengths)]")
      }
      if inode.bytes.isEmpty { world.mark(.emptyFile) }
      if inode.links > 1 { world.mark(.hardLinked) }
    }
    return result
  }

  func livingFiles(_ host: SimulatedHost) -> [(BytePath, SimulatedDisk.Inode)] {
    var result: [(BytePath, SimulatedDisk.Inode)] = []
    var stack = [BytePath("/log"), BytePath("/srv")]
    while let path = stack.popLast() {
      guard let directory = host.disk.inode(path, followLast: false), directory.kind == .directory else { continue }
      for name in host.disk.names(of: directory) {
        let child = path.appending(name)
        guard let entry = host.disk.inode(child, followLast: false) else { continue }
        switch entry.kind {
        case .directory: stack.append(child)
        case .regular: if SimulatedHost.isFollowed(child) { result.append((child, entry)) }
        case .symbolicLink:
          guard SimulatedHost.isFollowed(child), let target = host.disk.inode(child), target.kind == .regular else {
            continue
          }
          result.append((child, target))
        }
      }
    }
    // A base that is reached by links.
    let base = BytePath("/cur/now/log")
    guard let directory = host.disk.inode(base), directory.kind == .directory else { return result }
    for name in host.disk.names(of: directory) {
      let child = base.appending(name)
      guard let entry = host.disk.inode(child, followLast: false), entry.kind == .regular else { continue }
      if SimulatedHost.isFollowed(child) { result.append((child, entry)) }
    }
    return result
  }

  /// What was lost before it could be read is said (G7).
  private func checkHistory(_ host: SimulatedHost, _ known: Followed) {
    guard known.isBorn, !known.isMixed, let inode = known.inode, !inode.isOverwritten else { return }
    // A node that came late may have journaled any of the contents since; bytes that it never saw are no part of it.
    let contents = (known.incarnation..<inode.incarnations.count).map {
      SimulatedDisk.content(of: inode, incarnation: $0)
    }
    let journaled = known.bytes.prefix(known.journaled)
    let fitting = contents.filter { $0.count >= known.journaled && $0.prefix(known.journaled).elementsEqual(journaled) }
    guard let first = fitting.first else {
      return fail(.storedBytes, "\(known.file.text): what was journaled isn't what its inode held")
    }
    guard !fitting.contains(where: { $0.count == known.journaled }) else { return }
    let isOver = first.count != inode.bytes.count || SimulatedDisk.isGone(inode)
    guard isOver else { return }
    if known.closed == .deleted {
      fail(.lost, "\(known.file.text) is closed as deleted with \(first.count - known.journaled) bytes unread")
    }
    if known.closed == nil, known.gapFrom == nil {
      fail(.silence, "\(known.file.text) lost \(first.count - known.journaled) bytes, and no record says so (G7)")
    }
  }

  /// The totals that a server shows, and those that its store keeps, are those of what it holds, each thing counted once
  /// (K3).
  func checkTotals(_ server: SimulatedServer) {
    guard let status = server.process?.status else { return }
    guard let held = try? server.store.recount(), let totals = try? server.store.totals() else { return }
    if totals != held { fail(.storeContract, "server \(server.index): totals differ from what is held") }
    if server.process?.isCommitting == true { return }
    for host in status.hosts where host.totals != held[host.name] ?? HostTotals() {
      fail(.storedBytes, "server \(server.index): status counts other than what is held of \(host.name)")
    }
  }

  /// What is being made has a row that says so (K2): no start would find it otherwise.
  func starts(_ server: SimulatedServer) throws(StoreError) {
    let unfinished = Set(try server.store.unfinished())
    for row in try server.store.strings() where !row.isMade && !unfinished.contains(row.key) {
      fail(.storeContract, "server \(server.index): \(row.stored) is being made, and no row says so (K2)")
    }
  }

  /// When a server begins to serve, no plain file has bytes that a crash left ahead of their commit (K2): whoever reads
  /// there sees what is held. Not said where a backup came between, or where a repair failed.
  func serves(_ server: SimulatedServer) {
    guard server.setbacks == 0, let status = server.process?.status, status.failing == 0 else { return }
    for row in (try? server.store.strings()) ?? [] where row.isMade && !isDamaged(server, row) {
      let size = server.disk.inode(SimulatedServerPlane.path(row.stored), followLast: false)?.bytes.count ?? 0
      let held = row.committed - row.start
      if size > held {
        fail(.storedBytes, "server \(server.index) serves, \(row.stored) has \(size) bytes of \(held) (K2)")
      }
    }
  }

  /// What is journaled of each file, and not in a gap.
  func owed(by host: SimulatedHost) -> [FileUUID: Int] {
    var owed: [FileUUID: Int] = [:]
    for known in ordered(host.index) where known.isBorn {
      owed[known.file] = isLiving(known, host) ? known.journaled : min(known.journaled, known.owed)
    }
    return owed
  }

  /// Every server has what was owed when the host was asked: at the moment when it says so, not when peers have brought it
  /// (G4). Of a server that lost something since it was met it can't know.
  func saysSettled(_ host: SimulatedHost, _ asked: [FileUUID: Int]) {
    let owed = owed(by: host)
    for server in world.servers where host.configured.contains(server.index) && host.process?.knows(server) == true {
      for known in ordered(host.index) where !known.isMixed && known.inode?.isOverwritten != true {
        guard let asked = asked[known.file], let owed = owed[known.file] else { continue }
        let row = row(server, host, known)
        if let row, isDamaged(server, row) { continue }
        let held = Int(row?.committed ?? 0)
        if held < min(asked, owed) {
          fail(
            .missing,
            "host \(host.index) says settled, server \(server.index): \(known.file.text) has \(held) of \(min(asked, owed))"
          )
        }
      }
    }
  }

  /// The host said so of this file on this server, though it may wait for ever.
  private func saysSettled(_ host: SimulatedHost, _ known: Followed, at server: SimulatedServer) -> Bool {
    host.process?.settledTokens.contains(World.settleToken) == true && host.configured.contains(server.index)
      && server.setbacks == 0 && !known.isMixed && known.inode?.isOverwritten != true
  }

  private func checkHoldings(_ server: SimulatedServer, _ host: SimulatedHost) {
    for known in ordered(host.index) where known.isBorn {
      let name = "server \(server.index): \(known.file.text)"
      guard let row = row(server, host, known) else {
        fail(.missing, "\(name) isn't there")
        continue
      }
      let held = heldBytes(server, row)
      let owed = isLiving(known, host) ? known.journaled : min(known.journaled, known.owed)
      if isDamaged(server, row) {
        world.mark(.damaged)
        continue
      }
      if held.count < Int(row.committed) {
        fail(.lost, "\(name) has \(held.count) of \(row.committed) committed bytes")
      } else if held.count < owed, !mayWait(host, known, at: server) || saysSettled(host, known, at: server) {
        fail(.missing, "\(name) has \(held.count) of \(owed) bytes")
      } else if held.count > known.bytes.count || !known.bytes.prefix(held.count).elementsEqual(held) {
        fail(.storedBytes, "\(name) holds other bytes than were read")
      }
      let file = server.disk.inode(SimulatedServerPlane.path(row.stored), followLast: false)?.bytes ?? []
      if file.count > held.count && !known.isMixed || !held.prefix(file.count).elementsEqual(file.prefix(held.count)) {
        fail(.storedBytes, "\(name): the plain file has \(file.count) bytes, held are \(held.count)")
      }
    }
  }

  /// A pattern finds the very bytes now: no gap excuses a server that lacks them.
  func isLiving(_ known: Followed, _ host: SimulatedHost) -> Bool {
    guard known.closed != .truncated, let inode = known.inode, inode.links > 0, inode.bytes.count == known.journaled,
      known.bytes.prefix(known.journaled).elementsEqual(inode.bytes)
    else { return false }
    return livingFiles(host).contains { $0.1 === inode }
  }

  /// What is held of the adversary's own files is what one of its journals signed, each string another's (M1, G5).
  private func checkBranches(_ server: SimulatedServer) {
    guard let adversary = world.adversary else { return }
    let all = ((try? server.store.strings()) ?? []).filter { $0.key.key.host == adversary.host && $0.isMade }
    let damaged = Set(all.filter { isDamaged(server, $0) }.map(\.key.key))
    let rows = all.filter { !damaged.contains($0.key.key) }
    for row in rows where row.isDistinct {
      let name = "server \(server.index): \(row.key.key.file.text), string \(row.key.string)"
      if row.key.string > 0 { world.mark(.branchHeld) }
      let (held, signed) = (heldBytes(server, row), adversary.contents(of: row.key.key.file))
      if !signed.isEmpty, !signed.contains(held) { fail(.storedBytes, "\(name) has bytes that nobody signed") }
      for other in rows where other.key.key == row.key.key && other.key != row.key {
        if heldBytes(server, other).starts(with: held) { fail(.doubled, "\(name) is held by \(other.key.string) too") }
      }
    }
  }

  /// What is held of the adversary's own journal is what one of its histories signed, each sequence another's (M1).
  private func checkForks(_ server: SimulatedServer) {
    guard let adversary = world.adversary else { return }
    let held = sequences(server, of: adversary.journal)
    if held.count > 1 { world.mark(.forkHeld) }
    for (number, records) in held.enumerated() {
      let name = "server \(server.index): sequence \(number) of the adversary's journal"
      if !adversary.histories.contains(where: { $0.starts(with: records) }) {
        fail(.storedBytes, "\(name) has records that nobody signed")
      }
      for (other, longer) in held.enumerated() where other != number && longer.starts(with: records) {
        fail(.doubled, "\(name) is held by \(other) too")
      }
    }
  }

  private func sequences(_ server: SimulatedServer, of journal: HostJournal) -> [[[UInt8]]] {
    let rows = ((try? server.store.journals()) ?? []).filter { $0.key.journal == journal }
    return rows.map { (try? server.store.records(of: $0.key, from: 0, count: .max, bytes: .max)) ?? [] }
  }

  /// What a server lacks of all that the adversary has.
  func unheldOfAdversary() -> String? {
    guard let adversary = world.adversary else { return nil }
    for server in world.servers {
      let sequences = sequences(server, of: adversary.journal)
      for (number, history) in adversary.histories.enumerated()
      where !sequences.contains(where: { $0.starts(with: history) }) {
        return "server \(server.index) lacks history \(number) of the adversary's journal"
      }
      let rows = ((try? server.store.strings()) ?? []).filter { $0.key.key.host == adversary.host }
      let held = Dictionary(grouping: rows) { $0.key.key.file }.mapValues { $0.map { heldBytes(server, $0) } }
      for file in adversary.files {
        let lacking = adversary.contents(of: file).count { bytes in
          held[file]?.contains { $0.starts(with: bytes) } != true
        }
        if lacking > 0 { return "server \(server.index) lacks \(lacking) strings of the adversary's \(file.text)" }
      }
    }
    return nil
  }

  /// Nothing is held that no host wrote.
  private func checkForeign(_ server: SimulatedServer) {
    for row in (try? server.store.journals()) ?? [] where row.host != world.adversary?.host && row.key.sequence > 0 {
      fail(.foreign, "server \(server.index) holds two histories of \(row.host)")
    }
    for row in (try? server.store.strings()) ?? [] where row.key.key.host != world.adversary?.host {
      let host = world.hosts.first { $0.name == row.key.key.host }
      if host.flatMap({ followed[$0.index][row.key.key.file] })?.isBorn != true || row.key.string != 0 {
        fail(.foreign, "server \(server.index) holds \(row.key.key.file.text), string \(row.key.string)")
      }
    }
    var names: Set<BytePath> = []
    for row in (try? server.store.strings()) ?? [] where !names.insert(row.stored).inserted {
      fail(.doubled, "server \(server.index) keeps two files under one name")
    }
  }
}
