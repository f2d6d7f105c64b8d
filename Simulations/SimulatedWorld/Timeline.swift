import JournalModel
import WireProtocol

/// What one server hears from hosts and says to them, with its instants, until the world heals.
final class Timeline {
  struct Event: Hashable {
    var time: UInt64
    var hash: UInt64
    var text: String
  }
  private(set) var frames: [Event] = []
  /// When which length of a file was first acknowledged; lengths grow.
  private(set) var acknowledged: [FileUUID: [(length: UInt64, time: UInt64)]] = [:]
  private let server: Int
  private unowned let world: World

  init(of server: Int, in world: World) {
    self.server = server
    self.world = world
  }

  func received(_ server: SimulatedServer, _ frame: Frame) { note(server, frame.encoded(), "<- \(frame.type)") }

  func received(_ server: SimulatedServer, _ header: PayloadHeader, _ bytes: [UInt8]) {
    note(server, bytes, "<- payload \(header.file.text) from \(header.offset), \(bytes.count) bytes")
  }

  func sent(_ server: SimulatedServer, _ frame: Frame) {
    note(server, frame.encoded(), "-> \(frame.type)")
    guard case .payloadDurable(let lengths) = frame, server.index == self.server, !world.isHealed else { return }
    for length in lengths where length.length > acknowledged[length.file]?.last?.length ?? 0 {
      acknowledged[length.file, default: []].append((length.length, world.kernel.now.nanoseconds))
    }
  }

  private func note(_ server: SimulatedServer, _ bytes: [UInt8], _ text: String) {
    guard server.index == self.server, !world.isHealed else { return }
    frames.append(Event(time: world.kernel.now.nanoseconds, hash: Mix.hash(bytes), text: text))
  }
}
