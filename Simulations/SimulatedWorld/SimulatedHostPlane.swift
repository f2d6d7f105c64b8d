package import DataPlane
package import JournalModel
import JournalStore
import MerkleLog

/// Names and bytes of one host process, on its simulated disk. Dies with the process.
///
/// `interleave` is called wherever the kernel could let somebody else run: between a listing and the examination of its
/// entries, and around every read, so that writers act between a read and its comparison (D4).
package final class SimulatedHostPlane: HostDataPlane {
  private struct Attached {
    var file: FileUUID
    var inode: InodeKey
    var path: BytePath
    var isPinned = false
    var descriptor: SimulatedDisk.Descriptor?
    var ingestor: Ingestor<SimulatedTree>
  }

  package struct Faults: Sendable {
    package var noDescriptors = false
    package var readsFail = false
    package var shortReads = false
    package var interrupted = false
    package init() {}
  }

  package let disk: SimulatedDisk
  package let watches: WatchQueue
  package var faults = Faults()
  package var mutant: Mutant?
  /// Nanoseconds that a directory must have stood still to be taken to do so (K6).
  package var timeMargin: Int64 = 5_000_000_000
  /// Nanoseconds by which the wall clock is ahead of one that is never set.
  package var lead: () -> Int64 = { 0 }
  package var interleave: () -> Void = {}
  /// Entries of a directory are being listed or examined, for the count of what comes between.
  package private(set) var isListing = false
  /// What an ingest read, for the oracle: file, inode, offset, bytes.
  package var didIngest: (FileUUID, SimulatedDisk.Inode, UInt64, [UInt8], IngestAnswer) -> Void = { _, _, _, _, _ in }
  /// A descriptor became stale: until the file is opened again nothing holds it.
  package var didLoseDescriptor: (FileUUID) -> Void = { _ in }
  private let limits: Limits
  private let storedLeaves: (FileUUID, UInt64) throws -> [Digest]
  private var attached: [FileID: Attached] = [:]
  private var random: RandomStream
  private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 256, alignment: 16)

  package init(
    disk: SimulatedDisk, watches: WatchQueue, limits: Limits, random: RandomStream,
    storedLeaves: @escaping (FileUUID, UInt64) throws -> [Digest]
  ) {
    self.disk = disk
    self.watches = watches
    self.limits = limits
    self.random = random
    self.storedLeaves = storedLeaves
  }

  deinit { scratch.deallocate() }

  /// Closes every descriptor: the process is gone.
  package func die() {
    for (_, file) in attached.sorted(by: { $0.key < $1.key }) { file.descriptor.map(disk.close) }
    attached = [:]
  }

  package var attachedCount: Int { attached.count }

  package func inode(of id: FileID) -> SimulatedDisk.Inode? {
    guard let file = attached[id] else { return nil }
    if let descriptor = file.descriptor { return descriptor.inode }
    guard let inode = disk.inode(file.path), key(inode) == file.inode else { return nil }
    return inode
  }

  package func inodeKey(of id: FileID) -> InodeKey? { attached[id]?.inode }

  // MARK: Names

  package func watch(_ directory: BytePath, isBase: Bool, known: KnownDirectory?) -> Listing {
    let isWayWatched = !isBase || trace(directory.bytes, for: .directory(directory)) || mutant == .watchByPath
    if let inode = disk.inode(directory), inode.kind == .directory, !inode.isDenied {
      _ = watches.watch(inode, directory)
    }
    isListing = true
    interleave()
    let before = sighting(directory)
    var listing: Listing
    if let known, isStill(before?.stamp, since: known) {
      listing = list(directory, .known(known.names))
      // What isn't there any more, or isn't still, is listed in full: nobody comes between.
      if !isStill(sighting(directory)?.stamp, since: known) { listing = list(directory, .everything) }
    } else {
      listing = list(directory, .everything)
    }
    if case .entries = listing.outcome, !listing.isStill, let before, before.isSettled { listing.stamp = before.stamp }
    listing.isWayWatched = isWayWatched
    return listing
  }

  /// The directory as it shows itself now, and whether a change that comes after that must show.
  private func sighting(_ directory: BytePath) -> (stamp: DirectoryStamp, isSettled: Bool)? {
    guard let inode = disk.inode(directory), inode.kind == .directory else { return nil }
    let stamp = DirectoryStamp(
      inode: key(inode), mount: fileSystem(inode), modified: inode.modified, changed: inode.changed, lead: lead())
    let settled = disk.clock().nanoseconds - timeMargin
    return (stamp, inode.changed.nanoseconds <= settled || mutant == .believeFreshTimes)
  }

  private func isStill(_ now: DirectoryStamp?, since known: KnownDirectory) -> Bool {
    guard let now else { return false }
    return now.isStill(since: known.stamp, slack: timeMargin / 2)
      || mutant == .believeStillness && now.inode == known.stamp.inode
  }

  private enum Wanted {
    case names([[UInt8]])
    case everything
    case known([[UInt8]])

    var names: [[UInt8]]? {
      switch self {
      case .names(let names), .known(let names): names
      case .everything: nil
      }
    }
    var isKnown: Bool { if case .known = self { true } else { false } }
  }

  /// Watches the way to the goal.
  private func trace(_ path: [UInt8], for goal: WatchQueue.Goal) -> Bool {
    guard mutant != .watchByPath else { return false }
    var steps: [(SimulatedDisk.Inode, [UInt8])] = []
    _ = try? disk.walk(BytePath(path), followLast: true) { steps.append(($0, $1)) }
    return watches.trace(steps, for: goal)
  }

  package func unwatch(_ directory: BytePath) { watches.unwatch(directory) }

  package func list(_ directory: BytePath, names: [[UInt8]]?) -> Listing {
    list(directory, names.map { .names($0) } ?? .everything)
  }

  private func list(_ directory: BytePath, _ wanted: Wanted) -> Listing {
    isListing = true
    defer { isListing = false }
    var outcome = outcome(directory, wanted)
    if mutant == .failureIsAbsence, case .failed = outcome { outcome = .missing }
    var listing = Listing(
      directory: directory, names: wanted.names, outcome: outcome, isWatched: isWatched(directory))
    switch outcome {
    case .entries:
      listing.isStill = wanted.isKnown
      listing.place = mutant == .watchByPath ? nil : disk.inode(directory).map(facts)
    case .missing: watches.lose(directory)
    case .failed: break
    }
    return listing
  }

  /// Whether the watch stands, and on what the path leads to now.
  private func isWatched(_ directory: BytePath) -> Bool {
    guard mutant != .believeRefusedWatch else { return true }
    guard mutant != .watchByPath, let inode = disk.inode(directory) else { return watches.isWatched(directory) }
    return watches.isWatched(directory, inode)
  }

  private func outcome(_ directory: BytePath, _ wanted: Wanted) -> Listing.Outcome {
    guard !faults.noDescriptors else { return .failed("EMFILE") }
    let inode: SimulatedDisk.Inode
    do { inode = try disk.entry(directory).inode } catch {
      return error == .notFound || error == .notDirectory ? .missing : .failed("\(error)")
    }
    guard inode.kind == .directory else { return .missing }
    guard !inode.isDenied else { return .failed("EACCES") }
    guard !faults.readsFail else { return .failed("EIO") }
    var entries: [DirectoryEntry] = []
    let looksAt = wanted.names.map { Set($0) }
    // A directory that stands still takes as much of the world's time and chance as one that is listed: what the world
    // does next doesn't depend on what is known.
    let names = if case .names(let names) = wanted { names } else { disk.names(of: inode) }
    for name in names {
      interleave()
      if let looksAt, disk.inode(directory.appending(name), followLast: false) == nil || !looksAt.contains(name) {
        if wanted.isKnown { _ = fresh() }
        continue
      }
      entries.append(entry(directory, name))
    }
    if mutant == .forgetEntries, entries.contains(where: { $0.facts == nil }) { entries.removeAll() }
    return .entries(entries, filesystem: fileSystem(inode))
  }

  private func entry(_ directory: BytePath, _ name: [UInt8]) -> DirectoryEntry {
    let path = directory.appending(name)
    let fresh = fresh()
    let link = disk.inode(path, followLast: false)
    let isLink = link?.kind == .symbolicLink
    let goal = WatchQueue.Goal.link(directory: directory, name: name)
    if isLink, isWatched(directory), !watches.isTraced(goal) { _ = trace(path.bytes, for: goal) }
    guard let found = try? disk.walk(path, followLast: true) else {
      return DirectoryEntry(name: name, isSymbolicLink: isLink, facts: nil, freshUUID: fresh)
    }
    let facts = facts(found.entry.inode)
    // As many are drawn whatever is known: what the world does next doesn't depend on it.
    let isKnown = !isLink && attached.values.contains { $0.inode == facts.inode }
    return DirectoryEntry(
      name: name, isSymbolicLink: isLink, facts: facts, realPath: isLink ? found.real : nil,
      freshUUID: isKnown ? nil : fresh)
  }

  private func fresh() -> UUIDBytes {
    UUIDBytes(high: random.next(), low: random.next()).marked(version: 4)
  }

  private func facts(_ inode: SimulatedDisk.Inode) -> FileFacts {
    let kind: FileFacts.Kind =
      switch inode.kind {
      case .regular: .regular
      case .directory: .directory
      case .symbolicLink: .other
      }
    return FileFacts(
      kind: kind, inode: key(inode), size: UInt64(inode.bytes.count), modified: inode.modified, links: inode.links,
      mode: inode.mode)
  }

  private func fileSystem(_ inode: SimulatedDisk.Inode) -> UInt64 { mutant == .oneFileSystem ? 1 : inode.fileSystem }

  private func key(_ inode: SimulatedDisk.Inode) -> InodeKey {
    guard mutant == .identityByNumber else {
      return InodeKey(
        device: fileSystem(inode), filesystem: fileSystem(inode), identity: inode.key.identity)
    }
    let birth = WallTime(nanoseconds: 0)
    let identity = InodeIdentity(number: inode.number, generation: 0, birth: birth)
    return InodeKey(device: inode.fileSystem, filesystem: inode.fileSystem, identity: identity)
  }

  package func hints() -> [WatchHint] { watches.drain() }

  // MARK: Files

  package func attach(_ id: FileID, file: FileUUID, inode: InodeKey, path: BytePath) {
    attached[id] = Attached(file: file, inode: inode, path: path, ingestor: Ingestor(limits: limits))
  }

  package func relocate(_ id: FileID, path: BytePath, isPinned: Bool) {
    attached[id]?.path = path
    attached[id]?.isPinned = isPinned
    if isPinned, mutant == .dropNamelessTail {
      attached[id]?.descriptor.map(disk.close)
      attached[id]?.descriptor = nil
    } else if isPinned {
      _ = try? descriptor(id)
    }
  }

  package func reborn(_ id: FileID, as next: FileID, file: FileUUID) {
    guard var old = attached.removeValue(forKey: id) else { return }
    old.file = file
    old.ingestor = Ingestor(limits: limits)
    attached[next] = old
  }

  package func release(_ id: FileID) {
    guard let old = attached.removeValue(forKey: id) else { return }
    old.descriptor.map(disk.close)
  }

  /// Closes descriptors that nobody insists on, as a node does that has too many.
  package func closeIdle() {
    for id in attached.keys.sorted() {
      guard let file = attached[id], !file.isPinned, let descriptor = file.descriptor else { continue }
      disk.close(descriptor)
      attached[id]?.descriptor = nil
    }
  }

  /// The server of a network file system forgot what is open; those whose name is gone it kept.
  package func staleDescriptors() {
    for id in attached.keys.sorted() where attached[id]?.isPinned == false {
      guard let inode = attached[id]?.descriptor?.inode, inode.links > 0 else { continue }
      attached[id]?.descriptor?.isStale = true
    }
  }

  private enum Reach: Error { case gone, failed(String) }

  private func descriptor(_ id: FileID) throws(Reach) -> SimulatedDisk.Descriptor {
    guard let file = attached[id] else { throw .gone }
    if let open = file.descriptor { return open }
    guard !faults.noDescriptors else { throw .failed("EMFILE") }
    let opened: SimulatedDisk.Descriptor
    do { opened = try disk.open(file.path, writing: false) } catch {
      switch error {
      case .notFound, .notDirectory, .isDirectory: throw .gone
      default: throw .failed("\(error)")
      }
    }
    guard key(opened.inode) == file.inode else {
      disk.close(opened)
      throw .gone
    }
    attached[id]?.descriptor = opened
    return opened
  }

  private func source(_ id: FileID) throws(Reach) -> Source {
    // One that is stale stays so: the name is asked again.
    if let held = attached[id]?.descriptor, held.isStale {
      disk.close(held)
      attached[id]?.descriptor = nil
      disk.struck("read ESTALE")
      if let file = attached[id]?.file { didLoseDescriptor(file) }
      throw .failed("ESTALE")
    }
    return Source(inode: try descriptor(id).inode, plane: self)
  }

  /// Reads of one inode, each preceded by whatever else wants to happen.
  private final class Source: ByteSource {
    let inode: SimulatedDisk.Inode
    unowned let plane: SimulatedHostPlane
    /// Everything read, by offset: what the oracle takes for the journaled bytes.
    var seen: [(offset: UInt64, bytes: ArraySlice<UInt8>)] = []
    init(inode: SimulatedDisk.Inode, plane: SimulatedHostPlane) {
      self.inode = inode
      self.plane = plane
    }

    func facts() throws -> SourceFacts {
      plane.interleave()
      return SourceFacts(size: UInt64(inode.bytes.count), modified: inode.modified, links: inode.links)
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
      plane.interleave()
      while plane.faults.interrupted, plane.random.chance(300_000) {
        // EINTR: read again, after whatever the signal was for.
        plane.disk.struck("read EINTR")
        plane.interleave()
      }
      guard !plane.faults.readsFail else { throw SourceFailure("EIO") }
      guard offset < UInt64(inode.bytes.count), buffer.count > 0 else { return 0 }
      var count = min(buffer.count, inode.bytes.count - Int(offset))
      do throws(SimulatedDisk.Failure) { count = try plane.disk.readable(inode, Int(offset), count) } catch {
        throw SourceFailure("EIO")
      }
      if plane.faults.shortReads { count = 1 + plane.random.below(count) }
      let slice = inode.bytes[Int(offset)..<(Int(offset) + count)]
      buffer.copyBytes(from: slice)
      seen.append((offset, slice))
      return count
    }
  }

  package func ingest(_ id: FileID, from: UInt64, root: Digest, limit: Int) -> IngestAnswer {
    guard var ingestor = attached[id]?.ingestor, let file = attached[id]?.file else { return .gone }
    let source: Source
    do { source = try self.source(id) } catch {
      switch error {
      case .gone: return .gone
      case .failed(let reason): return .failed(reason)
      }
    }
    attached[id]?.ingestor = Ingestor(limits: limits)
    let isFresh = ingestor.position == nil
    var answer = ingestor.ingest(
      source, file: file, from: from, root: root, limit: limit, scratch: scratch,
      storedLeaves: { [storedLeaves] in try storedLeaves(file, $0) })
    switch answer.outcome {
    case .diverged where mutant == .skipComparison, .shrunk where mutant == .ignoreTruncation:
      answer.outcome = .unchanged
    case .diverged where mutant == .openLeafOnly && isFresh && from % UInt64(limits.leafSize) == 0:
      if let appended = uncompared(source, file, from: from, limit: limit) { answer.outcome = appended }
    default: break
    }
    if attached[id]?.file == file { attached[id]?.ingestor = ingestor }
    if case .appended(let appended) = answer.outcome {
      didIngest(file, source.inode, from, Self.bytes(source.seen, from: from, to: appended.length), answer)
    } else {
      didIngest(file, source.inode, from, [], answer)
    }
    return answer
  }

  /// What an ingest answers that compares the open leaf alone: at a boundary of leaves there is none.
  private func uncompared(_ source: Source, _ file: FileUUID, from: UInt64, limit: Int) -> IngestAnswer.Outcome? {
    let first = from / UInt64(limits.leafSize)
    guard let leaves = try? storedLeaves(file, first), let bytes = try? source.bytes(at: from, count: limit) else {
      return nil
    }
    guard !bytes.isEmpty else { return .unchanged }
    var tree = FileTree<SimulatedTree>(leafSize: limits.leafSize, leaves: leaves)
    var hashes: [Digest] = []
    tree.append(bytes.span.bytes) { hashes.append($1) }
    let last = Array(bytes.suffix(limits.tailSize))
    let tail = SimulatedTree.digest(last.span.bytes)
    let range = LeafRange(file: file, first: first, hashes: hashes)
    return .appended(Appended(length: tree.length, root: tree.root, tail: tail, leaves: range))
  }

  /// The bytes last read at each position.
  private static func bytes(
    _ seen: [(offset: UInt64, bytes: ArraySlice<UInt8>)], from: UInt64, to end: UInt64
  ) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Int(end - from))
    for read in seen where read.offset < end && read.offset + UInt64(read.bytes.count) > from {
      let lower = max(read.offset, from)
      let upper = min(read.offset + UInt64(read.bytes.count), end)
      let start = read.bytes.startIndex + Int(lower - read.offset)
      bytes.replaceSubrange(
        Int(lower - from)..<Int(upper - from), with: read.bytes[start..<(start + Int(upper - lower))])
    }
    return bytes
  }

  package func probeWriters(_ id: FileID) -> Bool? {
    guard let descriptor = try? descriptor(id) else { return nil }
    return mutant == .assumeNoWriters ? false : descriptor.inode.writers > 0
  }

  package func computeRoot(_ id: FileID, length: UInt64) -> Digest? {
    guard let file = attached[id]?.file, let source = try? source(id) else { return nil }
    return try? Ingestor<SimulatedTree>.root(
      at: length, of: source, limits: limits, storedLeaves: { [storedLeaves] in try storedLeaves(file, $0) })
  }

  package func read(_ id: FileID, offset: UInt64, length: Int) throws(PayloadUnavailable) -> [UInt8] {
    let source: Source
    do { source = try self.source(id) } catch { throw PayloadUnavailable(reason: "\(error)") }
    guard let bytes = try? source.bytes(at: offset, count: length) else { throw PayloadUnavailable(reason: "EIO") }
    guard bytes.count == length else { throw PayloadUnavailable(reason: "truncated") }
    return bytes
  }
}
