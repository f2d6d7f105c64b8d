import HostCore
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

/// What a host with a valid certificate and key of its own tries against the servers.
package enum Attack: String, Hashable, Sendable, CaseIterable {
  /// The same records and payload again.
  case replay
  /// Other bytes for a range that is held.
  case rewrite
  /// The same with a journal that signed them, and said to be others: as a clone's they are kept.
  case branch
  /// Other bytes than the signed root's.
  case wrongBytes
  /// Another history of its journal, beside those that are held, as a clone or a machine that was rolled back has it.
  case equivocate
  /// Offsets and lengths at the end of all numbers.
  case hugeOffset
  /// In the name of an honest host, with its journal and public key.
  case foreignName
  /// Under the uuid and identity of an honest host's file.
  case foreignFile
  case badSignature
  case forkFlood
  case tinyFiles
  /// More payload than the credit allows.
  case overCredit
  case slowLoris
  case silentConnection
  case garbage
  /// A frame that ends in the middle.
  case halfFrame
}

/// A hostile host beside the honest ones. It speaks the protocol's frames over links of its own and keeps to no rule.
///
/// Quotas come with issue B: its floods stay below what the bounds of connections, records and credit promise today.
final class Adversary {
  static let name = "evil"
  let host: HostName
  /// Its row among the network's links.
  let index: Int
  private unowned let world: World
  private var random: RandomStream
  private var main: ForgedJournal
  /// Those that have other bytes for its files.
  private var clones: [ForgedJournal] = []
  /// Other histories of its journal.
  private var forks: [ForgedJournal] = []
  private var sessions: [Session] = []
  private var isGone = false
  /// What it is still to be told of in the end, by server and journal.
  private struct Goal: Hashable {
    var server: Int
    var journal: Int
  }
  private var goals: [Goal: Set<FileUUID>] = [:]
  /// Of whose records too.
  private var owedRecords: Set<Goal> = []

  private final class Session {
    let connection: Connection
    let attack: Attack
    var journal: ForgedJournal
    let server: Int
    /// One with a goal keeps to its credit.
    var goal: Goal?
    var credit: UInt64 = 0
    var spent: UInt64 = 0
    var queue: [(header: PayloadHeader, bytes: [UInt8])] = []
    var asked: Set<FileUUID> = []
    var decoder: FrameDecoder
    init(_ connection: Connection, _ attack: Attack, _ journal: ForgedJournal, _ server: Int, _ limits: Limits) {
      self.connection = connection
      self.attack = attack
      self.journal = journal
      self.server = server
      decoder = FrameDecoder(limits: limits, from: .server)
    }
  }

  init?(world: World) {
    guard let host = HostName(Self.name) else { return nil }
    self.host = host
    self.world = world
    index = Int(world.plan.knobs[.hosts])
    random = RandomStream(seed: world.plan.seed, entity: "adversary", purpose: "bytes")
    main = ForgedJournal(host: host, seed: world.plan.seed, random: &random)
    for count in [1, 40, 200] { main.addFile(bytes: random.bytes(count), limits: world.limits, random: &random) }
    for _ in 0..<3 {
      var clone = ForgedJournal(host: host, seed: world.plan.seed, random: &random)
      clone.addBranches(of: main, limits: world.limits, random: &random)
      clones.append(clone)
    }
    let length = 1 + random.below(main.records.count)
    for _ in 0..<2 { forks.append(main.forked(at: length, limits: world.limits, random: &random)) }
    let longer = 1 + random.below(forks[0].records.count)
    forks.append(forks[0].forked(at: longer, limits: world.limits, random: &random))
  }

  var journal: HostJournal { HostJournal(host: host, journal: main.id) }
  /// All that its journal ever was.
  var histories: [[[UInt8]]] { ([main] + forks).map(\.records) }

  /// All bytes that it ever signed for a file of its own.
  func contents(of file: FileUUID) -> [[UInt8]] {
    journals.flatMap(\.files).filter { $0.0 == file }.map(\.1)
  }

  func attack(_ server: Int, _ attack: Attack) {
    guard !isGone else { return }
    if attack == .branch {
      // Behind the first bytes, and two at a time.
      open(server, .replay)
      return world.kernel.after(1_000_000_000) { [weak self] in for _ in 0..<2 { self?.open(server, attack) } }
    }
    let times = attack == .forkFlood ? 5 : 1
    for _ in 0..<times { open(server, attack) }
  }

