import HostCore
import JournalModel
import JournalStore
import WireProtocol

/// Brings one host's cargo to a server in the host's place, in any order that the protocol admits: records in the order
/// of the journal, a file's payload in the order of its bytes and behind the record that states its length; all else
/// is free.
final class Courier {
  private struct Progress {
    var sent = 0
    var held = 0
    /// The server said what it holds on this connection, and has refused nothing since.
    var isKnown = false
    var isAsked = false
    /// A repeat of what isn't committed yet throws the file back to the last root: it may come so often and no more.
    var repeatsLeft = 4
  }

  private let cargo: Cargo
  private let server: Int
  private let habits: Delivery.Habits
  private unowned let world: World
  private var random: RandomStream
  private var connection: Connection?
  private var decoder: FrameDecoder
  private var isWelcome = false
  /// The last frame is still in the process.
  private var isSending = false
  /// Records that this connection has shown, and those that are durable.
  private var shown = 0
  private var durable = 0
  /// Payload that may be sent yet. It is wide, but comes only when the server knows what for.
  private var credit: UInt64 = 0
  private var spent: UInt64 = 0
  private var room: Int { Int(clamping: credit - min(credit, spent)) }
  private var progress: [Progress]
  private var breaksLeft: Int
  /// Everything is brought once more, from the beginning.
  private var lapsLeft: Int
  private var isReady = true
  private var spokenAt: UInt64 = 0
  private var heardAt: UInt64 = 0
  private(set) var frames = 0
  private(set) var repeats = 0

  init(_ cargo: Cargo, to server: Int, _ habits: Delivery.Habits, _ random: RandomStream, _ world: World) {
    self.cargo = cargo
    self.server = server
    self.habits = habits
    self.random = random
    self.world = world
    decoder = FrameDecoder(limits: world.limits, from: .server)
    progress = [Progress](repeating: Progress(), count: cargo.files.count)
    breaksLeft = habits.breaks
    lapsLeft = habits.laps
  }

  private var now: UInt64 { world.kernel.now.nanoseconds }

  /// The server has acknowledged everything.
  var isDone: Bool {
    lapsLeft == 0 && durable == cargo.records.count
      && zip(progress, cargo.files).allSatisfy { $0.held == $1.bytes.count && $0.sent == $0.held }
  }

  var missing: String {
    let files = zip(progress, cargo.files).filter { $0.held < $1.bytes.count }
    let first = files.first.map { ", \($0.held) of \($1.bytes.count) bytes of \($1.file.text)" } ?? ""
    return "\(cargo.host.name): \(durable) of \(cargo.records.count) records, \(files.count) files wait\(first)"
  }

  // MARK: Connections

  private func connect() {
    guard isReady, let opened = world.accept(host: cargo.host.index, server: server, true) else { return }
    connection = opened
    heardAt = now
    decoder = FrameDecoder(limits: world.limits, from: .server)
    (isWelcome, isSending) = (false, false)
    for index in progress.indices {
      progress[index] = Progress(held: progress[index].held, repeatsLeft: progress[index].repeatsLeft)
    }
    opened.attach(
      at: .toHost, receive: { [weak self, weak opened] in self?.received($0, opened) },
      ended: { [weak self, weak opened] _ in if let self, self.connection === opened { self.lost() } })
    let identity = cargo.host.identity
    send(
      .hello(
        Hello(
          oldest: 1, newest: 1, host: identity.host, journal: identity.journal, publicKey: identity.publicKey)))
  }

  private func lost() {
    connection = nil
    isReady = false
    let pause = random.below(random.pick([1_000, 1_000_000, 300_000_000] as [UInt64]))
    world.kernel.after(pause) { [weak self] in self?.isReady = true }
  }

  private func breakOff() {
    guard let connection else { return }
    breaksLeft -= 1
    switch random.below(3) {
    case 0: connection.reset()
    case 1:
      connection.abort(.toServer, silently: false)
      lost()
    default: connection.drain(until: now + random.below(400_000_000 as UInt64))
    }
  }

  func leave() { connection?.close(.toServer) }

  private func received(_ bytes: [UInt8], _ from: Connection?) {
    guard let from, from === connection else { return }
    heardAt = now
    from.consumed(bytes.count, .toHost)
    decoder.feed(bytes.span.bytes)
    while from === connection, let next = try? decoder.next() {
      guard case .frame(let frame) = next else { return }
      take(frame)
    }
  }

  private func take(_ frame: Frame) {
    switch frame {
    case .welcome(let welcome):
      isWelcome = true
      (credit, spent) = (welcome.credit, 0)
      durable = Int(welcome.heads.first?.length ?? 0)
      shown = durable
    case .credit(let total): credit = max(credit, total)
    case .recordsDurable(let head):
      durable = max(durable, Int(head.length))
      shown = max(shown, durable)
    case .resumeAnswer(let answers): for answer in answers { resume(answer) }
    case .payloadDurable(let prefixes): for prefix in prefixes { held(prefix.file, Int(prefix.length)) }
    case .refusal(let refusal):
      guard let file = refusal.file, let index = index(file) else { return }
      progress[index].isKnown = false
    case .goodbye(let code, let text):
      guard [.superseded, .silence, .shuttingDown, .busy].contains(code) else {
        return world.oracle.fail(.wire, "server \(server) sends a courier away: \(code): \(text)")
      }
    default: break
    }
  }

  private func index(_ file: FileUUID) -> Int? { cargo.files.firstIndex { $0.file == file } }

