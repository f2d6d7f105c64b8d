package import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
import MerkleLog

/// What `inspect` prints when it is asked for nothing in particular.
package struct InspectedOverview: Encodable, Sendable, Hashable {
  /// The node's name; null where only a data folder is known that holds no journal of its own.
  @Null package var name: String?
  /// Of whom journals are here: `host` the node's own, `server` those that it received.
  package var roles: [String]
  package var hosts: Int
  package var journals: [Journal]
  package var files: Int
  /// How many of the files are not closed.
  package var open: Int
  /// Journaled bytes of all files, in each role.
  package var length: UInt64
  /// Bytes held here; null on a node that is no server.
  @Null package var durable: UInt64?
  /// Files of which bytes are known to be lost.
  package var gaps: Int

  package struct Journal: Encodable, Sendable, Hashable {
    package var host: String
    package var role: String
    package var journal: String
    package var records: UInt64
    /// Number of the first record that isn't as in the sequence of this journal that came first; null for that one.
    @Null package var fork: UInt64?
    /// Over all records; null while there are none.
    @Null package var root: String?
  }
}

extension Inspection {
  /// `name`: the node's, where a configuration says it.
  package func overview(name: String?, of filter: HostName? = nil) throws -> InspectedOverview {
    let journals = try journals(of: filter)
    let files = try files(of: filter)
    let held = files.filter { $0.role == "server" }
    let isServer = server != nil
    return InspectedOverview(
      name: name ?? journals.first { $0.role == "host" }?.host.text,
      roles: (host == nil ? [] : ["host"]) + (isServer ? ["server"] : []),
      hosts: Set(journals.map(\.host)).count, journals: try heads(of: journals), files: files.count,
      open: files.count { $0.reason == nil }, length: files.saturatingSum(\.length),
      durable: isServer ? held.saturatingSum(\.durable.here) : nil,
      gaps: files.count { file in file.gapFrom.map { $0 < file.length } ?? false })
  }

  private func heads(of journals: [InspectedJournal]) throws -> [InspectedOverview.Journal] {
    var received: [SequenceKey: Digest] = [:]
    _ = try server?.listJournals { held in
      received[held.key] = held.checkpoint?.root
      return true
    }
    return journals.map { journal in
      let root =
        if let host, journal.role == "host" {
          damage.reading("journal") { () throws(StoreError) in try host.root(at: journal.length) }
        } else {
          received[
            SequenceKey(
              journal: HostJournal(host: journal.host, journal: journal.journal), sequence: journal.sequence)]
        }
      return .init(
        host: journal.host.text, role: journal.role, journal: journal.journal.text, records: journal.length,
        fork: journal.fork, root: journal.length > 0 ? root?.hex : nil)
    }
  }
}

extension InspectionText {
  package static func overview(_ overview: InspectedOverview) -> String {
    func count(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
    let held = overview.durable.map { ", \($0) held here" } ?? ""
    let head = [
      "\(overview.name ?? "-") (\(overview.roles.joined(separator: ", "))): \(count(overview.hosts, "host")), "
        + "\(count(overview.files, "file")), \(overview.open) open",
      "bytes: \(overview.length) journaled\(held)",
      overview.gaps == 0 ? "no gaps" : "\(count(overview.gaps, "file")) with gaps: see inspect files",
    ]
    var table = TextTable("HOST", "ROLE", "JOURNAL", ">RECORDS", ">FORK", "ROOT")
    for journal in overview.journals {
      let root = String(journal.root?.prefix(16) ?? "-")
      table.add(
        journal.host, journal.role, journal.journal, "\(journal.records)", journal.fork.map { "\($0)" } ?? "-", root)
    }
    return (head + table.lines).joined(separator: "\n") + "\n"
  }
}
