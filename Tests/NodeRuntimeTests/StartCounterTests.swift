import Foundation
import Glibc
import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
import Synchronization
import Testing

@testable import NodeRuntime

/// P3: whether a store is older than its log root.
struct StartCounterTests {
  private func withFolders(_ body: (_ logs: String, _ data: String) throws -> Void) throws {
    let top = NSTemporaryDirectory() + "start-counter-" + UUID().uuidString
    defer { try? FileManager.default.removeItem(atPath: top) }
    try FileManager.default.createDirectory(atPath: top + "/logs", withIntermediateDirectories: true)
    try body(top + "/logs", top + "/data")
  }

  @Test func aNewServerAndOneThatGoesOnMatch() throws {
    try withFolders { logs, data in
      let counter = try StartCounter(logs: logs)
      let store = try LMDBServerStore<SHA256Tree>(at: data)
      #expect(try counter.matches(store))
      for _ in 0..<12 {
        try counter.advance(store)
        #expect(try counter.matches(store))
      }
    }
  }

  @Test func oneNodeAtATimeHoldsALogRoot() throws {
    try withFolders { logs, _ in
      var first: DirectoryLock? = try DirectoryLock(logs)
      #expect(throws: StartFailure.self) { try DirectoryLock(logs) }
      withExtendedLifetime(first) {}
      first = nil
      _ = try DirectoryLock(logs)
    }
  }

  @Test func aCrashBetweenTheTwoCountsMatches() throws {
    try withFolders { logs, data in
      let counter = try StartCounter(logs: logs)
      let store = try LMDBServerStore<SHA256Tree>(at: data)
      try counter.advance(store)
      var marks = try #require(try store.startMarks())
      marks.present.number += 1
      try store.setStartMarks(marks)
      #expect(try counter.matches(store))
      // Or between the two of a new life.
      let next = StartMarks.next(after: marks, beside: try mark(logs), in: UUIDBytes(high: 1, low: 1))
      try store.setStartMarks(next)
      let later = try StartCounter(logs: logs)
      #expect(try later.matches(store))
      try later.advance(store)
      #expect(try later.matches(store))
    }
  }

