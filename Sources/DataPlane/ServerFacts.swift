package import JournalModel

package enum DiskOutcome: Hashable, Sendable {
  case done
  /// ENOSPC, EDQUOT, EIO on one file, ...: this file is refused for now and tried again (P4).
  case failed(String)
  /// The plain file is not where or what it should be. Handled in the same way, and called by its name.
  case unusable(String)
  /// A sync failed: the store stops (P4).
  case failedSync(String)
}

package struct VerifyAnswer: Hashable, Sendable {
  /// The greatest promise met, with its root; `from` of the effect when not even the first one is.
  package var upTo: UInt64
  package var root: Digest
  /// Those that were met, the greatest last.
  package var met: [Promise]
  /// Leaves that the verified bytes completed.
  package var leaves: LeafRange
  /// Beyond that, the greatest length whose roots the bytes don't have.
  package var failedAt: UInt64?
  /// Held bytes or leaves that the tree needs couldn't be read: nothing was verified, and nothing is known of the
  /// received bytes. To be handled like a failed write.
  package var unreadable: String?
  package init(
    upTo: UInt64, root: Digest, met: [Promise] = [], leaves: LeafRange, failedAt: UInt64?, unreadable: String? = nil
  ) {
    self.upTo = upTo
    self.root = root
    self.met = met
    self.leaves = leaves
    self.failedAt = failedAt
    self.unreadable = unreadable
  }
}

/// How bytes that are offered beside a string compare with it (W3).
package enum ProbeAnswer: Hashable, Sendable {
  /// They are its own. The root is that of the string up to their end.
  case same(root: Digest)
  /// From `at` on they are others. The frame now begins at `start`, where that leaf does, and `root` is the string's there.
  case differs(at: UInt64, start: UInt64, root: Digest)
  case unreadable
}

package enum RepairOutcome: Hashable, Sendable {
  /// The plain file holds exactly the committed bytes, synced.
  case done
  /// More than one slice lay beyond the synced length, or the counters differ: the old file was set aside under this
  /// name, kept, and a new one holds the committed bytes, synced.
  case setAside(BytePath)
  /// May be tried again.
  case failed(String)
  /// May be tried again: as `DiskOutcome.unusable`.
  case unusable(String)
  /// A sync failed: the store stops (P4).
  case failedSync(String)
}

package enum CreateOutcome: Hashable, Sendable {
  /// Made now with O_EXCL, or adopted; its directory is synced.
  case created
  /// Something else has the name.
  case taken
  /// May be tried again.
  case failed(String)
  /// May be tried again: as `DiskOutcome.unusable`.
  case unusable(String)
  /// A sync failed: the store stops (P4).
  case failedSync(String)
}
