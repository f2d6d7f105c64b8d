import CLinux
import Glibc
import JournalModel
import Synchronization

/// Bulk on its way to a plain file past the page cache (O_DIRECT): the cache's copy, its pages and their writing back cost
/// more than all else that a server does with a byte but hashing it.
///
/// Whole blocks go to the disk from an aligned buffer. What stands before the first boundary and behind the last one goes
/// through the cache, as log rows that are folded do: the two never share a block. Before a direct write the kernel writes
/// back what is dirty in its range, afterwards it drops what was cached there, so that every reader sees the same bytes
/// whichever way they came. Durable they are by the sync that follows, like all others.
///
/// Where a file system refuses it, once, everything goes through the cache from then on. Safe from every thread.
final class DirectWrites: Sendable {
  private static let mostAlignment = 64 << 10
  /// What is gathered and written at once.
  private static let bufferSize = 4 << 20

  private let buffers = ScratchBuffers(byteCount: bufferSize, alignment: mostAlignment, kept: 1)
  private let least: Int
  private let leastAlignment: Int
  private let asked: @Sendable (Descriptor) throws(SystemError) -> Int
  private let refused = Atomic(false)

  /// - Parameters:
  ///   - least: writes that are smaller don't pay for waiting for the disk.
  ///   - leastAlignment: boundaries in files and memory, unless the file system asks for more: a page, which is a
  ///     multiple of almost every block.
  ///   - asked: what the file system asks for as alignment; 0 where it says nothing.
  init(
    least: Int = 256 << 10, leastAlignment: Int = 4_096,
    asked: @escaping @Sendable (Descriptor) throws(SystemError) -> Int = { file throws(SystemError) in
      Int(try checked("statx", linux_direct_alignment(file.number)))
    }
  ) {
    self.least = least
    self.leastAlignment = leastAlignment
    self.asked = asked
  }

  /// Whether everything goes through the cache.
  var isRefused: Bool { refused.load(ordering: .relaxed) }

  /// Writes all of it at `offset`, one piece after another. A failure may leave any part of it written.
  func write(_ pieces: [ArraySlice<UInt8>], to file: Descriptor, at offset: UInt64) throws(SystemError) {
    let count = pieces.reduce(0) { $0 + $1.count }
    guard count >= least, var way = open(file) else { return try file.writeFully(pieces, at: offset) }
    var rest = Gathering(pieces)
    var position = offset
    try buffers.withBuffer { buffer throws(SystemError) in
      while position < offset + UInt64(count) {
        // At its place within a block also in memory.
        let room = UnsafeMutableRawBufferPointer(rebasing: buffer[Int(position % way.alignment)...])
        let bytes = UnsafeRawBufferPointer(rebasing: room[..<rest.fill(room)])
        try write(bytes, &way, at: position)
        position += UInt64(bytes.count)
      }
    }
  }

  /// A file's two descriptors.
  private struct Way {
    let cached: Descriptor
    /// Nil once it was refused.
    var direct: Descriptor?
    let alignment: UInt64
  }

  private func open(_ file: Descriptor) -> Way? {
    guard !isRefused else { return nil }
    do {
      return Way(
        cached: file, direct: try file.reopened(O_WRONLY | linux_O_DIRECT | O_NONBLOCK | O_NOCTTY),
        alignment: try alignment(of: file))
    } catch {
      // Anything else, such as a lack of descriptors, is no answer of the file system.
      note(error)
      return nil
    }
  }

  private func alignment(of file: Descriptor) throws(SystemError) -> UInt64 {
    let asked = try asked(file)
    guard asked >= 0, asked <= Self.mostAlignment, asked.nonzeroBitCount <= 1 else {
      throw SystemError("statx", code: EOPNOTSUPP)
    }
    return UInt64(max(asked, leastAlignment))
  }

  private func write(_ bytes: UnsafeRawBufferPointer, _ way: inout Way, at offset: UInt64) throws(SystemError) {
    var done = 0
    while done < bytes.count {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
      done += try writeSome(rest, &way, at: offset + UInt64(done))
    }
  }

  /// As far as the next boundary through the cache, from there on as far as there are blocks past it.
  private func writeSome(
    _ bytes: UnsafeRawBufferPointer, _ way: inout Way, at offset: UInt64
  ) throws(SystemError) -> Int {
    guard let direct = way.direct else { return try way.cached.write(bytes, at: offset) }
    let beyond = Int(offset % way.alignment)
    let blocks = bytes.count - bytes.count % Int(way.alignment)
    guard beyond == 0, blocks > 0 else {
      let head = UnsafeRawBufferPointer(rebasing: bytes.prefix(Int(way.alignment) - beyond))
      return try way.cached.write(head, at: offset)
    }
    do { return try direct.write(UnsafeRawBufferPointer(rebasing: bytes[..<blocks]), at: offset) } catch {
      guard note(error) else { throw error }
      way.direct = nil
      return 0
    }
  }

  /// Whether it says that this file system has no such writes.
  @discardableResult
  private func note(_ error: SystemError) -> Bool {
    guard [EINVAL, EOPNOTSUPP, ENOSYS].contains(error.code) else { return false }
    refused.store(true, ordering: .relaxed)
    return true
  }
}

/// Pieces on their way into buffers, in order.
private struct Gathering {
  private var rest: ArraySlice<ArraySlice<UInt8>>

  init(_ pieces: [ArraySlice<UInt8>]) { rest = pieces[...] }

  /// Moves as much as fits; returns how much.
  mutating func fill(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
    var count = 0
    while count < buffer.count, let piece = rest.first {
      let part = piece.prefix(buffer.count - count)
      part.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: buffer[count...]).copyMemory(from: $0) }
      count += part.count
      if part.count == piece.count { rest.removeFirst() } else { rest[rest.startIndex] = piece.dropFirst(part.count) }
    }
    return count
  }
}
