/// Elements in order, mostly one of them, which then takes no array.
struct Few<Element>: RandomAccessCollection {
  private var others: [Element] = []
  private var head: Element?

  var startIndex: Int { 0 }
  var endIndex: Int { head == nil ? 0 : others.count + 1 }

  subscript(index: Int) -> Element {
    guard index == 0, let head else { return others[index - 1] }
    return head
  }

  mutating func append(_ element: Element) {
    if head == nil { head = element } else { others.append(element) }
  }

  mutating func removeAll(where isGone: (Element) -> Bool) {
    others.removeAll(where: isGone)
    guard let head, isGone(head) else { return }
    self.head = others.isEmpty ? nil : others.removeFirst()
  }
}
