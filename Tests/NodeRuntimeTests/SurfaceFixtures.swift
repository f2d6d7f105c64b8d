import Glibc
import JournalModel
import Synchronization

@testable import NodeRuntime

/// A node that says what the test wants.
final class FixedNode: NodeControl {
  let status: NodeStatus
  private let answers: @Sendable (Interval) -> SettleResult?
  let timeouts = Mutex<[Interval]>([])
  /// How many don't wait for `settle` any more.
  let givenUp = Counter()

  init(_ status: NodeStatus, settle: @escaping @Sendable (Interval) -> SettleResult? = { _ in nil }) {
    self.status = status
    answers = settle
  }

  func snapshot() -> NodeStatus { status }
  func glance() -> NodeStatus { status }

  func settle(timeout: Interval, done: @escaping @Sendable (SettleResult) -> Void) -> @Sendable () -> Void {
    timeouts.withLock { $0.append(timeout) }
    if let answer = answers(timeout) { done(answer) }
    return { [givenUp] in givenUp.add() }
  }
}

final class Counter: Sendable {
  private let count = Atomic(0)
  func add() { count.wrappingAdd(1, ordering: .relaxed) }
  var value: Int { count.load(ordering: .relaxed) }
}

/// A directory that is gone after the test.
final class TemporaryDirectory {
  let path: String

  init() throws {
    var template = Array("/tmp/nimbus-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw ControlFailure(message: "mkdtemp") }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit {
    // Only what a test puts there: files, one level of directories.
    for name in Self.entries(path) {
      let inner = path + "/" + name
      for deeper in Self.entries(inner) { unlink(inner + "/" + deeper) }
      if unlink(inner) != 0 { rmdir(inner) }
    }
    rmdir(path)
  }

  private static func entries(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}

/// Every field in use.
func fullStatus() -> NodeStatus {
  var status = NodeStatus(name: "web1", roles: ["host", "server"], settled: false)
  status.servers = [
    .init(
      name: "logs-a", address: "h:1", connected: false, lagBytes: 17, lagEvents: 2, lagSeconds: 1.5,
      lastError: "Connection refused"),
    .init(name: "logs-b", address: "h:2", connected: true),
  ]
  status.peers = [.init(name: "logs-c", address: "h:3", connected: false, lastError: nil)]
  status.files = .init(followed: 5, open: 4)
  status.hosts = [.init(name: "web2", connected: false, lastSeen: nil, files: 1, bytes: 2)]
  status.gaps = [
    .init(host: "web1", file: "f", path: "/a", from: 1, to: nil, reason: "truncated"),
    .init(host: "web1", file: nil, path: "/<b>\"'&", from: 1, to: 4, reason: "vanished"),
  ]
  status.gapCount = 2
  status.waiting = [.init(server: "logs-a", file: "g", path: "/w", reason: "conflict")]
  status.waitingCount = 1
  return status
}

/// xorshift64*: the same cases for the same seed.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed | 1 }
  mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_F491_4F6C_DD1D
  }
}
