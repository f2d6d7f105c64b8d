import HostCore
import JournalModel
import JournalStore
import Testing
import WireProtocol

/// G4: what ended before a server was named, or what it lost, isn't owed by the host, and the host isn't settled until the
/// server has it.
@Suite final class EndedFilesTests: TwoServers {
  private static let count = 8

  /// Delivered to one server, and gone.
  private func ended(_ count: Int = EndedFilesTests.count) throws -> FakeHost {
    for index in 0..<count { files.create("/log/\(index).log", "of file \(index)") }
    files.create("/log/stays.log", "stays")
    let host = try FakeHost(files, servers: [a])
    host.pass(.seconds(2))
    for index in 0..<count { files.remove("/log/\(index).log") }
    host.pass(.seconds(130))
    #expect(host.closings.count == count)
    return host
  }

  /// As peers would.
  private func bring(_ range: Range<Int>) {
    for uuid in a.files.keys.sorted()[range] { b.files[uuid] = a.files[uuid] }
  }

  private func isSettled(_ host: FakeHost, _ token: UInt64, within: Interval = .seconds(130)) -> Bool {
    host.give(.settle(token: token))
    host.pass(within)
    return host.settled.contains(token)
  }

  @Test func `a server named later is asked about them, and settled is said when it has them`() throws {
    let first = try ended()
    #expect(isSettled(first, 1))
    let second = try FakeHost(files, servers: servers, after: first)
    #expect(!isSettled(second, 2))
    #expect(!second.status.isSettled)
    #expect(b.contents("/log/stays.log") == ["stays"])
    let lack = try #require(second.status.settlements.first?.journal.first)
    #expect(lack.server == ServerIndex(1) && lack.isElsewhere)
    #expect(!second.status.servers[1].lackedEnded.isEmpty)
    #expect(second.status.servers[0].hasEndedFiles)
    bring(0..<3)
    #expect(!isSettled(second, 3))
    bring(0..<9)
    #expect(isSettled(second, 4))
    #expect(second.settled.contains(2) && second.status.isSettled)
    // It is over for good.
    let asked = b.questions.count
    let third = try FakeHost(files, servers: servers, after: second)
    #expect(isSettled(third, 5))
    #expect(third.queries.allSatisfy { if case .ended = $0 { false } else { true } })
    #expect(b.questions.count <= asked + 1)
  }

  @Test func `what the server says of itself, as its peers bring it, is heard`() throws {
    let second = try FakeHost(files, servers: servers, after: try ended(2))
    #expect(!isSettled(second, 1, within: .seconds(5)))
    bring(0..<3)
    for (uuid, file) in b.files {
      let root = CheapHash.root(of: file.bytes, leafSize: FakeHost.leafSize)
      let held = DurablePrefix(file: uuid, length: UInt64(file.bytes.count), root: root)
      second.give(.received(try #require(second.connection(to: 1)), .payloadDurable([held])))
    }
    second.pass(.seconds(2))
    #expect(second.settled == [1])
  }

  @Test func `a server that others took the place of is asked again`() throws {
    let first = try ended(2)
    let second = try FakeHost(files, servers: [b], after: first)
    bring(0..<3)
    #expect(isSettled(second, 1))
    files.create("/log/late.log", "late")
    second.pass(.seconds(2))
    files.remove("/log/late.log")
    #expect(isSettled(second, 2))
    let third = try FakeHost(files, servers: servers, after: second)
    #expect(!isSettled(third, 3))
    #expect(third.status.servers.map(\.hasEndedFiles) == [false, true])
  }

  @Test func `a server that lost everything has none of them`() throws {
    let host = try ended()
    a.loseAll()
    a.hangUp()
    host.give(.disconnected(ServerIndex(0), host.connection(to: 0), reason: "gone"))
    host.pass(.seconds(2))
    #expect(!isSettled(host, 1))
    #expect(host.status.servers[0].lackedEnded.isEmpty == false)
  }

  /// It has all records again, by its peers, before the host comes.
  @Test func `a server that was put back and has all records has none of them until it says so`() throws {
    let host = try ended(3)
    #expect(isSettled(host, 1))
    let held = a.files
    for uuid in a.files.keys where a.files[uuid]?.bytes.starts(with: "of file".utf8) == true { a.files[uuid] = nil }
    a.putBack()
    host.cut(0)
    host.pass(.seconds(2))
    #expect(!isSettled(host, 2))
    #expect(!host.status.servers[0].lackedEnded.isEmpty)
    #expect(host.reports.count { $0 == .serverPutBack(ServerIndex(0)) } == 1)
    // Nor does the next process count what was noted.
    let second = try FakeHost(files, servers: [a], after: host)
    #expect(!isSettled(second, 1))
    a.files = held
    #expect(isSettled(second, 2))
  }

  @Test func `what can't be read is read with the next scan`() throws {
    let first = try ended(2)
    let second = try FakeHost(files, servers: servers, after: first)
    bring(0..<3)
    second.failsLoads = .failed("EIO")
    second.pass(.seconds(1))
    second.failsLoads = nil
    #expect(isSettled(second, 1))
  }
}
