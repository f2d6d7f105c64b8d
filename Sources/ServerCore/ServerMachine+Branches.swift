import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Other bytes (W3, M1): a host that found none of the strings held to be the beginning of its file says so, and sends it
// from the beginning. What it sends is compared with string 0 up to the first byte that differs, from there with the branch
// that leaves it at the same byte and has the same one, and so on; where there is none it begins one, whose own bytes begin
// with that leaf. From then on it is a string like any other. A host that says nothing is refused as soon as a byte differs.

/// With what a connection goes on that doesn't go on with string 0.
enum Course {
  case string(UInt32)
  case beside(Probe)
}

/// Payload on its way along strings that have the same bytes.
struct Probe {
  /// Where the next frame begins.
  var end: UInt64 = 0
  /// The one that is compared, or waits until it can be: no other of its connection is taken meanwhile.
  var frame: StringIntake.Waiting?
  /// Being compared.
  var isAsking = false
  /// The string that it has followed so far.
  var along: UInt32 = 0
  /// Where it left that one, and up to which of those that leave there it has been compared.
  var fork: (point: BranchPoint, root: Digest, tried: UInt32)?
}

/// The courses of one connection: so many that no host's memory is bounded by it. The oldest is forgotten first; its host
/// is refused then, and asks.
struct Courses {
  private var courses: [FileUUID: (course: Course, number: UInt64)] = [:]
  /// With the numbers that they had: others are over.
  private var order = Fifo<(file: FileUUID, number: UInt64)>()
  private var last: UInt64 = 0
  private static var most: Int { 4_096 }

  subscript(_ file: FileUUID) -> Course? { courses[file]?.course }
  var all: [FileUUID] { courses.keys.sorted() }

  /// Returns whose course is to be ended for it.
  mutating func put(_ course: Course, for file: FileUUID) -> FileUUID? {
    if courses[file] != nil {
      courses[file]?.course = course
      return nil
    }
    last += 1
    courses[file] = (course, last)
    order.append((file, last))
    trim()
    return courses.count > Self.most ? order.first?.file : nil
  }

  mutating func remove(_ file: FileUUID) -> Course? {
    defer { trim() }
    return courses.removeValue(forKey: file)?.course
  }

  /// What is over and comes first goes; where much is over behind others, all of that does.
  private mutating func trim() {
    while let first = order.first, courses[first.file]?.number != first.number { _ = order.popFirst() }
    guard order.count > 2 * courses.count + 64 else { return }
    order.removeAll()
    for (file, entry) in courses.sorted(by: { $0.value.number < $1.value.number }) {
      order.append((file, entry.number))
    }
  }
}

/// A frame that is being compared, and with what.
struct ProbedFrame {
  var frame: StringIntake.Waiting
  var string: StringKey
  var tally: Int
  var count: Int
  /// Nobody waits for the answer any more.
  var isVoid = false
}

extension ServerMachine where H.Value == Digest {
  // MARK: Courses

  mutating func extend(_ base: DurablePrefix, on id: ConnectionID) {
    guard let session = connections[id]?.session?.facts else { return }
    beginAnew(base.file, on: id)
    guard let first = stringIndex[FileKey(host: session.host, file: base.file)] else {
      return refuseUnknown(base.file, session, on: id)
    }
    willSend(id)
    if base.length == 0 { return put(.beside(Probe()), for: base.file, on: id) }
    let held = all(first).first {
      strings[$0].committed == base.length && strings[$0].row.root == base.root && strings[$0].row.isDistinct
    }
    if let held {
      put(.string(strings[held].row.key.string), for: base.file, on: id)
    } else {
      sendRefusal(first, .busy, "no string of it ends at \(base.length) with this root any more", to: id)
    }
  }

  private mutating func put(_ course: Course, for file: FileUUID, on id: ConnectionID) {
    guard let oldest = connections[id]?.session?.courses.put(course, for: file) else { return }
    endCourse(of: oldest, on: id)
    // Nobody knows any more what its payload goes on with: its host asks.
    connections[id]?.session?.refused.insert(oldest)
    refusals += 1
    let text = "too many files of which other bytes are held"
    send(.refusal(Refusal(file: oldest, code: .busy, length: 0, text: text)), to: id)
  }

