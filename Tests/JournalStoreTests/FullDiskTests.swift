import Foundation
import Glibc
import JournalModel
import JournalStore
import LMDBStore
import Testing

/// A file system of 8 MiB in memory. Mounting needs root.
private final class SmallDisk {
  let directory = TemporaryDirectory()

  init?() {
    guard (try? FileManager.default.createDirectory(atPath: directory.path, withIntermediateDirectories: true)) != nil,
      Self.run("/bin/mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", directory.path)
    else { return nil }
  }

  deinit { _ = Self.run("/bin/umount", "-l", directory.path) }

  private static func run(_ command: String, _ arguments: String...) -> Bool {
    let process = Process()
    process.executableURL = URL(filePath: command)
    process.arguments = arguments
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return false }
    process.waitUntilExit()
    return process.terminationStatus == 0
  }

  static let isAvailable = SmallDisk() != nil
}

@Suite(.enabled(if: SmallDisk.isAvailable)) struct FullDiskTests {
  @Test func `P4: a full disk is a refusal, and the store goes on when there is room`() throws {
    let disk = try #require(SmallDisk())
    let store = try LMDBHostStore<CheapHash>(at: disk.directory.path + "/host")
    try store.create(try journalIdentity())
    let large = HostBatch { $0.records = [record(1, size: 1_000_000)] }
    var taken = 0
    for _ in 0..<20 {
      do throws(StoreError) {
        _ = try store.commit(large)
        taken += 1
      } catch {
        #expect(error.kind == .full)
      }
    }
    #expect((3..<8).contains(taken))
    #expect(try store.length() == UInt64(taken))
    #expect(try store.root(at: UInt64(taken)) == naiveRoot(of: (0..<taken).map { _ in large.records[0] }))
  }

  /// Many small rows share pages: a batch that is counted by its rows would stay refused with room enough, for ever.
  @Test func `P4: a batch of many small rows needs no more room than its pages`() throws {
    let disk = try #require(SmallDisk())
    let store = try LMDBHostStore<CheapHash>(at: disk.directory.path + "/host")
    try store.create(try journalIdentity())
    for round in 0..<4 {
      let batch = HostBatch { $0.records = (0..<4_000).map { record(round * 4_000 + $0, size: 100) } }
      _ = try store.commit(batch)
    }
    #expect(try store.length() == 16_000)
  }

  @Test func `P4: a full disk lets the log be trimmed`() throws {
    let disk = try #require(SmallDisk())
    let store = try LMDBServerStore<CheapHash>(at: disk.directory.path + "/server")
    let key = stringKey(try host("web1"), 1)
    let piece = record(3, size: 60_000)
    var length: UInt64 = 0
    func append() throws(StoreError) {
      let end = length + UInt64(piece.count)
      try store.commit(
        ServerBatch {
          $0.strings = [storedString(key, committed: end, synced: 0)]
          $0.log = [logPayload(key, at: length, piece)]
        })
      length = end
    }
    expect(.full) { () throws(StoreError) in for _ in 0..<1000 { try append() } }
    // What is left besides goes to somebody else.
    let filler = open(disk.directory.path + "/filler", O_WRONLY | O_CREAT, 0o600)
    defer { close(filler) }
    while write(filler, piece, piece.count) > 0 {}
    try store.commit(
      ServerBatch {
        $0.strings = [storedString(key, committed: length, synced: length)]
        $0.trims = [ServerBatch.Trim(key: key, below: length)]
      })
    #expect(try store.logRanges().isEmpty)
    #expect(try store.strings().first?.synced == length)
  }
}
