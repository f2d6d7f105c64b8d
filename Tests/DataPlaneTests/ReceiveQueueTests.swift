import DataPlane
import JournalModel
import MerkleLog
import Testing

@Suite struct ReceiveQueueTests {
  private static var limits: Limits {
    var limits = Limits()
    limits.leafSize = 64
    return limits
  }

  /// A queue over `bytes`, of which `committed` are held already.
  private struct Receiving {
    let bytes: [UInt8]
    let key: StringKey
    var queue: ReceiveQueue<TestTree>
    var committed = 0
    var heldCalls = 0

    init(_ bytes: [UInt8]) throws {
      self.bytes = bytes
      let host = try #require(HostName("web1"))
      key = StringKey(key: FileKey(host: host, file: FileUUID(UUIDBytes(high: 3, low: 4))), string: 0)
      queue = ReceiveQueue(key: key, limits: limits)
    }

    func root(_ length: Int) -> Digest { TestTree.tree(bytes[..<length], leafSize: 64).root }
    func promise(_ length: Int) -> Promise { Promise(key: key.key, length: UInt64(length), root: root(length)) }

    mutating func admit(_ range: Range<Int>, in piece: Int) {
      for lower in stride(from: range.lowerBound, to: range.upperBound, by: piece) {
        queue.admit(Array(bytes[lower..<min(range.upperBound, lower + piece)]), offset: UInt64(lower))
      }
    }

    mutating func verify(from: Int, _ promises: [Promise], heldFails: Bool = false) -> VerifyAnswer {
      let (bytes, committed) = (bytes, committed)
      var calls = 0
      defer { heldCalls += calls }
      return queue.verify(
        from: UInt64(from), root: root(from), promises: promises,
        storedLeaves: { count in
          guard Int(count) * 64 <= committed else { throw SourceFailure("out of range") }
          return Array(TestTree.tree(bytes, leafSize: 64).leaves[..<Int(count)])
        },
        held: { offset, count in
          calls += 1
          guard !heldFails, Int(offset) + count <= committed else { throw SourceFailure("EIO") }
          return Array(bytes[Int(offset)..<(Int(offset) + count)])
        })
    }
  }

