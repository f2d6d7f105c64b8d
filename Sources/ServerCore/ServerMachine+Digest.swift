import JournalModel
import JournalStore
import WireProtocol

// The digest of what is held (M2). The store's trie follows the feed in commits of their own, a while behind: what it costs
// no acknowledgement waits for, and what changes again and again is taken into it once.

/// How far the trie has followed the feed.
struct TrieFollower {
  /// As it was read last.
  var digest: HoldingsDigest?
  /// The greatest number that had been given then.
  var last: UInt64 = 0
  /// There may be changes behind it.
  var isBehind = true
  var isReading = false
  /// When it is to follow, if nobody waits for it.
  var due: Instant?
  /// Not before that: the store had no room.
  var retry: Instant?
  /// Somebody waits until it has followed up to here.
  var needed: UInt64 = 0
  /// A row of it couldn't be read.
  var isDamaged = false

  /// It is that of all that is held.
  var isCurrent: Bool { !isBehind && digest.map { $0.end == last } ?? false }
  func hasFollowed(to end: UInt64) -> Bool { digest.map { $0.end >= end } ?? false }
}

extension ServerMachine where H.Value == Digest {
  private static var followInterval: Interval { .seconds(1) }
  /// Changes in one commit: about as long as a host's turn.
  private static var changesAtOnce: Int { 1_024 }

  mutating func noteChanges() {
    trie.isBehind = true
    trie.due = trie.due ?? now + Self.followInterval
  }

  /// Brings the trie up to there soon.
  mutating func needTrie(to end: UInt64) {
    trie.needed = max(trie.needed, end)
    if trie.digest == nil || trie.needed > trie.last { readDigest() }
  }

  /// When it is to follow.
  private var followAt: Instant? {
    guard phase == .serving, trie.isBehind, !trie.isReading, let due = trie.due else { return nil }
    return max(trie.hasFollowed(to: trie.needed) ? due : now, trie.retry ?? now)
  }

  var isFollowDue: Bool { trie.digest != nil && followAt.map { $0 <= now } ?? false }
  var followDeadline: Instant? { flight == nil && commitRetry == nil ? followAt : nil }

  /// Before the first commit of it: how far the last life came.
  mutating func readDigestIfDue() {
    if trie.digest == nil, let due = followAt, due <= now { readDigest() }
  }

  mutating func follow() {
    var batch = ServerBatch()
    batch.folded = Self.changesAtOnce
    batch.foldsAnew = trie.isDamaged
    flight = GroupCommit(isFold: true)
    trie.due = now + Self.followInterval
    trie.retry = nil
    out.append(.commit(batch, log: []))
  }

  mutating func followed() {
    trie.isDamaged = false
    readDigest()
  }

  /// All else goes on: it is seen by how far the digest speaks.
  mutating func couldNotFollow() { trie.retry = now + limits.retry }

  private mutating func readDigest() {
    guard !trie.isReading else { return }
    trie.isReading = true
    trie.isBehind = false
    read(.digest, for: .digest)
  }

  mutating func digestRead(_ answer: StoreAnswer) {
    trie.isReading = false
    trie.digest = answer.digest
    trie.last = answer.feed?.last ?? 0
    if !trie.hasFollowed(to: trie.last) {
      noteChanges()
    } else if !trie.isBehind {
      trie.due = nil
    }
    for id in links.keys.sorted() {
      tellHoldings(on: id)
      dueLinks.insert(id)
    }
  }

  /// All of it follows from what is held, and is made anew.
  mutating func trieUnreadable() {
    trie.isReading = false
    trie.isDamaged = true
    trie.digest = trie.digest ?? HoldingsDigest(root: .zero, end: 0)
    noteChanges()
  }

  mutating func tellHoldings(on id: ConnectionID) {
    guard trie.isCurrent, let digest = trie.digest, links[id]?.hasGreeted == true, links[id]?.toldHoldings != digest
    else { return }
    links[id]?.toldHoldings = digest
    send(.holdings(digest), to: id)
  }
}
