package import JournalModel

/// One open file, as `Ingestor` reads it. Offsets and sizes are in bytes; every call may block on the disk.
package protocol ByteSource {
  /// What the inode says of itself now (`fstat(2)`).
  func facts() throws -> SourceFacts
  /// Reads at most `buffer.count` bytes at `offset` and returns how many: any number from 1 on, 0 at the end of the file
  /// only (`pread(2)`).
  func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws -> Int
}

package struct SourceFacts: Hashable, Sendable {
  package var size: UInt64
  package var modified: WallTime
  package var links: UInt32
  package init(size: UInt64, modified: WallTime, links: UInt32 = 1) {
    self.size = size
    self.modified = modified
    self.links = links
  }
}

/// Why bytes couldn't be had. Says nothing about the file itself (D10).
package struct SourceFailure: Error, Hashable, Sendable, CustomStringConvertible {
  package var reason: String
  package init(_ reason: String) { self.reason = reason }
  package var description: String { reason }
}

extension ByteSource {
  /// Fills the buffer from `offset` on, however short the single reads are. Fewer bytes only at the end of the file.
  package func fill(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
    var count = 0
    while count < buffer.count {
      let got = try read(at: offset + UInt64(count), into: UnsafeMutableRawBufferPointer(rebasing: buffer[count...]))
      if got == 0 { break }
      count += got
    }
    return count
  }

  /// `count` bytes from `offset` on, or as many as there are.
  package func bytes(at offset: UInt64, count: Int) throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      filled = try fill(UnsafeMutableRawBufferPointer(buffer), at: offset)
    }
  }
}
