import Glibc
import HostCore
import JournalModel
import Synchronization
import Testing

@testable import NodeRuntime

@Suite struct ControlTests {
  @Test func statusComesBackAsItWas() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let server = try ControlServer(at: path, node: FixedNode(fullStatus()))
    defer { server.stop() }
    #expect(try ControlClient.ask(.status, at: path).status == fullStatus())
  }

  @Test func theSocketIsItsOwnersAlone() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let server = try ControlServer(at: path, node: FixedNode(fullStatus()))
    var status = stat()
    #expect(stat(path, &status) == 0)
    #expect(status.st_mode & 0o777 == 0o600)
    server.stop()
    #expect(stat(path, &status) != 0)
  }

  @Test func settleCarriesTheTimeoutAndTheList() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let result = SettleResult(
      reached: false,
      unsettled: [.init(server: "logs-a", file: "f", path: "/a", noted: 9, durable: 3, reason: nil)],
      status: fullStatus())
    let node = FixedNode(fullStatus()) { _ in result }
    let server = try ControlServer(at: path, node: node)
    defer { server.stop() }
    #expect(try ControlClient.ask(.settle(timeout: 1.5), at: path).settle == result)
    #expect(node.timeouts.withLock { $0 } == [.milliseconds(1_500)])
  }

  @Test(arguments: [-1.0, 1e9, .infinity, .nan])
  func anImpossibleTimeoutIsRefused(_ timeout: Double) throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let server = try ControlServer(at: path, node: FixedNode(fullStatus()))
    defer { server.stop() }
    #expect(throws: ControlFailure.self) { try ControlClient.ask(.settle(timeout: timeout), at: path) }
  }

  @Test func aPathBeyondTheKernelsLimitWorks() throws {
    let directory = try TemporaryDirectory()
    let long = directory.path + "/" + String(repeating: "d", count: 150)
    #expect(mkdir(long, 0o700) == 0)
    let server = try ControlServer(at: long + "/control.sock", node: FixedNode(fullStatus()))
    defer { server.stop() }
    #expect(try ControlClient.ask(.status, at: long + "/control.sock").status?.name == "web1")
  }

  @Test func aSocketLeftOverFromAKilledNodeIsReplaced() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    do {
      let left = try UnixSocket.make()
      try left.bind(at: path)
    }
    #expect(throws: ControlFailure.self) { try ControlClient.ask(.status, at: path) }
    let server = try ControlServer(at: path, node: FixedNode(fullStatus()))
    defer { server.stop() }
    #expect(try ControlClient.ask(.status, at: path).status?.name == "web1")
  }

  @Test func withoutANodeTheAnswerNamesTheSocket() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    do {
      _ = try ControlClient.ask(.status, at: path)
      Issue.record("answered")
    } catch { #expect(error.message.contains("no node answers at \(path)")) }
  }

  @Test(arguments: ["", "{", "{\"status\":{}", "[]", "{\"reboot\":{}}", String(repeating: "x", count: 100_000)])
  func garbageIsAnsweredAndHarmsNobody(_ garbage: String) throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let server = try ControlServer(at: path, node: FixedNode(fullStatus()))
    defer { server.stop() }
    let socket = try UnixSocket.make()
    try socket.connect(to: path)
    socket.setTimeouts(seconds: 5)
    _ = socket.write(garbage + "\n")
    if let line = socket.readLine(limit: 1 << 20) {
      #expect(try JSON.decode(ControlAnswer.self, from: line).error != nil)
    }
    #expect(try ControlClient.ask(.status, at: path).status?.name == "web1")
  }

  @Test func manyWhoNeverSpeakDontKeepOthersOut() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let server = try ControlServer(at: path, node: FixedNode(fullStatus()))
    defer { server.stop() }
    for _ in 0..<64 {
      let socket = try UnixSocket.make()
      try socket.connect(to: path)
    }
    // Those have hung up; their threads end with that, and whoever asks again gets an answer.
    var name: String?
    for _ in 0..<1_000 where name == nil { name = try? ControlClient.ask(.status, at: path).status?.name }
    #expect(name == "web1")
  }
}

@Suite struct SettleVerdictTests {
  /// `status` says settled exactly where `--settled` does, once everything is delivered.
  @Test func `status and --settled agree about gaps and refusals`() {
    var status = Self.quiet
    #expect(status.objections.isEmpty)
    status.gapCount = 1
    let unlisted = SettleVerdict(SettleResult(reached: true, unsettled: [], status: status), allowGaps: false)
    #expect(!unlisted.isSettled && unlisted.reasons == status.objections && !status.objections.isEmpty)
    status.gapCount = 0
    status.waitingCount = 1
    let waiting = SettleVerdict(SettleResult(reached: true, unsettled: [], status: status), allowGaps: false)
    #expect(!waiting.isSettled && waiting.reasons == status.objections && !status.objections.isEmpty)
  }

