import Glibc
import JournalModel
import Synchronization

/// Answers those who ask about the running node over `control.sock` (mode 0600). Nobody who asks can hold up the node, or
/// others who ask.
package final class ControlServer: Sendable {
  /// So many may wait for `settle` at a time; the other connections are for those who ask and go.
  private static let mostSettling = 32

  private let path: String
  private let socket: UnixSocket
  private let service: Service
  private let server: RequestServer
  private let isStopped = Atomic(false)

  /// Listens at once. The caller holds the node's stores, so nobody else is serving this path: a socket that is there
  /// is left over from a killed node.
  package init(at path: String, node: any NodeControl) throws {
    self.path = path
    socket = try UnixSocket.make()
    try socket.bind(at: path)
    service = Service(node)
    server = try RequestServer(
      listening: socket.number, bounds: .init(request: ControlRequest.maximumByteCount), service: service)
  }

  /// Takes no more requests; removes the socket's name.
  package func stop() {
    guard !isStopped.exchange(true, ordering: .relaxed) else { return }
    unlink(path)
    shutdown(socket.number, Int32(SHUT_RDWR))
    server.stop()
    service.desk.close()
  }

  private final class Service: RequestService {
    let desk: StatusDesk
    private let node: any NodeControl
    private let settling = Atomic(0)

    init(_ node: any NodeControl) {
      self.node = node
      desk = StatusDesk { node.snapshot() }
    }

    /// One line.
    func request(in bytes: [UInt8]) -> [UInt8]? {
      bytes.firstIndex(of: UInt8(ascii: "\n")).map { Array(bytes[..<$0]) }
    }

    func answer(_ line: [UInt8], to reply: Reply) {
      guard let request = try? JSON.decode(ControlRequest.self, from: line) else {
        return give(ControlAnswer(error: "the request is none that this version knows"), to: reply)
      }
      switch request {
      case .status: desk.ask { self.give(ControlAnswer(status: $0), to: reply) }
      case .settle(let timeout): settle(timeout, reply)
      }
    }

    private func settle(_ timeout: Double, _ reply: Reply) {
      guard timeout >= 0, timeout <= ControlRequest.longestTimeout else {
        let longest = Int(ControlRequest.longestTimeout)
        return give(ControlAnswer(error: "the timeout is not within 0 and \(longest) seconds"), to: reply)
      }
      guard settling.wrappingAdd(1, ordering: .relaxed).newValue <= ControlServer.mostSettling else {
        settling.wrappingSubtract(1, ordering: .relaxed)
        return give(ControlAnswer(error: "too many wait for the node to settle already; try again"), to: reply)
      }
      let giveUp = node.settle(timeout: .milliseconds(UInt64(timeout * 1_000))) { result in
        self.settling.wrappingSubtract(1, ordering: .relaxed)
        self.give(ControlAnswer(settle: result), to: reply)
      }
      reply.onAbandoned(giveUp)
    }

    private func give(_ answer: ControlAnswer, to reply: Reply) {
      if let line = try? JSON.line(answer) { reply(Array((line + "\n").utf8)) }
    }
  }
}

/// Asks a running node.
package enum ControlClient {
  /// `timeout` bounds how long the node may take, in seconds.
  package static func ask(
    _ request: ControlRequest, at path: String, timeout: Int = 30
  ) throws(ControlFailure) -> ControlAnswer {
    let socket = try UnixSocket.make()
    do {
      try socket.connect(to: path)
    } catch {
      throw ControlFailure(message: "no node answers at \(error.message)")
    }
    socket.setTimeouts(seconds: timeout)
    do {
      guard socket.write(try JSON.line(request) + "\n") else { throw UnixSocket.failure(path) }
      guard let line = socket.readLine(limit: ControlAnswer.maximumByteCount) else {
        throw ControlFailure(message: "\(path): the node gave no answer; see its log")
      }
      let answer = try JSON.decode(ControlAnswer.self, from: line)
      if let error = answer.error { throw ControlFailure(message: "the node answers: \(error)") }
      return answer
    } catch let failure as ControlFailure {
      throw failure
    } catch {
      throw ControlFailure(message: "\(path): the answer is none that this version knows")
    }
  }
}
