import JournalModel
import JournalStore
import WireProtocol

/// What servers that are one another's peers have asked of one another and sent: each byte that a server lacks comes from
/// them once.
///
/// A byte may come a second time only where it came in vain before: who took it died, or the channel or its link ended, or
/// that file was refused there, by either side, before it was committed; and it may come in vain only as long as who sends
/// it hasn't heard so. Hence at each such event no more is sent again than was on its way or in memory, which credit bounds.
struct PeerPayload {
  struct ChannelID: Hashable {
    var link: ConnectionID
    var number: UInt32
  }

  /// A file on a channel, as one side knows it: it is asked for and given up in turn.
  struct Request {
    var turn = 0
    var isOpen = false
    /// What who asked had of it.
    var held: UInt64 = 0

    mutating func set(_ isOpen: Bool, held: UInt64 = 0) {
      turn += 1
      self.isOpen = isOpen
      self.held = held
    }
  }

  struct Channel {
    let asker: Int
    let host: HostName
    /// As who asks knows them, and as who supplies does.
    var asked: [FileUUID: Request] = [:]
    var heard: [FileUUID: Request] = [:]
    var isClosed = false
    var isHeardClosed = false
    /// In which turn of its file each payload on its way was sent.
    var turns = Fifo<Int>()
  }

  /// Bytes that a process has taken and not given up.
  struct Piece {
    var range: Range<UInt64>
    var channel: ChannelID
  }

  var channels: [ChannelID: Channel] = [:]
  /// By server, of its present process.
  var taken: [[FileKey: [Piece]]]
  /// Of which files a host has sent it something: what both send is bounded by how long peers wait for the host.
  var fromHosts: [Set<FileKey>]
  /// What peers sent, by server, over all its lives.
  var sent: [[FileKey: UInt64]]

  init(servers: Int) {
    taken = Array(repeating: [:], count: servers)
    fromHosts = Array(repeating: [], count: servers)
    sent = Array(repeating: [:], count: servers)
  }

  /// What came there and isn't committed counts for nothing.
  mutating func giveUp(_ server: Int, _ file: FileKey? = nil, where isMeant: (ChannelID) -> Bool) {
    for key in file.map({ [$0] }) ?? Array(taken[server].keys) {
      taken[server][key]?.removeAll { isMeant($0.channel) }
    }
  }
}

extension Oracle {
  /// A server begins a life with what its store has.
  func forgetsPayload(_ server: SimulatedServer) {
    payload.taken[server.index] = [:]
    payload.fromHosts[server.index] = []
  }

  func linkEnded(_ server: SimulatedServer, _ link: ConnectionID) {
    payload.giveUp(server.index) { $0.link == link }
  }

  // MARK: What is said

  /// - Parameter number: the channel that the frame before named.
  func says(_ server: SimulatedServer, _ frame: Frame, on link: ConnectionID, _ number: UInt32?) {
    switch frame {
    case .openChannel(let opening):
      let id = PeerPayload.ChannelID(link: link, number: opening.channel)
      payload.channels[id] = PeerPayload.Channel(asker: server.index, host: opening.journal.host)
    case .closeChannel(let end):
      let id = PeerPayload.ChannelID(link: link, number: end.channel)
      payload.channels[id]?.isClosed = true
      // That another one goes on with records is no reason to take its bytes twice.
      if end.code != .superseded { payload.giveUp(server.index) { $0 == id } }
    case .wantBytes(let wanted):
      let id = PeerPayload.ChannelID(link: link, number: wanted.channel)
      guard let host = payload.channels[id]?.host else { return }
      let stored = server.store.snapshot().string(FileKey(host: host, file: wanted.file).first)?.committed ?? 0
      // What is in a commit whose answer hasn't come was on its way.
      let said = wanted.held.map(\.length).max() ?? 0
      let held = server.process?.isCommitting == true ? said : stored
      payload.channels[id]?.asked[wanted.file, default: .init()].set(true, held: held)
    case .refusal(let refusal):
      guard let number, let file = refusal.file else { return }
      let id = PeerPayload.ChannelID(link: link, number: number)
      if payload.channels[id]?.asker == server.index { givesUp(server, file, on: id) }
    default: break
    }
  }

  private func givesUp(_ server: SimulatedServer, _ file: FileUUID, on id: PeerPayload.ChannelID) {
    guard let channel = payload.channels[id] else { return }
    payload.channels[id]?.asked[file, default: .init()].set(false)
    payload.giveUp(server.index, FileKey(host: channel.host, file: file)) { $0 == id }
  }

