package import JournalModel

extension SimulatedDisk {
  /// fsync(2) of a file: its bytes and the inode itself, not its name.
  package func sync(_ inode: Inode) throws(Failure) {
    guard !nextSyncFails else {
      nextSyncFails = false
      struck("sync failed")
      // The kernel marks the pages clean: a second sync would succeed without having written them.
      inode.lostPages.formUnion(unsyncedPages(inode))
      throw .inputOutput
    }
    var durable = inode.bytes
    for page in inode.lostPages.union(misplaced(inode)).sorted() { restore(page, of: inode, in: &durable) }
    inode.durableBytes = durable
    inode.isDurable = true
  }

  /// fsync(2) of a directory: its names.
  package func syncDirectory(_ directory: Inode) throws(Failure) {
    guard !nextDirectorySyncFails else {
      nextDirectorySyncFails = false
      struck("directory sync failed")
      throw .inputOutput
    }
    directory.durableEntries = directory.entries.mapValues(\.inode)
    directory.isDurable = true
  }

  func range(ofPage page: Int, in bytes: [UInt8]) -> Range<Int> {
    min(page * pageSize, bytes.count)..<min((page + 1) * pageSize, bytes.count)
  }

  private func pageCount(_ count: Int) -> Int { (count + pageSize - 1) / pageSize }

  /// Pages that the disk doesn't have as the cache has them.
  func unsyncedPages(_ inode: Inode) -> [Int] {
    (0..<pageCount(inode.bytes.count)).filter { page in
      inode.bytes[range(ofPage: page, in: inode.bytes)]
        != inode.durableBytes[range(ofPage: page, in: inode.durableBytes)]
    }
  }

  /// Puts the durable content of a page there, NUL where the disk has nothing.
  private func restore(_ page: Int, of inode: Inode, in bytes: inout [UInt8]) {
    for index in range(ofPage: page, in: bytes) {
      bytes[index] = index < inode.durableBytes.count ? inode.durableBytes[index] : 0
    }
  }

  /// The bytes that survive a power cut for certain; nil when not even the name does.
  package func durableContent(_ path: BytePath) -> [UInt8]? {
    if isWriteThrough { return inode(path)?.bytes }
    var inode = root
    for component in Self.components(path) {
      guard let next = inode.durableEntries[component], next.isDurable else { return nil }
      inode = next
    }
    return inode.kind == .regular ? inode.durableBytes : nil
  }

  /// Memory gets scarce: pages that a failed sync marked clean may be read as the disk has them from now on.
  package func evictLostPages() {
    forEachReachable { inode in
      for page in inode.lostPages.sorted() where self.powerRandom.chance(500_000) {
        self.restore(page, of: inode, in: &inode.bytes)
      }
    }
  }

  /// Loses what isn't synced. All descriptors are closed by the death of the processes.
  package func powerCut() {
    guard !isWriteThrough else { return }
    var visited: Set<ObjectIdentifier> = []
    var links: [(ObjectIdentifier, Inode)] = []
    cut(directory: root, visited: &visited, links: &links)
    var counts: [ObjectIdentifier: UInt32] = [:]
    for (id, _) in links { counts[id, default: 0] += 1 }
    for (id, inode) in links { inode.links = counts[id] ?? 0 }
  }

  private func cut(
    directory: Inode, visited: inout Set<ObjectIdentifier>, links: inout [(ObjectIdentifier, Inode)]
  ) {
    let present = directory.entries.mapValues(\.inode)
    let names = Set(present.keys).union(directory.durableEntries.keys)
      .map { (Mix.hash($0), $0) }.sorted { $0.0 < $1.0 }.map(\.1)
    var kept: [[UInt8]: Inode] = [:]
    for name in names {
      let now = present[name]
      let durable = directory.durableEntries[name]
      let survivor = now === durable ? now : powerRandom.chance(500_000) ? now : durable
      if survivor !== now { struck(now == nil ? "unlink undone" : "create or rename undone") }
      if let survivor { kept[name] = survivor }
    }
    directory.entries = [:]
    for name in names {
      guard let inode = kept[name] else { continue }
      directory.entries[name] = Entry(parent: directory, name: name, inode: inode)
      links.append((ObjectIdentifier(inode), inode))
      guard visited.insert(ObjectIdentifier(inode)).inserted else { continue }
      inode.openers = 0
      inode.writers = 0
      switch inode.kind {
      case .directory: cut(directory: inode, visited: &visited, links: &links)
      case .regular: cut(file: inode)
      case .symbolicLink: break
      }
    }
    directory.durableEntries = kept
    directory.isDurable = true
  }

  private func cut(file inode: Inode) {
    let old = inode.durableBytes
    let new = inode.bytes
    // The length is metadata: growth arrives in part, shortening or not.
    let length =
      new.count >= old.count
      ? old.count + powerRandom.below(new.count - old.count + 1)
      : powerRandom.chance(500_000) ? new.count : old.count
    var survivor: [UInt8] = []
    for page in 0..<pageCount(length) {
      let indices = (page * pageSize)..<min((page + 1) * pageSize, length)
      let before = indices.map { $0 < old.count ? old[$0] : 0 }
      let after = indices.map { $0 < new.count ? new[$0] : $0 < old.count ? old[$0] : 0 }
      survivor += before == after ? after : cut(inode, page, before, after, synced: old.count - indices.lowerBound)
    }
    inode.bytes = survivor
    inode.durableBytes = survivor
    inode.isDurable = true
    inode.lostPages = []
  }

  /// What became of a page that wasn't synced; garbage only beyond the synced bytes.
  private func cut(_ inode: Inode, _ page: Int, _ before: [UInt8], _ after: [UInt8], synced: Int) -> [UInt8] {
    switch inode.lostPages.contains(page) ? 1 : powerRandom.below(4) {
    case 0:
      struck("page kept")
      return after
    case 1:
      struck("page dropped")
      return before
    case 2:
      struck("page torn")
      var torn: [UInt8] = []
      // A page is eight sectors, as 4,096 bytes are eight of 512.
      let sector = max(1, pageSize / 8)
      while torn.count < after.count {
        let piece = torn.count..<min(torn.count + sector, after.count)
        torn += powerRandom.chance(500_000) ? after[piece] : before[piece]
      }
      return torn
    default:
      struck("page garbage")
      return before.indices.map { $0 < synced ? before[$0] : UInt8(truncatingIfNeeded: powerRandom.next()) }
    }
  }

  private func forEachReachable(_ body: (Inode) -> Void) {
    var stack = [root]
    while let inode = stack.popLast() {
      body(inode)
      stack += names(of: inode).compactMap { inode.entries[$0]?.inode }
    }
  }
}

extension SimulatedDisk.Inode {
  /// Bytes are written again: their pages reach the disk with the next sync.
  func dirtied(_ range: Range<Int>, _ pageSize: Int) {
    guard !lostPages.isEmpty else { return }
    lostPages = lostPages.filter {
      $0 < range.lowerBound / pageSize || $0 > max(range.lowerBound, range.upperBound - 1) / pageSize
    }
  }
}
