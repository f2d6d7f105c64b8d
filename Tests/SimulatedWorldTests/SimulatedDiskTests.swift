import DataPlane
import JournalModel
import SimulatedWorld
import Testing

@Suite struct SimulatedDiskTests {
  private func disk(isWriteThrough: Bool = true, seed: UInt64 = 1) -> SimulatedDisk {
    SimulatedDisk(seed: seed, name: "disk", isWriteThrough: isWriteThrough)
  }
  private let a = BytePath("/a")
  private let b = BytePath("/b")

  @Test func aFreedNumberIsGivenOutAgainWithAnotherGeneration() throws {
    let disk = disk()
    let first = try disk.create(a)
    try disk.unlink(a)
    let second = try disk.create(a)
    #expect(second.number == first.number)
    #expect(second.generation != first.generation)
    #expect(second.key != first.key)
  }

  @Test func anUnlinkedFileLivesWhileItIsOpenAndKeepsItsNumber() throws {
    let disk = disk()
    let descriptor = try disk.open(a, writing: true, creating: true)
    try disk.unlink(a)
    try disk.append(descriptor, [1, 2])
    #expect(descriptor.inode.bytes == [1, 2])
    #expect(descriptor.inode.links == 0)
    #expect(try disk.create(b).number != descriptor.inode.number)
    disk.close(descriptor)
    #expect(SimulatedDisk.isGone(descriptor.inode))
    #expect(SimulatedDisk.content(of: descriptor.inode, incarnation: 0) == [1, 2])
  }

  @Test func renameReplacesAndKeepsTheInode() throws {
    let disk = disk()
    let one = try disk.create(a)
    let two = try disk.create(b)
    try disk.rename(a, b)
    #expect(disk.inode(b) === one)
    #expect(disk.inode(a) == nil)
    #expect(SimulatedDisk.isGone(two))
  }

  @Test func truncationBeginsAnIncarnation() throws {
    let disk = disk()
    let descriptor = try disk.open(a, writing: true, creating: true)
    try disk.append(descriptor, [1, 2, 3])
    disk.truncate(descriptor.inode, to: 1)
    try disk.append(descriptor, [9])
    #expect(SimulatedDisk.content(of: descriptor.inode, incarnation: 0) == [1, 2, 3])
    #expect(SimulatedDisk.content(of: descriptor.inode, incarnation: 1) == [1, 9])
  }

  @Test func linksLeadToOneInodeAndLoopsEnd() throws {
    let disk = disk()
    let one = try disk.create(a)
    try disk.hardLink(a, b)
    #expect(one.links == 2)
    try disk.symbolicLink(BytePath("a"), at: BytePath("/s"))
    #expect(disk.inode(BytePath("/s")) === one)
    try disk.symbolicLink(BytePath("/loop"), at: BytePath("/loop"))
    #expect(throws: SimulatedDisk.Failure.tooManyLinks) { try disk.open(BytePath("/loop"), writing: false) }
  }

  @Test func whatWasSyncedSurvivesAPowerCutAndNothingIsPromisedOfTheRest() throws {
    for round in 0..<50 {
      let disk = SimulatedDisk(seed: UInt64(round), name: "disk", isWriteThrough: false)
      let descriptor = try disk.open(a, writing: true, creating: true)
      try disk.append(descriptor, [1, 2, 3])
      try disk.sync(descriptor.inode)
      try disk.syncDirectory(disk.root)
      #expect(disk.durableContent(a) == [1, 2, 3])
      try disk.append(descriptor, [UInt8](repeating: 7, count: 200))
      #expect(disk.durableContent(a) == [1, 2, 3])
      disk.powerCut()
      let bytes = try #require(disk.inode(a)).bytes
      #expect(bytes.starts(with: [1, 2, 3]))
      #expect(bytes.count <= 203)
    }
  }

  @Test func aNameThatWasNotSyncedMayBeUndone() throws {
    var outcomes: Set<Bool> = []
    for round in 0..<40 {
      let disk = SimulatedDisk(seed: UInt64(round), name: "disk", isWriteThrough: false)
      try disk.sync(try disk.create(a))
      #expect(disk.durableContent(a) == nil)
      disk.powerCut()
      outcomes.insert(disk.inode(a) == nil)
    }
    #expect(outcomes == [true, false])
  }

  @Test func aFailedSyncIsNotMadeGoodByTheNext() throws {
    let disk = disk(isWriteThrough: false)
    let descriptor = try disk.open(a, writing: true, creating: true)
    try disk.syncDirectory(disk.root)
    try disk.sync(descriptor.inode)
    try disk.append(descriptor, [1])
    disk.nextSyncFails = true
    #expect(throws: SimulatedDisk.Failure.inputOutput) { try disk.sync(descriptor.inode) }
    try disk.sync(descriptor.inode)
    #expect(disk.durableContent(a) == [0])
    // Written again, the page is dirty again.
    try disk.append(descriptor, [2])
    try disk.sync(descriptor.inode)
    #expect(disk.durableContent(a) == [1, 2])
  }

  @Test func unsyncedPagesAreKeptDroppedTornOrGarbage() throws {
    var outcomes: Set<String> = []
    for round in 0..<60 {
      let disk = disk(isWriteThrough: false, seed: UInt64(round))
      disk.struck = { outcomes.insert($0) }
      let descriptor = try disk.open(a, writing: true, creating: true)
      try disk.append(descriptor, [UInt8](repeating: 1, count: 10))
      try disk.sync(descriptor.inode)
      try disk.syncDirectory(disk.root)
      try disk.append(descriptor, [UInt8](repeating: 2, count: 300))
      disk.powerCut()
      #expect(try #require(disk.inode(a)).bytes.starts(with: [UInt8](repeating: 1, count: 10)))
    }
    #expect(outcomes == ["page kept", "page dropped", "page torn", "page garbage"])
  }

  @Test func hintsOverflowAreMergedAndEndWithTheDirectory() throws {
    let disk = disk()
    let watches = WatchQueue(seed: 1, name: "watch")
    disk.watcher = watches
    try disk.makeDirectory(BytePath("/d"))
    let directory = try #require(disk.inode(BytePath("/d")))
    #expect(watches.watch(directory, BytePath("/d")))
    let descriptor = try disk.open(BytePath("/d/x"), writing: true, creating: true)
    try disk.append(descriptor, [1])
    try disk.append(descriptor, [2])
    let name = Array("x".utf8)
    #expect(
      watches.drain() == [
        .changed(directory: BytePath("/d"), name: name), .modified(directory: BytePath("/d"), name: name),
      ])
    watches.queueLimit = 1
    try disk.unlink(BytePath("/d/x"))
    try disk.create(BytePath("/d/y"))
    #expect(watches.drain() == [.changed(directory: BytePath("/d"), name: name), .overflow])
    watches.queueLimit = 8
    try disk.rename(BytePath("/d"), BytePath("/e"))
    #expect(watches.drain().contains(.lost(directory: BytePath("/d"))))
  }
}
