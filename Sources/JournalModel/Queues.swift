/// First in, first out, in constant time (amortised). What was taken out isn't kept alive.
///
/// Public, since it is specialized where it is used: what is `package` never is across modules (Swift 6.3), and looked up at
/// run time in each call.
public struct Fifo<Element> {
  @usableFromInline var items: [Element?] = []
  @usableFromInline var head = 0

  @inlinable public init() {}

  @inlinable public var count: Int { items.count - head }
  @inlinable public var isEmpty: Bool { count == 0 }
  @inlinable public var first: Element? { isEmpty ? nil : items[head] }

  @inlinable public mutating func append(_ element: Element) { items.append(element) }

  /// Before all others; costs time in proportion to their number, unless something was taken out.
  @inlinable public mutating func prepend(_ element: Element) {
    if head > 0 {
      head -= 1
      items[head] = element
    } else {
      items.insert(element, at: 0)
    }
  }

  @inlinable public mutating func popFirst() -> Element? {
    guard head < items.count else { return nil }
    defer {
      items[head] = nil
      head += 1
      if head == items.count {
        removeAll()
      } else if head > 64, head * 2 > items.count {
        items.removeFirst(head)
        head = 0
      }
    }
    return items[head]
  }

  @inlinable public mutating func removeAll() {
    items.removeAll(keepingCapacity: true)
    head = 0
  }

  /// Costs time in proportion to their number.
  @inlinable public func contains(where isMeant: (Element) -> Bool) -> Bool {
    items[head...].contains { $0.map(isMeant) ?? false }
  }

  /// The same.
  @inlinable public mutating func removeAll(where isOver: (Element) -> Bool) {
    items = items[head...].filter { $0.map { !isOver($0) } ?? false }
    head = 0
  }
}

/// A binary heap: least key first, equal keys in the order in which they came, so that runs repeat exactly.
/// Public, as `Fifo` is.
public struct Heap<Key: Comparable, Value> {
  @usableFromInline struct Node {
    @usableFromInline var key: Key
    @usableFromInline var order: UInt64
    @usableFromInline var value: Value

    @inlinable init(key: Key, order: UInt64, value: Value) {
      self.key = key
      self.order = order
      self.value = value
    }

    @inlinable static func before(_ l: Node, _ r: Node) -> Bool {
      l.key < r.key || (!(r.key < l.key) && l.order < r.order)
    }
  }
  @usableFromInline var nodes: [Node] = []
  @usableFromInline var order: UInt64 = 0

  @inlinable public init() {}

  @inlinable public var count: Int { nodes.count }
  @inlinable public var leastKey: Key? { nodes.first?.key }

  @inlinable public mutating func push(_ key: Key, _ value: Value) {
    nodes.append(Node(key: key, order: order, value: value))
    order += 1
    var child = nodes.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard Node.before(nodes[child], nodes[parent]) else { break }
      nodes.swapAt(child, parent)
      child = parent
    }
  }

  /// Removes the least key if `isDue` holds for it.
  @inlinable public mutating func pop(if isDue: (Key) -> Bool) -> (key: Key, value: Value)? {
    guard let least = nodes.first, isDue(least.key) else { return nil }
    let last = nodes.removeLast()
    if !nodes.isEmpty {
      nodes[0] = last
      sink()
    }
    return (least.key, least.value)
  }

  @inlinable public mutating func removeAll() { nodes.removeAll(keepingCapacity: true) }

  @inlinable mutating func sink() {
    var parent = 0
    while true {
      var child = 2 * parent + 1
      guard child < nodes.count else { return }
      if child + 1 < nodes.count, Node.before(nodes[child + 1], nodes[child]) { child += 1 }
      guard Node.before(nodes[child], nodes[parent]) else { return }
      nodes.swapAt(child, parent)
      parent = child
    }
  }
}