  @Test func `Promises are met in turn, whatever the frames, with the leaves they complete (W3)`() throws {
    for piece in [1, 13, 64, 400] {
      var string = try Receiving(pattern(300))
      string.admit(0..<300, in: piece)
      let first = string.verify(from: 0, [10, 64, 200].map(string.promise))
      #expect(first.upTo == 200 && first.root == string.root(200) && first.failedAt == nil)
      #expect(
        first.leaves.first == 0 && first.leaves.hashes == TestTree.tree(string.bytes[..<200], leafSize: 64).leaves)
      let second = string.verify(from: 200, [string.promise(300)])
      #expect(second.upTo == 300 && second.leaves.first == 3 && second.leaves.hashes.count == 1)
      #expect(string.heldCalls == 0)
    }
  }

  @Test func `A root that isn't met is passed over, and the tree stands at the last one that is (W3, J4)`() throws {
    var string = try Receiving(pattern(300))
    string.admit(0..<300, in: 50)
    func wrong(_ length: Int) -> Promise {
      Promise(key: string.key.key, length: UInt64(length), root: TestTree.empty)
    }
    let (first, last) = (string.promise(70), string.promise(140))
    let all = string.verify(from: 0, [wrong(10), first, wrong(70), wrong(135), last, wrong(150), wrong(151)])
    #expect(all.upTo == 140 && all.root == string.root(140) && all.failedAt == 151)
    #expect(all.met == [first, last])
    #expect(all.leaves.hashes.count == 2)
    #expect(string.verify(from: 140, [wrong(290), string.promise(300)]).failedAt == nil)
    let answer = string.verify(from: 0, [string.promise(70), wrong(150)])
    #expect(answer.upTo == 70 && answer.root == string.root(70) && answer.failedAt == 150)
    #expect(answer.leaves.hashes.count == 1)
    // The host sends the range again; nothing held is asked for.
    string.queue.discard(from: 70)
    string.admit(70..<300, in: 50)
    #expect(string.verify(from: 70, [string.promise(300)]).upTo == 300)
    #expect(string.heldCalls == 0)
  }

  @Test func `Nothing met: the answer is where it began`() throws {
    var string = try Receiving(pattern(100))
    string.admit(0..<100, in: 100)
    var wrong = string.promise(100)
    wrong.length = 99
    let answer = string.verify(from: 0, [wrong])
    #expect(answer.upTo == 0 && answer.root == TestTree.empty && answer.failedAt == 99)
    #expect(answer.leaves.hashes.isEmpty && answer.unreadable == nil)
  }

  @Test func `A promise beyond the received bytes is left for later`() throws {
    var string = try Receiving(pattern(100))
    string.admit(0..<80, in: 30)
    let answer = string.verify(from: 0, [string.promise(80), string.promise(100)])
    #expect(answer.upTo == 80 && answer.failedAt == nil)
  }

  @Test(arguments: IngestorTests.lengths) func `After a restart the tree is rebuilt at every length`(
    _ length: Int
  ) throws {
    var string = try Receiving(pattern(300))
    string.committed = length
    string.admit(length..<300, in: 41)
    let answer = string.verify(from: length, [string.promise(300)])
    #expect(answer.upTo == 300 && answer.unreadable == nil)
    #expect(answer.leaves.first == UInt64(length / 64))
  }

  @Test func `Discarded bytes: the tree goes back to what is committed`() throws {
    var string = try Receiving(pattern(300))
    string.admit(0..<100, in: 20)
    #expect(string.verify(from: 0, [string.promise(100)]).upTo == 100)
    string.committed = 100
    string.queue.free(below: 100)
    string.admit(100..<300, in: 70)
    #expect(string.verify(from: 100, [string.promise(300)]).upTo == 300)
    string.queue.discard(from: 100)
    string.admit(100..<200, in: 10)
    #expect(string.verify(from: 100, [string.promise(200)]).upTo == 200)
    #expect(string.heldCalls == 1)
  }

  @Test func `Held bytes that can't be read are neither met nor failed`() throws {
    var string = try Receiving(pattern(300))
    string.committed = 70
    string.admit(70..<300, in: 70)
    let answer = string.verify(from: 70, [string.promise(300)], heldFails: true)
    #expect(answer.upTo == 70 && answer.failedAt == nil && answer.unreadable != nil)
    #expect(string.verify(from: 70, [string.promise(300)]).upTo == 300)
  }

  @Test func `Queued bytes are given, freed and discarded by offset`() throws {
    let bytes = pattern(200)
    for piece in [1, 7, 64, 200] {
      var string = try Receiving(bytes)
      string.admit(20..<200, in: piece)
      #expect(string.queue.bytes(offset: 33, length: 99) == Array(bytes[33..<132]))
      string.queue.free(below: 50)
      #expect(string.queue.queue.start == 50 && string.queue.queue.byteCount == 150)
      #expect(string.queue.queue.bytes(49..<60) == nil)
      string.queue.discard(from: 111)
      #expect(string.queue.queue.end == 111)
      #expect(string.queue.bytes(offset: 50, length: 61) == Array(bytes[50..<111]))
      string.queue.admit(Array(bytes[100..<130]), offset: 100, dropping: 11)
      #expect(string.queue.bytes(offset: 50, length: 80) == Array(bytes[50..<130]))
      string.queue.free(below: 500)
      #expect(string.queue.queue.isEmpty)
      string.admit(150..<160, in: 3)
      #expect(string.queue.bytes(offset: 150, length: 10) == Array(bytes[150..<160]))
    }
  }

  @Test func `What is held occupies what it holds, whatever the pieces it came in (P2)`() {
    for piece in [1, 7, 900, 40_000] {
      var queue = ByteQueue()
      var offset = 0
      while offset < 200_000 {
        queue.append(ArraySlice([UInt8](repeating: 7, count: piece)), at: UInt64(offset))
        offset += piece
      }
      #expect(queue.footprint <= 2 * offset + 2_000)
      #expect(queue.bytes(150_000..<150_010) == [UInt8](repeating: 7, count: 10))
      // A rest doesn't keep what went before it, or came behind it.
      queue.free(below: UInt64(offset - 10))
      #expect(queue.footprint <= 200)
      #expect(queue.bytes(UInt64(offset - 10)..<UInt64(offset)) == [UInt8](repeating: 7, count: 10))
    }
    var queue = ByteQueue()
    queue.append([UInt8](repeating: 1, count: 256 << 10).dropFirst(262_100), at: 0, of: 256 << 10)
    queue.append([UInt8](repeating: 2, count: 256 << 10)[...], at: 44)
    queue.discard(from: 50)
    #expect(queue.footprint <= 300)
    #expect(queue.bytes(0..<50) == [UInt8](repeating: 1, count: 44) + [UInt8](repeating: 2, count: 6))
  }
}

