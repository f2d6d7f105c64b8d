import Glibc
import JournalModel
import SecureTransport

/// Reaches a server as a host would: TCP, TLS, both certificates; then hangs up.
enum ServerProbe {
  private static let patience: Int32 = 5_000
  /// How long a server that refuses the certificate is given to say so: in TLS 1.3 it judges after the client is done.
  private static let judgement: Int32 = 1_000

  /// What was reached.
  static func reach(
    _ server: Configuration.Destination, _ context: TLSContext
  ) throws(TransportError) -> String {
    var failure = TransportError(server.address.description, "has no address")
    for address in try server.address.resolve() {
      do {
        return try reach(server.name.text, address, context)
      } catch {
        failure = error
      }
    }
    throw failure
  }

  private static func reach(
    _ name: String, _ address: SocketAddress, _ context: TLSContext
  ) throws(TransportError) -> String {
    let socket = try SocketDescriptor.connecting(to: address)
    guard wait(socket.number, POLLOUT, patience) else {
      throw TransportError("\(address)", "no answer within \(patience / 1_000) s", hint: "firewall? right address?")
    }
    if let reason = socket.finishConnecting() {
      throw TransportError("\(address)", "can't be reached: \(reason)", hint: "does the server's node run?")
    }
    var session = try context.connect(on: socket, to: name)
    try shakeHands(&session, address)
    try listen(&session, address)
    let summary = session.summary
    _ = session.shutdown()
    return "\(address) answers, \(summary)"
  }

  private static func shakeHands(_ session: inout TLSSession, _ address: SocketAddress) throws(TransportError) {
    for _ in 0..<1_000 {
      switch session.handshake() {
      case .done: return
      case .failed(let reason): throw TransportError("\(address)", reason)
      case .wantsRead, .wantsWrite:
        let isReading = session.handshake() == .wantsRead
        guard wait(session.descriptor, isReading ? POLLIN : POLLOUT, patience) else {
          throw TransportError("\(address)", "doesn't speak TLS: no answer within \(patience / 1_000) s")
        }
      }
    }
    throw TransportError("\(address)", "doesn't come to an end with the TLS handshake")
  }

  private static func listen(_ session: inout TLSSession, _ address: SocketAddress) throws(TransportError) {
    guard wait(session.descriptor, POLLIN, judgement) else { return }
    var buffer = [UInt8](repeating: 0, count: 1_024)
    switch buffer.withUnsafeMutableBytes({ session.read(into: $0) }) {
    case .failed(let reason): throw TransportError("\(address)", "refuses this node: \(reason)")
    case .closed: throw TransportError("\(address)", "hung up at once", hint: "see the server's log")
    case .bytes, .wantsRead, .wantsWrite: return
    }
  }

  private static func wait(_ descriptor: Int32, _ events: Int32, _ milliseconds: Int32) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
    return poll(&entry, 1, milliseconds) > 0
  }
}
