package import JournalModel
package import MerkleLog

/// Hashes received bytes of one string up to the roots that its host signed (W3).
package struct StringVerifier<H: TreeHasher> where H.Value == Digest {
  private let leafSize: Int
  /// The tree at the greatest length verified so far, with its root; nil until first needed.
  private var standing: (tree: FileTree<H>, root: Digest)?

  package init(leafSize: Int) { self.leafSize = leafSize }

  /// The tree at `from`, with `root`, goes on to each promised length in turn, up to the first whose bytes are not received
  /// yet; it then stands at the greatest one met. Some may be other bytes' (W3, J4). Promises are ordered by length.
  ///
  /// If it doesn't stand there (first use, restart, discarded bytes) it is rebuilt: `storedLeaves(n)` gives the first n
  /// leaf hashes that are committed, `held(offset, count)` the bytes below `from`. When those can't be had the answer is
  /// `unreadable`, which says nothing about the received bytes.
  package mutating func verify(
    file: FileUUID, from: UInt64, root: Digest, promises: [Promise],
    received: (Range<UInt64>) -> [ArraySlice<UInt8>]?,
    storedLeaves: (UInt64) throws -> [Digest], held: (UInt64, Int) throws -> [UInt8]
  ) -> VerifyAnswer {
    var leaves = LeafRange(file: file, first: from / UInt64(leafSize), hashes: [])
    var met: FileTree<H>
    do {
      met = try tree(at: from, root: root, storedLeaves: storedLeaves, held: held)
    } catch {
      standing = nil
      return VerifyAnswer(upTo: from, root: root, leaves: leaves, failedAt: nil, unreadable: "\(error)")
    }
    var metRoot = root
    var metPromises: [Promise] = []
    var failedAt: UInt64?
    var rest = promises.drop { $0.length < from }
    var next = met.copy()
    var completed: [Digest] = []
    while let length = rest.first?.length {
      guard length >= next.length, let pieces = received(next.length..<length) else { break }
      for piece in pieces { next.append(piece.span.bytes) { completed.append($1) } }
      let roots = rest.prefix { $0.length == length }
      rest = rest.dropFirst(roots.count)
      let root = next.root
      guard let promise = roots.first(where: { $0.root == root }) else {
        failedAt = length
        continue
      }
      met = next
      next = met.copy()
      metRoot = root
      metPromises.append(promise)
      leaves.hashes += completed
      completed = []
      failedAt = nil
    }
    standing = (met, metRoot)
    return VerifyAnswer(upTo: met.length, root: metRoot, met: metPromises, leaves: leaves, failedAt: failedAt)
  }

  /// Whether the tree is at hand there: nothing has to be read for it.
  package func stands(at from: UInt64, root: Digest) -> Bool {
    standing.map { $0.tree.length == from && $0.root == root } ?? false
  }

  private func tree(
    at from: UInt64, root: Digest, storedLeaves: (UInt64) throws -> [Digest], held: (UInt64, Int) throws -> [UInt8]
  ) throws -> FileTree<H> {
    if let standing, stands(at: from, root: root) { return standing.tree }
    let whole = from / UInt64(leafSize)
    let open = Int(from % UInt64(leafSize))
    var tree = FileTree<H>(leafSize: leafSize, leaves: try storedLeaves(whole))
    if open > 0 {
      let bytes = try held(whole * UInt64(leafSize), open)
      tree.append(bytes.span.bytes)
    }
    guard tree.length == from, tree.root == root else {
      throw SourceFailure("the held bytes don't have the committed root")
    }
    return tree
  }
}
