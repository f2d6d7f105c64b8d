package import JournalModel
import JournalStore
import LMDBStore

/// A line of `inspect files --json` (`design/interfaces.md`).
package struct InspectedFile: Encodable, Sendable, Hashable {
  package var host: String
  /// In which role this node knows the file: `host` or `server`.
  package var role: String
  /// UUID.
  package var file: String
  package var identity: InspectedIdentity
  package var derived: Bool
  package var path: String
  package var born: String
  /// When the host closed it; null while open.
  @Null package var closed: String?
  @Null package var reason: String?
  /// Journaled bytes.
  package var length: UInt64
  package var durable: Durable
  /// At `length`.
  package var root: String
  @Null package var stored: String?
  /// Size of the plain file now; the journal's log holds what is not in it yet. Null on a host, or without log root.
  @Null package var plainBytes: UInt64?
  /// Its other strings, which disagree with this one.
  package var branches: [InspectedString] = []
  @Null package var parent: InspectedParent?
  /// From which offset on bytes are in a gap.
  @Null package var gapFrom: UInt64?

  package enum Durable: Encodable, Sendable, Hashable {
    /// Held here.
    case here(UInt64)
    /// Acknowledged by each server, as last noted in the journal.
    case noted([String: UInt64])

    package func encode(to encoder: any Encoder) throws {
      var container = encoder.singleValueContainer()
      switch self {
      case .here(let count): try container.encode(count)
      case .noted(let counts): try container.encode(counts)
      }
    }
  }
}

package struct InspectedIdentity: Codable, Sendable, Hashable {
  package var inode: UInt64
  @Null package var generation: UInt64?
  @Null package var birth: String?
  @Null package var subvolume: String?

  init(_ identity: InodeIdentity) {
    inode = identity.number
    generation = identity.generation
    birth = identity.birth?.rfc3339Nanoseconds
    subvolume = identity.subvolume?.text
  }
}

package struct InspectedParent: Codable, Sendable, Hashable {
  package var uuid: String
  package var length: UInt64
  package var root: String
  package var why: String

  init(_ parent: Parent) {
    uuid = parent.file.text
    length = parent.length
    root = parent.root.hex
    why = parent.why.word
  }
}

/// A string beside the first one of its file.
package struct InspectedString: Codable, Sendable, Hashable {
  /// Of the first byte in its plain file; those before are those of the string whose plain file `base` is.
  package var offset: UInt64
  @Null package var base: String?
  /// Durable bytes, those before `offset` included, and the root there.
  package var length: UInt64
  package var root: String
  package var stored: String
  /// The host said itself that it had other bytes. Not yet.
  package var declared = false

  init(_ row: StoredString, base: String?) {
    offset = row.start
    self.base = base
    length = row.committed
    root = row.root.hex
    stored = row.isMade ? String(decoding: row.stored.bytes, as: UTF8.self) : ""
  }
}

extension Parent.Why {
  var word: String {
    switch self {
    case .truncated: "truncated"
    case .rewound: "rewound"
    case .journalLost: "journal lost"
    }
  }
}

extension Inspection {
  /// Files of all hosts or of one, by host and uuid.
  package func files(of filter: HostName? = nil) throws -> [InspectedFile] {
    var result: [InspectedFile] = []
    for journal in try journals(of: filter) where journal.role == "host" {
      result += try hostFiles(journal)
    }
    let held = try journals(of: filter).filter { $0.role == "server" }
    if !held.isEmpty { result += try serverFiles(held) }
    return result.sorted { ($0.host, $0.file, $0.role) < ($1.host, $1.file, $1.role) }
  }

