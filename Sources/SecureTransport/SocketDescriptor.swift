import CLinux
import Glibc

/// Owns a socket: closed at the end of its life.
package struct SocketDescriptor: ~Copyable, Sendable {
  package let number: Int32

  /// Takes over an open descriptor.
  package init(owning number: Int32) { self.number = number }

  deinit { close(number) }
}

extension SocketDescriptor {
  /// Which dead peers the kernel notices by itself: probes after 30 s of silence, the connection's end when data stays
  /// unacknowledged for so long (tcp(7)).
  static let userTimeoutMilliseconds: Int32 = 30_000
  static let backlog: Int32 = 512

  package enum Accepted: ~Copyable {
    case connection(SocketDescriptor, from: SocketAddress)
    /// Nobody waits.
    case none
    /// The connection was gone already, or the system is short of something; worth trying again later.
    case failed(String)
  }

  /// A non-blocking socket on its way to `address`: when it becomes writable, `finishConnecting` tells what came of it.
  package static func connecting(to address: SocketAddress) throws(TransportError) -> SocketDescriptor {
    let socket = try stream(address)
    socket.setConnectionOptions()
    let result = address.withSockaddr { connect(socket.number, $0, $1) }
    guard result == 0 || errno == EINPROGRESS || errno == EINTR else { throw failure("\(address)", "can't be reached") }
    return socket
  }

  /// Nil if the connection stands, else why not.
  package func finishConnecting() -> String? {
    var code: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    guard getsockopt(number, SOL_SOCKET, SO_ERROR, &code, &size) == 0 else { return String(cString: strerror(errno)) }
    if code != 0 { return String(cString: strerror(code)) }
    return nil
  }

  /// A non-blocking listening socket. An IPv6 wildcard listens for IPv4 too.
  package static func listening(at address: SocketAddress) throws(TransportError) -> SocketDescriptor {
    let socket = try stream(address)
    socket.set(SOL_SOCKET, SO_REUSEADDR, 1)
    if address.isIPv6 { socket.set(Int32(IPPROTO_IPV6), IPV6_V6ONLY, 0) }
    guard address.withSockaddr({ bind(socket.number, $0, $1) }) == 0, listen(socket.number, backlog) == 0 else {
      let hint = errno == EADDRINUSE ? "does another node run?" : nil
      var error = failure("\(address)", "can't be listened at")
      error.hint = hint
      throw error
    }
    return socket
  }

  package func accept() -> Accepted {
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutablePointer(to: &storage) { storage in
      storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { peer in
        let descriptor = linux_accept(number, peer, &size)
        guard descriptor >= 0 else {
          return descriptor == -EAGAIN || descriptor == -EINTR ? .none : .failed(String(cString: strerror(-descriptor)))
        }
        let connection = SocketDescriptor(owning: descriptor)
        connection.setConnectionOptions()
        guard let address = SocketAddress(peer, size) else { return .failed("neither IPv4 nor IPv6") }
        return .connection(connection, from: address)
      }
    }
  }

  /// Where the socket is bound: tells the port after listening at port 0.
  package var localAddress: SocketAddress? {
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutablePointer(to: &storage) { storage in
      storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        getsockname(number, pointer, &size) == 0 ? SocketAddress(pointer, size) : nil
      }
    }
  }

  private static func stream(_ address: SocketAddress) throws(TransportError) -> SocketDescriptor {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    let descriptor = socket(address.isIPv6 ? AF_INET6 : AF_INET, type, 0)
    guard descriptor >= 0 else { throw failure("\(address)", "no socket") }
    return SocketDescriptor(owning: descriptor)
  }

  /// These only tune: a kernel that refuses one still carries the connection.
  private func setConnectionOptions() {
    set(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    set(SOL_SOCKET, SO_KEEPALIVE, 1)
    set(Int32(IPPROTO_TCP), TCP_KEEPIDLE, 30)
    set(Int32(IPPROTO_TCP), TCP_KEEPINTVL, 10)
    set(Int32(IPPROTO_TCP), TCP_KEEPCNT, 3)
    set(Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, Self.userTimeoutMilliseconds)
  }

  private func set(_ level: Int32, _ option: Int32, _ value: Int32) {
    var value = value
    setsockopt(number, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
  }

  private static func failure(_ subject: String, _ what: String) -> TransportError {
    TransportError(subject, "\(what): \(String(cString: strerror(errno)))")
  }
}
