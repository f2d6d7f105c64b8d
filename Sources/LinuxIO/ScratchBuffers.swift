/// Read buffers that are used again.
final class ScratchBuffers: Sendable {
  private struct Buffers: @unchecked Sendable { var free: [UnsafeMutableRawBufferPointer] = [] }
  private let buffers = Monitor(Buffers())
  private let byteCount: Int

  init(byteCount: Int) { self.byteCount = byteCount }

  deinit { buffers.withLock { for buffer in $0.free { buffer.deallocate() } } }

  func withBuffer<R>(_ body: (UnsafeMutableRawBufferPointer) -> R) -> R {
    let buffer =
      buffers.withLock { $0.free.popLast() }
      ?? UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 4096)
    defer { buffers.withLock { $0.free.append(buffer) } }
    return body(buffer)
  }
}
