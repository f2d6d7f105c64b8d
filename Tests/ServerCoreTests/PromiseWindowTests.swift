import JournalModel
import Testing

@testable import ServerCore

@Suite struct PromiseWindowTests {
  func root(_ value: UInt64) -> Digest { Digest(words: value, 0, 0, 0) }

  func lengths(_ window: PromiseWindow, from: UInt64, received: UInt64, span: UInt64 = .max) -> [UInt64] {
    window.verifiable(from: from, received: received, span: span).map(\.length)
  }

  @Test func `W3 of one length the first eight roots are used`() {
    var window = PromiseWindow()
    let insertions = [1, 1, 2, 3, 2, 4, 5, 6, 7, 8, 9].map { window.insert(10, root($0)) }
    let expected: [PromiseWindow.Insertion] =
      [.new, .known, .conflict, .conflict, .known] + [PromiseWindow.Insertion](repeating: .conflict, count: 5)
      + [.surplus]
    #expect(insertions == expected)
    #expect(window.contains(10) && window.count == 8)
    // Of a length all are tried, or none.
    #expect(window.verifiable(from: 0, received: 10, span: 1).map(\.root) == (1...8).map(root))
  }

  @Test func `W3 promises are met in order of length, whatever order they came in`() {
    var window = PromiseWindow()
    for length in [50, 10, 30, 20, 40] as [UInt64] { #expect(window.insert(length, root(length)) == .new) }
    #expect(lengths(window, from: 0, received: 35) == [10, 20, 30])
    #expect(lengths(window, from: 10, received: 50) == [20, 30, 40, 50])
    #expect(lengths(window, from: 0, received: 50, span: 20) == [10, 20])
    #expect(lengths(window, from: 0, received: 50, span: 3) == [10])
    window.removeThrough(30)
    #expect(lengths(window, from: 0, received: 50) == [40, 50])
    #expect(window.insert(30, root(1)) == .outside)
    window.removeThrough(60)
    #expect(window.count == 0 && window.next(after: 60) == .none)
    #expect(window.insert(60, root(60)) == .outside)
    #expect(window.insert(61, root(60)) == .new)
  }

  @Test func `M1 until bytes are committed another root of a length that they met is a conflict`() {
    var window = PromiseWindow()
    _ = window.insert(20, root(20))
    window.pass(20)
    #expect(window.insert(20, root(20)) == .known && window.insert(20, root(7)) == .conflict)
    #expect(window.next(after: 20) == .none)
    window.removeThrough(20)
    #expect(window.insert(20, root(8)) == .outside)
  }

  @Test func `K4 a window splits no length`() {
    var window = PromiseWindow()
    for length in [10, 20, 30, 40] as [UInt64] {
      for value in 0..<3 as Range<UInt64> { _ = window.insert(length, root(value)) }
    }
    window.trim(beyond: 0, to: 4)
    #expect(window.count == 6 && window.horizon == 20)
    #expect(window.next(after: 10) == .at(20) && window.next(after: 20) == .unread)
  }

  /// A store that has all promises, readings that come late, and windows of one to five: what is said to be next is
  /// always what the store and the unwritten ones have next.
  @Test(arguments: 0..<200 as Range<UInt64>) func `K4 agrees with all promises over random operations`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    func number(_ range: Range<UInt64>) -> UInt64 { UInt64.random(in: range, using: &generator) }
    let size = Int(number(1..<6))
    var window = PromiseWindow()
    var all: [UInt64: [Digest]] = [:]
    var waiting: [Promise] = []
    var (base, met, asked, answer) = (UInt64(0), UInt64(0), UInt64?.none, [Promise]())
    let file = FileKey(host: FakeHost("web1", limits: Limits()).name, file: FileUUID(UUIDBytes(high: 1, low: 1)))
    func stored(beyond length: UInt64) -> [Promise] {
      let lengths = all.keys.filter { $0 > length }.sorted()
      return lengths.flatMap { length in all[length, default: []].map { Promise(key: file, length: length, root: $0) } }
        .filter { !waiting.contains($0) }
    }
    for _ in 0..<400 {
      switch number(0..<10) {
      case 0:
        base = max(base, min(number(0..<400), window.horizon))
        met = max(met, base)
        window.removeThrough(base)
      case 1: waiting.removeAll()
      case 4:
        met = max(met, min(base + number(0..<20), window.horizon))
        window.pass(met)
      case 2 where asked == nil && window.isShort(of: size, beyond: met):
        asked = window.horizon
        answer = stored(beyond: window.horizon)
        window.beginReading(waiting)
      case 3:
        guard asked != nil else { continue }
        asked = nil
        let lengths = Set(answer.map(\.length)).sorted().prefix(size)
        let isAll = answer.allSatisfy { lengths.contains($0.length) }
        window.endReading(answer.filter { lengths.contains($0.length) }, end: isAll ? nil : lengths.last)
      default:
        let (length, root) = (number(1..<400), root(number(0..<2)))
        let isKnown = all[length, default: []].contains(root)
        let insertion = window.insert(length, root)
        if insertion == .known { #expect(isKnown) }
        if insertion == .new, length <= window.horizon { #expect(all[length] == nil) }
        if !isKnown {
          all[length, default: []].append(root)
          waiting.append(Promise(key: file, length: length, root: root))
        }
      }
      window.trim(beyond: met, to: size)
      if asked == nil, met == base { #expect(window.count <= 2 * size + 4) }
      let from = met + number(0..<50)
      let next = all.keys.filter { $0 > from }.min()
      switch window.next(after: from) {
      case .at(let length): #expect(length == next)
      case .none: #expect(next == nil)
      case .unread: #expect(window.horizon < next ?? .max)
      }
    }
  }
}
