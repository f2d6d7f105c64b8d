import DataPlane
import JournalModel
import JournalStore
import MerkleLog

/// A plain file in the background sync on its way, and how much of it had been written. What became durable otherwise
/// meanwhile may have left memory.
struct SyncTarget {
  var key: StringKey
  var length: UInt64
}

// Folding (P2): bytes that were committed in the log are in their plain files already; they are synced in groups, and a
// commit then raises the synced lengths and trims the log.

extension ServerMachine where H.Value == Digest {
  private var syncInterval: Interval { .milliseconds(500) }

  mutating func noteUnsynced(_ index: Int, _ bytes: UInt64) {
    unsyncedBytes += bytes
    if !strings[index].isUnsynced {
      strings[index].isUnsynced = true
      unsynced.append(index)
    }
    let due = unsyncedBytes >= UInt64(max(0, limits.logCapacity)) / 4 ? now : now + syncInterval
    syncDue = min(syncDue ?? due, due)
  }

  /// Log payload didn't find room: the next sync is what makes room.
  mutating func requestSyncIfLogIsFull(_ size: UInt64) {
    if size <= UInt64(max(0, limits.logPayloadSize)), !unsynced.isEmpty { syncDue = now }
  }

  mutating func syncNow() {
    guard syncing == nil, phase == .serving || phase == .repairing else { return }
    syncDue = nil
    var targets: [SyncTarget] = []
    var effects: [ServerEffect.SyncTarget] = []
    for index in unsynced {
      strings[index].isUnsynced = false
      let length = min(strings[index].written, strings[index].committed)
      guard length > strings[index].syncedUpTo else { continue }
      let row = strings[index].row
      targets.append(SyncTarget(key: row.key, length: length))
      effects.append(ServerEffect.SyncTarget(key: row.key, stored: row.stored, length: length))
    }
    unsynced.removeAll(keepingCapacity: true)
    unsyncedBytes = 0
    guard !targets.isEmpty else { return }
    syncing = targets
    out.append(.sync(effects))
  }

  mutating func synced(_ lengths: [ServerInput.SyncedLength], _ outcome: DiskOutcome) {
    guard let targets = syncing else { return }
    syncing = nil
    switch outcome {
    case .done:
      for target in targets {
        guard let index = index(of: target.key) else { continue }
        strings[index].syncedUpTo = max(strings[index].syncedUpTo, target.length)
        if strings[index].row.synced < strings[index].syncedUpTo { markRowDirty(index) }
      }
    case .failed, .unusable:
      // Nothing was synced and nothing was lost: the log still holds it.
      for target in targets { if let index = index(of: target.key) { noteUnsynced(index, 0) } }
      syncDue = now + limits.retry
    case .failedSync(let text): halt("syncing plain files: \(text)")
    }
  }
}
