package import JournalModel
package import MerkleLog

/// Reads a followed file's new bytes into its tree, and notices when the bytes before them are no longer those that were
/// journaled (D4). One for each incarnation. Shared by the daemon and the simulator.
///
/// Stated limit (D4): a refill that is equal to the old bytes wherever they are compared counts as the old bytes.
package struct Ingestor<H: TreeHasher> where H.Value == Digest {
  private let leafSize: Int
  private let tailSize: Int
  /// Where the tree stands; nil until the first ingest, and after a doubt.
  private var standing: Standing?

  private struct Standing {
    var tree: FileTree<H>
    var root: Digest
    /// Hash of the last `tailCount` = min(tailSize, length) bytes before the tree's length. More than D6's half of the
    /// file, since it need not hold after a change in place.
    var tail: Digest
    var tailCount: Int
  }

  /// How often bytes that change while they are read are read again before the answer is `.failed`.
  private static var attempts: Int { 3 }

  /// How many bytes the last `ingest` appended, if one read gave them all: they stand at the beginning of its `scratch`.
  package private(set) var readAtOnce: Int?

  package init(limits: Limits) {
    leafSize = limits.leafSize
    tailSize = limits.tailSize
  }

  /// The length and root at which the tree stands, if there is one.
  package var position: (length: UInt64, root: Digest)? { standing.map { ($0.tree.length, $0.root) } }

  /// Reads at most `limit` bytes from `from` on, in pieces of one read each, at most as large as `scratch`.
  ///
  /// `storedLeaves(n)` gives the hashes of the first n complete leaves as the journal has them, or throws; it is asked
  /// only when the tree doesn't stand at `from` with `root` (after a restart). The tree advances only with `.appended`.
  package mutating func ingest(
    _ source: some ByteSource, file: FileUUID, from: UInt64, root: Digest, limit: Int,
    scratch: UnsafeMutableRawBufferPointer, storedLeaves: (UInt64) throws -> [Digest]
  ) -> IngestAnswer {
    precondition(scratch.count > 0 && limit > 0)
    readAtOnce = nil
    do {
      if let doubt = try stand(at: from, root: root, source: source, storedLeaves: storedLeaves) { return doubt }
      for _ in 0..<Self.attempts {
        if let answer = try readOn(source, file: file, limit: limit, scratch: scratch) { return answer }
      }
      return .failed("changes while it is read")
    } catch {
      return .failed("\(error)")
    }
  }

  /// `ingest` with a piece buffer of its own.
  package mutating func ingest(
    _ source: some ByteSource, file: FileUUID, from: UInt64, root: Digest, limit: Int,
    storedLeaves: (UInt64) throws -> [Digest]
  ) -> IngestAnswer {
    withUnsafeTemporaryAllocation(byteCount: min(limit, 256 << 10), alignment: 16) { scratch in
      ingest(
        source, file: file, from: from, root: root, limit: limit, scratch: scratch, storedLeaves: storedLeaves)
    }
  }

  // MARK: After a restart

  /// Makes the tree stand at `from` with `root`: stored leaves, the open leaf re-read, and the whole leaf before it
  /// re-read and compared, since at a multiple of the leaf size the open one is empty and proves nothing (D4).
  private mutating func stand(
    at from: UInt64, root: Digest, source: some ByteSource, storedLeaves: (UInt64) throws -> [Digest]
  ) throws -> IngestAnswer? {
    if let standing, standing.tree.length == from, standing.root == root { return nil }
    standing = nil
    let facts = try source.facts()
    guard facts.size >= from else { return IngestAnswer(.shrunk, facts) }
    let size = UInt64(leafSize)
    let whole = from / size
    let leaves = try storedLeaves(whole)
    guard UInt64(leaves.count) == whole else { throw SourceFailure("leaves are missing in the journal") }
    var tree = FileTree<H>(leafSize: leafSize, leaves: leaves)

    let openStart = whole * size
    let checkStart = openStart - min(openStart, size)
    let tailCount = Int(min(UInt64(tailSize), from))
    let start = min(checkStart, from - UInt64(tailCount))
    let bytes = try source.bytes(at: start, count: Int(from - start))
    guard UInt64(bytes.count) == from - start else { return IngestAnswer(.shrunk, try source.facts()) }
    if let last = leaves.last {
      let leaf = bytes.span.bytes.extracting(Int(checkStart - start)..<Int(openStart - start))
      guard H.leaf(leaf) == last else { return IngestAnswer(.diverged, facts) }
    }
    tree.append(bytes.span.bytes.extracting(droppingFirst: Int(openStart - start)))
    let found = tree.root
    if found != root {
      // Without an open leaf the root comes from the journal's leaves alone: the file has no part in it.
      guard tree.openLength > 0 else { throw SourceFailure("the journal's leaves don't have the journaled root") }
      return IngestAnswer(.diverged, facts)
    }
    let tail = H.digest(bytes.span.bytes.extracting(last: tailCount))
    standing = Standing(tree: tree, root: root, tail: tail, tailCount: tailCount)
    return nil
  }

  // MARK: New bytes

  /// One attempt; nil when the bytes changed while they were read, though not those before them.
  private mutating func readOn(
    _ source: some ByteSource, file: FileUUID, limit: Int, scratch: UnsafeMutableRawBufferPointer
  ) throws -> IngestAnswer? {
    guard let before = standing else { return nil }
    let from = before.tree.length
    var new = NewBytes(tree: before.tree.copy(), known: before, tailSize: tailSize)
    switch try new.read(source, limit: limit, scratch: scratch) {
    case .shrunk: return doubt(.shrunk, new.facts)
    case .diverged: return doubt(.diverged, new.facts)
    case .torn: return nil
    case .same: break
    }
    let length = new.tree.length
    guard length > from else { return IngestAnswer(.unchanged, new.facts) }

    if new.reads == 1 { readAtOnce = Int(length - from) }
    let last = new.recent
    let root = new.tree.root
    standing = Standing(tree: new.tree, root: root, tail: H.digest(last.span.bytes), tailCount: last.count)
    let half = last.suffix(Int(min(UInt64(tailSize), length / 2)))
    let leaves = LeafRange(file: file, first: from / UInt64(leafSize), hashes: new.leaves)
    let appended = Appended(length: length, root: root, tail: H.digest(half.span.bytes), leaves: leaves)
    return IngestAnswer(.appended(appended), new.facts)
  }

  private mutating func doubt(_ outcome: IngestAnswer.Outcome, _ facts: SourceFacts) -> IngestAnswer {
    standing = nil
    return IngestAnswer(outcome, facts)
  }

  /// Bytes read in one go, on a copy of the tree.
  ///
  /// A piece is what one single read gives: what several give may be the beginning of an old content and the end of a
  /// new one, bytes that the file never had. After each piece `tailSize` bytes are read again and compared, and only then
  /// is it taken: truncation and refill can happen between a check and a read (D4). They are the last ones before the
  /// piece and, where fewer stand there, the piece's own first ones, so that nothing is ever compared with nothing. The
  /// inode is asked for its size between the two, so that this is a size of the content that is compared.
  private struct NewBytes {
    enum Trust { case same, torn, shrunk, diverged }
    var tree: FileTree<H>
    let known: Standing
    let tailSize: Int
    var leaves: [Digest] = []
    private(set) var reads = 0
    private(set) var facts = SourceFacts(size: 0, modified: WallTime(nanoseconds: 0))
    /// The last bytes before the tree's length, at most `tailSize`; nil until the known ones have been read again.
    private var tail: [UInt8]?
    var recent: [UInt8] { tail ?? [] }

    init(tree: FileTree<H>, known: Standing, tailSize: Int) {
      self.tree = tree
      self.known = known
      self.tailSize = tailSize
    }

    mutating func read(
      _ source: some ByteSource, limit: Int, scratch: UnsafeMutableRawBufferPointer
    ) throws -> Trust {
      var left = limit
      while left > 0 {
        let room = UnsafeMutableRawBufferPointer(rebasing: scratch[..<min(left, scratch.count)])
        let count = try source.read(at: tree.length, into: room)
        let piece = UnsafeRawBufferPointer(rebasing: room[..<count])
        let trust = try compare(source, piece)
        guard trust == .same else { return trust }
        guard count > 0 else { break }
        reads += 1
        tree.append(piece.bytes) { leaves.append($1) }
        tail = Array((recent + piece.suffix(tailSize)).suffix(tailSize))
        left -= count
        // The size was asked for after the read.
        if facts.size <= tree.length { break }
      }
      return .same
    }

    /// Reads what stands before the piece and its beginning again. Sets `tail` to the former.
    private mutating func compare(_ source: some ByteSource, _ piece: UnsafeRawBufferPointer) throws -> Trust {
      let before = tail?.count ?? known.tailCount
      facts = try source.facts()
      guard facts.size >= known.tree.length else { return .shrunk }
      guard facts.size >= tree.length + UInt64(piece.count) else { return .torn }
      let head = piece.prefix(max(0, tailSize - before))
      let again = try source.bytes(at: tree.length - UInt64(before), count: before + head.count)
      if let tail {
        guard again.prefix(before) == tail[...] else { return .torn }
      } else {
        guard again.count >= before else { return .shrunk }
        guard H.digest(again.span.bytes.extracting(first: before)) == known.tail else { return .diverged }
        tail = Array(again.prefix(before))
      }
      return again.dropFirst(before).elementsEqual(head) ? .same : .torn
    }
  }
}