  /// Comes back as one that keeps to the rules, with all that it has.
  func deliverAll() {
    isGone = false
    for server in world.servers.indices {
      for (number, journal) in journals.enumerated() {
        let goal = Goal(server: server, journal: number)
        goals[goal] = Set(journal.files.map(\.0))
        owedRecords.insert(goal)
        pursue(goal)
      }
    }
  }

  private var journals: [ForgedJournal] { [main] + clones + forks }

  /// Those of which it has several contents.
  var files: [FileUUID] { main.files.map(\.0) }

  private func pursue(_ goal: Goal) {
    guard !isGone, goals[goal]?.isEmpty == false || owedRecords.contains(goal) else { return }
    guard let connection = world.intrude(goal.server, self) else {
      return world.kernel.after(1_000_000_000) { [weak self] in self?.pursue(goal) }
    }
    let session = Session(connection, .branch, journals[goal.journal], goal.server, world.limits)
    session.goal = goal
    attach(session)
    begin(session)
  }

  private func attach(_ session: Session) {
    sessions.append(session)
    let connection = session.connection
    connection.attach(
      at: .toHost, receive: { [weak self, weak session] bytes in session.map { self?.received($0, bytes) } },
      ended: { [weak self, weak session] _ in
        let goal = session?.goal
        self?.sessions.removeAll { $0.connection === connection }
        guard let goal else { return }
        self?.world.kernel.after(2_000_000_000) { [weak self] in self?.pursue(goal) }
      })
  }

  /// A server that it hasn't heard from about all that it has.
  var lacks: String? {
    for server in world.servers.indices {
      for journal in journals.indices {
        let goal = Goal(server: server, journal: journal)
        if owedRecords.contains(goal) {
          return "server \(server) hasn't told the adversary's journal \(journal) that it holds all records"
        }
        guard let file = goals[goal]?.min() else { continue }
        return "server \(server) hasn't told the adversary's journal \(journal) that it holds \(file.text)"
      }
    }
    return nil
  }

  /// As a host does: at its own length the root tells whether that is its own, and what isn't is asked about.
  private func held(_ session: Session, _ held: DurablePrefix) {
    guard let goal = session.goal, let (_, bytes) = session.journal.files.first(where: { $0.0 == held.file }),
      held.length >= UInt64(bytes.count)
    else { return }
    let isWhole = held.length == UInt64(bytes.count)
    if isWhole, held.root == session.journal.root(of: held.file, at: held.length, limits: world.limits) {
      goals[goal]?.remove(held.file)
    } else if goals[goal]?.contains(held.file) == true {
      ask(session, held.file)
    }
  }

  private func ask(_ session: Session, _ file: FileUUID) {
    guard session.asked.insert(file).inserted else { return }
    // A frame behind the question would be taken for what follows the answer (W2).
    session.queue.removeAll { $0.header.file == file }
    send(session, .resumeQuery([file]))
  }

  func leave() {
    isGone = true
    for session in sessions { session.connection.abort(.toServer, silently: false) }
    sessions = []
  }

  // MARK: Connections

  private func open(_ server: Int, _ attack: Attack) {
    if sessions.count >= 6 { sessions.removeFirst().connection.abort(.toServer, silently: false) }
    guard let connection = world.intrude(server, self) else { return }
    world.count("attack \(attack.rawValue)")
    let isNew = [.forkFlood, .tinyFiles, .hugeOffset, .foreignFile, .badSignature].contains(attack)
    var journal = isNew ? ForgedJournal(host: host, seed: world.plan.seed, random: &random) : main
    if attack == .branch { journal = random.pick(clones) }
    if attack == .equivocate { journal = random.pick(forks) }
    let session = Session(connection, attack, journal, server, world.limits)
    attach(session)
    begin(session)
  }

