/// The tree over a file's bytes: fixed leaves of `leafSize` bytes (64 KiB in the daemon), the last one open.
package struct FileTree<H: TreeHasher> {
  package let leafSize: Int
  package private(set) var length: UInt64 = 0
  package private(set) var complete = Frontier<H>()
  private var open = H.Leaf()

  package init(leafSize: Int) {
    precondition(leafSize > 0)
    self.leafSize = leafSize
  }

  /// A tree over complete leaves whose hashes are known; the open leaf's bytes are appended next.
  package init(leafSize: Int, leaves: [H.Value]) {
    self.init(leafSize: leafSize)
    for leaf in leaves { complete.append(leaf) }
    length = UInt64(leaves.count) * UInt64(leafSize)
  }

  /// How many bytes the open leaf holds: 0 ..< leafSize.
  package var openLength: Int { Int(length % UInt64(leafSize)) }

  /// The root of all bytes so far.
  package var root: H.Value { openLength == 0 ? complete.root : complete.root(with: open.value()) }

  /// Appends bytes; `completed` gets index and hash of every leaf that they complete.
  package mutating func append(_ bytes: RawSpan, completed: (UInt64, H.Value) -> Void = { _, _ in }) {
    var offset = 0
    while offset < bytes.byteCount {
      let count = min(leafSize - openLength, bytes.byteCount - offset)
      open.update(bytes.extracting(offset..<(offset + count)))
      offset += count
      length += UInt64(count)
      guard openLength == 0 else { continue }
      let leaf = open.value()
      completed(complete.size, leaf)
      complete.append(leaf)
      open = H.Leaf()
    }
  }

  /// An independent copy that goes on from here.
  package func copy() -> FileTree {
    var copy = self
    copy.open = open.copy()
    return copy
  }
}
