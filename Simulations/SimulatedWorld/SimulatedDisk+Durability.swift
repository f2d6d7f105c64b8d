package import JournalModel

extension SimulatedDisk {
  /// fsync(2) of a file: its bytes and the inode itself, not its name.
  package func sync(_ inode: Inode) throws(Failure) {
    guard !nextSyncFails else {
      nextSyncFails = false
      // The kernel marks the pages clean: a second sync would succeed without having written them.
      lostPages.insert(ObjectIdentifier(inode))
      throw .inputOutput
    }
    guard !lostPages.contains(ObjectIdentifier(inode)) else { return }
    inode.durableBytes = inode.bytes
    inode.isDurable = true
  }

  /// fsync(2) of a directory: its names.
  package func syncDirectory(_ directory: Inode) {
    directory.durableEntries = directory.entries.mapValues(\.inode)
    directory.isDurable = true
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

  /// Drops clean and dirty pages of files whose sync failed: what reads give from now on is what is on the disk.
  package func dropCaches() {
    guard !lostPages.isEmpty else { return }
    forEachReachable { inode in
      if self.lostPages.contains(ObjectIdentifier(inode)), inode.kind == .regular { inode.bytes = inode.durableBytes }
    }
    lostPages = []
  }

  /// Loses what isn't synced. All descriptors are closed by the death of the processes.
  package func powerCut() {
    guard !isWriteThrough else { return }
    lostPages = []
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
      let survivor = now === durable ? now : random.chance(500_000) ? now : durable
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
    defer {
      inode.durableBytes = inode.bytes
      inode.isDurable = true
    }
    let synced = inode.durableBytes.count
    guard inode.bytes != inode.durableBytes else { return }
    if inode.bytes.count < synced || Array(inode.bytes[..<synced]) != inode.durableBytes {
      // Un-synced shortening or rewriting: undone, or kept whole.
      if random.chance(500_000) { inode.bytes = inode.durableBytes }
      return
    }
    let length = synced + random.below(inode.bytes.count - synced + 1)
    inode.bytes.removeLast(inode.bytes.count - length)
    var position = synced
    while position < length {
      let end = min(length, (position / pageSize + 1) * pageSize)
      switch random.below(3) {
      case 0: break
      case 1: for index in position..<end { inode.bytes[index] = 0 }
      default: for index in position..<end { inode.bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
      }
      position = end
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
