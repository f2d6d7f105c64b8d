/// Received bytes of one string, contiguous, in offset order, until they are written and freed.
package struct ByteQueue: Sendable {
  private struct Chunk: Sendable {
    var offset: UInt64
    var bytes: ArraySlice<UInt8>
    var end: UInt64 { offset + UInt64(bytes.count) }
  }
  private var chunks: [Chunk] = []

  package init() {}

  /// Bytes held.
  package var byteCount: Int { isEmpty ? 0 : Int(end - start) }
  package var isEmpty: Bool { chunks.isEmpty }
  /// First offset held and the end; zero when empty.
  package var start: UInt64 { chunks.first?.offset ?? 0 }
  package var end: UInt64 { chunks.last?.end ?? 0 }

  /// Appends bytes.
  /// - Precondition: `offset` is the queue's end, or the queue is empty.
  package mutating func append(_ bytes: ArraySlice<UInt8>, at offset: UInt64) {
    precondition(isEmpty || offset == end, "received bytes leave a hole")
    guard !bytes.isEmpty else { return }
    chunks.append(Chunk(offset: offset, bytes: bytes))
  }

  /// The bytes of the range, piece by piece, not copied. Nil if they are not all held.
  package func pieces(_ range: Range<UInt64>) -> [ArraySlice<UInt8>]? {
    guard !range.isEmpty else { return [] }
    guard !isEmpty, start <= range.lowerBound, range.upperBound <= end else { return nil }
    var pieces: [ArraySlice<UInt8>] = []
    for chunk in chunks[firstIndex(beyond: range.lowerBound)...] {
      if chunk.offset >= range.upperBound { break }
      let lower = max(chunk.offset, range.lowerBound)
      let upper = min(chunk.end, range.upperBound)
      let first = chunk.bytes.startIndex
      pieces.append(chunk.bytes[(first + Int(lower - chunk.offset))..<(first + Int(upper - chunk.offset))])
    }
    return pieces
  }

  /// The bytes of the range in one piece. Nil if they are not all held.
  package func bytes(_ range: Range<UInt64>) -> [UInt8]? {
    guard let pieces = pieces(range) else { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(range.count)
    for piece in pieces { bytes.append(contentsOf: piece) }
    return bytes
  }

  /// Forgets what lies below `offset`.
  package mutating func free(below offset: UInt64) {
    chunks.removeFirst(firstIndex(beyond: offset))
    guard let first = chunks.first, first.offset < offset else { return }
    chunks[0] = Chunk(offset: offset, bytes: first.bytes.dropFirst(Int(offset - first.offset)))
  }

  /// Forgets what lies from `offset` on.
  package mutating func discard(from offset: UInt64) {
    while let last = chunks.last, last.end > offset {
      chunks.removeLast()
      if last.offset < offset {
        chunks.append(Chunk(offset: last.offset, bytes: last.bytes.prefix(Int(offset - last.offset))))
      }
    }
  }

  /// Index of the first chunk that ends beyond `offset`.
  private func firstIndex(beyond offset: UInt64) -> Int {
    var low = 0
    var high = chunks.count
    while low < high {
      let middle = (low + high) / 2
      if chunks[middle].end > offset { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
