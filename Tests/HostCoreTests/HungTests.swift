import DataPlane
import HostCore
import JournalModel
import Testing

/// A file system that doesn't answer delays what is on it and nothing else (G3, D10).
@Suite struct HungTests {
  let files = FakeFileSystem()
  let a = FakeServer("logs-a", leafSize: FakeHost.leafSize)
  let limit = FakeHost.limits().hungAfter

  init() {
    files.mkdir("/log")
    files.mkdir("/mnt")
    files.mounts["/"] = 1
    files.mounts["/mnt"] = 2
    files.create("/log/a.log", "one\n")
  }

  func host(remote count: Int) throws -> FakeHost {
    for number in 0..<count { files.create("/mnt/\(number).log", "x\n") }
    let host = try FakeHost(files, servers: [a], include: ["/log/*.log", "/mnt/*.log"])
    host.pass(.seconds(1))
    return host
  }

  @Test func hungReadsDelayNoOtherFileSystemG3() throws {
    let host = try host(remote: 50)
    host.hangs = "/mnt"
    for number in 0..<50 { files.append("/mnt/\(number).log", "y\n") }
    host.pass(.milliseconds(50))
    files.append("/log/a.log", "two\n")
    host.pass(.milliseconds(50))
    #expect(a.contents("/log/a.log") == ["one\ntwo\n"])
    host.pass(limit)
    host.pass(limit)
    files.append("/log/a.log", "three\n")
    host.pass(.milliseconds(50))
    #expect(a.contents("/log/a.log") == ["one\ntwo\nthree\n"])
    #expect(!host.status.isSettled && host.status.hungCount == 16, "twice as many as are read at once, no more")
    host.heal()
    host.pass(.seconds(1))
    for number in 0..<50 { #expect(a.contents("/mnt/\(number).log") == ["x\ny\n"]) }
    #expect(host.status.isSettled && host.status.hungCount == 0)
  }

  /// One file alone hangs: the others of its file system go on.
  @Test func readsCalledHungLeaveTheirPlace() throws {
    let host = try host(remote: 20)
    host.hangs = "/mnt/1"
    for number in 0..<20 { files.append("/mnt/\(number).log", "y\n") }
    host.pass(.seconds(6))
    for number in 2..<10 { #expect(a.contents("/mnt/\(number).log") == ["x\ny\n"]) }
  }

  @Test func hungListingEndsTheScanUncleanD10() throws {
    let host = try host(remote: 2)
    host.hangs = "/mnt"
    files.overflow()
    host.pass(.seconds(6))
    #expect(host.status.hung.map(\.path) == [BytePath("/mnt")] && !host.status.isSettled)
    // Rescans go on, and at once: nothing waits for what is known to hang.
    files.create("/log/b.log", "b")
    _ = files.takeHints()
    files.overflow()
    host.pass(.milliseconds(50))
    #expect(a.contents("/log/b.log") == ["b"])
    host.pass(.seconds(600))
    #expect(host.closings.isEmpty && host.gaps.isEmpty)
    host.heal()
    host.pass(.seconds(120))
    #expect(host.status.isSettled && host.status.hung.isEmpty && host.closings.isEmpty)
  }

  @Test func settledIsNotSaidOverWhatHangs() throws {
    let host = try host(remote: 1)
    host.hangs = "/mnt"
    host.give(.settle(token: 1))
    host.pass(.seconds(100))
    #expect(host.settled.isEmpty)
    host.heal()
    host.pass(.seconds(20))
    #expect(host.settled == [1])
  }

  @Test func payloadThatHangsDelaysNoOtherFileSystemG3W1() throws {
    let host = try host(remote: 2)
    host.hangs = "/mnt"
    host.hangsWhenSending = true
    files.append("/mnt/0.log", String(repeating: "z", count: 1_000))
    host.pass(.milliseconds(100))
    files.append("/log/a.log", String(repeating: "w", count: 1_000))
    host.pass(.milliseconds(200))
    #expect(a.contents("/log/a.log") == ["one\n" + String(repeating: "w", count: 1_000)])
    host.heal()
    host.pass(.seconds(10))
    #expect(a.contents("/mnt/0.log") == ["x\n" + String(repeating: "z", count: 1_000)])
  }

  /// Room for one extent, which each of 20 files that hang would keep for as long as it takes to be called hung.
  @Test func filesThatHangKeepNobodysCreditG3F4() throws {
    a.creditStep = 60
    let host = try host(remote: 20)
    host.hangs = "/mnt"
    host.hangsWhenSending = true
    for number in 0..<20 { files.append("/mnt/\(number).log", String(repeating: "z", count: 200)) }
    host.pass(.milliseconds(100))
    files.append("/log/a.log", String(repeating: "w", count: 200))
    host.pass(limit)
    #expect(a.contents("/log/a.log") == ["one\n" + String(repeating: "w", count: 200)])
    for round in 0..<5 {
      files.append("/log/a.log", String(repeating: "v", count: 200))
      host.pass(.milliseconds(1_500))
      #expect(a.contents("/log/a.log").first?.utf8.count == 404 + 200 * round)
    }
    host.heal()
    host.pass(.seconds(60))
    for number in 0..<20 {
      #expect(a.contents("/mnt/\(number).log") == ["x\n" + String(repeating: "z", count: 200)])
    }
  }

  /// Roots that are asked for when a connection begins, a page of them at a time.
  @Test func comparisonsThatHangKeepNobodysPlaceG3W2() throws {
    let host = try host(remote: 20)
    files.create("/log/z.log", "zero\n")
    host.pass(.seconds(1))
    a.isUp = false
    host.cut(0)
    for number in 0..<20 { files.append("/mnt/\(number).log", "last") }
    files.append("/log/z.log", "last")
    host.pass(.seconds(2))
    host.hangs = "/mnt"
    host.hangsWhenSending = true
    a.isUp = true
    while a.connection == nil { host.pass(.milliseconds(100)) }
    host.pass(limit)
    host.pass(.seconds(1))
    #expect(a.contents("/log/z.log") == ["zero\nlast"])
    host.heal()
    host.pass(.seconds(60))
    for number in 0..<20 { #expect(a.contents("/mnt/\(number).log") == ["x\nlast"]) }
  }
}
