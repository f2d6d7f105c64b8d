package import JournalModel

/// Names and bytes on a host, as `HostCore` asks for them by effects. Implemented by `LinuxIO` on real files and by
/// `SimulatedWorld` on simulated ones; one conformance suite holds both (`DataPlaneConformance`).
///
/// Calls are synchronous and may block on the disk; a driver decides where they run. Calls about different files may
/// run at the same time on different threads, and `read` and `computeRoot` beside an `ingest` of the same file.
package protocol HostDataPlane: AnyObject {
  /// Places a watch on the directory if it can, then lists all of it, in this order (F1). What leads to it is watched
  /// likewise, wherever a name decides where the path leads: for a base every component of its path, and always the way of
  /// each symbolic link that is in it, also to what isn't there yet.
  /// - Parameter known: if the directory has stood still since, only these names are looked at (K6).
  func watch(_ directory: BytePath, isBase: Bool, known: KnownDirectory?) -> Listing
  func unwatch(_ directory: BytePath)
  /// `names` nil: all of it.
  func list(_ directory: BytePath, names: [[UInt8]]?) -> Listing
  /// What the watches have said since the last call. Never blocks.
  func hints() -> [WatchHint]

  func attach(_ id: FileID, file: FileUUID, inode: InodeKey, path: BytePath)
  func relocate(_ id: FileID, path: BytePath, isPinned: Bool)
  func reborn(_ id: FileID, as next: FileID, file: FileUUID)
  func release(_ id: FileID)

  func ingest(_ id: FileID, from: UInt64, root: Digest, limit: Int) -> IngestAnswer
  func probeWriters(_ id: FileID) -> Bool?
  func computeRoot(_ id: FileID, length: UInt64) -> Digest?
  /// Exactly `length` bytes from `offset` on, as they are in the file now.
  func read(_ id: FileID, offset: UInt64, length: Int) throws(PayloadUnavailable) -> [UInt8]
}

extension HostDataPlane {
  package func watch(_ directory: BytePath, isBase: Bool) -> Listing { watch(directory, isBase: isBase, known: nil) }
}

/// The bytes can't be read in full: truncated, gone, EIO, ...
package struct PayloadUnavailable: Error, Hashable, Sendable {
  package var reason: String
  package init(reason: String) { self.reason = reason }
}
