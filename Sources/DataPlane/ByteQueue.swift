/// Received bytes of one string, contiguous, in offset order, until they are written and freed.
///
/// What it occupies follows from how many bytes it holds, whatever the pieces they came in: small pieces are gathered
/// (a piece of one byte would cost ninety), and a rest doesn't keep the buffer of what went before it.
package struct ByteQueue: Sendable {
  private struct Chunk: Sendable {
    var offset: UInt64
    var bytes: ArraySlice<UInt8>
    /// Of the buffer, about.
    var room: Int
    var end: UInt64 { offset + UInt64(bytes.count) }

    init(_ bytes: ArraySlice<UInt8>, at offset: UInt64, room: Int) {
      self.offset = offset
      self.bytes = bytes
      self.room = room
      if bytes.count < room / 2 {
        self.bytes = ArraySlice(Array(bytes))
        self.room = bytes.count
      }
    }
  }
  /// What pieces are gathered into.
  private static var gathering: Int { 64 << 10 }
  private var chunks: [Chunk] = []

  package init() {}

  /// Bytes held.
  package var byteCount: Int { isEmpty ? 0 : Int(end - start) }
  package var isEmpty: Bool { chunks.isEmpty }
  /// Bytes of memory, about; at most twice what is held and a chunk's administration.
  package var footprint: Int { chunks.reduce(0) { $0 + $1.room + MemoryLayout<Chunk>.stride + 32 } }
  /// First offset held and the end; zero when empty.
  package var start: UInt64 { chunks.first?.offset ?? 0 }
  package var end: UInt64 { chunks.last?.end ?? 0 }

  /// Appends bytes, a part of a buffer.
  /// - Precondition: `offset` is the queue's end, or the queue is empty.
  package mutating func append(_ bytes: ArraySlice<UInt8>, at offset: UInt64, of room: Int? = nil) {
    precondition(isEmpty || offset == end, "received bytes leave a hole")
    guard !bytes.isEmpty else { return }
    let last = chunks.count - 1
    guard last >= 0, chunks[last].bytes.count + bytes.count <= Self.gathering else {
      chunks.append(Chunk(bytes, at: offset, room: room ?? bytes.count))
      return
    }
    chunks[last].bytes.append(contentsOf: bytes)
    // Arrays grow by doubling.
    if chunks[last].bytes.count > chunks[last].room { chunks[last].room = 2 * chunks[last].bytes.count }
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
    chunks[0] = Chunk(first.bytes.dropFirst(Int(offset - first.offset)), at: offset, room: first.room)
  }

  /// Forgets what lies from `offset` on.
  package mutating func discard(from offset: UInt64) {
    while let last = chunks.last, last.end > offset {
      chunks.removeLast()
      if last.offset < offset {
        chunks.append(Chunk(last.bytes.prefix(Int(offset - last.offset)), at: last.offset, room: last.room))
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
