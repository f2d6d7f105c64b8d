import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Credit divides what memory there is (P2). Each connection has a small base of it for good, enough for lines; the rest
// goes round in turns among those whose records promise more than they may send. A turn is large enough for an extent,
// which is verified as a whole, and for another beside it. While others wait, no more is granted in a turn than brings to
// its end what was begun, so that it ends when that is committed; and it ends at its time, done or not.
//
// Granted totals never shrink. What is left of them after a turn has lapsed: there may be no room for it any more.

extension ServerMachine where H.Value == Digest {
  private var leastAllotment: UInt64 { UInt64(max(1, limits.payloadFrameSize, 2 * limits.extentSize)) }
  /// For payload of all hosts.
  var pool: UInt64 { max(UInt64(max(0, settings.totalCredit)), 2 * leastAllotment) }
  private var poolForTurns: UInt64 { max(leastAllotment, pool - min(pool, bases)) }

  /// A 1024th of what is left of a half of the pool: it never runs out.
  var newBase: UInt64 {
    let frame = UInt64(max(1, limits.payloadFrameSize))
    let share = (pool / 2 - min(pool / 2, bases)) / 1_024
    return min(frame, max(share, min(frame, 4_096)))
  }

  /// A turn that others wait for.
  private var turnTime: Interval { Interval(nanoseconds: 3 * limits.silence.nanoseconds) }
  /// After which nothing more is expected in a turn.
  private var idleTime: Interval { Interval(nanoseconds: 2 * limits.progress.nanoseconds) }
  /// Of a frame that waits, beside its bytes.
  private static var frameOverhead: UInt64 { 256 }

  // MARK: What is held

  /// Received bytes are held, or no longer held.
  mutating func hold(_ bytes: UInt64, tally: Int) {
    pendingBytes += bytes
    tallies[tally].pending += bytes
  }

  mutating func unhold(_ bytes: UInt64, tally: Int) {
    pendingBytes -= bytes
    tallies[tally].pending -= bytes
  }

  /// A frame that isn't part of a queue yet.
  mutating func holdFrame(_ id: ConnectionID) { connections[id]?.session?.credit.overhead += Self.frameOverhead }
  mutating func unholdFrame(_ id: ConnectionID) { connections[id]?.session?.credit.overhead -= Self.frameOverhead }

  /// Whether what a connection has in memory may stay there. Within its base it always may; beyond its window only if
  /// there is room for a turn at once.
  mutating func hasRoom(_ id: ConnectionID) -> Bool {
    guard let credit = connections[id]?.session?.credit else { return false }
    if credit.fits(credit.base) { return true }
    guard pendingBytes + unfolded <= pool else { return false }
    if credit.fits(credit.window) { return true }
    wantTurn(id)
    beginTurns()
    return connections[id]?.session.map { $0.credit.fits($0.credit.window) } ?? false
  }

  /// Bytes of a connection were committed or dropped.
  mutating func release(_ bytes: UInt64, to id: ConnectionID?) {
    guard bytes > 0, let id, connections[id]?.session != nil else { return }
    connections[id]?.session?.credit.release(bytes)
    creditMayBeDue(id)
  }

  private mutating func creditMayBeDue(_ id: ConnectionID) {
    guard connections[id]?.session?.isCreditDue == false else { return }
    connections[id]?.session?.isCreditDue = true
    creditDue.append(id)
  }

  /// Keeps the sum of what a host promised and hasn't sent, and the list of what its connection has begun.
  mutating func noteOwed(_ index: Int) {
    let received = strings[index].received
    // What lies in a gap isn't expected; but when some of it came, the rest may. Of a branch no more than of what comes: who
    // is on its way to one has the first string's part.
    let gap = strings[index].row.gap.map { $0.lower < received ? .max : $0.lower } ?? .max
    let isExpected = strings[index].row.key.string == 0 || strings[index].owner != nil
    let end = isExpected ? min(strings[index].row.recorded, gap) : 0
    let owed = strings[index].isSetAside || end <= received ? 0 : end - received
    let tally = strings[index].tally
    tallies[tally].owed = tallies[tally].owed - strings[index].owed + owed
    strings[index].owed = owed
    let isUnfinished =
      received > strings[index].verified
      && (strings[index].passedOver >= received || !strings[index].promises.contains(received))
    guard isUnfinished != strings[index].isUnfinished, let owner = strings[index].owner else { return }
    strings[index].isUnfinished = isUnfinished
    if isUnfinished {
      connections[owner]?.session?.unfinished.insert(index)
    } else {
      connections[owner]?.session?.unfinished.remove(index)
    }
  }

