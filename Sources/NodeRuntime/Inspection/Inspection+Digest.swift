package import JournalModel
import JournalStore
import LMDBStore
import LinuxIO

/// What `inspect digest` prints (`design/interfaces.md`).
package struct InspectedDigest: Codable, Sendable, Hashable {
  /// SHA-256, in hexadecimal.
  package var digest: String
  package var journals: Int
  package var files: Int

  package var line: String { "\(digest)  \(journals) journals, \(files) files" }
}

extension Inspection {
  /// The digest of what a server holds (M2), of all hosts or of one: computed from the rows of journals and strings, not
  /// from the trie that the node keeps. Throws without a server's store.
  package func digest(of filter: HostName? = nil) throws -> InspectedDigest {
    guard let server else { throw Failure(description: "there is no server's store: only servers have a digest") }
    var heads: [ChangedSubject: [TreeHead]] = [:]
    damage.note(
      try server.listJournals { row in
        if let checkpoint = row.checkpoint {
          heads[.journal(row.key.journal), default: []].append(TreeHead(length: row.length, root: checkpoint.root))
        }
        return true
      }, in: "holdings")
    damage.note(
      try server.listStrings { row in
        if row.isDistinct {
          heads[.file(row.key.key), default: []].append(TreeHead(length: row.committed, root: row.root))
        }
        return true
      }, in: "holdings")
    if let filter { heads = heads.filter { $0.key.host == filter } }
    let leaves = heads.map { HoldingsTrie<SHA256Tree>.leaf($0, TreeHead.ordered($1)) }
    let files = heads.keys.count { if case .file = $0 { true } else { false } }
    let root = HoldingsTrie<SHA256Tree>.root(of: leaves.sorted { $0.position < $1.position })
    return InspectedDigest(digest: root.hex, journals: heads.count - files, files: files)
  }
}