  func hears(_ server: SimulatedServer, _ frame: Frame, on link: ConnectionID, _ number: UInt32?) {
    switch frame {
    case .closeChannel(let end):
      payload.channels[PeerPayload.ChannelID(link: link, number: end.channel)]?.isHeardClosed = true
    case .wantBytes(let wanted):
      let id = PeerPayload.ChannelID(link: link, number: wanted.channel)
      payload.channels[id]?.heard[wanted.file, default: .init()].set(true)
    case .refusal(let refusal):
      guard let number, let file = refusal.file else { return }
      let id = PeerPayload.ChannelID(link: link, number: number)
      if payload.channels[id]?.asker == server.index {
        givesUp(server, file, on: id)
      } else {
        payload.channels[id]?.heard[file, default: .init()].set(false)
      }
    default: break
    }
  }

  // MARK: What is sent

  /// Returns in which turn of its file it is sent.
  func supplies(_ server: SimulatedServer, _ header: PayloadHeader, on link: ConnectionID, _ number: UInt32) -> Int {
    guard let channel = payload.channels[PeerPayload.ChannelID(link: link, number: number)] else { return 0 }
    let request = channel.heard[header.file]
    if channel.isHeardClosed || request?.isOpen != true {
      fail(
        .doubled,
        "server \(server.index) goes on with \(header.file.text) at \(header.offset), though it was told that nobody waits "
          + "for it")
    }
    return request?.turn ?? 0
  }

  func isSupplied(in turn: Int, on link: ConnectionID, _ number: UInt32) {
    payload.channels[PeerPayload.ChannelID(link: link, number: number)]?.turns.append(turn)
  }

  func takes(_ server: SimulatedServer, _ header: PayloadHeader, from host: Int) {
    guard world.hosts.indices.contains(host) else { return }
    let key = FileKey(host: world.hosts[host].name, file: header.file)
    payload.fromHosts[server.index].insert(key)
  }

  func takes(_ server: SimulatedServer, _ header: PayloadHeader, on link: ConnectionID, _ number: UInt32?) {
    guard let id = number.map({ PeerPayload.ChannelID(link: link, number: $0) }), let channel = payload.channels[id],
      let turn = payload.channels[id]?.turns.popFirst()
    else { return }
    let key = FileKey(host: channel.host, file: header.file)
    payload.sent[server.index][key, default: 0] += UInt64(header.length)
    let request = channel.asked[header.file]
    // It was on its way when it was given up.
    guard !channel.isClosed, let request, request.isOpen, request.turn == turn else { return }
    let range = header.offset..<header.end
    let pieces = payload.taken[server.index][key] ?? []
    let isKnown = range.lowerBound < request.held || pieces.contains { $0.range.overlaps(range) }
    if isKnown, comesOnce(server, key), !payload.fromHosts[server.index].contains(key) {
      let others = pieces.filter { $0.range.overlaps(range) }.map { "\($0.range) of \($0.channel.link)" }
      fail(
        .doubled,
        "server \(server.index) is sent \(range) of \(key.file.text) on \(link), and had \(request.held) when it asked, "
          + "and took \(others)")
    }
    if let last = pieces.last, last.channel == id, last.range.upperBound == range.lowerBound {
      payload.taken[server.index][key]?[pieces.count - 1].range = last.range.lowerBound..<range.upperBound
    } else {
      payload.taken[server.index][key] = pieces + [PeerPayload.Piece(range: range, channel: id)]
    }
  }

  /// A file of several strings has several bytes in one place.
  private func comesOnce(_ server: SimulatedServer, _ key: FileKey) -> Bool {
    guard let known = known(key), !known.isMixed, known.inode?.isOverwritten != true else { return false }
    let store = server.store.snapshot()
    guard let row = store.string(key.first) else { return true }
    return store.string(StringKey(key: key, string: 1)) == nil && !isDamaged(server, row)
  }

  /// Where nothing was disturbed: what peers sent of files of which that server's hosts sent nothing, and how much of it was
  /// lacking.
  func checkOnce() -> (sent: UInt64, failures: [String]) {
    var (sent, failures) = (0 as UInt64, [String]())
    for server in world.servers {
      for (key, count) in payload.sent[server.index].sorted(by: { $0.key < $1.key })
      where comesOnce(server, key) && !payload.fromHosts[server.index].contains(key) {
        sent += count
        let held = server.store.snapshot().string(key.first)?.committed ?? 0
        guard count != held else { continue }
        failures.append("server \(server.index) has \(held) bytes of \(key.file.text), and peers sent \(count)")
      }
    }
    return (sent, failures)
  }

  /// Another peer's channel for the files of the same host.
  func otherChannel(_ server: SimulatedServer, than id: PeerPayload.ChannelID) -> PeerPayload.ChannelID? {
    guard let host = payload.channels[id]?.host else { return nil }
    return payload.channels.filter {
      $0.key.link != id.link && $0.value.asker == server.index && $0.value.host == host && !$0.value.isClosed
        && server.process?.isPeer($0.key.link) == true
    }.keys.min { ($0.link, $0.number) < ($1.link, $1.number) }
  }
}
