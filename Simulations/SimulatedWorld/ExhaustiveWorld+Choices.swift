import JournalModel
import JournalStore
import ServerCore
import WireProtocol

extension ExhaustiveWorld {
  /// One thing that may happen next.
  enum Choice: Hashable {
    case connect, deliver
    case deliverToPeer(link: Int, end: Int)
    case noticeEnd(server: Int)
    case answer(server: Int, lane: Int)
    case askAgain, tick, tickEarly
    case breakLink
    case breakPeerLink(Int)
    case crashServer(Int, ExhaustiveServer.Crash)
  }

  /// What happens without a fault, in any order; time passes when there is nothing else.
  var steps: [Choice] {
    if scope.disk == .first, let choice = fileWork { return [choice] }
    if scope.isGreeted, !host.isConnected, !areEqual || !servers.allSatisfy(\.busyLanes.isEmpty) { return greeting }
    var choices: [Choice] = []
    for index in servers.indices {
      let own = steps(of: index)
      if !own.isEmpty, isIndependent(index) { return own }
      choices += own
    }
    if choices.isEmpty, host.refused.contains(true) { return [.askAgain] }
    if choices.isEmpty, !isAtEnd, deadline != nil { return [.tick] }
    return choices
  }

  /// One choice, while the host waits.
  private var greeting: [Choice] {
    let choices = servers.indices.flatMap { steps(of: $0) }
    return [choices.first { $0 != .connect } ?? (deadline == nil ? .connect : .tick)]
  }

  /// What happens at one server.
  private func steps(of index: Int) -> [Choice] {
    var choices: [Choice] = []
    if index == 0, servers[0].isServing, link == nil { choices.append(.connect) }
    if index == 0, link?.toServer.isEmpty == false { choices.append(.deliver) }
    for (number, link) in peerLinks.enumerated() {
      for end in link.ends.indices where link.ends[end].server == index && !link.ends[end].coming.isEmpty {
        choices.append(.deliverToPeer(link: number, end: end))
      }
    }
    if !servers[index].ended.isEmpty { choices.append(.noticeEnd(server: index)) }
    return choices + servers[index].busyLanes.map { .answer(server: index, lane: $0) }
  }

  private static var noFaults: Faults { Faults(crashes: 0, breaks: 0, ticks: 0) }

  /// What happens at a server changes itself, and what comes behind on the links to others. If something is on its way to
  /// it from each of the others, then nothing that happens elsewhere adds to what may happen here next, or takes of it, or
  /// comes to another end before it than after it: all schedules but those that begin here differ from one that begins
  /// here in the order of what is independent only. Each server goes through the same, each end is the same, and oracles
  /// ask about one server each, or about an end. (What may happen here is a persistent set; nothing happens for ever.)
  /// With a fault left, which takes what is on its way and ends processes, that doesn't hold.
  private func isIndependent(_ index: Int) -> Bool {
    guard servers.count > 1, faults == Self.noFaults, servers[index].ended.isEmpty else { return false }
    let comers = peerLinks.filter { link in
      link.ends.allSatisfy(\.isOpen) && link.ends.contains { $0.server == index && !$0.coming.isEmpty }
    }
    return comers.count == servers.count - 1
  }

  private var fileWork: Choice? {
    for index in servers.indices {
      if let lane = servers[index].busyLanes.first(where: ExhaustiveServer.fileLanes.contains) {
        return .answer(server: index, lane: lane)
      }
    }
    return nil
  }

  private var deadline: Instant? { servers.compactMap(\.node.deadline).min() }

  /// Faults: what of each kind is left.
  var strokes: [Choice] {
    var choices: [Choice] = []
    if faults.breaks > 0, link != nil { choices.append(.breakLink) }
    if faults.ticks > 0, deadline != nil, !isAtEnd { choices.append(.tickEarly) }
    if faults.breaks > 0 { choices += peerLinks.indices.map { .breakPeerLink($0) } }
    guard faults.crashes > 0 else { return choices }
    for index in servers.indices { choices += servers[index].crashes.map { .crashServer(index, $0) } }
    return choices
  }

  /// The host knows everything to be held, and no server has anything left to do.
  var isAtEnd: Bool { host.isSettled(journal) && servers.allSatisfy(\.isAtRest) && areEqual }

