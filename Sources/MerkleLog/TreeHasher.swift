/// The hash of a tree (RFC 6962, section 2.1): SHA-256 in the daemon, a cheap mix in the simulator.
package protocol TreeHasher: Sendable {
  associatedtype Value: Hashable & Sendable
  associatedtype Leaf: LeafHasher where Leaf.Value == Value
  /// The plain hash of `bytes`, without a tree's prefix.
  static func digest(_ bytes: RawSpan) -> Value
  /// The root of the empty tree: the plain hash of no bytes.
  static var empty: Value { get }
  /// The hash of an interior node: H(0x01 || left || right).
  static func node(_ left: Value, _ right: Value) -> Value
  /// A part of a trie over more leaves than that is divided.
  static var trieBucketSize: Int { get }
}

extension TreeHasher {
  package static var trieBucketSize: Int { 32 }

  /// The hash of a whole leaf: H(0x00 || bytes).
  package static func leaf(_ bytes: RawSpan) -> Value {
    var leaf = Leaf()
    leaf.update(bytes)
    return leaf.value()
  }
}

/// One leaf whose bytes arrive in pieces.
package protocol LeafHasher {
  associatedtype Value
  init()
  mutating func update(_ bytes: RawSpan)
  /// The hash of all bytes so far: H(0x00 || bytes). More bytes may follow.
  func value() -> Value
  /// An independent copy that goes on from here.
  func copy() -> Self
}
