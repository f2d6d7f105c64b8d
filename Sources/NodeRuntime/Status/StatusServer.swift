import Glibc
package import SecureTransport

/// Serves `status.listen`: GET and HEAD of `/`, `/status.json`, `/healthz` and `/metrics`, one request a connection
/// (RFC 9112). It has nothing that changes anything and asks nobody who they are: listen where only those may look who
/// should.
package final class StatusServer: Sendable {
  static let maximumRequest = 8_192

  private let listener: SocketDescriptor
  private let service: Service
  private let server: RequestServer

  /// Where it listens: tells the port after listening at port 0.
  package var address: SocketAddress? { listener.localAddress }

  /// Listens at once.
  package init(at address: Address, node: any NodeControl) throws {
    listener = try .listening(at: try address.resolve()[0])
    service = Service(node)
    server = try RequestServer(
      listening: listener.number, bounds: .init(request: Self.maximumRequest), service: service)
  }

  package func stop() {
    server.stop()
    service.close()
    shutdown(listener.number, Int32(SHUT_RDWR))
  }

  private final class Service: RequestService {
    private let whole: StatusDesk
    /// For those who want to know of alarms alone: they don't wait for long lists.
    private let glance: StatusDesk

    init(_ node: any NodeControl) {
      whole = StatusDesk { node.snapshot() }
      glance = StatusDesk { node.glance() }
    }

    func close() {
      whole.close()
      glance.close()
    }

    /// Everything before the empty line.
    func request(in bytes: [UInt8]) -> [UInt8]? {
      bytes.firstRange(of: Array("\r\n\r\n".utf8)).map { Array(bytes[..<$0.lowerBound]) }
    }

    func answer(_ head: [UInt8], to reply: Reply) {
      let request = StatusRequest(head)
      switch request.asked {
      case .refused(let response): reply(response.bytes)
      case .subject(let subject):
        (subject == .health ? glance : whole).ask { reply(request.response(subject, $0).bytes) }
      }
    }
  }
}
