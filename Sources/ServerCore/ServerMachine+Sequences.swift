import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Other records (M1): a journal is the set of its sequences. A host whose journal is none of those held says from which
// head on it sends records: a clone of its machine, or itself before a backup was put back. They are compared with what is
// held, record by record, up to the first that differs; from there they are with the sequence that leaves at the same
// record and has the same one, and where there is none, a sequence of their own.

/// Where a connection's records go.
enum RecordCourse {
  /// Nothing came that would tell. Of several connections with one journal, which may be two machines', the one that goes
  /// on with a sequence has it: who only says hello ends nobody's work.
  case undecided
  /// By its index.
  case sequence(Int)
  /// What the host goes on from is being read.
  case reading(TreeHead)
  case along(RecordProbe)
}

/// Records on their way along a sequence that had the same ones so far.
struct RecordProbe {
  /// The sequence, by its index.
  var base: Int
  /// Over all records that are equal.
  var length: UInt64
  var subtrees: [Digest]
  var kept: KeptCheckpoint
  /// What was read of the sequence from `readFrom` on.
  var read: [[UInt8]] = []
  var readFrom: UInt64 = 0
  var isReading = false
  /// Those that leave one another here and have another record next; the first is the one that it came along.
  var tried: [Int] = []
  /// No sequence has it.
  var differs = false

  init(along base: Int, from beginning: JournalBeginning) {
    self.base = base
    length = beginning.length
    subtrees = beginning.frontier
    kept = beginning.kept
  }

  /// What the sequence has there, if it was read.
  var next: [UInt8]? {
    guard length >= readFrom, length - readFrom < UInt64(read.count) else { return nil }
    return read[Int(length - readFrom)]
  }

  mutating func turn(to sequence: Int) {
    base = sequence
    read = []
  }
}

extension ServerMachine where H.Value == Digest {
  /// All sequences of a journal, by their numbers.
  func sequences(of journal: HostJournal) -> [Int] { journalIndex[journal] ?? [] }

  /// Checkpoints over what is durable of each.
  func heads(of journal: HostJournal) -> [Checkpoint] {
    sequences(of: journal).compactMap { journals[$0].held.checkpoint }
  }

  // MARK: What the host goes on with

  /// Records go on with a sequence. Another connection that had it is over.
  mutating func join(_ index: Int, told length: UInt64, on id: ConnectionID) {
    if let why = journals[index].apart { return cut(id, .other, Self.apart(why)) }
    guard takesOver(index, on: id) else { return }
    connections[id]?.session?.records = .sequence(index)
    journals[index].connect(id, told: length)
    acknowledgeRecords(index)
  }

  /// Whoever had the sequence is cut off; but a host, which delivers it itself, never for a peer.
  private mutating func takesOver(_ index: Int, on id: ConnectionID) -> Bool {
    guard let older = journals[index].connection, older != id else { return true }
    if id.isChannel, !older.isChannel {
      cut(id, .busy, "its host is delivering it")
      return false
    }
    cut(older, .superseded, "a newer connection took over")
    return true
  }

  /// The one that is first, where nothing or only that is held.
  mutating func joinFirst(on id: ConnectionID) {
    guard let facts = connections[id]?.session?.facts else { return }
    // One of which nothing came leaves the table with its connection.
    if let first = sequences(of: facts.journal).first, !takesOver(first, on: id) { return }
    let row = HeldJournal(
      key: SequenceKey(journal: facts.journal), publicKey: facts.publicKey, length: 0, checkpoint: nil, frontier: [])
    let index = sequences(of: facts.journal).first ?? addJournal(row)
    join(index, told: journals[index].held.length, on: id)
  }

  mutating func leaveSequence(_ id: ConnectionID, _ session: Session) {
    guard case .sequence(let index) = session.records, journals[index].connection == id else { return }
    waitingRecordBytes -= journals[index].disconnect()
    removeIfEmpty(journal: index)
  }

  mutating func extendJournal(_ head: TreeHead, on id: ConnectionID) {
    guard let session = connections[id]?.session else { return }
    guard !session.hasExtended else { return violated(id, "a second extendJournal") }
    connections[id]?.session?.hasExtended = true
    guard case .undecided = session.records else { return violated(id, "extendJournal behind what it is about") }
    // What is held whole is taken by who goes on with it, as told by `welcome`.
    if whole(head, of: session.facts.journal) != nil {
      connections[id]?.session?.told = head
    } else {
      goOn(from: head, on: id)
    }
  }

  private func whole(_ head: TreeHead, of journal: HostJournal) -> Int? {
    sequences(of: journal).first {
      journals[$0].held.length == head.length && journals[$0].held.checkpoint?.root == head.root
    }
  }

