package import JournalModel

/// What a host's core asks of its store (K1): a file that neither lives nor is owed is a row there and nothing in memory.
package enum HostQuery: Hashable, Sendable {
  /// Which files inodes may be that are new to a scan (K6).
  case inodes([NewInode])
  /// Files of which a server speaks, also those that won't come back: a gap of theirs may be struck out.
  case files([FileUUID])
  /// Of so many files behind `after`, in the order of the uuids, those whose end is journaled and of which the server isn't
  /// noted to have all but for what is in a gap.
  case ended(after: FileUUID?, server: String, examined: Int)
}

/// An inode that no file in memory has.
package struct NewInode: Hashable, Sendable {
  package var inode: InodeKey
  /// One of its names: where its identity isn't usable, a file may be known by the path alone.
  package var path: BytePath
  /// The uuid that its first incarnation would have (D1); nil where it would be a random one.
  package var derived: FileUUID?
  package init(inode: InodeKey, path: BytePath, derived: FileUUID?) {
    self.inode = inode
    self.path = path
    self.derived = derived
  }
}

package struct HostAnswer: Hashable, Sendable {
  /// What the store had committed (`HostJournalStore.number`).
  package var number: UInt64
  /// Each once, in the order of the query; of one inode those that may come back, in the order of the uuids.
  package var files: [StoredFile] = []
  /// Derived uuids that some file has, whatever became of it.
  package var used: Set<FileUUID> = []
  /// Of `ended`: the last file that was examined, if there may be more behind it.
  package var last: FileUUID?
  /// Inodes of which nothing can be told, and why.
  package var unreadable: [InodeKey: String] = [:]
  package init(number: UInt64) { self.number = number }
}

/// A file as the store has it.
package struct StoredFile: Hashable, Sendable {
  package var row: KnownFile
  /// What each server had acknowledged when last noted, in the order in which servers were named.
  package var delivered: [UInt64]
  package init(row: KnownFile, delivered: [UInt64]) {
    self.row = row
    self.delivered = delivered
  }
}

/// What a process begins with: what lives or is owed (K1). Nothing is owed of a file whose end is journaled, but for what
/// a gap says.
package struct HostStart: Hashable, Sendable {
  package var files: [StoredFile]
  package var journal: JournalPosition
  /// `HostJournalStore.number`.
  package var number: UInt64
  /// Records that each server had acknowledged when last noted.
  package var noted: [UInt64]
  /// Where the servers' feeds were when all of that was so (`ServerPosition`).
  package var positions: [FeedPosition?]
  package var gaps: [StandingGap]
  /// Of each server: it is noted to have all files whose end is journaled (`Delivered.ended`).
  package var haveEnded: [Bool]
  /// Servers of which the same is noted and that aren't among those that the host delivers to now: what ends from now on is
  /// owed to them no more.
  package var former: [String]
  package init(
    files: [StoredFile] = [], journal: JournalPosition, number: UInt64 = 0, noted: [UInt64] = [],
    positions: [FeedPosition?] = [], gaps: [StandingGap] = [], haveEnded: [Bool] = [], former: [String] = []
  ) {
    self.haveEnded = haveEnded
    self.former = former
    self.files = files
    self.journal = journal
    self.number = number
    self.noted = noted
    self.positions = positions
    self.gaps = gaps
  }
}

extension HostJournalStore {
  package func start(servers: [String]) throws(StoreError) -> HostStart {
    let length = try length()
    var noted: [UInt64] = []
    var positions: [FeedPosition?] = []
    var haveEnded: [Bool] = []
    for server in servers {
      haveEnded.append(try hasEnded(server))
      noted.append(try delivered(to: server, of: Delivered.journal) ?? 0)
      positions.append(try position(of: server))
    }
    var former: [String] = []
    for server in try notedServers() where !servers.contains(server) {
      if try hasEnded(server) { former.append(server) }
    }
    return HostStart(
      files: try living(servers: servers), journal: JournalPosition(length: length, root: try root(at: length)),
      number: number, noted: noted, positions: positions, gaps: try gaps(), haveEnded: haveEnded, former: former)
  }

  private func hasEnded(_ server: String) throws(StoreError) -> Bool {
    try delivered(to: server, of: Delivered.ended) ?? 0 > 0
  }
}

