import Glibc
import SecureTransport

struct SocketPair: ~Copyable {
  let client: SocketDescriptor
  let server: SocketDescriptor
}

/// Connected, non-blocking sockets, and waiting for them.
enum Sockets {
  /// Over TCP on the loopback interface: (client, server).
  static func connected(at text: String = "127.0.0.1:0") throws -> SocketPair {
    let listening = try SocketDescriptor.listening(at: Address(text).resolve()[0])
    let address = listening.localAddress!
    let client = try SocketDescriptor.connecting(to: address)
    wait([(listening.number, Int16(POLLIN))])
    guard case .connection(let server, from: _) = listening.accept() else {
      throw TransportError(text, "no connection")
    }
    wait([(client.number, Int16(POLLOUT))])
    if let reason = client.finishConnecting() { throw TransportError(text, reason) }
    return SocketPair(client: client, server: server)
  }

  /// A pair of local sockets with small buffers.
  static func pair() throws -> SocketPair {
    var numbers: [Int32] = [0, 0]
    let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &numbers) == 0 else { throw TransportError("socketpair", "errno \(errno)") }
    for number in numbers {
      var size: Int32 = 8 << 10
      setsockopt(number, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<Int32>.size))
    }
    return SocketPair(client: SocketDescriptor(owning: numbers[0]), server: SocketDescriptor(owning: numbers[1]))
  }

  /// Until one of them is ready; false after ten seconds, which no test should reach.
  @discardableResult
  static func wait(_ interest: [(number: Int32, events: Int16)]) -> Bool {
    var polled = interest.map { pollfd(fd: $0.number, events: $0.events, revents: 0) }
    return poll(&polled, nfds_t(polled.count), 10_000) > 0
  }
}

/// A session as a reference, so that a test can hold two in a collection.
final class SessionBox {
  var session: TLSSession
  init(_ session: consuming TLSSession) { self.session = session }
}

/// Drives two handshakes in turn until both ended, as one loop would.
enum Handshakes {
  /// How each side's handshake ended: nil is success, else the reason. A client learns of a refusal by reading.
  static func run(client: SessionBox, server: SessionBox) -> (client: String?, server: String?) {
    var ends: [TLSSession.Handshake?] = [nil, nil]
    for _ in 0..<1_000 {
      for (index, box) in [client, server].enumerated() where ends[index] == nil {
        switch box.session.handshake() {
        case .wantsRead, .wantsWrite: break
        case let end: ends[index] = end
        }
      }
      if ends[0] != nil, ends[1] != nil { break }
      // One side that failed leaves the other to wait for its alert; both sockets are in this process.
      if ends.contains(where: { $0 == nil }) {
        let interest = zip(ends, [client, server]).filter { $0.0 == nil }.map {
          ($0.1.session.descriptor, Int16(POLLIN))
        }
        guard Sockets.wait(interest) else { break }
      }
    }
    var reasons = ends.map { end -> String? in
      switch end {
      case .done: nil
      case .failed(let reason): reason
      default: "never ended"
      }
    }
    if reasons[0] == nil, reasons[1] != nil {
      Sockets.wait([(client.session.descriptor, Int16(POLLIN))])
      var buffer = [UInt8](repeating: 0, count: 16)
      if case .failed(let reason) = buffer.withUnsafeMutableBytes({ client.session.read(into: $0) }) {
        reasons[0] = reason
      }
    }
    return (reasons[0], reasons[1])
  }

  /// Sessions over fresh TCP sockets; the client expects `name`.
  static func sessions(
    client: TLSContext, server: TLSContext, name: String, at address: String = "127.0.0.1:0"
  ) throws -> (client: SessionBox, server: SessionBox) {
    let sockets = try Sockets.connected(at: address)
    return (
      SessionBox(try client.connect(on: sockets.client, to: name)), SessionBox(try server.accept(on: sockets.server))
    )
  }
}
