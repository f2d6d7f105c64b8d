import Glibc

/// Holds a directory for one node, as long as it lives: `flock(2)`, which ends with the process however that ends.
final class DirectoryLock: Sendable {
  private let descriptor: Int32

  /// Fails only where another holds it: a file system that knows no locks still carries a server.
  init(_ path: String) throws {
    descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw StartFailure("\(path): \(String(cString: strerror(errno)))") }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK else {
      close(descriptor)
      throw StartFailure("\(path) is in use: another node writes to it")
    }
  }

  deinit { close(descriptor) }
}
