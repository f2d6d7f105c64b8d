import HostCore
import ServerCore
import JournalModel
import MerkleLog
import WireProtocol

/// Signs with a keyed hash; the key is the public key.
struct FakeSigner: Sendable {
  static func binding(of host: HostName) -> [UInt8] {
    (Array(host.text.utf8) + [UInt8](repeating: 0, count: 64)).prefix(64).map { $0 }
  }

  static func signature(_ host: HostName, _ journal: JournalID, _ length: UInt64, _ root: Digest, key: Digest)
    -> [UInt8]
  {
    var mix = Mix(seed: 7)
    for word in [
      key.words.0, key.words.1, journal.bytes.high, journal.bytes.low, length, root.words.0, root.words.1, root.words.2,
      root.words.3,
    ] { mix.add(word) }
    mix.add(Array(host.text.utf8).span.bytes)
    let digest = mix.digest
    return [digest.words.0, digest.words.1, digest.words.2, digest.words.3, length, 0, 0, 0].flatMap { word in
      (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * UInt64($0))) }
    }
  }
}

struct FakeVerifier: SignatureVerifier {
  func isValid(_ checkpoint: Checkpoint, publicKey: Digest) -> Bool {
    checkpoint.signature
      == FakeSigner.signature(
        checkpoint.host, checkpoint.journal, checkpoint.length, checkpoint.root, key: publicKey)
  }
  func refusal(of opened: JournalOpened) -> String? {
    if case .journalKey(let signature) = opened.binding, signature == FakeSigner.binding(of: opened.host) { return nil }
    return "the binding doesn't verify"
  }
}

enum HostFrame {
  case frame(Frame)
  case payload(PayloadHeader, [UInt8])
}

/// An honest host over a scripted journal: resumes by length and root, keeps to its credit, retries what was refused.
final class FakeHost {
  struct File {
    var uuid: FileUUID
    var path: BytePath
    var bytes: [UInt8] = []
    var tree: FileTree<MixHasher>
    var roots: [UInt64: Digest] = [0: MixHasher.empty]
  }
  enum Progress: Equatable {
    case unknown, asked
    case sent(UInt64)
    case refused(until: Instant)
  }

  let name: HostName
  let journal: JournalID
  let publicKey: Digest
  let limits: Limits
  var files: [File] = []
  private(set) var records: [[UInt8]] = []
  private var journalRoots: [Digest] = [MixHasher.empty]
  private var frontier = Frontier<MixHasher>()
  /// (file, length) that a record states, by record number.
  private var stated: [(file: Int, length: UInt64)?] = []

  // The present connection
  var connection: ConnectionID?
  var outbox: [HostFrame] = []
  private var isWelcome = false
  private var sentRecords: UInt64 = 0
  private(set) var durableRecords: UInt64 = 0
  private var offered: [Int: UInt64] = [:]
  private var progress: [Int: Progress] = [:]
  private(set) var durable: [Int: UInt64] = [:]
  private var credit: UInt64 = 0
  private var spent: UInt64 = 0
  private var firstCredit: UInt64 = 0
  /// The file that is under way and doesn't fit whole.
  private var long: Int?
  var complaints: [String] = []
  private(set) var refusals: [Refusal] = []
  var chunk = 48
  /// Frames are as long as they may be, not at random.
  var isGreedy = false
  /// Others have its name and its files' uuids, and other bytes.
  var isClone = false
  /// It was told of records that aren't its own, and ends the connection.
  private(set) var isMisled = false

  init(_ name: String, journal: UInt64 = 1, limits: Limits) {
    self.name = HostName(name)!
    self.journal = JournalID(UUIDBytes(high: 0xA, low: journal))
    publicKey = Digest(words: journal, 2, 3, UInt64(name.utf8.count))
    self.limits = limits
    let opened = JournalOpened(
      host: self.name, journal: self.journal, publicKey: publicKey,
      binding: .journalKey(signature: FakeSigner.binding(of: self.name)))
    append(.journalOpened(opened), nil)
  }

  // MARK: Journaling

  func append(_ body: RecordBody, _ statement: (file: Int, length: UInt64)?) {
    let encoded = Record(time: WallTime(nanoseconds: Int64(records.count)), body: body).encoded()
    records.append(encoded)
    stated.append(statement)
    frontier.append(MixHasher.leaf(encoded.span.bytes))
    journalRoots.append(frontier.root)
  }

  static func uuid(_ number: UInt64) -> FileUUID {
    FileUUID(UUIDBytes(high: number &* 0x1234_5678_9ABC_DEF1, low: number).marked(version: 8))
  }

