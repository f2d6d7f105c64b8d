import JournalModel
import JournalStore

// The feed of changes (M3): `changes` has the subjects by their numbers, the first row of each (sequence 0, string 0) its
// number, so that a commit finds without a search what to move.

extension ServerTransaction {
  private static var lastKey: [UInt8] { Array("feed".utf8) }
  private static var epochsKey: [UInt8] { Array("epochs".utf8) }

  /// Rows that a batch replaces, and the first ones of what it has rows of.
  struct HeldRows {
    var strings: [StringKey: StoredString] = [:]
    var sequences: [HostJournal: HeldJournal] = [:]
    /// Of their last changes; after `give` those of this commit.
    var numbers: [ChangedSubject: UInt64] = [:]

    func number(of key: StringKey) -> UInt64 { key.string == 0 ? numbers[.file(key.key)] ?? 0 : 0 }
    func number(of key: SequenceKey) -> UInt64 { key.sequence == 0 ? numbers[.journal(key.journal)] ?? 0 : 0 }
  }

  func heldRows(before batch: ServerBatch) throws(StoreError) -> HeldRows {
    var held = HeldRows()
    for run in batch.records where held.sequences[run.after.key.journal] == nil {
      let journal = run.after.key.journal
      try StoreSubject.journal(run.after.key).refusing { () throws(StoreError) in
        guard let first = try numbered(SequenceKey(journal: journal)) else { return }
        held.sequences[journal] = first.row
        held.numbers[.journal(journal)] = first.number
      }
    }
    for row in batch.strings {
      try StoreSubject.string(row.key).refusing { () throws(StoreError) in
        for key in [row.key, row.key.key.first] where held.strings[key] == nil {
          guard let found = try numbered(key) else { continue }
          held.strings[key] = found.row
          if key.string == 0 { held.numbers[.file(key.key)] = found.number }
        }
      }
    }
    return held
  }

  /// Moves what a batch changes to the end of the feed, and returns where that is. Nil: it changes nothing.
  func give(
    numbersTo changes: [ServerBatch.Changed], in life: UUIDBytes?, _ held: inout HeldRows
  ) throws(StoreError) -> FeedPosition? {
    guard !changes.isEmpty else { return nil }
    var feed = try feed()
    if let life, feed.begin(life) { try put(feed.epochs) }
    for change in changes {
      if let old = held.numbers[change.subject], old > 0 {
        try change.cause.refusing { () throws(StoreError) in try forget(change.subject, at: old) }
      }
      feed.last = feed.last.saturatingAdding(1)
      held.numbers[change.subject] = feed.last
      try transaction.put(
        encoded { $0.write(change.subject) }, at: Self.key(ofChange: feed.last), in: tables.changes, .last)
    }
    try transaction.put(encoded { $0.write(feed.last) }, at: Self.lastKey, in: tables.meta)
    return feed.position
  }

  private func put(_ epochs: [Feed.Epoch]) throws(StoreError) {
    try transaction.put(encoded { $0.write(epochs) }, at: Self.epochsKey, in: tables.meta)
  }

  private func forget(_ subject: ChangedSubject, at number: UInt64) throws(StoreError) {
    let key = Self.key(ofChange: number)
    let found = try transaction.row(key, in: tables.changes) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readChangedSubject()
    }
    guard found == subject else {
      throw .corrupt("\(subject) changed last with \(number), but that is \(found.map { "\($0)" } ?? "in no feed")")
    }
    try transaction.remove(key, from: tables.changes)
  }

  static func key(ofChange number: UInt64) -> [UInt8] { encoded { $0.write(number) } }

  private func lastNumber() throws(StoreError) -> UInt64 {
    let last = try transaction.row(Self.lastKey, in: tables.meta) {
      (reader: inout ByteReader) throws(DecodingFailure) in try reader.read(UInt64.self)
    }
    let greatest = try transaction.last(in: tables.changes, prefix: [], upTo: Self.key(ofChange: .max))?.key
    guard greatest == last.map({ Self.key(ofChange: $0) }) else {
      throw .corrupt(
        "the last change is \(greatest?.hex ?? "missing"), by meta \(last.map { "\($0)" } ?? "there was none")")
    }
    return last ?? 0
  }

  /// A life that isn't the last epoch's begins one.
  func beginEpoch(of life: UUIDBytes) throws(StoreError) {
    var feed = try feed()
    if feed.begin(life) { try put(feed.epochs) }
  }

  func feed() throws(StoreError) -> Feed {
    let epochs = try transaction.row(Self.epochsKey, in: tables.meta) {
      (reader: inout ByteReader) throws(DecodingFailure) in try reader.readEpochs()
    }
    return Feed(epochs: epochs ?? [], last: try lastNumber())
  }

  func changed(
    after number: UInt64, count: Int
  ) throws(StoreError) -> [(number: UInt64, subject: ChangedSubject)] {
    var found: [(number: UInt64, subject: ChangedSubject)] = []
    guard count > 0, number < .max else { return found }
    try transaction.scan(tables.changes, from: Self.key(ofChange: number + 1)) { (entry) throws(StoreError) in
      found.append(
        try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
          try reader.read(UInt64.self)
        } value: { (number, reader: inout ByteReader) throws(DecodingFailure) in
          (number: number, subject: try reader.readChangedSubject())
        })
      return found.count < count
    }
    return found
  }

  func changeNumber(of subject: ChangedSubject) throws(StoreError) -> UInt64? {
    switch subject {
    case .journal(let journal): try numbered(SequenceKey(journal: journal))?.number
    case .file(let key): try numbered(key.first)?.number
    }
  }

  static func key(ofPeer name: String) -> [UInt8] { encoded { $0.write(name: name) } }

  func put(_ cursor: PeerCursor) throws(StoreError) {
    try transaction.put(encoded { $0.write(cursor.cursor) }, at: Self.key(ofPeer: cursor.peer), in: tables.peers)
  }

  func cursor(of peer: String) throws(StoreError) -> FeedCursor? {
    try transaction.row(Self.key(ofPeer: peer), in: tables.peers) {
      (reader: inout ByteReader) throws(DecodingFailure) in try reader.readFeedCursor()
    }
  }
}
