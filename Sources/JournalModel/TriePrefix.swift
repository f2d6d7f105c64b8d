/// A part of the trie over what a server holds (M3): all subjects whose positions begin with these bits, four a level.
package struct TriePrefix: Hashable, Sendable {
  package static var deepest: UInt8 { 32 }
  package static var fanOut: Int { 16 }
  package static let root = TriePrefix(depth: 0, unchecked: 0)

  /// 0 ... `deepest`.
  package let depth: UInt8
  /// The first `4 * depth` bits; all others are 0.
  package let bits: UInt128

  /// Nil for a depth beyond the deepest, and for bits beyond the depth.
  package init?(depth: UInt8, bits: UInt128) {
    guard depth <= Self.deepest, bits & ~Self.mask(depth) == 0 else { return nil }
    self.init(depth: depth, unchecked: bits)
  }

  private init(depth: UInt8, unchecked bits: UInt128) {
    self.depth = depth
    self.bits = bits
  }

  private static func mask(_ depth: UInt8) -> UInt128 { depth == 0 ? 0 : ~0 << (128 - 4 * UInt128(depth)) }

  private static func bits(_ position: Digest) -> UInt128 {
    UInt128(position.words.0) << 64 | UInt128(position.words.1)
  }

  /// - Precondition: it isn't as deep as can be, and `index` is less than `fanOut`.
  package func child(_ index: Int) -> TriePrefix {
    precondition(depth < Self.deepest && (0..<Self.fanOut).contains(index))
    return TriePrefix(depth: depth + 1, unchecked: bits | UInt128(index) << (124 - 4 * UInt128(depth)))
  }

  package func contains(_ position: Digest) -> Bool { Self.bits(position) & Self.mask(depth) == bits }

  /// Under which child a position of this part lies.
  package func branch(of position: Digest) -> Int {
    precondition(depth < Self.deepest)
    return Int(truncatingIfNeeded: Self.bits(position) >> (124 - 4 * UInt128(depth))) & (Self.fanOut - 1)
  }
}

/// One value for all that a server holds (M2): servers that hold the same have the same, in whatever order it came.
package struct HoldingsDigest: Hashable, Sendable {
  package var root: Digest
  /// The changes up to this number are in it, for certain; later ones may be.
  package var end: UInt64
  package init(root: Digest, end: UInt64) {
    self.root = root
    self.end = end
  }
}