  func bear(_ uuid: FileUUID, _ path: String, born: Int64 = 1_700_000_000_000_000_000) {
    files.append(File(uuid: uuid, path: BytePath(path), tree: FileTree(leafSize: limits.leafSize)))
    let identity = InodeIdentity(number: uuid.bytes.low, generation: 1, birth: WallTime(nanoseconds: born))
    append(
      .fileBorn(
        FileBorn(
          file: uuid, identity: identity, isDerived: true, path: BytePath(path), realPath: BytePath(path),
          mode: 0o100644,
          owner: 0, group: 0, born: WallTime(nanoseconds: born), modified: WallTime(nanoseconds: born))),
      (files.count - 1, 0))
  }

  func write(_ index: Int, _ bytes: [UInt8]) {
    let offset = UInt64(files[index].bytes.count)
    files[index].bytes += bytes
    files[index].tree.append(bytes.span.bytes)
    let length = files[index].tree.length
    let root = files[index].tree.root
    files[index].roots[length] = root
    append(
      .bytesAppended(BytesAppended(file: files[index].uuid, offset: offset, length: UInt64(bytes.count), root: root)),
      (index, length))
  }

  func close(_ index: Int) {
    let file = files[index]
    append(
      .fileClosed(FileClosed(file: file.uuid, length: file.tree.length, root: file.tree.root, reason: .deleted)), nil)
  }

  func sequence(_ number: UInt32) -> SequenceKey {
    SequenceKey(journal: HostJournal(host: name, journal: journal), sequence: number)
  }

  func head(at length: UInt64) -> TreeHead { TreeHead(length: length, root: journalRoots[Int(length)]) }

  func frontier(at length: UInt64) -> [Digest] {
    var frontier = Frontier<MixHasher>()
    for record in records.prefix(Int(length)) { frontier.append(MixHasher.leaf(record.span.bytes)) }
    return frontier.subtrees
  }

  /// The longest of these heads that is on its journal.
  func longest(of heads: [TreeHead]) -> TreeHead? {
    heads.filter { $0.length > 0 && $0.length <= UInt64(records.count) && head(at: $0.length) == $0 }
      .max { $0.length < $1.length }
  }

  func checkpoint(at length: UInt64) -> Checkpoint {
    let root = journalRoots[Int(length)]
    return Checkpoint(
      host: name, journal: journal, length: length, root: root,
      signature: FakeSigner.signature(name, journal, length, root, key: publicKey))
  }

  var hello: Frame {
    .hello(Hello(oldest: 1, newest: 1, host: name, journal: journal, publicKey: publicKey))
  }

  func recordFrame(_ range: Range<UInt64>) -> Frame {
    .records(
      Records(
        first: range.lowerBound, encoded: Array(records[Int(range.lowerBound)..<Int(range.upperBound)]),
        checkpoint: checkpoint(at: range.upperBound)))
  }

  // MARK: Delivery

  var isSettled: Bool {
    durableRecords == UInt64(records.count) && files.indices.allSatisfy { (durable[$0] ?? 0) == files[$0].tree.length }
  }

  func connected(_ id: ConnectionID) {
    connection = id
    isMisled = false
    outbox = [.frame(hello)]
    isWelcome = false
    offered = [:]
    progress = [:]
    spent = 0
    credit = 0
  }

  func disconnected() {
    connection = nil
    outbox = []
    isWelcome = false
  }

  /// When a refused file is asked for again.
  var nextRetry: Instant? {
    files.indices.compactMap { index in
      guard case .refused(let until) = progress[index], (durable[index] ?? 0) < files[index].tree.length else {
        return nil
      }
      return until
    }.min()
  }

  /// Puts what may be sent next into the outbox.
  func pump(_ generator: inout SeededGenerator, now: Instant) {
    guard isWelcome, outbox.count < 4 else { return }
    if sentRecords < UInt64(records.count) {
      let left = UInt64(records.count) - sentRecords
      let count = UInt64.random(in: 1...min(left, 5), using: &generator)
      outbox.append(.frame(recordFrame(sentRecords..<(sentRecords + count))))
      for number in sentRecords..<(sentRecords + count) {
        if let (file, length) = stated[Int(number)] { offered[file] = max(offered[file] ?? 0, length) }
      }
      sentRecords += count
    }
    askForFiles(now)
    for index in files.indices { sendPayload(of: index, &generator) }
  }

  private func askForFiles(_ now: Instant) {
    var asked: [FileUUID] = []
    for index in files.indices where (durable[index] ?? 0) < files[index].tree.length && asked.count < limits.resumePage
    {
      switch progress[index] ?? .unknown {
      case .unknown: break
      case .refused(let until) where until <= now: break
      case .asked, .sent, .refused: continue
      }
      progress[index] = .asked
      asked.append(files[index].uuid)
    }
    if !asked.isEmpty { outbox.append(.frame(.resumeQuery(asked))) }
  }

