import Glibc

/// A stream socket of the AF_UNIX family (unix(7)), blocking, with timeouts.
struct UnixSocket: ~Copyable, Sendable {
  let number: Int32

  init(owning number: Int32) {
    self.number = number
    _ = fcntl(number, F_SETFD, FD_CLOEXEC)
  }

  deinit { close(number) }

  static func make() throws(ControlFailure) -> UnixSocket {
    let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard number >= 0 else { throw failure("no socket") }
    return UnixSocket(owning: number)
  }

  /// Readable and writable by the owner alone from its first moment on: Linux takes the mode from the unbound socket.
  func bind(at path: String) throws(ControlFailure) {
    guard fchmod(number, 0o600) == 0 else { throw Self.failure(path) }
    unlink(path)
    try Self.withAddress(path) { Glibc.bind(number, $0, $1) }
    chmod(path, 0o600)
    guard listen(number, 16) == 0 else { throw Self.failure(path) }
  }

  func connect(to path: String) throws(ControlFailure) {
    try Self.withAddress(path) { Glibc.connect(number, $0, $1) }
  }

  /// For each later read and write.
  func setTimeouts(seconds: Int) {
    var time = timeval(tv_sec: seconds, tv_usec: 0)
    let size = socklen_t(MemoryLayout<timeval>.size)
    setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &time, size)
    setsockopt(number, SOL_SOCKET, SO_SNDTIMEO, &time, size)
  }

  /// Up to the first newline, which is left out. Nil at the end, after a timeout or beyond the limit.
  func readLine(limit: Int) -> [UInt8]? {
    var line: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = recv(number, &buffer, buffer.count, 0)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return nil }
      if let end = buffer[..<count].firstIndex(of: 0x0A) { return line + buffer[..<end] }
      line += buffer[..<count]
      guard line.count <= limit else { return nil }
    }
  }

  func write(_ text: String) -> Bool {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }

  /// Paths have at most 107 bytes here; a longer one is reached through its directory's descriptor.
  private static func withAddress(
    _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) throws(ControlFailure) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    var bytes = Array(path.utf8)
    var directory: Int32 = -1
    defer { if directory >= 0 { close(directory) } }
    if bytes.count >= MemoryLayout.size(ofValue: address.sun_path), let slash = path.lastIndex(of: "/") {
      directory = open(String(path[..<slash]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      guard directory >= 0 else { throw failure(path) }
      bytes = Array("/proc/self/fd/\(directory)\(path[slash...])".utf8)
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
    guard result == 0 else { throw failure(path) }
  }

  static func failure(_ what: String) -> ControlFailure {
    ControlFailure(message: "\(what): \(SmallFile.describe(errno))")
  }
}
