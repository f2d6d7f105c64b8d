/// A 32-byte hash value (SHA-256 in the daemon), held as four big-endian words so that it needs no allocation.
package struct Digest: Hashable, Sendable, Comparable {
  package var words: (UInt64, UInt64, UInt64, UInt64)

  package init(words a: UInt64, _ b: UInt64, _ c: UInt64, _ d: UInt64) { words = (a, b, c, d) }

  package static let zero = Digest(words: 0, 0, 0, 0)
  package static let byteCount = 32

  package static func == (l: Digest, r: Digest) -> Bool { l.words == r.words }
  package static func < (l: Digest, r: Digest) -> Bool { l.words < r.words }

  package func hash(into hasher: inout Hasher) {
    hasher.combine(words.0)
    hasher.combine(words.1)
  }
}

/// The 16 bytes of a UUID (RFC 9562), as two big-endian words.
package struct UUIDBytes: Hashable, Sendable, Comparable {
  package var high: UInt64
  package var low: UInt64

  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  package static func < (l: UUIDBytes, r: UUIDBytes) -> Bool { (l.high, l.low) < (r.high, r.low) }

  /// The same bits with version `version` (1...15) and the RFC 9562 variant set.
  package func marked(version: UInt64) -> UUIDBytes {
    UUIDBytes(high: (high & ~0xF000) | ((version & 0xF) << 12), low: (low & ~(0b11 << 62)) | (0b10 << 62))
  }
}

/// Names one file: one incarnation of an inode's content (D1, D2).
package struct FileUUID: Hashable, Sendable, Comparable {
  package var bytes: UUIDBytes
  package init(_ bytes: UUIDBytes) { self.bytes = bytes }
  package static func < (l: FileUUID, r: FileUUID) -> Bool { l.bytes < r.bytes }
}

/// Names one journal of one host. Random.
package struct JournalID: Hashable, Sendable, Comparable {
  package var bytes: UUIDBytes
  package init(_ bytes: UUIDBytes) { self.bytes = bytes }
  package static func < (l: JournalID, r: JournalID) -> Bool { l.bytes < r.bytes }
}

/// A host's name: 1...253 bytes of `A-Z a-z 0-9 . _ -`, not beginning with `.` or `-`. It is the name in the
/// certificate, the first part of the merge key and a directory name on servers, hence the narrow alphabet.
package struct HostName: Hashable, Sendable, Comparable, CustomStringConvertible {
  package let text: String
  package static let maximumByteCount = 253

  /// Nil if `text` is not a host name as described above.
  package init?(_ text: String) {
    let bytes = text.utf8
    guard (1...Self.maximumByteCount).contains(bytes.count), bytes.first != UInt8(ascii: "."),
      bytes.first != UInt8(ascii: "-"), bytes.allSatisfy(Self.isAllowed)
    else { return nil }
    self.text = text
  }

  private static func isAllowed(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
      true
    default: false
    }
  }

  package var description: String { text }
  package static func < (l: HostName, r: HostName) -> Bool { l.text < r.text }
}

/// A file system path or name: bytes, not text. Absolute unless said otherwise.
package struct BytePath: Hashable, Sendable, Comparable {
  package var bytes: [UInt8]
  /// PATH_MAX on Linux, less the terminating NUL.
  package static let maximumByteCount = 4095

  package init(_ bytes: [UInt8]) { self.bytes = bytes }
  package init(_ text: String) { bytes = Array(text.utf8) }

  package static func < (l: BytePath, r: BytePath) -> Bool { l.bytes.lexicographicallyPrecedes(r.bytes) }

  /// This directory's path with `name` below it.
  package func appending(_ name: [UInt8]) -> BytePath {
    if bytes == [UInt8(ascii: "/")] { return BytePath(bytes + name) }
    return BytePath(bytes + [UInt8(ascii: "/")] + name)
  }

  /// What stands before the last `/` (the root for a name directly below it).
  package var directory: BytePath {
    guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else { return BytePath("") }
    return slash == 0 ? BytePath("/") : BytePath(Array(bytes[..<slash]))
  }

  /// What stands behind the last `/`.
  package var name: [UInt8] {
    guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else { return bytes }
    return Array(bytes[(slash + 1)...])
  }
}
