package import JournalModel

/// What a batch of a host is checked against: the state that its commit would change.
package protocol HostJournalView: ~Copyable {
  func leaf(of file: FileUUID, at index: UInt64) throws(StoreError) -> Digest?
}

extension HostBatch {
  /// The guard that every host store applies before it changes anything.
  package func check<View: HostJournalView & ~Copyable>(in view: borrowing View) throws(StoreError) {
    for file in files {
      try StoreSubject.file(file.file).refusing { () throws(StoreError) in
        guard file.path.isStorable else { throw .failed("\(file.file) has a path that can't be stored") }
      }
    }
    for server in forgotten + delivered.map(\.server) + positions.map(\.server) {
      guard (1...Delivered.longestServerName).contains(server.utf8.count), !server.utf8.contains(0) else {
        throw .failed("not a server name: \(server)")
      }
    }
    var pending = PendingLeaves<FileUUID>()
    for range in leaves {
      try StoreSubject.file(range.file).refusing { () throws(StoreError) in
        for (position, hash) in range.hashes.enumerated() {
          let index = range.first + UInt64(position)
          let previous = index == 0 ? hash : try view.leaf(of: range.file, at: index - 1)
          try pending.add(
            hash, to: range.file, at: index, held: try view.leaf(of: range.file, at: index),
            hasPrevious: previous != nil)
        }
      }
    }
  }
}

/// Leaf hashes on their way into a store: equal to what is held or in the same batch, and without holes.
struct PendingLeaves<Key: Hashable> {
  private struct Address: Hashable {
    var key: Key
    var index: UInt64
  }
  private var hashes: [Address: Digest] = [:]

  mutating func add(
    _ hash: Digest, to key: Key, at index: UInt64, held: Digest?, hasPrevious: Bool
  ) throws(StoreError) {
    if let known = held ?? hashes[Address(key: key, index: index)] {
      guard known == hash else { throw .corrupt("leaf \(index) of \(key) differs from the stored one") }
      return
    }
    guard hasPrevious || index > 0 && hashes[Address(key: key, index: index - 1)] != nil else {
      throw .failed("leaf \(index) of \(key) would leave a hole")
    }
    hashes[Address(key: key, index: index)] = hash
  }
}