  /// What waits of it is dropped.
  mutating func endCourse(of file: FileUUID, on id: ConnectionID) {
    guard case .beside(let probe)? = connections[id]?.session?.courses.remove(file),
      let facts = connections[id]?.session?.facts
    else { return }
    drop(probe, of: FileKey(host: facts.host, file: file), tally: facts.tally)
  }

  /// The connection is gone.
  mutating func endCourses(_ session: Session) {
    for file in session.courses.all {
      guard case .beside(let probe)? = session.courses[file] else { continue }
      drop(probe, of: FileKey(host: session.facts.host, file: file), tally: session.facts.tally)
    }
  }

  /// A frame that is being compared is dropped when the answer comes.
  private mutating func drop(_ probe: Probe, of key: FileKey, tally: Int) {
    guard let frame = probe.frame else { return }
    if probe.isAsking { probing[frame.payload]?.isVoid = true } else { drop(frame, tally: tally) }
    release(key)
    hasProbed = true
  }

  // MARK: Along what is held

  mutating func probe(_ frame: StringIntake.Waiting, _ first: Int) {
    let (id, file) = (frame.connection, frame.header.file)
    guard case .beside(var probe)? = connections[id]?.session?.courses[file] else { return }
    guard frame.header.offset == probe.end else {
      let text = "payload at \(frame.header.offset), expected at \(probe.end)"
      return refuse(frame, first, outOfOrder(id: id), text)
    }
    probe.end = frame.header.end
    probe.frame = frame
    need(strings[first].row.key.key)
    put(.beside(probe), for: file, on: id)
    goOn(with: file, on: id)
  }

  /// Whether what comes next is payload of a file whose last frame is still being compared.
  func isProbing(_ content: Arrival.Content, on id: ConnectionID) -> Bool {
    guard case .payload(let frame) = content,
      case .beside(let probe)? = connections[id]?.session?.courses[frame.header.file]
    else { return false }
    return probe.frame != nil
  }

  /// Connections that waited for this string.
  mutating func goOnProbing(_ index: Int) {
    if strings[index].probers.isEmpty { return }
    let probers = strings[index].probers
    strings[index].probers = []
    for id in probers { goOn(with: strings[index].row.key.key.file, on: id) }
  }

  private mutating func goOn(with file: FileUUID, on id: ConnectionID) {
    guard case .beside(let probe)? = connections[id]?.session?.courses[file], !probe.isAsking,
      let frame = probe.frame, let host = connections[id]?.session?.facts.host,
      let first = stringIndex[FileKey(host: host, file: file)]
    else { return }
    if probe.fork != nil { return choose(for: frame, first) }
    compare(frame, with: probe.along, first)
  }

  private mutating func compare(_ frame: StringIntake.Waiting, with number: UInt32, _ first: Int) {
    let key = StringKey(key: strings[first].row.key.key, string: number)
    guard let index = index(of: key) else {
      return refuseProbe(frame, .busy, "the string that has its bytes is gone")
    }
    let row = strings[index].row
    // All that the string has: these bytes go on with it.
    if frame.header.offset >= row.committed { return settle(frame, on: index) }
    guard isReadable(index, for: frame) else { return }
    let count = Int(min(frame.header.end, row.committed) - frame.header.offset)
    ask(frame, index, count: count)
    out.append(.probe(frame.payload, row.key, row.segment, offset: frame.header.offset, count: count))
  }

  /// Whether what is held of a string can be compared now; else the frame is refused, or waits.
  private mutating func isReadable(_ index: Int, for frame: StringIntake.Waiting) -> Bool {
    if let failure = strings[index].failure {
      refuseProbe(frame, failure.code, failure.text)
      return false
    }
    if strings[index].hasPlainFile { return true }
    strings[index].probers.append(frame.connection)
    prove(index)
    return false
  }

  private mutating func ask(_ frame: StringIntake.Waiting, _ index: Int, count: Int) {
    probing[frame.payload] = ProbedFrame(
      frame: frame, string: strings[index].row.key, tally: strings[index].tally, count: count)
    strings[index].probes += 1
    change(frame) { $0.isAsking = true }
  }

