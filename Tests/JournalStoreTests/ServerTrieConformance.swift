import JournalModel
import JournalStore
import Testing

/// What every `ServerHoldingsStore` promises of the trie over what it holds (M2, M3).
@Suite struct ServerTrieConformance {
  private typealias Trie = HoldingsTrie<CheapHash>

  private func digest(_ test: ServerStoreUnderTest) throws -> HoldingsDigest {
    try #require(try test.store.answer(.digest).digest)
  }

  private func fold(_ test: ServerStoreUnderTest, _ count: Int = .max) throws(StoreError) {
    try test.store.commit(ServerBatch { $0.folded = count })
  }

  /// By its definition, from all that the feed says.
  private func expected(_ test: ServerStoreUnderTest) throws -> Digest {
    let changes = try test.store.answer(.changes(after: 0, count: .max)).changes
    let leaves = changes.map { Trie.leaf($0.subject, $0.heads) }.sorted { $0.position < $1.position }
    func part(_ leaves: [TrieLeaf], _ depth: Int) -> Digest {
      if leaves.count <= 32 { return Trie.bucket(leaves[...]) }
      let children = (0..<16).map { nibble in
        part(leaves.filter { ($0.position.words.0 >> (60 - 4 * UInt64(depth))) & 15 == nibble }, depth + 1)
      }
      return Trie.inner(children)
    }
    return part(leaves, 0)
  }

  private func files(_ numbers: some Sequence<UInt64>, of host: HostName, length: UInt64 = 7) -> [StoredString] {
    numbers.map { storedString(stringKey(host, $0), committed: length) }
  }

  @Test(arguments: Backend.allCases) func `M2: the digest follows the feed, and is that of what is held`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let nothing = HoldingsDigest(root: Trie.bucket([]), end: 0)
    #expect(try digest(test) == nothing)
    try fold(test)
    #expect(try digest(test) == nothing)
    let (a, b) = (try host("a"), try host("b"))
    try test.store.commit(
      ServerBatch {
        $0.strings = files(1...3, of: a)
        $0.records = [run(b, [record(1)])]
      })
    #expect(try digest(test) == nothing)
    // In parts: what it speaks of is certain up to its number.
    try fold(test, 1)
    #expect(try digest(test).end == 1)
    try fold(test, 2)
    #expect(try digest(test).end == 3)
    try fold(test, 9)
    #expect(try digest(test) == HoldingsDigest(root: expected(test), end: 4))
    try test.reopen()
    #expect(try digest(test) == HoldingsDigest(root: expected(test), end: 4))
    // With the batch that brings it, and after one that changes what is there.
    try test.store.commit(
      ServerBatch {
        $0.strings = files(2...2, of: a, length: 8)
        $0.folded = 1
      })
    #expect(try digest(test) == HoldingsDigest(root: expected(test), end: 5))
  }

  @Test(arguments: Backend.allCases) func `M2: equal sets have equal digests, however they came`(
    _ backend: Backend
  ) throws {
    var random = SeededNumbers(seed: 1)
    let hosts = [try host("a"), try host("b"), try host("c")]
    let all = hosts.flatMap { files(1...300, of: $0) }
    var digests: Set<Digest> = []
    for _ in 0..<3 {
      let test = try ServerStoreUnderTest(backend)
      var left = all.shuffled(using: &random)[...]
      while !left.isEmpty {
        let some = left.prefix(.random(in: 1...200, using: &random))
        left = left.dropFirst(some.count)
        // Some grow in two steps.
        var first = Array(some)
        for index in first.indices where index % 3 == 0 {
          first[index].committed = 3
          first[index].root = JournalStoreTests.digest(3)
          first[index].synced = 3
        }
        try test.store.commit(ServerBatch { $0.strings = first })
        try fold(test, .random(in: 1...300, using: &random))
        try test.store.commit(ServerBatch { $0.strings = Array(some) })
      }
      try fold(test)
      let digest = try digest(test)
      #expect(digest.root == (try expected(test)))
      #expect(try digest.end == test.store.feed().last)
      digests.insert(digest.root)
    }
    #expect(digests.count == 1)
  }

  @Test(arguments: Backend.allCases) func `M3: what differs is found from the root down`(_ backend: Backend) throws {
    let (mine, theirs) = (try ServerStoreUnderTest(backend), try ServerStoreUnderTest(backend))
    let web1 = try host("web1")
    for test in [mine, theirs] {
      try test.store.commit(ServerBatch { $0.strings = files(1...2_000, of: web1) })
      try fold(test)
    }
    let differing: [UInt64] = [5, 700, 1_999]
    try theirs.store.commit(
      ServerBatch { $0.strings = files([2_001], of: web1) + files(differing, of: web1, length: 9) })
    try fold(theirs)
    var found: Set<ChangedSubject> = []
    var (toAsk, asked) = ([TriePrefix.root], 0)
    while let prefix = toAsk.popLast() {
      asked += 1
      switch try #require(try theirs.store.answer(.subtrie(prefix)).subtrie) {
      case .inner(let parts):
        #expect(parts.count == TriePrefix.fanOut)
        let own = try mine.store.answer(.triePart(prefix)).trieParts
        for index in parts.indices where parts[index] != own[index] { toAsk.append(prefix.child(index)) }
      case .bucket(let changes):
        #expect(changes.count <= Trie.bucketSize)
        #expect(changes.allSatisfy { prefix.contains(Trie.position(of: $0.subject)) })
        let announced = try theirs.store.answer(.changes(after: 0, count: .max)).changes
        #expect(Set(changes).isSubset(of: announced))
        found.formUnion(changes.map(\.subject))
      }
    }
    for number in differing + [2_001] { #expect(found.contains(.file(stringKey(web1, number).key))) }
    // A root, and for each difference a part of the second level and a bucket.
    #expect(asked <= 1 + 4 * 2)
  }

  @Test(arguments: Backend.allCases) func `M2: a bucket is divided when it is full, and its parts are the same before`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    try test.store.commit(ServerBatch { $0.strings = files(1...32, of: web1) })
    try fold(test)
    guard case .bucket(let changes)? = try test.store.answer(.subtrie(.root)).subtrie else {
      Issue.record("32 are divided")
      return
    }
    #expect(changes.count == 32)
    let before = try test.store.answer(.triePart(.root)).trieParts
    try test.store.commit(ServerBatch { $0.strings = files(33...33, of: web1) })
    try fold(test)
    guard case .inner(let after)? = try test.store.answer(.subtrie(.root)).subtrie else {
      Issue.record("33 aren't divided")
      return
    }
    #expect(zip(before, after).count { $0 != $1 } == 1)
    #expect(try test.store.answer(.triePart(.root)).trieParts == after)
  }

  @Test(arguments: Backend.allCases) func `P5: a trie can be made anew`(_ backend: Backend) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    try test.store.commit(ServerBatch { $0.strings = files(1...100, of: web1) })
    try fold(test)
    let before = try digest(test)
    try test.store.commit(
      ServerBatch {
        $0.foldsAnew = true
        $0.folded = 10
      })
    #expect(try digest(test).end == 10)
    try fold(test)
    #expect(try digest(test) == before)
  }
}
