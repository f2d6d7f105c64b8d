import DataPlane
import JournalModel
import MerkleLog

/// FNV-1a in four lanes: cheap, and no two inputs of these tests collide.
enum TestTree: TreeHasher {
  struct Leaf: LeafHasher {
    private var bytes: [UInt8] = []
    init() {}
    mutating func update(_ span: RawSpan) { span.withUnsafeBytes { bytes.append(contentsOf: $0) } }
    func value() -> Digest { TestTree.hash([0] + bytes) }
    func copy() -> Leaf { self }
  }
  static func digest(_ bytes: RawSpan) -> Digest { bytes.withUnsafeBytes { hash(Array($0)) } }
  static var empty: Digest { hash([]) }
  static func node(_ left: Digest, _ right: Digest) -> Digest {
    var writer = ByteWriter()
    writer.write(UInt8(1))
    writer.write(left)
    writer.write(right)
    return hash(writer.bytes)
  }

  private static func hash(_ bytes: [UInt8]) -> Digest {
    func lane(_ seed: UInt64) -> UInt64 {
      bytes.reduce(0xCBF2_9CE4_8422_2325 ^ seed) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
    return Digest(words: lane(1), lane(2), lane(3), lane(4))
  }

  static func digest(of bytes: some Collection<UInt8>) -> Digest { hash(Array(bytes)) }

  /// The root and the hashes of complete leaves.
  static func tree(_ bytes: some Collection<UInt8>, leafSize: Int) -> (root: Digest, leaves: [Digest]) {
    var tree = FileTree<TestTree>(leafSize: leafSize)
    var leaves: [Digest] = []
    let bytes = Array(bytes)
    tree.append(bytes.span.bytes) { leaves.append($1) }
    return (tree.root, leaves)
  }
}

/// A file in memory, whose content something may change just before any call.
final class ScriptedSource: ByteSource {
  var bytes: [UInt8]
  var modified = WallTime(nanoseconds: 1)
  /// Most bytes that one read gives.
  var most = Int.max
  var failure: SourceFailure?
  /// Called before the k-th call of any kind, counted from 0.
  var before: (Int, ScriptedSource) -> Void = { _, _ in }
  private(set) var calls = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  private func enter() throws {
    before(calls, self)
    calls += 1
    if let failure { throw failure }
  }

  func facts() throws -> SourceFacts {
    try enter()
    return SourceFacts(size: UInt64(bytes.count), modified: modified)
  }

  func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
    try enter()
    guard offset < UInt64(bytes.count) else { return 0 }
    let count = min(buffer.count, bytes.count - Int(offset), most)
    buffer.copyBytes(from: bytes[Int(offset)..<(Int(offset) + count)])
    return count
  }
}

/// Bytes in which no two leaves are equal.
func pattern(_ count: Int, _ seed: Int = 0) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 131) ^ ($0 >> 6 &* 17) ^ (seed &* 59)) }
}

/// A file, an ingestor for it, and the journal's view of both.
struct Following {
  let limits: Limits
  let uuid = FileUUID(UUIDBytes(high: 1, low: 2))
  var source: ScriptedSource
  var ingestor: Ingestor<TestTree>
  var length: UInt64 = 0
  var root = TestTree.empty
  var tail = TestTree.empty
  var leaves: [Digest] = []
  /// Chunk in which the ingestor reads.
  var piece = 24

  init(_ bytes: [UInt8], leafSize: Int = 64, tailSize: Int = 16) {
    var limits = Limits()
    limits.leafSize = leafSize
    limits.tailSize = tailSize
    self.limits = limits
    source = ScriptedSource(bytes)
    ingestor = Ingestor(limits: limits)
  }

  mutating func restart() { ingestor = Ingestor(limits: limits) }

  /// Ingests, and journals what is answered.
  mutating func ingest(limit: Int = 1 << 20) -> IngestAnswer.Outcome { answer(limit: limit).outcome }

  mutating func answer(limit: Int = 1 << 20) -> IngestAnswer {
    let leaves = leaves
    let answer = withUnsafeTemporaryAllocation(byteCount: piece, alignment: 1) { scratch in
      ingestor.ingest(
        source, file: uuid, from: length, root: root, limit: limit, scratch: scratch,
        storedLeaves: { count in
          guard count <= UInt64(leaves.count) else { throw SourceFailure("out of range") }
          return Array(leaves[..<Int(count)])
        })
    }
    if case .appended(let appended) = answer.outcome {
      length = appended.length
      root = appended.root
      tail = appended.tail
      self.leaves += appended.leaves.hashes
    }
    return answer
  }

  /// Is what is journaled the tree of exactly these bytes?
  func holds(_ bytes: some Collection<UInt8>) -> Bool {
    let expected = TestTree.tree(bytes, leafSize: limits.leafSize)
    return length == UInt64(bytes.count) && root == expected.root && leaves == expected.leaves
      && tail == TestTree.digest(of: bytes.suffix(min(limits.tailSize, bytes.count / 2)))
  }
}
