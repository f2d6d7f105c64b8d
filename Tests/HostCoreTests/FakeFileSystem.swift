import DataPlane
import JournalModel

/// Names, inodes and notifications, all in memory and at once. Fault model: none of its own; tests switch single faults.
final class FakeFileSystem {
  final class Inode: ByteSource {
    /// Changes at an overlay's copy-up only.
    fileprivate(set) var key: InodeKey
    var bytes: [UInt8] = []
    var modified: WallTime
    var links: UInt32 = 0
    var writers = 0
    var fault: String?
    init(key: InodeKey, modified: WallTime) {
      self.key = key
      self.modified = modified
    }
    func facts() throws -> SourceFacts {
      if let fault { throw SourceFailure(fault) }
      return SourceFacts(size: UInt64(bytes.count), modified: modified, links: links)
    }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
      if let fault { throw SourceFailure(fault) }
      guard offset < UInt64(bytes.count) else { return 0 }
      let piece = bytes[Int(offset)...].prefix(buffer.count)
      buffer.copyBytes(from: piece)
      return piece.count
    }
  }
  enum Node {
    case file(Inode)
    case directory(InodeKey)
    case link(String)
  }

  private(set) var nodes: [String: Node] = [:]
  /// How often a name in each directory was made, removed or renamed: its times.
  private var changes: [InodeKey?: Int64] = [:]
  private(set) var hints: [WatchHint] = []
  var watches: Set<String> = []
  var refusesWatches = false
  /// Directories that can't be listed, entries that can't be examined, and hints that are lost.
  var unreadable: [String: String] = [:]
  /// Paths of files that can't be read, with the reason.
  var unreadableFiles: [String: String] = [:]
  var unexaminable: Set<String> = []
  /// Links that can't be followed to their end, with the reason, and those that lend rights.
  var troubles: [String: String] = [:]
  var lent: [String: LentLink] = [:]
  /// Of paths: owner, group and permissions, where they aren't root's own 0644.
  var rights: [String: (owner: UInt32, group: UInt32, mode: UInt32)] = [:]
  var losesHints = false
  /// Devices by mount point; the root's is 1. The file system's id is the same number unless said otherwise.
  var mounts: [String: UInt64] = ["/": 1]
  var filesystems: [UInt64: UInt64] = [:]
  /// Devices whose inodes have no usable identity.
  var withoutIdentity: Set<UInt64> = []
  private var nextNumber: UInt64 = 100
  private var freedNumbers: [UInt64] = []
  var reusesNumbers = false
  private var generation: UInt64 = 1
  private var clock: Int64 = 1_000

  init() { mkdir("/") }

  // MARK: What programs do

  @discardableResult
  func create(_ path: String, _ text: String = "") -> Inode {
    let inode = Inode(key: newKey(in: path), modified: now())
    inode.bytes = Array(text.utf8)
    inode.links = 1
    nodes[path] = .file(inode)
    changedNames(path)
    return inode
  }

  func append(_ inode: Inode, _ text: String) { append(inode, Array(text.utf8)) }
  func append(_ inode: Inode, _ bytes: [UInt8]) {
    inode.bytes += bytes
    touched(inode)
  }
  func append(_ path: String, _ text: String) { append(inode(path), text) }

  func rewrite(_ path: String, _ text: String) {
    inode(path).bytes = Array(text.utf8)
    touched(inode(path))
  }

  func rename(_ from: String, _ to: String) {
    remove(to, isSilent: true)
    let moved = nodes.removeValue(forKey: from)
    nodes[to] = moved
    for (path, node) in nodes where path.hasPrefix(from + "/") {
      nodes[path] = nil
      nodes[to + path.dropFirst(from.count)] = node
    }
    if watches.contains(from) { hint(.lost(directory: BytePath(from))) }
    changedNames(from)
    changedNames(to)
  }

  func link(_ from: String, _ to: String) {
    nodes[to] = .file(inode(from))
    inode(from).links += 1
    changedNames(to)
  }

  func symlink(_ target: String, _ path: String) {
    nodes[path] = .link(target)
    changedNames(path)
  }

  func mkdir(_ path: String) {
    nodes[path] = .directory(newKey(in: path))
    if path != "/" { changedNames(path) }
  }

  func remove(_ path: String) { remove(path, isSilent: false) }
  private func remove(_ path: String, isSilent: Bool) {
    for (below, _) in nodes where below.hasPrefix(path + "/") { remove(below, isSilent: isSilent) }
    guard let node = nodes.removeValue(forKey: path) else { return }
    if case .file(let inode) = node {
      inode.links -= 1
      if inode.links == 0, inode.writers == 0 { freedNumbers.append(inode.key.identity.number) }
    }
    if watches.remove(path) != nil { hint(.lost(directory: BytePath(path))) }
    if isSilent { changes[directoryKey(parent(path)), default: 0] += 1 } else { changedNames(path) }
  }

  /// The file system comes back as another device, and under another id if it has one of its own; the inode is the same.
  func remount(_ path: String, filesystem device: UInt64) {
    let old = inode(path)
    nodes[path] = .file(copy(old, device: device))
  }

  /// What a byte copy of the volume has under that name: the same identity on another device.
  @discardableResult func clone(_ path: String, at new: String) -> Inode {
    let inode = copy(inode(path), device: device(of: new))
    nodes[new] = .file(inode)
    changedNames(new)
    return inode
  }

  private func copy(_ old: Inode, device: UInt64) -> Inode {
    let key = InodeKey(device: device, filesystem: filesystems[device] ?? device, identity: old.key.identity)
    let new = Inode(key: key, modified: old.modified)
    new.bytes = old.bytes
    new.links = old.links
    return new
  }

  /// An inode that went with its file system is back.
  func restore(_ inode: Inode, at path: String, device: UInt64) {
    nodes[path] = .file(copy(inode, device: device))
  }

  /// An overlay numbers the inode anew when it copies the file up.
  func copyUp(_ path: String) {
    inode(path).key = newKey(in: path)
    hint(.changed(directory: BytePath(parent(path)), name: name(path)))
  }

  func inode(_ path: String) -> Inode {
    guard case .file(let inode)? = nodes[path] else { preconditionFailure("no file \(path)") }
    return inode
  }

  func overflow() { hint(.overflow) }

  func takeHints() -> [WatchHint] {
    defer { hints = [] }
    return losesHints ? [] : hints
  }

  private func hint(_ hint: WatchHint) {
    switch hint {
    case .modified(let directory, _), .changed(let directory, _), .lost(let directory):
      if watches.contains(text(directory)) || hint == .lost(directory: directory) { hints.append(hint) }
    case .overflow, .mounted: hints.append(hint)
    }
  }

  private func changedNames(_ path: String) {
    changes[directoryKey(parent(path)), default: 0] += 1
    hint(.changed(directory: BytePath(parent(path)), name: name(path)))
  }

  /// Without its device: a mount is no change of the directory.
  private func directoryKey(_ path: String) -> InodeKey? {
    if case .directory(let key)? = nodes[path] { key } else { nil }
  }

  private func touched(_ inode: Inode) {
    inode.modified = now()
    for (path, node) in nodes.sorted(by: { $0.key < $1.key }) {
      if case .file(let other) = node, other === inode {
        hint(.modified(directory: BytePath(parent(path)), name: name(path)))
      }
    }
  }

  private func now() -> WallTime {
    clock += 1
    return WallTime(nanoseconds: clock)
  }

  private func newKey(in path: String) -> InodeKey {
    var number = nextNumber
    if reusesNumbers, let freed = freedNumbers.popLast() { number = freed } else { nextNumber += 1 }
    generation += 1
    let (device, birth) = (device(of: path), now())
    let isUsable = !withoutIdentity.contains(device)
    return InodeKey(
      device: device, filesystem: filesystems[device] ?? device,
      identity: InodeIdentity(
        number: number, generation: isUsable ? generation : nil, birth: isUsable ? birth : nil))
  }

  // MARK: What the node sees

  func device(of path: String) -> UInt64 {
    let mount = mounts.keys.filter { path == $0 || path.hasPrefix($0 == "/" ? "/" : $0 + "/") }.max {
      $0.count < $1.count
    }
    return mount.flatMap { mounts[$0] } ?? 0
  }

  /// Listed as if they were attached.
  var drawsNone: Set<String> = []

  func listing(
    of directory: BytePath, names: [[UInt8]]?, known: KnownDirectory? = nil, random: inout SeededNumbers
  ) -> Listing {
    let path = text(directory)
    let isWatched = watches.contains(path)
    let stamp = stamp(of: directory)
    let isStill = known.map { stamp?.isStill(since: $0.stamp, slack: 0) ?? false } ?? false
    let names = isStill ? known?.names : names
    func answer(_ outcome: Listing.Outcome) -> Listing {
      Listing(directory: directory, names: names, outcome: outcome, isWatched: isWatched)
    }
    if let reason = unreadable[path] { return answer(.failed(reason)) }
    guard let real = resolve(path), case .directory? = nodes[real] else { return answer(.missing) }
    var entries: [DirectoryEntry] = []
    for (other, node) in nodes.sorted(by: { $0.key < $1.key }) where other != "/" && parent(other) == real {
      if let names, !names.contains(name(other)) { continue }
      entries.append(entry(other, node, &random))
    }
    var listing = answer(.entries(entries, filesystem: filesystems[device(of: real)] ?? device(of: real)))
    listing.place = nodes[real].flatMap { facts($0, at: real) }
    listing.isStill = isStill
    listing.stamp = listing.isWhole ? stamp : nil
    listing.lent = lent[path]
    return listing
  }

  /// Directories whose times say nothing.
  var hasTimes = true
  private func stamp(of directory: BytePath) -> DirectoryStamp? {
    guard hasTimes, let real = resolve(text(directory)), let node = nodes[real], let facts = facts(node, at: real),
      let changed = directoryKey(real).map({ WallTime(nanoseconds: changes[$0] ?? 0) })
    else { return nil }
    return DirectoryStamp(inode: facts.inode, mount: device(of: real), modified: changed, changed: changed, lead: 0)
  }

  private func entry(_ path: String, _ node: Node, _ random: inout SeededNumbers) -> DirectoryEntry {
    let fresh = drawsNone.contains(path) ? nil : UUIDBytes(high: random.next(), low: random.next())
    var entry = DirectoryEntry(
      name: name(path), facts: unexaminable.contains(path) ? nil : facts(node, at: path), freshUUID: fresh)
    entry.trouble = troubles[path]
    entry.lent = lent[path]
    if case .link(let target) = node {
      entry.isSymbolicLink = true
      let end = troubles[path] == nil ? resolve(target) : nil
      entry.facts = end.flatMap { nodes[$0] }.flatMap { facts($0, at: end ?? "") }
      entry.realPath = resolve(target).map { BytePath($0) }
    }
    return entry
  }

  private func facts(_ node: Node, at path: String) -> FileFacts? {
    var facts: FileFacts
    switch node {
    case .file(let inode):
      facts = FileFacts(
        kind: .regular, inode: inode.key, size: UInt64(inode.bytes.count), modified: inode.modified,
        links: inode.links)
    case .directory(var key):
      key.device = device(of: path)
      facts = FileFacts(kind: .directory, inode: key, size: 0, modified: WallTime(nanoseconds: 0), mode: 0o040755)
    case .link: return nil
    }
    if let rights = rights[path] { (facts.owner, facts.group, facts.mode) = rights }
    return facts
  }

  /// Follows links in every component.
  func resolve(_ path: String, depth: Int = 0) -> String? {
    guard depth < 8 else { return nil }
    var current = "/"
    for component in path.split(separator: "/") {
      let next = current == "/" ? "/" + component : current + "/" + component
      if case .link(let target)? = nodes[next] {
        guard let resolved = resolve(target, depth: depth + 1) else { return nil }
        current = resolved
      } else {
        current = next
      }
    }
    return nodes[current] == nil ? nil : current
  }

  func open(_ path: BytePath) -> Inode? {
    guard let real = resolve(text(path)), case .file(let inode)? = nodes[real] else { return nil }
    return inode
  }
}

func parent(_ path: String) -> String { text(BytePath(path).directory) }
func name(_ path: String) -> [UInt8] { BytePath(path).name }
func text(_ path: BytePath) -> String { String(decoding: path.bytes, as: UTF8.self) }
