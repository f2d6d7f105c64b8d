import JournalModel
import JournalStore
import MerkleLog

// The trie over all that is held (M2): `subjects` has its leaves by position, `trie` the parts that are divided, `meta` its
// digest and how far it has followed the feed.

extension ServerTransaction {
  private static var digestKey: [UInt8] { Array("digest".utf8) }

  static func key(of prefix: TriePrefix) -> [UInt8] { encoded { $0.write(prefix) } }
  static func key(ofPosition position: Digest) -> [UInt8] { encoded { $0.write(position) } }

  /// What is damaged of it is no reason to stop: all of it follows from the rest, and is made anew.
  func fold<H: TreeHasher>(_ count: Int, hasher: H.Type) throws(StoreError) where H.Value == Digest {
    do throws(StoreError) {
      try followFeed(count, hasher: hasher)
    } catch {
      guard case .corrupt = error else { throw error }
      try forgetTrie()
    }
  }

  func forgetTrie() throws(StoreError) {
    try transaction.empty(tables.subjects)
    try transaction.empty(tables.trie)
    try transaction.remove(Self.digestKey, from: tables.meta)
  }

  private func followFeed<H: TreeHasher>(_ count: Int, hasher: H.Type) throws(StoreError) where H.Value == Digest {
    guard let fold = try trieFold(count, hasher) else { return }
    for leaf in fold.leaves {
      try transaction.put(encoded { $0.write(leaf) }, at: Self.key(ofPosition: leaf.position), in: tables.subjects)
    }
    for (prefix, children) in fold.inner {
      try transaction.put(encoded { $0.write(children) }, at: Self.key(of: prefix), in: tables.trie)
    }
    try transaction.put(encoded { $0.write(fold.digest) }, at: Self.digestKey, in: tables.meta)
  }

  func trieDigest() throws(StoreError) -> HoldingsDigest? {
    try transaction.row(Self.digestKey, in: tables.meta) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readHoldingsDigest()
    }
  }

  func trieChildren(of prefix: TriePrefix) throws(StoreError) -> [Digest]? {
    try transaction.row(Self.key(of: prefix), in: tables.trie) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readDigests(count: TriePrefix.fanOut)
    }
  }

  func trieLeaves(under prefix: TriePrefix, count: Int) throws(StoreError) -> [TrieLeaf] {
    var leaves: [TrieLeaf] = []
    let whole = Int(prefix.depth) / 2
    let first = Array(Self.key(of: prefix).dropFirst())
    try transaction.scan(tables.subjects, from: first, prefix: Array(first.prefix(whole))) {
      (entry) throws(StoreError) in
      let leaf = try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
        try reader.readDigest()
      } value: { (position, reader: inout ByteReader) throws(DecodingFailure) in
        try reader.readTrieLeaf(at: position)
      }
      guard leaves.count < count, prefix.contains(leaf.position) else { return false }
      leaves.append(leaf)
      return true
    }
    return leaves
  }
}
