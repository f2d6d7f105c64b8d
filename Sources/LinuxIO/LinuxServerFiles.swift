import CLinux
package import DataPlane
import Glibc
package import JournalModel

/// Received bytes in memory and plain files below a log root, as `ServerCore` arranges them. Every call is safe from
/// every thread; `ServerDataPlane` says which may run at the same time.
package final class LinuxServerFiles: ServerDataPlane, Sendable {
  /// Hashes of the first n complete leaves of a string that are committed, or an error.
  package typealias StoredLeaves = @Sendable (StringKey, UInt64) throws -> [Digest]
  /// What the store's log has of a range of a string, in order, or an error.
  package typealias LoggedBytes = @Sendable (StringKey, Range<UInt64>) throws -> [(offset: UInt64, bytes: [UInt8])]

  private struct State {
    var frames: [PayloadID: [UInt8]] = [:]
    var strings: [StringKey: HeldString] = [:]
    /// Of what was freed, hence committed: a peer that is told of it asks for it at once.
    var freed = RecentBytes<StringKey>(limit: 1 << 20, mostOfOne: LinuxServerFiles.little)
  }
  private let state = Monitor(State())
  private let limits: Limits
  private let storedLeaves: StoredLeaves
  private let loggedBytes: LoggedBytes
  let files: PlainFiles
  private let direct = DirectWrites()
  /// One at a time: a link is compared with what stands there, then replaced.
  let linking = Monitor(())
  /// Bytes that are hashed in about ten microseconds.
  private static let little = 16 << 10
  /// From this many on, files are synced by one `syncfs` instead of one by one (P2).
  private static let manyFiles = 17

  /// - Parameter root: the log root, which must exist.
  package init(
    root: BytePath, limits: Limits, descriptorLimit: Int = LinuxHostFiles.defaultDescriptorLimit() / 2,
    storedLeaves: @escaping StoredLeaves, loggedBytes: @escaping LoggedBytes
  ) throws(SystemError) {
    self.limits = limits
    self.storedLeaves = storedLeaves
    self.loggedBytes = loggedBytes
    files = PlainFiles(root: try LogRoot(root), descriptorLimit: descriptorLimit)
  }

  /// For tests: over files in a state that can't be brought about otherwise.
  init(files: PlainFiles, limits: Limits) {
    self.files = files
    self.limits = limits
    storedLeaves = { _, _ in throw SourceFailure("no leaves are stored") }
    loggedBytes = { _, _ in [] }
  }

  /// What is mounted below the log root or over it; nil without `/proc`.
  package func mounts() -> LogRootMounts? { files.root.mounts() }

  private func string(_ key: StringKey) -> HeldString {
    state.withLock { state in
      if let known = state.strings[key] { return known }
      let new = HeldString(key: key, limits: limits)
      state.strings[key] = new
      return new
    }
  }

  /// Nothing is kept of one that isn't in memory.
  private func known(_ key: StringKey) -> HeldString {
    state.withLock { $0.strings[key] } ?? HeldString(key: key, limits: limits)
  }

  // MARK: Received bytes

  package func hold(_ id: PayloadID, bytes: [UInt8]) { state.withLock { $0.frames[id] = bytes } }

  package func admit(_ id: PayloadID, to key: StringKey, offset: UInt64) {
    admitTail(id, to: key, offset: offset, dropping: 0)
  }

  package func admitTail(_ id: PayloadID, to key: StringKey, offset: UInt64, dropping: Int) {
    guard let bytes = state.withLock({ $0.frames.removeValue(forKey: id) }) else {
      preconditionFailure("a frame is admitted once, and only while it is held")
    }
    string(key).state.withLock {
      $0.queue.append(bytes.dropFirst(dropping), at: offset + UInt64(dropping), of: bytes.count)
    }
  }

  package func drop(_ id: PayloadID) { state.withLock { _ = $0.frames.removeValue(forKey: id) } }

  package func compare(
    _ id: PayloadID, with key: StringKey, in segment: Segment, offset: UInt64, count: Int
  ) -> Bool? {
    guard let frame = state.withLock({ $0.frames[id] }), frame.count >= count,
      let held = try? heldBytes(string(key), segment, offset: offset, count: count)
    else { return nil }
    return held.elementsEqual(frame.prefix(count))
  }

  package func probe(
    _ id: PayloadID, against key: StringKey, in segment: Segment, offset: UInt64, count: Int
  ) -> ProbeAnswer {
    guard var frame = state.withLock({ $0.frames[id] }), frame.count >= count else { return .unreadable }
    let string = string(key)
    let answer = string.probe.withLock { probe in
      try? probe.answer(
        &frame, offset: offset, count: count, storedLeaves: { try storedLeaves(key, $0) },
        held: { offset, count in try heldBytes(string, segment, offset: offset, count: count) })
    }
    guard let answer else { return .unreadable }
    state.withLock { state in if state.frames[id] != nil { state.frames[id] = frame } }
    return answer
  }

  package func root(of key: StringKey, in segment: Segment, length: UInt64) -> Digest? {
    let string = known(key)
    return try? StringProbe<SHA256Tree>.root(
      at: length, leafSize: limits.leafSize, storedLeaves: { try storedLeaves(key, $0) },
      held: { offset, count in try heldBytes(string, segment, offset: offset, count: count) })
  }

  package func read(
    _ key: StringKey, in segment: Segment, offset: UInt64, count: Int, behind head: [UInt8]
  ) -> [UInt8]? {
    guard let bytes = try? heldBytes(known(key), segment, offset: offset, count: count), bytes.count == count else {
      return nil
    }
    return head + bytes
  }

  /// The same of what is in memory; nil if it isn't.
  package func readAtOnce(_ key: StringKey, offset: UInt64, count: Int, behind head: [UInt8]) -> [UInt8]? {
    let (known, freed) = state.withLock { ($0.strings[key], $0.freed.bytes(of: key, at: offset, count: count)) }
    if let freed { return head + freed }
    guard count <= Self.little else { return nil }
    return known?.state.withLock { $0.queue.bytes(offset..<offset.saturatingAdding(UInt64(count))) }.map { head + $0 }
  }

  package func verify(
    _ key: StringKey, in segment: Segment, from: UInt64, root: Digest, promises: [Promise]
  ) -> VerifyAnswer {
    let string = string(key)
    return string.verifier.withLock { verifier in
      verify(string, &verifier, in: segment, from: from, root: root, promises: promises)
    }
  }

  /// The same where it is done in microseconds: nothing has to be read for it, and little to be hashed. Nil where it isn't.
  package func verifyAtOnce(
    _ key: StringKey, in segment: Segment, from: UInt64, root: Digest, promises: [Promise]
  ) -> VerifyAnswer? {
    guard let end = promises.last?.length, end.saturatingSubtracting(from) <= Self.little else { return nil }
    let string = string(key)
    return string.verifier.withLock { verifier in
      guard verifier.stands(at: from, root: root) else { return nil }
      return verify(string, &verifier, in: segment, from: from, root: root, promises: promises)
    }
  }

  private func verify(
    _ string: HeldString, _ verifier: inout StringVerifier<SHA256Tree>, in segment: Segment, from: UInt64, root: Digest,
    promises: [Promise]
  ) -> VerifyAnswer {
    verifier.verify(
      file: string.key.key.file, from: from, root: root, promises: promises,
      received: { range in string.state.withLock { $0.queue.pieces(range) } },
      storedLeaves: { try storedLeaves(segment.holder(of: string.key, at: from), $0) },
      held: { offset, count in try heldBytes(string, segment, offset: offset, count: count) })
  }

  /// Whether few received bytes of it are in memory: moving or freeing them takes microseconds.
  package func holdsLittle(_ key: StringKey) -> Bool {
    state.withLock { $0.strings[key] }?.state.withLock { $0.queue.byteCount <= Self.little } ?? true
  }

  package func discard(_ key: StringKey, from: UInt64) { string(key).state.withLock { $0.queue.discard(from: from) } }

  package func queued(_ key: StringKey, offset: UInt64, length: Int) -> [UInt8] {
    guard let bytes = string(key).state.withLock({ $0.queue.bytes(offset..<(offset + UInt64(length))) }) else {
      preconditionFailure("these bytes are not queued")
    }
    return bytes
  }

  package func free(_ key: StringKey, below: UInt64) {
    let (start, freed) = string(key).state.withLock { state in
      let start = state.queue.start
      let isLittle = start < below && below - start <= UInt64(Self.little)
      let freed = isLittle ? state.queue.bytes(start..<below) : nil
      state.queue.free(below: below)
      state.floor = max(state.floor, below)
      return (start, freed)
    }
    if let freed { state.withLock { $0.freed.note(freed, of: key, at: start) } }
  }

  package func forget(_ key: StringKey) { state.withLock { _ = $0.strings.removeValue(forKey: key) } }

  /// Committed bytes: from the queue what isn't folded yet, else as they are stored.
  private func heldBytes(_ string: HeldString, _ segment: Segment, offset: UInt64, count: Int) throws -> [UInt8] {
    let queue = string.state.withLock { $0.queue }
    return try queue.bytes(offset: offset, count: count) { offset, count in
      guard offset >= segment.start else { throw SourceFailure("bytes before the plain file's first") }
      let range = offset..<offset.saturatingAdding(UInt64(count))
      return try StoredBytes.read(range, log: try loggedBytes(string.key, range)) { offset, count in
        try files.open(segment.path).bytes(at: offset - segment.start, count: count)
      }
    }
  }

  // MARK: Plain files

  /// What `create` will need of directories; what `link` will, which needn't be durable: it is told again after a start.
  package func paving(for stored: BytePath) -> Paving { Paving(stored.directory) }
  package func paving(forLink path: BytePath, of host: HostName) -> Paving {
    Paving(latest(path, of: host).directory, isDurable: false)
  }

  /// Makes a turn's worth of directories. False when there is nothing more to make ahead, or when it failed, which who
  /// needs them will find out.
  package func makesMore(_ paving: inout Paving) -> Bool {
    guard files.failure == nil else { return false }
    return (try? files.pave(&paving)) == false
  }

  package func create(_ key: StringKey, _ segment: Segment, adopts: Bool) -> CreateOutcome {
    if let failure = files.failure { return .failedSync(failure) }
    let stored = segment.path
    do {
      let directory = try files.makeDirectories(stored.directory)
      guard let file = try made(stored, adopts: adopts) else { return .taken }
      try files.syncing { () throws(SystemError) in
        try file.sync()
        try directory.sync()
      }
      files.keep(file, stored)
      string(key).settle(segment, length: segment.start)
      return .created
    } catch {
      return CreateOutcome(error)
    }
  }

  /// Makes the file, or finds it empty where it `adopts`: a crash came between its creation and the row that says so. Nil
  /// when something else has the name.
  private func made(_ path: BytePath, adopts: Bool) throws -> Descriptor? {
    do {
      return try files.root.open(path, O_RDWR | O_CREAT | O_EXCL, mode: 0o640)
    } catch  where error.code == EEXIST {
      guard adopts else { return nil }
      let found = try files.root.open(path, linux_O_PATH)
      guard try found.kind() == linux_regular_file, try found.size() == 0 else { return nil }
      return try files.root.open(path, O_RDWR | O_NONBLOCK)
    } catch {
      throw files.root.misplaced(path, error) ?? error
    }
  }

  package func write(
    _ key: StringKey, _ segment: Segment, from: UInt64, upTo: UInt64, sync: Bool
  ) -> DiskOutcome {
    if let failure = files.failure { return .failedSync(failure) }
    let stored = segment.path
    do {
      let file = try files.open(stored)
      let facts = try file.facts()
      guard facts.links > 0 else {
        files.forget(stored)
        throw Misplaced.removed
      }
      let pieces = try string(key).pieces(from..<upTo, segment, size: facts.size)
      files.touch(stored)
      defer { files.touch(stored) }
      let position = from - segment.start
      // What is synced at once gains nothing by the page cache.
      if sync { try direct.write(pieces, to: file, at: position) } else { try file.writeFully(pieces, at: position) }
    } catch {
      return DiskOutcome(error)
    }
    return sync ? self.sync([stored]) : .done
  }

  package func sync(_ stored: [BytePath]) -> DiskOutcome {
    if let failure = files.failure { return .failedSync(failure) }
    do {
      if stored.count >= Self.manyFiles {
        try files.syncEverything()
      } else {
        for path in stored { try files.sync(path) }
      }
      return .done
    } catch {
      return DiskOutcome(error)
    }
  }

  package func repair(
    _ key: StringKey, _ segment: Segment, synced: UInt64, committed: UInt64,
    log: [(offset: UInt64, bytes: [UInt8])], leftover: UInt64?
  ) -> RepairOutcome {
    let start = segment.start
    guard start <= synced, synced <= committed, log.allSatisfy({ $0.offset >= start }) else {
      return .failed("bytes before the plain file's first")
    }
    let repair = PlainFileRepair(
      files: files, stored: segment.path, synced: synced - start, committed: committed - start,
      log: log.map { ($0.offset - start, $0.bytes) }, leftover: leftover)
    do {
      // What is open may be a file that lost this name.
      files.forget(segment.path)
      let aside = try repair.perform()
      string(key).settle(segment, length: committed)
      return aside.map { .setAside($0) } ?? .done
    } catch {
      return RepairOutcome(error)
    }
  }
}
