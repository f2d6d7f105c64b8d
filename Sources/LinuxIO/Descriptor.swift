import CLinux
import Glibc
package import JournalModel

/// Owns a file descriptor and closes it when the last owner goes, so that closing never races with use.
package final class Descriptor: Sendable {
  package let number: Int32
  package init(owning number: Int32) { self.number = number }
  deinit { close(number) }

  /// `open(2)`, relative to the working directory; O_CLOEXEC is added.
  package static func open(_ path: BytePath, _ flags: Int32) throws(SystemError) -> Descriptor {
    try open(path.bytes, in: AT_FDCWD, flags)
  }

  /// `openat(2)` of a name or path; O_CLOEXEC is added.
  static func open(_ path: [UInt8], in directory: Int32, _ flags: Int32) throws(SystemError) -> Descriptor {
    let number = withCString(path) { linux_openat(directory, $0, flags | O_CLOEXEC, 0) }
    return Descriptor(owning: try checked("open", number))
  }

  /// Opens once more what this descriptor stands for, with other flags: the same inode whatever its names are now.
  func reopened(_ flags: Int32) throws(SystemError) -> Descriptor {
    try Self.open(Array("/proc/self/fd/\(number)".utf8), in: AT_FDCWD, flags)
  }
}

/// Calls `body` with the bytes and a NUL behind them. Names hold no NUL themselves: a kernel gave them, or `LogRoot`
/// checked them.
func withCString<R>(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>) -> R) -> R {
  withUnsafeTemporaryAllocation(of: CChar.self, capacity: bytes.count + 1) { chars in
    guard let start = chars.baseAddress else { preconditionFailure("room for one byte has an address") }
    bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(chars).copyMemory(from: $0) }
    chars[bytes.count] = 0
    return body(start)
  }
}

extension Descriptor {
  /// Reads into the whole buffer, or up to the end of the file; returns how many bytes.
  func readFully(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemError) -> Int {
    var count = 0
    while count < buffer.count {
      let got = try read(UnsafeMutableRawBufferPointer(rebasing: buffer[count...]), at: offset + UInt64(count))
      if got == 0 { break }
      count += got
    }
    return count
  }

  func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemError) -> Int {
    guard offset <= UInt64(Int64.max) else { return 0 }
    return try retrying("read") { pread(number, buffer.baseAddress, buffer.count, off_t(offset)) }
  }

  /// As many of `count` bytes from `offset` on as there are.
  func bytes(at offset: UInt64, count: Int) throws -> [UInt8] { try bytes(at: offset, count: count, behind: []) }

  /// The same behind bytes that go before them.
  func bytes(at offset: UInt64, count: Int, behind head: [UInt8]) throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: head.count + count) { buffer, filled in
      let room = UnsafeMutableRawBufferPointer(buffer)
      head.withUnsafeBytes { room.copyMemory(from: $0) }
      filled = head.count + (try readFully(UnsafeMutableRawBufferPointer(rebasing: room[head.count...]), at: offset))
    }
  }

  /// Writes at least one byte and at most all of them; returns how many.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(SystemError) -> Int {
    try retrying("write") { pwrite(number, bytes.baseAddress, bytes.count, off_t(offset)) }
  }

  func writeFully(_ bytes: ArraySlice<UInt8>, at offset: UInt64) throws(SystemError) {
    var rest = bytes
    var position = offset
    while !rest.isEmpty {
      let count = try rest.span.bytes.withUnsafeBytes { bytes throws(SystemError) in try write(bytes, at: position) }
      rest = rest.dropFirst(count)
      position += UInt64(count)
    }
  }

  func writeFully(_ pieces: [ArraySlice<UInt8>], at offset: UInt64) throws(SystemError) {
    var position = offset
    for piece in pieces {
      try writeFully(piece, at: position)
      position += UInt64(piece.count)
    }
  }

  func size() throws(SystemError) -> UInt64 {
    try rawFacts().size
  }

  func device() throws(SystemError) -> UInt64 {
    try rawFacts().device
  }

  static let syncCall = "fsync"
  func sync() throws(SystemError) { _ = try checkedErrno(Self.syncCall, fsync(number)) }
  func syncData() throws(SystemError) { _ = try checkedErrno("fdatasync", fdatasync(number)) }
}

/// Never tries again, also when interrupted: a failed sync is final (P4).
func checkedErrno(_ call: String, _ result: Int32) throws(SystemError) -> Int32 {
  guard result >= 0 else { throw SystemError(call, code: errno) }
  return result
}