  // MARK: Turns

  /// What a host may still send. Of strings that aren't in memory nobody knows how much that is: more than anything, until a
  /// turn shows that nothing comes.
  private func owed(_ tally: Int) -> UInt64 {
    let mayOweMore = tallies[tally].mayOweMore && tallies[tally].totals.promises > 0
    return mayOweMore ? max(pool, tallies[tally].owed) : tallies[tally].owed
  }

  /// A frame was taken, or asked for: more will come.
  mutating func willSend(_ id: ConnectionID) {
    guard let session = connections[id]?.session else { return }
    creditMayBeDue(id)
    if owed(session.facts.tally) > session.credit.unused { wantTurn(id) }
  }

  private mutating func wantTurn(_ id: ConnectionID) {
    guard let session = connections[id]?.session, session.credit.allotment == 0, !session.isWaiting else { return }
    connections[id]?.session?.isWaiting = true
    waitingTurns.append(id)
  }

  /// The next in line, but those first whose host has no turn. No turn is smaller than the least, and none larger than
  /// its share, or than half of what is left: who comes next shall not have to wait until a slow one has used up what it
  /// was granted.
  private mutating func beginTurns() {
    while !waitingTurns.isEmpty {
      let room = poolForTurns - min(poolForTurns, allotted)
      guard room >= leastAllotment else { return }
      let hosts = Set(turns.compactMap { connections[$0]?.session?.facts.tally })
      let roomForChannels = min(room, roomForChannels)
      func mayBegin(_ id: ConnectionID) -> Bool { !id.isChannel || roomForChannels >= leastAllotment }
      let next = waitingTurns.firstIndex { id in
        mayBegin(id) && connections[id]?.session.map { !hosts.contains($0.facts.tally) } ?? true
      }
      guard let next = next ?? waitingTurns.firstIndex(where: mayBegin) else { return }
      let share = poolForTurns / UInt64(turns.count + waitingTurns.count)
      let id = waitingTurns.remove(at: next)
      guard let session = connections[id]?.session else { continue }
      connections[id]?.session?.isWaiting = false
      let isOwing =
        owed(session.facts.tally) > session.credit.unused || !session.credit.fits(session.credit.base)
      guard isOwing else { continue }
      let size = min(
        id.isChannel ? roomForChannels : room,
        max(leastAllotment, min(share, room / 2, UInt64(max(0, limits.connectionCredit)))))
      connections[id]?.session?.credit.allotment = size
      connections[id]?.session?.supplied = now
      allotted += size
      turns.append(id)
      creditMayBeDue(id)
    }
  }

  /// A quarter of all turns is left to hosts, whatever peers dribble.
  private var roomForChannels: UInt64 {
    let used = turns.filter(\.isChannel).saturatingSum { connections[$0]?.session?.credit.allotment ?? 0 }
    let most = poolForTurns - poolForTurns / 4
    return most - min(most, used)
  }

  /// Ends turns that are done, that nothing comes of, or whose time is over.
  private mutating func endTurns() {
    let isContended = !waitingTurns.isEmpty
    let end = now + turnTime
    for id in turns {
      guard let connection = connections[id], let session = connection.session else { continue }
      if isContended, session.turnEnds == nil { connections[id]?.session?.turnEnds = end }
      let owed = owed(session.facts.tally)
      let isDone = owed == 0 && session.credit.held == 0
      if session.credit.isDrained, isContended || owed <= session.credit.unused {
        endTurn(id)
        // What was begun may have taken the base, and then the host can send nothing that would ask for its end.
        if !session.unfinished.isEmpty { wantTurn(id) }
      } else if isContended, isDone {
        // What it was granted beyond what it had to send lapses.
        endTurn(id)
      } else if isContended, connection.heard + idleTime <= now, session.unfinished.isEmpty {
        tallies[session.facts.tally].mayOweMore = false
        endTurn(id)
      } else if let end = turnEnd(of: session, isContended), end <= now {
        endTurn(id)
        giveUpUnfinished(session)
      }
    }
  }