  private var areEqual: Bool { servers.count == 1 || servers.allSatisfy(\.node.isEqualToPeers) }

  mutating func take(_ choice: Choice) {
    switch choice {
    case .connect: connect()
    case .deliver: deliver()
    case .deliverToPeer(let link, let end): deliver(link, end)
    case .noticeEnd(let index): servers[index].noticeEnd()
    case .answer(let index, let lane): servers[index].answer(lane)
    case .askAgain:
      let sending = host.retry(journal)
      link?.toServer += sending
    case .tick: tick()
    case .tickEarly:
      faults.ticks -= 1
      tick()
    case .breakLink: breakLink()
    case .breakPeerLink(let link): breakPeerLink(link)
    case .crashServer(let index, let crash): crashServer(index, crash)
    }
    carry()
    for index in servers.indices { servers[index].judge() }
  }

  /// Asked where nothing is left to do.
  mutating func judgeEnd() {
    guard isAtEnd else { return complain("nothing can happen any more, and not everything is held") }
    for index in servers.indices {
      servers[index].judgeEnd()
      servers[index].judgeSupplied(isFromHost: index == 0)
    }
  }

  /// The clock of each server stands still until it has something to do.
  private mutating func tick() {
    let time = deadline
    for index in servers.indices where servers[index].node.deadline == time { servers[index].tick() }
  }

  /// Before `hello` a connection is nothing to the server: both are one step.
  private mutating func connect() {
    let id = servers[0].newConnection()
    link = Link(id: id)
    servers[0].input(.accepted(id, Peer(names: [journal.host.text], address: "10.0.0.1")))
    servers[0].input(.received(id, journal.hello))
  }

  private mutating func deliver() {
    guard let id = link?.id, let sent = link?.toServer.removeFirst() else { return }
    switch sent {
    case .frame(let frame):
      if scope.mutant == .acknowledgeRecordsOnReceipt, case .records(let records) = frame {
        sendToHost(.recordsDurable(records.checkpoint))
      }
      servers[0].input(.received(id, frame))
    case .payload(let header, let bytes):
      if scope.mutant == .acknowledgeOnReceipt {
        let root = journal.root(of: header.file, at: header.end)
        sendToHost(.payloadDurable([DurablePrefix(file: header.file, length: header.end, root: root)]))
      }
      servers[0].receive(header, bytes, on: id)
    }
  }

  // MARK: Words for a schedule

  func text(_ choice: Choice) -> String {
    switch choice {
    case .connect: "the host connects"
    case .deliver: "\(name(0)) hears: \(link?.toServer.first.map { Self.text($0) } ?? "")"
    case .deliverToPeer(let link, let end): text(peerLinks[link], to: end)
    case .noticeEnd(let index): "\(name(index)) hears that an old connection ended"
    case .answer(let index, let lane): "\(name(index)): done and answered: \(servers[index].text(lane))"
    case .askAgain: "the host asks again for what was refused"
    case .tick: "time passes"
    case .tickEarly: "TIME PASSES, and what is under way goes on"
    case .breakLink: "THE LINK IS CUT, or the host crashes"
    case .breakPeerLink(let link):
      "THE LINK IS CUT between \(peerLinks[link].ends.map { name($0.server) }.joined(separator: " and "))"
    case .crashServer(let index, let crash): servers[index].text(crash, name(index).uppercased())
    }
  }

  private func name(_ server: Int) -> String { servers.count == 1 ? "the server" : "server \(server)" }

  private func text(_ link: ExhaustivePeerLink, to end: Int) -> String {
    let sent =
      switch link.ends[end].coming.first {
      case .sent(let sent): Self.text(sent)
      case .end: "the end of the connection"
      case nil: ""
      }
    return "\(name(link.ends[end].server)) hears of \(name(link.ends[1 - end].server)): \(sent)"
  }

  private static func text(_ sent: ExhaustiveHost.Sent) -> String {
    switch sent {
    case .frame(.records(let records)):
      "records \(records.first) ..< \(records.first + UInt64(records.encoded.count))"
    case .frame(let frame): String("\(frame)".prefix { $0 != "(" })
    case .payload(let header, _): "payload \(header.offset) ..< \(header.end) of \(header.file.text)"
    }
  }
}
