import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

/// A name under `latest`, and the file that has it: the one with the greatest birth time (P1).
struct LatestName: Hashable {
  var host: HostName
  var path: BytePath
}
struct Newest: Hashable {
  var born: WallTime
  var file: FileUUID
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
      let row = strings[index].row
      noteNewest(row)
      if isNewest(row) {
        out.append(.link(host: key.key.host, path: StoredName<H>.latest(row.path), to: name))
      }
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
    let name = LatestName(host: row.key.key.host, path: row.path)
    let candidate = Newest(born: row.born, file: row.key.key.file)
    if let present = newest[name], (present.born, present.file) > (candidate.born, candidate.file) { return }
    newest[name] = candidate
  }

  func isNewest(_ row: StoredString) -> Bool {
    newest[LatestName(host: row.key.key.host, path: row.path)]
      == Newest(born: row.born, file: row.key.key.file)
  }
}
