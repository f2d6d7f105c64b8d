package import JournalModel
package import MerkleLog

/// Compares bytes that are offered beside a string with what is held of it (W3). Shared by the daemon and the simulator. Not
/// for two threads at a time.
package struct StringProbe<H: TreeHasher> where H.Value == Digest {
  private let leafSize: UInt64
  /// The string's tree at the ends of the last comparisons, the latest last: each goes on where it ended, and nobody makes
  /// a long string's leaves be read for every frame.
  private var standing: [FileTree<H>] = []
  /// So many connections a host may have.
  private static var mostStanding: Int { 8 }

  package init(leafSize: Int) { self.leafSize = UInt64(leafSize) }

  /// The first `count` bytes of the frame, which is at `offset`. Where they differ it is made to begin where the leaf does:
  /// what it shares with the string before that is left to the string, and what it lacks of the leaf is the string's too.
  ///
  /// `storedLeaves(n)` gives the hashes of the string's first n leaves, `held` so many of its bytes from an offset on.
  package mutating func answer(
    _ frame: inout [UInt8], offset: UInt64, count: Int, storedLeaves: (UInt64) throws -> [Digest],
    held: (UInt64, Int) throws -> [UInt8]
  ) throws -> ProbeAnswer {
    func bytes(_ offset: UInt64, _ count: Int) throws -> [UInt8] {
      let bytes = try held(offset, count)
      guard bytes.count == count else { throw SourceFailure("held bytes are missing") }
      return bytes
    }
    let own = try bytes(offset, count)
    var tree = try tree(at: offset, storedLeaves: storedLeaves, bytes: bytes)
    guard let difference = zip(own.indices, zip(own, frame)).first(where: { $0.1.0 != $0.1.1 })?.0 else {
      tree.append(own.span.bytes)
      keep(tree)
      return .same(root: tree.root)
    }
    let divergence = offset + UInt64(difference)
    let start = divergence / leafSize * leafSize
    if start >= offset {
      tree.append(own.span.bytes.extracting(first: Int(start - offset)))
      frame.removeFirst(Int(start - offset))
    } else {
      frame = try bytes(start, Int(offset - start)) + frame
    }
    return .differs(at: divergence, start: start, root: tree.complete.root)
  }

  private mutating func tree(
    at offset: UInt64, storedLeaves: (UInt64) throws -> [Digest], bytes: (UInt64, Int) throws -> [UInt8]
  ) throws -> FileTree<H> {
    if let position = standing.lastIndex(where: { $0.length == offset }) { return standing.remove(at: position) }
    return try FileTree<H>(at: offset, leafSize: Int(leafSize), storedLeaves: storedLeaves, held: bytes)
  }

  /// The root of the string's first `length` bytes.
  package static func root(
    at length: UInt64, leafSize: Int, storedLeaves: (UInt64) throws -> [Digest], held: (UInt64, Int) throws -> [UInt8]
  ) throws -> Digest {
    try FileTree<H>(at: length, leafSize: leafSize, storedLeaves: storedLeaves, held: held).root
  }

  private mutating func keep(_ tree: FileTree<H>) {
    if standing.count == Self.mostStanding { standing.removeFirst() }
    standing.append(tree.copy())
  }
}

extension FileTree where H.Value == Digest {
  /// The tree of a string's first `length` bytes: of its whole leaves the hashes are stored, of the open one the bytes are
  /// held.
  init(
    at length: UInt64, leafSize: Int, storedLeaves: (UInt64) throws -> [Digest], held: (UInt64, Int) throws -> [UInt8]
  ) throws {
    let whole = length / UInt64(leafSize)
    self.init(leafSize: leafSize, leaves: try storedLeaves(whole))
    let count = Int(length % UInt64(leafSize))
    let open = count == 0 ? [] : try held(whole * UInt64(leafSize), count)
    guard open.count == count else { throw SourceFailure("held bytes are missing") }
    append(open.span.bytes)
  }
}
