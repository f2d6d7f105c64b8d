/// Every bound of the system in one place. The simulator shrinks them so that each boundary is crossed within
/// kilobytes; `leafSize` is part of the format and must be 64 KiB outside the simulator.
package struct Limits: Sendable, Hashable {
  /// Bytes per leaf of a file's tree.
  package var leafSize = 65_536
  /// Most bytes that one bytes-appended record covers (J3).
  package var extentSize = 4 << 20
  /// Most payload bytes in one frame. Also the unit of fairness between files on a connection.
  package var payloadFrameSize = 256 << 10
  /// Payload bytes that a host may have sent to a server and not seen acknowledged, per connection.
  package var connectionCredit = 32 << 20
  /// Most records, and most bytes of records, in one frame.
  package var recordsPerFrame = 512
  package var recordBytesPerFrame = 1 << 20
  /// Records that a host may have sent and not seen acknowledged.
  package var recordWindow = 8_192
  /// Files in one resume query.
  package var resumePage = 1_000
  /// Payload up to this size per verified range rides inside the store's commit (P2); more goes straight to the file.
  package var logPayloadSize = 64 << 10
  /// Bytes that the store's log may hold unfolded or unsynced before everything goes straight to the file.
  package var logCapacity = 64 << 20
  /// How long a commit of records waits for the little payload that they promise, when nothing else is to be committed: one
  /// sync serves both. A host sends them right behind each other.
  package var payloadPatience = Interval.milliseconds(2)
  /// Strings about which nothing is going on that a server keeps in memory (K1).
  package var residentStrings = 8_192
  /// Files that ended and may come back that a host keeps in memory (K1).
  package var residentFiles = 1_024
  /// Rows of a host's commit, and notes of each server in it; a step's records about one file may make it larger. LMDB
  /// keeps the memory of the pages of its largest commit for good [births of 100,000 files in one: 50 MB].
  package var commitSize = 1_024
  /// Of a file in a server's memory: signed lengths ahead of its bytes, at most twice as many (K4).
  package var promiseWindow = 64
  /// Bytes written to a plain file between two syncs (P2).
  package var syncSlice = 8 << 20
  /// How many bytes before the known length are compared after each read (D4), and hashed beside the length (D6).
  package var tailSize = 4_096
  /// Time between two bytes-appended records of one file under load, and how many records a file may be ahead of that
  /// after a quiet time (J3).
  package var coalescing = Interval.milliseconds(10)
  package var coalescingBurst = 16
  /// Slow periodic rescan of everything (F1).
  package var rescanInterval = Interval.seconds(60)
  /// A directory that seems to stand still is listed in full all the same when it was last so long ago (K6).
  package var fullListingInterval = Interval.seconds(3_600)
  /// How often files are looked at that inotify can't see: nameless ones, targets of links, unwatched directories.
  package var pollInterval = Interval.milliseconds(500)
  /// How long a removed file is held open after its last bytes where nobody can tell whether a writer has it (F2).
  package var unknownWriters = Interval.seconds(24 * 3_600)
  /// Reconnect backoff: first and greatest delay, jittered by half (W4).
  package var backoffFirst = Interval.milliseconds(200)
  package var backoffLast = Interval.seconds(30)
  package var heartbeat = Interval.seconds(5)
  package var silence = Interval.seconds(20)
  /// How often the machines are told that bytes come.
  package var progress: Interval { Interval(nanoseconds: silence.nanoseconds / 20) }
  /// What brings nothing (`Allowance`): so much at once, and so much a second. A ping, or an unasked answer, is 1.
  package var allowance = 16_384
  package var allowancePerSecond = 256
  /// Retry of a refused file, a failed commit, a failed read.
  package var retry = Interval.seconds(5)
  /// Reads of one file system under way at once; the others wait their turn (F4).
  package var readsAtOnce = 8
  /// What isn't answered within this time (a read, a listing, a name server) is called hung: nothing waits for it.
  package var hungAfter = Interval.seconds(5)
  /// What a peer may have announced, and what may have been asked of it, without an answer (M3).
  package var announcementsAhead = 4_096
  package var wantsAhead = 256
  /// What a host delivers itself is asked of no peer unless it stands still for so long, or lags behind for so long.
  package var peerPatience = Interval.seconds(2)
  package var peerPatienceMost = Interval.seconds(30)

  package init() {}

  /// Before the next attempt to connect, after so many that failed (from 1 on). `chance`: any number; half of the delay is
  /// it, so that those that began together don't go on so.
  package func backoff(after attempts: UInt64, chance: UInt64) -> Interval {
    let factor: UInt64 = 1 << min(max(attempts, 1) - 1, 20)
    let delay = min(backoffFirst.nanoseconds.saturatingMultiplied(by: factor), backoffLast.nanoseconds)
    return Interval(nanoseconds: delay / 2 + chance % (delay / 2 + 1))
  }
}