  /// At its time, or, while others wait, when payload hasn't come for as long as a silent connection lives: what was begun
  /// may lie where nothing answers.
  private func turnEnd(of session: Session, _ isContended: Bool) -> Instant? {
    guard isContended, let end = session.turnEnds else { return session.turnEnds }
    return min(end, session.supplied + limits.silence)
  }

  private mutating func endTurn(_ id: ConnectionID) {
    guard let size = connections[id]?.session?.credit.allotment else { return }
    connections[id]?.session?.credit.allotment = 0
    connections[id]?.session?.turnEnds = nil
    allotted -= size
    turns.removeAll { $0 == id }
  }

  /// The bytes that no signed length covers yet are given up, for others need their room: the host asks again.
  private mutating func giveUpUnfinished(_ session: Session) {
    for index in session.unfinished.sorted() {
      giveUp(index, .busy, "others wait for the room that its unfinished bytes take")
      advance(index)
    }
  }

  /// An honest host has begun a few extents at a time.
  private static var mostUnfinished: Int { 64 }

  /// How many bytes bring the first of the extents that a connection has begun to its end; nil when it has begun none.
  private func leastNeed(_ session: Session) -> UInt64? {
    guard session.unfinished.count <= Self.mostUnfinished else { return 0 }
    var least: UInt64?
    for index in session.unfinished {
      let need = need(strings[index])
      least = min(least ?? need, need)
    }
    return least
  }

  private func need(_ string: StringIntake) -> UInt64 {
    switch string.nextPromise(after: string.received) {
    case .at(let next): next - string.received
    case .none: 0
    // An extent of an honest host is no longer.
    case .unread: min(string.row.recorded - string.received, UInt64(max(0, limits.extentSize)))
    }
  }

  mutating func forgetCredit(of id: ConnectionID, _ credit: CreditLine) {
    bases -= credit.base
    allotted -= credit.allotment
    if credit.allotment > 0 { turns.removeAll { $0 == id } }
    waitingTurns.removeAll { $0 == id }
  }

  // MARK: Granting

  /// At most one frame a step for each connection.
  mutating func grantCredit() {
    endTurns()
    beginTurns()
    for id in creditDue {
      guard let session = connections[id]?.session else { continue }
      connections[id]?.session?.isCreditDue = false
      let target = target(of: session, id)
      guard let total = connections[id]?.session?.credit.grant(target) else { continue }
      send(.credit(total: total), to: id)
    }
    creditDue.removeAll(keepingCapacity: true)
  }

  /// What a connection should have left to send now.
  private mutating func target(of session: Session, _ id: ConnectionID) -> UInt64 {
    let credit = session.credit
    let base = credit.base - min(credit.base, credit.held)
    guard credit.allotment > 0 else { return base }
    let most = credit.window - min(credit.window, credit.held)
    let isContended = !waitingTurns.isEmpty
    let owed = isContended ? leastNeed(session) ?? 0 : owed(session.facts.tally)
    // Long extents leave half of the base to what fits whole.
    let target = min(most, max(base, owed + credit.base / 2))
    if isContended { return target }
    // The host can't go on, and nobody ends that by waiting: more was begun than the turn has room for.
    let isStuck = target <= credit.unused && credit.unused <= credit.base / 2
    let end = now + turnTime
    connections[id]?.session?.turnEnds = isStuck ? session.turnEnds ?? end : nil
    return target
  }

  /// When a turn ends that others wait for.
  var turnDeadline: Instant? {
    var next: Instant?
    for id in turns {
      guard let connection = connections[id], let session = connection.session else { continue }
      let idle = waitingTurns.isEmpty || !session.unfinished.isEmpty ? nil : connection.heard + idleTime
      for due in [turnEnd(of: session, !waitingTurns.isEmpty), idle] { if let due { next = min(next ?? due, due) } }
    }
    return next
  }
}
