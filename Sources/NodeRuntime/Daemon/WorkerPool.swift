import Glibc
import JournalModel
import LinuxIO

/// What work waits for: work of one lane never takes the threads of another.
protocol WorkLane: Hashable, Sendable {
  /// How much of it runs at once.
  var width: Int { get }
  /// There may be any number of such lanes (one for each file system, one for each server): together they are bounded.
  var isOneOfMany: Bool { get }
}

/// Threads for calls that block on the disk or hash much, made on demand. Work with equal keys runs one after another in
/// the order of submission, whatever its lanes; different keys run side by side. Lanes are served in turn, within a lane
/// those whom the work is for, and for each of them keys first come, first served: however much one of them submits,
/// another one's work waits for a piece of work of each.
///
/// It stands in the module that uses it, so that it is specialized there.
///
/// Work that takes longer than a bound is *hung* (`review`): its thread no longer counts, and as many again may hang before
/// the rest of its lane waits behind them. Nothing waits for a hung thread, neither a submission nor the end.
final class WorkerPool<Lane: WorkLane, Key: Hashable & Sendable>: Sendable {
  typealias Work = @Sendable () -> Void
  /// A part of something long: true when there is more of it.
  typealias Part = @Sendable () -> Bool

  /// A lane with work that hangs.
  struct Hung: Hashable, Sendable {
    var lane: Lane
    /// When the oldest of it began.
    var since: Instant
    var count: Int
    /// How much waits behind it.
    var waiting: Int
  }

  private struct LaneState {
    var ready = Shares<Key>()
    var waiting = 0
    var running = 0
    var hung = 0
    var isInTurns = false
  }
  private struct Running {
    var lane: Lane
    var since: Instant
    var isHung = false
  }
  private struct Assignment {
    var ticket: UInt64
    var lane: Lane
    var key: Key
    var work: Part
  }
  private struct State {
    /// Waiting work; a key is in it while it is ready, running or waiting.
    var queues: [Key: Fifo<(lane: Lane, work: Part)>] = [:]
    var lanes: [Lane: LaneState] = [:]
    /// Lanes that have a ready key and room for it.
    var turns = Fifo<Lane>()
    var running: [UInt64: Running] = [:]
    var lastTicket: UInt64 = 0
    /// Running work of lanes that are one of many.
    var ofMany = 0
    /// Threads that wait for work, and whether the one that holds the lock will look for some.
    var idle = 0
    var isLooking = false
    /// How many of those that wait are to be woken, once nobody holds the lock that they wake up to.
    var toWake = 0
    var isStopping = false
  }

  /// Threads that lanes of which there are many have together; each of them may have one besides.
  private static var mostOfMany: Int { 64 }
  /// Threads that are kept for later.
  private static var mostIdle: Int { 8 }

  private let state = Monitor(State())
  /// Whom work is for, as a number.
  private let beneficiary: @Sendable (Key) -> Int
  /// How often a lane came to have nothing more. Its lock is only taken within that of `state`, never around it.
  private let emptied = Monitor(UInt64(0))

  init(for beneficiary: @escaping @Sendable (Key) -> Int = { _ in 0 }) { self.beneficiary = beneficiary }

  /// Never blocks. Work tells of its end by itself, as its last act.
  func submit(_ lane: Lane, _ key: Key, _ work: @escaping Work) {
    submitParts(lane, key) {
      work()
      return false
    }
  }

  /// The same for something long, which is called again for each of its parts, when all others have had their turn.
  /// Nothing with its key runs before it is done.
  func submitParts(_ lane: Lane, _ key: Key, _ work: @escaping Part) {
    withTurns { state in
      state.lanes[lane, default: LaneState()].waiting += 1
      guard state.queues[key] == nil else {
        state.queues[key]?.append((lane, work))
        return
      }
      state.queues[key] = Fifo()
      state.queues[key]?.append((lane, work))
      makeReady(key, in: lane, &state)
    }
  }

