import JournalModel
import MerkleLog

/// A cheap hash with the shape of SHA-256's: good enough to tell strings apart, fast enough for thousands of runs.
enum MixHasher: TreeHasher {
  struct Leaf: LeafHasher {
    private var state = Mix(seed: 0)
    func value() -> Digest { state.digest }
    mutating func update(_ bytes: RawSpan) { state.add(bytes) }
    func copy() -> Leaf { self }
  }

  static func digest(_ bytes: RawSpan) -> Digest {
    var mix = Mix(seed: 2)
    mix.add(bytes)
    return mix.digest
  }

  static let empty = Mix(seed: 2).digest

  static func node(_ left: Digest, _ right: Digest) -> Digest {
    var mix = Mix(seed: 1)
    for digest in [left, right] {
      for word in [digest.words.0, digest.words.1, digest.words.2, digest.words.3] { mix.add(word) }
    }
    return mix.digest
  }
}

struct Mix: Sendable {
  private var a: UInt64
  private var b: UInt64 = 0x9E37_79B9_7F4A_7C15
  private var count: UInt64 = 0
  init(seed: UInt64) { a = seed &* 0xBF58_476D_1CE4_E5B9 ^ 0xCBF2_9CE4_8422_2325 }

  mutating func add(_ word: UInt64) {
    a = (a ^ word) &* 0x0000_0100_0000_01B3
    a ^= a >> 29
    b = (b &+ a) &* 0x94D0_49BB_1331_11EB
    b ^= b >> 31
    count &+= 1
  }

  mutating func add(_ bytes: RawSpan) {
    for index in 0..<bytes.byteCount { add(UInt64(bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self))) }
  }

  var digest: Digest { Digest(words: a, b, count, a ^ b.byteSwapped) }
}

/// SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
