import DataPlane
import JournalModel
import JournalStore
import WireProtocol

// Memory follows what lives or is owed (K1). A file whose end is journaled, and that may come back, is a row: an inode that
// is new to a scan may be such a file, and so the store is asked before a listing that shows one is taken. As long as it
// is asked about an inode, no file that the inode may be leaves memory: whoever isn't in memory when an answer comes was
// committed before it was asked for.

/// A listing with inodes that nobody in memory has: it is taken when the store has told of them.
struct HeldListing {
  let listing: Listing
  /// Those that were asked about.
  var asked: Set<InodeKey> = []
  /// Derived uuids that are taken.
  var used: Set<FileUUID> = []
  var unreadable: [InodeKey: String] = [:]
  /// How far it was looked through for new inodes, and whether any was found on the way.
  var position = 0
  var hasFound = false

  init(_ listing: Listing) { self.listing = listing }

  var entries: [DirectoryEntry] {
    if case .entries(let entries, _) = listing.outcome { entries } else { [] }
  }

  /// As it is taken: what the store can't tell of couldn't be examined (D10).
  var readable: Listing {
    guard !unreadable.isEmpty, case .entries(var entries, let filesystem) = listing.outcome else { return listing }
    for index in entries.indices {
      guard let inode = entries[index].facts?.inode, let reason = unreadable[inode] else { continue }
      entries[index].facts = nil
      entries[index].trouble = "the journal: \(reason)"
    }
    var readable = listing
    readable.outcome = .entries(entries, filesystem: filesystem)
    return readable
  }
}

/// What a server says of a file that isn't in memory.
struct Word {
  enum Content {
    case durable(DurablePrefix)
    case refusal(Refusal)
  }
  let server: ServerIndex
  let connection: ConnectionID
  let file: FileUUID
  let content: Content
}

/// What the store is asked.
struct Reading {
  enum Purpose {
    case listing(Directory)
    case words([Word])
    case ended(Delivery, ConnectionID)
  }
  let query: HostQuery
  let purpose: Purpose
  /// Commits that were answered before it was asked: an answer without them is none.
  let atLeast: UInt64
}

extension Follower {
  static let inodesAtOnce = 256
  /// Words about files that are being looked up; what comes beyond is forgotten, as if it had been lost on the way.
  static let mostWords = 4_096
  /// Files that are looked at in one step as to whether they may leave.
  private static let leavingAtOnce = 64

  // MARK: Questions

  /// Asks the store about what is new in the listing, or takes it.
  func goOn(_ directory: Directory, _ turn: inout Turn) {
    guard directory.held != nil else { return }
    let new = directory.isRemoved || isBarred(directory) ? [] : nextNew(in: directory)
    guard new.isEmpty else { return read(.inodes(new), for: .listing(directory), &turn) }
    guard let held = directory.held else { return }
    directory.held = nil
    for inode in held.asked { forgetQuestion(inode) }
    told = held
    take(held.readable, of: directory, &turn)
    told = nil
  }

  /// Looks through the listing until nothing in it is new: what was known when it was looked at may have gone since.
  private func nextNew(in directory: Directory) -> [NewInode] {
    guard var held = directory.held else { return [] }
    directory.held = nil
    defer { directory.held = held }
    let entries = held.entries
    var new: [NewInode] = []
    while new.count < Self.inodesAtOnce {
      guard held.position < entries.count else {
        guard held.hasFound else { break }
        held.hasFound = false
        held.position = 0
        if new.isEmpty { continue } else { break }
      }
      let entry = entries[held.position]
      held.position += 1
      guard let inode = self.new(entry, in: directory), held.asked.insert(inode.inode).inserted else { continue }
      held.hasFound = true
      questions[inode.inode.identity.number, default: 0] += 1
      if !inode.inode.identity.isUsable { questionsByPath += 1 }
      new.append(inode)
    }
    return new
  }

  private func forgetQuestion(_ inode: InodeKey) {
    let number = inode.identity.number
    questions[number] = questions[number].flatMap { $0 > 1 ? $0 - 1 : nil }
    if !inode.identity.isUsable { questionsByPath -= 1 }
  }

  /// An inode that would be born if the store knew nothing of it, as far as can be told before the listing is taken.
  private func new(_ entry: DirectoryEntry, in directory: Directory) -> NewInode? {
    guard let facts = entry.facts, facts.kind == .regular, files[facts.inode] == nil,
      !isOwn(entry, facts, in: directory), directory.canHold(entry.name),
      patterns.isFollowed(entry.name, in: directory.position, isLent: lending(entry, facts, in: directory) != nil)
    else { return nil }
    let (inode, path) = (facts.inode, directory.path.appending(entry.name))
    // As it was left: whatever else the store has, it is this one before all others.
    if inode.identity.isUsable, let first = candidates(for: inode, at: path).first, first.path == path, isFree(first) {
      return nil
    }
    let derived = inode.identity.isUsable ? source.derive(inode.identity) : nil
    return NewInode(inode: inode, path: path, derived: derived)
  }