  /// Calls hung what has been running for `limit`, and says what hangs. What isn't asked for hangs unnoticed, and keeps
  /// the rest of its lane waiting.
  func review(at now: Instant, limit: Interval) -> [Hung] {
    withTurns { state in
      var found: [Lane: Hung] = [:]
      for (ticket, work) in state.running where now - work.since >= limit {
        if !work.isHung {
          state.running[ticket]?.isHung = true
          state.lanes[work.lane]?.hung += 1
        }
        var hung = found[work.lane] ?? Hung(lane: work.lane, since: work.since, count: 0, waiting: 0)
        hung.count += 1
        hung.since = min(hung.since, work.since)
        hung.waiting = state.lanes[work.lane]?.waiting ?? 0
        found[work.lane] = hung
      }
      for lane in found.keys { takeTurn(lane, &state) }
      return Array(found.values)
    }
  }

  /// Whether nothing with this key waits or runs: so it stays until somebody submits some.
  func isFree(_ key: Key) -> Bool { state.withLock { $0.queues[key] == nil } }

  /// Whether nothing of the lanes waits or runs.
  func isIdle(_ isMeant: (Lane) -> Bool) -> Bool {
    state.withLock { state in
      !state.lanes.contains { isMeant($0.key) && $0.value.waiting + $0.value.running > 0 }
    }
  }

  /// Waits until nothing of the lanes waits or runs. False when something still does at `limit`.
  func awaitIdle(until limit: Instant, _ isMeant: (Lane) -> Bool) -> Bool {
    while true {
      let seen = emptied.withLock { $0 }
      if isIdle(isMeant) { return true }
      guard emptied.waiting(until: limit, { $0 == seen ? nil : () }) != nil else { return isIdle(isMeant) }
    }
  }

  /// Threads end when they find no more work. Nothing may be submitted after it.
  func stop() {
    state.withLock { $0.isStopping = true }
    state.wakeAll()
  }

  /// Whoever changes turns wakes whom they need.
  private func withTurns<Result>(_ body: (inout State) -> Result) -> Result {
    let (result, toWake) = state.withLock { state in
      defer { state.toWake = 0 }
      let result = body(&state)
      return (result, state.toWake)
    }
    for _ in 0..<toWake { state.wakeOne() }
    return result
  }

  // MARK: Turns, under the lock

  private func makeReady(_ key: Key, in lane: Lane, _ state: inout State) {
    state.lanes[lane]?.ready.append(key, for: beneficiary(key))
    takeTurn(lane, &state)
  }

  /// Sees to it that somebody takes the lane's next key, if it has one and room.
  private func takeTurn(_ lane: Lane, _ state: inout State) {
    guard let found = state.lanes[lane], !found.isInTurns, !found.ready.isEmpty,
      found.running < lane.width + min(found.hung, lane.width),
      !lane.isOneOfMany || found.running == 0 || state.ofMany < Self.mostOfMany
    else { return }
    state.lanes[lane]?.isInTurns = true
    state.turns.append(lane)
    // One idle thread for each turn, so that none waits behind a thread that isn't back yet.
    let needed = state.turns.count - (state.isLooking ? 1 : 0)
    if needed <= 0 {
      return
    } else if needed <= state.idle {
      state.toWake += 1
    } else if !startThread(), state.idle == 0, state.running.isEmpty {
      preconditionFailure("the machine gives no thread at all")
    }
  }

  private func next(_ state: inout State) -> Assignment? {
    state.isLooking = false
    guard let lane = state.turns.popFirst() else { return nil }
    state.lanes[lane]?.isInTurns = false
    guard let key = state.lanes[lane]?.ready.popFirst(), let (_, work) = state.queues[key]?.popFirst() else {
      preconditionFailure("a lane in turn has a ready key, and a ready key has work")
    }
    state.lanes[lane]?.waiting -= 1
    state.lanes[lane]?.running += 1
    if lane.isOneOfMany { state.ofMany += 1 }
    state.lastTicket += 1
    state.running[state.lastTicket] = Running(lane: lane, since: Clocks.now())
    takeTurn(lane, &state)
    return Assignment(ticket: state.lastTicket, lane: lane, key: key, work: work)
  }

