import JournalModel

/// Frames that the socket didn't take yet, in pieces of whole frames: nothing that waits is copied as more comes, and what
/// was taken is freed.
struct OutputQueue {
  private var pieces = Fifo<[UInt8]>()
  /// Behind the pieces: small frames are gathered, for few and full TLS records.
  private var last: [UInt8] = []
  /// Of the first piece so many bytes were taken.
  private var taken = 0
  private(set) var count = 0

  private static let gathered = 64 << 10
  /// Room that is kept while nothing waits.
  private static let kept = 4 << 10

  var isEmpty: Bool { count == 0 }

  /// `encode` appends one frame, or several. `isFollowed`: the next one says nothing without them.
  mutating func append(isFollowed: Bool = false, _ encode: (inout [UInt8]) -> Void) {
    let before = last.count
    encode(&last)
    count += last.count - before
    if last.count >= Self.gathered, !isFollowed { closePiece() }
  }

  mutating func append(_ frame: [UInt8]) {
    guard frame.count >= Self.gathered else { return append { $0 += frame } }
    closePiece()
    pieces.append(frame)
    count += frame.count
  }

  private mutating func closePiece() {
    guard !last.isEmpty else { return }
    pieces.append(last)
    last = []
  }

  /// Bytes that follow one another, from the first that wasn't taken on; those of a call are still the first ones of the
  /// next. Empty only when nothing waits.
  func withFirst<Result>(atMost limit: Int, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    (pieces.first ?? last).withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[taken...].prefix(limit))) }
  }

  /// - Precondition: no more than the last `withFirst` gave.
  mutating func take(_ taken: Int) {
    self.taken += taken
    count -= taken
    if let first = pieces.first {
      guard self.taken == first.count else { return }
      _ = pieces.popFirst()
    } else {
      guard self.taken == last.count else { return }
      last.removeAll(keepingCapacity: last.capacity <= Self.kept)
    }
    self.taken = 0
  }

  /// Keeps no more than about so many bytes, whole frames: the first ones.
  mutating func truncate(to limit: Int) {
    guard count > limit else { return }
    var rest = pieces
    pieces = Fifo()
    var kept = -taken
    while kept < limit, let piece = rest.popFirst() {
      pieces.append(piece)
      kept += piece.count
    }
    // What is behind isn't kept; the last piece is small.
    if !rest.isEmpty { last = [] }
    count = kept + last.count
  }

  mutating func removeAll() { self = OutputQueue() }
}
