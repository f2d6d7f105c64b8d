import HostCore
import JournalModel
import JournalStore
import Testing
import WireProtocol

/// K6: a store keeps the memory of its largest commit, so none is large, however much comes at once.
@Suite final class LargeCommitTests: TwoServers {
  private var limits: Limits {
    var limits = FakeHost.limits()
    limits.commitSize = 16
    return limits
  }

  private func write(_ count: Int) {
    for number in 0..<count { files.create("/log/\(number).log", "one") }
  }

  @Test func manyBirthsAndNotesAreSeveralCommitsK6() throws {
    write(60)
    let host = try FakeHost(files, servers: servers, limits: limits)
    host.give(.settle(token: 1))
    host.pass(.seconds(60))
    #expect(host.settled == [1])
    for batch in host.commits {
      #expect(batch.records.count <= 20 && batch.files.count <= 20 && batch.delivered.count <= 2 * 20)
    }
    // Whoever reads the journal then finds what was announced.
    for noted in host.notedWhenSettled { #expect(noted.count { $0 == 3 } == 60) }
  }

  /// Files that aren't found any more, and about which a server doesn't answer, end all at once when that was waited for.
  /// Whoever asks for the gaps once settled is said finds all by which it was reached.
  @Test func settledWaitsForTheLastOfItsGapsJ4() throws {
    write(60)
    b.isUp = false
    let first = try FakeHost(files, servers: servers, limits: limits)
    first.pass(.seconds(3))
    for number in 0..<60 { files.remove("/log/\(number).log") }
    b.isUp = true
    b.lies = { if case .resumeAnswer = $0 { nil } else { $0 } }
    let second = try FakeHost(files, servers: servers, limits: limits, after: first)
    second.give(.settle(token: 1))
    second.pass(.seconds(300))
    #expect(second.settled == [1])
    #expect(second.gapsWhenSettled == 60)
  }

  @Test func aRefusedFileIsLeftOutOfEveryCommitThatWaitsP5() throws {
    write(60)
    let host = try FakeHost(files, servers: servers, limits: limits)
    host.pass(.seconds(3))
    let file = try #require(host.births.first { $0.path == BytePath("/log/7.log") }?.file)
    host.poisoned = [file]
    host.holdsCommits = true
    // The commit under way, then two that wait, and one that is gathered.
    for round in 0..<4 {
      for number in 0..<20 { files.append("/log/\(number).log", "\(round)") }
      host.pass(.milliseconds(200))
    }
    host.releaseCommits()
    host.pass(.seconds(30))
    #expect(host.refusals == 1)
    expectBoth("/log/7.log", ["one"])
    for name in ["6", "8", "19"] { expectBoth("/log/\(name).log", ["one0123"]) }
    expectBoth("/log/55.log", ["one"])
    #expect(host.gaps.map(\.subject) == [.file(file)])
  }
}

extension FakeHost {
  var commits: [HostBatch] {
    effects.compactMap { if case .commit(let batch) = $0 { batch } else { nil } }
  }
}