  private func mark(_ logs: String) throws -> StartMark {
    let text = try String(contentsOfFile: logs + "/.nimbus-journal/start", encoding: .utf8)
    let parts = text.split(whereSeparator: \.isWhitespace).map(String.init)
    let life = try #require(FileUUID(text: parts[0])).bytes
    return StartMark(life: life, number: try #require(UInt64(parts[1])))
  }

  /// Both were moved away and begun anew; then the old store is put back, with a number that is greater.
  @Test func aStoreOfAnotherLifeDoesNotMatchWhateverItsNumberP3() throws {
    try withFolders { logs, data in
      do {
        let old = try LMDBServerStore<SHA256Tree>(at: data + "-old")
        let counter = try StartCounter(logs: logs)
        for _ in 0..<9 { try counter.advance(old) }
      }
      try FileManager.default.moveItem(atPath: logs + "/.nimbus-journal", toPath: logs + "/moved-away")
      let counter = try StartCounter(logs: logs)
      let store = try LMDBServerStore<SHA256Tree>(at: data)
      #expect(try counter.matches(store))
      try counter.advance(store)
      let old = try LMDBServerStore<SHA256Tree>(at: data + "-old")
      #expect(try !counter.matches(old))
      #expect(try counter.matches(store))
    }
  }

  /// Store and log root were restored together and went on; the store that came after the copy is put back.
  @Test func aStoreFromBeforeBothWereRestoredDoesNotMatchP3() throws {
    try withFolders { logs, data in
      do {
        let store = try LMDBServerStore<SHA256Tree>(at: data)
        let counter = try StartCounter(logs: logs)
        try counter.advance(store)
        try FileManager.default.copyItem(atPath: data, toPath: data + "-backup")
        try FileManager.default.copyItem(atPath: logs, toPath: logs + "-backup")
        for _ in 0..<5 { try counter.advance(store) }
      }
      let counter = try StartCounter(logs: logs + "-backup")
      let restored = try LMDBServerStore<SHA256Tree>(at: data + "-backup")
      #expect(try counter.matches(restored))
      try counter.advance(restored)
      #expect(try !counter.matches(LMDBServerStore<SHA256Tree>(at: data)))
    }
  }

  /// P4: whichever sync fails, the node is told to stop, at once and once; the store counted first, so what the number
  /// beside the files is after that is never ahead of it.
  @Test(arguments: [1, 2, 3, 4]) func aFailedSyncStopsTheNodeAndIsNotTrustedP4(failing: Int) throws {
    try withFolders { logs, data in
      let store = try LMDBServerStore<SHA256Tree>(at: data)
      let syncs = Mutex(0)
      let counter = try StartCounter(logs: logs) { descriptor in
        let isFailing = syncs.withLock { count in
          count += 1
          return count == failing
        }
        guard !isFailing else {
          errno = EIO
          return -1
        }
        return fsync(descriptor)
      }
      // Two syncs each time: the number's, and its directory's.
      let reasons = (0..<3).map { _ in counter.failedSync(advancing: store) }
      #expect(reasons.map { $0 != nil } == (0..<3).map { $0 == (failing - 1) / 2 })
      #expect(reasons.compactMap { $0 }.allSatisfy { $0.contains("/.nimbus-journal/start") })
      #expect(try counter.matches(store))
    }
  }

  /// What the disk has after a failed sync is the number before: a store from a backup of that time must not pass because
  /// a later number was only ever in memory. The next start writes one that is greater than both.
  @Test func aStartAfterAFailedSyncCountsBeyondWhatWasInMemoryP4() throws {
    try withFolders { logs, data in
      let store = try LMDBServerStore<SHA256Tree>(at: data)
      try StartCounter(logs: logs).advance(store)
      let path = logs + "/.nimbus-journal/start"
      let durable = try Data(contentsOf: URL(fileURLWithPath: path))
      let failing = try StartCounter(logs: logs) { _ in
        errno = EIO
        return -1
      }
      #expect(failing.failedSync(advancing: store) != nil)
      let counted = try #require(try store.startMarks()).present.number
      // The power is cut: the page never reached the disk.
      try durable.write(to: URL(fileURLWithPath: path))
      let next = try StartCounter(logs: logs)
      #expect(try next.matches(store))
      try next.advance(store)
      #expect(try mark(logs).number > counted)
    }
  }

  /// Who can put a link there can't have another file written over.
  @Test func aLinkInThePlaceOfTheNumberIsNotFollowedP1() throws {
    try withFolders { logs, data in
      let store = try LMDBServerStore<SHA256Tree>(at: data)
      let counter = try StartCounter(logs: logs)
      let other = logs + "/other"
      try Data("7".utf8).write(to: URL(fileURLWithPath: other))
      try FileManager.default.createSymbolicLink(
        atPath: logs + "/.nimbus-journal/start", withDestinationPath: other)
      #expect(throws: StartFailure.self) { try counter.advance(store) }
      #expect(try Data(contentsOf: URL(fileURLWithPath: other)) == Data("7".utf8))
    }
  }

  @Test func aStoreFromABackupOfTheSameRunDoesNotMatch() throws {
    try withFolders { logs, data in
      let counter = try StartCounter(logs: logs)
      do {
        let store = try LMDBServerStore<SHA256Tree>(at: data)
        try counter.advance(store)
        try FileManager.default.copyItem(atPath: data, toPath: data + "-backup")
        try counter.advance(store)
      }
      let restored = try LMDBServerStore<SHA256Tree>(at: data + "-backup")
      #expect(try !counter.matches(restored))
      // Once served, the restored store is the present one.
      try counter.advance(restored)
      #expect(try counter.matches(restored))
    }
  }
}
