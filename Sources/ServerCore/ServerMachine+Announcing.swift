import JournalModel
import JournalStore
import WireProtocol

// The feed (M3): what this server holds, in the order in which it changed, told to each peer from where that has it. Only
// what is durable is in it.

extension ServerMachine where H.Value == Digest {
  /// Whose cursor doesn't fit, another history's, finds by the trie what is held up to now.
  mutating func beginFeed(from cursor: FeedCursor?, on id: ConnectionID) {
    let known = cursor.flatMap { feed.contains($0) ? $0.held : nil }
    let after = known ?? feed.last
    links[id]?.feed.position = after
    links[id]?.feed.isBehind = true
    links[id]?.questions.end = after
    send(.feed(FeedStart(after: after, byTrie: known == nil)), to: id)
    tellHoldings(on: id)
    dueLinks.insert(id)
  }

  mutating func noteLag(_ id: ConnectionID) {
    guard let link = links[id], peers[link.peer].link == id else { return }
    peers[link.peer].noteLag(holding: link.feed.held, of: link.feed.last, at: now)
  }

  mutating func announceNext(_ id: ConnectionID) {
    guard let reader = links[id]?.feed, reader.isBehind, !reader.isReading else { return }
    let count = min(FrameBounds.announcements, reader.room(limits))
    guard count > 0 || reader.isAsked else { return }
    links[id]?.feed.beginReading()
    read(.changes(after: reader.position, count: count), for: .feed(id, count: count))
  }

  mutating func changesRead(_ answer: StoreAnswer, count: Int, on id: ConnectionID) {
    if let feed = answer.feed, feed.last >= self.feed.last { self.feed = feed }
    guard let pings = links[id]?.feed.endReading() else { return }
    dueLinks.insert(id)
    if answer.changes.count >= count { links[id]?.feed.isBehind = true }
    let last = answer.feed?.last ?? 0
    let life = answer.feed?.epochs.last?.life ?? UUIDBytes(high: 0, low: 0)
    let isNews = !answer.changes.isEmpty || links[id]?.feed.last != last
    links[id]?.feed.last = last
    noteLag(id)
    var changes = behindTheirJournals(answer.changes, on: id)[...]
    for change in changes { links[id]?.feed.announced(change) }
    while isNews {
      let some = Array(changes.prefix(FrameBounds.announcements))
      send(.announce(Announcement(life: life, last: last, changes: some)), to: id)
      changes = changes.dropFirst(some.count)
      if changes.isEmpty { break }
    }
    for nonce in pings { send(.pong(nonce: nonce), to: id) }
  }

  /// A journal that grows moves to the end of the feed again and again, behind all the files whose bytes it promises: more
  /// of them than may be announced ahead, and none of them could be taken. So it is announced with the first of them, with
  /// that one's number, as it is now.
  func behindTheirJournals(_ changes: [Change], on id: ConnectionID) -> [Change] {
    var known = links[id]?.feed.journals ?? [:]
    for change in changes { if case .journal(let journal) = change.subject { known[journal] = change.heads } }
    var result: [Change] = []
    for change in changes {
      if case .file(let key) = change.subject, let tally = tallyIndex[key.host] {
        for journal in tallies[tally].journals {
          let heads = TreeHead.ordered(heads(of: journal).map { TreeHead(length: $0.length, root: $0.root) })
          guard let first = sequences(of: journal).first, !heads.isEmpty, known[journal] != heads else { continue }
          known[journal] = heads
          let key = journals[first].held.publicKey
          result.append(Change(number: change.number, subject: .journal(journal), publicKey: key, heads: heads))
        }
      }
      result.append(change)
    }
    return result
  }
}
