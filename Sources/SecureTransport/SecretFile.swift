import Glibc

/// Small files that hold keys and certificates.
enum SecretFile {
  /// More than any sensible key, chain or list of authorities needs.
  static let maximumByteCount = 4 << 20

  /// The file's bytes. With `isSecret`, a file that group or others may read or write is refused.
  static func read(_ path: String, isSecret: Bool) throws(TransportError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw failure(path, "can't be opened") }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure(path, "can't be examined") }
    guard status.st_mode & S_IFMT == S_IFREG else { throw TransportError(path, "is not a regular file") }
    if isSecret, status.st_mode & 0o077 != 0 {
      let mode = String(status.st_mode & 0o7777, radix: 8)
      throw TransportError(
        path, "holds a key, but others than its owner have access (mode \(mode))", hint: "chmod 600 \(path)")
    }
    guard status.st_size <= maximumByteCount else {
      throw TransportError(path, "has \(status.st_size) bytes, too many for a key or certificate")
    }
    return try readAll(descriptor, path)
  }

  /// Creates the file with `bytes`, wholly or not at all, so that it survives a power cut. Never replaces a file.
  static func create(_ path: String, _ bytes: [UInt8], mode: mode_t) throws(TransportError) {
    let temporary = "\(path).new-\(getpid())-\(UInt32.random(in: .min ... .max))"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw failure(path, "can't be created") }
    defer { unlink(temporary) }
    do {
      defer { close(descriptor) }
      guard fchmod(descriptor, mode) == 0 else { throw failure(path, "can't be given mode \(String(mode, radix: 8))") }
      try writeAll(descriptor, bytes, path)
      guard fsync(descriptor) == 0 else { throw failure(path, "can't be synced") }
    }
    // link(2) rather than rename(2): it fails when the name exists.
    guard link(temporary, path) == 0 else {
      if errno == EEXIST {
        throw TransportError(
          path, "exists already and is not replaced", hint: "move it away, or choose another directory")
      }
      throw failure(path, "can't be created")
    }
    try syncDirectory(of: path)
  }

  /// Makes a directory and those above it, where missing.
  static func makeDirectory(_ path: String, mode: mode_t) throws(TransportError) {
    if mkdir(path, mode) == 0 { return }
    if errno == ENOENT, let parent = parent(of: path) {
      try makeDirectory(parent, mode: 0o755)
      if mkdir(path, mode) == 0 { return }
    }
    guard errno == EEXIST else { throw failure(path, "can't be made") }
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
      throw TransportError(path, "is not a directory")
    }
  }

  static func failure(_ path: String, _ what: String) -> TransportError {
    TransportError(path, "\(what): \(String(cString: strerror(errno)))")
  }

  private static func parent(of path: String) -> String? {
    guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return nil }
    return String(path[..<slash])
  }

  private static func syncDirectory(of path: String) throws(TransportError) {
    let directory = path.contains("/") ? (parent(of: path) ?? "/") : "."
    let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure(directory, "can't be opened") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw failure(directory, "can't be synced") }
  }

  private static func readAll(_ descriptor: Int32, _ path: String) throws(TransportError) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw failure(path, "can't be read") }
      if count == 0 { return bytes }
      bytes += chunk[..<count]
      guard bytes.count <= maximumByteCount else { throw TransportError(path, "grows while it is read") }
    }
  }

  private static func writeAll(_ descriptor: Int32, _ bytes: [UInt8], _ path: String) throws(TransportError) {
    var offset = 0
    while offset < bytes.count {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + offset, bytes.count - offset) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw failure(path, "can't be written") }
      offset += count
    }
  }
}
