import DataPlane
import HostCore
import JournalModel
import JournalStore
import MerkleLog
import ServerCore
import WireProtocol

/// Watches a run from outside: knows what every inode ever held, what was read, journaled, acknowledged.
///
/// Payload is compared by position with the world's own record, so that bytes which repeat themselves are seen as well
/// as those which don't. One exclusion: D4's stated limit. A file that went on over a truncation since the refill was
/// equal to the old bytes wherever D4 compares is `isMixed`, and nothing is asked of it but that no accepted byte
/// changes.
package final class Oracle {
  /// One incarnation as the host journals it.
  final class Followed {
    let file: FileUUID
    let inode: SimulatedDisk.Inode?
    /// What ingests read: at least what is journaled.
    var bytes: [UInt8] = []
    var journaled = 0
    var isBorn = false
    var closed: FileClosed.Reason?
    var gapFrom: UInt64?
    /// The incarnation of the inode that the bytes come from.
    var incarnation: Int
    var isMixed = false
    /// The host's store refused what was to be said of it, perhaps its end: after a start the inode is another file's.
    var wasSetApart = false
    /// The last life of the host's node in which the file was read: from then on a descriptor is held.
    var readInLife = 0
    /// By server: how much of it was checked when acknowledged.
    var acknowledged: [Int: Int] = [:]
    /// Bytes below this are owed to every server.
    var owed: Int { gapFrom.map { Int(clamping: $0) } ?? .max }

    init(file: FileUUID, inode: SimulatedDisk.Inode?, incarnation: Int) {
      self.file = file
      self.inode = inode
      self.incarnation = incarnation
    }
  }

  unowned let world: World
  package private(set) var failure: Failure?
  var followed: [[FileUUID: Followed]]
  /// Uuids born of an inode, in order.
  var model = ReferenceModel()
  private var births: [ObjectIdentifier: [FileUUID]] = [:]
  private var inodes: [[InodeKey: SimulatedDisk.Inode]] = []
  private var indexed: [Int] = []
  /// Payload that a host may send on a connection, and what it has sent.
  var credits: [ConnectionID: (granted: UInt64, sent: UInt64)] = [:]
  /// By server and host, since the server last lost what it held.
  var recordsAcknowledged: [[UInt64]]
  var payload: PeerPayload
  /// Contents that a server's plain files held when its store was restored: nothing of them may go (P3).
  var salvage: [(server: Int, bytes: [UInt8])] = []

  init(world: World) {
    self.world = world
    let count = Int(world.plan.knobs[.hosts])
    followed = [[FileUUID: Followed]](repeating: [:], count: count)
    inodes = [[InodeKey: SimulatedDisk.Inode]](repeating: [:], count: count)
    indexed = [Int](repeating: 0, count: count)
    let none = [UInt64](repeating: 0, count: count)
    payload = PeerPayload(servers: Int(world.plan.knobs[.servers]))
    recordsAcknowledged = [[UInt64]](repeating: none, count: Int(world.plan.knobs[.servers]))
  }

  /// The first failure counts.
  func fail(_ oracle: OracleName, _ text: String) {
    guard failure == nil else { return }
    failure = Failure(
      oracle: oracle, event: world.kernel.eventCount, time: world.kernel.now.nanoseconds, text: text)
  }

  // MARK: Following

  private func inode(_ host: Int, _ key: InodeKey) -> SimulatedDisk.Inode? {
    let all = world.hosts[host].disk.everyFile
    while indexed[host] < all.count {
      inodes[host][all[indexed[host]].key.stored] = all[indexed[host]]
      indexed[host] += 1
    }
    // One of two file systems, whichever the host says: its inode numbers are unique on both.
    return inodes[host][key.stored]
      ?? inodes[host][InodeKey(filesystem: 3 - key.filesystem, identity: key.identity)]
  }

  func attached(_ host: Int, _ file: FileUUID, _ key: InodeKey) {
    guard followed[host][file] == nil else { return }
    follow(host, file, key)
  }

  func reborn(_ host: Int, _ file: FileUUID, _ key: InodeKey?) {
    guard let key else { return }
    world.mark(.reborn)
    guard followed[host][file] == nil else {
      return fail(.identity, "reborn under a uuid that is in use: \(file.text)")
    }
    follow(host, file, key)
  }

  private func follow(_ host: Int, _ file: FileUUID, _ key: InodeKey) {
    let inode = inode(host, key)
    // The first incarnation that no earlier uuid of this inode has taken, or the living one.
    let taken = followed[host].values.filter { $0.inode === inode && inode != nil }.map(\.incarnation).max() ?? -1
    let last = (inode?.incarnations.count ?? 1) - 1
    let entry = Followed(file: file, inode: inode, incarnation: min(taken + 1, last))
    followed[host][file] = entry
  }

  /// Bytes were read, compared and hashed: they are of one incarnation, and follow on what was journaled before.
  func ingested(
    _ host: Int, _ file: FileUUID, _ inode: SimulatedDisk.Inode, from: UInt64, _ bytes: [UInt8], _ answer: IngestAnswer
  ) {
    switch answer.outcome {
    case .appended, .unchanged: followed[host][file]?.readInLife = world.hosts[host].lives
    default: break
    }
    switch answer.outcome {
    case .appended: break
    case .unchanged: return stood(host, file, inode, at: Int(from))
    case .shrunk: return world.mark(.shrunk)
    case .diverged: return world.mark(.diverged)
    default: return
    }
    guard let known = followed[host][file] else { return }
    guard known.inode === inode else {
      return fail(.identity, "\(file.text) was attached to one inode and reads another")
    }
    guard from <= UInt64(known.bytes.count) else {
      return fail(.lost, "\(file.text): ingest from \(from) where \(known.bytes.count) bytes were read")
    }
    known.bytes.removeLast(known.bytes.count - Int(from))
    let from = Int(from)
    if from > 0, from % world.limits.leafSize == 0 { world.mark(.resumedAtLeafBoundary) }
    place(known, inode, from: from, bytes)
    known.bytes += bytes
  }

  private func place(_ known: Followed, _ inode: SimulatedDisk.Inode, from: Int, _ bytes: [UInt8]) {
    let last = inode.incarnations.count - 1
    if known.incarnation == last { return }
    let all = known.bytes + bytes
    for candidate in known.incarnation...last {
      guard SimulatedDisk.content(of: inode, incarnation: candidate).starts(with: all) else { continue }
      if (candidate + 1..<last + 1).contains(where: { goesOn(all, from: from, in: inode, incarnation: $0) }) { break }
      known.incarnation = candidate
      return
    }
    guard isWithinLimit(all[...], known, inode, from: from, upTo: last) else {
      return fail(
        .identity,
        "\(known.file.text), read from \(from) to \(all.count), goes over a truncation although the bytes differ (D4)")
    }
    mix(known, last)
  }

  /// D4's stated limit and nothing beyond it: `all` are bytes of one content after another, and wherever it goes on from
  /// one to the next the later one has the same bytes before, as far as they are compared. Where nothing stands before,
  /// nothing excuses it.
  private func isWithinLimit(
    _ all: ArraySlice<UInt8>, _ known: Followed, _ inode: SimulatedDisk.Inode, from: Int, upTo last: Int
  ) -> Bool {
    guard last >= known.incarnation else { return false }
    for candidate in (known.incarnation...last).reversed() {
      let content = SimulatedDisk.content(of: inode, incarnation: candidate)
      guard content.count >= all.count else { continue }
      var start = all.count
      while start > 0, content[start - 1] == all[start - 1] { start -= 1 }
      if start == 0 || from > 0 && start <= comparedStart(from) { return true }
      let switched = max(from + 1, start + world.limits.tailSize)
      guard switched < all.count else { continue }
      if isWithinLimit(all[..<switched], known, inode, from: from, upTo: candidate - 1) { return true }
    }
    return false
  }

  /// What was read may be of this content, although the bytes before are of an earlier one: that had grown, unread, by the
  /// same bytes.
  private func goesOn(_ all: [UInt8], from: Int, in inode: SimulatedDisk.Inode, incarnation: Int) -> Bool {
    let content = SimulatedDisk.content(of: inode, incarnation: incarnation)
    let start = comparedStart(from)
    return from > 0 && content.count >= all.count && content[start..<all.count].elementsEqual(all[start...])
  }

  /// From where on D4 compares the bytes before `length`: after a restart it re-reads the open leaf and the one before
  /// it, which may be less than the tail.
  private func comparedStart(_ length: Int) -> Int {
    let leaf = world.limits.leafSize
    return max(0, length - min(world.limits.tailSize, length % leaf + leaf))
  }

  private func mix(_ known: Followed, _ incarnation: Int) {
    known.isMixed = true
    known.incarnation = incarnation
    world.mark(.mixed)
  }

  /// Nothing new was found. Where a refill has the old bytes' length and their end, it was taken for them: a server
  /// that lacks them refuses it, and the file waits.
  private func stood(_ host: Int, _ file: FileUUID, _ inode: SimulatedDisk.Inode, at length: Int) {
    guard let known = followed[host][file], known.inode === inode else { return }
    let last = inode.incarnations.count - 1
    let content = SimulatedDisk.content(of: inode, incarnation: last)
    let start = comparedStart(length)
    guard known.incarnation < last, content.count >= length, known.bytes.count >= length,
      content[start..<length] == known.bytes[start..<length], content[..<start] != known.bytes[..<start]
    else { return }
    mix(known, last)
  }

  // MARK: Journal

  func journaled(_ host: Int, _ batch: HostBatch, from first: UInt64) {
    defer { modelJournaled(host, batch, from: first) }
    for encoded in batch.records {
      world.kernel.trace.mix(encoded)
      guard let record = try? Record(decoding: encoded) else { return fail(.wire, "a record that can't be decoded") }
      switch record.body {
      case .fileBorn(let born): self.born(host, born)
      case .bytesAppended(let appended): self.appended(host, appended)
      case .fileClosed(let closed): self.closed(host, closed)
      case .rotated(let rotated): if rotated.to == nil { world.mark(.rotatedAway) }
      case .gap(let gap): self.gap(host, gap)
      case .journalOpened, .unknown: break
      }
    }
  }

  private func born(_ host: Int, _ born: FileBorn) {
    let key = InodeKey(filesystem: 1, identity: born.identity)
    guard let inode = inode(host, key) else { return fail(.identity, "\(born.file.text) is born of no inode") }
    attached(host, born.file, key)
    guard let known = followed[host][born.file] else { return }
    guard !known.isBorn else { return fail(.doubled, "\(born.file.text) is born twice") }
    guard known.inode === inode else { return fail(.identity, "\(born.file.text) changed its inode") }
    known.isBorn = true
    let id = ObjectIdentifier(inode)
    births[id, default: []].append(born.file)
    let count = births[id]?.count ?? 0
    if count > inode.incarnations.count {
      fail(.identity, "inode \(inode.number) had \(inode.incarnations.count) incarnations and got \(count) uuids")
    }
    let isFollowed = SimulatedHost.isFollowed(born.path)
    if !isFollowed { fail(.foreign, "\(born.path) is followed, which no pattern matches") }
  }

  private func appended(_ host: Int, _ appended: BytesAppended) {
    guard let known = followed[host][appended.file], known.isBorn else {
      return fail(.identity, "bytes of \(appended.file.text), which was never born")
    }
    guard Int(appended.offset) == known.journaled else {
      return fail(.doubled, "\(appended.file.text): bytes from \(appended.offset) after \(known.journaled)")
    }
    guard Int(appended.end) <= known.bytes.count else {
      return fail(.lost, "\(appended.file.text): \(appended.end) bytes journaled, \(known.bytes.count) read")
    }
    known.journaled = Int(appended.end)
  }

  private func closed(_ host: Int, _ closed: FileClosed) {
    guard let known = followed[host][closed.file] else { return }
    known.closed = closed.reason
    switch closed.reason {
    case .truncated:
      world.mark(.truncated)
      guard let inode = known.inode, inode.incarnations.count - 1 > known.incarnation || known.isMixed else {
        return fail(.falseTruncation, "\(closed.file.text) is called truncated and was not")
      }
    case .deleted:
      world.mark(.deleted)
      if let inode = known.inode, inode.links > 0 { fail(.falseTruncation, "\(closed.file.text) isn't deleted") }
    case .vanished:
      world.mark(.vanished)
      checkVanished(host, known, isEnd: true)
    }
  }

  private func gap(_ host: Int, _ gap: Gap) {
    world.mark(.gap)
    guard case .file(let file) = gap.subject, let known = followed[host][file] else { return }
    known.gapFrom = min(known.gapFrom ?? .max, gap.lower)
    if gap.reason == .vanished { checkVanished(host, known) }
    if gap.reason == .truncated, let inode = known.inode, inode.incarnations.count - 1 == known.incarnation,
      !known.isMixed
    {
      fail(.falseTruncation, "\(file.text) has a gap by a truncation that never was")
    }
  }

  /// A file whose descriptor this life of the node has had can't vanish (F2).
  ///
  /// - Parameter isEnd: nothing of it is said to be lost.
  private func checkVanished(_ host: Int, _ known: Followed, isEnd: Bool = false) {
    // No directory was renamed since the process began, and the name is older than it: every scan could see it (D10).
    if !known.wasSetApart, let inode = known.inode, let process = world.hosts[host].process,
      world.hosts[host].disk.era == process.firstEra,
      inode.namedIn < process.firstEra, livingFiles(world.hosts[host]).contains(where: { $0.1 === inode })
    {
      return fail(.lost, "\(known.file.text) is called vanished while its name stands (D10)")
    }
    // Moved out of sight: whatever it has is delivered, and a name that turns up goes on with it.
    if isEnd, let inode = known.inode, inode.links > 0 { return }
    // One that is set apart is read no more, and let go of when every server has what was committed of it.
    guard !known.wasSetApart, known.readInLife == world.hosts[host].lives else { return }
    fail(.lost, "\(known.file.text) is called vanished by a node that had it open (F2)")
  }

  func reported(_ host: Int, _ report: HostReport) {
    switch report {
    case .journalBlocked: world.mark(.journalBlocked)
    case .setApart(let file, _, _):
      world.mark(.setApart)
      followed[host][file]?.wasSetApart = true
    default: break
    }
  }

  // MARK: Servers

  func reported(_ server: SimulatedServer, _ report: ServerReport) {
    switch report {
    case .storeBlocked: world.mark(.storeBlocked)
    case .setAside: world.mark(.setAside)
    case .peerConnected: world.mark(.peerConnected)
    case .fileSetApart, .journalSetApart: world.mark(.setApartByServer)
    case .repairFailed(let key, let reason):
      guard !["EIO", "noSpace", "inputOutput", "can't be made"].contains(reason) else { return }
      fail(.durability, "server \(server.index) can't repair \(key.file.text): \(reason)")
    default: break
    }
  }

  func committed(_ server: SimulatedServer, _ batch: ServerBatch) {
    for payload in batch.log where payload.key.key.host != world.adversary?.host {
      guard let known = known(payload.key.key) else { return fail(.foreign, "log payload of an unknown file") }
      compare(server, known, payload.bytes[...], at: Int(payload.offset), "the log")
    }
    if !batch.log.isEmpty { world.mark(.acknowledgedFromLog) }
    modelCommitted(server, batch)
  }

  func known(_ key: FileKey) -> Followed? {
    guard let host = world.hosts.first(where: { $0.name == key.host }) else { return nil }
    return followed[host.index][key.file]
  }

  private func compare(
    _ server: SimulatedServer, _ known: Followed, _ bytes: ArraySlice<UInt8>, at offset: Int, _ place: String
  ) {
    guard offset + bytes.count <= known.bytes.count, known.bytes[offset..<(offset + bytes.count)] == bytes else {
      return fail(
        .storedBytes,
        "server \(server.index), \(place): \(known.file.text) from \(offset), \(bytes.count) bytes, isn't what was read"
      )
    }
  }

  /// At each acknowledgement what it covers must survive the loss of everything un-synced (G2).
  func sends(_ server: SimulatedServer, to host: Int?, _ frame: Frame) {
    // What the adversary is told is its own affair.
    guard let host, host < world.hosts.count else { return }
    switch frame {
    case .recordsDurable(let checkpoint):
      let length = checkpoint.length
      let row = journalRow(server, host)
      recordsAcknowledged[server.index][host] = max(recordsAcknowledged[server.index][host], length)
      if (row?.length ?? 0) < length {
        fail(.durability, "server \(server.index) acknowledges \(length) records and holds \(row?.length ?? 0)")
      }
      check(model.acknowledges(server.index, host, records: length), "server \(server.index)")
    case .payloadDurable(let prefixes):
      for held in prefixes {
        acknowledged(server, host, held.file, Int(held.length), held.root)
        check(model.acknowledges(server.index, host, held.file, held.length), "server \(server.index)")
      }
    case .refusal(let refusal):
      accused(server, host, refusal)
      if let file = refusal.file, refusal.length > 0 { acknowledged(server, host, file, Int(refusal.length)) }
    default: break
    }
  }

  func journalRow(_ server: SimulatedServer, _ host: Int) -> HeldJournal? {
    let identity = world.hosts[host].identity
    return server.store.snapshot().journal(
      SequenceKey(journal: HostJournal(host: identity.host, journal: identity.journal)))
  }

  private func acknowledged(
    _ server: SimulatedServer, _ host: Int, _ file: FileUUID, _ length: Int, _ root: Digest? = nil
  ) {
    guard let known = followed[host][file] else { return fail(.foreign, "an acknowledgement of an unknown file") }
    let before = known.acknowledged[server.index] ?? 0
    guard length > before else { return }
    let key = StringKey(key: FileKey(host: world.hosts[host].name, file: file), string: 0)
    let store = server.store.snapshot()
    guard let row = store.string(key), Int(row.committed) >= length else {
      return fail(.durability, "server \(server.index) acknowledges \(length) bytes of \(file.text) before the commit")
    }
    if let root, Int(row.committed) == length, row.root != root {
      return fail(.durability, "server \(server.index) acknowledges \(file.text) with a root that isn't its own (W2)")
    }
    let durable = server.disk.durableContent(SimulatedServerPlane.path(row.stored)) ?? []
    var position = before
    // Beyond the synced length a start cuts (P3): what lies there, such as the rest of a repair that failed and a power
    // cut made garbage, holds nothing.
    let end = min(length, durable.count, Int(row.synced))
    if position < end {
      if !isDamaged(server, row) {
        compare(server, known, durable[position..<end], at: position, "the durable plain file")
      }
      world.mark(.acknowledgedFromFile)
      position = end
    }
    if position < length {
      guard let ranges = try? server.store.logRanges() else { return }
      for range in ranges where range.key == key && Int(range.offset) <= position {
        position = max(position, Int(range.offset) + range.length)
      }
    }
    guard position >= length else {
      return fail(
        .durability,
        "server \(server.index) acknowledges \(length) bytes of \(file.text); \(position) survive a power cut (G2)")
    }
    known.acknowledged[server.index] = length
  }

  func powerWasCut(_ server: SimulatedServer) {
    for row in (try? server.store.strings()) ?? [] {
      guard let known = known(row.key.key), let acknowledged = known.acknowledged[server.index] else { continue }
      let held = heldBytes(server, row)
      if held.count < acknowledged {
        fail(.durability, "server \(server.index) lost acknowledged bytes of \(row.key.key.file.text)")
      } else if !isDamaged(server, row) {
        compare(server, known, held[..<acknowledged], at: 0, "after the power cut")
      }
    }
  }

  /// What the store and the disk hold of a string: the synced part of the plain file, then the log.
  func heldBytes(_ server: SimulatedServer, _ row: StoredString) -> [UInt8] {
    let file = server.disk.inode(SimulatedServerPlane.path(row.stored), followLast: false)?.bytes ?? []
    let base = row.base.flatMap { server.store.snapshot().string($0) }
    var bytes = Array(base.map { heldBytes(server, $0) }?.prefix(Int(row.start)) ?? [])
    bytes += file.prefix(Int(row.synced - row.start))
    for range in (try? server.store.logRanges()) ?? [] where range.key == row.key {
      guard Int(range.offset) <= bytes.count, Int(range.offset) + range.length > bytes.count,
        let payload = try? server.store.logPayload(of: row.key, offset: range.offset)
      else { continue }
      bytes += payload[(bytes.count - Int(range.offset))...]
    }
    return Array(bytes.prefix(Int(row.committed)))
  }

  /// Queues stay within their declared bound (P2).
  func bounded(_ server: SimulatedServer, waiting: Int) {
    let bound = server.settings.totalCredit + world.limits.connectionCredit * 4
    if waiting > bound { fail(.bounds, "server \(server.index) holds \(waiting) bytes in memory, bound \(bound)") }
  }
}
