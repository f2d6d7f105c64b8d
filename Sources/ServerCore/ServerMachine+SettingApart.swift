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
    setApart(files, why)
    for row in group.rows { advance(row.index) }
  }

  private mutating func setApart(_ files: [Int], _ why: String) {
    for index in files where strings[index].apart == nil {
      strings[index].apart = why
      apartFiles.append(.init(subject: .file(strings[index].row.key.key, strings[index].row.path), why: why))
      strings[index].failure = strings[index].failure ?? (.other, Self.apart(why))
      endTail(index)
      if let owner = strings[index].owner { sendRefusal(index, .other, Self.apart(why), to: owner) }
      releaseResumers(index)
    }
  }

  /// A journal whose next records are about files that are set apart beside another journal of their host: what they say of
  /// those would be lost, and told never again once the records are durable. Returns false if there are none.
  mutating func setApart(journal index: Int, for records: [Record?]) -> Bool {
    if apartJournals.isEmpty { return false }
    let host = journals[index].held.host
    guard let apart = journals.first(where: { $0.apart != nil && $0.held.host == host })?.apart else { return false }
    var isLost = false
    for record in records {
      record?.visitFiles { file in
        guard let first = stringIndex[FileKey(host: host, file: file)] else { return }
        isLost = isLost || strings[first].apart != nil
      }
    }
    if isLost { setApart(setApart(journal: index, apart), apart) }
    return isLost
  }

  /// Returns the strings that go with it: no length counts whose record isn't durable. Nor is a record durable whose length
  /// doesn't count: other journals of the host with records that wait for the same commit go with it.
  private mutating func setApart(journal index: Int, _ why: String) -> [Int] {
    let host = journals[index].held.host
    let others = journalIndex.filter { $0.key.host == host }.values.joined().filter {
      journals[$0].apart == nil && journals[$0].length > journals[$0].held.length
    }
    return Set(others).union([index]).sorted().flatMap { setApartAlone(journal: $0, why) }
  }

  private mutating func setApartAlone(journal index: Int, _ why: String) -> [Int] {
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
