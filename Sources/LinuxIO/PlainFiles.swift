import CLinux
import DataPlane
import Glibc
import JournalModel

/// The plain files below a log root: open ones, which of them hold un-synced bytes, and whether a sync ever failed.
/// Safe from every thread.
final class PlainFiles: Sendable {
  private struct State {
    var descriptors: DescriptorCache<BytePath>
    /// Files with un-synced bytes and how often they were touched. They stay open: an error of writing back is told to
    /// those who have the file open, and to a later opener only as long as the kernel keeps the inode.
    var dirty: [BytePath: UInt64] = [:]
    var failure: String?
  }
  let root: LogRoot
  private let state: Monitor<State>

  init(root: LogRoot, descriptorLimit: Int) {
    self.root = root
    state = Monitor(State(descriptors: DescriptorCache(limit: descriptorLimit)))
  }

  /// Why no byte may be written any more: a sync failed, and the kernel marks pages clean that it lost (P4).
  var failure: String? { state.withLock { $0.failure } }

  /// Does one or more syncs. If one fails, that is remembered, and every later write and sync fails with it.
  func syncing(_ body: () throws(SystemError) -> Void) throws(SyncFailure) {
    do { try body() } catch { throw fail(error) }
  }

  private func fail(_ error: SystemError) -> SyncFailure {
    state.withLock { state in
      let reason = state.failure ?? "\(error)"
      state.failure = reason
      return SyncFailure(reason: reason)
    }
  }

  func makeDirectories(_ path: BytePath) throws -> Descriptor {
    try explaining(path) { () throws(SystemError) in try root.makeDirectories(path) }
  }

  /// Goes on with it by a turn's worth (`LogRoot.pave`). True when all are there.
  func pave(_ paving: inout Paving) throws -> Bool {
    var next = paving
    defer { paving = next }
    return try explaining(paving.path) { () throws(SystemError) in
      try root.pave(&next, most: LogRoot.directoriesAtOnce)
    }
  }

  private func explaining<T>(_ path: BytePath, _ making: () throws(SystemError) -> T) throws -> T {
    do { return try making() } catch {
      if error.call == Descriptor.syncCall { throw fail(error) }
      // What is open is the removed one: a new one of that name is found at the next start.
      if error.code == ENOENT, try root.descriptor.facts().links == 0 {
        throw Misplaced("the log root was removed: put it back and restart this server's node")
      }
      throw root.misplaced(path, error) ?? error
    }
  }

  /// The regular file of that name, for reading and writing.
  func open(_ path: BytePath) throws -> Descriptor {
    if let held = state.withLock({ $0.descriptors.descriptor(path) }) { return held }
    try makeRoom()
    let file: Descriptor
    do { file = try root.open(path, O_RDWR | O_NONBLOCK | O_NOCTTY) } catch {
      throw root.misplaced(path, error) ?? error
    }
    guard try file.kind() == linux_regular_file else {
      throw Misplaced("what has the plain file's name is no regular file: move it away, put the plain file back")
    }
    keep(file, path)
    return file
  }

  func keep(_ file: Descriptor, _ path: BytePath) {
    _ = state.withLock { $0.descriptors.insert(file, path, isPinned: $0.dirty[path] != nil) }
  }

  func forget(_ path: BytePath) { _ = state.withLock { $0.descriptors.remove(path) } }

  /// If all descriptors are held by un-synced files, syncs them.
  private func makeRoom() throws {
    let isFull = state.withLock { state in
      while !state.descriptors.hasRoom { if state.descriptors.evict() == nil { return true } }
      return false
    }
    if isFull { try syncEverything() }
  }

  // MARK: Un-synced bytes

  /// To be called before and after a write: a sync that ran between the two doesn't make the file clean.
  func touch(_ path: BytePath) {
    state.withLock { state in
      state.dirty[path, default: 0] += 1
      state.descriptors.setPinned(path, true)
    }
  }

  /// Makes durable all that was written to the file before the call.
  func sync(_ path: BytePath) throws {
    let file = try open(path)
    try cleaning([path]) { () throws(SystemError) in try file.syncData() }
  }

  /// One `syncfs(2)` for all (P2).
  func syncEverything() throws {
    let paths = state.withLock { Array($0.dirty.keys) }
    try cleaning(paths) { () throws(SystemError) in try root.syncFileSystem() }
  }

  private func cleaning(_ paths: [BytePath], _ body: () throws(SystemError) -> Void) throws(SyncFailure) {
    let before = state.withLock { state in paths.map { state.dirty[$0] } }
    try syncing(body)
    state.withLock { state in
      for (path, count) in zip(paths, before) where count != nil && state.dirty[path] == count {
        state.dirty[path] = nil
        state.descriptors.setPinned(path, false)
      }
    }
  }
}

/// A sync failed: the store stops (P4).
struct SyncFailure: Error, CustomStringConvertible {
  var reason: String
  var description: String { reason }
}

extension Descriptor {
  /// The file type bits of `st_mode`.
  func kind() throws(SystemError) -> UInt32 {
    try rawFacts().mode & linux_file_type
  }
}

extension DiskOutcome {
  init(_ error: any Error) {
    switch error {
    case let failure as SyncFailure: self = .failedSync(failure.reason)
    case let failure as Misplaced: self = .unusable(failure.description)
    default: self = .failed("\(error)")
    }
  }
}

extension CreateOutcome {
  init(_ error: any Error) {
    switch DiskOutcome(error) {
    case .done: self = .created
    case .failed(let text): self = .failed(text)
    case .unusable(let text): self = .unusable(text)
    case .failedSync(let text): self = .failedSync(text)
    }
  }
}

extension RepairOutcome {
  init(_ error: any Error) {
    switch DiskOutcome(error) {
    case .done: self = .done
    case .failed(let text): self = .failed(text)
    case .unusable(let text): self = .unusable(text)
    case .failedSync(let text): self = .failedSync(text)
    }
  }
}
