import JournalModel

/// How much of the small world a search covers.
package struct ExhaustiveScope: Sendable {
  /// The way that payload takes (P2): inside the store's commit, or straight to the plain file and committed then.
  package enum Way: String, Sendable, CaseIterable { case log, bulk }

  /// When work on plain files is done and answered: before anything else happens; at any time, by one worker in the
  /// order in which it was asked for; at any time, for each file by itself. Crashes strike before and after each piece of
  /// it, whichever this is.
  package enum Disk: String, Sendable, CaseIterable { case first, one, free }

  /// Servers, each one every other's peer; the host reaches the first one only. 1 ... 3.
  package var servers = 1
  /// Machines whose fields are equal are one, whatever they were told; between several servers always.
  package var merges = false
  package var areMerged: Bool { merges || servers > 1 }
  /// The host connects when servers are done with greeting each other, which they do in one order only.
  package var isGreeted = false
  /// How often time passes though something else could be done. 0 ... 2.
  package var ticks = 0
  var isDisturbed: Bool { crashes > 0 || breaks > 0 }
  /// Records of files, after the one that opens the journal: births of two files, then bytes of one, of the other.
  /// 1 ... 4.
  package var records = 3
  package var way = Way.log
  /// Frames that a file's bytes come in. 1 ... 3.
  package var frames = 1
  /// Crashes of the server: 0 or 1. It dies alone or with the power.
  package var crashes = 1
  /// Ends of a connection, by a cut of the link or a crash of the host: to the server they are one, and so they are to
  /// this host, of which nothing but its journal outlives a connection. 0 ... 2.
  package var breaks = 2
  /// Frames that the records come in, the last ones alone. 1 ... `records`.
  package var recordFrames = 1
  package var disk = Disk.first
  /// Files beside those about which something is going on that the server keeps in memory (K1): with none, a file is
  /// loaded whenever it is used, and with 2 only to learn that it isn't there, and after a start.
  package var resident = 0
  /// States after which the search gives up.
  package var mostStates = 20_000_000
  package var mutant: Mutant?
  package init() {}

  /// Planted bugs whose doors this world has.
  package static let mutants: [Mutant] = [
    .acknowledgeOnReceipt, .acknowledgeRecordsOnReceipt, .acknowledgeBeforeSync, .writeWithoutSync,
    .forgetServerCommit, .forgetPromises, .trimEarly, .announceLate, .olderRow, .partialLoad, .countTwice, .skipRepair,
    .forgetLog,
    .skipDirectorySync, .cursorAhead, .noteAhead, .announceEarly, .loseSupply,
  ]

  /// Small enough for every boundary to be within a few bytes.
  var limits: Limits {
    var limits = Limits()
    limits.leafSize = 4
    limits.extentSize = 16
    limits.payloadFrameSize = 16
    limits.logPayloadSize = 8
    limits.residentStrings = resident
    limits.promiseWindow = 1
    return limits
  }

  /// 6 bytes are a leaf and a half and fit into the log; 10 don't.
  func bytes(of file: Int) -> [UInt8] {
    let count = records < 3 + file ? 0 : way == .log ? 6 : 10
    return (0..<count).map { UInt8(ascii: "a") + UInt8(13 * file + $0) }
  }
}
