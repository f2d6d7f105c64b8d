package import JournalModel

/// What a connection yields.
package enum DecodedFrame: Hashable, Sendable {
  /// Any frame but payload.
  case frame(Frame)
  case payload(PayloadHeader, [UInt8])
}

/// Cuts a connection's byte stream into frames. Feed what arrives, then take frames until there is none. Holds at most
/// the greatest frame and what one `feed` brought; a payload frame's bytes go straight to their own array as they
/// arrive, and may be put there by whoever reads them (`fill`); the room for frames is given back when there are none.
/// After an error the connection is lost: every further call gives the same error.
package struct FrameDecoder: Sendable {
  private let limits: Limits
  private var sender: FrameSender?
  private var buffer: [UInt8] = []
  /// Bytes of `buffer` that frames already took; cut off when they are the greater part.
  private var taken = 0
  private var payload: PartialPayload?
  private var failure: FrameError?
  /// Offset on the connection of the frame that comes next.
  private var position: UInt64 = 0

  private struct PartialPayload {
    let header: PayloadHeader
    /// All of them; what isn't filled yet is anything, and nobody's.
    var bytes: [UInt8]
    var filled = 0
    var missing: Int { bytes.count - filled }

    init(_ header: PayloadHeader) {
      self.header = header
      // Not zeroed: that would be one more pass over every byte.
      bytes = [UInt8](unsafeUninitializedCapacity: header.length) { $1 = header.length }
    }

    mutating func fill(_ body: (UnsafeMutableRawBufferPointer) -> Int) {
      filled += bytes.withUnsafeMutableBytes { body(UnsafeMutableRawBufferPointer(rebasing: $0[filled...])) }
    }

    /// As many as there is room for; returns how many.
    mutating func append(_ source: UnsafeRawBufferPointer) -> Int {
      let part = UnsafeRawBufferPointer(rebasing: source.prefix(missing))
      bytes.withUnsafeMutableBytes { UnsafeMutableRawBufferPointer(rebasing: $0[filled...]).copyMemory(from: part) }
      filled += part.count
      return part.count
    }
  }

  /// - Parameter sender: who sends them; nil takes every frame from anyone.
  package init(limits: Limits, from sender: FrameSender? = nil) {
    self.limits = limits
    self.sender = sender
  }

  /// Whether the stream may end here: not in the middle of a frame.
  package var isAtBoundary: Bool { failure == nil && payload == nil && buffer.count == taken }

  package mutating func feed(_ bytes: RawSpan) {
    guard failure == nil else { return }
    bytes.withUnsafeBytes { bytes in
      let direct = payload?.append(bytes) ?? 0
      guard direct < bytes.count else { return }
      compact()
      buffer.append(contentsOf: bytes[direct...])
    }
  }

  /// How many bytes are to come that belong to a payload frame.
  package var missing: Int { payload?.missing ?? 0 }

  /// In place of `feed` while bytes are missing: `body` puts the connection's next ones into the buffer, which has room
  /// for the missing ones, and returns how many there were.
  package mutating func fill(_ body: (UnsafeMutableRawBufferPointer) -> Int) {
    payload?.fill(body)
  }

  /// The next whole frame, or nil until more is fed.
  package mutating func next() throws(FrameError) -> DecodedFrame? {
    if let failure { throw failure }
    do {
      let frame = try payload == nil ? nextFrame() : finishPayload()
      if frame == nil { compact() }
      return frame
    } catch {
      failure = error
      buffer = []
      taken = 0
      payload = nil
      throw error
    }
  }

  private mutating func nextFrame() throws(FrameError) -> DecodedFrame? {
    guard let (type, size) = try header() else { return nil }
    let body = taken + FrameBounds.headerSize
    if type == .payload { return try beginPayload(body: body, size: size) }
    guard buffer.count - body >= size else { return nil }
    let frame: Frame
    do {
      frame = try Frame(type: type, body: buffer[body..<(body + size)], limits: limits)
    } catch {
      throw .malformed(type, error, at: position)
    }
    taken = body + size
    position += UInt64(FrameBounds.headerSize + size)
    if type == .peerHello, sender != nil { sender = .peer }
    return .frame(frame)
  }

  /// Type and body size of the next frame; nil until they have arrived. A bad type is known by 5 bytes, a bad size too.
  private func header() throws(FrameError) -> (FrameType, Int)? {
    guard buffer.count - taken >= FrameBounds.headerSize else { return nil }
    let raw = buffer[taken + 4]
    guard let type = FrameType(rawValue: raw) else { throw .unknownType(raw, at: position) }
    if let sender, !type.isAllowed(from: sender, isFirst: position == 0) {
      throw .unexpected(type, isFirst: position == 0, at: position)
    }
    let size = buffer[taken..<(taken + 4)].reduce(0) { $0 << 8 | Int($1) }
    let allowed = type.bodySizes(limits)
    guard allowed.contains(size) else { throw .badSize(type, size: size, allowed: allowed, at: position) }
    return (type, size)
  }

  private mutating func beginPayload(body: Int, size: Int) throws(FrameError) -> DecodedFrame? {
    let start = body + FrameBounds.payloadHeaderSize
    guard buffer.count >= start else { return nil }
    let header: PayloadHeader
    do {
      var reader = ByteReader(buffer[body..<start])
      header = try PayloadHeader(from: &reader, length: size - FrameBounds.payloadHeaderSize)
    } catch {
      throw .malformed(.payload, error, at: position)
    }
    var begun = PartialPayload(header)
    let available = buffer.withUnsafeBytes { begun.append(UnsafeRawBufferPointer(rebasing: $0[start...])) }
    payload = begun
    taken = start + available
    position += UInt64(FrameBounds.headerSize + size)
    return finishPayload()
  }

  private mutating func finishPayload() -> DecodedFrame? {
    guard let whole = payload, whole.missing == 0 else { return nil }
    payload = nil
    return .payload(whole.header, whole.bytes)
  }

  /// Each byte is moved at most once on average: only when more is cut off than is kept.
  private mutating func compact() {
    guard taken > buffer.count - taken else { return }
    if taken == buffer.count, buffer.capacity > Self.kept { buffer = [] } else { buffer.removeSubrange(..<taken) }
    taken = 0
  }

  /// Room that is kept while there is no frame.
  private static let kept = 4_096
}
