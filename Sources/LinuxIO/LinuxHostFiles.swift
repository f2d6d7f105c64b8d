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
  private let scratch = ScratchBuffers(byteCount: 256 << 10)

  /// Readable when `hints` has something; nil when the machine gave no inotify instance.
  package let notificationDescriptor: Int32?

  /// - Parameters:
  ///   - storedLeaves: hashes of the first n complete leaves as the journal has them, or an error.
  ///   - descriptorLimit: how many files are held open at most, pinned ones apart.
  package init(
    limits: Limits, descriptorLimit: Int = LinuxHostFiles.defaultDescriptorLimit(),
    storedLeaves: @escaping StoredLeaves
  ) {
    self.limits = limits
    self.storedLeaves = storedLeaves
    state = Monitor(State(descriptors: DescriptorCache(limit: descriptorLimit)))
    notificationDescriptor = watches.withLock { $0.descriptor?.number }
    linux_ignore_lease_signal()
  }

  /// Raises the process's soft limit of descriptors to the hard one; half of it is for followed files.
  package static func defaultDescriptorLimit() -> Int { max(16, Int(linux_raise_descriptor_limit()) / 2) }

  /// How many files may be pinned at once, so that others still find a place.
  package var mostPinned: Int { state.withLock { max(1, $0.descriptors.limit - $0.descriptors.limit / 4) } }

  /// Files held open now.
  package var openDescriptors: Int { state.withLock { $0.descriptors.count } }

  // MARK: Names

  package func watch(_ path: BytePath) -> Listing {
    list(path, names: nil) { directory in
      // Held over both, so that no event is read before its watch is known.
      watches.withLock { $0.watch(path, directory.descriptor) }
    }
  }

  package func unwatch(_ directory: BytePath) { watches.withLock { $0.unwatch(directory) } }

  package func list(_ path: BytePath, names: [[UInt8]]?) -> Listing {
    list(path, names: names) { _ in watches.withLock { $0.isWatched(path) } }
  }

  private func list(_ path: BytePath, names: [[UInt8]]?, isWatched: (Directory) -> Bool) -> Listing {
    var listing = Listing(directory: path, names: names, outcome: .missing, isWatched: false)
    do {
      let directory = try Directory(path)
      let fileSystem = try FileSystem.of(directory.descriptor)
      listing.isWatched = isWatched(directory) && fileSystem.isNotified
      listing.device = try directory.descriptor.device()
      listing.outcome = .entries(try directory.entries(names), filesystem: fileSystem.identifier)
    } catch {
      let isMissing = error.code == ENOENT || error.code == ENOTDIR
      listing.outcome = isMissing ? .missing : .failed("\(error)")
      if isMissing { unwatch(path) }
      listing.isWatched = watches.withLock { $0.isWatched(path) }
    }
    return listing
  }

  package func hints() -> [WatchHint] { watches.withLock { $0.hints() } }

  // MARK: Files

  package func attach(_ id: FileID, file: FileUUID, inode: InodeKey, path: BytePath) {
    let followed = FollowedFile(file: file, place: .init(path: path, inode: inode), limits: limits)
    let hasRoom = state.withLock { state in
      state.files[id] = followed
      return state.descriptors.hasRoom
    }
    // Opened early where that costs no other file its descriptor: a name may be gone a moment later (S11).
    if hasRoom { _ = descriptor(id) }
  }

  package func relocate(_ id: FileID, path: BytePath, isPinned: Bool) {
    let isHeld = state.withLock { state in
      state.files[id]?.place.withLock { $0.move(to: path, isPinned: isPinned) }
      state.descriptors.setPinned(id, isPinned)
      return state.descriptors.descriptor(id) != nil
    }
    if isPinned, !isHeld { _ = descriptor(id) }
  }

  package func reborn(_ id: FileID, as next: FileID, file: FileUUID) {
    state.withLock { state in
      guard let old = state.files.removeValue(forKey: id) else { return }
      state.files[next] = FollowedFile(
        file: file, place: old.place.withLock { $0 }, limits: limits)
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
      let answer = ingest(file, source, from: from, root: root, limit: limit)
      // Bytes that the inode says it has and the descriptor doesn't give: a union file system that copied the file keeps
      // showing the old copy to those who had it open. The name leads to the new one.
      if answer.outcome == .unchanged, answer.size > from, reopen(id, file),
        case .some((_, .open(let source))) = descriptor(id)
      {
        return ingest(file, source, from: from, root: root, limit: limit)
      }
      return answer
    }
  }

  private func ingest(
    _ file: FollowedFile, _ source: Descriptor, from: UInt64, root: Digest, limit: Int
  ) -> IngestAnswer {
    var answer = scratch.withBuffer { buffer in
      file.ingestor.withLock { ingestor in
        ingestor.ingest(
          source, file: file.file, from: from, root: root, limit: limit, scratch: buffer,
          storedLeaves: { try storedLeaves(file.file, $0) })
      }
    }
    answer.inode = file.renumbered(source)
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
