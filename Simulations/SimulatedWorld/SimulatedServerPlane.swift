package import DataPlane
package import JournalModel
import MerkleLog

/// Received bytes and plain files of one server process, on its simulated disk. Dies with the process.
package final class SimulatedServerPlane: ServerDataPlane {
  package let disk: SimulatedDisk
  private let limits: Limits
  private let storedLeaves: (StringKey, UInt64) throws -> [Digest]
  package var mutant: Mutant?
  private var held: [PayloadID: [UInt8]] = [:]
  private var queues: [StringKey: ReceiveQueue<SimulatedTree>] = [:]
  private var places: [StringKey: BytePath] = [:]
  /// A write was asked for that doesn't begin at the plain file's end.
  package var overwriteAttempted: (BytePath, UInt64, Int) -> Void = { _, _, _ in }

  static let files = BytePath("/")

  package init(
    disk: SimulatedDisk, limits: Limits, storedLeaves: @escaping (StringKey, UInt64) throws -> [Digest]
  ) {
    self.disk = disk
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

  package func compare(_ id: PayloadID, with key: StringKey, stored: BytePath, offset: UInt64, count: Int) -> Bool? {
    guard let bytes = held[id], let old = bytesHeld(key, stored, offset, count) else { return nil }
    return old == Array(bytes.prefix(count))
  }

  /// Committed bytes: from the plain file, and from the queue where they aren't folded yet.
  private func bytesHeld(_ key: StringKey, _ stored: BytePath, _ offset: UInt64, _ count: Int) -> [UInt8]? {
    let disk = disk
    let fromFile: (UInt64, Int) throws -> [UInt8] = { offset, count in
      guard let inode = disk.inode(Self.path(stored)), inode.bytes.count >= Int(offset) + count else {
        throw SourceFailure("the plain file is too short")
      }
      return Array(inode.bytes[Int(offset)..<(Int(offset) + count)])
    }
    guard let queue = queues[key]?.queue else { return try? fromFile(offset, count) }
    return try? queue.bytes(offset: offset, count: count, orHeld: fromFile)
  }

  package func verify(_ key: StringKey, from: UInt64, root: Digest, promises: [Promise]) -> VerifyAnswer {
    if mutant == .believePayload, let promise = promises.last(where: { $0.length <= received(key) }) {
      let none = LeafRange(file: key.key.file, first: from / UInt64(limits.leafSize), hashes: [])
      return VerifyAnswer(upTo: promise.length, root: promise.root, leaves: none, failedAt: nil)
    }
    var queue = queues[key] ?? ReceiveQueue(key: key, limits: limits)
    let place = places[key]
    let answer = queue.verify(
      from: from, root: root, promises: promises, storedLeaves: { [storedLeaves] in try storedLeaves(key, $0) },
      held: { [disk] offset, count in
        guard let place, let inode = disk.inode(Self.path(place)), inode.bytes.count >= Int(offset) + count else {
          throw SourceFailure("held bytes are missing")
        }
        return Array(inode.bytes[Int(offset)..<(Int(offset) + count)])
      })
    queues[key] = queue
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

  // MARK: Plain files

  package func create(_ key: StringKey, _ stored: BytePath) -> CreateOutcome {
    places[key] = stored
    let path = Self.path(stored)
    do { try disk.makeDirectories(path.directory) } catch { return .failed("\(error)") }
    do { try disk.create(path) } catch {
      guard error == .exists else { return .failed("\(error)") }
      guard let found = disk.inode(path, followLast: false), found.kind == .regular, found.bytes.isEmpty else {
        return .taken
      }
    }
    return syncPath(path) ? .created : .failedSync("EIO")
  }

  /// Syncs the file and every directory above it.
  private func syncPath(_ path: BytePath) -> Bool {
    guard let inode = disk.inode(path, followLast: false) else { return false }
    // The port has no word for a failed sync here: the fault waits for the next write or sync.
    let isFailing = disk.nextSyncFails
    disk.nextSyncFails = false
    defer { disk.nextSyncFails = isFailing }
    do { try disk.sync(inode) } catch { return false }
    guard mutant != .skipDirectorySync else { return true }
    var directory = path
    while directory.bytes.count > 1 {
      directory = directory.directory
      guard let inode = disk.inode(directory) else { return false }
      disk.syncDirectory(inode)
    }
    return true
  }

  package func write(_ key: StringKey, _ stored: BytePath, from: UInt64, upTo: UInt64, sync: Bool) -> DiskOutcome {
    places[key] = stored
    guard let inode = disk.inode(Self.path(stored), followLast: false) else { return .failed("ENOENT") }
    guard UInt64(inode.bytes.count) >= from, UInt64(inode.bytes.count) <= upTo else {
      overwriteAttempted(stored, from, inode.bytes.count)
      return .failed("not at the end of the plain file")
    }
    // A write that failed half-way is completed: what lies there already are the same queued bytes.
    let start = UInt64(inode.bytes.count)
    let bytes = queued(key, offset: start, length: Int(upTo - start))
    let descriptor = disk.open(inode, entry: nil, writing: true)
    defer { disk.close(descriptor) }
    do { try disk.append(descriptor, bytes) } catch { return .failed("\(error)") }
    guard sync, mutant != .writeWithoutSync else { return .done }
    do { try disk.sync(inode) } catch {
      guard mutant == .retryFailedSync else { return .failedSync("\(error)") }
    }
    return .done
  }

  package func sync(_ stored: [BytePath]) -> DiskOutcome {
    guard mutant != .acknowledgeBeforeSync else { return .done }
    for path in stored {
      guard let inode = disk.inode(Self.path(path), followLast: false) else { return .failed("ENOENT") }
      do { try disk.sync(inode) } catch {
        guard mutant == .retryFailedSync else { return .failedSync("\(error)") }
      }
    }
    return .done
  }

  package func repair(
    _ key: StringKey, _ stored: BytePath, synced: UInt64, committed: UInt64, log: [(offset: UInt64, bytes: [UInt8])],
    mayCut: Bool, slice: UInt64
  ) -> RepairOutcome {
    places[key] = stored
    if mutant == .skipRepair { return .done }
    let log = mutant == .forgetLog ? [] : log
    let committed = mutant == .forgetLog ? synced : committed
    let path = Self.path(stored)
    var inode = disk.inode(path, followLast: false)
    if inode == nil {
      guard synced == 0 else { return .failed("the plain file is missing") }
      guard create(key, stored) == .created else { return .failed("can't be made") }
      inode = disk.inode(path, followLast: false)
    }
    guard var file = inode else { return .failed("ENOENT") }
    let length = UInt64(file.bytes.count)
    guard length >= synced else { return .failed("shorter than what was synced") }
    var setAside: BytePath?
    if length > synced, length - synced > slice || !mayCut {
      let aside = BytePath(stored.bytes + Array("~aside".utf8))
      do { file = try replace(path, by: Array(file.bytes[..<Int(synced)]), keepingAs: Self.path(aside)) } catch {
        return .failed("\(error)")
      }
      setAside = aside
    } else if length > synced {
      disk.truncate(file, to: Int(synced))
    }
    return rebuild(file, path, committed: committed, log: log) ?? (setAside.map { .setAside($0) } ?? .done)
  }

  /// The new file is complete and durable before it takes the name; the old one keeps another.
  private func replace(
    _ path: BytePath, by bytes: [UInt8], keepingAs aside: BytePath
  ) throws(SimulatedDisk.Failure) -> SimulatedDisk.Inode {
    let new = BytePath(path.bytes + Array("~new".utf8))
    if disk.inode(new, followLast: false) != nil { try disk.unlink(new) }
    let file = try disk.create(new)
    let descriptor = disk.open(file, entry: nil, writing: true)
    defer { disk.close(descriptor) }
    try disk.append(descriptor, bytes)
    guard syncPath(new) else { throw .inputOutput }
    if disk.inode(aside, followLast: false) == nil { try disk.hardLink(path, aside) }
    try disk.rename(new, path)
    return file
  }

  private func rebuild(
    _ file: SimulatedDisk.Inode, _ path: BytePath, committed: UInt64, log: [(offset: UInt64, bytes: [UInt8])]
  ) -> RepairOutcome? {
    let descriptor = disk.open(file, entry: nil, writing: true)
    defer { disk.close(descriptor) }
    for piece in log where piece.offset + UInt64(piece.bytes.count) > UInt64(file.bytes.count) {
      let have = UInt64(file.bytes.count)
      guard piece.offset <= have else { return .failed("a hole in the log") }
      do { try disk.append(descriptor, Array(piece.bytes[Int(have - piece.offset)...])) } catch {
        return .failed("\(error)")
      }
    }
    guard UInt64(file.bytes.count) == committed else { return .failed("the log doesn't reach the committed length") }
    return syncPath(path) ? nil : .failedSync("EIO")
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
