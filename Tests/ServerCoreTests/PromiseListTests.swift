import JournalModel
import Testing

@testable import ServerCore

@Suite struct PromiseListTests {
  func root(_ value: UInt64) -> Digest { Digest(words: value, 0, 0, 0) }

  func lengths(_ list: PromiseList, from: UInt64, received: UInt64, span: UInt64 = .max, count: Int = 100) -> [UInt64] {
    list.verifiable(from: from, received: received, span: span, count: count).map(\.length)
  }

  @Test func `W3 the first root of a length stays`() {
    var list = PromiseList()
    #expect(list.insert(10, root(1)) == .new)
    #expect(list.insert(10, root(1)) == .known)
    #expect(list.insert(10, root(2)) == .conflict)
    #expect(list.root(at: 10) == root(1))
    #expect(list.count == 1)
  }

  @Test func `W3 promises are met in order of length, whatever order they came in`() {
    var list = PromiseList()
    for length in [50, 10, 30, 20, 40] as [UInt64] { #expect(list.insert(length, root(length)) == .new) }
    #expect(lengths(list, from: 0, received: 35) == [10, 20, 30])
    #expect(lengths(list, from: 10, received: 50, count: 2) == [20, 30])
    #expect(lengths(list, from: 0, received: 50, span: 20) == [10, 20])
    #expect(lengths(list, from: 0, received: 50, span: 3) == [10])
    list.removeThrough(30)
    #expect(lengths(list, from: 0, received: 50) == [40, 50])
    #expect(list.greatest == 50)
    list.removeThrough(.max)
    #expect(list.greatest == nil && list.isEmpty)
    #expect(list.insert(60, root(60)) == .new)
    #expect(list.greatest == 60)
  }

  @Test func `J4 a promise knows whether bytes failed it before`() {
    var list = PromiseList()
    _ = list.insert(10, root(1))
    _ = list.insert(20, root(2))
    let answers = [20, 20, 10, 99].map { list.doubt($0) }
    #expect(answers == [false, true, false, false])
    #expect(lengths(list, from: .max, received: .max) == [])
  }

  @Test func `agrees with a plain array over random operations`() {
    var generator = SeededGenerator(seed: 5)
    var list = PromiseList()
    var model: [UInt64] = []
    for _ in 0..<2_000 {
      let length = UInt64.random(in: 0..<500, using: &generator)
      if Int.random(in: 0..<8, using: &generator) == 0 {
        list.removeThrough(length)
        model.removeAll { $0 <= length }
      } else {
        let isNew = list.insert(length, root(length)) == .new
        #expect(isNew == !model.contains(length) || model.isEmpty)
        if isNew { model.append(length) }
      }
      model.sort()
      #expect(list.count == model.count)
      #expect(list.greatest == model.last)
      let from = UInt64.random(in: 0..<500, using: &generator)
      #expect(lengths(list, from: from, received: .max, count: .max) == model.filter { $0 > from })
    }
  }
}
