import Glibc
import SecureTransport
import Testing

/// One end of a reliable, ordered byte stream that never blocks: what nodes need of a transport.
protocol StreamEnd: AnyObject, SendableMetatype {
  func read(_ limit: Int) -> StreamRead
  /// How many bytes were taken; nil once the stream is dead.
  func write(_ bytes: ArraySlice<UInt8>) -> Int?
  /// Nothing more will be written.
  func finish()
  /// Waits until one of the ends may have become ready.
  static func wait(_ first: Self, _ second: Self)
}

enum StreamRead: Equatable {
  case bytes([UInt8])
  /// Nothing now.
  case nothing
  /// The other end has finished.
  case end
  /// The other end is gone without having finished.
  case failed(String)
}

/// Bytes that tell where in a stream they stand.
enum Pattern {
  private static let period = 65_536
  private static let table: [UInt8] = (0..<(4 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ ($0 % period) >> 8) }

  /// At most 3 MiB of the pattern.
  static func bytes(_ range: Range<Int>) -> ArraySlice<UInt8> {
    let start = range.lowerBound % period
    return table[start..<(start + range.count)]
  }
}

/// What every byte-stream transport must hold. `connect` makes two connected ends; dropping an end cuts it off.
struct StreamConformance<End: StreamEnd> {
  let connect: () throws -> (End, End)

  /// - Parameters:
  ///   - halfClose: whether an end that finished can still read.
  ///   - scale: by which the long streams are shortened, for a transport of small steps.
  func check(halfClose hasHalfClose: Bool = true, scale: Int = 1) throws {
    try order(count: 3_000_000 / scale, writing: 70_001, reading: 40_009)
    try order(count: 500_000 / scale, writing: 500_000, reading: 1_000)
    try order(count: 3_000, writing: 1, reading: 1)
    try order(count: 3_000, writing: 1, reading: 16_384)
    try empty()
    try fullBuffers()
    if hasHalfClose { try halfClose() }
    try abruptClose()
    try bothWaysAtOnce(count: 1_000_000 / scale)
  }

  /// Everything arrives once, in order, however it is cut up on the way.
  private func order(count: Int, writing: Int, reading: Int) throws {
    let (sender, receiver) = try connect()
    let bytes = Pattern.bytes(0..<count)
    var sent = 0
    var received: [UInt8] = []
    while received.count < count {
      if sent < count {
        sent += try #require(sender.write(bytes[sent..<min(count, sent + writing)]))
      }
      switch receiver.read(reading) {
      case .bytes(let some):
        try #require(some.count <= reading)
        received += some
      case .nothing: if sent == count { End.wait(sender, receiver) }
      case let other:
        Issue.record("\(other) after \(received.count) bytes")
        return
      }
    }
    #expect(received[...] == bytes)
    #expect(receiver.read(reading) == .nothing)
  }

  /// Nothing written is nothing read.
  private func empty() throws {
    let (sender, receiver) = try connect()
    #expect(sender.write([]) == 0)
    #expect(receiver.read(10) == .nothing)
    #expect(receiver.read(0) == .bytes([]))
  }

  /// A reader that does not read stops the writer, which loses nothing by it.
  private func fullBuffers() throws {
    let (sender, receiver) = try connect()
    var sent = 0
    while true {
      let taken = try #require(sender.write(Pattern.bytes(sent..<(sent + 100_000))))
      if taken == 0 { break }
      sent += taken
      try #require(sent < 1 << 30)
    }
    let before = sent
    var received = 0
    // What was refused is offered again, until as much again has gone through.
    while received < before * 2 {
      switch receiver.read(65_536) {
      case .bytes(let some):
        try #require(some[...] == Pattern.bytes(received..<(received + some.count)))
        received += some.count
      case .nothing: break
      case let other:
        Issue.record("\(other)")
        return
      }
      sent += try #require(sender.write(Pattern.bytes(sent..<(sent + 100_000))))
    }
  }

  /// One side finishes and still reads what the other goes on to write.
  private func halfClose() throws {
    let (first, second) = try connect()
    #expect(first.write([1, 2, 3]) == 3)
    first.finish()
    #expect(readAll(second, from: first) == .init(bytes: [1, 2, 3], end: .end))
    #expect(second.read(10) == .end, "an end stays an end")
    let answer = Pattern.bytes(0..<50_000)
    var sent = 0
    var received: [UInt8] = []
    while received.count < answer.count {
      if sent < answer.count { sent += try #require(second.write(answer[sent...])) }
      // While something is left to be sent the sender may wait for the receiver: nobody may wait for bytes.
      switch first.read(20_000) {
      case .bytes(let some): received += some
      default: if sent == answer.count { End.wait(first, second) }
      }
    }
    #expect(received[...] == answer)
    second.finish()
    #expect(readAll(first, from: second) == .init(bytes: [], end: .end))
  }

  /// An end that vanishes is never taken for one that finished.
  private func abruptClose() throws {
    var (sender, receiver): (End?, End) = try connect()
    #expect(sender?.write(Pattern.bytes(0..<1_000)) == 1_000)
    sender = nil
    let rest = readAll(receiver, from: receiver)
    #expect(rest.bytes[...] == Pattern.bytes(0..<1_000))
    guard case .failed(let reason) = rest.end else {
      Issue.record("\(rest.end)")
      return
    }
    #expect(!reason.isEmpty)
    #expect(receiver.write([1]) == nil)
    #expect(receiver.read(10) == .failed(reason), "the reason stays")
  }

  /// Neither direction holds the other up.
  private func bothWaysAtOnce(count: Int) throws {
    let (first, second) = try connect()
    let bytes = Pattern.bytes(0..<count)
    var sent = [0, 0]
    var received: [[UInt8]] = [[], []]
    while received.contains(where: { $0.count < bytes.count }) {
      for (index, end) in [first, second].enumerated() {
        if sent[index] < bytes.count {
          sent[index] += try #require(end.write(bytes[sent[index]..<min(bytes.count, sent[index] + 30_000)]))
        }
        if case .bytes(let some) = end.read(25_000) { received[index] += some }
      }
    }
    #expect(received[0][...] == bytes)
    #expect(received[1][...] == bytes)
  }

  private struct Rest: Equatable {
    var bytes: [UInt8]
    var end: StreamRead
  }

  private func readAll(_ end: End, from other: End) -> Rest {
    var rest = Rest(bytes: [], end: .nothing)
    while true {
      switch end.read(7_000) {
      case .bytes(let some): rest.bytes += some
      case .nothing: End.wait(end, other)
      case let last:
        rest.end = last
        return rest
      }
    }
  }
}
