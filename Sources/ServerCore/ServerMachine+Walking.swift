import JournalModel
import JournalStore
import WireProtocol

// Where no cursor fits (M3), a server finds what it lacks by the other's trie, from the root down through what differs. The
// other announces its feed meanwhile from where it stood before the first question: what changes later comes by that. So
// each answer may be newer than the question, but none older than the point where that feed began.

/// What a server asks of a peer's trie.
struct TrieWalk {
  /// The own trie is to have followed up to here: what is held would be asked for otherwise. Nil until it was read.
  var ownEnd: UInt64?
  var hasBegun = false
  /// Parts that differ. The deepest are asked about first, so that there are never many.
  var toAsk: [TriePrefix] = []
  /// In the order in which they were asked.
  var asked = Fifo<TriePrefix>()
  /// Changes that came in answer to the first of them.
  var told = 0
  /// Parts of the own trie that are being read.
  var comparing = 0

  static var mostAsked: Int { 16 }
  var isDone: Bool { hasBegun && toAsk.isEmpty && asked.isEmpty && comparing == 0 }
}

/// What a peer asks of this server's trie.
struct TrieQuestions {
  var waiting = Fifo<TriePrefix>()
  var isReading = false
  /// Nothing is answered before the trie has followed up to here.
  var end: UInt64 = 0

  static var most: Int { 64 }
}

extension ServerMachine where H.Value == Digest {
  // MARK: Asking

  mutating func beginWalk(on id: ConnectionID) {
    guard links[id] != nil, links[id]?.intake.walk == nil else { return }
    links[id]?.intake.walk = TrieWalk()
    read(.digest, for: .walkBegins(id))
  }

  mutating func walkBegins(_ feed: Feed?, on id: ConnectionID) {
    links[id]?.intake.walk?.ownEnd = feed?.last ?? 0
    dueLinks.insert(id)
  }

  mutating func goOnWalking(_ id: ConnectionID) {
    guard let walk = links[id]?.intake.walk, let end = walk.ownEnd else { return }
    if !walk.hasBegun {
      guard trie.hasFollowed(to: end) else { return needTrie(to: end) }
      links[id]?.intake.walk?.hasBegun = true
      links[id]?.intake.walk?.toAsk = [.root]
    }
    while let walk = links[id]?.intake.walk, walk.asked.count + walk.comparing < TrieWalk.mostAsked,
      hasRoom(for: walk.asked.count + 1, on: id), let next = links[id]?.intake.walk?.toAsk.popLast()
    {
      links[id]?.intake.walk?.asked.append(next)
      send(.askTrie(next), to: id)
    }
    guard links[id]?.intake.walk?.isDone == true else { return }
    links[id]?.intake.walk = nil
    noteHeld(on: id)
  }

  /// What is found waits beside what is announced.
  private func hasRoom(for buckets: Int, on id: ConnectionID) -> Bool {
    guard let count = links[id]?.intake.count else { return false }
    let ahead = count + (buckets - 1) * HoldingsTrie<H>.bucketSize
    return 2 * ahead <= limits.announcementsAhead
  }

  mutating func trieParts(_ theirs: [Digest], on id: ConnectionID) {
    guard let prefix = links[id]?.intake.walk?.asked.popFirst() else { return violated(id, "an answer to no question") }
    guard prefix.depth < TriePrefix.deepest else { return violated(id, "parts of what has none") }
    links[id]?.intake.walk?.comparing += 1
    read(.triePart(prefix), for: .walk(id, prefix, theirs))
  }

  /// `own` is nil where they can't be read.
  mutating func compareParts(_ own: [Digest]?, with theirs: [Digest], of prefix: TriePrefix, on id: ConnectionID) {
    guard links[id]?.intake.walk != nil else { return }
    links[id]?.intake.walk?.comparing -= 1
    dueLinks.insert(id)
    let nothing = HoldingsTrie<H>.bucket([])
    for index in theirs.indices.reversed() where theirs[index] != nothing && theirs[index] != own?[index] {
      links[id]?.intake.walk?.toAsk.append(prefix.child(index))
    }
  }

  mutating func trieBucket(_ bucket: TrieBucket, on id: ConnectionID) {
    guard let asked = links[id]?.intake.walk?.asked, !asked.isEmpty else {
      return violated(id, "an answer to no question")
    }
    // With files come the journals that they need, but not without end.
    let told = (links[id]?.intake.walk?.told ?? 0) + bucket.changes.count
    guard told <= limits.announcementsAhead + FrameBounds.announcements else {
      return violated(id, "a part of the trie without an end")
    }
    links[id]?.intake.walk?.told = bucket.isLast ? 0 : told
    if bucket.isLast { _ = links[id]?.intake.walk?.asked.popFirst() }
    for change in bucket.changes { found(change, on: id) }
  }

  // MARK: Answering

  mutating func trieAsked(_ prefix: TriePrefix, on id: ConnectionID) {
    guard let count = links[id]?.questions.waiting.count, count < TrieQuestions.most else {
      return violated(id, "more questions about the trie than are answered")
    }
    links[id]?.questions.waiting.append(prefix)
  }

  mutating func answerTrie(_ id: ConnectionID) {
    guard let questions = links[id]?.questions, !questions.isReading, let next = questions.waiting.first else { return }
    guard trie.hasFollowed(to: questions.end) else { return needTrie(to: questions.end) }
    links[id]?.questions.isReading = true
    read(.subtrie(next), for: .trie(id))
  }

  mutating func trieRead(_ answer: StoreAnswer, on id: ConnectionID) {
    guard let questions = links[id]?.questions else { return }
    links[id]?.questions.isReading = false
    dueLinks.insert(id)
    // It may have been made anew meanwhile.
    guard let subtrie = answer.subtrie, answer.digest.map({ $0.end >= questions.end }) ?? false else { return }
    _ = links[id]?.questions.waiting.popFirst()
    switch subtrie {
    case .inner(let parts): send(.trieParts(parts), to: id)
    case .bucket(let changes):
      var rest = behindTheirJournals(changes, on: id)[...]
      for change in rest { links[id]?.feed.noteJournal(change) }
      repeat {
        let some = Array(rest.prefix(FrameBounds.announcements))
        rest = rest.dropFirst(some.count)
        send(.trieBucket(TrieBucket(changes: some, isLast: rest.isEmpty)), to: id)
      } while !rest.isEmpty
    }
  }

  mutating func trieUnreadable(on id: ConnectionID) {
    links[id]?.questions.isReading = false
    trieUnreadable()
  }
}