  private func sendPayload(of index: Int, _ generator: inout SeededGenerator) {
    guard outbox.count < 6, case .sent(let from) = progress[index], let to = offered[index], from < to,
      spent < credit
    else { return }
    var share = credit - spent
    if to - from > min(share, UInt64(limits.payloadFrameSize)) {
      // Of those that don't fit whole one at a time, and half of the first credit is for the others (W1).
      if let long, long != index, case .sent(let end) = progress[long], end > durable[long] ?? 0,
        end < offered[long] ?? 0
      {
        return
      }
      long = index
      share -= min(share, firstCredit / 2)
    }
    guard share > 0 else { return }
    let most = min(UInt64(min(chunk, limits.payloadFrameSize)), to - from, share)
    let count = isGreedy ? most : UInt64.random(in: 1...most, using: &generator)
    let header = PayloadHeader(file: files[index].uuid, offset: from, length: Int(count))
    outbox.append(.payload(header, Array(files[index].bytes[Int(from)..<Int(from + count)])))
    spent += count
    progress[index] = .sent(from + count)
  }

  func receive(_ frame: Frame, now: Instant) {
    switch frame {
    case .welcome(let welcome):
      credit = welcome.credit
      firstCredit = welcome.credit
      long = nil
      let heads = welcome.heads.map { TreeHead(length: $0.length, root: $0.root) }
      if let own = longest(of: heads) {
        if heads.count > 1 { outbox.append(.frame(.extendJournal(own))) }
        goOn(from: own.length)
      } else if heads.isEmpty {
        goOn(from: 0)
      } else {
        if !isClone { complaints.append("welcome with another head") }
        outbox.append(.frame(.journalQuery(length: UInt64(records.count))))
      }
    case .journalAnswer(let heads):
      let own = longest(of: heads) ?? TreeHead(length: 0, root: .zero)
      outbox.append(.frame(.extendJournal(own)))
      goOn(from: own.length)
    case .recordsDurable(let head):
      let isOurs = head.length <= UInt64(records.count) && head == checkpoint(at: head.length)
      // Another clone's were on their way into the sequence that it goes on with.
      if isClone, !isOurs { return isMisled = true }
      if !isOurs || head.length < durableRecords { complaints.append("records acknowledged: \(head.length)") }
      durableRecords = head.length
      // They may have been on their way on a former connection.
      sentRecords = max(sentRecords, head.length)
      offer(upTo: head.length)
    case .resumeAnswer(let answer): for file in answer { resume(file) }
    case .payloadDurable(let prefixes):
      for held in prefixes {
        guard let index = files.firstIndex(where: { $0.uuid == held.file }) else { continue }
        // What another clone delivered, while nobody has said that there are two.
        if isClone, root(of: index, at: held.length) != held.root { continue }
        if held.length > files[index].tree.length { complaints.append("more acknowledged than exists") }
        if root(of: index, at: held.length) != held.root { complaints.append("a root that isn't ours acknowledged") }
        durable[index] = max(durable[index] ?? 0, held.length)
      }
    case .credit(let total):
      if total < credit { complaints.append("credit shrank") }
      credit = total
    case .refusal(let refusal):
      refusals.append(refusal)
      guard let file = refusal.file, let index = files.firstIndex(where: { $0.uuid == file }) else { return }
      progress[index] = .refused(until: now + limits.retry)
    default: break
    }
  }

  private func goOn(from length: UInt64) {
    isWelcome = true
    sentRecords = length
    durableRecords = length
    offer(upTo: length)
  }

  /// What the server has records of.
  private func offer(upTo length: UInt64) {
    for number in 0..<Int(min(length, UInt64(records.count))) {
      if let (file, length) = stated[number] { offered[file] = max(offered[file] ?? 0, length) }
    }
  }

  private func resume(_ held: HeldFile) {
    guard let index = files.firstIndex(where: { $0.uuid == held.file }) else { return }
    // Refused while the answer was awaited: the server drops what comes until it is asked anew.
    if case .refused = progress[index] { return }
    let own = held.strings.filter { root(of: index, at: $0.length) == $0.root }.max { $0.length < $1.length }
    if own == nil, !held.strings.isEmpty {
      if !isClone { complaints.append("resume with \(held.strings.map(\.length)), whose roots aren't ours") }
      outbox.append(.frame(.extend(.nothing(of: held.file))))
    } else if let own, held.strings.count > 1 {
      outbox.append(.frame(.extend(DurablePrefix(file: held.file, length: own.length, root: own.root))))
    }
    progress[index] = .sent(own?.length ?? 0)
    durable[index] = max(durable[index] ?? 0, own?.length ?? 0)
  }

  private func root(of index: Int, at length: UInt64) -> Digest? {
    guard length <= UInt64(files[index].bytes.count) else { return nil }
    var tree = FileTree<MixHasher>(leafSize: limits.leafSize)
    tree.append(Array(files[index].bytes.prefix(Int(length))).span.bytes)
    return tree.root
  }
}
