import HostCore
import Testing
import WireProtocol

@testable import NodeRuntime

/// P6: strangers can't take the places of hosts.
@Suite struct LobbyTests {
  private let here: [UInt8] = [192, 0, 2, 1]
  private let elsewhere: [UInt8] = [198, 51, 100, 7]
  private func id(_ number: Int) -> ConnectionID { ConnectionID(UInt64(number)) }

  @Test func theOldestGoesWhenPlacesAreFullAndNeverTheNewcomer() {
    var lobby = Lobby(places: 3)
    for number in 1...3 { #expect(lobby.enter(id(number), from: here) == nil) }
    #expect(lobby.enter(id(4), from: here) == id(1))
    lobby.leave(id(1))
    #expect(lobby.enter(id(5), from: here) == id(2))
    lobby.leave(id(2))
    lobby.leave(id(4))
    #expect(lobby.count == 2)
    #expect(lobby.enter(id(6), from: here) == nil)
  }

  @Test func whoSaysNothingGoesBeforeWhoBeganAHandshake() {
    var lobby = Lobby(places: 3)
    for number in 1...3 { _ = lobby.enter(id(number), from: here) }
    lobby.answered(id(1))
    #expect(lobby.enter(id(4), from: here) == id(2))
  }

  @Test func whereHostsComeFromPlacesAreGivenUpLast() {
    var lobby = Lobby(places: 3)
    _ = lobby.enter(id(1), from: here)
    lobby.know(id(1))
    #expect(lobby.count == 0)
    _ = lobby.enter(id(2), from: here)
    for number in 3...4 { _ = lobby.enter(id(number), from: elsewhere) }
    for number in 3...4 { lobby.answered(id(number)) }
    #expect(lobby.enter(id(5), from: elsewhere) == id(3))
  }

  @Test func aHostComesInWhileStrangersPourIn() {
    var lobby = Lobby(places: 256)
    var next = 0
    func stranger() {
      next += 1
      if let out = lobby.enter(id(next), from: here) { lobby.leave(out) }
    }
    for _ in 0..<4_096 { stranger() }
    next += 1
    let host = id(next)
    if let out = lobby.enter(host, from: here) { lobby.leave(out) }
    // While its handshake goes on, as many come as there are places.
    for _ in 0..<200 { stranger() }
    lobby.answered(host)
    for _ in 0..<4_096 { stranger() }
    lobby.know(host)
    #expect(lobby.count == 255)
  }
}
