import Glibc
import JournalModel
import Synchronization

/// Answers those who ask about the running node over `control.sock` (mode 0600): on threads of its own, bounded in
/// connections, request size and time, so that nobody who asks can hold up the node.
package final class ControlServer: Sendable {
  private static let mostConnections = 16
  private static let idleSeconds = 10

  private let path: String
  private let socket: UnixSocket
  private let node: any NodeControl
  private let isStopped = Atomic(false)
  private let connections = Atomic(0)

  /// Listens at once. The caller holds the node's stores, so nobody else is serving this path: a socket that is there
  /// is left over from a killed node.
  package init(at path: String, node: any NodeControl) throws(ControlFailure) {
    self.path = path
    self.node = node
    socket = try UnixSocket.make()
    try socket.bind(at: path)
    startThread { self.serve() }
  }

  /// Takes no more requests; removes the socket's name.
  package func stop() {
    guard !isStopped.exchange(true, ordering: .relaxed) else { return }
    unlink(path)
    shutdown(socket.number, Int32(SHUT_RDWR))
  }

  private func serve() {
    while !isStopped.load(ordering: .relaxed) {
      let number = accept(socket.number, nil, nil)
      guard number >= 0 else {
        // Descriptors or memory are short for now: don't spin.
        if errno != EINTR, !isStopped.load(ordering: .relaxed) { usleep(100_000) }
        continue
      }
      let connection = Connection(UnixSocket(owning: number))
      guard connections.wrappingAdd(1, ordering: .relaxed).newValue <= Self.mostConnections else {
        connection.answer(ControlAnswer(error: "the node is being asked by too many already; try again"))
        connections.wrappingSubtract(1, ordering: .relaxed)
        continue
      }
      startThread { [self] in
        connection.answer(answer(connection.request(seconds: Self.idleSeconds)))
        connections.wrappingSubtract(1, ordering: .relaxed)
      }
    }
  }

  private func answer(_ line: [UInt8]?) -> ControlAnswer {
    guard let line, let request = try? JSON.decode(ControlRequest.self, from: line) else {
      return ControlAnswer(error: "the request is none that this version knows")
    }
    switch request {
    case .status: return ControlAnswer(status: node.snapshot())
    case .settle(let timeout):
      guard timeout >= 0, timeout <= ControlRequest.longestTimeout else {
        return ControlAnswer(error: "the timeout is not within 0 and \(Int(ControlRequest.longestTimeout)) seconds")
      }
      let milliseconds = UInt64(timeout * 1_000)
      let awaited = Awaited<SettleResult>()
      node.settle(timeout: .milliseconds(milliseconds)) { awaited.give($0) }
      if let result = awaited.wait(milliseconds: Int32(milliseconds) + 10_000) { return ControlAnswer(settle: result) }
      return ControlAnswer(error: "the node didn't answer within its time")
    }
  }
}

/// Lets a socket travel to the thread that serves it.
private final class Connection: Sendable {
  private let socket: UnixSocket

  init(_ socket: consuming UnixSocket) { self.socket = socket }

  func request(seconds: Int) -> [UInt8]? {
    socket.setTimeouts(seconds: seconds)
    return socket.readLine(limit: ControlRequest.maximumByteCount)
  }

  func answer(_ answer: ControlAnswer) {
    guard let line = try? JSON.line(answer) else { return }
    _ = socket.write(line + "\n")
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
