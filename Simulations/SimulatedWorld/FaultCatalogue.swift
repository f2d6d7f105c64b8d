/// Every kind of fault that the generator can draw, and those that strike by chance.
package enum FaultCatalogue {
  /// Of 7,000 seeds (1 to 4,000, 3405691582 to 3405694581) so many had the kind; all others struck in at least 198 of them.
  private static let rare = [
    "unlink undone server": 32,
    "read EIO of a page server": 47,
    "send buffer full for minutes": 40,
    "write lost server": 91,
    "write misdirected server": 103,
    "read EIO of a page once server": 125,
  ]
  private static let measured = 7_000
  private static let leastOfOthers = 198

  private static let ofHostsAndServers = [
    "failStoreSync", "kill", "pause", "power cut", "readError", "refuseRow", "slowDisk", "stop", "storeFull",
  ]

  private static let others = [
    "append after rename", "backup server", "bandwidth capped", "bit rot server", "clock drift", "clock freeze",
    "clock step", "clog", "compress", "copytruncate", "copytruncate with writes between", "crash host at effect",
    "crash server at effect", "create or rename undone server", "cut at a frame's boundary", "delay hints",
    "delete while open", "deliveries beside boundaries", "deny", "directory sync failed server", "diskFull server",
    "drop hints", "duplicate hints", "emfile host", "failDirectorySync server", "failSync server",
    "fault between servers",
    "file in an unwatched directory", "half-open connection", "hang host", "hard link", "hint coalesced",
    "hint duplicated",
    "hint lost", "hint overflow", "hole", "inode number reused", "interrupted host", "latency tail",
    "old connection drains", "overflow", "overwrite in place", "page dropped server", "page garbage server",
    "page kept server", "page torn server", "partition", "pause host for hours", "pause server for hours",
    "read EINTR host", "read EIO of a page host", "read EIO of a page once host", "read EIO server",
    "read ESTALE host", "refill to the same size", "rename", "reset", "rotate", "rotation during a listing",
    "send buffer full", "server added", "server removed", "server replaced empty", "several writers on one file",
    "shortReads host", "shred", "single bytes", "stale host", "storeUnreadable server", "store restored from a backup",
    "swizzle-clog",
    "symbolic link swap", "sync failed server", "truncate", "truncate to non-zero", "unlink", "watch refused",
    "writeError server", "writers while the node is down",
  ]

  package static let kinds: [String] =
    (others + rare.keys + Attack.allCases.map { "attack \($0.rawValue)" }
    + ofHostsAndServers.flatMap { ["\($0) host", "\($0) server"] }).sorted()

  /// How many seeds must show the kind: so many that 20 of them are to be expected to. A swarm of that size lacks a kind
  /// by chance once in 5 * 10^8.
  package static func seedsNeeded(for kind: String) -> Int { 20 * measured / (rare[kind] ?? leastOfOthers) }

  /// What a swarm of so many seeds ought to have met and hasn't.
  package static func missing(from counts: [String: Int], seeds: Int) -> [String] {
    kinds.filter { counts[$0, default: 0] == 0 && seeds >= seedsNeeded(for: $0) }
  }
}