extension KnownFile {
  /// Nobody journaled its end: it is on the disk, or held open, or looked for.
  package var isLiving: Bool { closed == nil }
  /// The bytes of it that aren't in a gap.
  package var deliverable: UInt64 { min(length, gapFrom ?? length) }
  /// An inode that a scan finds may be this file. One whose last link and writer were seen to go can't come back, nor can
  /// content that another came after.
  package var mayComeBack: Bool { closed == nil || closed == .vanished }
}

/// What answers are read from: one snapshot of a host's store.
package protocol HostSnapshot: ~Copyable {
  var number: UInt64 { get }
  func file(_ file: FileUUID) throws(StoreError) -> KnownFile?
  /// Files that may come back and have this identity, in the order of the uuids.
  func files(having identity: InodeIdentity) throws(StoreError) -> [FileUUID]
  /// Files that may come back, have no usable identity and had this path last, in the order of the uuids.
  func files(lastAt path: BytePath) throws(StoreError) -> [FileUUID]
  func living() throws(StoreError) -> [FileUUID]
  /// At most `count` files behind `file`, or from the first one on, in the order of the uuids.
  func files(after file: FileUUID?, count: Int) throws(StoreError) -> [FileUUID]
  /// The gaps that are recorded and not healed.
  func gaps() throws(StoreError) -> [StandingGap]
  /// Nil where the server had acknowledged nothing, or lost what it had.
  func delivered(to server: String, of file: FileUUID) throws(StoreError) -> UInt64?
}

extension HostSnapshot where Self: ~Copyable {
  package func answer(_ query: HostQuery, servers: [String]) throws(StoreError) -> HostAnswer {
    var answer = HostAnswer(number: number)
    var told: Set<FileUUID> = []
    func tell(_ row: KnownFile) throws(StoreError) {
      guard told.insert(row.file).inserted else { return }
      answer.files.append(StoredFile(row: row, delivered: try notes(of: row.file, servers)))
    }
    switch query {
    case .files(let files):
      for file in files {
        // What is damaged says nothing of others.
        do throws(StoreError) { if let row = try self.file(file) { try tell(row) } } catch {
          guard case .corrupt = error else { throw error }
        }
      }
    case .ended(let after, let server, let count):
      let examined = try files(after: after, count: count)
      var standing: Set<FileUUID>?
      for file in examined {
        do throws(StoreError) {
          guard var row = try self.file(file), row.closed != nil else { continue }
          // A gap that was struck out stays in the row.
          if row.gapFrom != nil {
            if standing == nil { standing = Set(try gaps().compactMap(\.file)) }
            if standing?.contains(file) == false { row.gapFrom = nil }
          }
          if try delivered(to: server, of: file) ?? 0 < row.deliverable { try tell(row) }
        } catch {
          guard case .corrupt = error else { throw error }
        }
      }
      answer.last = examined.count < count ? nil : examined.last
    case .inodes(let inodes):
      for new in inodes {
        do throws(StoreError) {
          for row in try files(of: new) where row.mayComeBack { try tell(row) }
          if let derived = new.derived, try file(derived) != nil { answer.used.insert(derived) }
        } catch {
          guard case .corrupt = error else { throw error }
          answer.unreadable[new.inode] = "\(error)"
        }
      }
    }
    return answer
  }

  package func livingFiles(servers: [String]) throws(StoreError) -> [StoredFile] {
    var files: [StoredFile] = []
    for uuid in try living() {
      guard let row = try file(uuid) else { throw .corrupt("living \(uuid): no such file") }
      files.append(StoredFile(row: row, delivered: try notes(of: uuid, servers)))
    }
    return files
  }

  private func files(of new: NewInode) throws(StoreError) -> [KnownFile] {
    let (inode, isUsable) = (new.inode, new.inode.identity.isUsable)
    let uuids = Set(try files(having: inode.identity) + (isUsable ? [] : files(lastAt: new.path)))
    var files: [KnownFile] = []
    for uuid in uuids.sorted() {
      guard let row = try file(uuid) else { continue }
      let isSame = row.inode.identity == inode.identity && (isUsable || row.inode.filesystem == inode.filesystem)
      let wasThere = !isUsable && !row.inode.identity.isUsable && row.path == new.path
      if isSame || wasThere { files.append(row) }
    }
    return files
  }

  private func notes(of file: FileUUID, _ servers: [String]) throws(StoreError) -> [UInt64] {
    var notes: [UInt64] = []
    for server in servers { notes.append(try delivered(to: server, of: file) ?? 0) }
    return notes
  }
}
