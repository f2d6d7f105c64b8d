import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// What the store refuses by itself, a journal or a file, is set apart until the next start: named, its host told, and
// committed no more. The rest of the batch is tried again at once; each refusal leaves one thing less in it. Nothing of
// what is set apart was acknowledged.

extension ServerMachine where H.Value == Digest {
  mutating func setApart(_ subject: StoreSubject, _ why: String, _ group: GroupCommit) {
    takeBack(group)
    var files: [Int] = []
    switch subject {
    case .journal(let key):
      guard let index = index(of: key), group.runs.contains(where: { $0.index == index }) else {
        return halt("the store refuses what it wasn't given: \(why)")
      }
      files = setApart(journal: index, why)
    case .string(let key):
      guard let index = self.index(of: key), group.rows.contains(where: { $0.index == index }) else {
        return halt("the store refuses what it wasn't given: \(why)")
      }
      out.append(.report(.fileSetApart(key.key, strings[index].row.path, why)))
      files = [index]
      // Its birth must not be durable without its row: the host would never tell of it again.
      if strings[index].plain == .none, key.string == 0 {
        for run in group.runs where run.after.host == key.key.host { files += setApart(journal: run.index, why) }
      }
    case .file: return halt("the store refuses what it wasn't given: \(why)")
    }
    for index in files where strings[index].apart == nil {
      strings[index].apart = why
      apartFiles.append(.init(subject: .file(strings[index].row.key.key, strings[index].row.path), why: why))
      strings[index].failure = strings[index].failure ?? (.other, Self.apart(why))
      endTail(index)
      if let owner = strings[index].owner { sendRefusal(index, .other, Self.apart(why), to: owner) }
      releaseResumers(index)
    }
    for row in group.rows { advance(row.index) }
  }

  /// Returns the strings that go with it: no length counts whose record isn't durable.
  private mutating func setApart(journal index: Int, _ why: String) -> [Int] {
    let key = journals[index].held.key
    journals[index].apart = why
    // One of which nothing is durable may have left the table, and come again.
    if !apartJournals.contains(where: { $0.subject == .journal(key.journal) }) {
      apartJournals.append(.init(subject: .journal(key.journal), why: why))
    }
    out.append(.report(.journalSetApart(key.journal.host, journal: key.journal.journal, why)))
    if let id = journals[index].connection { cut(id, .other, Self.apart(why)) }
    return stringIndex.values.sorted().filter {
      strings[$0].row.key.key.host == key.journal.host
        && (!strings[$0].newPromises.isEmpty || strings[$0].plain == .none)
    }.flatMap { all($0) }
  }

  static func apart(_ why: String) -> String { "set apart until the server's restart, its store refuses it: \(why)" }
}
