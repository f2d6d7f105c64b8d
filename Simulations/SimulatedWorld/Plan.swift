/// One run as text: seed, knobs, timed operations. Seeds rot with the code that draws from them; plans don't.
package struct Plan: Hashable, Sendable {
  package var seed: UInt64
  package var knobs: Knobs
  /// Ordered by time; equal times in the order of this list.
  package var operations: [TimedOperation]
  /// One failure at one effect.
  package var strike: Strike?

  package init(seed: UInt64, knobs: Knobs = Knobs(), operations: [TimedOperation] = []) {
    self.seed = seed
    self.knobs = knobs
    self.operations = operations
  }
}

package struct TimedOperation: Hashable, Sendable {
  /// Nanoseconds of virtual time.
  package var time: UInt64
  package var operation: Operation
  package init(time: UInt64, operation: Operation) {
    self.time = time
    self.operation = operation
  }
}

/// What the bytes of an append look like. Unique payload would hide every bug of identity by content.
package enum PayloadKind: String, Hashable, Sendable, CaseIterable {
  /// Lines with writer, sequence, length and check.
  case unique
  /// The same banner in every file, whatever the position.
  case banner
  /// One line for ever.
  case line
  /// NUL bytes.
  case zero
}

/// What writers, rotators, the operator and the faults do. Anything that makes no sense when its turn comes (a rename
/// of a name that isn't there) does nothing, so that any operation can be left out of a plan.
package enum Operation: Hashable, Sendable {
  /// The writer opens the path with O_APPEND and O_CREAT and closes what it had open.
  case open(host: Int, writer: Int, path: String)
  case append(host: Int, writer: Int, count: Int, kind: PayloadKind)
  case close(host: Int, writer: Int)
  case rename(host: Int, from: String, to: String)
  case unlink(host: Int, path: String)
  case hardLink(host: Int, from: String, to: String)
  /// Replaces a symbolic link of that name.
  case symbolicLink(host: Int, target: String, path: String)
  case makeDirectory(host: Int, path: String)
  case removeDirectory(host: Int, path: String)
  case truncate(host: Int, path: String, length: Int)
  /// Copies to a new file; after `delay` truncates the original (logrotate's copytruncate).
  case copyTruncate(host: Int, path: String, copy: String, delay: UInt64)
  /// Renames `path.keep-1` ... `path` up by one, with pauses; the oldest is removed. Then creates `path` when `creates`.
  case rotate(host: Int, path: String, keep: Int, pause: UInt64, creates: Bool)

  case start(Node)
  case stop(Node)
  case kill(Node)
  case powerCut(Node)
  /// The process dies instead of performing its n-th effect from now on; the service manager starts it again.
  case killAfter(Node, effects: Int)
  case pause(Node, duration: UInt64)
  /// The wall clock jumps by so many seconds.
  case stepClock(Node, seconds: Int)

  case reset(host: Int, server: Int)
  /// Nothing passes in this direction; nobody is told.
  case partition(host: Int, server: Int, toServer: Bool, duration: UInt64)
  /// Bytes wait and come later.
  case clog(host: Int, server: Int, toServer: Bool, duration: UInt64)
  /// The next deliveries come in pieces of 1 to 7 bytes.
  case shred(host: Int, server: Int, duration: UInt64)

  /// The hints of inotify: everything is replaced by one overflow.
  case overflow(host: Int)
  case dropHints(host: Int, duration: UInt64)
  case duplicateHints(host: Int, duration: UInt64)
  case delayHints(host: Int, duration: UInt64)

  case fault(Node, FaultKind, duration: UInt64)
  /// EACCES for one directory or file of a host.
  case deny(host: Int, path: String, duration: UInt64)
  case disturb(Disturbance)
}

package enum FaultKind: String, Hashable, Sendable, CaseIterable {
  /// A host's open calls fail.
  case emfile
  /// Reads of log files or plain files fail with EIO.
  case readError
  /// A host's reads are interrupted (EINTR).
  case interrupted
  /// What a host has open becomes stale (ESTALE).
  case stale
  /// Reads come in short pieces.
  case shortReads
  /// The disk has no room: writes of plain files, creations.
  case diskFull
  /// Writes fail with EIO.
  case writeError
  /// The store's commits fail with `.full`.
  case storeFull
  /// A server's store can't be read.
  case storeUnreadable
  /// The next sync of a plain file fails and marks its pages clean.
  case failSync
  /// The next sync of a directory fails.
  case failDirectorySync
  /// Every disk operation takes a hundred times as long.
  case slowDisk
  /// The stores' next commit fails for good.
  case failStoreSync
  /// Until the node's next start its store refuses one row of the next commit that has any (P5).
  case refuseRow
}

package enum Node: Hashable, Sendable, Comparable {
  case host(Int)
  case server(Int)
  package static func < (l: Node, r: Node) -> Bool { l.order < r.order }
  private var order: (Int, Int) {
    switch self {
    case .host(let index): (0, index)
    case .server(let index): (1, index)
    }
  }
}
