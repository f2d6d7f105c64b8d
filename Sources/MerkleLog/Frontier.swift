/// The roots of the perfect subtrees that make up a tree of `size` leaves, largest first: all that is needed to append
/// leaves and to compute the root (RFC 6962, section 2.1; 'compact range' in the literature of transparency logs).
package struct Frontier<H: TreeHasher>: Sendable {
  package private(set) var size: UInt64 = 0
  /// One value for each set bit of `size`, most significant first.
  package private(set) var subtrees: [H.Value] = []

  package init() {}

  /// - Precondition: `subtrees` has one value for each set bit of `size`.
  package init(size: UInt64, subtrees: [H.Value]) {
    precondition(subtrees.count == size.nonzeroBitCount)
    self.size = size
    self.subtrees = subtrees
  }

  /// Appends a leaf's hash. Calls `completed` for every perfect subtree of two or more leaves that it completes.
  package mutating func append(_ leaf: H.Value, completed: (NodeAddress, H.Value) -> Void = { _, _ in }) {
    var value = leaf
    var address = NodeAddress(level: 0, index: size)
    while size & (1 << address.level) != 0 {
      value = H.node(subtrees.removeLast(), value)
      address = NodeAddress(level: address.level + 1, index: address.index / 2)
      completed(address, value)
    }
    subtrees.append(value)
    size += 1
  }

  package var root: H.Value { Self.root(of: subtrees, then: nil) }

  /// The root of the tree with one more leaf, which isn't appended.
  package func root(with leaf: H.Value) -> H.Value { Self.root(of: subtrees, then: leaf) }

  private static func root(of subtrees: [H.Value], then leaf: H.Value?) -> H.Value {
    var rest = subtrees[...]
    guard var value = leaf ?? rest.popLast() else { return H.empty }
    while let left = rest.popLast() { value = H.node(left, value) }
    return value
  }
}

/// A perfect subtree: leaves `index << level ..< (index + 1) << level`.
package struct NodeAddress: Hashable, Sendable {
  package var level: UInt8
  package var index: UInt64
  package init(level: UInt8, index: UInt64) {
    self.level = level
    self.index = index
  }
}

extension Frontier {
  /// The frontier of the tree's first `size` leaves, from its stored perfect subtrees.
  package static func at<E: Error>(
    size: UInt64, node: (NodeAddress) throws(E) -> H.Value
  ) throws(E) -> Frontier {
    var subtrees: [H.Value] = []
    var start: UInt64 = 0
    for level in stride(from: 63, through: 0, by: -1) where size & (1 << UInt64(level)) != 0 {
      subtrees.append(try node(NodeAddress(level: UInt8(level), index: start >> UInt64(level))))
      start += 1 << UInt64(level)
    }
    return Frontier(size: size, subtrees: subtrees)
  }
}
