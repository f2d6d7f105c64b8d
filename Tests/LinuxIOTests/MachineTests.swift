import Foundation
import JournalModel
import MerkleLog
import Testing

@testable import LinuxIO

@Suite struct MachineTests {
  @Test func `SHA-256 of trees: the empty one, one leaf, two leaves (RFC 6962, 2.1)`() {
    func hex(_ digest: Digest) -> String { digest.hex }
    #expect(hex(SHA256Tree.empty) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    let abc = Array("abc".utf8)
    #expect(
      hex(SHA256Tree.digest(abc.span.bytes)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    // The published test vectors of Certificate Transparency: leaves "" and 0x00.
    let first = SHA256Tree.Leaf().value()
    #expect(hex(first) == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d")
    let zero: [UInt8] = [0]
    var second = SHA256Tree.Leaf()
    second.update(zero.span.bytes)
    #expect(
      hex(SHA256Tree.node(first, second.value()))
        == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125")
  }

  @Test func `A leaf's copy goes on by itself, and its value doesn't end it`() {
    let (a, b): ([UInt8], [UInt8]) = ([1, 2], [3])
    var one = SHA256Tree.Leaf()
    one.update(a.span.bytes)
    var other = one.copy()
    let before = one.value()
    other.update(b.span.bytes)
    #expect(one.value() == before)
    one.update(b.span.bytes)
    #expect(one.value() == other.value() && one.value() != before)
  }

  @Test func `Work with one key keeps its order while other keys run beside it`() throws {
    let pool = WorkerPool<TestLane, Int>()
    let done = Monitor([Int: [Int]]())
    let running = Monitor([Int: Int]())
    for step in 0..<2_000 {
      let key = step % 7
      pool.submit(step % 3 == 0 ? .slow : .many(key % 2), key) {
        running.withLock { $0[key, default: 0] += 1 }
        #expect(running.withLock { $0[key] } == 1)
        done.withLock { $0[key, default: []].append(step) }
        running.withLock { $0[key, default: 0] -= 1 }
      }
    }
    while !pool.isIdle({ _ in true }) { sched_yield() }
    for key in 0..<7 {
      #expect(done.withLock { $0[key] } == Array(stride(from: key, to: 2_000, by: 7)))
    }
  }

  @Test func `A key that waits holds up no other key`() throws {
    let pool = WorkerPool<TestLane, String>()
    let gate = Monitor(false)
    let seen = Monitor(0)
    pool.submit(.wide, "slow") { gate.waiting { $0 ? () : nil } }
    for _ in 0..<100 {
      pool.submit(.wide, "fast") {
        seen.withLock { $0 += 1 }
        seen.wakeAll()
      }
    }
    seen.waiting { $0 == 100 ? () : nil }
    gate.withLock { $0 = true }
    gate.wakeAll()
    pool.stop()
  }

  /// Work that waits until the gate opens, and a count of what began.
  private func hang(_ pool: WorkerPool<TestLane, Int>, _ lane: TestLane, keys: Range<Int>, behind gate: Monitor<Bool>)
    -> Monitor<Int>
  {
    let begun = Monitor(0)
    for key in keys {
      pool.submit(lane, key) {
        begun.withLock { $0 += 1 }
        begun.wakeAll()
        gate.waiting { $0 ? () : nil }
      }
    }
    return begun
  }

  @Test func `A3 What hangs in one lane holds up no other, and so many threads at most`() {
    let pool = WorkerPool<TestLane, Int>()
    let gate = Monitor(false)
    let begun = hang(pool, .wide, keys: 0..<100, behind: gate)
    begun.waiting { $0 == 2 ? () : nil }
    let seen = Monitor(0)
    @Sendable func add() {
      seen.withLock { $0 += 1 }
      seen.wakeAll()
    }
    pool.submit(.slow, 1_000, add)
    seen.waiting { $0 == 1 ? () : nil }
    // Called hung, two leave their places to two more; these are the last.
    let limit = Interval.milliseconds(1)
    while begun.withLock({ $0 }) < 4 { _ = pool.review(at: Clocks.now(), limit: limit) }
    while pool.review(at: Clocks.now(), limit: limit).map(\.count) != [4] { sched_yield() }
    #expect(pool.review(at: Clocks.now(), limit: limit).map(\.waiting) == [96])
    #expect(begun.withLock { $0 } == 4)
    // The end waits for none of it.
    #expect(pool.isIdle { $0 == .slow } && !pool.isIdle { $0 == .wide })
    gate.withLock { $0 = true }
    gate.wakeAll()
    begun.waiting { $0 == 100 ? () : nil }
    while !pool.isIdle({ _ in true }) { sched_yield() }
    #expect(pool.review(at: Clocks.now(), limit: limit).isEmpty)
    pool.stop()
  }

  /// A thread that comes out of its rest to work that hangs is no help to the work behind it.
  @Test func `A3 Work behind a thread that was idle gets one of its own`() {
    let pool = WorkerPool<TestLane, Int>()
    for _ in 0..<50 {
      let gate = Monitor(false)
      // One idle thread.
      let first = hang(pool, .slow, keys: 0..<1, behind: Monitor(true))
      first.waiting { $0 == 1 ? () : nil }
      while !pool.isIdle({ _ in true }) { sched_yield() }
      let begun = hang(pool, .wide, keys: 1..<3, behind: gate)
      begun.waiting { $0 == 2 ? () : nil }
      gate.withLock { $0 = true }
      gate.wakeAll()
      while !pool.isIdle({ _ in true }) { sched_yield() }
    }
    pool.stop()
  }

  @Test func `A3 However many lanes hang, each other one gets a thread`() {
    let pool = WorkerPool<TestLane, Int>()
    let gate = Monitor(false)
    let hanging = (0..<60).map { hang(pool, .many($0), keys: ($0 * 10)..<($0 * 10 + 10), behind: gate) }
    for begun in hanging { begun.waiting { $0 > 0 ? () : nil } }
    #expect(hanging.reduce(0) { sum, begun in sum + begun.withLock { $0 } } <= 64 + 60)
    let seen = Monitor(false)
    for lane in [TestLane.many(99), .slow] {
      seen.withLock { $0 = false }
      pool.submit(lane, 10_000) {
        seen.withLock { $0 = true }
        seen.wakeAll()
      }
      seen.waiting { $0 ? () : nil }
    }
    gate.withLock { $0 = true }
    gate.wakeAll()
    while !pool.isIdle({ _ in true }) { sched_yield() }
    pool.stop()
  }

  @Test func `Who waits for the end of work is told of it, and waits no longer than it may`() {
    let pool = WorkerPool<TestLane, Int>()
    let gate = Monitor(false)
    let begun = hang(pool, .wide, keys: 0..<2, behind: gate)
    begun.waiting { $0 == 2 ? () : nil }
    let soon = Clocks.now() + .milliseconds(20)
    #expect(!pool.awaitIdle(until: soon) { _ in true })
    #expect(Clocks.now() >= soon)
    #expect(pool.awaitIdle(until: Clocks.now() + .seconds(60)) { $0 == .slow })
    // Work that begets work, and ends while somebody begins to wait, again and again.
    for _ in 0..<2_000 {
      pool.submit(.slow, 7) { pool.submit(.many(1), 7) {} }
      #expect(pool.awaitIdle(until: Clocks.now() + .seconds(60)) { $0 != .wide })
    }
    gate.withLock { $0 = true }
    gate.wakeAll()
    #expect(pool.awaitIdle(until: Clocks.now() + .seconds(60)) { _ in true })
    pool.stop()
  }

  @Test func `The loop is woken from another thread and by its timeout`() throws {
    let epoll = try Epoll()
    let wakeup = try Wakeup()
    try epoll.add(wakeup.number, events: Epoll.readable, token: 42)
    var tokens: [UInt64] = []
    try epoll.wait(timeout: Interval(nanoseconds: 0)) { token, _ in tokens.append(token) }
    #expect(tokens.isEmpty)
    let pool = WorkerPool<TestLane, Int>()
    pool.submit(.slow, 1) { wakeup.signal() }
    while tokens.isEmpty { try epoll.wait(timeout: nil) { token, _ in tokens.append(token) } }
    #expect(tokens == [42])
    wakeup.clear()
    let before = Clocks.now()
    try epoll.wait(timeout: .milliseconds(2)) { token, _ in tokens.append(token) }
    #expect(tokens == [42] && Clocks.now() - before >= .milliseconds(2))
    try epoll.remove(wakeup.number)
    wakeup.signal()
    try epoll.wait(timeout: Interval(nanoseconds: 0)) { token, _ in tokens.append(token) }
    #expect(tokens == [42])
    pool.stop()
  }

  @Test func `A3 Mounts are known by path, their names unescaped`() {
    let table = MountTable()
    #expect(table.mount(of: BytePath("/proc/sys/kernel")).type == "proc")
    #expect(!table.mount(of: BytePath("/no/such/path")).isRemote)
    let line = #"36 35 98:0 / /mnt/a\040b\134 rw,noatime master:1 - fuse.sshfs me@there: rw"#
    let mount = Mount(Array(line.utf8)[...])
    #expect(mount?.point == BytePath(#"/mnt/a b\"#) && mount?.type == "fuse.sshfs" && mount?.isRemote == true)
  }

  @Test func `Random uuids differ and carry version 4`() {
    let uuids = (0..<100).map { _ in Randomness.uuid() }
    #expect(Set(uuids).count == 100)
    #expect(uuids.allSatisfy { $0.high >> 12 & 0xF == 4 && $0.low >> 62 == 0b10 })
  }

  @Test func `The least lately used descriptors go first, pinned ones never`() throws {
    var cache = DescriptorCache<Int>(limit: 3)
    func open() throws -> Descriptor { try Descriptor.open(BytePath("/dev/null"), O_RDONLY) }
    cache.insert(try open(), 0, isPinned: true)
    for key in 1..<50 {
      cache.insert(try open(), key)
      #expect(cache.count <= 3 && cache.descriptor(0) != nil && cache.descriptor(key) != nil)
    }
    cache.rename(49, to: 100)
    #expect(cache.descriptor(49) == nil && cache.descriptor(100) != nil)
    cache.setPinned(100, true)
    cache.insert(try open(), 101, isPinned: true)
    cache.insert(try open(), 102, isPinned: true)
    #expect(cache.count == 4)
    cache.setPinned(0, false)
    cache.insert(try open(), 103)
    #expect(cache.descriptor(0) == nil)
  }
}

enum TestLane: WorkLane {
  case slow, wide
  case many(Int)
  var width: Int { self == .slow ? 1 : 2 }
  var isOneOfMany: Bool { if case .many = self { true } else { false } }
}