  private func hostFiles(_ journal: InspectedJournal) throws -> [InspectedFile] {
    guard let host else { return [] }
    let told = try FileHistory(of: [journal], in: self)
    var rows: [KnownFile] = []
    damage.note(
      try host.listFiles { row in
        rows.append(row)
        return true
      }, in: "journal")
    var noted = Dictionary(destinations.map { ($0, [FileUUID: UInt64]()) }, uniquingKeysWith: { first, _ in first })
    damage.note(
      try host.listDelivered { row in
        noted[row.server]?[row.file] = row.length
        return true
      }, in: "journal")
    return rows.map { row in
      let story = told[FileKey(host: journal.host, file: row.file)]
      return InspectedFile(
        host: journal.host.text, role: "host", file: row.file.text, identity: .init(row.inode.identity),
        derived: row.isDerived, path: row.path.escaped, born: row.born.rfc3339,
        closed: row.closed == nil ? nil : story?.closed?.rfc3339, reason: row.closed.map { "\($0)" },
        length: row.length, durable: .noted(noted.mapValues { $0[row.file] ?? 0 }), root: row.root.hex, stored: nil,
        plainBytes: nil, parent: story?.parent.map(InspectedParent.init), gapFrom: row.gapFrom)
    }
  }

  private func serverFiles(_ journals: [InspectedJournal]) throws -> [InspectedFile] {
    guard let server else { return [] }
    let hosts = Set(journals.map(\.host))
    let told = try FileHistory(of: journals, in: self)
    var rows: [StoredString] = []
    var branches: [FileKey: [InspectedString]] = [:]
    var stored: [UInt32: String] = [:]
    damage.note(
      try server.listStrings { row in
        guard hosts.contains(row.key.key.host) else { return true }
        // Ordered by file, then by string.
        if row.key.string == 0 { stored = [:] }
        stored[row.key.string] = String(decoding: row.stored.bytes, as: UTF8.self)
        if row.key.string == 0 {
          rows.append(row)
        } else if row.isDistinct {
          branches[row.key.key, default: []].append(InspectedString(row, base: row.branch.flatMap { stored[$0.base] }))
        }
        return true
      }, in: "holdings")
    return rows.map { row in
      let story = told[row.key.key]
      let stored = row.isMade ? String(decoding: row.stored.bytes, as: UTF8.self) : ""
      let isWhole = row.committed == row.recorded
      return InspectedFile(
        host: row.key.key.host.text, role: "server", file: row.key.key.file.text, identity: .init(row.identity),
        derived: row.isDerived, path: (story?.path ?? row.path).escaped, born: row.born.rfc3339,
        closed: row.closed == nil ? nil : story?.closed?.rfc3339, reason: row.closed.map { "\($0)" },
        length: row.recorded, durable: .here(row.committed),
        root: (isWhole ? row.root : story?.root ?? row.root).hex, stored: stored,
        plainBytes: row.isMade ? logs.flatMap { SmallFile.size($0 + "/" + stored) } : nil,
        branches: branches[row.key.key] ?? [], parent: row.parent.map(InspectedParent.init), gapFrom: row.gapFrom)
    }
  }
}

/// What only the records tell of files: when they were closed, what they continue, the root at the recorded length.
private struct FileHistory {
  struct Story {
    var path: BytePath?
    var parent: Parent?
    var closed: WallTime?
    var root: Digest?
    var length: UInt64 = 0
  }
  private var stories: [FileKey: Story] = [:]

  subscript(_ key: FileKey) -> Story? { stories[key] }

  init(of journals: [InspectedJournal], in inspection: Inspection) throws {
    for journal in journals {
      try inspection.forEachRecord(of: journal) { _, record in add(record, of: journal.host) }
    }
  }

  private mutating func add(_ record: Record, of host: HostName) {
    func key(_ file: FileUUID) -> FileKey { FileKey(host: host, file: file) }
    switch record.body {
    case .fileBorn(let born):
      stories[key(born.file), default: Story()].parent = born.parent
      stories[key(born.file), default: Story()].path = born.path
    case .rotated(let rotated):
      if let to = rotated.to { stories[key(rotated.file), default: Story()].path = to }
    case .fileClosed(let closed): stories[key(closed.file), default: Story()].closed = record.time
    case .bytesAppended(let appended):
      guard appended.end >= stories[key(appended.file)]?.length ?? 0 else { return }
      stories[key(appended.file), default: Story()].length = appended.end
      stories[key(appended.file), default: Story()].root = appended.root
    case .journalOpened, .gap, .unknown: break
    }
  }
}
