import JournalModel
import MerkleLog

/// A tree hash that costs next to nothing: four FNV-1a sums with different beginnings.
enum CheapHash: TreeHasher {
  struct Leaf: LeafHasher {
    private var words: (UInt64, UInt64, UInt64, UInt64) = (1, 2, 3, 4)
    init() { add(word: 0) }
    mutating func update(_ bytes: RawSpan) {
      for offset in 0..<bytes.byteCount {
        add(word: UInt64(bytes.unsafeLoad(fromUncheckedByteOffset: offset, as: UInt8.self)))
      }
    }
    mutating func add(word: UInt64) {
      words.0 = (words.0 ^ word) &* 0x0000_0100_0000_01B3
      words.1 = (words.1 ^ word) &* 0x0000_0100_0000_01B3
      words.2 = (words.2 ^ word) &* 0x0000_0100_0000_01B3
      words.3 = (words.3 ^ word) &* 0x0000_0100_0000_01B3
    }
    func value() -> Digest { Digest(words: words.0, words.1, words.2, words.3) }
    func copy() -> Leaf { self }
  }

  static func digest(_ bytes: RawSpan) -> Digest {
    var leaf = Leaf()
    leaf.update(bytes)
    leaf.add(word: 512)
    return leaf.value()
  }
  static var empty: Digest {
    let nothing: [UInt8] = []
    return digest(nothing.span.bytes)
  }
  static func node(_ left: Digest, _ right: Digest) -> Digest {
    var leaf = Leaf()
    leaf.add(word: 256)
    for word in [left.words.0, left.words.1, left.words.2, left.words.3] { leaf.add(word: word) }
    for word in [right.words.0, right.words.1, right.words.2, right.words.3] { leaf.add(word: word) }
    return leaf.value()
  }

  /// The root of a file's bytes.
  static func root(of bytes: [UInt8], leafSize: Int) -> Digest {
    var tree = FileTree<CheapHash>(leafSize: leafSize)
    tree.append(bytes.span.bytes)
    return tree.root
  }
}

/// SplitMix64: the same numbers for the same seed, everywhere.
struct SeededNumbers: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