  /// The first frame of a connection that is about records or files, and nothing was said: it goes on from what `welcome`
  /// told.
  mutating func goOnAsTold(_ id: ConnectionID) {
    guard let session = connections[id]?.session, case .undecided = session.records, let told = session.told else {
      return
    }
    goOn(from: told, on: id)
  }

  private mutating func goOn(from head: TreeHead, on id: ConnectionID) {
    guard let facts = connections[id]?.session?.facts else { return }
    let journal = facts.journal
    // It may have begun since this connection's hello.
    guard sequences(of: journal).allSatisfy({ journals[$0].held.publicKey == facts.publicKey }) else {
      return refuseRecords(id, .journalFork, "journal \(journal.journal) is held under another key")
    }
    if let own = whole(head, of: journal) {
      join(own, told: head.length, on: id)
    } else if heads(of: journal).isEmpty {
      guard head.length == 0 else { return violated(id, "extendJournal at \(head.length), and nothing is held") }
      joinFirst(on: id)
    } else if charge(costOfReading(journal), to: id) {
      connections[id]?.session?.records = .reading(head)
      read(.beginnings(journal, length: head.length), for: .beginnings(id))
    }
  }

  mutating func began(_ beginnings: [JournalBeginning], on id: ConnectionID) {
    guard let session = connections[id]?.session, case .reading(let head) = session.records else { return }
    let own = beginnings.first {
      head.length == 0 || Frontier<H>(size: $0.length, subtrees: $0.frontier).root == head.root
    }
    guard let own, let base = index(of: SequenceKey(journal: session.facts.journal, sequence: own.sequence)) else {
      return violated(id, "extendJournal: no sequence has \(head.length) records with this root")
    }
    connections[id]?.session?.records = .along(RecordProbe(along: base, from: own))
    takeWhatWaited()
  }

  mutating func queryJournal(upTo length: UInt64, on id: ConnectionID) {
    guard let session = connections[id]?.session else { return }
    guard charge(costOfReading(session.facts.journal), to: id), !session.isAskingHeads else { return }
    connections[id]?.session?.isAskingHeads = true
    read(.heads(session.facts.journal, upTo: length), for: .heads(id))
  }

  /// Of each sequence some hundred records are read, which may be long ones.
  private func costOfReading(_ journal: HostJournal) -> Int { 1 + min(4_096, 64 * sequences(of: journal).count) }

  mutating func answerHeads(_ heads: [TreeHead], on id: ConnectionID) {
    guard connections[id]?.session != nil else { return }
    connections[id]?.session?.isAskingHeads = false
    send(.journalAnswer(Array(heads.prefix(FrameBounds.heads))), to: id)
  }

  // MARK: Along what is held

  /// Whether what came on a connection waits until more of what it is compared with is read.
  mutating func isComparing(_ content: Arrival.Content, on id: ConnectionID) -> Bool {
    switch connections[id]?.session?.records {
    // Also what is about files: the connection before this one has them until it goes on.
    case .reading: return true
    case .along(var probe):
      guard case .frame(.records(let frame), _) = content else { return false }
      defer { connections[id]?.session?.records = .along(probe) }
      guard !probe.isReading else { return true }
      compare(frame, &probe)
      guard probe.isReading else { return false }
      let key = journals[probe.base].held.key
      let query = StoreQuery.records(
        key, from: probe.length, count: probe.tried.isEmpty ? limits.recordsPerFrame : 1,
        bytes: limits.recordBytesPerFrame)
      read(query, for: .records(id, from: probe.length))
      return true
    case .undecided, .sequence, nil: return false
    }
  }

  private func compare(_ frame: Records, _ probe: inout RecordProbe) {
    let (end, overflow) = frame.first.addingReportingOverflow(UInt64(frame.encoded.count))
    guard !overflow, frame.first <= probe.length else { return }
    var frontier = Frontier<H>(size: probe.length, subtrees: probe.subtrees)
    while probe.length < end, probe.length < journals[probe.base].held.length {
      guard let held = probe.next else {
        probe.isReading = true
        break
      }
      if held == frame.encoded[Int(probe.length - frame.first)] {
        frontier.append(H.leaf(held.span.bytes))
        probe.length += 1
        probe.kept.bytesSince = probe.kept.bytesSince.saturatingAdding(UInt64(held.count))
        probe.tried = []
      } else {
        probe.tried.append(probe.base)
        guard let next = leaving(probe, with: frame.encoded[Int(probe.length - frame.first)]) else {
          probe.differs = true
          break
        }
        probe.turn(to: next)
      }
    }
    probe.subtrees = frontier.subtrees
  }

  /// The next sequence that leaves those which were tried where the records do. Of one of which nothing is durable yet
  /// its first record is known.
  private func leaving(_ probe: RecordProbe, with record: [UInt8]) -> Int? {
    let tried = Set(probe.tried.map { journals[$0].held.key })
    return sequences(of: journals[probe.base].held.key.journal).first {
      let held = journals[$0].held
      guard let fork = held.fork, fork.start == probe.length, !tried.contains(held.key),
        tried.contains(SequenceKey(journal: held.key.journal, sequence: fork.base))
      else { return false }
      return held.length > held.start || journals[$0].waiting.first == record
    }
  }