  func read(_ query: HostQuery, for purpose: Reading.Purpose, _ turn: inout Turn) {
    loads &+= 1
    let id = LoadID(loads)
    readings[id] = Reading(query: query, purpose: purpose, atLeast: journal.number)
    turn.emit(.load(id, query))
  }

  /// Servers spoke of files that aren't in memory.
  func look(into words: [Word], _ turn: inout Turn) {
    let new = words.filter { !files.isGone($0.file) }.prefix(Self.mostWords - min(wordCount, Self.mostWords))
    guard !new.isEmpty else { return }
    wordCount += new.count
    let named = Set(new.map(\.file)).sorted()
    read(.files(named), for: .words(Array(new)), &turn)
  }

  // MARK: Answers

  func loaded(_ id: LoadID, _ answer: HostAnswer, _ turn: inout Turn) {
    guard let reading = readings.removeValue(forKey: id) else { return }
    guard answer.number >= reading.atLeast else { return read(reading.query, for: reading.purpose, &turn) }
    switch reading.purpose {
    case .listing(let directory):
      for file in answer.files { enter(file, asOf: answer.number, &turn) }
      directory.held?.used.formUnion(answer.used)
      directory.held?.unreadable.merge(answer.unreadable) { first, _ in first }
      goOn(directory, &turn)
    case .ended(let delivery, let connection): delivery.endedRead(answer, on: connection)
    case .words(let words):
      wordCount -= words.count
      let rows = Dictionary(answer.files.map { ($0.row.file, $0) }, uniquingKeysWith: { first, _ in first })
      for word in words where deliveries.indices.contains(word.server.value) {
        deliveries[word.server.value].heard(word, rows[word.file], &turn)
        if let stored = rows[word.file] { strikeOutGaps(of: stored) }
      }
    }
  }

  /// Nothing can be told of what was asked about: as if it couldn't be examined. It is looked at again, as such entries
  /// are.
  func unloaded(_ id: LoadID, _ error: StoreError, _ turn: inout Turn) {
    guard let reading = readings.removeValue(forKey: id) else { return }
    switch (reading.purpose, reading.query) {
    case (.listing(let directory), .inodes(let inodes)):
      for new in inodes { directory.held?.unreadable[new.inode] = "\(error)" }
      goOn(directory, &turn)
    case (.words(let words), _): wordCount -= words.count
    // Read again with the next scan.
    case (.ended(let delivery, let connection), _): delivery.endedUnreadable(on: connection)
    case (.listing, .files), (.listing, .ended): break
    }
  }

  /// A row becomes a file again, which nothing has been seen of.
  private func enter(_ stored: StoredFile, asOf number: UInt64, _ turn: inout Turn) {
    let row = stored.row
    guard row.mayComeBack, files[row.file] == nil, !files.isGone(row.file) else { return }
    let file = insert(row)
    for (delivery, noted) in zip(deliveries, stored.delivered) {
      delivery.enter(file, noted: delivery.trusts(number) ? noted : 0, at: turn.now)
    }
    retire(file)
  }

  // MARK: Leaving

  /// Its end is journaled, and nothing of it is at hand: once that is durable it may be a row.
  func retire(_ file: FollowedFile) {
    guard !file.isRetired else { return }
    file.isRetired = true
    retired.append(file.id)
  }

  /// Those that ended first leave, until no more are left than may stay.
  func leave(_ turn: inout Turn) {
    if questions.isEmpty { files.forgetEnded() }
    var rest = min(retired.count, Self.leavingAtOnce)
    while retired.count > max(0, limits.residentFiles), rest > 0, let id = retired.popFirst() {
      rest -= 1
      guard let file = files[id] else { continue }
      guard file.presence == .absent, file.closed == .vanished, file.apart == nil else {
        file.isRetired = false
        continue
      }
      guard mayLeave(file) else {
        retired.append(id)
        continue
      }
      files.leave(file)
      for delivery in deliveries { delivery.forget(file) }
      turn.touch(id)
    }
  }

  /// The store has all of it, nobody waits for it, and no question is open that it may be the answer to. What servers have
  /// of it doesn't matter: else one would decide what another is asked (G3).
  private func mayLeave(_ file: FollowedFile) -> Bool {
    let identity = file.inode.identity
    return file.change == nil && file.commitsAhead == 0 && file.reading == .idle && !file.isProbing && !file.isMissed
      && questions[identity.number] == nil && (identity.isUsable || questionsByPath == 0)
      && !rivals.contains { $0.awaited == file.id }
  }
}
