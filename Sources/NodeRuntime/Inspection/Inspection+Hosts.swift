package import JournalModel

/// A line of `inspect hosts --json`.
package struct InspectedHost: Encodable, Sendable, Hashable {
  package var host: String
  package var role: String
  package var journals: [Journal]
  package var files: Int
  /// How many of the files are not closed.
  package var open: Int
  /// Journaled bytes of all files; on a server also those that are held.
  package var length: UInt64
  @Null package var durable: UInt64?
  /// Time of the last record.
  @Null package var lastRecord: String?

  package struct Journal: Encodable, Sendable, Hashable {
    package var journal: String
    package var records: UInt64
    /// As in the overview.
    @Null package var fork: UInt64?
  }
}

extension Inspection {
  package func hosts(of filter: HostName? = nil) throws -> [InspectedHost] {
    let files = try files(of: filter)
    var result: [InspectedHost] = []
    for journal in try journals(of: filter) {
      let entry = InspectedHost.Journal(journal: journal.journal.text, records: journal.length, fork: journal.fork)
      let last = try time(ofLastRecordOf: journal)?.rfc3339
      if let index = result.firstIndex(where: { $0.host == journal.host.text && $0.role == journal.role }) {
        result[index].journals.append(entry)
        result[index].lastRecord = max(result[index].lastRecord ?? "", last ?? "")
        continue
      }
      let own = files.filter { $0.host == journal.host.text && $0.role == journal.role }
      result.append(
        InspectedHost(
          host: journal.host.text, role: journal.role, journals: [entry], files: own.count,
          open: own.filter { $0.reason == nil }.count, length: own.saturatingSum(\.length),
          durable: journal.role == "server" ? own.saturatingSum(\.durable.here) : nil, lastRecord: last))
    }
    return result.sorted { ($0.host, $0.role) < ($1.host, $1.role) }
  }

  private func time(ofLastRecordOf journal: InspectedJournal) throws -> WallTime? {
    guard journal.length > 0 else { return nil }
    var time: WallTime?
    try forEachRecord(of: journal, from: journal.length - 1) { _, record in time = record.time }
    return time
  }
}

extension InspectedFile.Durable {
  var here: UInt64 {
    switch self {
    case .here(let count): count
    case .noted: 0
    }
  }
}