  static let quiet = NodeStatus(name: "a", roles: ["host"], settled: true)

  @Test func reachedIsSettled() {
    #expect(SettleVerdict(SettleResult(reached: true, unsettled: [], status: Self.quiet), allowGaps: false).isSettled)
  }

  @Test func gapsCountAsSettledOnlyWhenAllowed() {
    var status = Self.quiet
    status.gaps = [.init(host: "a", file: "f", path: "/x", from: 0, to: 9, reason: "truncated")]
    status.gapCount = 3
    let result = SettleResult(reached: true, unsettled: [], status: status)
    let strict = SettleVerdict(result, allowGaps: false)
    #expect(!strict.isSettled)
    #expect(strict.reasons == ["gap: /x: 0 ..< 9, truncated", "2 gaps more"])
    #expect(SettleVerdict(result, allowGaps: true).isSettled)
  }

  @Test func refusedFilesCountAsSettledOnlyWhenAllowed() {
    var status = Self.quiet
    status.waiting = [.init(server: "s", file: "f", path: "/x", reason: "conflict")]
    let refused = SettleResult.Unsettled(server: "s", file: "f", path: "/x", noted: 9, durable: 1, reason: nil)
    let other = SettleResult.Unsettled(server: "s", file: "g", path: "/y", noted: 9, durable: 1, reason: nil)
    let one = SettleResult(reached: false, unsettled: [refused], status: status)
    #expect(!SettleVerdict(one, allowGaps: false).isSettled)
    #expect(SettleVerdict(one, allowGaps: true).isSettled)
    let two = SettleVerdict(SettleResult(reached: false, unsettled: [refused, other], status: status), allowGaps: true)
    #expect(!two.isSettled)
    #expect(two.reasons == ["s: /y: 1 of 9 durable"])
  }

  @Test(arguments: [HostStatus.mostListed - 1, HostStatus.mostListed]) func whatAFullListLeavesOutIsNotSettled(
    count: Int
  ) {
    var status = Self.quiet
    let files = (0..<count).map { "f\($0)" }
    status.waiting = files.map { .init(server: "s", file: $0, path: "/x", reason: "conflict") }
    let refused = files.map {
      SettleResult.Unsettled(server: "s", file: $0, path: "/x", noted: 9, durable: 1, reason: nil)
    }
    let verdict = SettleVerdict(SettleResult(reached: false, unsettled: refused, status: status), allowGaps: true)
    #expect(verdict.isSettled == (count < HostStatus.mostListed))
    #expect(verdict.isSettled == verdict.reasons.isEmpty)
  }

  /// Records that a server hasn't aren't a refusal.
  @Test func aJournalThatIsBehindNeverCountsAsSettled() {
    var status = Self.quiet
    status.waiting = [.init(server: "s", file: "f", path: "/x", reason: "conflict")]
    let refused = SettleResult.Unsettled(server: "s", file: "f", path: "/x", noted: 9, durable: 1, reason: nil)
    let behind = SettleResult.Unsettled(server: "s", file: nil, path: nil, noted: 9, durable: 8, reason: nil)
    let result = SettleResult(reached: false, unsettled: [refused, behind], status: status)
    let verdict = SettleVerdict(result, allowGaps: true)
    #expect(!verdict.isSettled && verdict.reasons == ["s: journal: 8 of 9 durable"])
  }

  @Test func aFileThatCannotBeReadNeverCountsAsSettled() {
    var status = Self.quiet
    status.waiting = [.init(server: nil, file: "f", path: "/x", reason: "can't be read: EACCES")]
    let unread = SettleResult.Unsettled(server: nil, file: "f", path: "/x", noted: 9, durable: 0, reason: "EACCES")
    let result = SettleResult(reached: false, unsettled: [unread], status: status)
    #expect(!SettleVerdict(result, allowGaps: false).isSettled)
    #expect(!SettleVerdict(result, allowGaps: true).isSettled)
  }

  @Test func aTimeoutWithoutAListIsNeverSettled() {
    for allowGaps in [false, true] {
      let verdict = SettleVerdict(
        SettleResult(reached: false, unsettled: [], status: Self.quiet), allowGaps: allowGaps)
      #expect(!verdict.isSettled)
      #expect(!verdict.reasons.isEmpty)
    }
  }
}
