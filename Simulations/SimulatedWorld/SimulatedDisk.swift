package import JournalModel

/// A file system with a page cache in front of a durable image.
///
/// Fault model: what was synced survives everything. At a power cut each un-synced page is kept, dropped (reads as what
/// is on the disk, NUL beyond it), torn between sectors or, beyond the synced length, garbage; the length falls anywhere
/// between the synced one and the present one, and each un-synced change of a directory is kept or undone. A file's
/// sync that fails marks its pages clean: they reach the disk only when they are written again, and may be read as the
/// disk has them after the next start of a process. Inode numbers are given out again at once, smallest first,
/// with a new generation; birth times move in coarse steps, as on ext4, and so do those of directories. A write-through disk makes everything durable
/// at once (a host whose log bytes survive its power cuts).
package final class SimulatedDisk {
  package final class Inode {
    package enum Kind: Hashable, Sendable { case regular, directory, symbolicLink }
    package let number: UInt64
    package let generation: UInt64
    package let birth: WallTime
    package let kind: Kind
    package internal(set) var bytes: [UInt8] = []
    package internal(set) var modified: WallTime
    /// Of directories: when a name in it, or its permissions, last changed.
    package internal(set) var changed: WallTime
    package internal(set) var mode: UInt32
    package internal(set) var links: UInt32 = 0
    var entries: [[UInt8]: Entry] = [:]
    /// Open descriptors, and those of them that write.
    var openers = 0
    package internal(set) var writers = 0
    package var isDenied = false
    /// `SimulatedDisk.era` when it last got a name.
    var namedIn = 0

    // The durable image.
    var isDurable = false
    package internal(set) var durableBytes: [UInt8] = []
    var durableEntries: [[UInt8]: Inode] = [:]
    /// Pages that a failed sync marked clean.
    var lostPages: Set<Int> = []

    // What the medium does; see `SimulatedDisk+Medium`.
    /// Pages that can't be read; true: once only.
    var badPages: [Int: Bool] = [:]
    /// The medium changed what it held: nobody can tell what this file gives.
    package internal(set) var isDamaged = false
    /// A writer changed bytes in place.
    package internal(set) var isOverwritten = false

    /// The world's own record: every content that this inode ever had; the last one is the living one.
    package internal(set) var incarnations: [Incarnation] = [Incarnation()]

    init(number: UInt64, generation: UInt64, birth: WallTime, kind: Kind, mode: UInt32) {
      self.number = number
      self.generation = generation
      self.birth = birth
      self.kind = kind
      self.mode = mode
      modified = birth
      changed = birth
    }

    /// Which of the disk's file systems it is on.
    package internal(set) var fileSystem: UInt64 = 1

    package var key: InodeKey {
      InodeKey(
        device: fileSystem, filesystem: fileSystem,
        identity: InodeIdentity(number: number, generation: generation, birth: birth))
    }
  }

  /// What an inode held between two truncations, appended to and nothing else.
  package struct Incarnation: Hashable, Sendable {
    /// Nil for the living one: its bytes are the inode's.
    package var final: [UInt8]?
    package init() {}
  }

  /// A name in a directory: what inotify's events of an open descriptor refer to, also after a rename.
  final class Entry {
    weak var parent: Inode?
    var name: [UInt8]
    let inode: Inode
    init(parent: Inode, name: [UInt8], inode: Inode) {
      self.parent = parent
      self.name = name
      self.inode = inode
    }
  }

  package final class Descriptor {
    package let inode: Inode
    let entry: Entry?
    let isWriting: Bool
    fileprivate(set) package var isOpen = true
    package var isStale = false
    init(inode: Inode, entry: Entry?, isWriting: Bool) {
      self.inode = inode
      self.entry = entry
      self.isWriting = isWriting
    }
  }

  package enum Failure: Error, Hashable, Sendable {
    case notFound, exists, notDirectory, isDirectory, denied, notEmpty, noSpace, inputOutput, tooManyLinks, crossed
  }

  package let root: Inode
  /// Counted up by whoever wants to know whether a name is older than something.
  var era = 0
  package let isWriteThrough: Bool
  package var pageSize = 64
  package var birthStep: Int64 = 4_000_000
  /// In which the times of directories move.
  package var directoryStep: Int64 = 4_000_000
  var reusesNumbers = true
  /// File systems mounted on the root's directories; all else is on 1.
  var mounts: [[UInt8]: UInt64] = [:]
  /// Wall time, for birth and modification.
  package var clock: () -> WallTime = { WallTime(nanoseconds: 0) }
  /// Called after each change that inotify would report.
  package weak var watcher: WatchQueue?
  package var isFull = false
  package var writesFail = false
  package var readsFail = false
  /// The next sync fails, drops what it should have written from the page cache's dirty set, and says so once.
  package var nextSyncFails = false
  /// The same for a directory, whose names the next sync writes after all.
  package var nextDirectorySyncFails = false
  /// The next sync that has something to write says that it did.
  var nextWriteIs: Misplacement?
  /// Is told what struck, for the count.
  package var struck: (String) -> Void = { _ in }
  private(set) var deniedInodes: [Inode] = []

  private var freeNumbers: Set<UInt64> = []
  private var nextNumber: UInt64 = 2
  var random: RandomStream
  var powerRandom: RandomStream
  /// Every inode ever made, in order: the oracle's record. Only regular ones.
  package private(set) var everyFile: [Inode] = []

  package init(seed: UInt64, name: String, isWriteThrough: Bool) {
    random = RandomStream(seed: seed, entity: name, purpose: "disk")
    powerRandom = RandomStream(seed: seed, entity: name, purpose: "power")
    self.isWriteThrough = isWriteThrough
    root = Inode(number: 1, generation: 0, birth: WallTime(nanoseconds: 0), kind: .directory, mode: 0o040755)
    root.links = 2
    root.isDurable = true
  }

  // MARK: Inodes

  private func make(_ kind: Inode.Kind, mode: UInt32) -> Inode {
    let number: UInt64
    if reusesNumbers, let free = freeNumbers.min() {
      freeNumbers.remove(free)
      number = free
    } else {
      number = nextNumber
      nextNumber += 1
    }
    let birth = time(step: birthStep)
    let inode = Inode(number: number, generation: random.next() >> 32, birth: birth, kind: kind, mode: mode)
    if kind == .regular { everyFile.append(inode) }
    return inode
  }

  private func time(step: Int64) -> WallTime {
    let now = clock().nanoseconds
    return WallTime(nanoseconds: now - now % max(1, step))
  }

  private func namesChanged(in directory: Inode?) {
    directory?.modified = time(step: directoryStep)
    permissionsChanged(of: directory)
  }

  private func permissionsChanged(of inode: Inode?) { inode?.changed = time(step: directoryStep) }

  func releaseIfUnused(_ inode: Inode) {
    guard inode.links == 0, inode.openers == 0 else { return }
    if inode.kind == .regular, inode.incarnations[inode.incarnations.count - 1].final == nil {
      inode.incarnations[inode.incarnations.count - 1].final = inode.bytes
      inode.bytes = []
    }
    freeNumbers.insert(inode.number)
  }

  /// The inode can be reached by nobody any more.
  package static func isGone(_ inode: Inode) -> Bool { inode.links == 0 && inode.openers == 0 }

  // MARK: Names

  private static let slash = UInt8(ascii: "/")

  static func components(_ path: BytePath) -> [[UInt8]] { path.bytes.split(separator: slash).map(Array.init) }

  /// Follows symbolic links, at most eight; the last one only when `followLast`.
  func entry(_ path: BytePath, followLast: Bool = true) throws(Failure) -> Entry {
    try walk(path, followLast: followLast).entry
  }

  /// The entry and the real path that leads to it. `visit` is told each directory and the name that is looked up in it next.
  func walk(
    _ path: BytePath, followLast: Bool, visit: (Inode, [UInt8]) -> Void = { _, _ in }
  ) throws(Failure) -> (entry: Entry, real: BytePath) {
    var pending = Array(Self.components(path).reversed())
    var entry = Entry(parent: root, name: [], inode: root)
    var trail: [Entry] = []
    var linksLeft = 8
    while let name = pending.popLast() {
      guard entry.inode.kind == .directory else { throw .notDirectory }
      if name == [UInt8(ascii: ".")] { continue }
      if name == [UInt8(ascii: "."), UInt8(ascii: ".")] {
        _ = trail.popLast()
        entry = trail.last ?? Entry(parent: root, name: [], inode: root)
        continue
      }
      visit(entry.inode, name)
      guard let next = entry.inode.entries[name] else { throw .notFound }
      if next.inode.kind == .symbolicLink, followLast || !pending.isEmpty {
        linksLeft -= 1
        guard linksLeft >= 0 else { throw .tooManyLinks }
        if next.inode.bytes.first == Self.slash {
          trail = []
          entry = Entry(parent: root, name: [], inode: root)
        }
        pending += next.inode.bytes.split(separator: Self.slash).map(Array.init).reversed()
        continue
      }
      trail.append(next)
      entry = next
    }
    return (entry, trail.reduce(BytePath("/")) { $0.appending($1.name) })
  }

  /// The file system that a path without links leads to.
  func mount(of path: BytePath) -> UInt64 { Self.components(path).first.flatMap { mounts[$0] } ?? 1 }

  package func inode(_ path: BytePath, followLast: Bool = true) -> Inode? {
    try? entry(path, followLast: followLast).inode
  }

  private func parent(of path: BytePath) throws(Failure) -> (directory: Inode, name: [UInt8]) {
    let directory = try entry(path.directory).inode
    guard directory.kind == .directory else { throw .notDirectory }
    return (directory, path.name)
  }

  private func add(_ inode: Inode, to directory: Inode, name: [UInt8]) -> Entry {
    let entry = Entry(parent: directory, name: name, inode: inode)
    directory.entries[name] = entry
    namesChanged(in: directory)
    if inode.links == 0 { inode.fileSystem = directory === root ? mounts[name] ?? 1 : directory.fileSystem }
    inode.links += 1
    inode.namedIn = era
    if isWriteThrough { directory.durableEntries[name] = inode }
    return entry
  }

  private func remove(_ entry: Entry) {
    entry.parent?.entries[entry.name] = nil
    namesChanged(in: entry.parent)
    if isWriteThrough { entry.parent?.durableEntries[entry.name] = nil }
    entry.inode.links -= 1
    releaseIfUnused(entry.inode)
  }

  /// Makes an empty regular file; `.exists` when the name is taken, whatever by (O_EXCL).
  @discardableResult package func create(_ path: BytePath, mode: UInt32 = 0o100644) throws(Failure) -> Inode {
    try createEntry(path, mode: mode).inode
  }

  private func createEntry(_ path: BytePath, mode: UInt32) throws(Failure) -> Entry {
    let (directory, name) = try parent(of: path)
    guard directory.entries[name] == nil else { throw .exists }
    guard !isFull else { throw .noSpace }
    let entry = add(make(.regular, mode: mode), to: directory, name: name)
    if isWriteThrough { entry.inode.isDurable = true }
    watcher?.changed(directory, name)
    return entry
  }

  package func makeDirectory(_ path: BytePath) throws(Failure) {
    let (directory, name) = try parent(of: path)
    guard directory.entries[name] == nil else { throw .exists }
    guard !isFull else { throw .noSpace }
    let inode = make(.directory, mode: 0o040755)
    inode.isDurable = isWriteThrough
    _ = add(inode, to: directory, name: name)
    watcher?.changed(directory, name)
  }

  package func makeDirectories(_ path: BytePath) throws(Failure) {
    var partial = BytePath("/")
    for component in Self.components(path) {
      partial = partial.appending(component)
      do throws(Failure) { try makeDirectory(partial) } catch { guard error == .exists else { throw error } }
    }
  }

  package func removeDirectory(_ path: BytePath) throws(Failure) {
    let found = try entry(path, followLast: false)
    guard found.inode.kind == .directory else { throw .notDirectory }
    guard found.inode.entries.isEmpty, !found.name.isEmpty else { throw .notEmpty }
    remove(found)
    if let parent = found.parent { watcher?.changed(parent, found.name) }
    watcher?.vanished(found.inode)
  }

  package func symbolicLink(_ target: BytePath, at path: BytePath) throws(Failure) {
    let (directory, name) = try parent(of: path)
    guard directory.entries[name] == nil else { throw .exists }
    guard !isFull else { throw .noSpace }
    let inode = make(.symbolicLink, mode: 0o120777)
    inode.bytes = target.bytes
    inode.isDurable = true
    inode.durableBytes = target.bytes
    _ = add(inode, to: directory, name: name)
    watcher?.changed(directory, name)
  }

  package func hardLink(_ from: BytePath, _ to: BytePath) throws(Failure) {
    let source = try entry(from, followLast: false)
    guard source.inode.kind == .regular else { throw .isDirectory }
    let (directory, name) = try parent(of: to)
    guard directory.entries[name] == nil else { throw .exists }
    guard directory.fileSystem == source.inode.fileSystem else { throw .crossed }
    _ = add(source.inode, to: directory, name: name)
    watcher?.changed(directory, name)
  }

  package func unlink(_ path: BytePath) throws(Failure) {
    let found = try entry(path, followLast: false)
    guard found.inode.kind != .directory else { throw .isDirectory }
    remove(found)
    if let parent = found.parent { watcher?.changed(parent, found.name) }
  }

  /// rename(2): replaces a file of the new name.
  package func rename(_ from: BytePath, _ to: BytePath) throws(Failure) {
    let source = try entry(from, followLast: false)
    let (directory, name) = try parent(of: to)
    let oldName = source.name
    guard !oldName.isEmpty, let oldParent = source.parent else { throw .denied }
    guard directory.fileSystem == source.inode.fileSystem else { throw .crossed }
    if let target = directory.entries[name] {
      if target.inode === source.inode { return }
      guard target.inode.kind != .directory else { throw .isDirectory }
      guard source.inode.kind != .directory else { throw .notDirectory }
      remove(target)
    }
    if source.inode.kind == .directory, isBelow(directory, source.inode) { throw .denied }
    oldParent.entries[oldName] = nil
    source.parent = directory
    source.name = name
    if source.inode.kind == .directory { era += 1 }
    source.inode.namedIn = era
    directory.entries[name] = source
    namesChanged(in: oldParent)
    namesChanged(in: directory)
    if isWriteThrough {
      oldParent.durableEntries[oldName] = nil
      directory.durableEntries[name] = source.inode
    }
    watcher?.changed(oldParent, oldName)
    watcher?.changed(directory, name)
    if source.inode.kind == .directory { watcher?.vanished(source.inode) }
  }

  private func isBelow(_ directory: Inode, _ ancestor: Inode) -> Bool {
    directory === ancestor
      || ancestor.entries.values.contains { $0.inode.kind == .directory && isBelow(directory, $0.inode) }
  }

  /// Names in an order that has nothing to do with the alphabet, as readdir gives them; the same in every process.
  package func names(of directory: Inode) -> [[UInt8]] {
    directory.entries.keys.map { (Mix.hash($0), $0) }
      .sorted { ($0.0, $0.1.count) < ($1.0, $1.1.count) }.map(\.1)
  }

  // MARK: Descriptors

  package func open(_ path: BytePath, writing: Bool, creating: Bool = false) throws(Failure) -> Descriptor {
    var found: Entry?
    do throws(Failure) { found = try entry(path) } catch {
      guard error == .notFound, creating else { throw error }
    }
    let target: Entry
    if let found { target = found } else { target = try createEntry(path, mode: 0o100644) }
    guard target.inode.kind == .regular else { throw .isDirectory }
    guard writing || !target.inode.isDenied else { throw .denied }
    return open(target.inode, entry: target, writing: writing)
  }

  func open(_ inode: Inode, entry: Entry?, writing: Bool) -> Descriptor {
    inode.openers += 1
    if writing { inode.writers += 1 }
    return Descriptor(inode: inode, entry: entry, isWriting: writing)
  }

  package func close(_ descriptor: Descriptor) {
    guard descriptor.isOpen else { return }
    descriptor.isOpen = false
    descriptor.inode.openers -= 1
    if descriptor.isWriting { descriptor.inode.writers -= 1 }
    releaseIfUnused(descriptor.inode)
  }

  func deny(_ inode: Inode) {
    inode.isDenied = true
    permissionsChanged(of: inode)
    deniedInodes.append(inode)
  }

  func allow(_ inode: Inode) {
    inode.isDenied = false
    permissionsChanged(of: inode)
    deniedInodes.removeAll { $0 === inode }
  }

  // MARK: Bytes

  package func append(_ descriptor: Descriptor, _ bytes: [UInt8]) throws(Failure) {
    // A write that fails may have written a part.
    let taken = isFull || writesFail ? random.below(bytes.count) : bytes.count
    descriptor.inode.dirtied(descriptor.inode.bytes.count..<(descriptor.inode.bytes.count + taken), pageSize)
    descriptor.inode.bytes += bytes.prefix(taken)
    if taken > 0 { changed(descriptor.inode) }
    guard taken == bytes.count else { throw isFull ? .noSpace : .inputOutput }
    if let entry = descriptor.entry, let parent = entry.parent, parent.entries[entry.name] === entry {
      watcher?.modified(parent, entry.name)
    }
  }

  /// Ends the incarnation when it shortens the file; appends NUL bytes when it lengthens it.
  package func truncate(_ inode: Inode, to length: Int, entryPath: BytePath? = nil) {
    inode.dirtied(min(length, inode.bytes.count)..<max(length, inode.bytes.count), pageSize)
    if length < inode.bytes.count {
      inode.incarnations[inode.incarnations.count - 1].final = inode.bytes
      inode.incarnations.append(Incarnation())
      inode.bytes.removeLast(inode.bytes.count - length)
    } else {
      inode.bytes += [UInt8](repeating: 0, count: length - inode.bytes.count)
    }
    changed(inode)
    if let entryPath, let entry = try? entry(entryPath), let parent = entry.parent {
      watcher?.modified(parent, entry.name)
    }
  }

  private func changed(_ inode: Inode) {
    inode.modified = clock()
    if isWriteThrough { inode.durableBytes = [] }
  }

  /// The bytes of one of the inode's incarnations.
  package static func content(of inode: Inode, incarnation: Int) -> [UInt8] {
    inode.incarnations[incarnation].final ?? inode.bytes
  }
}
