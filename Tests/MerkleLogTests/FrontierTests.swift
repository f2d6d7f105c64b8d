import MerkleLog
import Testing

@Suite struct FrontierTests {
  private func leaves(_ count: Int) -> [UInt64] {
    var random = Seeded(7)
    return (0..<count).map { _ in random.next() }
  }

  @Test("RFC 6962, 2.1: the root of every size from 0 to 300 is the definition's")
  func rootsAgainstDefinition() {
    let leaves = leaves(301)
    var frontier = Frontier<CheapHasher>()
    for size in 0...300 {
      #expect(frontier.size == UInt64(size))
      #expect(frontier.root == naiveRoot(CheapHasher.self, leaves[..<size]))
      #expect(frontier.root(with: leaves[size]) == naiveRoot(CheapHasher.self, leaves[...size]))
      #expect(frontier.subtrees.count == size.nonzeroBitCount)
      frontier.append(leaves[size])
    }
  }

  @Test("Each perfect subtree is reported once, with its address and root")
  func completedSubtrees() {
    let leaves = leaves(300)
    var frontier = Frontier<CheapHasher>()
    var seen: Set<NodeAddress> = []
    for leaf in leaves {
      frontier.append(leaf) { address, value in
        #expect(seen.insert(address).inserted)
        let first = Int(address.index) << Int(address.level)
        let count = 1 << Int(address.level)
        #expect(value == naiveRoot(CheapHasher.self, leaves[first..<(first + count)]))
      }
    }
    let expected = (1...8).map { 300 >> $0 }.reduce(0, +)
    #expect(seen.count == expected)
  }

  @Test("A frontier of any earlier size comes back from the stored subtrees and goes on alike")
  func frontierAtEarlierSize() {
    let leaves = leaves(300)
    var nodes: [NodeAddress: UInt64] = [:]
    var frontier = Frontier<CheapHasher>()
    var history = [frontier]
    for (index, leaf) in leaves.enumerated() {
      nodes[NodeAddress(level: 0, index: UInt64(index))] = leaf
      frontier.append(leaf) { nodes[$0] = $1 }
      history.append(frontier)
    }
    for size in 0...300 {
      var asked = 0
      var earlier = Frontier<CheapHasher>.at(size: UInt64(size)) { address in
        asked += 1
        return nodes[address] ?? 0
      }
      #expect(earlier.root == history[size].root)
      #expect(earlier.subtrees == history[size].subtrees)
      #expect(asked == size.nonzeroBitCount)
      for leaf in leaves[size...].prefix(3) { earlier.append(leaf) }
      #expect(earlier.root == history[min(300, size + 3)].root)
    }
  }

  @Test func aFrontierIsRebuiltFromItsParts() {
    var frontier = Frontier<CheapHasher>()
    for leaf in leaves(77) { frontier.append(leaf) }
    var again = Frontier<CheapHasher>(size: frontier.size, subtrees: frontier.subtrees)
    #expect(again.root == frontier.root)
    again.append(1)
    frontier.append(1)
    #expect(again.root == frontier.root)
  }

  @Test("An error of the store passes through")
  func errorsPassThrough() {
    struct Missing: Error {}
    #expect(throws: Missing.self) {
      try Frontier<CheapHasher>.at(size: 5) { (address) throws(Missing) in
        if address.level == 0 { throw Missing() }
        return 1
      }
    }
  }
}