  mutating func recordsRead(_ records: [[UInt8]], from first: UInt64, on id: ConnectionID) {
    guard case .along(var probe)? = connections[id]?.session?.records, probe.isReading, probe.length == first else {
      return
    }
    guard !records.isEmpty else { return unreadableJournal("record \(first) is missing", on: id) }
    probe.isReading = false
    probe.read = records
    probe.readFrom = first
    connections[id]?.session?.records = .along(probe)
    takeWhatWaited()
  }

  /// Nobody but its own host needs what can't be read.
  mutating func unreadableJournal(_ why: String, on id: ConnectionID) {
    refuseRecords(id, .other, "this server can't read what it holds of the journal: \(why)")
  }

  /// A frame was compared: what of it is held is acknowledged, the rest goes on with a sequence. Returns what is left.
  mutating func follow(_ frame: Records, on id: ConnectionID) -> Records? {
    guard case .along(let probe)? = connections[id]?.session?.records else { return frame }
    guard let facts = connections[id]?.session?.facts, frame.first <= probe.length,
      frame.first + UInt64(frame.encoded.count) >= probe.length
    else {
      violated(id, "records from \(frame.first), expected at \(probe.length)")
      return nil
    }
    let rest = Array(frame.encoded.dropFirst(Int(probe.length - frame.first)))
    let frontier = Frontier<H>(size: probe.length, subtrees: probe.subtrees)
    if rest.isEmpty {
      guard frame.checkpoint.length == probe.length, frame.checkpoint.root == frontier.root,
        frame.checkpoint.host == facts.host, frame.checkpoint.journal == facts.journal.journal
      else {
        refuseRecords(id, .journalFork, "the checkpoint at \(frame.checkpoint.length) covers other records")
        return nil
      }
      guard charge(isLarge(frame) ? 0 : 1, to: id) else { return nil }
      send(.recordsDurable(frame.checkpoint), to: id)
    }
    if probe.differs {
      beginSequence(probe, facts, on: id)
    } else if probe.length >= journals[probe.base].held.length {
      join(probe.base, told: probe.length, on: id)
    }
    guard !rest.isEmpty, case .sequence? = connections[id]?.session?.records else { return nil }
    return Records(first: probe.length, encoded: rest, checkpoint: frame.checkpoint)
  }

  /// What is compared with what is held in frames like these is no flood.
  private func isLarge(_ frame: Records) -> Bool {
    2 * frame.encoded.count >= limits.recordsPerFrame
      || 2 * frame.encoded.reduce(0) { $0 + $1.count } >= limits.recordBytesPerFrame
  }

  private mutating func beginSequence(_ probe: RecordProbe, _ facts: SessionFacts, on id: ConnectionID) {
    let others = sequences(of: facts.journal)
    let greatest = others.map { journals[$0].held.key.sequence }.max() ?? 0
    guard others.count < FrameBounds.sequencesPerJournal, greatest < .max else {
      return refuseRecords(id, .quota, "\(others.count) sequences of this journal are held, which all differ")
    }
    let row = HeldJournal(
      key: SequenceKey(journal: facts.journal, sequence: greatest + 1), publicKey: facts.publicKey,
      length: probe.length, checkpoint: nil, frontier: probe.subtrees, kept: probe.kept,
      fork: ForkPoint(
        base: journals[probe.tried.first ?? probe.base].held.key.sequence, start: probe.length))
    join(addJournal(row), told: probe.length, on: id)
  }

  // MARK: The table of journals

  func index(of key: SequenceKey) -> Int? { sequences(of: key.journal).first { journals[$0].held.key == key } }

  /// Something of it is durable.
  mutating func noteJournal(_ journal: HostJournal) {
    let tally = tally(of: journal.host)
    if !tallies[tally].journals.contains(journal) { tallies[tally].journals.append(journal) }
  }

  mutating func addJournal(_ held: HeldJournal) -> Int {
    let index: Int
    if let free = freeJournals.popLast() {
      index = free
      journals[index] = JournalIntake(held)
    } else {
      index = journals.count
      journals.append(JournalIntake(held))
    }
    journalIndex[held.key.journal, default: []].append(index)
    return index
  }

  /// A sequence of which nothing came leaves nothing behind.
  mutating func removeIfEmpty(journal index: Int) {
    let held = journals[index].held
    guard journals[index].length == held.start, journals[index].connection == nil else { return }
    journalIndex[held.key.journal]?.removeAll { $0 == index }
    if journalIndex[held.key.journal]?.isEmpty == true { journalIndex[held.key.journal] = nil }
    freeJournals.append(index)
  }
}
