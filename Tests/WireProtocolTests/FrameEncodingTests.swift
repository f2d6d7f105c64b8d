import JournalModel
import Testing
import WireProtocol

@Suite struct FrameEncodingTests {
  @Test("Every frame type has the bytes of its vector", arguments: Samples.frames.indices)
  func vectors(index: Int) throws {
    let (hex, frame) = Samples.frames[index]
    #expect(frame.encoded.hex == hex)
    let decoded = decodeAll(try #require([UInt8](hex: hex)))
    #expect(decoded.error == nil)
    #expect(decoded.frames == [frame])
  }

  @Test("The vectors cover every frame type")
  func coverage() {
    let types = Samples.frames.map { sample in
      switch sample.frame {
      case .frame(let frame): frame.type
      case .payload: FrameType.payload
      }
    }
    #expect(Set(types) == Set(FrameType.allCases))
  }

  @Test func roundTrip() {
    var random = Seeded(1)
    for _ in 0..<3_000 {
      let frame = random.decoded()
      let decoded = decodeAll(frame.encoded)
      #expect(decoded.error == nil)
      #expect(decoded.frames == [frame])
    }
  }

  @Test("The beginning of a frame yields nothing and is no error: more may come")
  func truncation() {
    for (_, frame) in Samples.frames {
      let bytes = frame.encoded
      for count in bytes.indices {
        let decoded = decodeAll(Array(bytes[..<count]))
        #expect(decoded.frames.isEmpty)
        #expect(decoded.error == nil)
      }
    }
  }

  @Test("A body that is shorter or longer than its frame says is refused")
  func bodyAndLengthDisagree() {
    for (_, frame) in Samples.frames {
      if case .payload = frame { continue }
      let bytes = frame.encoded
      for change in [-1, 1] {
        var wrong = change < 0 ? Array(bytes.dropLast()) : bytes + [0]
        let size = wrong.count - FrameBounds.headerSize
        for index in 0..<4 { wrong[index] = UInt8(truncatingIfNeeded: size >> (24 - 8 * index)) }
        let decoded = decodeAll(wrong)
        #expect(decoded.error != nil)
        #expect(decoded.frames.isEmpty)
      }
    }
  }

  @Test("Whatever byte is changed: refused, or its only encoding", arguments: Samples.frames.indices)
  func everyByteChanged(index: Int) {
    let bytes = Samples.frames[index].frame.encoded
    for position in bytes.indices {
      for value in UInt8.min...UInt8.max where value != bytes[position] {
        var changed = bytes
        changed[position] = value
        expectCanonical(changed)
      }
    }
  }

  @Test("A refusal code of a later version is 'other'")
  func unknownRefusalCode() throws {
    var bytes = Frame.goodbye(code: .busy, text: "later").encoded()
    bytes[6] = 0x77
    #expect(decodeAll(bytes).frames == [.frame(.goodbye(code: .other, text: "later"))])
    var refusal = Frame.refusal(Refusal(file: nil, code: .busy, length: 7, text: "")).encoded()
    refusal[6] = 0x77
    #expect(
      decodeAll(refusal).frames == [.frame(.refusal(Refusal(file: nil, code: .other, length: 7, text: "")))])
  }

  @Test("Text for operators is cut at a scalar, not refused")
  func longText() throws {
    let text = String(repeating: "x", count: 511) + "é"
    let decoded = decodeAll(Frame.goodbye(code: .other, text: text).encoded())
    #expect(decoded.frames == [.frame(.goodbye(code: .other, text: String(repeating: "x", count: 511)))])
    let exact = String(repeating: "é", count: 256)
    #expect(
      decodeAll(Frame.goodbye(code: .other, text: exact).encoded()).frames
        == [.frame(.goodbye(code: .other, text: exact))])
  }

  @Test("W1: a long acknowledgement becomes several frames")
  func longAcknowledgement() {
    let count = FrameBounds.acknowledgements * 2 + 1
    let held = (0..<count).map { DurablePrefix(file: Samples.file, length: UInt64($0), root: Samples.root) }
    let decoded = decodeAll(Frame.payloadDurable(held).encoded())
    #expect(decoded.error == nil)
    #expect(decoded.frames.count == 3)
    let together = decoded.frames.flatMap { frame in
      if case .frame(.payloadDurable(let part)) = frame { part } else { [DurablePrefix]() }
    }
    #expect(together == held)
  }

  @Test("J2: records become frames within their bounds, each with its own checkpoint, none lost")
  func recordFrames() throws {
    var random = Seeded(6)
    var limits = Samples.limits
    limits.recordBytesPerFrame = 300
    for _ in 0..<200 {
      let encoded = (0..<random.number(0...30)).map { _ in random.bytes(random.chance(1, in: 10) ? 250...600 : 0...90) }
      let frames = Records.frames(first: 70, encoded: encoded, limits: limits) { length in
        var checkpoint = Samples.checkpoint
        checkpoint.length = length
        return checkpoint
      }
      var together: [[UInt8]] = []
      for frame in frames {
        guard case .records(let records) = frame else { return #expect(Bool(false)) }
        #expect(records.first == 70 + UInt64(together.count))
        together += records.encoded
        #expect(records.checkpoint.length == 70 + UInt64(together.count))
        let size = records.encoded.reduce(0) { $0 + $1.count }
        #expect(records.encoded.count == 1 || size <= limits.recordBytesPerFrame)
        #expect(decodeAll(frame.encoded(), limits: limits).frames == [.frame(frame)])
      }
      #expect(together == encoded)
    }
  }

  @Test("512 births with the longest paths don't fit one frame, and go in several")
  func manyLongPaths() throws {
    let limits = Limits()
    let encoded = [[UInt8]](repeating: [UInt8](repeating: 1, count: 8_400), count: limits.recordsPerFrame)
    let frames = Records.frames(first: 0, encoded: encoded, limits: limits) { _ in Samples.checkpoint }
    #expect(frames.count > 1)
    for frame in frames { #expect(decodeAll(frame.encoded(), limits: limits).error == nil) }
  }

  @Test("Encoding appends to what is there")
  func appends() {
    var bytes: [UInt8] = [1, 2, 3]
    Frame.ping(nonce: 1).encode(into: &bytes)
    #expect(bytes == [1, 2, 3, 0, 0, 0, 8, 11, 0, 0, 0, 0, 0, 0, 0, 1])
  }
}

/// Whether the bytes begin with a frame; if so, its encoding is exactly the bytes that it took. The one exception is a
/// refusal code of a later version.
@discardableResult
func expectCanonical(_ bytes: [UInt8]) -> Bool {
  guard let frame = decodeAll(bytes).frames.first else { return false }
  let again = frame.encoded
  if !bytes.starts(with: again), !carriesOther(frame) { Issue.record("not canonical: \(bytes.hex)") }
  return true
}

private func carriesOther(_ frame: DecodedFrame) -> Bool {
  switch frame {
  case .frame(.goodbye(.other, _)): true
  case .frame(.refusal(let refusal)): refusal.code == .other
  case .frame(.closeChannel(let end)): end.code == .other
  default: false
  }
}
