import HostCore
import JournalModel
import MerkleLog
import Testing
import WireProtocol

/// A server that obeys the protocol and checks that the host does: records in order, payload only behind its record
/// (W1), within credit, and only bytes that hash to a recorded root (W3).
final class FakeServer {
  struct Held {
    var bytes: [UInt8] = []
    var durable = 0
    /// Recorded lengths and roots.
    var promises: [UInt64: Digest] = [:]
    var greatest: UInt64 { promises.keys.max() ?? 0 }
  }
  let name: String
  let leafSize: Int
  var records: [[UInt8]] = []
  var bodies: [RecordBody] = []
  var files: [FileUUID: Held] = [:]
  /// Other bytes of files, beside what `files` has.
  private var branches: [FileUUID: Held] = [:]
  /// Files whose payload goes there.
  private var isBeside: Set<FileUUID> = []
  var lastCheckpoint: Checkpoint?
  /// Another history of the journal, which was there first.
  var foreign: [[UInt8]] = []
  private(set) var journalQueries = 0
  private var hello: Hello?

  // How it behaves.
  var isUp = true
  private(set) var feed = Feed()
  private(set) var positionOfLastPayload: FeedPosition?
  var isSilent = false
  var acknowledges = true
  var creditStep: UInt64 = 1 << 20
  /// It grants nothing more by itself.
  var isFrugal = false
  var refuses: [FileUUID: RefusalCode] = [:]
  /// Sent instead of what it would say.
  var lies: ((Frame) -> Frame?)?

  // The connection.
  private(set) var connection: ConnectionID?
  private var credit: UInt64 = 0
  private var received: UInt64 = 0
  private(set) var payloadFrames: [PayloadHeader] = []
  private(set) var questions: [[FileUUID]] = []
  private(set) var outbox: [Frame] = []

  init(_ name: String, leafSize: Int) {
    self.name = name
    self.leafSize = leafSize
    putBack()
  }

  func accept(_ id: ConnectionID) {
    connection = id
    received = 0
    credit = creditStep
    isBeside = []
    func durable(_ file: Held) -> Held {
      var file = file
      file.bytes.removeLast(file.bytes.count - file.durable)
      return file
    }
    files = files.mapValues(durable)
    branches = branches.mapValues(durable)
  }

  func hangUp() { connection = nil }

  /// Its store is another one, or an earlier state of it.
  func putBack() {
    let stores = (feed.epochs.first?.life.low ?? 0) + 1
    feed = Feed(epochs: [Feed.Epoch(life: UUIDBytes(high: 0, low: stores), first: 1)])
  }

  /// As one whose disk was replaced.
  func loseAll() {
    putBack()
    records = []
    bodies = []
    files = [:]
    lastCheckpoint = nil
  }

  func takeOutbox() -> [Frame] {
    defer { outbox = [] }
    return isSilent ? [] : outbox
  }

  private func say(_ frame: Frame) {
    switch frame {
    case .recordsDurable, .payloadDurable:
      feed.last += 1
      if case .payloadDurable = frame { positionOfLastPayload = feed.position }
      if let position = feed.position { outbox.append(.position(position)) }
    default: break
    }
    guard let lies else { return outbox.append(frame) }
    if let frame = lies(frame) { outbox.append(frame) }
  }

  func receive(_ frame: Frame) {
    switch frame {
    case .hello(let hello):
      self.hello = hello
      let heads = [foreign.isEmpty ? nil : checkpoint(foreign), lastCheckpoint].compactMap { $0 }
      let welcome = Welcome(
        version: 1, server: name, position: feed.position, isContinued: hello.position.map(feed.contains) ?? false,
        heads: heads, credit: credit)
      say(.welcome(welcome))
    case .journalQuery(let length):
      journalQueries += 1
      let history = foreign.isEmpty ? records : foreign
      let most = min(history.count, Int(length))
      say(.journalAnswer((1...most).map { checkpoint(Array(history.prefix($0))) }.map(\.head)))
    case .extendJournal(let head): extend(head)
    case .records(let records): receive(records)
    case .resumeQuery(let uuids):
      questions.append(uuids)
      isBeside.subtract(uuids)
      say(.resumeAnswer(uuids.map { HeldFile(file: $0, strings: held($0)) }))
    case .extend(let base): extend(base)
    case .ping(let nonce): say(.pong(nonce: nonce))
    case .pong: break
    case .goodbye: connection = nil
    default: Issue.record("a host doesn't send \(frame)")
    }
  }

  private func held(_ uuid: FileUUID) -> [TreeHead] {
    [files[uuid], branches[uuid]].compactMap { $0 }.filter { $0.durable > 0 }.map { file in
      let root = CheapHash.root(of: Array(file.bytes.prefix(file.durable)), leafSize: leafSize)
      return TreeHead(length: UInt64(file.durable), root: root)
    }
  }

