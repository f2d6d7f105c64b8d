package import JournalModel

/// A line of `inspect events --json`: only the fields that its type has.
package struct InspectedEvent: Encodable, Sendable, Hashable {
  package var host: String
  package var role: String
  package var journal: String
  /// Its number in the journal, from 0.
  package var record: UInt64
  /// Of a sequence beside the one that came first: the number of its first record of its own.
  package var fork: UInt64?
  package var time: String
  package var type: String
  package var file: String?
  package var path: String?
  package var realPath: String?
  package var to: String?
  package var identity: InspectedIdentity?
  package var derived: Bool?
  package var born: String?
  package var mode: String?
  package var owner: UInt32?
  package var group: UInt32?
  package var parent: InspectedParent?
  package var offset: UInt64?
  package var length: UInt64?
  package var root: String?
  package var reason: String?
  package var publicKey: String?
  package var binding: String?
  /// Of a gap: half open, without `end` where it is unknown.
  package var end: UInt64?
  package var provenLength: UInt64?

  package init(_ journal: InspectedJournal, _ number: UInt64, _ record: Record) {
    host = journal.host.text
    role = journal.role
    self.journal = journal.journal.text
    self.record = number
    fork = journal.fork
    time = record.time.rfc3339
    switch record.body {
    case .journalOpened(let opened):
      type = "journal-opened"
      publicKey = opened.publicKey.hex
      binding = opened.binding.word
    case .fileBorn(let birth):
      type = "file-born"
      describe(birth)
    case .bytesAppended(let appended):
      type = "bytes-appended"
      file = appended.file.text
      offset = appended.offset
      length = appended.length
      root = appended.root.hex
    case .rotated(let rotated):
      type = "rotated"
      file = rotated.file.text
      path = rotated.from.escaped
      to = rotated.to?.escaped
    case .fileClosed(let closed):
      type = "file-closed"
      file = closed.file.text
      length = closed.length
      root = closed.root.hex
      reason = "\(closed.reason)"
    case .gap(let gap):
      type = "gap"
      describe(gap)
    case .unknown(let number, let body):
      type = "unknown"
      reason = "type \(number), \(body.count) bytes"
    }
  }

  private mutating func describe(_ birth: FileBorn) {
    file = birth.file.text
    path = birth.path.escaped
    realPath = birth.realPath.escaped
    identity = InspectedIdentity(birth.identity)
    derived = birth.isDerived
    born = birth.born.rfc3339Nanoseconds
    mode = String(birth.mode, radix: 8)
    owner = birth.owner
    group = birth.group
    parent = birth.parent.map(InspectedParent.init)
  }

  private mutating func describe(_ gap: Gap) {
    switch gap.subject {
    case .file(let uuid): file = uuid.text
    case .path(let name): path = name.escaped
    }
    offset = gap.lower
    end = gap.upper == .max ? nil : gap.upper
    reason = "\(gap.reason)"
    provenLength = gap.provenLength
    root = gap.provenRoot.hex
  }

  /// For people.
  package var detail: String {
    switch type {
    case "journal-opened": "key \(publicKey ?? "")"
    case "file-born": (path ?? "") + (parent.map { ", continues \($0.uuid) (\($0.why))" } ?? "")
    case "bytes-appended": "\(offset ?? 0) + \(length ?? 0)"
    case "rotated": "\(path ?? "") -> \(to ?? "no name")"
    case "file-closed": "\(reason ?? "") at \(length ?? 0)"
    case "gap": "\(path.map { $0 + " " } ?? "")\(offset ?? 0) ..< \(end.map(String.init) ?? "unknown"): \(reason ?? "")"
    default: reason ?? ""
    }
  }
}

extension Binding {
  var word: String {
    switch self {
    case .certificate(let chain, _): "certificate (\(chain.count))"
    case .journalKey: "journal key"
    }
  }
}