@Suite struct FileTreeTests {
  private func content(_ count: Int) -> [UInt8] {
    var random = Seeded(8)
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next() >> 11) }
  }

  private func naive(_ bytes: ArraySlice<UInt8>, leafSize: Int) -> UInt64 {
    var hashes: [UInt64] = []
    for start in stride(from: bytes.startIndex, to: bytes.endIndex, by: leafSize) {
      hashes.append(CheapHasher.leaf(Array(bytes[start..<min(start + leafSize, bytes.endIndex)]).span.bytes))
    }
    return naiveRoot(CheapHasher.self, hashes[...])
  }

  @Test("The root at every length, whatever the pieces", arguments: [1, 2, 7, 64])
  func randomPieces(leafSize: Int) {
    var random = Seeded(UInt64(leafSize))
    let bytes = content(leafSize * 20 + leafSize / 2)
    for _ in 0..<10 {
      var tree = FileTree<CheapHasher>(leafSize: leafSize)
      var completed: [UInt64] = []
      var leaves: [UInt64] = []
      while Int(tree.length) < bytes.count {
        let start = Int(tree.length)
        let end = min(bytes.count, start + Int.random(in: 0...(leafSize * 3), using: &random))
        tree.append(bytes.span.bytes.extracting(start..<end)) {
          completed.append($0)
          leaves.append($1)
        }
        #expect(tree.length == UInt64(end))
        #expect(tree.openLength == end % leafSize)
        #expect(tree.root == naive(bytes[..<end], leafSize: leafSize))
      }
      #expect(completed == (0..<UInt64(bytes.count / leafSize)).map { $0 })
      let again = FileTree<CheapHasher>(leafSize: leafSize, leaves: leaves)
      #expect(again.length == UInt64(bytes.count / leafSize * leafSize))
      #expect(again.complete.root == tree.complete.root)
    }
  }

  @Test("D4: known leaves, then the open leaf's bytes, give the same tree", arguments: [0, 1, 63, 64, 65, 128, 130])
  func resume(length: Int) {
    let bytes = content(200)
    var whole = FileTree<CheapHasher>(leafSize: 64)
    var leaves: [UInt64] = []
    whole.append(bytes.span.bytes.extracting(0..<length)) { leaves.append($1) }
    var resumed = FileTree<CheapHasher>(leafSize: 64, leaves: leaves)
    resumed.append(bytes.span.bytes.extracting((length / 64 * 64)..<length))
    #expect(resumed.root == whole.root)
    whole.append(bytes.span.bytes.extracting(length..<200))
    resumed.append(bytes.span.bytes.extracting(length..<200))
    #expect(resumed.root == whole.root)
    #expect(whole.root == naive(bytes[...], leafSize: 64))
  }

  @Test("A copy goes on by itself")
  func copies() {
    let bytes = content(150)
    var tree = FileTree<CheapHasher>(leafSize: 64)
    tree.append(bytes.span.bytes.extracting(0..<100))
    let before = tree.root
    var copy = tree.copy()
    copy.append(bytes.span.bytes.extracting(100..<150))
    #expect(tree.root == before)
    #expect(copy.root == naive(bytes[...], leafSize: 64))
    tree.append([1].span.bytes)
    #expect(copy.root == naive(bytes[...], leafSize: 64))
  }

  @Test("SHA-256 over 64 KiB leaves: the vectors of design/formats.md", arguments: Self.vectors)
  func formatVectors(length: Int, root: String) {
    let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 % 251) }
    var tree = FileTree<SHA256Hasher>(leafSize: 65_536)
    tree.append(bytes.span.bytes)
    #expect(hex(tree.root) == root)
  }

  /// Byte i is i mod 251.
  static let vectors: [(Int, String)] = [
    (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (1, "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"),
    (65_535, "cce25a5fa01c23b864e8f47fae4a4f7fa4ff0dd095322f20c2b4e59c1623745f"),
    (65_536, "75d3913244a9f7c765bea2770eb800c391c49cc1b62f7ce0ee9c192d1f1b9864"),
    (65_537, "b1456526ce5b886d000774685b1849b7293d94399b565389d927e3640d3092aa"),
    (131_072, "077c0f7ec2d00419ed03530c19e7b3f9a1ffb2b293e0de325681dc48fb5c7ef8"),
    (200_000, "c7146da68f4593e15ffb60072286355de3701e079f247e426a08e67e61c35722"),
  ]
}
