import JournalModel
import Testing

@testable import SimulatedWorld

/// One end of a connection of the simulated network, driven by hand: time goes on while somebody reads or waits.
private final class SimulatedEnd: StreamEnd {
  private let network: SimulatedNetwork
  private let connection: SimulatedWorld.Connection
  /// The one in which it sends.
  private let direction: Direction
  private var arrived: [UInt8] = []
  private var over: StreamRead?
  /// Bytes that the socket has not taken: whoever writes without end would fill the process's memory.
  private var untaken = 0

  init(_ network: SimulatedNetwork, _ connection: SimulatedWorld.Connection, _ direction: Direction) {
    self.network = network
    self.connection = connection
    self.direction = direction
    connection.attach(
      at: direction.other, receive: { [weak self] in self?.arrived += $0 },
      ended: { [weak self] in self?.over = $0.contains("reset") ? .failed($0) : .end })
  }

  /// Vanishes when all is quiet, so that nothing but its end is lost.
  deinit {
    while network.kernel.step(until: Instant(nanoseconds: .max)) {}
    connection.abort(direction, silently: false)
  }

  static func pair(_ network: SimulatedNetwork) -> (SimulatedEnd, SimulatedEnd) {
    let connection = network.connect(host: 0, server: 0)
    return (SimulatedEnd(network, connection, .toServer), SimulatedEnd(network, connection, .toHost))
  }

  func read(_ limit: Int) -> StreamRead {
    if limit == 0 { return .bytes([]) }
    if arrived.isEmpty { _ = network.kernel.step(until: Instant(nanoseconds: .max)) }
    guard !arrived.isEmpty else { return over ?? .nothing }
    let bytes = Array(arrived.prefix(limit))
    arrived.removeFirst(bytes.count)
    connection.consumed(bytes.count, direction.other)
    return .bytes(bytes)
  }

  func write(_ bytes: ArraySlice<UInt8>) -> Int? {
    guard over == nil else { return nil }
    let taken = bytes.prefix(max(0, network.sendBuffer - untaken))
    guard !taken.isEmpty else { return 0 }
    untaken += taken.count
    connection.send(Array(taken), direction) { [weak self] in self?.untaken -= taken.count }
    return taken.count
  }

  func finish() { connection.close(direction) }

  static func wait(_ first: SimulatedEnd, _ second: SimulatedEnd) {
    _ = first.network.kernel.step(until: Instant(nanoseconds: .max))
  }
}

/// The simulated network is held to what real sessions are held to.
@Suite("Simulated streams") struct SimulatedStreamTests {
  @Test(
    "a simulated connection is a faithful byte stream", arguments: [0, 500_000] as [UInt64],
    [2_000, 65_536] as [UInt64])
  func stream(splitFrames: UInt64, sendBuffer: UInt64) throws {
    var knobs = Knobs()
    knobs[.splitFrames] = splitFrames
    knobs[.sendBuffer] = sendBuffer
    let network = SimulatedNetwork(kernel: Kernel(), seed: splitFrames &+ sendBuffer, knobs: knobs)
    // Nodes close both directions at once, and so does the simulated network.
    try StreamConformance { SimulatedEnd.pair(network) }.check(halfClose: false, scale: sendBuffer < 10_000 ? 100 : 1)
  }
}
