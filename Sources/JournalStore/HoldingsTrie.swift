package import JournalModel
package import MerkleLog

// A Merkle radix trie over what a server holds (M2, M3; `design/formats.md`, 'Digest'): two servers find what they differ
// in by asking about no more than the parts that differ. It is made from the feed of changes and follows behind it.

/// A journal or a file in the trie.
package struct TrieLeaf: Hashable, Sendable {
  package var position: Digest
  package var digest: Digest
  package var subject: ChangedSubject
  package init(position: Digest, digest: Digest, subject: ChangedSubject) {
    self.position = position
    self.digest = digest
    self.subject = subject
  }
}

/// What stands under a part of the trie.
package enum Subtrie: Hashable, Sendable {
  /// Of more subjects than a bucket has: the digests of its 16 children.
  case inner([Digest])
  /// What all its subjects are now, ordered by position.
  case bucket([Change])
}

/// What a fold changes.
package struct TrieFold: Sendable {
  package var leaves: [TrieLeaf]
  package var inner: [TriePrefix: [Digest]]
  package var digest: HoldingsDigest
}

/// The digests of the trie. The first byte says of what, so that none can stand for another.
package enum HoldingsTrie<H: TreeHasher> where H.Value == Digest {
  /// A part with more subjects than that is divided.
  package static var bucketSize: Int { H.trieBucketSize }

  package static func position(of subject: ChangedSubject) -> Digest {
    hash(0) { $0.write(subject) }
  }

  package static func leaf(_ subject: ChangedSubject, _ heads: [TreeHead]) -> TrieLeaf {
    let digest = hash(1) { writer in
      writer.write(subject)
      writer.write(UInt32(heads.count))
      for head in heads {
        writer.write(head.length)
        writer.write(head.root)
      }
    }
    return TrieLeaf(position: position(of: subject), digest: digest, subject: subject)
  }

  package static func bucket(_ leaves: ArraySlice<TrieLeaf>) -> Digest {
    hash(2) { writer in for leaf in leaves { writer.write(leaf.digest) } }
  }

  package static func inner(_ children: [Digest]) -> Digest {
    hash(3) { writer in for child in children { writer.write(child) } }
  }

  /// The digest of all these and nothing else.
  /// - Precondition: they are ordered by position.
  package static func root(of leaves: [TrieLeaf]) -> Digest {
    var inner: [TriePrefix: [Digest]] = [:]
    return build(leaves[...], at: .root, &inner)
  }

  /// Adds the inner parts to `inner`.
  static func build(
    _ leaves: ArraySlice<TrieLeaf>, at prefix: TriePrefix, _ inner: inout [TriePrefix: [Digest]]
  ) -> Digest {
    guard leaves.count > bucketSize, prefix.depth < TriePrefix.deepest else { return bucket(leaves) }
    let children = prefix.divide(leaves).enumerated().map { build($1, at: prefix.child($0), &inner) }
    inner[prefix] = children
    return self.inner(children)
  }

  private static func hash(_ kind: UInt8, _ write: (inout ByteWriter) -> Void) -> Digest {
    var writer = ByteWriter(reserving: 1_100)
    writer.write(kind)
    write(&writer)
    return H.leaf(writer.bytes.span.bytes)
  }
}

extension TriePrefix {
  /// By child. Ordered by position, as they are.
  fileprivate func divide(_ leaves: ArraySlice<TrieLeaf>) -> [ArraySlice<TrieLeaf>] {
    var rest = leaves
    return (0..<Self.fanOut).map { index in
      let own = rest.prefix { branch(of: $0.position) == index }
      rest = rest.dropFirst(own.count)
      return own
    }
  }
}

extension StoreSnapshot where Self: ~Copyable {
  /// Of an empty store that of no leaves.
  func digest<H: TreeHasher>(_: H.Type) throws(StoreError) -> HoldingsDigest where H.Value == Digest {
    try trieDigest() ?? HoldingsDigest(root: HoldingsTrie<H>.root(of: []), end: 0)
  }

  /// Takes the next `count` changes into the trie. Nil if there are none.
  package func trieFold<H: TreeHasher>(_ count: Int, _: H.Type) throws(StoreError) -> TrieFold?
  where H.Value == Digest {
    let changed = try changed(after: try digest(H.self).end, count: count)
    guard let last = changed.last else { return nil }
    var leaves: [TrieLeaf] = []
    for (_, subject) in changed { leaves.append(HoldingsTrie<H>.leaf(subject, try readableHeads(of: subject))) }
    leaves.sort { $0.position < $1.position }
    var inner: [TriePrefix: [Digest]] = [:]
    let root = try fold(leaves[...], at: .root, &inner, H.self)
    return TrieFold(leaves: leaves, inner: inner, digest: HoldingsDigest(root: root, end: last.number))
  }

  /// None of what is damaged: it differs from what others have then.
  private func readableHeads(of subject: ChangedSubject) throws(StoreError) -> [TreeHead] {
    do throws(StoreError) {
      return try change(of: subject)?.heads ?? []
    } catch {
      guard case .corrupt = error else { throw error }
      return []
    }
  }

  private func fold<H: TreeHasher>(
    _ changed: ArraySlice<TrieLeaf>, at prefix: TriePrefix, _ inner: inout [TriePrefix: [Digest]], _: H.Type
  ) throws(StoreError) -> Digest where H.Value == Digest {
    guard var children = try trieChildren(of: prefix) else {
      let leaves = try bucket(at: prefix, H.self).merged(with: changed)
      return HoldingsTrie<H>.build(leaves[...], at: prefix, &inner)
    }
    for (index, part) in prefix.divide(changed).enumerated() where !part.isEmpty {
      children[index] = try fold(part, at: prefix.child(index), &inner, H.self)
    }
    inner[prefix] = children
    return HoldingsTrie<H>.inner(children)
  }

  private func bucket<H: TreeHasher>(
    at prefix: TriePrefix, _: H.Type
  ) throws(StoreError) -> [TrieLeaf] where H.Value == Digest {
    let size = HoldingsTrie<H>.bucketSize
    let leaves = try trieLeaves(under: prefix, count: size + 1)
    guard leaves.count <= size else { throw .corrupt("a part of the trie at depth \(prefix.depth) isn't divided") }
    return leaves
  }

  func subtrie<H: TreeHasher>(
    at prefix: TriePrefix, _: H.Type
  ) throws(StoreError) -> Subtrie where H.Value == Digest {
    if let children = try trieChildren(of: prefix) { return .inner(children) }
    var changes: [Change] = []
    for leaf in try bucket(at: prefix, H.self) {
      if let change = try change(of: leaf.subject) { changes.append(change) }
    }
    return .bucket(changes)
  }

  /// The digests of the 16 parts under one, whether it is divided or not.
  func children<H: TreeHasher>(
    of prefix: TriePrefix, _: H.Type
  ) throws(StoreError) -> [Digest] where H.Value == Digest {
    if let children = try trieChildren(of: prefix) { return children }
    return prefix.divide(try bucket(at: prefix, H.self)[...]).map { HoldingsTrie<H>.bucket($0) }
  }
}

extension [TrieLeaf] {
  /// Those of `others` in place of these. Both are ordered.
  fileprivate func merged(with others: ArraySlice<TrieLeaf>) -> [TrieLeaf] {
    let changed = Set(others.map(\.position))
    return (filter { !changed.contains($0.position) } + others).sorted { $0.position < $1.position }
  }
}
