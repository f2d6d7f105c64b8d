import JournalModel
import JournalStore
import LinuxIO
import MerkleLog
import Testing

/// `design/formats.md`, 'Digest': made by an encoder of its own (Python).
@Suite struct HoldingsDigestVectors {
  private typealias Trie = HoldingsTrie<SHA256Tree>

  private static func digest(from first: UInt64) -> Digest {
    func word(_ index: UInt64) -> UInt64 { (0..<8).reduce(0) { $0 << 8 | (first + index * 8 + $1) } }
    return Digest(words: word(0), word(1), word(2), word(3))
  }

  private func root(of leaves: [TrieLeaf]) -> String {
    var writer = ByteWriter()
    writer.write(Trie.root(of: leaves.sorted { $0.position < $1.position }))
    return writer.bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
  }

  @Test func `M2: the digests of nothing, of a journal and a file, and of 1,000 files`() throws {
    #expect(root(of: []) == "fcf0a6c700dd13e274b6fba8deea8dd9b26e4eedde3495717cac8408c9c5177f")
    let web1 = try #require(HostName("web1"))
    let root = Self.digest(from: 0xA0)
    let journal = JournalID(UUIDBytes(high: 0x0011_2233_4455_4677, low: 0x8899_AABB_CCDD_EEFF))
    let file = FileUUID(UUIDBytes(high: 0x0F0E_0D0C_0B0A_8908, low: 0x8706_0504_0302_0100))
    let two = [
      Trie.leaf(.journal(HostJournal(host: web1, journal: journal)), [TreeHead(length: 1_000, root: root)]),
      Trie.leaf(
        .file(FileKey(host: web1, file: file)),
        [TreeHead(length: 5, root: Self.digest(from: 0x20)), TreeHead(length: 65_542, root: root)]),
    ]
    #expect(self.root(of: two) == "02bd40e09ceeda29b8f1b00cc6957dfa330777c8db970a89fe025b54b5239b33")
    let many = (0..<1_000 as Range<UInt64>).map { number in
      let file = FileUUID(UUIDBytes(high: 0x4000, low: 0x8000_0000_0000_0000 + number))
      return Trie.leaf(.file(FileKey(host: web1, file: file)), [TreeHead(length: number + 1, root: root)])
    }
    #expect(self.root(of: many) == "bb2796e7b95114643aebb25cfae2727073d269aa1a0ce02ac44170a679241902")
  }
}
