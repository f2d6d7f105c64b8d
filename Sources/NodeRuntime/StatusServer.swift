import Glibc
import JournalModel
package import SecureTransport
import Synchronization

/// Serves `status.listen`: GET and HEAD of `/`, `/status.json`, `/healthz` and `/metrics`, one request a connection
/// (RFC 9112), on threads of its own, bounded in connections, request size and time. It has nothing that changes
/// anything and asks nobody who they are: listen where only those may look who should.
package final class StatusServer: Sendable {
  private static let mostConnections = 32
  /// For a whole request, and for a whole answer.
  private static let patience = 10_000
  static let maximumRequest = 8_192

  private let listener: SocketDescriptor
  private let node: any NodeControl
  private let isStopped = Atomic(false)
  private let connections = Atomic(0)

  /// Where it listens: tells the port after listening at port 0.
  package var address: SocketAddress? { listener.localAddress }

  /// Listens at once.
  package init(at address: Address, node: any NodeControl) throws {
    self.node = node
    listener = try .listening(at: try address.resolve()[0])
    startThread { self.serve() }
  }

  package func stop() {
    isStopped.store(true, ordering: .relaxed)
    shutdown(listener.number, Int32(SHUT_RDWR))
  }

  private func serve() {
    while !isStopped.load(ordering: .relaxed) {
      guard Self.wait(listener.number, POLLIN, milliseconds: 1_000) else { continue }
      switch listener.accept() {
      case .none: continue
      case .failed: usleep(100_000)
      case .connection(let socket, _):
        guard connections.wrappingAdd(1, ordering: .relaxed).newValue <= Self.mostConnections else {
          connections.wrappingSubtract(1, ordering: .relaxed)
          continue
        }
        let connection = Connection(socket)
        startThread { [self] in
          answer(connection.socket.number)
          connections.wrappingSubtract(1, ordering: .relaxed)
        }
      }
    }
  }

  /// Lets a socket travel to the thread that serves it.
  private final class Connection: Sendable {
    let socket: SocketDescriptor
    init(_ socket: consuming SocketDescriptor) { self.socket = socket }
  }

  private func answer(_ socket: Int32) {
    guard let head = Self.readHead(socket) else { return }
    let response = StatusResponse(toRequest: head, node: node)
    guard Self.write(socket, response.bytes) else { return }
    // Closing with unread bytes would reset the connection before the answer arrived.
    shutdown(socket, Int32(SHUT_WR))
    var buffer = [UInt8](repeating: 0, count: 1_024)
    _ = Self.wait(socket, POLLIN, milliseconds: 1_000)
    _ = recv(socket, &buffer, buffer.count, 0)
  }

  /// Everything before the empty line; what was read so far when it gets too long, which is no valid request.
  private static func readHead(_ socket: Int32) -> [UInt8]? {
    let deadline = milliseconds() + patience
    var head: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4_096)
    while head.count <= maximumRequest {
      let left = deadline - milliseconds()
      guard left > 0, wait(socket, POLLIN, milliseconds: left) else { return nil }
      let count = recv(socket, &buffer, buffer.count, 0)
      if count < 0, errno == EINTR || errno == EAGAIN { continue }
      guard count > 0 else { return nil }
      head += buffer[..<count]
      if let end = head.firstRange(of: Array("\r\n\r\n".utf8)) { return Array(head[..<end.lowerBound]) }
    }
    return head
  }

  private static func write(_ socket: Int32, _ bytes: [UInt8]) -> Bool {
    let deadline = milliseconds() + patience
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count > 0 {
        rest = rest.dropFirst(count)
        continue
      }
      let left = deadline - milliseconds()
      guard count < 0, errno == EAGAIN || errno == EINTR, left > 0, wait(socket, POLLOUT, milliseconds: left) else {
        return false
      }
    }
    return true
  }

  private static func wait(_ socket: Int32, _ events: Int32, milliseconds: Int) -> Bool {
    var entry = pollfd(fd: socket, events: Int16(events), revents: 0)
    return poll(&entry, 1, Int32(milliseconds)) > 0
  }

  private static func milliseconds() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
  }
}
