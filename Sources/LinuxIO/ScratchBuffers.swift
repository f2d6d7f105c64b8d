/// Buffers that are used again, of which at most `kept` are kept while nobody uses them.
final class ScratchBuffers: Sendable {
  private struct Buffers: @unchecked Sendable { var free: [UnsafeMutableRawBufferPointer] = [] }
  private let buffers = Monitor(Buffers())
  private let byteCount: Int
  private let alignment: Int
  private let kept: Int

  init(byteCount: Int, alignment: Int = 4_096, kept: Int = .max) {
    self.byteCount = byteCount
    self.alignment = alignment
    self.kept = kept
  }

  deinit { buffers.withLock { for buffer in $0.free { buffer.deallocate() } } }

  func withBuffer<R, E: Error>(_ body: (UnsafeMutableRawBufferPointer) throws(E) -> R) throws(E) -> R {
    let buffer =
      buffers.withLock { $0.free.popLast() }
      ?? UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: alignment)
    defer { giveBack(buffer) }
    return try body(buffer)
  }

  private func giveBack(_ buffer: UnsafeMutableRawBufferPointer) {
    let isKept = buffers.withLock { buffers in
      guard buffers.free.count < kept else { return false }
      buffers.free.append(buffer)
      return true
    }
    if !isKept { buffer.deallocate() }
  }
}