@Suite struct StringProbeTests {
  private let own = pattern(500)

  private func root(_ length: Int) -> Digest { TestTree.tree(own[..<length], leafSize: 64).root }

  /// Compares `bytes` in frames of a size, and returns what comes of the last one, with that frame and how often leaves were
  /// read.
  private func probe(
    _ bytes: [UInt8], _ piece: Int, _ probe: inout StringProbe<TestTree>
  ) throws -> (ProbeAnswer, frame: [UInt8], leavesRead: Int) {
    var (offset, reads) = (0, 0)
    while true {
      var frame = Array(bytes[offset..<min(bytes.count, offset + piece)])
      let count = min(frame.count, own.count - offset)
      let answer = try probe.answer(
        &frame, offset: UInt64(offset), count: count,
        storedLeaves: { count in
          reads += count > 0 ? 1 : 0
          return Array(TestTree.tree(own, leafSize: 64).leaves[..<Int(count)])
        }, held: { Array(own[Int($0)..<(Int($0) + $1)]) })
      offset += count
      if offset == bytes.count { return (answer, frame, reads) }
      if case .differs = answer { return (answer, frame, reads) }
      #expect(answer == .same(root: root(offset)))
    }
  }

  @Test(arguments: [1, 7, 63, 64, 65, 200, 500])
  func `Bytes leave a string at the first that differs, with their leaf and the root before it (W3)`(piece: Int) throws
  {
    var one = StringProbe<TestTree>(leafSize: 64)
    let same = try probe(own, piece, &one)
    #expect(same.0 == .same(root: root(500)) && same.leavesRead == 0)
    for divergence in [0, 1, 63, 64, 127, 128, 300, 499] {
      var other = own
      other[divergence] ^= 1
      let start = divergence / 64 * 64
      let (answer, frame, reads) = try probe(other, piece, &one)
      #expect(answer == .differs(at: UInt64(divergence), start: UInt64(start), root: root(start)))
      #expect(frame == Array(other[start..<(start + frame.count)]))
      #expect(reads == 0)
    }
  }

  @Test func `Who goes on alternately makes no leaves be read again (P6)`() throws {
    var probe = StringProbe<TestTree>(leafSize: 64)
    var reads = 0
    func ask(_ offset: Int, _ count: Int) throws {
      var frame = Array(own[offset..<(offset + count)])
      let answer = try probe.answer(
        &frame, offset: UInt64(offset), count: count,
        storedLeaves: { count in
          reads += count > 0 ? 1 : 0
          return Array(TestTree.tree(own, leafSize: 64).leaves[..<Int(count)])
        }, held: { Array(own[Int($0)..<(Int($0) + $1)]) })
      #expect(answer == .same(root: root(offset + count)))
    }
    try ask(0, 400)
    try ask(0, 130)
    for step in 0..<50 {
      try ask(400 + step, 1)
      try ask(130 + step, 1)
    }
    #expect(reads == 0)
    // After a start, and where so many were compared since.
    try ask(300, 10)
    #expect(reads == 1)
  }
}