  private func checkpoint(_ records: [[UInt8]]) -> Checkpoint {
    var frontier = Frontier<CheapHash>()
    for record in records { frontier.append(CheapHash.leaf(record.span.bytes)) }
    return Checkpoint(
      host: hello!.host, journal: hello!.journal, length: frontier.size, root: frontier.root,
      signature: [UInt8](repeating: 0, count: Checkpoint.signatureByteCount))
  }

  private func extend(_ head: TreeHead) {
    if head == lastCheckpoint?.head { return }
    #expect(!foreign.isEmpty && lastCheckpoint == nil, "what it goes on with need not be said")
    let shared = Array(foreign.prefix(Int(head.length)))
    #expect(head.length == 0 || checkpoint(shared).head == head, "what it goes on with was stated")
    shared.forEach(take)
  }

  private func extend(_ base: DurablePrefix) {
    let strings = held(base.file)
    #expect(!strings.isEmpty, "of one that isn't held nothing has to be said")
    guard base.length > 0 else {
      branches[base.file] = Held(promises: files[base.file]?.promises ?? [:])
      return _ = isBeside.insert(base.file)
    }
    let place = strings.firstIndex(of: TreeHead(length: base.length, root: base.root))
    #expect(place != nil, "what it goes on with was stated")
    if place == 1 { isBeside.insert(base.file) } else { isBeside.remove(base.file) }
  }

  private func receive(_ frame: Records) {
    #expect(frame.first == UInt64(records.count), "records come in order")
    frame.encoded.forEach(take)
    lastCheckpoint = frame.checkpoint
    if acknowledges { say(.recordsDurable(frame.checkpoint)) }
  }

  private func take(_ encoded: [UInt8]) {
    records.append(encoded)
    guard let record = try? Record(decoding: encoded) else {
      Issue.record("a record that can't be read")
      return
    }
    bodies.append(record.body)
    switch record.body {
    case .fileBorn(let born): files[born.file, default: Held()].promises[0] = CheapHash.empty
    case .bytesAppended(let appended):
      #expect(files[appended.file] != nil, "born before it grows")
      #expect(files[appended.file]?.greatest == appended.offset, "extents join")
      files[appended.file, default: Held()].promises[appended.end] = appended.root
      branches[appended.file]?.promises[appended.end] = appended.root
    default: break
    }
  }

  func receive(_ header: PayloadHeader, _ bytes: [UInt8]) {
    payloadFrames.append(header)
    received += UInt64(header.length)
    #expect(received <= credit || isFrugal, "payload within credit")
    guard acknowledges else { return }
    if !isFrugal {
      credit = received + creditStep
      say(.credit(total: credit))
    }
    if let code = refuses[header.file] {
      return say(
        .refusal(
          Refusal(file: header.file, code: code, length: UInt64(files[header.file]?.durable ?? 0), text: "as told")))
    }
    guard var file = isBeside.contains(header.file) ? branches[header.file] : files[header.file] else {
      Issue.record("payload before the file's birth (W1)")
      return
    }
    #expect(header.end <= file.greatest, "payload behind its record (W1)")
    guard header.offset == UInt64(file.bytes.count) else {
      return say(
        .refusal(
          Refusal(file: header.file, code: .protocolViolation, length: UInt64(file.durable), text: "a hole")))
    }
    file.bytes += bytes
    commit(header.file, &file)
    if isBeside.contains(header.file) { branches[header.file] = file } else { files[header.file] = file }
  }

  /// What it holds beside the first bytes of a file.
  func beside(_ uuid: FileUUID) -> String? {
    branches[uuid].map { String(decoding: $0.bytes.prefix($0.durable), as: UTF8.self) }
  }

  /// Payload commits only up to a recorded root (W3).
  private func commit(_ uuid: FileUUID, _ file: inout Held) {
    for (length, root) in file.promises.sorted(by: { $0.key < $1.key })
    where length > UInt64(file.durable) && length <= UInt64(file.bytes.count) {
      guard CheapHash.root(of: Array(file.bytes.prefix(Int(length))), leafSize: leafSize) == root else {
        file.bytes.removeLast(file.bytes.count - file.durable)
        return say(
          .refusal(Refusal(file: uuid, code: .rootMismatch, length: UInt64(file.durable), text: "other bytes")))
      }
      file.durable = Int(length)
      say(.payloadDurable([DurablePrefix(file: uuid, length: length, root: root)]))
    }
  }

  /// What it holds durably, by the path of the birth record, in the order of the births.
  func contents(_ path: String) -> [String] {
    bodies.compactMap { body in
      guard case .fileBorn(let born) = body, text(born.path) == path, let file = files[born.file] else { return nil }
      return String(decoding: file.bytes.prefix(file.durable), as: UTF8.self)
    }
  }
}

extension Checkpoint {
  var head: TreeHead { TreeHead(length: length, root: root) }
}
