/// Values by file. Numbers of files are given out in order, so their values lie side by side: in pages, of which those
/// without any value go. Public, as `Fifo` is:
/// a look-up by way of the generic code costs ten times as much.
public struct FileSlots<Value> {
  @usableFromInline struct Page {
    @usableFromInline var values = [Value?](repeating: nil, count: FileSlots.width)
    @usableFromInline var count = 0
    @inlinable init() {}
  }
  @inlinable static var width: Int { 64 }
  @usableFromInline var pages: [Page?] = []
  public private(set) var count = 0

  @inlinable public init() {}

  @inlinable public subscript(id: FileID) -> Value? {
    get {
      let (page, place) = Int(id.value).quotientAndRemainder(dividingBy: Self.width)
      return page < pages.count ? pages[page]?.values[place] : nil
    }
    set { if let newValue { set(id, newValue) } else { removeValue(forKey: id) } }
  }

  @usableFromInline mutating func set(_ id: FileID, _ value: Value) {
    let (page, place) = Int(id.value).quotientAndRemainder(dividingBy: Self.width)
    while pages.count <= page { pages.append(nil) }
    var values = pages[page] ?? Page()
    pages[page] = nil
    if values.values[place] == nil {
      values.count += 1
      count += 1
    }
    values.values[place] = value
    pages[page] = values
  }

  @discardableResult public mutating func removeValue(forKey id: FileID) -> Value? {
    let (page, place) = Int(id.value).quotientAndRemainder(dividingBy: Self.width)
    guard page < pages.count, let value = pages[page]?.values[place] else { return nil }
    pages[page]?.values[place] = nil
    pages[page]?.count -= 1
    if pages[page]?.count == 0 { pages[page] = nil }
    count -= 1
    return value
  }
}

extension FileSlots: Sendable where Value: Sendable {}
extension FileSlots.Page: Sendable where Value: Sendable {}
