package import JournalModel
package import MerkleLog

/// What a server has received of one string and not yet written and freed, and its tree at the verified length.
/// Shared by the daemon and the simulator. Not for two threads at a time.
package struct ReceiveQueue<H: TreeHasher> where H.Value == Digest {
  package let key: StringKey
  package private(set) var queue = ByteQueue()
  private var verifier: StringVerifier<H>

  package init(key: StringKey, limits: Limits) {
    self.key = key
    verifier = StringVerifier(leafSize: limits.leafSize)
  }

  /// Appends received bytes but the first `dropping`, which are held already.
  /// - Precondition: `offset + dropping` is the queue's end, or the queue is empty.
  package mutating func admit(_ bytes: [UInt8], offset: UInt64, dropping: Int = 0) {
    queue.append(bytes.dropFirst(dropping), at: offset + UInt64(dropping), of: bytes.count)
  }

  /// See `StringVerifier.verify`. Of the bytes below `from`, those still queued are taken from the queue, the others
  /// from `held`.
  package mutating func verify(
    from: UInt64, root: Digest, promises: [Promise], storedLeaves: (UInt64) throws -> [Digest],
    held: (UInt64, Int) throws -> [UInt8]
  ) -> VerifyAnswer {
    let queue = queue
    return verifier.verify(
      file: key.key.file, from: from, root: root, promises: promises, received: { queue.pieces($0) },
      storedLeaves: storedLeaves, held: { try queue.bytes(offset: $0, count: $1, orHeld: held) })
  }

  /// Queued bytes.
  /// - Precondition: they are queued.
  package func bytes(offset: UInt64, length: Int) -> [UInt8] {
    guard let bytes = queue.bytes(offset..<(offset + UInt64(length))) else {
      preconditionFailure("these bytes are not queued")
    }
    return bytes
  }

  package mutating func free(below: UInt64) { queue.free(below: below) }
  package mutating func discard(from: UInt64) { queue.discard(from: from) }
}

extension ByteQueue {
  /// Bytes of a string: what is still queued from the queue, what lies before it from `held`.
  package func bytes(
    offset: UInt64, count: Int, orHeld held: (UInt64, Int) throws -> [UInt8]
  ) throws -> [UInt8] {
    let end = offset + UInt64(count)
    let split = isEmpty ? end : min(max(start, offset), end)
    let stored = split > offset ? try held(offset, Int(split - offset)) : []
    guard UInt64(stored.count) == split - offset, let queued = bytes(split..<end) else {
      throw SourceFailure("held bytes are missing")
    }
    return stored + queued
  }
}
