import JournalModel
import JournalStore
import WireProtocol

// A file's end is journaled when every server has all of it, or a gap says what it lacks. So of a file that ended nothing is
// owed, but to a server that was named later, or that lost what it had: it has to come there from the server's peers
// (G4). The host asks such a server about the rows of all files that ended, a page at a time, and isn't settled until it
// has them all. That is noted, and is over for good then (`Delivered.ended`).

/// How far a server is known to have the files whose end is journaled.
struct EndedFiles {
  enum Phase {
    case toRead
    /// For this connection: what was read for an earlier one may be from before the server lost something.
    case beingRead(ConnectionID)
    /// The store couldn't be read.
    case unread
    case asked
    case held
  }
  var phase = Phase.toRead
  /// All pages so far end with this file; nil: none was read.
  var position: FileUUID?
  /// What of the page isn't known to be held, and the page's last file; nil: no page is behind it.
  var page: [FileUUID: KnownFile] = [:]
  var last: FileUUID?
  /// The server has answered about the page.
  var hasAnswered = false
  /// Not before the journal is so long: the end of a file may have been decided, and not be in the store yet.
  var journal: UInt64 = 0
  /// Not before then: questions are paid for (P6).
  var due = Instant(nanoseconds: 0)

  static var pause: Interval { .milliseconds(100) }
}

extension Delivery {
  var hasEndedFiles: Bool { if case .held = ended.phase { true } else { false } }

  /// Files that ended of which the server said that it lacks something, nil while it is still asked.
  var lackedEnded: [FileUUID]? {
    guard case .asked = ended.phase, ended.hasAnswered else { return nil }
    return ended.page.keys.sorted()
  }

  /// A connection opened. Unless something was lost it goes on behind the pages that are held.
  func beginEnded(hasLost: Bool) {
    guard hasLost || !hasEndedFiles else { return }
    let position = hasLost ? nil : ended.position
    ended = EndedFiles()
    ended.position = position
    ended.journal = journal.expectedLength
  }

  func readEnded(at now: Instant) -> (HostQuery, ConnectionID)? {
    guard let due = endedDue, due <= now, let connection else { return nil }
    ended.due = now + EndedFiles.pause
    ended.phase = .beingRead(connection)
    return (.ended(after: ended.position, server: name, examined: max(1, limits.resumePage)), connection)
  }

  /// Nil while nothing is to be read, or something else has to happen first.
  var endedDue: Instant? {
    guard case .toRead = ended.phase, isOpen, !isForgetting,
      journal.position.length >= min(ended.journal, journal.expectedLength)
    else { return nil }
    return ended.due
  }

  func endedRead(_ answer: HostAnswer, on id: ConnectionID) {
    guard case .beingRead(id) = ended.phase, connection == id else { return }
    ended.phase = .asked
    ended.hasAnswered = false
    ended.last = answer.last
    ended.page = Dictionary(answer.files.map { ($0.row.file, $0.row) }, uniquingKeysWith: { first, _ in first })
    ask(aboutNext: ended.page.keys.sorted())
    turnEndedPage()
  }

  func endedUnreadable(on id: ConnectionID) {
    if case .beingRead(id) = ended.phase { ended.phase = .unread }
  }

  /// What is to be asked about once more: its peers may have brought it.
  func endedToAsk() -> [FileUUID] {
    if case .unread = ended.phase { ended.phase = .toRead }
    reviewEnded()
    return ended.page.keys.sorted()
  }

  /// The server said what it holds of rows. Returns those of which nothing more is to be noted.
  func endedAnswered(_ held: [HeldFile]) -> Set<FileUUID> {
    var noted: Set<FileUUID> = []
    for file in held {
      for string in file.strings where endedHeld(file.file, string) { noted.insert(file.file) }
    }
    if rowsToAsk.isEmpty { ended.hasAnswered = true }
    reviewEnded()
    return noted
  }

  /// True when all of the file is noted, and no gap of it.
  @discardableResult
  func endedHeld(_ file: FileUUID, _ held: TreeHead) -> Bool {
    guard let row = ended.page[file], row.isDelivered(by: held) else { return false }
    ended.page[file] = nil
    noteLast(Delivered(server: name, file: file, length: row.deliverable))
    turnEndedPage()
    return row.gapFrom == nil
  }

  /// One that came into memory meanwhile: if it lives it is owed like any other.
  private func reviewEnded() {
    guard case .asked = ended.phase else { return }
    for (uuid, row) in ended.page {
      guard let file = files[uuid] else { continue }
      if file.closed == nil || durable(file.id) >= row.deliverable { ended.page[uuid] = nil }
    }
    turnEndedPage()
  }

  private func turnEndedPage() {
    guard case .asked = ended.phase, ended.page.isEmpty else { return }
    isDue = true
    if let last = ended.last {
      ended.position = last
      ended.phase = .toRead
    } else {
      ended.phase = .held
      noteEnded()
    }
  }
}

extension KnownFile {
  /// Before a gap that begins within the file nothing is left to compare: only its root at the end is known.
  fileprivate func isDelivered(by held: TreeHead) -> Bool {
    deliverable < length ? held.length >= deliverable : held.length == length && held.root == root
  }
}
