package import JournalModel

// A store's feed of changes (M3): each journal and each file of which it holds anything stands in it once, where it
// changed last. A server that has read up to a number asks for what lies behind, and goes over no more than that.

/// How far this server has what a peer announced.
package struct PeerCursor: Hashable, Sendable {
  /// Its name: 1 to 255 bytes without NUL.
  package var peer: String
  package var cursor: FeedCursor
  package init(peer: String, cursor: FeedCursor) {
    self.peer = peer
    self.cursor = cursor
  }
}

extension ServerBatch {
  /// What gets a number by it, and what of the batch is the reason.
  package struct Changed: Hashable, Sendable {
    package var subject: ChangedSubject
    package var cause: StoreSubject
  }

  /// In the order of their numbers: journals with new records, then files of which a string grows to something that no
  /// other has, both ordered by their keys.
  /// - Parameter committed: the length of a string before this batch.
  package func changes(after committed: (StringKey) -> UInt64) -> [Changed] {
    var journals: [HostJournal: SequenceKey] = [:]
    for run in records where !run.encoded.isEmpty && journals[run.after.key.journal] == nil {
      journals[run.after.key.journal] = run.after.key
    }
    var files: [FileKey: StringKey] = [:]
    for row in strings where files[row.key.key] == nil && row.isDistinct && row.committed > committed(row.key) {
      files[row.key.key] = row.key
    }
    return journals.sorted { $0.key < $1.key }.map { Changed(subject: .journal($0.key), cause: .journal($0.value)) }
      + files.sorted { $0.key < $1.key }.map { Changed(subject: .file($0.key), cause: .string($0.value)) }
  }

  /// Peers' names fit into keys.
  func checkCursors() throws(StoreError) {
    for cursor in cursors {
      guard (1...Delivered.longestServerName).contains(cursor.peer.utf8.count), !cursor.peer.utf8.contains(0) else {
        throw .failed("not a peer's name: \(cursor.peer)")
      }
    }
  }
}

extension StoreSnapshot where Self: ~Copyable {
  /// Nil if nothing is held of it.
  func change(of subject: ChangedSubject) throws(StoreError) -> Change? {
    guard let number = try changeNumber(of: subject) else { return nil }
    switch subject {
    case .journal(let journal):
      let rows = try sequences(of: journal)
      let heads = rows.compactMap { row in row.checkpoint.map { TreeHead(length: row.length, root: $0.root) } }
      return Change(number: number, subject: subject, publicKey: rows.first?.publicKey, heads: TreeHead.ordered(heads))
    case .file(let key):
      var rows = try branches(of: key)
      if let first = try string(key.first) { rows.append(first) }
      let heads = rows.filter(\.isDistinct).map { TreeHead(length: $0.committed, root: $0.root) }
      return Change(number: number, subject: subject, heads: TreeHead.ordered(heads))
    }
  }

  func changes(after number: UInt64, count: Int) throws(StoreError) -> [Change] {
    var changes: [Change] = []
    for (number, subject) in try changed(after: number, count: count) {
      guard let change = try change(of: subject) else {
        throw .corrupt("change \(number) is about \(subject), of which nothing is held")
      }
      guard change.number == number else {
        throw .corrupt("change \(number) is about \(subject), which changed last with \(change.number)")
      }
      changes.append(change)
    }
    return changes
  }
}

extension TreeHead {
  /// By length, then root, each once.
  package static func ordered(_ heads: some Sequence<TreeHead>) -> [TreeHead] {
    Set(heads).sorted { ($0.length, $0.root) < ($1.length, $1.root) }
  }
}