  private func held(_ file: FileUUID, _ length: Int) {
    guard let index = index(file) else { return }
    progress[index].held = max(progress[index].held, length)
  }

  private func resume(_ answer: HeldFile) {
    guard let index = index(answer.file) else { return }
    let length = Int(answer.strings.first?.length ?? 0)
    held(answer.file, length)
    progress[index].isAsked = false
    progress[index].isKnown = true
    // What is held already comes again, as from a host that knows no better.
    let isRepeated = length > 0 && progress[index].repeatsLeft > 0 && random.chance(habits.repeats)
    if isRepeated { noteRepeat(index) }
    progress[index].sent = lapsLeft < habits.laps ? 0 : isRepeated ? random.below(length) : length
  }

  private func noteRepeat(_ index: Int) {
    repeats += 1
    progress[index].repeatsLeft -= 1
  }

  // MARK: Sending

  private func send(_ frame: Frame, payload: ArraySlice<UInt8> = []) {
    frames += 1
    isSending = true
    spokenAt = now
    let opened = connection
    connection?.send(frame.encoded() + payload, .toServer) { [weak self] in
      guard let self, self.connection === opened else { return }
      self.isSending = false
    }
  }

  /// Brings one frame further; false when there is nothing to do now.
  func step() -> Bool {
    guard connection != nil else {
      connect()
      return true
    }
    guard now - heardAt < world.limits.silence.nanoseconds else {
      connection?.abort(.toServer, silently: false)
      lost()
      return true
    }
    guard isWelcome, !isSending else { return false }
    if breaksLeft > 0, random.chance(40_000) {
      breakOff()
      return true
    }
    if ask() { return true }
    let files = progress.indices.filter { room > 0 && progress[$0].isKnown && progress[$0].sent < sendable($0) }
    let mayShow = shown < cargo.records.count && shown - durable < world.limits.recordWindow
    if habits.repeats > 0, random.chance(habits.repeats), repeatPayload() { return true }
    switch habits.order {
    case .payloadFirst:
      if let first = files.first { sendPayload(first) } else if mayShow { sendRecords() } else { return idle() }
    case .recordsFirst:
      if mayShow {
        sendRecords()
      } else if shown == cargo.records.count, let last = files.last {
        sendPayload(last)
      } else {
        return idle()
      }
    case .any:
      guard mayShow || !files.isEmpty else { return idle() }
      let draw = random.below(files.count + (mayShow ? 1 : 0))
      if draw < files.count { sendPayload(files[draw]) } else { sendRecords() }
    }
    return true
  }

  private func sendable(_ index: Int) -> Int { cargo.files[index].sendable(after: shown) }

  /// All that could be sent was sent: the next lap begins, or a word keeps the connection alive.
  private func idle() -> Bool {
    if lapsLeft > 0, durable == cargo.records.count,
      zip(progress, cargo.files).allSatisfy({ $0.held == $1.bytes.count && $0.isKnown })
    {
      lapsLeft -= 1
      repeats += cargo.files.count
      connection?.close(.toServer)
      lost()
      return true
    }
    guard now - spokenAt > world.limits.heartbeat.nanoseconds / 4 else { return false }
    send(.ping(nonce: 1))
    return true
  }

  /// Where to go on with files that aren't known or were refused (W2).
  private func ask() -> Bool {
    guard !progress.contains(where: \.isAsked) else { return false }
    let asked = progress.indices.filter { !progress[$0].isKnown }.prefix(world.limits.resumePage)
    guard !asked.isEmpty else { return false }
    for index in asked { progress[index].isAsked = true }
    send(.resumeQuery(asked.map { cargo.files[$0].file }))
    return true
  }

  private func sendRecords() {
    let first = shown
    let most = min(world.limits.recordsPerFrame, world.limits.recordWindow - (shown - durable))
    var size = 0
    while shown < cargo.records.count, shown - first < most,
      habits.order != .any || random.chance(800_000) || shown == first
    {
      size += cargo.records[shown].count
      guard shown == first || size <= world.limits.recordBytesPerFrame else { break }
      shown += 1
    }
    guard let checkpoint = try? cargo.checkpoint(shown) else { return }
    send(
      .records(Records(first: UInt64(first), encoded: Array(cargo.records[first..<shown]), checkpoint: checkpoint)))
    // The rest of what was half sent when a gap is stated is given up: where to go on is asked again (J4).
    for file in cargo.gaps(in: first..<shown) { if let index = index(file) { progress[index].isKnown = false } }
  }

  private func sendPayload(_ index: Int) {
    let from = progress[index].sent
    let most = min(sendable(index) - from, world.limits.payloadFrameSize, room)
    send(index, from: from, count: habits.order == .any ? 1 + random.below(most) : most)
  }

  /// Bytes that were sent already, and perhaps some beyond.
  private func repeatPayload() -> Bool {
    let files = progress.indices.filter {
      progress[$0].isKnown && progress[$0].sent > 0 && progress[$0].repeatsLeft > 0
    }
    guard !files.isEmpty, room > 0 else { return false }
    let index = random.pick(files)
    let from = random.below(progress[index].sent)
    noteRepeat(index)
    send(index, from: from, count: 1 + random.below(min(sendable(index) - from, world.limits.payloadFrameSize, room)))
    return true
  }

  private func send(_ index: Int, from: Int, count: Int) {
    let file = cargo.files[index]
    progress[index].sent = max(progress[index].sent, from + count)
    spent += UInt64(count)
    send(
      .payload(PayloadHeader(file: file.file, offset: UInt64(from), length: count)),
      payload: file.bytes[from..<(from + count)])
  }
}
