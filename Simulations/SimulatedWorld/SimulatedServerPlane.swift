package import DataPlane
package import JournalModel
import MerkleLog

/// Received bytes and plain files of one server process, on its simulated disk. Dies with the process.
package final class SimulatedServerPlane: ServerDataPlane {
  package let disk: SimulatedDisk
  private let limits: Limits
  private let storedLeaves: (StringKey, UInt64) throws -> [Digest]
  private let loggedBytes: (StringKey, Range<UInt64>) throws -> [(offset: UInt64, bytes: [UInt8])]
  package var mutant: Mutant?
  private var held: [PayloadID: [UInt8]] = [:]
  private var queues: [StringKey: ReceiveQueue<SimulatedTree>] = [:]
  private var probes: [StringKey: StringProbe<SimulatedTree>] = [:]
  /// A sync failed: no byte is written any more (P4).
  private var failure: String?
  /// Is told of a read or sync that failed where that is rare.
  package var noticed: (Mark) -> Void = { _ in }
  /// A write was asked for that doesn't begin at the plain file's end.
  package var overwriteAttempted: (BytePath, UInt64, Int) -> Void = { _, _, _ in }

  static let files = BytePath("/")

  package init(
    disk: SimulatedDisk, limits: Limits, storedLeaves: @escaping (StringKey, UInt64) throws -> [Digest],
    loggedBytes: @escaping (StringKey, Range<UInt64>) throws -> [(offset: UInt64, bytes: [UInt8])]
  ) {
    self.disk = disk
    self.loggedBytes = loggedBytes
    self.limits = limits
    self.storedLeaves = storedLeaves
  }

  /// Bytes waiting in memory: bounded by the credit (P2).
  package var waitingBytes: Int {
    held.values.reduce(0) { $0 + $1.count } + queues.values.reduce(0) { $0 + $1.queue.byteCount }
  }

  package static func path(_ stored: BytePath) -> BytePath { BytePath(Array("/".utf8) + stored.bytes) }

  // MARK: Received bytes

  package func hold(_ id: PayloadID, bytes: [UInt8]) { held[id] = bytes }

  package func admit(_ id: PayloadID, to key: StringKey, offset: UInt64) {
    admitTail(id, to: key, offset: offset, dropping: 0)
  }

  package func admitTail(_ id: PayloadID, to key: StringKey, offset: UInt64, dropping: Int) {
    guard let bytes = held.removeValue(forKey: id) else { return }
    queues[key, default: ReceiveQueue(key: key, limits: limits)].admit(bytes, offset: offset, dropping: dropping)
  }

  package func drop(_ id: PayloadID) { held[id] = nil }

  package func compare(
    _ id: PayloadID, with key: StringKey, in segment: Segment, offset: UInt64, count: Int
  ) -> Bool? {
    guard let bytes = held[id], let old = try? bytesHeld(key, segment, offset, count) else { return nil }
    return old == Array(bytes.prefix(count))
  }

  package func probe(
    _ id: PayloadID, against key: StringKey, in segment: Segment, offset: UInt64, count: Int
  ) -> ProbeAnswer {
    guard var frame = held[id] else { return .unreadable }
    var probe = probes[key] ?? StringProbe(leafSize: limits.leafSize)
    let answer = try? probe.answer(
      &frame, offset: offset, count: count, storedLeaves: { [storedLeaves] in try storedLeaves(key, $0) },
      held: { [self] in try bytesHeld(key, segment, $0, $1) })
    probes[key] = probe
    held[id] = frame
    return answer ?? .unreadable
  }

  package func root(of key: StringKey, in segment: Segment, length: UInt64) -> Digest? {
    try? StringProbe<SimulatedTree>.root(
      at: length, leafSize: limits.leafSize, storedLeaves: { [storedLeaves] in try storedLeaves(key, $0) },
      held: { [self] in try bytesHeld(key, segment, $0, $1) })
  }

  package func read(
    _ key: StringKey, in segment: Segment, offset: UInt64, count: Int, behind head: [UInt8]
  ) -> [UInt8]? {
    (try? bytesHeld(key, segment, offset, count)).map { head + $0 }
  }

  /// Committed bytes: from the queue where they aren't folded yet, else as they are stored.
  private func bytesHeld(_ key: StringKey, _ segment: Segment, _ offset: UInt64, _ count: Int) throws -> [UInt8] {
    let stored: (UInt64, Int) throws -> [UInt8] = { [self] offset, count in
      let range = offset..<offset.saturatingAdding(UInt64(count))
      return try StoredBytes.read(range, log: try loggedBytes(key, range)) { try plainBytes(segment, $0, $1) }
    }
    guard let queue = queues[key]?.queue else { return try stored(offset, count) }
    return try queue.bytes(offset: offset, count: count, orHeld: stored)
  }

  private func plainBytes(_ segment: Segment, _ offset: UInt64, _ count: Int) throws -> [UInt8] {
    guard offset >= segment.start else { throw SourceFailure("bytes before the plain file's first") }
    let place = Int(offset - segment.start)
    guard let inode = disk.inode(Self.path(segment.path)), inode.bytes.count >= place + count else {
      throw SourceFailure("the plain file is too short")
    }
    return try disk.read(inode, place, count)
  }

  package func verify(
    _ key: StringKey, in segment: Segment, from: UInt64, root: Digest, promises: [Promise]
  ) -> VerifyAnswer {
    if mutant == .believePayload, let promise = promises.last(where: { $0.length <= received(key) }) {
      let none = LeafRange(file: key.key.file, first: from / UInt64(limits.leafSize), hashes: [])
      return VerifyAnswer(upTo: promise.length, root: promise.root, met: [promise], leaves: none, failedAt: nil)
    }
    var queue = queues[key] ?? ReceiveQueue(key: key, limits: limits)
    let answer = queue.verify(
      from: from, root: root, promises: promises,
      storedLeaves: { [storedLeaves] in try storedLeaves(segment.holder(of: key, at: from), $0) },
      held: { [self] offset, count in try plainBytes(segment, offset, count) })
    queues[key] = queue
    if answer.unreadable != nil { noticed(.unreadableInVerify) }
    return answer
  }

  private func received(_ key: StringKey) -> UInt64 { queues[key]?.queue.end ?? 0 }

  package func discard(_ key: StringKey, from: UInt64) {
    guard mutant != .keepDiscarded else { return }
    queues[key]?.discard(from: from)
  }

  package func queued(_ key: StringKey, offset: UInt64, length: Int) -> [UInt8] {
    queues[key]?.bytes(offset: offset, length: length) ?? []
  }

  package func free(_ key: StringKey, below: UInt64) {
    guard mutant != .neverFree else { return }
    queues[key]?.free(below: below)
  }

  package func forget(_ key: StringKey) {
    queues[key] = nil
    probes[key] = nil
  }

  // MARK: Plain files

  package func create(_ key: StringKey, _ segment: Segment, adopts: Bool) -> CreateOutcome {
    if let failure { return .failedSync(failure) }
    let path = Self.path(segment.path)
    do throws(SimulatedDisk.Failure) { try disk.makeDirectories(path.directory) } catch { return .failed("\(error)") }
    do throws(SimulatedDisk.Failure) { try disk.create(path) } catch {
      guard error == .exists else { return .failed("\(error)") }
      guard adopts, let found = disk.inode(path, followLast: false), found.kind == .regular, found.bytes.isEmpty else {
        return .taken
      }
    }
    do throws(SimulatedDisk.Failure) { try syncPath(path) } catch {
      noticed(.syncFailedInCreate)
      return .failedSync(failed(error))
    }
    return .created
  }

  /// Remembers that a sync failed.
  private func failed(_ error: SimulatedDisk.Failure) -> String {
    failure = failure ?? "\(error)"
    return "\(error)"
  }

  /// Syncs the file and every directory above it.
  private func syncPath(_ path: BytePath) throws(SimulatedDisk.Failure) {
    guard let inode = disk.inode(path, followLast: false) else { throw .notFound }
    try disk.sync(inode)
    guard mutant != .skipDirectorySync else { return }
    var directory = path
    while directory.bytes.count > 1 {
      directory = directory.directory
      guard let inode = disk.inode(directory) else { throw .notFound }
      try disk.syncDirectory(inode)
    }
  }

  package func write(_ key: StringKey, _ segment: Segment, from: UInt64, upTo: UInt64, sync: Bool) -> DiskOutcome {
    if let failure { return .failedSync(failure) }
    guard let inode = disk.inode(Self.path(segment.path), followLast: false) else { return .unusable("ENOENT") }
    let start = segment.start + UInt64(inode.bytes.count)
    guard start >= from, start <= upTo else {
      overwriteAttempted(segment.path, from, inode.bytes.count)
      return .failed("not at the end of the plain file")
    }
    // A write that failed half-way is completed: what lies there already are the same queued bytes.
    let bytes = queued(key, offset: start, length: Int(upTo - start))
    let descriptor = disk.open(inode, entry: nil, writing: true)
    defer { disk.close(descriptor) }
    do { try disk.append(descriptor, bytes) } catch { return .failed("\(error)") }
    guard sync, mutant != .writeWithoutSync else { return .done }
    return synced(inode)
  }

  private func synced(_ inode: SimulatedDisk.Inode) -> DiskOutcome {
    do throws(SimulatedDisk.Failure) { try disk.sync(inode) } catch {
      guard mutant == .retryFailedSync else { return .failedSync(failed(error)) }
    }
    return .done
  }

  package func sync(_ stored: [BytePath]) -> DiskOutcome {
    if let failure { return .failedSync(failure) }
    guard mutant != .acknowledgeBeforeSync else { return .done }
    for path in stored {
      guard let inode = disk.inode(Self.path(path), followLast: false) else { return .unusable("ENOENT") }
      let outcome = synced(inode)
      guard outcome == .done else { return outcome }
    }
    return .done
  }

  package func repair(
    _ key: StringKey, _ segment: Segment, synced: UInt64, committed: UInt64, log: [(offset: UInt64, bytes: [UInt8])],
    leftover: UInt64?
  ) -> RepairOutcome {
    if let failure { return .failedSync(failure) }
    if mutant == .skipRepair { return .done }
    let start = segment.start
    let log = mutant == .forgetLog ? [] : log.map { (offset: $0.offset - start, bytes: $0.bytes) }
    let committed = mutant == .forgetLog ? synced : committed
    do throws(RepairFailure) {
      let aside = try repair(
        Self.path(segment.path), synced: Int(synced - start), committed: Int(committed - start), log: log,
        leftover: leftover.map { Int($0) })
      return aside.map { .setAside($0) } ?? .done
    } catch {
      switch error {
      case .sync(let error):
        noticed(.syncFailedInRepair)
        return .failedSync(failed(error))
      case .other(let reason): return .failed(reason)
      }
    }
  }

  private enum RepairFailure: Error { case sync(SimulatedDisk.Failure), other(String) }

  private func doing<T>(_ body: () throws(SimulatedDisk.Failure) -> T) throws(RepairFailure) -> T {
    do throws(SimulatedDisk.Failure) { return try body() } catch { throw .other("\(error)") }
  }

  private func syncing(_ body: () throws(SimulatedDisk.Failure) -> Void) throws(RepairFailure) {
    do throws(SimulatedDisk.Failure) { try body() } catch { throw .sync(error) }
  }

  /// As `PlainFileRepair` does it. Returns where the old file was set aside.
  private func repair(
    _ path: BytePath, synced: Int, committed: Int, log: [(offset: UInt64, bytes: [UInt8])], leftover: Int?
  ) throws(RepairFailure) -> BytePath? {
    var file = disk.inode(path, followLast: false)
    if file == nil {
      guard synced == 0 else { throw .other("the plain file is missing") }
      try doing { () throws(SimulatedDisk.Failure) in
        try disk.makeDirectories(path.directory)
        file = try disk.create(path)
      }
      try syncing { () throws(SimulatedDisk.Failure) in try syncPath(path) }
    }
    guard let file else { throw .other("ENOENT") }
    let length = file.bytes.count
    if length == synced, synced == committed { return nil }
    guard length >= synced else { throw .other("shorter than what was synced") }
    let excess = length - min(length, max(committed, synced))
    if length > synced, leftover.map({ excess > $0 }) ?? true {
      return try replace(path, file, synced: synced, committed: committed, log: log)
    }
    if length > synced { disk.truncate(file, to: synced) }
    try rebuild(file, committed: committed, log: log)
    try syncing { () throws(SimulatedDisk.Failure) in try disk.sync(file) }
    return nil
  }

  /// The new file is complete and durable before it takes the name; the old one keeps another.
  private func replace(
    _ path: BytePath, _ old: SimulatedDisk.Inode, synced: Int, committed: Int,
    log: [(offset: UInt64, bytes: [UInt8])]
  ) throws(RepairFailure) -> BytePath {
    let new = BytePath(path.bytes + Array("~new".utf8))
    var number = 1
    func name() -> BytePath { BytePath(path.bytes + Array("~aside\(number)".utf8)) }
    while disk.inode(name(), followLast: false) != nil { number += 1 }
    let aside = name()
    let kept = try doing { () throws(SimulatedDisk.Failure) in
      do throws(SimulatedDisk.Failure) { return try disk.read(old, 0, synced) } catch {
        noticed(.unreadableInRepair)
        throw error
      }
    }
    let file = try doing { () throws(SimulatedDisk.Failure) in
      if disk.inode(new, followLast: false) != nil { try disk.unlink(new) }
      let file = try disk.create(new)
      file.isDamaged = old.isDamaged
      let descriptor = disk.open(file, entry: nil, writing: true)
      defer { disk.close(descriptor) }
      try disk.append(descriptor, kept)
      return file
    }
    try rebuild(file, committed: committed, log: log)
    try syncing { () throws(SimulatedDisk.Failure) in try syncPath(new) }
    try doing { () throws(SimulatedDisk.Failure) in
      try disk.hardLink(path, aside)
      try disk.rename(new, path)
    }
    try syncing { () throws(SimulatedDisk.Failure) in try syncPath(path) }
    return BytePath(Array(aside.bytes.dropFirst()))
  }

  private func rebuild(
    _ file: SimulatedDisk.Inode, committed: Int, log: [(offset: UInt64, bytes: [UInt8])]
  ) throws(RepairFailure) {
    let descriptor = disk.open(file, entry: nil, writing: true)
    defer { disk.close(descriptor) }
    for piece in log where piece.offset + UInt64(piece.bytes.count) > UInt64(file.bytes.count) {
      let have = UInt64(file.bytes.count)
      guard piece.offset <= have else { throw .other("a hole in the log") }
      try doing { () throws(SimulatedDisk.Failure) in
        try disk.append(descriptor, Array(piece.bytes[Int(have - piece.offset)...]))
      }
    }
    guard file.bytes.count == committed else { throw .other("the log doesn't reach the committed length") }
  }

  package func link(host: HostName, path: BytePath, to stored: BytePath) -> String? {
    let link = BytePath("/latest/" + host.text + "/" + String(Mix.hash(path.bytes), radix: 16))
    do {
      try disk.makeDirectories(link.directory)
      if disk.inode(link, followLast: false) != nil { try disk.unlink(link) }
      try disk.symbolicLink(Self.path(stored), at: link)
    } catch { return "\(error)" }
    return nil
  }
}
