import CLinux
package import DataPlane
import Glibc
package import JournalModel
import Synchronization

/// The files and directories of this machine, as `HostCore` follows them.
///
/// Every call is safe from every thread. Calls that list, open or read block on the disk, for ever where a file system
/// hangs. `hints`, `attach`, `relocate`, `reborn` and `release` don't: what they have to open or close is given to `aside`.
package final class LinuxHostFiles: HostDataPlane, Sendable {
  package typealias StoredLeaves = @Sendable (FileUUID, UInt64) throws -> [Digest]
  /// Runs what may hang with that file system, in order with the other work about the file.
  package typealias Aside = @Sendable (Mount, FileID, @escaping @Sendable () -> Void) -> Void

  private struct State {
    private(set) var files = FileSlots<FollowedFile>()
    private var numbers = FileIndex()
    var descriptors: DescriptorCache<FileID>

    init(descriptors: DescriptorCache<FileID>) { self.descriptors = descriptors }

    mutating func insert(_ file: FollowedFile, _ id: FileID) {
      remove(id)
      files[id] = file
      if let number = InodeNumber(file.inode) { numbers.insert(id, number.hash) }
    }

    @discardableResult mutating func remove(_ id: FileID) -> FollowedFile? {
      guard let file = files.removeValue(forKey: id) else { return nil }
      if let number = InodeNumber(file.inode) { numbers.remove(id, number.hash) }
      return file
    }

    /// The file, if it is still the one with this id, is another inode now.
    mutating func renumber(_ id: FileID, _ file: FollowedFile, from old: InodeKey, to new: InodeKey) {
      if let number = InodeNumber(old) { numbers.remove(id, number.hash) }
      if files[id] === file, let number = InodeNumber(new) { numbers.insert(id, number.hash) }
    }

    /// The one that came last with the number, or rarely another one.
    func file(likely number: InodeNumber) -> FollowedFile? {
      var last: FileID?
      _ = numbers.first(number.hash) { id in
        last = id
        return false
      }
      return last.flatMap { files[$0] }
    }
  }
  private let state: Monitor<State>
  private let ingestors = Monitor(RecentIngestors(atMost: 16_384))
  /// What was read of growing files: it is sent right after.
  private let read = Monitor(RecentBytes<FileID>(limit: 1 << 20, mostOfOne: 16 << 10))
  private let watches = Monitor(WatchTable())
  private let limits: Limits
  private let storedLeaves: StoredLeaves
  private let own: OwnFiles?
  /// Nanoseconds, see `FileSystem.margin`.
  private let timeMargin: Int64
  private let user = geteuid()
  private let scratch = ScratchBuffers(byteCount: 256 << 10)
  private let aside: Aside
  package let mounts = MountTable()
  /// The file systems of directories as they were last listed: a path alone may lead through links.
  private let places = Monitor((generation: UInt64(0), mounts: [BytePath: Mount]()))

  /// Readable when `hints` has something; nil when the machine gave no inotify instance.
  package let notificationDescriptor: Int32?
  /// Exceptional (EPOLLPRI), once, when something was mounted or unmounted; nil without procfs.
  package var mountDescriptor: Int32? { mountChanges?.number }
  private let mountChanges = try? Mount.openTable()

  /// - Parameters:
  ///   - storedLeaves: hashes of the first n complete leaves as the journal has them, or an error.
  ///   - own: what is never followed.
  ///   - descriptorLimit: how many files are held open at most, pinned ones apart.
  ///   - timeMargin: how long a directory must have stood still before it is taken to have done so (K6).
  package init(
    limits: Limits, own: OwnFiles? = nil, descriptorLimit: Int = LinuxHostFiles.defaultDescriptorLimit(),
    timeMargin: Interval = Interval(nanoseconds: UInt64(FileSystem.margin)), storedLeaves: @escaping StoredLeaves,
    aside: @escaping Aside = { _, _, work in work() }
  ) {
    self.limits = limits
    self.timeMargin = Int64(clamping: timeMargin.nanoseconds)
    self.own = own
    self.aside = aside
    self.storedLeaves = storedLeaves
    state = Monitor(State(descriptors: DescriptorCache(limit: descriptorLimit)))
    notificationDescriptor = watches.withLock { $0.descriptor?.number }
    linux_ignore_lease_signal()
  }

  /// Raises the process's soft limit of descriptors to the hard one; half of it is for followed files.
  package static func defaultDescriptorLimit() -> Int { max(16, raisedDescriptorLimit() / 2) }

  /// How many descriptors the process may have, raised as far as it goes.
  package static func raisedDescriptorLimit() -> Int { Int(linux_raise_descriptor_limit()) }

  /// How many files may be pinned at once, so that others still find a place.
  package var mostPinned: Int { state.withLock { max(1, $0.descriptors.limit - $0.descriptors.limit / 4) } }

  /// Files held open now.
  package var openDescriptors: Int { state.withLock { $0.descriptors.count } }

  // MARK: Names

  package func watch(_ path: BytePath, isBase: Bool, known: KnownDirectory?) -> Listing {
    list(path, .changes(since: known), tracing: isBase ? .directory(path) : nil) { directory, fileSystem, inode in
      if fileSystem.isNotified {
        // Held over both, so that no event is read before its watch is known.
        return watches.withLock { $0.watch(path, directory.descriptor, inode) }
      }
      // The loop needs the table, and this may hang. What is told before the watch is known, the listing shows.
      guard let inotify = watches.withLock({ $0.descriptor }) else { return false }
      let number = WatchTable.place(inotify, on: directory.descriptor)
      return watches.withLock { $0.note(path, inode, number) }
    }
  }

  package func unwatch(_ directory: BytePath) {
    watches.withLock { $0.unwatch(directory) }
    places.withLock { $0.mounts[directory] = nil }
  }

  package func list(_ path: BytePath, names: [[UInt8]]?) -> Listing {
    list(path, names.map { .names($0) } ?? .changes(since: nil), tracing: nil) { _, _, inode in
      watches.withLock { table in
        if table.isWatched(path, inode) { return true }
        table.unwatch(path)
        return false
      }
    }
  }

  private enum Wanted {
    case names([[UInt8]])
    /// Everything, or what is known if the directory has stood still (K6).
    case changes(since: KnownDirectory?)

    var names: [[UInt8]]? { if case .names(let names) = self { names } else { nil } }
  }

  private func list(
    _ path: BytePath, _ wanted: Wanted, tracing goal: WatchTable.Goal?,
    isWatched: (Directory, FileSystem, InodeKey) -> Bool
  ) -> Listing {
    var listing = Listing(directory: path, names: wanted.names, outcome: .missing, isWatched: false)
    do {
      let way = try walk(path.bytes, from: nil, tracing: goal) { listing.isWayWatched = $0 }
      let directory = try Directory(way.end)
      note(directory, at: path)
      let fileSystem = try FileSystem.of(directory.descriptor)
      let place = try InodeFacts.of(directory.descriptor)
      let before = try Sighting(of: directory.descriptor, place.inode, on: fileSystem)
      listing.place = place
      listing.lent = way.lent
      listing.isWatched = isWatched(directory, fileSystem, place.inode) && fileSystem.isNotified
      let areWatched = listing.isWatched
      let known = SettledInodes(filesystem: fileSystem) { [state] number in
        state.withLock { $0.file(likely: number) }
      }
      func look(_ names: [[UInt8]]?) throws(SystemError) -> [DirectoryEntry] {
        try directory.entries(names, of: before.raw, knowing: known) { name throws(SystemError) in
          let goal = WatchTable.Goal.link(directory: path, name: name)
          let mustTrace = areWatched && (wanted.names == nil || !watches.withLock { $0.isTraced(goal) })
          return try walk(name, from: directory.descriptor, tracing: mustTrace ? goal : nil)
        }
      }
      var entries: [DirectoryEntry]
      switch wanted {
      case .names(let names): entries = try look(names)
      case .changes(let earlier?) where isStill(before, since: earlier):
        entries = try look(earlier.names)
        if isStill(try Sighting(of: directory.descriptor, place.inode, on: fileSystem), since: earlier) {
          listing.names = earlier.names
          listing.isStill = true
        } else {
          entries = try look(nil)
        }
      case .changes: entries = try look(nil)
      }
      if listing.names == nil { listing.stamp = before.stamp(settledBefore: timeMargin) }
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

  private func isStill(_ sighting: Sighting, since known: KnownDirectory) -> Bool {
    sighting.stamp.isStill(since: known.stamp, slack: timeMargin / 2)
  }

  private func note(_ directory: Directory, at path: BytePath) {
    guard let real = directory.descriptor.path() else { return }
    let mount = mounts.mount(of: real)
    places.withLock { if $0.mounts[path] != mount { $0.mounts[path] = mount } }
  }

  /// The file system of a directory, as far as is known without asking it.
  package func mount(ofDirectory path: BytePath) -> Mount {
    let generation = mounts.generation
    let known: Mount? = places.withLock { places in
      if places.generation != generation { places = (generation, [:]) }
      return places.mounts[path]
    }
    return known ?? mounts.mount(of: path)
  }

  /// The file system of an attached file.
  package func mount(of id: FileID) -> Mount { state.withLock { $0.files[id]?.mount } ?? .unknown }
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
    let mount = mount(ofDirectory: path.directory)
    let followed = FollowedFile(file: file, mount: mount, place: .init(path: path, inode: inode))
    let hasRoom = state.withLock { state in
      state.insert(followed, id)
      return state.descriptors.hasRoom
    }
    // Opened early where that costs no other file its descriptor: a name may be gone a moment later (S11).
    if hasRoom { aside(mount, id) { [self] in _ = descriptor(id) } }
  }

  package func relocate(_ id: FileID, path: BytePath, isPinned: Bool) {
    let (file, isHeld) = state.withLock { state in
      state.files[id]?.place.withLock { $0.move(to: path, isPinned: isPinned) }
      state.descriptors.setPinned(id, isPinned)
      return (state.files[id], state.descriptors.descriptor(id) != nil)
    }
    if let file, isPinned, !isHeld { aside(file.mount, id) { [self] in _ = descriptor(id) } }
  }

  package func reborn(_ id: FileID, as next: FileID, file: FileUUID) {
    state.withLock { state in
      guard let old = state.remove(id) else { return }
      state.insert(FollowedFile(file: file, mount: old.mount, place: old.place.withLock { $0 }), next)
      state.descriptors.rename(id, to: next)
    }
    read.withLock { $0.forget(id) }
    _ = ingestors.withLock { $0.take(id) }
  }

  package func release(_ id: FileID) {
    let (file, held) = state.withLock { ($0.remove(id), $0.descriptors.remove(id)) }
    read.withLock { $0.forget(id) }
    _ = ingestors.withLock { $0.take(id) }
    // The last to have it frees the bytes of a removed file, which takes its time on any disk.
    if let file, let held { aside(file.mount, id) { withExtendedLifetime(held) {} } }
  }

  /// Closes descriptors that were let go on behalf of a file of `mount`.
  private func close(_ gone: [(key: FileID, Descriptor)], insteadOf mount: Mount) {
    for (id, descriptor) in gone {
      let other = self.mount(of: id)
      if other.isRemote, other != mount { aside(other, id) { withExtendedLifetime(descriptor) {} } }
    }
  }

  private func evict(insteadOf mount: Mount) -> Bool {
    guard let gone = state.withLock({ $0.descriptors.evict() }) else { return false }
    close([gone], insteadOf: mount)
    return true
  }

  /// The file with its descriptor, opened if it isn't. Nil when it isn't attached.
  private func descriptor(_ id: FileID) -> (FollowedFile, FollowedFile.Opening)? {
    let (known, held) = state.withLock { ($0.files[id], $0.descriptors.descriptor(id)) }
    guard let file = known else { return nil }
    if let held { return (file, .open(held)) }
    var opening = file.open()
    if case .failed(let error) = opening, [EMFILE, ENFILE].contains(error.code), evict(insteadOf: file.mount) {
      opening = file.open()
    }
    guard case .open(let opened) = opening else { return (file, opening) }
    let gone = state.withLock { state in
      state.files[id] === file
        ? state.descriptors.insert(opened, id, isPinned: file.place.withLock { $0.isPinned }) : []
    }
    close(gone, insteadOf: file.mount)
    return (file, opening)
  }

  // MARK: Bytes

  package func ingest(_ id: FileID, from: UInt64, root: Digest, limit: Int) -> IngestAnswer {
    guard let (file, opening) = descriptor(id) else { return .gone }
    switch opening {
    case .gone: return .gone
    case .failed(let error): return .failed("\(error)")
    case .open(let source):
      let answer = ingest(id, file, source, from: from, root: root, limit: limit)
      // Bytes that the inode says it has and the descriptor doesn't give: a union file system that copied the file keeps
      // showing the old copy to those who had it open. The name leads to the new one.
      if answer.outcome == .unchanged, answer.size > from, reopen(id, file),
        case .some((_, .open(let source))) = descriptor(id)
      {
        return ingest(id, file, source, from: from, root: root, limit: limit)
      }
      return answer
    }
  }

  private func ingest(
    _ id: FileID, _ file: FollowedFile, _ source: Descriptor, from: UInt64, root: Digest, limit: Int
  ) -> IngestAnswer {
    var ingestor = ingestors.withLock { $0.take(id) } ?? Ingestor(limits: limits)
    var answer = scratch.withBuffer { buffer in
      let answer = ingestor.ingest(
        source, file: file.file, from: from, root: root, limit: limit, scratch: buffer,
        storedLeaves: { try storedLeaves(file.file, $0) })
      read.withLock { read in
        if let count = ingestor.readAtOnce {
          read.note(buffer.prefix(count), of: id, at: from)
        } else if answer.outcome != .unchanged {
          read.forget(id)
        }
      }
      return answer
    }
    // Of what was let go of meanwhile nothing is kept.
    if state.withLock({ $0.files[id] === file }) { ingestors.withLock { $0.put(ingestor, id) } }
    if let (old, new) = file.renumbered(source) {
      answer.inode = new
      state.withLock { $0.renumber(id, file, from: old, to: new) }
    }
    return answer
  }

  /// Lets go of the descriptor if the name leads to the same inode.
  private func reopen(_ id: FileID, _ file: FollowedFile) -> Bool {
    guard case .open(let opened) = file.open() else { return false }
    return state.withLock { state in
      guard state.files[id] === file else { return false }
      state.descriptors.insert(opened, id, isPinned: file.place.withLock { $0.isPinned })
      return true
    }
  }

  /// To be called now and then: lets go of what was kept of files that weren't read for some time.
  package func age() { ingestors.withLock { $0.age() } }

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

  /// Journaled bytes that are in memory yet, behind those that go before them; nil if they aren't.
  package func readAtOnce(_ id: FileID, offset: UInt64, length: Int, behind head: [UInt8]) -> [UInt8]? {
    read.withLock { $0.bytes(of: id, at: offset, count: length) }.map { head + $0 }
  }

  package func read(_ id: FileID, offset: UInt64, length: Int) throws(PayloadUnavailable) -> [UInt8] {
    try read(id, offset: offset, length: length, behind: [])
  }

  /// The same, read to where it is sent from: behind the bytes that go before it.
  package func read(
    _ id: FileID, offset: UInt64, length: Int, behind head: [UInt8]
  ) throws(PayloadUnavailable) -> [UInt8] {
    switch descriptor(id)?.1 {
    case nil, .gone: throw PayloadUnavailable(reason: "no name leads to the file")
    case .failed(let error): throw PayloadUnavailable(reason: "\(error)")
    case .open(let source):
      do {
        let bytes = try source.bytes(at: offset, count: length, behind: head)
        guard bytes.count == head.count + length else { throw PayloadUnavailable(reason: "the file is shorter now") }
        return bytes
      } catch {
        throw error as? PayloadUnavailable ?? PayloadUnavailable(reason: "\(error)")
      }
    }
  }
}