  private func ended(_ assignment: Assignment, hasMore: Bool, _ state: inout State) {
    guard let done = state.running.removeValue(forKey: assignment.ticket) else { return }
    let (lane, key) = (assignment.lane, assignment.key)
    if hasMore {
      state.queues[key]?.prepend((lane, assignment.work))
      state.lanes[lane]?.waiting += 1
    }
    state.lanes[lane]?.running -= 1
    if done.isHung { state.lanes[lane]?.hung -= 1 }
    let wasCrowded = lane.isOneOfMany && state.ofMany >= Self.mostOfMany
    if lane.isOneOfMany { state.ofMany -= 1 }
    if let following = state.queues[key]?.first {
      makeReady(key, in: following.lane, &state)
    } else {
      state.queues[key] = nil
    }
    takeTurn(lane, &state)
    if wasCrowded { for other in state.lanes.keys { takeTurn(other, &state) } }
    if let left = state.lanes[lane], left.waiting + left.running == 0 {
      state.lanes[lane] = nil
      emptied.withLock { $0 += 1 }
      emptied.wakeAll()
    }
  }

  // MARK: Threads

  private func startThread() -> Bool {
    let box = Unmanaged.passRetained(ThreadBody { [self] in run() })
    var thread = pthread_t()
    let code = pthread_create(
      &thread, nil,
      { raw in
        guard let raw else { return nil }
        Unmanaged<ThreadBody>.fromOpaque(raw).takeRetainedValue().run()
        return nil
      }, box.toOpaque())
    guard code == 0 else {
      box.release()
      return false
    }
    pthread_detach(thread)
    return true
  }

  private func run() {
    var done: (Assignment, hasMore: Bool)?
    while let assignment = awaitWork(after: done) { done = (assignment, assignment.work()) }
  }

  /// Nil when this thread isn't needed any more.
  private func awaitWork(after done: (Assignment, hasMore: Bool)?) -> Assignment? {
    var done = done
    var isIdle = false
    var toWake = 0
    defer { for _ in 0..<toWake { state.wakeOne() } }
    return state.waiting { state -> Assignment?? in
      // With the lock given back; who finds nothing leaves no turn behind.
      defer { (toWake, state.toWake) = (toWake + state.toWake, 0) }
      if let (last, hasMore) = done {
        done = nil
        state.isLooking = true
        ended(last, hasMore: hasMore, &state)
      }
      let wasIdle = isIdle
      // Before it looks: it is no help to whom it leaves behind.
      if wasIdle { state.idle -= 1 }
      isIdle = false
      if let found = next(&state) { return found }
      if state.isStopping || (!wasIdle && state.idle >= Self.mostIdle) { return .some(nil) }
      state.idle += 1
      isIdle = true
      return nil
    }
  }
}

/// What a thread runs, on its way through `pthread_create(3)`.
private final class ThreadBody: Sendable {
  let run: @Sendable () -> Void
  init(run: @escaping @Sendable () -> Void) { self.run = run }
}

/// A queue for each who has something in it, served in turn.
struct Shares<Element> {
  private var queues: [Int: Fifo<Element>] = [:]
  private var turns = Fifo<Int>()
  var isEmpty: Bool { turns.isEmpty }

  mutating func append(_ element: Element, for beneficiary: Int) {
    if queues[beneficiary] == nil { turns.append(beneficiary) }
    queues[beneficiary, default: Fifo()].append(element)
  }

  mutating func popFirst() -> Element? {
    guard let next = turns.popFirst(), let element = queues[next]?.popFirst() else { return nil }
    if queues[next]?.isEmpty == false { turns.append(next) } else { queues[next] = nil }
    return element
  }
}
