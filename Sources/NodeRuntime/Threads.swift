import Glibc
import Synchronization

/// A detached thread.
func startThread(_ body: @escaping @Sendable () -> Void) {
  final class Box: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  var thread = pthread_t()
  let box = Unmanaged.passRetained(Box(body))
  let result = pthread_create(
    &thread, nil,
    { context in
      guard let context else { return nil }
      let box = Unmanaged<Box>.fromOpaque(context).takeRetainedValue()
      box.body()
      return nil
    }, box.toOpaque())
  if result == 0 { pthread_detach(thread) } else { box.release() }
}

/// A value that one thread waits for and another gives, once.
final class Awaited<Value: Sendable>: Sendable {
  private let value = Mutex<Value?>(nil)
  /// Becomes readable when the value is there.
  private let reading: Int32
  private let writing: Int32

  init() {
    var ends: [Int32] = [-1, -1]
    _ = pipe(&ends)
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    (reading, writing) = (ends[0], ends[1])
  }

  deinit {
    close(reading)
    close(writing)
  }

  /// Only the first value counts.
  func give(_ new: Value) {
    let isFirst = value.withLock { value in
      defer { value = value ?? new }
      return value == nil
    }
    if isFirst { _ = write(writing, [0], 1) }
  }

  /// Nil when nothing came within `milliseconds`.
  func wait(milliseconds: Int32) -> Value? {
    var entry = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
    while poll(&entry, 1, milliseconds) < 0, errno == EINTR {}
    return value.withLock { $0 }
  }
}
