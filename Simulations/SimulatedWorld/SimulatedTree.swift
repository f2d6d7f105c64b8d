package import JournalModel
import MerkleLog

/// The tree's hash in the simulator: 64 bits of state, no resistance against anybody, independent of how the bytes
/// arrive in pieces.
package enum SimulatedTree: TreeHasher {
  package struct Leaf: LeafHasher {
    private var state: UInt64 = 0x6C62_272E_07BB_0142
    private var count: UInt64 = 0

    package init() {}

    package mutating func update(_ bytes: RawSpan) {
      bytes.withUnsafeBytes { buffer in
        var value = state
        for byte in buffer {
          value = (value ^ UInt64(byte)) &* 0x9FB2_1C65_1E98_DF25
          value ^= value >> 31
        }
        state = value
      }
      count += UInt64(bytes.byteCount)
    }

    package func value() -> Digest { SimulatedTree.digest(state, count) }
    package func copy() -> Leaf { self }
  }

  package static func digest(_ bytes: RawSpan) -> Digest {
    bytes.withUnsafeBytes { digest(Mix.hash($0), 0x0BAD_CAFE) }
  }

  /// Small runs have parts of parts.
  package static var trieBucketSize: Int { 2 }

  package static let empty: Digest = digest([UInt8]().span.bytes)

  package static func node(_ left: Digest, _ right: Digest) -> Digest {
    let l = Mix.word(left.words.0 ^ 0x1111) &* 3 ^ left.words.1
    return digest(Mix.word(l &+ right.words.0), Mix.word(right.words.1 ^ l))
  }

  fileprivate static func digest(_ a: UInt64, _ b: UInt64) -> Digest {
    let first = Mix.word(a ^ Mix.word(b))
    return Digest(words: first, Mix.word(first ^ b), b, a)
  }
}
