/// A followed incarnation of an inode, while the process runs. Never reused.
package struct FileID: Hashable, Sendable, Comparable {
  package var value: UInt32
  package init(_ value: UInt32) { self.value = value }
  package static func < (l: FileID, r: FileID) -> Bool { l.value < r.value }
}

/// The bytes of one received payload frame, held by the data plane until the core says what becomes of them.
package struct PayloadID: Hashable, Sendable {
  package var value: UInt64
  package init(_ value: UInt64) { self.value = value }
}

package struct FileKey: Hashable, Sendable, Comparable {
  package var host: HostName
  package var file: FileUUID
  package init(host: HostName, file: FileUUID) {
    self.host = host
    self.file = file
  }
  package static func < (l: FileKey, r: FileKey) -> Bool { (l.host, l.file) < (r.host, r.file) }
}

/// One of the strings of a file: 0 is the one first received, others are branches.
package struct StringKey: Hashable, Sendable, Comparable {
  package var key: FileKey
  package var string: UInt32
  package init(key: FileKey, string: UInt32) {
    self.key = key
    self.string = string
  }
  package static func < (l: StringKey, r: StringKey) -> Bool { (l.key, l.string) < (r.key, r.string) }
}

/// A host-signed root that payload has not reached yet (W3).
package struct Promise: Hashable, Sendable {
  package var key: FileKey
  package var length: UInt64
  package var root: Digest
  /// Roots of one length that are used, the first that came; more stay in their journals (K4).
  package static var mostRoots: Int { 8 }
  package init(key: FileKey, length: UInt64, root: Digest) {
    self.key = key
    self.length = length
    self.root = root
  }
}

package struct LeafRange: Hashable, Sendable {
  package var file: FileUUID
  package var first: UInt64
  package var hashes: [Digest]
  package init(file: FileUUID, first: UInt64, hashes: [Digest]) {
    self.file = file
    self.first = first
    self.hashes = hashes
  }
}
