package import JournalModel

/// What a server's store holds of one host, in numbers (K3). Its row is changed in the commit of what it counts, by what
/// that commit changed: a batch that comes again changes nothing and counts nothing.
package struct HostTotals: Hashable, Sendable {
  /// Files, and those of them that no record closed.
  package var files: UInt64 = 0
  package var open: UInt64 = 0
  /// Strings beside the first one of their file.
  package var branches: UInt64 = 0
  /// Sequences beside the first one of their journal.
  package var forks: UInt64 = 0
  /// Bytes that all strings hold durably.
  package var bytes: UInt64 = 0
  /// Records of all journals, and their encoded bytes.
  package var records: UInt64 = 0
  package var recordBytes: UInt64 = 0
  /// Signed lengths and roots that no bytes have met.
  package var promises: UInt64 = 0
  /// Names of plain files.
  package var names: UInt64 = 0
  package init() {}
}

extension HostTotals {
  /// A row takes the place of `old`.
  package mutating func count(_ row: StoredString, insteadOf old: StoredString?) {
    if row.key.string == 0 {
      if old == nil { files += 1 }
      let (wasOpen, isOpen) = (old.map { $0.closed == nil } ?? false, row.closed == nil)
      if isOpen, !wasOpen { open += 1 }
      if wasOpen, !isOpen { open = open.saturatingSubtracting(1) }
    } else if old == nil {
      branches += 1
    }
    if old == nil { names += 1 }
    bytes = bytes.saturatingAdding(row.committed.saturatingSubtracting(old?.committed ?? row.start))
  }

  package mutating func count(_ run: ServerBatch.RecordRun) {
    if run.after.key.sequence > 0, run.first == run.after.start { forks += 1 }
    records += UInt64(run.encoded.count)
    recordBytes = recordBytes.saturatingAdding(run.encoded.saturatingSum { UInt64($0.count) })
  }

  /// A promise fewer.
  package mutating func countMet() { promises = promises.saturatingSubtracting(1) }
}

extension ServerHoldingsStore {
  /// The totals by their definition, from all rows: what `totals` must always be equal to.
  package func recount() throws(StoreError) -> [HostName: HostTotals] {
    var totals: [HostName: HostTotals] = [:]
    for journal in try journals() {
      let encoded = try records(of: journal.key, from: journal.start, count: .max, bytes: .max)
      totals[journal.host, default: HostTotals()].count(.init(first: journal.start, encoded: encoded, after: journal))
    }
    for row in try strings() { totals[row.key.key.host, default: HostTotals()].count(row, insteadOf: nil) }
    for promise in try promises() { totals[promise.key.host, default: HostTotals()].promises += 1 }
    return totals.filter { $0.value != HostTotals() }
  }
}
