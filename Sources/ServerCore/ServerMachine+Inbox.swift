import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// What comes on a connection is taken in order, and only when all that it is about is in memory (K1): a record whose effect
// on a file that isn't loaded was left out would be in the journal for good. What comes meanwhile waits behind it, and soon
// the connection isn't read.

/// What came on a connection and waits there.
struct Arrival {
  enum Content {
    /// Any frame but payload, with what each of its records decodes to.
    case frame(Frame, [Record?])
    case payload(StringIntake.Waiting)
    case closed(String)
    case broken(String)
  }
  var content: Content
  var files: [FileKey]

  fileprivate var recordBytes: Int {
    if case .frame(.records(let frame), _) = content { frame.encoded.reduce(0) { $0 + $1.count } } else { 0 }
  }
}

struct Inbox {
  private(set) var arrivals = Fifo<Arrival>()
  /// Of encoded records; payload is counted with its credit.
  private var recordBytes = 0
  /// Of the first arrival's files, so many are known.
  var known = 0
  /// Its connection isn't read.
  var isUnread = false

  private static var mostArrivals: Int { 16 }

  /// So much waits that the connection isn't to be read.
  func isFull(_ limits: Limits) -> Bool {
    arrivals.count > Self.mostArrivals || recordBytes > limits.recordBytesPerFrame
  }

  /// More than who keeps to what was granted could have sent: of a channel, which is always read.
  func isBeyond(_ limits: Limits) -> Bool {
    arrivals.count > Self.mostArrivalsOfAChannel
      || recordBytes > 8 * max(limits.recordBytesPerFrame, Record.maximumByteCount)
  }
  private static var mostArrivalsOfAChannel: Int { 4_096 }

  mutating func append(_ arrival: Arrival) {
    arrivals.append(arrival)
    recordBytes += arrival.recordBytes
  }

  mutating func popFirst() -> Arrival? {
    known = 0
    guard let first = arrivals.popFirst() else { return nil }
    recordBytes -= first.recordBytes
    return first
  }
}

extension ServerMachine where H.Value == Digest {
  mutating func arrive(_ content: Arrival.Content, about files: [FileKey], on id: ConnectionID) {
    let isFirst = connections[id]?.session?.inbox.arrivals.isEmpty ?? true
    if isFirst, areKnown(files), !isProbing(content, on: id), !isComparing(content, on: id) {
      return take(content, on: id)
    }
    for file in files { need(file) }
    connections[id]?.session?.inbox.append(Arrival(content: content, files: files))
    if isFirst { heldUp.append(id) }
    if id.isChannel, connections[id]?.session?.inbox.isBeyond(limits) == true {
      return violated(id, "more than was asked for waits on a channel")
    }
    guard let session = connections[id]?.session, session.inbox.isFull(limits), !session.inbox.isUnread else { return }
    connections[id]?.session?.inbox.isUnread = true
    if !tallies[session.facts.tally].isPaused { pauseReading(id) }
  }

  private mutating func areKnown(_ files: [FileKey]) -> Bool {
    for file in files where !isKnown(file) { return false }
    return true
  }

  private mutating func take(_ content: Arrival.Content, on id: ConnectionID) {
    switch content {
    case .frame(let frame, let decoded): take(frame, decoded, on: id)
    case .payload(let frame): take(frame)
    case .closed(let why): end(id, why)
    case .broken(let text): endBroken(id, text)
    }
  }

  /// Something was loaded, or a commit began.
  mutating func takeWhatWaited() {
    let ids = heldUp
    heldUp = []
    for id in ids {
      takeInbox(of: id)
      if connections[id]?.session?.inbox.arrivals.isEmpty == false { heldUp.append(id) }
    }
  }

  private mutating func takeInbox(of id: ConnectionID) {
    while let session = connections[id]?.session, let first = session.inbox.arrivals.first {
      let known = first.files[session.inbox.known...].firstIndex { !isKnown($0) } ?? first.files.endIndex
      connections[id]?.session?.inbox.known = known
      guard known == first.files.endIndex, mayTake(first, tally: session.facts.tally),
        !isProbing(first.content, on: id), !isComparing(first.content, on: id)
      else { return }
      _ = connections[id]?.session?.inbox.popFirst()
      take(first.content, on: id)
      for file in first.files { release(file) }
    }
    guard let session = connections[id]?.session, session.inbox.isUnread else { return }
    connections[id]?.session?.inbox.isUnread = false
    connections[id]?.heard = now
    if !tallies[session.facts.tally].isPaused { resumeReading(id) }
  }

  /// Records of a host that has its turn in the next commit wait for the one behind it (P6), unless the store takes none.
  private func mayTake(_ arrival: Arrival, tally: Int) -> Bool {
    guard case .frame(.records, _) = arrival.content else { return true }
    return commitRetry != nil || !tallies[tally].intake.isUsed(limits)
  }

  /// Its connection isn't read for what waits on it.
  func isHeldUp(_ id: ConnectionID) -> Bool { connections[id]?.session?.inbox.isUnread == true }

  /// The connection is gone, and with it what waited.
  mutating func drop(_ inbox: Inbox, tally: Int) {
    var inbox = inbox
    while let arrival = inbox.popFirst() {
      if case .payload(let frame) = arrival.content { drop(frame, tally: tally) }
      for file in arrival.files { release(file) }
    }
  }

  // MARK: What a frame is about

  mutating func arrive(_ frame: Frame, on id: ConnectionID) {
    guard let session = connections[id]?.session?.facts else { return }
    if case .extend(let base) = frame {
      return arrive(.frame(frame, []), about: [FileKey(host: session.host, file: base.file)], on: id)
    }
    guard case .records(let records) = frame else { return arrive(.frame(frame, []), about: [], on: id) }
    let decoded = records.encoded.map { try? Record(decoding: $0) }
    var files: Set<FileUUID> = []
    for record in decoded { record?.visitFiles { files.insert($0) } }
    let keys = files.sorted().map { FileKey(host: session.host, file: $0) }
    arrive(.frame(frame, decoded), about: keys, on: id)
  }
}

extension Record {
  /// The files of which it says something that a server keeps in their rows.
  func visitFiles(_ body: (FileUUID) -> Void) {
    switch self.body {
    case .journalOpened(let opened): for file in opened.files { body(file.file) }
    case .fileBorn(let born): body(born.file)
    case .bytesAppended(let appended): body(appended.file)
    case .fileClosed(let closed): body(closed.file)
    case .gap(let gap): if case .file(let file) = gap.subject { body(file) }
    case .rotated, .unknown: break
    }
  }
}
