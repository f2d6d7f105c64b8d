import JournalModel
import JournalStore
import MerkleLog
import Testing

/// What every `ServerHoldingsStore` promises of the journals of hosts: their records, sequences and checkpoints.
@Suite struct ServerJournalConformance {
  @Test(arguments: Backend.allCases) func `Records of each journal go on where they ended`(_ backend: Backend) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let web = try host("web")
    let records = (0..<12).map { record($0, size: 10) }
    try test.store.commit(
      ServerBatch {
        $0.records = [
          run(web1, Array(records[..<3])), run(web, journal: 2, Array(records[..<1])),
          run(web1, held: Array(records[..<3]), Array(records[3..<5])), run(web1, journal: 9, []),
        ]
      })
    try test.store.commit(
      ServerBatch { $0.records = [run(web1, held: Array(records[..<5]), Array(records[5...]))] })
    try test.reopen()
    let rows = [run(web, journal: 2, Array(records[..<1])), run(web1, records), run(web1, journal: 9, [])].map(\.after)
    #expect(try test.store.journals() == rows)
    func page(_ host: HostName, _ journal: UInt64, _ first: UInt64, _ count: Int, _ bytes: Int) throws -> [[UInt8]] {
      let key = SequenceKey(journal: HostJournal(host: host, journal: journalID(journal)))
      return try test.store.records(of: key, from: first, count: count, bytes: bytes)
    }
    #expect(try page(web1, 1, 0, .max, .max) == records)
    #expect(try page(web1, 1, 4, 3, .max) == Array(records[4..<7]))
    #expect(try page(web1, 1, 4, .max, 5) == [records[4]])
    #expect(try page(web1, 1, 12, 3, .max).isEmpty)
    #expect(try page(web, 2, 0, .max, .max) == [records[0]])
    #expect(try page(web, 1, 0, .max, .max).isEmpty)
  }

  @Test(arguments: Backend.allCases) func `G5: records that don't continue the held ones change nothing`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let records = (0..<6).map { record($0) }
    try test.store.commit(ServerBatch { $0.records = [run(web1, Array(records[..<3]))] })
    let before = try ServerStoreContents(test.store)
    func refuse(
      _ kind: StoreError.Kind, _ run: ServerBatch.RecordRun, _ location: SourceLocation = #_sourceLocation
    ) throws {
      expect(kind, location) { () throws(StoreError) in
        try test.store.commit(
          ServerBatch {
            $0.strings = [storedString(stringKey(web1, 1))]
            $0.records = [run]
          })
      }
      #expect(try ServerStoreContents(test.store) == before, sourceLocation: location)
    }
    let next = run(web1, held: Array(records[..<3]), [records[3]])
    try refuse(.failed, run(web1, held: Array(records[..<4]), [records[4]]))
    try refuse(.failed, run(web1, held: Array(records[..<2]), [records[2]]))
    try refuse(.failed, run(web1, [records[5]]))
    try refuse(.corrupt, run(web1, held: Array(records[..<3]), [records[3]], key: digest(78)))
    var wrong = next
    wrong.after.length = 5
    try refuse(.failed, wrong)
    wrong = next
    wrong.after.frontier[0] = digest(1)
    try refuse(.failed, wrong)
    wrong = next
    wrong.encoded = [records[4]]
    try refuse(.failed, wrong)
    wrong = next
    wrong.after.checkpoint = nil
    try refuse(.failed, wrong)
    wrong = next
    wrong.after.checkpoint = try #require(before.journals.first?.checkpoint)
    try refuse(.failed, wrong)
    wrong = next
    wrong.after.checkpoint?.signature = []
    try refuse(.failed, wrong)
    try test.store.commit(ServerBatch { $0.records = [next] })
    #expect(try test.store.journals() == [next.after])
  }

  @Test(arguments: Backend.allCases) func `M1: sequences of a journal share their beginnings, each record once`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let journal = HostJournal(host: web1, journal: journalID(1))
    let first = (0..<300).map { record($0, size: 20) }
    func others(_ start: Int, _ salt: Int, _ count: Int, of base: [[UInt8]]) -> [[UInt8]] {
      base[..<start] + (0..<count).map { record($0 + salt, size: 20) }
    }
    let second = others(130, 1_000, 200, of: first)
    // It leaves another that has left one; and one leaves where another did.
    let third = others(200, 2_000, 90, of: second)
    let fourth = others(130, 3_000, 1, of: first)
    let histories = [first, second, third, fourth]
    let forks = [nil, ForkPoint(base: 0, start: 130), ForkPoint(base: 1, start: 200), ForkPoint(base: 1, start: 130)]
    for (number, history) in histories.enumerated() {
      let start = Int(forks[number]?.start ?? 0)
      let middle = (start + history.count + 1) / 2
      var kept = start
      for part in [start..<middle, middle..<history.count] where !part.isEmpty {
        try test.store.commit(
          ServerBatch {
            $0.records = [
              run(
                web1, sequence: UInt32(number), fork: forks[number], held: Array(history[..<part.lowerBound]),
                Array(history[part]), kept: part.lowerBound > start ? [part.lowerBound] : [],
                last: number == 0 ? 0 : kept)
            ]
          })
        kept = part.lowerBound
      }
    }
    try test.reopen()
    func root(_ records: ArraySlice<[UInt8]>) -> Digest {
      var frontier = Frontier<CheapHash>()
      for record in records { frontier.append(leafHash(of: record)) }
      return frontier.root
    }
    #expect(try test.store.journals().map(\.fork) == forks)
    #expect(try test.store.totals()[web1]?.forks == 3)
    #expect(try test.store.totals()[web1]?.records == 300 + 200 + 90 + 1)
    for (number, history) in histories.enumerated() {
      let key = SequenceKey(journal: journal, sequence: UInt32(number))
      #expect(try test.store.records(of: key, from: 0, count: .max, bytes: .max) == history)
      #expect(try test.store.records(of: key, from: 128, count: 4, bytes: .max) == Array(history[128...].prefix(4)))
      #expect(try test.store.records(of: key, from: 129, count: 9, bytes: 1) == [history[129]])
      #expect(try test.store.records(of: key, from: UInt64(history.count), count: 9, bytes: .max).isEmpty)
      let last = try #require(try test.store.checkpoint(of: key, beyond: UInt64(history.count) - 1))
      #expect(last.length == UInt64(history.count))
      #expect(try test.store.checkpoint(of: key, beyond: UInt64(history.count)) == nil)
      for length in [0, 1, 63, 64, 65, 129, 130, 131, 199, 200, 201, 256, 290] where length < history.count {
        let beginnings = try test.store.answer(.beginnings(journal, length: UInt64(length))).beginnings
        let own = root(history[..<length])
        #expect(beginnings.count { Frontier<CheapHash>(size: UInt64(length), subtrees: $0.frontier).root == own } == 1)
        #expect(beginnings.count == Set(histories.filter { $0.count >= length }.map { $0[..<length] }).count)
        let checkpoint = try #require(try test.store.checkpoint(of: key, beyond: UInt64(length)))
        #expect(checkpoint.length > length && checkpoint.root == root(history[..<Int(checkpoint.length)]))
      }
    }
    #expect(try test.store.answer(.heads(journal, upTo: 5)).heads.map(\.length) == [1, 3, 4, 5])
    #expect(try test.store.answer(.heads(journal, upTo: 0)).heads.isEmpty)
    let heads = try test.store.answer(.heads(journal, upTo: .max)).heads
    #expect(heads == heads.sorted { ($0.length, $0.root) < ($1.length, $1.root) })
    for (number, history) in histories.enumerated() {
      let own = heads.filter { $0.length <= history.count && root(history[..<Int($0.length)]) == $0.root }
      let (start, end) = (forks[number]?.start ?? 0, UInt64(history.count))
      let lengths = [end, end - 1, end - 2, end - 4, end - 32].filter { $0 >= start } + (start > 0 ? [start] : [])
      #expect(Set(lengths).isSubset(of: Set(own.map(\.length))))
    }
  }

  @Test(arguments: Backend.allCases) func `M1: a sequence leaves another one with another record, once and for all`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let records = (0..<6).map { record($0) }
    try test.store.commit(ServerBatch { $0.records = [run(web1, records)] })
    func refuse(
      _ fork: ForkPoint?, sequence: UInt32 = 1, _ next: [UInt8] = record(9), held: Int = 3, key: Digest = digest(77),
      _ location: SourceLocation = #_sourceLocation
    ) throws {
      let before = try ServerStoreContents(test.store)
      expect(.failed, location) { () throws(StoreError) in
        try test.store.commit(
          ServerBatch {
            $0.records = [
              run(
                web1, sequence: sequence, fork: fork, held: Array(records[..<held]), [next], key: key)
            ]
          })
      }
      #expect(try ServerStoreContents(test.store) == before, sourceLocation: location)
    }
    try refuse(nil)
    try refuse(ForkPoint(base: 1, start: 3))
    try refuse(ForkPoint(base: 2, start: 3))
    try refuse(ForkPoint(base: 0, start: 2))
    try refuse(ForkPoint(base: 0, start: 6), held: 6)
    try refuse(ForkPoint(base: 0, start: 3), records[3])
    try refuse(ForkPoint(base: 0, start: 3), sequence: 0)
    try refuse(ForkPoint(base: 0, start: 3), key: digest(78))
    let other = run(web1, sequence: 1, fork: ForkPoint(start: 3), held: Array(records[..<3]), [record(9)])
    try test.store.commit(ServerBatch { $0.records = [other] })
    var moved = run(web1, sequence: 1, fork: ForkPoint(start: 2), held: records[..<3] + [record(9)], [record(10)])
    expect(.failed) { () throws(StoreError) in
      try test.store.commit(ServerBatch { [moved] in $0.records = [moved] })
    }
    moved.after.fork = ForkPoint(start: 3)
    try test.store.commit(ServerBatch { [moved] in $0.records = [moved] })
    #expect(try test.store.journals().map(\.length) == [6, 5])
  }

  @Test(arguments: Backend.allCases) func `J2: checkpoints that stay are the host's own, each over its records`(
    _ backend: Backend
  ) throws {
    let test = try ServerStoreUnderTest(backend)
    let web1 = try host("web1")
    let records = (0..<200).map { record($0) }
    func refuse(_ change: (inout ServerBatch.RecordRun) -> Void, _ location: SourceLocation = #_sourceLocation) {
      var wrong = run(web1, held: Array(records[..<10]), Array(records[10...]), kept: [10, 70], last: 0)
      change(&wrong)
      expect(.failed, location) { () throws(StoreError) in
        try test.store.commit(ServerBatch { [wrong] in $0.records = [wrong] })
      }
    }
    try test.store.commit(ServerBatch { $0.records = [run(web1, Array(records[..<10]))] })
    refuse { $0.checkpoints.swapAt(0, 1) }
    refuse { $0.checkpoints[0].length = 9 }
    refuse { $0.checkpoints[1].root = digest(1) }
    refuse { $0.checkpoints[1].signature = [] }
    refuse { $0.checkpoints.removeLast() }
    refuse { $0.nodes.removeLast() }
    refuse { $0.nodes[0].subtrees[0] = digest(1) }
    refuse { $0.nodes[0].number += 1 }
    try test.store.commit(
      ServerBatch { $0.records = [run(web1, held: Array(records[..<10]), Array(records[10...]), kept: [10, 70])] })
    try test.reopen()
    let key = SequenceKey(journal: HostJournal(host: web1, journal: journalID(1)))
    let lengths = try [0, 9, 10, 69, 70, 199, 200].map { try test.store.checkpoint(of: key, beyond: $0)?.length }
    #expect(lengths == [10, 10, 70, 70, 200, 200, nil])
  }
}
