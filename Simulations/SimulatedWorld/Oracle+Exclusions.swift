import JournalModel
import JournalStore

// What can't be asked of a file, and why. Each exclusion names single files: whatever else waits or lacks bytes fails.

extension Oracle {
  /// Every file that a settlement still waits for may wait.
  var maySettleNever: Bool { maySettleNever(World.settleToken) }

  func maySettleNever(_ token: UInt64) -> Bool {
    world.hosts.allSatisfy { host in
      guard let waiting = host.process?.unsettledFiles, waiting.isComplete else { return false }
      if host.process?.settledTokens.contains(token) == true { return true }
      return !waiting.files.isEmpty
        && waiting.files.allSatisfy { file in
          guard let known = followed[host.index][file] else { return false }
          return world.servers.contains { mayWait(host, known, at: $0) }
        }
    }
  }

  /// The server may lack bytes of the file for ever.
  func mayWait(_ host: SimulatedHost, _ known: Followed, at server: SimulatedServer) -> Bool {
    if known.isMixed || known.inode?.isOverwritten == true { return true }
    if let row = row(server, host, known), isDamaged(server, row) { return true }
    // What another server has, it brings (M3).
    if world.hasPeers, world.servers.contains(where: { holdsAll(host, known, at: $0) }) { return false }
    // What none has comes by no other way: where it is owed, it is asked for.
    if world.hasPeers, !host.configured.contains(server.index) { return true }
    // What went while the host's configuration didn't have the server is owed to nobody.
    if host.everRemoved.contains(server.index), !isLiving(known, host) { return true }
    // Unless servers bring it to one another, what no longer stands on the host can't come again.
    return server.setbacks > 0 && !isLiving(known, host)
  }

  func isDamaged(_ server: SimulatedServer, _ row: StoredString) -> Bool {
    server.disk.inode(SimulatedServerPlane.path(row.stored), followLast: false)?.isDamaged ?? false
  }

  /// Bytes whose descriptor became stale can vanish with their name (F2).
  func lostDescriptor(_ host: Int, _ file: FileUUID) { followed[host][file]?.readInLife = 0 }

  /// A server holds less than it acknowledged, by the operator's hand: its acknowledgements begin anew. A host learns of
  /// it by asking after each start of the server, of files that live; of others only its digest can tell (M2, issue E).
  func setBack(_ server: SimulatedServer) {
    defer { modelSetBack(server) }
    let store = server.store.snapshot()
    for host in world.hosts {
      let records = journalRow(server, host.index)?.length ?? 0
      recordsAcknowledged[server.index][host.index] = records
      for known in ordered(host.index) {
        let row = store.string(StringKey(key: FileKey(host: host.name, file: known.file), string: 0))
        let before = known.acknowledged[server.index] ?? 0
        let now = Int(row?.committed ?? 0)
        known.acknowledged[server.index] = min(before, now)
      }
    }
  }

  /// Before a restored store is put beside them: the plain files as they survive a power cut. Of what the present store
  /// doesn't call synced, only what the file still has: a repair's cut of a crash's leftovers whose sync failed has left
  /// them on the disk and nowhere else (P4), and nobody was ever told that they are held.
  func remember(_ server: SimulatedServer) -> [[UInt8]] {
    ((try? server.store.strings()) ?? []).compactMap { row in
      let path = SimulatedServerPlane.path(row.stored)
      guard !isDamaged(server, row), let durable = server.disk.durableContent(path) else { return nil }
      let present = server.disk.inode(path, followLast: false)?.bytes ?? []
      let agreed = zip(durable, present).prefix { $0 == $1 }.count
      return Array(durable.prefix(max(agreed, Int(row.synced))))
    }
  }

  /// A store that was found to be older than the plain files cuts none of them (P3).
  func checkSalvage() {
    for (index, bytes) in salvage where !bytes.isEmpty {
      let disk = world.servers[index].disk
      if disk.everyFile.contains(where: \.isDamaged) { continue }
      let isThere = disk.everyFile.contains { $0.links > 0 && $0.bytes.starts(with: bytes) }
      if !isThere { fail(.lost, "server \(index): \(bytes.count) bytes went when its store was restored (P3)") }
    }
  }
}
