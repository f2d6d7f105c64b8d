import ArgumentParser
import Glibc
import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
import MerkleLog
import ServerCore

/// Fills the store and the log root of a stopped server with what one host would have left there: small files that came
/// and went. The server must have been started once, so that both have their start counter.
///
/// The checkpoint isn't signed by anybody: a start reads it, no host goes on from it.
@main struct BuildHoldings: ParsableCommand {
  @Option(help: "The server's store.") var store: String
  @Option(help: "The server's log root.") var root: String
  @Option(help: "Whose files they are.") var host = "web1"
  @Option(help: "How many files there are to be in the end; those that are there are kept.") var files = 100_000
  @Option(help: "Bytes of each, at most one leaf.") var bytes = 100
  @Option(help: "Records of each.") var records = 20
  @Option(help: "Files of one commit.") var batch = 2_000

  private static let epoch: Int64 = 1_700_000_000_000_000_000

  func run() throws {
    guard let host = HostName(host), records >= 3 else { throw ValidationError("no host name, or too few records") }
    let store = try LMDBServerStore<SHA256Tree>(at: store)
    let journal = JournalID(UUIDBytes(high: 1, low: 2))
    var held =
      try store.journals().first { $0.host == host && $0.journal == journal }
      ?? HeldJournal(
        key: SequenceKey(journal: HostJournal(host: host, journal: journal)), publicKey: SHA256Tree.empty, length: 0,
        checkpoint: nil, frontier: [])
    var frontier = Frontier<SHA256Tree>(size: held.length, subtrees: held.frontier)
    var next = Int(held.length) / records
    while next < files {
      var batch = ServerBatch()
      var encoded: [[UInt8]] = []
      for number in next..<min(files, next + self.batch) { try add(number, of: host, &batch, &encoded) }
      next += batch.strings.count
      let nodes = encoded.compactMap { frontier.append(record: $0) }
      let (first, last) = (held.length, held.checkpoint)
      held.kept = KeptCheckpoint(length: first, bytesSince: encoded.reduce(0) { $0 + UInt64($1.count) })
      held.length = frontier.size
      held.frontier = frontier.subtrees
      held.checkpoint = Checkpoint(
        host: host, journal: journal, length: frontier.size, root: frontier.root,
        signature: [UInt8](repeating: 0, count: Checkpoint.signatureByteCount))
      batch.records = [
        .init(first: first, encoded: encoded, after: held, checkpoints: last.map { [$0] } ?? [], nodes: nodes)
      ]
      try store.commit(batch)
    }
    sync()
  }

  private func content(_ number: Int) -> [UInt8] {
    (0..<bytes).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ number) }
  }

  private func add(_ number: Int, of host: HostName, _ batch: inout ServerBatch, _ encoded: inout [[UInt8]]) throws {
    // The low half alone tells them apart; the high one scatters them over the tables as hashes do.
    let file = FileUUID(
      UUIDBytes(high: UInt64(number) &* 0x9E37_79B9_7F4A_7C15, low: UInt64(number)).marked(version: 8))
    let identity = InodeIdentity(
      number: UInt64(number), generation: 1, birth: WallTime(nanoseconds: Self.epoch + Int64(number)))
    let path = BytePath("/var/log/app/\(number / 1_000)/\(number % 1_000).log")
    let born = WallTime(nanoseconds: Self.epoch + Int64(number) * 1_000_000)
    let content = content(number)
    func root(_ length: Int) -> Digest { SHA256Tree.leaf(Array(content.prefix(length)).span.bytes) }
    func append(_ body: RecordBody) { encoded.append(Record(time: born, body: body).encoded()) }
    append(
      .fileBorn(
        FileBorn(
          file: file, identity: identity, isDerived: true, path: path, realPath: path, mode: 0o100640, owner: 0,
          group: 0, born: born, modified: born)))
    for part in 1...(records - 2) {
      let (lower, upper) = (bytes * (part - 1) / (records - 2), bytes * part / (records - 2))
      append(
        .bytesAppended(
          BytesAppended(file: file, offset: UInt64(lower), length: UInt64(upper - lower), root: root(upper))))
    }
    append(.fileClosed(FileClosed(file: file, length: UInt64(bytes), root: root(bytes), reason: .deleted)))
    let row =
      StoredString(
        key: StringKey(key: FileKey(host: host, file: file), string: 0), identity: identity, isDerived: true,
        path: path, born: born, received: born, parent: nil, committed: UInt64(bytes), root: root(bytes),
        synced: UInt64(bytes),
        stored: StoredName<SHA256Tree>.plain(host: host, path: path, born: born, file: file, attempt: 0),
        isMade: true, recorded: UInt64(bytes), closed: .deleted)
    try makePlainFile(row.stored, content)
    batch.strings.append(row)
    batch.named.append(
      ServerBatch.NamedFile(key: row.key.key, latest: StoredName<SHA256Tree>.latest(path), born: born))
  }

  private func makePlainFile(_ stored: BytePath, _ content: [UInt8]) throws {
    let path = root + "/" + String(decoding: stored.bytes, as: UTF8.self)
    var descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o640)
    if descriptor < 0, errno == ENOENT {
      makeDirectories(above: path)
      descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o640)
    }
    guard descriptor >= 0 else { throw ValidationError("\(path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    guard write(descriptor, content, content.count) == content.count else {
      throw ValidationError("\(path): not written")
    }
  }

  private func makeDirectories(above path: String) {
    var partial = ""
    for component in path.split(separator: "/").dropLast() {
      partial += "/" + component
      mkdir(partial, 0o750)
    }
  }
}
