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

  @Test func `The loop is woken from another thread and by its timeout`() throws {
    let epoll = try Epoll()
    let wakeup = try Wakeup()
    try epoll.add(wakeup.number, events: Epoll.readable, token: 42)
    var tokens: [UInt64] = []
    try epoll.wait(timeout: Interval(nanoseconds: 0)) { token, _ in tokens.append(token) }
    #expect(tokens.isEmpty)
    let other = Thread { wakeup.signal() }
    other.start()
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
