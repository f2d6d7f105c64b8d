import ArgumentParser
import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
import MerkleLog

/// Fills the store of a stopped host with the rows of files that came and went: half of them seen to go, half of them gone
/// while the node was down, all of them delivered. Without their records: those cost a host disk and nothing else.
@main struct BuildHistory: ParsableCommand {
  @Option(help: "The host's store.") var store: String
  @Option(help: "How many.") var files = 1_000_000
  @Option(help: "Servers that have them.") var servers: [String] = []
  @Option(help: "Files of one commit.") var batch = 5_000

  private static let epoch: Int64 = 1_700_000_000_000_000_000

  func run() throws {
    let store = try LMDBHostStore<SHA256Tree>(at: store)
    var next = 0
    while next < files {
      var batch = HostBatch()
      for number in next..<min(files, next + self.batch) {
        let row = row(number)
        batch.files.append(row)
        batch.delivered += servers.map { Delivered(server: $0, file: row.file, length: row.length) }
      }
      next += batch.files.count
      _ = try store.commit(batch)
    }
  }

  private func row(_ number: Int) -> KnownFile {
    // The low half alone tells them apart; the high one scatters them over the tables as hashes do.
    let high = UInt64(number) &* 0x9E37_79B9_7F4A_7C15
    let born = WallTime(nanoseconds: Self.epoch + Int64(number) * 1_000_000)
    let identity = InodeIdentity(number: 1 << 40 + UInt64(number), generation: high, birth: born)
    return KnownFile(
      file: FileUUID(UUIDBytes(high: high, low: UInt64(number)).marked(version: 8)),
      inode: InodeKey(filesystem: 1, identity: identity), isDerived: true,
      path: BytePath("/var/log/app/\(number / 1_000)/\(number % 1_000).log"), born: born, length: 100,
      root: SHA256Tree.empty, tail: SHA256Tree.empty, size: 100, modified: born,
      closed: number.isMultiple(of: 2) ? .deleted : .vanished)
  }
}
