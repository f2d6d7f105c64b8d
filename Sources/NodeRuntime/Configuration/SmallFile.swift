import Glibc

/// Files that are read whole: configuration, certificates.
enum SmallFile {
  struct Failure: Error, Hashable, Sendable {
    var message: String
  }

  /// All bytes of a regular file of at most `limit` bytes. Never blocks on a FIFO.
  static func read(_ path: String, limit: Int) throws(Failure) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw Failure(message: describe(errno)) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw Failure(message: describe(errno)) }
    guard status.st_mode & S_IFMT != S_IFDIR else { throw Failure(message: "is a directory") }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw Failure(message: describe(errno)) }
      if count == 0 { return bytes }
      bytes.append(contentsOf: buffer[..<count])
      guard bytes.count <= limit else {
        throw Failure(message: "is larger than \(Quantity.text(bytes: UInt64(limit)))")
      }
    }
  }

  static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  /// Size of a regular file; nil when there is none.
  static func size(_ path: String) -> UInt64? {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    return UInt64(clamping: status.st_size)
  }

  static func describe(_ error: Int32) -> String { String(cString: strerror(error)) }
}
