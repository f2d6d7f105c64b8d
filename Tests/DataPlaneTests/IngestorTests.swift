import DataPlane
import JournalModel
import MerkleLog
import Testing

@Suite struct IngestorTests {
  /// Around every boundary of leaf (64) and tail (16).
  static let lengths = [0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 79, 80, 127, 128, 129, 192, 200, 256]

  @Test(arguments: lengths) func `Bytes are journaled with root, leaves and tail, however reads are cut (D6)`(
    _ count: Int
  ) {
    let bytes = pattern(count)
    for most in [1, 7, 64, 1000] {
      for limit in [1, 50, 64, 1 << 20] {
        var file = Following(bytes)
        file.source.most = most
        while case .appended = file.ingest(limit: limit) {}
        #expect(count == 0 || file.holds(bytes))
        #expect(file.ingest() == .unchanged)
      }
    }
  }

  @Test func `An answer never goes beyond the limit and says what the inode's size is`() {
    var file = Following(pattern(300))
    guard case .appended(let appended) = file.ingest(limit: 100) else { return #expect(Bool(false)) }
    #expect(appended.length == 100)
    #expect(appended.leaves == LeafRange(file: file.uuid, first: 0, hashes: file.leaves))
    guard case .appended(let next) = file.ingest(limit: 100) else { return #expect(Bool(false)) }
    #expect(next.leaves.first == 1 && next.leaves.hashes.count == 2)
  }

  @Test(arguments: lengths) func `After a restart at every length the file goes on (D4)`(_ count: Int) {
    let bytes = pattern(300)
    var file = Following(Array(bytes[..<count]))
    _ = file.ingest()
    file.restart()
    #expect(file.ingest() == .unchanged)
    file.restart()
    file.source.bytes = bytes
    guard case .appended = file.ingest() else { return #expect(Bool(false)) }
    #expect(file.holds(bytes))
  }

  @Test(arguments: lengths.dropFirst())
  func `Truncation and refill while the node is down is noticed at every length (D4, S26)`(_ count: Int) {
    for size in [count, count + 1, count + 64, 400] {
      var file = Following(pattern(count))
      _ = file.ingest()
      file.restart()
      file.source.bytes = pattern(size, 1)
      #expect(file.ingest() == .diverged)
      // It stays so: nothing of the doubt is remembered as journaled.
      #expect(file.ingest() == .diverged)
    }
  }

  @Test(arguments: lengths.dropFirst()) func `A shorter file is shrunk, with and without a restart`(_ count: Int) {
    for restarts in [false, true] {
      var file = Following(pattern(count))
      _ = file.ingest()
      if restarts { file.restart() }
      file.source.bytes.removeLast()
      #expect(file.ingest() == .shrunk)
    }
  }

  @Test(arguments: lengths.dropFirst())
  func `Truncation and refill between any two calls never mixes contents (D4, S27)`(_ count: Int) {
    for grown in [1, 20, 100] {
      let old = pattern(count + grown)
      for newSize in [count, count + grown, count + grown + 70] {
        let new = pattern(newSize, 1)
        for moment in 0..<40 {
          var file = Following(Array(old[..<count]))
          _ = file.ingest()
          let journaled = file.source.calls
          file.source.bytes = old
          file.source.before = { call, source in if call == journaled + moment { source.bytes = new } }
          switch file.ingest() {
          case .appended: #expect(file.holds(old))
          case .diverged: #expect(file.holds(old[..<count]))
          case .shrunk: #expect(newSize < count)
          case .unchanged, .gone, .failed: Issue.record("at \(moment)")
          }
        }
      }
    }
  }

  @Test func `The first ingest of a file that is replaced meanwhile takes one content or the other`() {
    let old = pattern(200)
    let new = pattern(260, 1)
    for moment in 0..<60 {
      var file = Following(old)
      file.source.before = { call, source in if call == moment { source.bytes = new } }
      guard case .appended = file.ingest() else { return #expect(Bool(false)) }
      #expect(file.holds(old) || file.holds(new), "at \(moment)")
    }
  }

  /// With one read a piece nothing is compared with nothing: also not where the file had no byte, or one.
  @Test(arguments: [0, 1, 2, 15, 16, 17]) func `Short reads, a truncation and a rewrite never mix two contents (D4)`(
    _ count: Int
  ) {
    for most in [1, 5, 16, 30] {
      for newSize in [count + 1, 90, 100, 140] {
        for moment in 0..<200 {
          var file = Following(pattern(count))
          _ = file.ingest()
          // The first byte stays the same, as that of a date does.
          let (old, new) = (pattern(100), pattern(1) + pattern(newSize - 1, 1))
          let calls = file.source.calls
          file.source.bytes = old
          file.source.most = most
          file.source.before = { call, source in if call == calls + moment { source.bytes = new } }
          guard case .appended(let appended) = file.ingest() else { continue }
          let bytes = [old, new].first { file.holds($0.prefix(Int(appended.length))) }
          #expect(bytes != nil, "\(most) at once, \(newSize) bytes, at \(moment)")
        }
      }
    }
  }

  @Test func `The size in an answer is one of the content that was compared (D4, G7)`() {
    let old = pattern(100)
    for moment in 0..<20 {
      var file = Following(pattern(60))
      _ = file.ingest()
      let calls = file.source.calls
      file.source.bytes = old
      file.source.before = { call, source in if call == calls + moment { source.bytes = pattern(300, 1) } }
      let answer = file.answer()
      if case .appended = answer.outcome { #expect(answer.size == 100) }
    }
  }

  @Test func `A size that shrinks in the middle of reading, above the known length, gives what is left`() {
    let bytes = pattern(200)
    for moment in 0..<40 {
      var file = Following(Array(bytes[..<70]))
      _ = file.ingest()
      let journaled = file.source.calls
      file.source.bytes = bytes
      file.source.before = { call, source in
        if call == journaled + moment { source.bytes = Array(source.bytes[..<90]) }
      }
      guard case .appended = file.ingest() else { return #expect(Bool(false)) }
      #expect(file.holds(bytes) || file.holds(bytes[..<90]))
    }
  }

  @Test func `A file that never holds still is failed, not guessed at`() {
    var file = Following(pattern(40))
    _ = file.ingest()
    let kept = Array(file.source.bytes)
    file.source.before = { call, source in source.bytes = kept + pattern(60, call) }
    guard case .failed = file.ingest() else { return #expect(Bool(false)) }
    #expect(file.holds(kept))
  }

  @Test func `An error of reading says nothing about the file (D10)`() {
    for moment in 0..<12 {
      var file = Following(pattern(70))
      _ = file.ingest()
      let calls = file.source.calls
      file.source.bytes = pattern(150)
      file.restart()
      file.source.before = { call, source in
        source.failure = call == calls + moment ? SourceFailure("EIO") : nil
      }
      guard case .failed = file.ingest() else { continue }
      file.source.failure = nil
      file.source.before = { _, _ in }
      guard case .appended = file.ingest() else { return #expect(Bool(false)) }
      #expect(file.holds(pattern(150)))
    }
  }

  @Test func `Leaves that the journal lacks make it wait, leaves that disagree with its root are no divergence`() {
    var file = Following(pattern(128))
    _ = file.ingest()
    let leaves = file.leaves
    file.restart()
    file.leaves = [leaves[0]]
    guard case .failed = file.ingest() else { return #expect(Bool(false)) }
    file.leaves = [leaves[1], leaves[1]]
    guard case .failed = file.ingest() else { return #expect(Bool(false)) }
    file.leaves = leaves
    #expect(file.ingest() == .unchanged)
  }

  @Test func `A tree that is ahead of the journal goes back to it`() {
    var file = Following(pattern(70))
    _ = file.ingest()
    let (length, root, leaves) = (file.length, file.root, file.leaves)
    file.source.bytes = pattern(200)
    _ = file.ingest()
    (file.length, file.root, file.leaves) = (length, root, leaves)
    guard case .appended = file.ingest() else { return #expect(Bool(false)) }
    #expect(file.holds(pattern(200)))
  }

  @Test(arguments: lengths) func `The root at any journaled length is that of a tree over so many bytes (W2)`(
    _ count: Int
  ) throws {
    let bytes = pattern(260)
    let leaves = TestTree.tree(bytes, leafSize: 64).leaves
    var limits = Limits()
    limits.leafSize = 64
    func root(_ source: ScriptedSource) throws -> Digest? {
      try Ingestor<TestTree>.root(at: UInt64(count), of: source, limits: limits) { wanted in
        guard wanted <= UInt64(leaves.count) else { throw SourceFailure("out of range") }
        return Array(leaves[..<Int(wanted)])
      }
    }
    #expect(try root(ScriptedSource(bytes)) == TestTree.tree(bytes[..<count], leafSize: 64).root)
    guard count % 64 != 0, count < 256 else { return }
    #expect(try root(ScriptedSource(Array(bytes[..<(count - 1)]))) == nil)
    var changed = bytes
    changed[count / 64 * 64] ^= 1
    #expect(try root(ScriptedSource(changed)) == nil)
  }
}