  private func begin(_ session: Session) {
    switch session.attack {
    case .silentConnection: break
    case .slowLoris: trickle(session, session.journal.hello.encoded()[...])
    case .garbage: send(session, random.bytes(1 + random.below(300)))
    case .halfFrame:
      let frame = session.journal.hello.encoded()
      send(session, Array(frame.prefix(random.below(frame.count))))
      session.connection.close(.toServer)
    case .foreignName:
      let honest = world.hosts[0].identity
      send(
        session,
        .hello(Hello(oldest: 1, newest: 1, host: honest.host, journal: honest.journal, publicKey: honest.publicKey)))
    default: send(session, session.journal.hello)
    }
  }

  private func trickle(_ session: Session, _ rest: ArraySlice<UInt8>) {
    guard let first = rest.first, rest.count > 1 else { return }
    send(session, [first])
    world.kernel.after(300_000_000) { [weak self] in self?.trickle(session, rest.dropFirst()) }
  }

  private func received(_ session: Session, _ bytes: [UInt8]) {
    session.connection.consumed(bytes.count, .toHost)
    session.decoder.feed(bytes.span.bytes)
    while let next = try? session.decoder.next() {
      guard case .frame(let frame) = next else { return }
      switch frame {
      case .credit(let total):
        session.credit = max(session.credit, total)
        sendQueued(session)
      case .welcome(let welcome):
        session.credit = welcome.credit
        welcomed(session, welcome)
      case .journalAnswer(let heads): goOn(session, session.journal.longest(of: heads))
      case .recordsDurable(let head):
        held(session, TreeHead(length: head.length, root: head.root))
      case .refusal(let refusal): refused(session, refusal)
      case .resumeAnswer(let held): for file in held { goOn(session, file) }
      case .payloadDurable(let prefixes):
        for prefix in prefixes { held(session, prefix) }
      case .goodbye: world.mark(.attackRefused)
      case .ping(let nonce): send(session, .pong(nonce: nonce))
      default: break
      }
    }
  }

  /// As a host does, or without a look at what is held.
  private func welcomed(_ session: Session, _ welcome: Welcome) {
    let heads = welcome.heads.map { TreeHead(length: $0.length, root: $0.root) }
    guard session.attack == .branch || session.attack == .equivocate, !heads.isEmpty else {
      return strike(session, held: Int(clamping: heads.first?.length ?? 0), credit: welcome.credit)
    }
    guard let own = session.journal.longest(of: heads) else {
      return send(session, .journalQuery(length: UInt64(session.journal.records.count)))
    }
    if heads.count > 1 { return goOn(session, own) }
    held(session, own)
    strike(session, held: Int(own.length), credit: session.credit)
  }

  private func goOn(_ session: Session, _ head: TreeHead?) {
    send(session, .extendJournal(head ?? TreeHead(length: 0, root: .zero)))
    if let head { held(session, head) }
    strike(session, held: Int(head?.length ?? 0), credit: session.credit)
  }

  private func held(_ session: Session, _ head: TreeHead) {
    guard let goal = session.goal, head.length == UInt64(session.journal.records.count),
      head.root == session.journal.root(at: head.length)
    else { return }
    owedRecords.remove(goal)
  }

  private func refused(_ session: Session, _ refusal: Refusal) {
    world.mark(refusal.code == .conflict ? .rewriteRefused : .attackRefused)
    guard session.attack == .branch, let file = refusal.file else { return }
    session.queue.removeAll { $0.header.file == file }
    if refusal.code == .rootMismatch {
      world.oracle.fail(.lost, "server \(session.server) refuses bytes of \(file.text) that are signed")
    }
    world.kernel.after(300_000_000) { [weak self, weak session] in
      session.map { self?.ask($0, file) }
    }
  }

  /// As a host does: from what is its own, else from the beginning, as other bytes.
  private func goOn(_ session: Session, _ held: HeldFile) {
    session.asked.remove(held.file)
    guard session.attack == .branch, let (_, bytes) = session.journal.files.first(where: { $0.0 == held.file }) else {
      return
    }
    let own = held.strings.last {
      $0.root == session.journal.root(of: held.file, at: $0.length, limits: world.limits)
    }
    if let own, held.strings.count > 1 {
      send(session, .extend(DurablePrefix(file: held.file, length: own.length, root: own.root)))
    } else if own == nil, !held.strings.isEmpty {
      send(session, .extend(.nothing(of: held.file)))
    }
    if let own { self.held(session, DurablePrefix(file: held.file, length: own.length, root: own.root)) }
    let start = Int(own?.length ?? 0)
    sendPayload(session, held.file, Array(bytes[start...]), at: UInt64(start))
  }

