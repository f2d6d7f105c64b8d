import JournalModel
import JournalStore
import ServerCore
import WireProtocol

extension ExhaustiveServer {
  var busyLanes: [Int] { lanes.indices.filter { !lanes[$0].isEmpty } }

  mutating func noticeEnd() { input(.closed(ended.removeFirst())) }

  var crashes: [Crash] {
    var crashes: [Crash] = []
    // What is only read leaves nothing behind.
    for done in 0..<(UInt8(1) << UInt8(Self.readingLane)) {
      let isPossible = lanes.indices.allSatisfy { done & 1 << $0 == 0 || !lanes[$0].isEmpty }
      guard isPossible else { continue }
      crashes.append(Crash(power: nil, done: done))
      // Where all is synced the power takes nothing that the process doesn't.
      if done & ~1 != 0 || !disk.isSynced {
        crashes += [Crash(power: .nothing, done: done), Crash(power: .torn, done: done)]
      }
    }
    return crashes
  }

  // MARK: Words for a schedule

  func text(_ lane: Int) -> String { lanes[lane].first.map { Self.name($0) } ?? "" }

  func text(_ crash: Crash, _ name: String) -> String {
    let done = lanes.indices.filter { crash.done & 1 << $0 != 0 }
      .map { text($0) }
    let place = crash.power == .torn ? "during" : "after"
    let when = done.isEmpty ? "" : " \(place) \(done.joined(separator: " and ")), before the answer"
    return switch crash.power {
    case nil: "\(name) IS KILLED\(when)"
    case .nothing: "THE POWER OF \(name) IS CUT\(when): nothing survives that wasn't synced"
    case .torn: "THE POWER OF \(name) IS CUT\(when): half survives of what wasn't synced, garbage behind"
    }
  }

  private static func name(_ operation: Operation) -> String {
    switch operation {
    case .commit(let batch):
      "commit of \(batch.records.count) runs, \(batch.strings.count) rows, \(batch.log.count) payloads"
    case .write(let key, _, let from, let upTo, let sync):
      "write \(from) ..< \(upTo)\(sync ? ", synced," : "") of \(key.key.file.text)"
    default: String("\(operation)".prefix { $0 != "(" })
    }
  }
}
