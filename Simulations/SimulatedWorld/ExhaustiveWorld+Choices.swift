import JournalModel
import JournalStore
import ServerCore
import WireProtocol

extension ExhaustiveWorld {
  /// One thing that may happen next.
  enum Choice: Hashable {
    case connect, deliver, noticeEnd
    case answer(Int)
    case askAgain, tick
    case breakLink
    case crashServer(Crash)
  }

  /// What happens without a fault, in any order; time passes when there is nothing else.
  var steps: [Choice] {
    if scope.disk == .first, let lane = Self.fileLanes.first(where: { !lanes[$0].isEmpty }) {
      return [.answer(lane)]
    }
    var choices: [Choice] = []
    if isServing, link == nil { choices.append(.connect) }
    if link?.toServer.isEmpty == false { choices.append(.deliver) }
    if !ended.isEmpty { choices.append(.noticeEnd) }
    choices += busyLanes.map { .answer($0) }
    if choices.isEmpty, host.refused.contains(true) { return [.askAgain] }
    if choices.isEmpty, !isAtEnd, setting.lives.nodes[life].deadline != nil { return [.tick] }
    return choices
  }

  private var busyLanes: [Int] { lanes.indices.filter { !lanes[$0].isEmpty } }

  /// Faults: what of each kind is left.
  var strokes: [Choice] {
    var choices: [Choice] = []
    if faults.breaks > 0, link != nil { choices.append(.breakLink) }
    if faults.crashes > 0 { choices += crashes.map { .crashServer($0) } }
    return choices
  }

  private var crashes: [Crash] {
    var crashes: [Crash] = []
    // What is only read leaves nothing behind.
    for done in 0..<(UInt8(1) << UInt8(Self.readingLane)) {
      let isPossible = lanes.indices.allSatisfy { done & 1 << $0 == 0 || !lanes[$0].isEmpty }
      guard isPossible else { continue }
      crashes.append(Crash(power: nil, done: done))
      // Where all is synced the power takes nothing that the process doesn't.
      if done & ~1 != 0 || !disk.isSynced {
        crashes += [Crash(power: .nothing, done: done), Crash(power: .torn, done: done)]
      }
    }
    return crashes
  }

  /// The host knows everything to be held, and the server has nothing left to do.
  var isAtEnd: Bool {
    let contents = store.contents
    return host.isSettled(journal) && setting.lives.nodes[life].isAtRest && contents.ranges.isEmpty
      && contents.promises.isEmpty
  }

  mutating func take(_ choice: Choice) {
    switch choice {
    case .connect: connect()
    case .deliver: deliver()
    case .noticeEnd: input(.closed(ended.removeFirst()))
    case .answer(let lane): answer(lane)
    case .askAgain:
      let sending = host.retry(journal)
      link?.toServer += sending
    case .tick:
      now = max(now, setting.lives.nodes[life].deadline ?? now)
      input(.tick)
    case .breakLink: breakLink()
    case .crashServer(let crash): crashServer(crash)
    }
    judge()
  }

  /// Before `hello` a connection is nothing to the server: both are one step.
  private mutating func connect() {
    nextConnection += 1
    let id = ConnectionID(nextConnection)
    link = Link(id: id)
    input(.accepted(id, Peer(names: [journal.host.text], address: "10.0.0.1")))
    input(.received(id, journal.hello))
  }

  private mutating func deliver() {
    guard let id = link?.id, let sent = link?.toServer.removeFirst() else { return }
    switch sent {
    case .frame(let frame):
      if scope.mutant == .acknowledgeRecordsOnReceipt, case .records(let records) = frame {
        send(.recordsDurable(records.checkpoint), on: id)
      }
      input(.received(id, frame))
    case .payload(let header, let bytes):
      nextPayload += 1
      let payload = PayloadID(nextPayload)
      held[payload] = bytes
      if scope.mutant == .acknowledgeOnReceipt {
        let root = journal.root(of: header.file, at: header.end)
        send(.payloadDurable([DurablePrefix(file: header.file, length: header.end, root: root)]), on: id)
      }
      input(.receivedPayload(id, header, payload))
    }
  }

  // MARK: Words for a schedule

  func text(_ choice: Choice) -> String {
    switch choice {
    case .connect: "the host connects"
    case .deliver: "the server hears: \(link?.toServer.first.map { Self.text($0) } ?? "")"
    case .noticeEnd: "the server hears that an old connection ended"
    case .answer(let lane): "done and answered: \(lanes[lane].first.map { Self.name($0.operation) } ?? "")"
    case .askAgain: "the host asks again for what was refused"
    case .tick: "time passes"
    case .breakLink: "THE LINK IS CUT, or the host crashes"
    case .crashServer(let crash): text(crash)
    }
  }

  private func text(_ crash: Crash) -> String {
    let done = lanes.indices.filter { crash.done & 1 << $0 != 0 }
      .compactMap { lanes[$0].first.map { Self.name($0.operation) } }
    let place = crash.power == .torn ? "during" : "after"
    let when = done.isEmpty ? "" : " \(place) \(done.joined(separator: " and ")), before the answer"
    return switch crash.power {
    case nil: "THE SERVER IS KILLED\(when)"
    case .nothing: "THE SERVER'S POWER IS CUT\(when): nothing survives that wasn't synced"
    case .torn: "THE SERVER'S POWER IS CUT\(when): half survives of what wasn't synced, garbage behind"
    }
  }

  private static func text(_ sent: ExhaustiveHost.Sent) -> String {
    switch sent {
    case .frame(.records(let records)):
      "records \(records.first) ..< \(records.first + UInt64(records.encoded.count))"
    case .frame(let frame): String("\(frame)".prefix { $0 != "(" })
    case .payload(let header, _): "payload \(header.offset) ..< \(header.end) of \(header.file.text)"
    }
  }

  private static func name(_ operation: Operation) -> String {
    switch operation {
    case .commit(let batch):
      "commit of \(batch.records.count) runs, \(batch.strings.count) rows, \(batch.log.count) payloads"
    case .write(let key, _, let from, let upTo, let sync):
      "write \(from) ..< \(upTo)\(sync ? ", synced," : "") of \(key.key.file.text)"
    default: String("\(operation)".prefix { $0 != "(" })
    }
  }
}
