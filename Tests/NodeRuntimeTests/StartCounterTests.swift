import Foundation
import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
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
      try store.setStartCounter(try #require(try store.startCounter()) + 1)
      #expect(try counter.matches(store))
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
