import Foundation
import Glibc
import JournalStore

/// Counts the server's starts in the store and beside the plain files. If the two differ, one of them comes from a
/// backup, and nothing beyond what the store knows may be cut (P3).
struct StartCounter {
  private let directory: String
  private var path: String { directory + "/start" }

  init(logs: String) { directory = logs + "/.nimbus-journal" }

  /// Counts this start on both sides; false if they differed. The store counts first: a crash between the two leaves
  /// it one ahead, which a restored store never is.
  func advance(with store: some ServerHoldingsStore) throws -> Bool {
    let held = try store.startCounter()
    let written = try read()
    let matches = held == written || (held != nil && held == (written ?? 0) + 1)
    let next = max(held ?? 0, written ?? 0) + 1
    try store.setStartCounter(next)
    try write(next)
    return matches
  }

  private func read() throws -> UInt64? {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let text = try String(contentsOfFile: path, encoding: .utf8)
    guard let value = UInt64(text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
      throw StartFailure("\(path) is no start counter: restore it, or remove it to have every repair set files aside")
    }
    return value
  }

  private func write(_ value: UInt64) throws {
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    let temporary = path + ".new"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw StartFailure("\(temporary): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    let text = Array("\(value)\n".utf8)
    guard Glibc.write(descriptor, text, text.count) == text.count, fsync(descriptor) == 0,
      rename(temporary, path) == 0
    else { throw StartFailure("\(path): \(String(cString: strerror(errno)))") }
    let folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw StartFailure("\(directory): \(String(cString: strerror(errno)))") }
    defer { close(folder) }
    guard fsync(folder) == 0 else { throw StartFailure("\(directory): \(String(cString: strerror(errno)))") }
  }
}
