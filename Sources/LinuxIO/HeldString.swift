import DataPlane
import JournalModel

/// What a server's data plane knows of one string while the process runs.
final class HeldString: Sendable {
  struct State: Sendable {
    var queue = ByteQueue()
    /// The plain file, once it was named.
    var segment: Segment?
    /// Nothing below is ever written again: the core freed it, which it does once it is committed, or a repair found it.
    var floor: UInt64 = 0
    /// The greatest end that this process tried to write. What lies between `floor` and here in the plain file, and
    /// isn't committed, is this process's own.
    var attempted: UInt64 = 0
  }
  let key: StringKey
  let state = Monitor(State())
  /// Locked while bytes are hashed; `state` is not, so that more bytes can arrive meanwhile.
  let verifier: Monitor<StringVerifier<SHA256Tree>>
  let probe: Monitor<StringProbe<SHA256Tree>>

  init(key: StringKey, limits: Limits) {
    self.key = key
    verifier = Monitor(StringVerifier(leafSize: limits.leafSize))
    probe = Monitor(StringProbe(leafSize: limits.leafSize))
  }

  /// The plain file holds exactly the string's bytes from its start up to `length`.
  func settle(_ segment: Segment, length: UInt64) {
    state.withLock { state in
      state.segment = segment
      state.floor = length
      state.attempted = length
    }
  }

  /// Takes the queued bytes for a write, if the plain file's size allows it at `from`.
  ///
  /// The size must end at `from`. It may be more only by bytes that this process wrote there and whose commit never came: a
  /// write cut off by a full disk, a batch that the store refused, a connection that went away. Those are written over,
  /// and what may be left of them behind a shorter write is cut by the next start's repair (P3); until then it lies
  /// beyond the committed length. Bytes below `floor` and bytes that somebody else put there are never touched.
  func pieces(_ range: Range<UInt64>, _ segment: Segment, size: UInt64) throws -> [ArraySlice<UInt8>] {
    try state.withLock { state in
      guard let pieces = state.queue.pieces(range) else { throw SourceFailure("the bytes are not queued") }
      let end = segment.start.saturatingAdding(size)
      if state.segment == nil {
        state.floor = range.lowerBound
        state.attempted = range.lowerBound
      }
      state.segment = segment
      let isOurs = end > range.lowerBound && end <= state.attempted
      guard range.lowerBound >= state.floor, end == range.lowerBound || isOurs else {
        throw SourceFailure("the plain file ends at \(end), expected at \(range.lowerBound)")
      }
      state.attempted = max(state.attempted, range.upperBound)
      return pieces
    }
  }
}
