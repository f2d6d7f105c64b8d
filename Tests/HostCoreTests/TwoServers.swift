import HostCore
import JournalModel
import Testing

/// What most suites begin with: an empty directory of logs, and two servers.
class TwoServers {
  let files = FakeFileSystem()
  let a = FakeServer("logs-a", leafSize: FakeHost.leafSize)
  let b = FakeServer("logs-b", leafSize: FakeHost.leafSize)
  var servers: [FakeServer] { [a, b] }

  init() { files.mkdir("/log") }

  func expectBoth(_ path: String, _ contents: [String], _ location: SourceLocation = #_sourceLocation) {
    #expect(a.contents(path) == contents, sourceLocation: location)
    #expect(b.contents(path) == contents, sourceLocation: location)
  }
}
