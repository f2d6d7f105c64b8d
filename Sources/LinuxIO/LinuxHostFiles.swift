import CLinux
package import DataPlane
import Glibc
package import JournalModel

/// The files and directories of this machine, as `HostCore` follows them.
///
/// Every call is safe from every thread. Calls that read block on the disk; `hints` doesn't.
package final class LinuxHostFiles: HostDataPlane, Sendable {
  package typealias StoredLeaves = @Sendable (FileUUID, UInt64) throws -> [Digest]

  private struct State {
    var files: [FileID: FollowedFile] = [:]
    var descriptors: DescriptorCache<FileID>
  }
  private let state: Monitor<State>
  private let watches = Monitor(WatchTable())
  private let limits: Limits
  private let storedLeaves: StoredLeaves
  private let own: OwnFiles?
  private let user = geteuid()
  private let scratch = ScratchBuffers(byteCount: 256 << 10)

  /// Readable when `hints` has something; nil when the machine gave no inotify instance.
  package let notificationDescriptor: Int32?
  /// Exceptional (EPOLLPRI), once, when something was mounted or unmounted; nil without procfs.
  package var mountDescriptor: Int32? { mounts?.number }
  private let mounts = try? Descriptor.open(BytePath("/proc/self/mountinfo"), O_RDONLY)

  /// - Parameters:
  ///   - storedLeaves: hashes of the first n complete leaves as the journal has them, or an error.
  ///   - own: what is never followed.
  ///   - descriptorLimit: how many files are held open at most, pinned ones apart.
  package init(
    limits: Limits, own: OwnFiles? = nil, descriptorLimit: Int = LinuxHostFiles.defaultDescriptorLimit(),
    storedLeaves: @escaping StoredLeaves
  ) {
    self.limits = limits
    self.own = own
    self.storedLeaves = storedLeaves
    state = Monitor(State(descriptors: DescriptorCache(limit: descriptorLimit)))
    notificationDescriptor = watches.withLock { $0.descriptor?.number }
    linux_ignore_lease_signal()
  }

  /// Raises the process's soft limit of descriptors to the hard one; half of it is for followed files.
  package static func defaultDescriptorLimit() -> Int { max(16, Int(linux_raise_descriptor_limit()) / 2) }

  /// Files held open now.
  package var openDescriptors: Int { state.withLock { $0.descriptors.count } }

  // MARK: Names

  package func watch(_ path: BytePath, isBase: Bool) -> Listing {
    list(path, names: nil, tracing: isBase ? .directory(path) : nil) { directory, inode in
      // Held over both, so that no event is read before its watch is known.
      watches.withLock { $0.watch(path, directory.descriptor, inode) }
    }
  }

  package func unwatch(_ directory: BytePath) { watches.withLock { $0.unwatch(directory) } }

  package func list(_ path: BytePath, names: [[UInt8]]?) -> Listing {
    list(path, names: names, tracing: nil) { _, inode in
      watches.withLock { table in
        if table.isWatched(path, inode) { return true }
        table.unwatch(path)
        return false
      }
    }
  }

  private func list(
    _ path: BytePath, names: [[UInt8]]?, tracing goal: WatchTable.Goal?, isWatched: (Directory, InodeKey) -> Bool
  ) -> Listing {
    var listing = Listing(directory: path, names: names, outcome: .missing, isWatched: false)
    do {
      let way = try walk(path.bytes, from: nil, tracing: goal) { listing.isWayWatched = $0 }
      let directory = try Directory(way.end)
      let fileSystem = try FileSystem.of(directory.descriptor)
      let place = try InodeFacts.of(directory.descriptor)
      listing.place = place
      listing.lent = way.lent
      listing.isWatched = isWatched(directory, place.inode) && fileSystem.isNotified
      let areWatched = listing.isWatched
      var entries = try directory.entries(names) { name throws(SystemError) in
        let goal = WatchTable.Goal.link(directory: path, name: name)
        let mustTrace = areWatched && (names == nil || !watches.withLock { $0.isTraced(goal) })
        return try walk(name, from: directory.descriptor, tracing: mustTrace ? goal : nil)
      }
      markOwn(&entries, at: directory.descriptor.path(), &listing)
      listing.outcome = .entries(entries, filesystem: fileSystem.identifier)
    } catch {
      let isMissing = error.code == ENOENT || error.code == ENOTDIR
      listing.outcome = isMissing ? .missing : .failed("\(error)")
      if isMissing { watches.withLock { $0.lose(path) } }
      listing.isWatched = !isMissing && watches.withLock { $0.isWatched(path) }
    }
    return listing
  }

  /// Walks a way and, for the sake of a goal, watches its steps; `traced` is told whether all of them are watched.
  private func walk(
    _ path: [UInt8], from start: Descriptor?, tracing goal: WatchTable.Goal?, traced: (Bool) -> Void = { _ in }
  ) throws(SystemError) -> Way {
    guard let goal, var tracing = watches.withLock({ $0.tracing(goal) }) else {
      return try Way.walk(path, from: start, user: user) { _, _ in }
    }
    // The first step of a link is its own name, in a directory that is watched.
    var isOwnName = start != nil
    defer {
      watches.withLock { $0.end(tracing) }
      traced(tracing.isComplete)
    }
    return try Way.walk(path, from: start, user: user) { directory, name in
      defer { isOwnName = false }
      guard !isOwnName else { return }
      let isNotified = (try? FileSystem.of(directory).isNotified) ?? false
      watches.withLock { $0.step(&tracing, in: directory, name, isNotified: isNotified) }
    }
  }

  private func markOwn(_ entries: inout [DirectoryEntry], at path: BytePath?, _ listing: inout Listing) {
    guard let own else { return }
    // After the entries were looked at: a key that was renewed meanwhile is known by now.
    own.refresh()
    listing.isOwn = own.holds(listing.place?.inode, at: path)
    for index in entries.indices {
      entries[index].isOwn = listing.isOwn || own.holds(entries[index].facts?.inode, at: entries[index].realPath)
    }
  }

  package func hints() -> [WatchHint] { watches.withLock { $0.hints() } }

  // MARK: Files

  package func attach(_ id: FileID, file: FileUUID, inode: InodeKey, path: BytePath) {
    let followed = FollowedFile(file: file, inode: inode, place: .init(path: path), limits: limits)
    let hasRoom = state.withLock { state in
      state.files[id] = followed
      return state.descriptors.hasRoom
    }
    // Opened early where that costs no other file its descriptor: a name may be gone a moment later (S11).
    if hasRoom { _ = descriptor(id) }
  }

  package func relocate(_ id: FileID, path: BytePath, isPinned: Bool) {
    let isHeld = state.withLock { state in
      state.files[id]?.place.withLock { $0 = FollowedFile.Place(path: path, isPinned: isPinned) }
      state.descriptors.setPinned(id, isPinned)
      return state.descriptors.descriptor(id) != nil
    }
    if isPinned, !isHeld { _ = descriptor(id) }
  }

  package func reborn(_ id: FileID, as next: FileID, file: FileUUID) {
    state.withLock { state in
      guard let old = state.files.removeValue(forKey: id) else { return }
      state.files[next] = FollowedFile(
        file: file, inode: old.inode, place: old.place.withLock { $0 }, limits: limits)
      state.descriptors.rename(id, to: next)
    }
  }

  package func release(_ id: FileID) {
    state.withLock { state in
      state.files[id] = nil
      state.descriptors.remove(id)
    }
  }

  /// The file with its descriptor, opened if it isn't. Nil when it isn't attached.
  private func descriptor(_ id: FileID) -> (FollowedFile, FollowedFile.Opening)? {
    let (known, held) = state.withLock { ($0.files[id], $0.descriptors.descriptor(id)) }
    guard let file = known else { return nil }
    if let held { return (file, .open(held)) }
    var opening = file.open()
    if case .failed(let error) = opening, [EMFILE, ENFILE].contains(error.code),
      state.withLock({ $0.descriptors.evict() })
    {
      opening = file.open()
    }
    guard case .open(let opened) = opening else { return (file, opening) }
    state.withLock { state in
      guard state.files[id] === file else { return }
      state.descriptors.insert(opened, id, isPinned: file.place.withLock { $0.isPinned })
    }
    return (file, opening)
  }

  // MARK: Bytes

  package func ingest(_ id: FileID, from: UInt64, root: Digest, limit: Int) -> IngestAnswer {
    guard let (file, opening) = descriptor(id) else { return .gone }
    switch opening {
    case .gone: return .gone
    case .failed(let error): return .failed("\(error)")
    case .open(let source):
      return scratch.withBuffer { buffer in
        file.ingestor.withLock { ingestor in
          ingestor.ingest(
            source, file: file.file, from: from, root: root, limit: limit, scratch: buffer,
            storedLeaves: { try storedLeaves(file.file, $0) })
        }
      }
    }
  }

  package func probeWriters(_ id: FileID) -> Bool? {
    guard case .some((_, .open(let file))) = descriptor(id) else { return nil }
    switch linux_probe_writers(file.number) {
    case 0: return false
    case 1: return true
    default: return nil
    }
  }

  package func computeRoot(_ id: FileID, length: UInt64) -> Digest? {
    guard case .some((let file, .open(let source))) = descriptor(id) else { return nil }
    return try? Ingestor<SHA256Tree>.root(
      at: length, of: source, limits: limits, storedLeaves: { try storedLeaves(file.file, $0) })
  }

  package func read(_ id: FileID, offset: UInt64, length: Int) throws(PayloadUnavailable) -> [UInt8] {
    switch descriptor(id)?.1 {
    case nil, .gone: throw PayloadUnavailable(reason: "no name leads to the file")
    case .failed(let error): throw PayloadUnavailable(reason: "\(error)")
    case .open(let source):
      do {
        let bytes = try source.bytes(at: offset, count: length)
        guard bytes.count == length else { throw PayloadUnavailable(reason: "the file is shorter now") }
        return bytes
      } catch {
        throw error as? PayloadUnavailable ?? PayloadUnavailable(reason: "\(error)")
      }
    }
  }
}
