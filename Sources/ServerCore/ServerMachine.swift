package import JournalModel
import JournalStore
package import MerkleLog
import WireProtocol

/// The whole decision of a server, sans-IO: admission, records, payload, the order of durability, acknowledgements.
///
/// Every input is legal in every state: what comes from outside can be refused, never trusted, and answers that fit
/// nothing are ignored. Effects about one string must be performed in the order in which they were appended.
package struct ServerMachine<H: TreeHasher>: ~Copyable where H.Value == Digest {
  package let settings: ServerSettings
  let verifier: any SignatureVerifier
  var limits: Limits { settings.limits }

  enum Phase: Hashable { case new, repairing, serving, stopping, halted }
  var phase = Phase.new
  var now = Instant(nanoseconds: 0)
  var wall = WallTime(nanoseconds: 0)
  var out: [ServerEffect] = []

  var connections: [ConnectionID: Connection] = [:]
  var callers: [[String]: Caller] = [:]
  var journals: [JournalIntake<H>] = []
  /// The sequences of each, by their numbers.
  var journalIndex: [HostJournal: [Int]] = [:]
  var freeJournals: [Int] = []
  var strings: [StringIntake] = []
  var stringIndex: [FileKey: Int] = [:]
  var freeStrings: [Int] = []
  var tallies: [HostTally] = []
  var tallyIndex: [HostName: Int] = [:]
  var freeTallies: [Int] = []
  var comparisons: [PayloadID: Int] = [:]
  var probing: [PayloadID: ProbedFrame] = [:]
  /// Of some connection the next frame may be compared.
  var hasProbed = false

  // Recovery
  var repairsOutstanding = 0
  /// Strings whose repair failed.
  var brokenStrings = 0
  var survey = Survey()
  var mayCut = false
  // What the store has (K1)
  var wanted: [FileKey: Wanted] = [:]
  /// Hosts of which files are to be loaded, in the order of their turns.
  var loadingHosts = Fifo<Int>()
  var isLoading = false
  var reads: [ReadID: Reading] = [:]
  var lastRead: UInt64 = 0
  /// Readings that failed, and when they are tried again.
  var unread: [Reading] = []
  var isReadingReported = false
  var readRetry: Instant?
  /// That of the last commit which was answered.
  var commitNumber: UInt64 = 0
  /// Connections on which something waits for what the store has, in that order.
  var heldUp: [ConnectionID] = []
  /// Which string was last looked at as one that may leave memory.
  var hand = 0
  /// Strings that came into memory since then.
  var newcomers = 0
  // Commits
  var flight: GroupCommit?
  /// Hosts of which there is something to commit, in the order of their turns.
  var dirtyHosts: [Int] = []
  /// The last commit was of those who had little, while others waited.
  var wasTurnOfSmall = false
  /// The last commit was the trie's.
  var wasTurnOfTrie = false
  /// Hosts of which records wait for a commit.
  var intakes: [Int] = []
  var blocked: String?
  var commitRetry: Instant?
  /// Until then a commit waits for payload.
  var commitPatience: Instant?
  /// The store had no room for log payload: everything goes straight to the plain files until the log shrank.
  var isLogSuspended = false
  var logged: UInt64 = 0
  var waitingRecordBytes = 0
  // What the store refuses until the next start
  var apartJournals: [ServerStatus.SetApart] = []
  var apartFiles: [ServerStatus.SetApart] = []
  // Background sync
  var unsynced: [Int] = []
  var unsyncedBytes: UInt64 = 0
  var syncDue: Instant?
  var syncing: [SyncTarget]?
  // Retries of failed strings, and heartbeats
  var failing: [Int] = []
  /// Those whose turn of that it is.
  var retrying = Fifo<Int>()
  var failingRetry: Instant?
  var heartbeatDue: Instant?
  // Payload in memory that isn't committed
  var pendingBytes: UInt64 = 0
  var refusals: UInt64 = 0
  /// Committed bytes of the log that their plain files don't have yet: they are in memory too.
  var unfolded: UInt64 = 0
  // Credit (`ServerMachine+Credit`): the sums of bases and allotments, who has a turn, who waits for one, and whose
  // payload came, was committed or was dropped in this step
  var bases: UInt64 = 0
  var allotted: UInt64 = 0
  var turns: [ConnectionID] = []
  var waitingTurns: [ConnectionID] = []
  var creditDue: [ConnectionID] = []
  // Servers among themselves (M3)
  var peers: [PeerServer]
  var links: [ConnectionID: PeerLink] = [:]
  /// Links for which there may be something to do at the end of this step.
  var dueLinks: Set<ConnectionID> = []
  /// Those on which something is asked for that isn't sent yet.
  var supplyingLinks: Set<ConnectionID> = []
  /// On which link a file or journal was asked for: what comes from one peer isn't asked of another.
  var wantedOn: [ChangedSubject: ConnectionID] = [:]
  var lastChannel: UInt64 = 0
  var roots: [RootID: RootQuestion] = [:]
  var lastRoot: UInt64 = 0
  /// The lives of this server's own feed.
  var feed = Feed()
  var trie = TrieFollower()
  var settlements: [PeerSettlement] = []
  var lastNonce: UInt64 = 0
  /// When how far peers are got is to be durable without anything else to commit.
  var cursorsDue: Instant?

  package init(settings: ServerSettings, verifier: any SignatureVerifier) {
    self.settings = settings
    self.verifier = verifier
    peers = settings.peers.map { PeerServer(name: $0) }
  }

  /// Takes one input and appends the effects that follow from it, in the order in which they are to be performed.
  /// `wall` bounds what hosts say of births, and decides nothing else.
  package mutating func step(
    _ input: ServerInput, at now: Instant, wall: WallTime, into effects: inout [ServerEffect]
  ) {
    self.now = max(now, self.now)
    self.wall = wall
    take(input)
    fireDeadlines()
    if commitIfDue() { takeWhatWaited() }
    while hasProbed {
      hasProbed = false
      takeWhatWaited()
      if commitIfDue() { takeWhatWaited() }
    }
    synchronise()
    if !settlements.isEmpty { endSettlements() }
    loadWanted()
    evict()
    pauseIntakes()
    grantCredit()
    effects.append(contentsOf: out)
    out.removeAll(keepingCapacity: true)
  }

  private mutating func take(_ input: ServerInput) {
    if phase == .halted {
      if case .receivedPayload(_, _, let payload) = input { out.append(.drop(payload)) }
      return
    }
    switch input {
    case .started(let journals, let left, let totals, let counterMatches, let number, let feed, let cursors):
      commitNumber = number
      self.feed = feed
      noteChanges()
      for index in peers.indices {
        peers[index].cursor = cursors[peers[index].name]
        peers[index].noteAway(feed.last, at: now)
      }
      start(journals: journals, left: left, totals: totals, counterMatches: counterMatches)
    case .tick: break
    case .repaired(let key, let outcome): repaired(key, outcome)
    case .accepted(let id, let peer): accept(id, peer)
    case .dialed(let index, let id, let peer): dialed(index, id, peer)
    case .undialed(let index, let reason): undialed(index, reason)
    case .received(let id, let frame): receive(frame, on: id)
    // Before hello only whole frames count: who sends none is cut off.
    case .progress(let id): if connections[id]?.session != nil || links[id] != nil { heard(id) }
    case .wasted(let id, let cost): charge(cost, to: id)
    case .receivedPayload(let id, let header, let payload): receive(header, payload, on: id)
    case .broken(let id, let text): arrive(.broken(text), about: [], on: id)
    case .closed(let id, let why): arrive(.closed(why), about: [], on: id)
    case .compared(let payload, let isEqual): compared(payload, isEqual)
    case .probed(let payload, let answer): probed(payload, answer)
    case .verified(let key, let answer): verified(key, answer)
    case .created(let key, let outcome): created(key, outcome)
    case .written(let key, let upTo, let outcome): written(key, upTo: upTo, outcome)
    case .synced(let lengths, let outcome): synced(lengths, outcome)
    case .committed(let error, let done, let number):
      commitNumber = max(commitNumber, number)
      committed(error, done)
    case .loaded(let id, let answer): loaded(id, answer)
    case .unreadable(let id, let error): unreadable(id, error)
    case .rootComputed(let id, let root): rootComputed(id, root)
    case .supplied(let id, let channel, let header, let isSent):
      supplied(id, channel: channel, header, isSent: isSent)
    case .taken(let id): recordsTaken(id)
    case .settle(let token): settle(token)
    case .cancelSettle(let token): cancelSettle(token)
    case .stop: stop()
    }
  }

  /// When `tick` is due next, if nothing else comes before.
  package var nextDeadline: Instant? {
    if phase == .halted || phase == .stopping { return nil }
    var next: Instant?
    for deadline in [
      commitRetry, flight == nil ? commitPatience : nil, readRetry, syncing == nil ? syncDue : nil, failingRetry,
      heartbeatDue, turnDeadline, peerDeadline, followDeadline,
    ] {
      if let deadline { next = min(next ?? deadline, deadline) }
    }
    return next
  }

  private mutating func fireDeadlines() {
    if phase == .halted { return }
    if let due = commitRetry, due <= now { commitRetry = nil }
    if let due = readRetry, due <= now { readAgain() }
    if let due = failingRetry, due <= now { retryFailing() }
    if let due = syncDue, due <= now { syncNow() }
    if let due = heartbeatDue, due <= now { beat() }
    readDigestIfDue()
    peersTick()
  }

  private mutating func stop() {
    guard phase != .stopping else { return }
    phase = .stopping
    for id in connections.keys.sorted() { cut(id, .shuttingDown, "the server is stopping") }
  }

  mutating func halt(_ reason: String) {
    guard phase != .halted else { return }
    phase = .halted
    out.append(.halt(reason))
  }

  /// Index of a string; nil when its file isn't in memory. As long as an answer about it is awaited it is, but for a
  /// background sync's.
  func index(of key: StringKey) -> Int? {
    guard let first = stringIndex[key.key] else { return nil }
    return key.string == 0 ? first : strings[first].branches.first { strings[$0].row.key == key }
  }

  /// String 0 of the same file.
  func first(_ index: Int) -> Int {
    strings[index].row.key.string == 0 ? index : stringIndex[strings[index].row.key.key] ?? index
  }

  /// All strings of a file, by string 0.
  func all(_ first: Int) -> [Int] { [first] + strings[first].branches }

  /// Index of a host's sums.
  mutating func tally(of host: HostName) -> Int {
    if let index = tallyIndex[host] { return index }
    if let index = freeTallies.popLast() {
      tallies[index] = HostTally(name: host)
      tallyIndex[host] = index
      return index
    }
    tallies.append(HostTally(name: host))
    tallyIndex[host] = tallies.count - 1
    return tallies.count - 1
  }

  /// The start counter may go on: beside a store older than the plain files it stays behind until each of them is
  /// repaired, or a crash before that would make the excess of the others look like a crash's leftovers (P3).
  package var mayCountOn: Bool { mayCut }

  /// Hosts whose totals are these now (K3).
  mutating func note(_ totals: [HostName: HostTotals]) {
    // In one order, whatever the dictionary's: hosts are numbered as they come.
    for (host, totals) in totals.sorted(by: { $0.key < $1.key }) { tallies[tally(of: host)].totals = totals }
  }

  package var status: ServerStatus {
    ServerStatus(
      hosts: tallyIndex.values.map { tallies[$0] }.sorted { $0.name < $1.name }.map {
        ServerStatus.Host(
          name: $0.name, connections: $0.connections, lastSeen: $0.lastSeen, totals: $0.totals,
          pendingBytes: $0.pending)
      },
      isServing: phase == .serving, blocked: blocked, failing: failing.count + retrying.count,
      apart: Array((apartJournals + apartFiles).prefix(ServerStatus.mostListed)),
      apartCount: apartJournals.count + apartFiles.count, resident: stringIndex.count, loggedBytes: logged,
      pendingBytes: pendingBytes,
      refusals: refusals, connections: connections.keys.count { !$0.isChannel }, peers: peerStatus,
      digest: trie.digest, isDigestCurrent: trie.isCurrent)
  }

  private var peerStatus: [ServerStatus.Peer] {
    peers.map { peer in
      let link = peer.link.flatMap { links[$0] }
      let ahead = link.map { $0.intake.end - min($0.intake.end, $0.intake.last) } ?? 0
      return ServerStatus.Peer(
        name: peer.name, isConnected: link != nil, lastError: peer.lastError,
        lacking: UInt64(link?.intake.count ?? 0) + (link?.intake.floor == nil ? 0 : 1)
          + (link?.intake.walk == nil ? 0 : 1) + ahead,
        lackingThere: link.map { $0.feed.last - min($0.feed.last, $0.feed.held) } ?? 0, behindSince: peer.lag?.since,
        digest: link?.intake.holdings, differs: link.map { differs($0) } ?? false)
    }
  }

  /// Each holds all that the other announced, and yet not the same.
  func differs(_ link: PeerLink) -> Bool {
    guard trie.isCurrent, let own = trie.digest, let theirs = link.intake.holdings, theirs.end == link.intake.end,
      own.end == link.feed.last, link.intake.held == link.intake.end, link.feed.held == own.end
    else { return false }
    return own.root != theirs.root
  }
}