  private mutating func change(_ frame: StringIntake.Waiting, _ body: (inout Probe) -> Void) {
    guard case .beside(var probe)? = connections[frame.connection]?.session?.courses[frame.header.file] else { return }
    body(&probe)
    put(.beside(probe), for: frame.header.file, on: frame.connection)
  }

  /// The frame whose answer this is, and its file's string 0; nil when nobody waits for it.
  private mutating func answered(_ payload: PayloadID) -> (asked: ProbedFrame, first: Int)? {
    guard let asked = probing.removeValue(forKey: payload) else { return nil }
    if let index = index(of: asked.string) {
      strings[index].probes -= 1
      if !asked.isVoid { strings[index].isRecent = true }
      advance(index)
    }
    guard !asked.isVoid, let first = stringIndex[asked.string.key] else {
      drop(asked.frame, tally: asked.tally)
      return nil
    }
    change(asked.frame) { $0.isAsking = false }
    return (asked, first)
  }

  mutating func probed(_ payload: PayloadID, _ answer: ProbeAnswer) {
    guard let (asked, first) = answered(payload) else { return }
    let frame = asked.frame
    if isOtherBranch(frame, answer) {
      change(frame) { $0.fork?.tried = asked.string.string }
      if charge(1, to: frame.connection) { choose(for: frame, first) }
      return
    }
    change(frame) { probe in
      probe.along = asked.string.string
      probe.fork = nil
    }
    switch answer {
    case .unreadable: refuseProbe(frame, .unstorable, "what is held of it can't be read back")
    // More was committed meanwhile, or all that the string has is in the frame.
    case .same where asked.count < frame.header.length: goOnBehind(frame, asked, first)
    case .same(let root):
      finish(frame)
      drop(frame, tally: asked.tally)
      // Whatever becomes of the rest, this much is held.
      acknowledge([DurablePrefix(file: frame.header.file, length: frame.header.end, root: root)], to: frame.connection)
      // What comes in large frames is a host's file.
      if frame.header.length < limits.payloadFrameSize / 4 { charge(1, to: frame.connection) }
    case .differs(let divergence, let start, let root):
      leave(frame, first, at: BranchPoint(base: asked.string.string, start: start, divergence: divergence), root)
    }
  }

  /// Where it leaves the string that both leave, this branch has another byte.
  private func isOtherBranch(_ frame: StringIntake.Waiting, _ answer: ProbeAnswer) -> Bool {
    guard case .beside(let probe)? = connections[frame.connection]?.session?.courses[frame.header.file],
      let point = probe.fork?.point, case .differs(let divergence, _, _) = answer
    else { return false }
    return divergence == point.divergence
  }

  private mutating func goOnBehind(_ frame: StringIntake.Waiting, _ asked: ProbedFrame, _ first: Int) {
    guard let index = index(of: asked.string),
      frame.header.offset + UInt64(asked.count) >= strings[index].committed
    else { return goOn(with: frame.header.file, on: frame.connection) }
    settle(frame, on: index)
  }

  /// The frame isn't the probe's any more.
  private mutating func finish(_ frame: StringIntake.Waiting) {
    change(frame) { $0.frame = nil }
    hasProbed = true
    if let host = connections[frame.connection]?.session?.facts.host {
      release(FileKey(host: host, file: frame.header.file))
    }
  }

  private mutating func refuseProbe(_ frame: StringIntake.Waiting, _ code: RefusalCode, _ text: String) {
    guard let host = connections[frame.connection]?.session?.facts.host,
      let first = stringIndex[FileKey(host: host, file: frame.header.file)]
    else { return }
    endCourse(of: frame.header.file, on: frame.connection)
    sendRefusal(first, code, text, to: frame.connection)
  }

  // MARK: Where it leaves

