import Foundation
import Glibc
import JournalModel
import JournalStore

/// A mark in the store and beside the plain files: a random life, new at each start, and a number that grows while the
/// server runs about as often as it commits. If the store doesn't have what stands beside the files, it comes from a
/// backup or another life of this place, and nothing beyond what it knows may be cut (P3) [at starts alone a backup taken
/// since the last start would pass for the present store, and bytes that were acknowledged after it for a crash's
/// leftovers; by a number alone a store of another life].
struct StartCounter: Sendable {
  private let directory: String
  private var path: String { directory + "/start" }
  let life: UUIDBytes
  /// Room for any number: overwritten in place, so that a full disk stops no start.
  private static let width = 20

  /// fsync(2), which tests let fail.
  private let fsync: @Sendable (Int32) -> Int32

  /// `life` is that of this process.
  init(
    logs: String, life: UUIDBytes = UUIDBytes(high: .random(in: 0...UInt64.max), low: .random(in: 0...UInt64.max)),
    fsync: @escaping @Sendable (Int32) -> Int32 = { Glibc.fsync($0) }
  ) throws {
    self.fsync = fsync
    self.life = life
    directory = logs + "/.nimbus-journal"
    // Fails on a full disk too; then the number isn't kept until there is room.
    try? FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
  }

  /// False if the store isn't the one that went with the log root last.
  func matches(_ store: some ServerHoldingsStore) throws -> Bool {
    guard let beside = try read() else { return true }
    return try store.startMarks()?.matches(beside) ?? false
  }

  /// The store counts first, durably: a crash between the two leaves it ahead, which a restored one never is. What
  /// can't be written now is written with the next number.
  func advance(_ store: some ServerHoldingsStore) throws {
    let next = StartMarks.next(after: try store.startMarks(), beside: try read(), in: life)
    try store.setStartMarks(next)
    try write(next.present)
  }

  /// Why the node must stop: a sync failed (P4). Nil when the number was advanced, or can be with the next one.
  func failedSync(advancing store: some ServerHoldingsStore) -> String? {
    do { try advance(store) } catch let error as SyncFailure {
      return error.description
    } catch StoreError.failedSync(let reason) {
      return reason
    } catch {}
    return nil
  }

  /// fsync(2) failed, and is not tried again.
  struct SyncFailure: Error, CustomStringConvertible { let description: String }

  private func read() throws -> StartMark? {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let text = try String(contentsOfFile: path, encoding: .utf8)
    // A crash while it was made first.
    if text.isEmpty { return nil }
    let parts = text.split(whereSeparator: \.isWhitespace)
    guard parts.count == 2, let life = FileUUID(text: String(parts[0])), let number = UInt64(parts[1]),
      number < UInt64(Int64.max)
    else {
      throw StartFailure("\(path) is no start counter: restore it, or remove it if the plain files are as they were")
    }
    return StartMark(life: life.bytes, number: number)
  }

  private func write(_ mark: StartMark) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw failure }
    defer { close(descriptor) }
    let digits = String(mark.number)
    let padded = String(repeating: "0", count: Self.width - digits.utf8.count) + digits
    let text = Array((FileUUID(mark.life).text + " " + padded + "\n").utf8)
    guard pwrite(descriptor, text, text.count, 0) == text.count else { throw failure }
    try sync(descriptor)
    let folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
    guard folder >= 0 else { throw failure }
    defer { close(folder) }
    try sync(folder)
  }

  private func sync(_ descriptor: Int32) throws {
    if fsync(descriptor) != 0 { throw SyncFailure(description: "syncing \(path): \(String(cString: strerror(errno)))") }
  }

  private var failure: StartFailure { StartFailure("\(path): \(String(cString: strerror(errno)))") }
}