  private func send(_ session: Session, _ frame: Frame) { send(session, frame.encoded()) }
  private func send(_ session: Session, _ bytes: [UInt8]) { session.connection.send(bytes, .toServer) }

  private func sendRecords(_ session: Session, from first: Int) {
    for frame in session.journal.frames(from: first, limits: world.limits) { send(session, frame) }
  }

  private func sendPayload(_ session: Session, _ file: FileUUID, _ bytes: [UInt8], at offset: UInt64 = 0) {
    var position = 0
    while position < bytes.count {
      let piece = Array(bytes[position..<min(bytes.count, position + world.limits.payloadFrameSize)])
      let header = PayloadHeader(file: file, offset: offset &+ UInt64(position), length: piece.count)
      if session.goal == nil {
        send(session, Frame.payload(header).encoded() + piece)
      } else {
        session.queue.append((header, piece))
      }
      position += piece.count
    }
    sendQueued(session)
  }

  /// As much of a frame as there is credit for.
  private func sendQueued(_ session: Session) {
    while let (header, bytes) = session.queue.first, session.spent < session.credit {
      let count = min(bytes.count, Int(clamping: session.credit - session.spent))
      session.queue.removeFirst()
      if count < bytes.count {
        let rest = PayloadHeader(file: header.file, offset: header.offset + UInt64(count), length: bytes.count - count)
        session.queue.insert((rest, Array(bytes[count...])), at: 0)
      }
      session.spent += UInt64(count)
      let part = PayloadHeader(file: header.file, offset: header.offset, length: count)
      send(session, Frame.payload(part).encoded() + bytes[..<count])
    }
  }

  // MARK: Attacks

  private func strike(_ session: Session, held: Int, credit: UInt64) {
    switch session.attack {
    case .foreignFile: claimForeignFile(session)
    case .tinyFiles:
      for count in 0..<12 {
        session.journal.addFile(bytes: random.bytes(count % 2), limits: world.limits, random: &random)
      }
    case .hugeOffset: session.journal.addHugeRecords(random: &random)
    default: break
    }
    if session.attack == .badSignature { session.journal.signsWrongly = true }
    sendRecords(session, from: min(held, session.journal.records.count))
    sendFiles(session)
    strikeAfterFiles(session, credit)
  }

  private func sendFiles(_ session: Session) {
    guard session.attack != .overCredit else { return }
    // Without asking once in a while: as the same bytes.
    if session.attack == .branch, session.goal != nil || random.chance(700_000) {
      for (file, _) in session.journal.files { ask(session, file) }
      return
    }
    for (file, bytes) in session.journal.files {
      sendPayload(session, file, session.attack == .wrongBytes ? bytes.map { ~$0 } : bytes)
    }
  }

  private func strikeAfterFiles(_ session: Session, _ credit: UInt64) {
    switch session.attack {
    case .replay:
      sendFiles(session)
      sendRecords(session, from: max(0, session.journal.records.count - 1))
    case .rewrite:
      world.kernel.after(200_000_000) { [weak self] in
        for (file, bytes) in session.journal.files { self?.sendPayload(session, file, bytes.map { ~$0 }) }
      }
    case .hugeOffset:
      let offsets: [UInt64] = [.max, .max - 1, 1 << 63, 1 << 32]
      for offset in offsets {
        for file in session.journal.hugeFiles { sendPayload(session, file, [1, 2, 3], at: offset) }
      }
    case .overCredit:
      guard let (file, _) = session.journal.files.first else { return }
      let piece = random.bytes(world.limits.payloadFrameSize)
      for _ in 0..<(2 + Int(clamping: credit) / max(1, piece.count)) { sendPayload(session, file, piece) }
    default: break
    }
  }

  /// The uuid and identity of a file that an honest host has.
  private func claimForeignFile(_ session: Session) {
    guard let known = world.oracle.followed[0].values.sorted(by: { $0.file < $1.file }).first(where: \.isBorn),
      let inode = known.inode
    else { return }
    session.journal.addFile(
      known.file, inode.key.identity, path: BytePath("/log/main.log"), bytes: random.bytes(33), limits: world.limits)
  }
}
