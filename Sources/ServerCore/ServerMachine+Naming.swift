import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Plain files (P1): named in the commit of the birth, which the store refuses if another string has the name; made when
// that is durable; and said to be made in the commit that follows (K5). While running, a file that is there is another's.

extension ServerMachine where H.Value == Digest {
  /// Names that are tried before a file counts as impossible to make for now. All but the first carry the file's uuid:
  /// no two strings of a host have one in common.
  private var nameAttempts: Int { 64 }

  /// The name that a newborn string asks for, and which of its names that is.
  func firstName(of born: FileBorn, host: HostName, tally: Int) -> (stored: BytePath, attempt: Int) {
    let attempt = tallies[tally].namesInFull ? 1 : 0
    return (
      StoredName<H>.plain(host: host, path: born.path, born: born.born, file: born.file, attempt: attempt), attempt
    )
  }

  private mutating func claim(_ index: Int, attempt: Int) {
    let row = strings[index].row
    strings[index].row.stored = StoredName<H>.plain(
      host: row.key.key.host, path: row.path, born: row.born, file: row.key.key.file, string: row.key.string,
      attempt: attempt)
    strings[index].attempt = attempt
    strings[index].adopts = false
    if strings[index].plain != .none { strings[index].plain = .claiming }
    markRowDirty(index)
  }

  private mutating func claimNext(_ index: Int) {
    if strings[index].attempt + 1 < nameAttempts { return claim(index, attempt: strings[index].attempt + 1) }
    strings[index].attempt = nameAttempts
    strings[index].plain = .failed
    fail(index, .unstorable, "every name for its plain file is taken")
  }

  /// The store has given the name to another string. A host whose births collide can go on with that for ever, and each
  /// refusal costs all hosts a commit: from now on it gets the names that can't collide.
  mutating func nameTaken(_ key: StringKey, _ group: GroupCommit) {
    guard let refused = index(of: key), strings[refused].lacksName,
      group.rows.contains(where: { $0.index == refused })
    else { return halt("the store refuses a name that it wasn't given") }
    takeBack(group)
    let tally = strings[refused].tally
    tallies[tally].namesInFull = true
    if strings[refused].attempt > 0 { claimNext(refused) }
    for row in group.rows where strings[row.index].tally == tally && strings[row.index].lacksName {
      if strings[row.index].attempt == 0 { claim(row.index, attempt: 1) }
    }
    for row in group.rows { advance(row.index) }
  }

  /// Makes the plain file of a string whose row, with this name, is durable.
  mutating func create(_ index: Int) {
    strings[index].plain = .creating
    out.append(.create(strings[index].row.key, strings[index].row.segment, adopts: strings[index].adopts))
  }

  /// After a failure.
  mutating func createAgain(_ index: Int) {
    if strings[index].attempt < nameAttempts { create(index) } else { claim(index, attempt: 0) }
  }

  mutating func created(_ key: StringKey, _ outcome: CreateOutcome) {
    guard let index = index(of: key), strings[index].plain == .creating else { return }
    switch outcome {
    case .created:
      strings[index].plain = .made
      strings[index].row.isMade = true
      markRowDirty(index)
      out.append(.report(made(strings[index].row)))
      advance(index)
    case .taken: claimNext(index)
    case .failed(let text): creationFailed(index, .diskFull, text)
    case .unusable(let text): creationFailed(index, .unstorable, text)
    case .failedSync(let text): halt("syncing the new plain file of \(key.key.file) of \(key.key.host): \(text)")
    }
  }

  private func made(_ row: StoredString) -> ServerReport {
    guard let branch = row.branch else { return .born(row.key.key, stored: row.stored) }
    return .branched(row.key.key, stored: row.stored, at: branch.divergence)
  }

  private mutating func creationFailed(_ index: Int, _ code: RefusalCode, _ text: String) {
    strings[index].plain = .failed
    fail(index, code, text)
  }

  // MARK: `latest` (P1)

  /// A host's word on a birth counts up to the moment when it was first heard: a file 'born in 2262' gives way to the next
  /// one that this server hears of. Several paths may come to one name.
  func namedFile(_ row: StoredString) -> ServerBatch.NamedFile {
    ServerBatch.NamedFile(
      key: row.key.key, latest: StoredName<H>.latest(row.path), born: min(row.born, row.received))
  }

  mutating func link(_ row: StoredString) {
    guard row.key.string == 0 else { return }
    out.append(.link(host: row.key.key.host, path: StoredName<H>.latest(row.path)))
  }
}