extension Ingestor {
  /// The root of the file's first `length` bytes, which must be journaled: stored leaves and the rest of the last leaf
  /// re-read. Nil when the file no longer has those bytes. Where the journal has that leaf whole, its hash vouches for
  /// what is re-read; in the open leaf a changed byte shows in the root only.
  package static func root(
    at length: UInt64, of source: some ByteSource, limits: Limits, storedLeaves: (UInt64) throws -> [Digest]
  ) throws -> Digest? {
    let whole = length / UInt64(limits.leafSize)
    let rest = Int(length % UInt64(limits.leafSize))
    var tree = FileTree<H>(leafSize: limits.leafSize, leaves: try storedLeaves(whole))
    guard tree.length == whole * UInt64(limits.leafSize) else {
      throw SourceFailure("leaves are missing in the journal")
    }
    guard rest > 0 else { return tree.root }
    let vouching = (try? storedLeaves(whole + 1))?.last
    let bytes = try source.bytes(at: tree.length, count: vouching == nil ? rest : limits.leafSize)
    guard bytes.count >= rest, vouching == nil || vouching == H.leaf(bytes.span.bytes) else { return nil }
    tree.append(bytes.span.bytes.extracting(first: rest))
    return tree.root
  }
}

extension IngestAnswer {
  package init(_ outcome: Outcome, _ facts: SourceFacts) {
    self.init(outcome: outcome, size: facts.size, modified: facts.modified, links: facts.links)
  }

  package static var gone: IngestAnswer { without(.gone) }
  package static func failed(_ reason: String) -> IngestAnswer { without(.failed(reason)) }

  private static func without(_ outcome: Outcome) -> IngestAnswer {
    IngestAnswer(outcome: outcome, size: 0, modified: WallTime(nanoseconds: 0), links: 0)
  }
}
