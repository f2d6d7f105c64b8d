import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

/// A name under `latest`, and the file that has it: the one with the greatest birth time (P1).
struct LatestName: Hashable {
  var host: HostName
  /// As it is stored: several paths may come to one name.
  var path: BytePath
}

/// A host's word on a birth counts up to the moment when it was first heard: a file 'born in 2262' gives way to the next
/// one that this server hears of.
struct Newest: Hashable, Comparable {
  let born: WallTime
  let file: FileUUID

  init(_ row: StoredString) {
    born = min(row.born, row.received)
    file = row.key.key.file
  }

  static func < (l: Newest, r: Newest) -> Bool { (l.born, l.file) < (r.born, r.file) }
}

// Plain files (P1): made after the row that announces them is durable, named in the row that is committed next.

extension ServerMachine where H.Value == Digest {
  /// Names that are tried before a file counts as impossible to make for now.
  private var nameAttempts: Int { 64 }

  /// Makes the plain file of a string whose row is durable.
  mutating func create(_ index: Int, attempt first: Int = 0) {
    let row = strings[index].row
    for attempt in first..<nameAttempts {
      let name = StoredName<H>.plain(
        host: row.key.key.host, path: row.path, born: row.born, file: row.key.key.file, attempt: attempt)
      guard reservedNames.insert(name).inserted else { continue }
      strings[index].plain = .creating(name, attempt: attempt)
      out.append(.create(row.key, name))
      return
    }
    strings[index].plain = .failed
    fail(index, .unstorable, "every name for its plain file is taken")
  }

  mutating func created(_ key: StringKey, _ outcome: CreateOutcome) {
    guard let index = index(of: key), case .creating(let name, let attempt) = strings[index].plain else { return }
    switch outcome {
    case .created:
      strings[index].plain = .made
      strings[index].row.stored = name
      markRowDirty(index)
      out.append(.report(.born(key.key, stored: name)))
      noteNewest(strings[index].row)
      linkIfNewest(strings[index].row)
      advance(index)
    case .taken:
      create(index, attempt: attempt + 1)
    case .failed(let text): creationFailed(index, name, .diskFull, text)
    case .unusable(let text): creationFailed(index, name, .unstorable, text)
    case .failedSync(let text): halt("syncing the new plain file of \(key.key.file) of \(key.key.host): \(text)")
    }
  }

  private mutating func creationFailed(_ index: Int, _ name: BytePath, _ code: RefusalCode, _ text: String) {
    reservedNames.remove(name)
    strings[index].plain = .failed
    fail(index, code, text)
  }

  mutating func noteNewest(_ row: StoredString) {
    let name = latestName(of: row)
    newest[name] = newest[name].map { max($0, Newest(row)) } ?? Newest(row)
  }

  mutating func linkIfNewest(_ row: StoredString) {
    let name = latestName(of: row)
    if newest[name] == Newest(row) { out.append(.link(host: name.host, path: name.path, to: row.stored)) }
  }

  private func latestName(of row: StoredString) -> LatestName {
    LatestName(host: row.key.key.host, path: StoredName<H>.latest(row.path))
  }
}