  /// The frame begins with the leaf now in which the first byte differs.
  private mutating func leave(_ frame: StringIntake.Waiting, _ first: Int, at point: BranchPoint, _ root: Digest) {
    var moved = frame
    moved.header.offset = point.start
    moved.header.length = Int(frame.header.end - point.start)
    let tally = strings[first].tally
    if point.start >= frame.header.offset {
      let dropped = point.start - frame.header.offset
      unhold(dropped, tally: tally)
      release(dropped, to: frame.connection)
    } else {
      let added = frame.header.offset - point.start
      hold(added, tally: tally)
      connections[frame.connection]?.session?.credit.add(added)
    }
    change(frame) {
      $0.frame = moved
      $0.fork = (point, root, 0)
    }
    choose(for: moved, first)
  }

  /// Tries the next branch that leaves at the same byte, or begins one.
  private mutating func choose(for frame: StringIntake.Waiting, _ first: Int) {
    guard case .beside(let probe)? = connections[frame.connection]?.session?.courses[frame.header.file],
      let (point, _, tried) = probe.fork
    else { return }
    // Others may have begun one meanwhile.
    let next = strings[first].branches.filter {
      strings[$0].row.branch == point && strings[$0].row.key.string > tried
    }.min { strings[$0].row.key.string < strings[$1].row.key.string }
    guard let index = next else { return branch(frame, first) }
    if strings[index].row.isDistinct { return compare(frame, with: strings[index].row.key.string, first) }
    // Of one that has nothing of its own yet nobody knows what it will be: it is that of who begins with it.
    guard strings[index].owner == nil, strings[index].isDrained else {
      return refuseProbe(frame, .busy, "another connection is delivering this file")
    }
    settle(frame, on: index)
  }

  private mutating func branch(_ frame: StringIntake.Waiting, _ first: Int) {
    guard case .beside(let probe)? = connections[frame.connection]?.session?.courses[frame.header.file],
      let (point, root, _) = probe.fork
    else { return }
    let branches = strings[first].branches
    guard branches.count + 1 < FrameBounds.stringsPerFile, strings[first].lastBranch < .max else {
      return refuseProbe(frame, .quota, "\(FrameBounds.stringsPerFile) strings of this file are held, which all differ")
    }
    let index = beginBranch(of: first, at: point, root)
    noteOwed(first)
    settle(frame, on: index)
  }

  /// It is a row when bytes of it have met a signed root.
  private mutating func beginBranch(of first: Int, at point: BranchPoint, _ root: Digest) -> Int {
    var row = strings[first].row
    let number =
      1 + max(strings[first].lastBranch, strings[first].branches.map { strings[$0].row.key.string }.max() ?? 0)
    strings[first].lastBranch = number
    row.key.string = number
    row.branch = point
    row.committed = point.start
    row.root = root
    row.synced = point.start
    row.received = wall
    row.closed = nil
    row.gap = nil
    row.isMade = false
    row.stored = StoredName<H>.plain(
      host: row.key.key.host, path: row.path, born: row.born, file: row.key.key.file, string: number, attempt: 1)
    var string = StringIntake(
      row: row, plain: .none, tally: strings[first].tally,
      promises: PromiseWindow(beyond: point.start, end: point.start))
    string.unfinished = .wanted
    string.attempt = 1
    return add(string)
  }

  /// Nothing that came of it was signed.
  mutating func removeIfNothing(_ index: Int) {
    let string = strings[index]
    guard string.row.branch != nil, string.plain == .none, string.isDrained, string.owner == nil, string.probes == 0,
      !string.promises.isReading,
      !string.isRowDirty, !string.isDirty, !string.isInFlight, string.failure == nil, string.apart == nil
    else { return }
    strings[first(index)].branches.removeAll { $0 == index }
    tallies[string.tally].owed -= string.owed
    strings[index].owed = 0
    strings[index].promises = PromiseWindow()
    freeStrings.append(index)
    out.append(.forget(string.row.key))
  }

  /// The connection goes on with this string.
  private mutating func settle(_ frame: StringIntake.Waiting, on index: Int) {
    finish(frame)
    put(.string(strings[index].row.key.string), for: frame.header.file, on: frame.connection)
    deliver(frame, to: index)
    // Until now nobody knew that more is owed.
    willSend(frame.connection)
  }
}
