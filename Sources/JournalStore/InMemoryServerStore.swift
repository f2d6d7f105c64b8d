package import JournalModel
package import MerkleLog
import Synchronization

/// The twin of the LMDB store in memory; see `InMemoryHostStore`.
package final class InMemoryServerStore<H: TreeHasher>: ServerHoldingsStore where H.Value == Digest {
  package struct State: Sendable {
    fileprivate struct Journal: Sendable {
      var row: HeldJournal
      /// Its own.
      var records: [[UInt8]] = []
      var nodes: [UInt64: [Digest]] = [:]
      /// Ordered by length.
      var checkpoints: [Checkpoint] = []
    }
    fileprivate struct Owner: Hashable, Sendable {
      var host: HostName
      var identity: InodeIdentity
    }
    fileprivate struct LatestName: Hashable, Sendable {
      var host: HostName
      var latest: BytePath
    }
    fileprivate struct BornFile: Hashable, Sendable {
      var born: WallTime
      var file: FileUUID
    }
    fileprivate struct LogEntry: Sendable {
      var offset: UInt64
      var bytes: [UInt8]
      var end: UInt64 { offset + UInt64(bytes.count) }
    }
    fileprivate var startMarks: StartMarks?
    fileprivate var journals: [SequenceKey: Journal] = [:]
    fileprivate var strings: [StringKey: StoredString] = [:]
    /// Ordered by length, then root.
    fileprivate var promises: [FileKey: [Promise]] = [:]
    fileprivate struct Leaves: Sendable {
      var first: UInt64
      var hashes: [Digest] = []
    }
    fileprivate var leaves: [StringKey: Leaves] = [:]
    /// Ordered by offset.
    fileprivate var log: [StringKey: [LogEntry]] = [:]
    fileprivate var identities: [Owner: [FileUUID]] = [:]
    fileprivate var names: [Digest: StringKey] = [:]
    fileprivate var unfinished: Set<StringKey> = []
    fileprivate var totals: [HostName: HostTotals] = [:]
    /// Of one host and one name under `latest`, ordered by birth, then uuid.
    fileprivate var paths: [LatestName: [BornFile]] = [:]
    package fileprivate(set) var number: UInt64 = 0
    fileprivate var changeFeed = Feed()
    /// Ordered by number.
    fileprivate var changes: [(number: UInt64, subject: ChangedSubject)] = []
    fileprivate var changeNumbers: [ChangedSubject: UInt64] = [:]
    /// By the bytes of their names: some texts are equal that aren't.
    fileprivate var cursors: [[UInt8]: FeedCursor] = [:]
    fileprivate var digest: HoldingsDigest?
    fileprivate var trie: [TriePrefix: [Digest]] = [:]
    /// Ordered by position.
    fileprivate var trieLeaves: [TrieLeaf] = []
    package init() {}
  }

  private struct Guarded: Sendable {
    var state: State
    var fault = FaultPoint()
    var life: UUIDBytes?
  }
  private let guarded: Mutex<Guarded>

  package init(state: State = State()) { guarded = Mutex(Guarded(state: state)) }

  package func snapshot() -> State { guarded.withLock { $0.state } }

  /// See `FaultPoint`.
  package func failNextCommit(with error: StoreError?, isApplied: Bool = false) {
    guarded.withLock { $0.fault.failNext(with: error, isApplied: isApplied) }
  }

  package func startMarks() throws(StoreError) -> StartMarks? { guarded.withLock { $0.state.startMarks } }

  package func setStartMarks(_ marks: StartMarks) throws(StoreError) {
    try guarded.withLock { (guarded: inout Guarded) throws(StoreError) in
      try guarded.fault.checkUsable()
      try guarded.fault.commit {
        guarded.state.startMarks = marks
        _ = guarded.state.changeFeed.begin(marks.present.life)
        guarded.state.number += 1
      }
    }
  }

  package func begin(_ life: UUIDBytes) { guarded.withLock { $0.life = life } }

  package func feed() throws(StoreError) -> Feed { snapshot().feed() }

  package func cursor(of peer: String) throws(StoreError) -> FeedCursor? {
    guarded.withLock { $0.state.cursors[Array(peer.utf8)] }
  }

  package func journals() throws(StoreError) -> [HeldJournal] {
    guarded.withLock { $0.state.journals.values.map(\.row).sorted { $0.key < $1.key } }
  }

  package func strings() throws(StoreError) -> [StoredString] {
    guarded.withLock { $0.state.strings.values.sorted { $0.key < $1.key } }
  }

  package func promises() throws(StoreError) -> [Promise] {
    guarded.withLock { guarded in
      guarded.state.promises.sorted { $0.key < $1.key }.flatMap(\.value)
    }
  }

  package func unfinished() throws(StoreError) -> [StringKey] { guarded.withLock { $0.state.unfinished.sorted() } }

  package func logRanges() throws(StoreError) -> [LogRange] {
    guarded.withLock { guarded in
      guarded.state.log.sorted { $0.key < $1.key }.flatMap { key, entries in
        entries.map { LogRange(key: key, offset: $0.offset, length: $0.bytes.count) }
      }
    }
  }

  package func logRanges(of key: StringKey) throws(StoreError) -> [LogRange] {
    guarded.withLock { guarded in
      (guarded.state.log[key] ?? []).map { LogRange(key: key, offset: $0.offset, length: $0.bytes.count) }
    }
  }

  package var number: UInt64 { guarded.withLock { $0.state.number } }

  package func answer(_ query: StoreQuery) throws(StoreError) -> StoreAnswer {
    try snapshot().answer(query, hasher: H.self)
  }

  package func newest(host: HostName, latest: BytePath) throws(StoreError) -> StoredString? {
    guarded.withLock { guarded in
      let newest = guarded.state.paths[State.LatestName(host: host, latest: latest)]?.last
      return newest.flatMap { guarded.state.strings[FileKey(host: host, file: $0.file).first] }
    }
  }

  package func logPayload(of key: StringKey, offset: UInt64) throws(StoreError) -> [UInt8] {
    try guarded.withLock { (guarded: inout Guarded) throws(StoreError) in
      guard let bytes = guarded.state.heldPayload(of: key, at: offset) else { throw .outOfRange }
      return bytes
    }
  }

  package func totals() throws(StoreError) -> [HostName: HostTotals] {
    guarded.withLock { $0.state.totals.filter { $0.value != HostTotals() } }
  }

  @discardableResult
  package func commit(_ batch: ServerBatch) throws(StoreError) -> ServerCommitted {
    try guarded.withLock { (guarded: inout Guarded) throws(StoreError) in
      try guarded.fault.checkUsable()
      try batch.check(in: guarded.state, hasher: H.self)
      var hasChanged = false
      try guarded.fault.commit { () throws(StoreError) in
        hasChanged = guarded.state.apply(batch, in: guarded.life)
        if batch.foldsAnew { guarded.state.forgetTrie() }
        if batch.folded > 0 { try guarded.state.follow(batch.folded, H.self) }
      }
      return ServerCommitted(
        totals: guarded.state.totals.filter { $0.value != HostTotals() && batch.hosts.contains($0.key) },
        position: hasChanged ? guarded.state.changeFeed.position : nil)
    }
  }

  package func records(
    of key: SequenceKey, from first: UInt64, count: Int, bytes: Int
  ) throws(StoreError) -> [[UInt8]] {
    try snapshot().records(of: key, from: first, count: count, bytes: bytes)
  }

  package func checkpoint(of key: SequenceKey, beyond length: UInt64) throws(StoreError) -> Checkpoint? {
    try snapshot().checkpoint(of: key, beyond: length)
  }

  package func leaves(of key: StringKey, count: UInt64) throws(StoreError) -> [Digest] {
    try guarded.withLock { (guarded: inout Guarded) throws(StoreError) in
      try guarded.state.leaves(of: key, count: count)
    }
  }

  package func files(host: HostName, identity: InodeIdentity) throws(StoreError) -> [FileUUID] {
    guarded.withLock { $0.state.identities[State.Owner(host: host, identity: identity)] ?? [] }
  }
}

extension InMemoryServerStore.State {
  fileprivate func leaves(of key: StringKey, count: UInt64) throws(StoreError) -> [Digest] {
    let own = leaves[key]
    guard let base = strings[key]?.base else { return try firstLeaves(own?.hashes ?? [], count: count) }
    let shared = min(count, own?.first ?? count)
    return try leaves(of: base, count: shared) + firstLeaves(own?.hashes ?? [], count: count - shared)
  }
}

extension InMemoryServerStore.State: StoreSnapshot {
  package func promises(of key: FileKey, beyond length: UInt64, count: Int) -> PromisePage {
    var page = PromisePage()
    let all = promises[key] ?? []
    for promise in all[all.partitionPoint { $0.length > length }...] where !page.add(promise, upTo: count) { break }
    return page
  }

  package func branches(of key: FileKey) -> [StoredString] {
    strings.values.filter { $0.key.key == key && $0.key.string > 0 }.sorted { $0.key < $1.key }
  }

  package func greatestPromise(of key: FileKey) -> UInt64? { promises[key]?.last?.length }

  package func keys(after key: FileKey?, count: Int) -> [FileKey] {
    let behind = strings.keys.lazy.filter { $0.string == 0 }.map(\.key).filter { next in key.map { $0 < next } ?? true }
    return Array(behind.sorted().prefix(count))
  }
}

extension InMemoryServerStore.State {
  package func sequences(of journal: HostJournal) -> [HeldJournal] {
    journals.values.map(\.row).filter { $0.key.journal == journal }.sorted { $0.key < $1.key }
  }

  package func ownRecords(of key: SequenceKey, from first: UInt64, count: Int, bytes: Int) -> [[UInt8]] {
    guard let journal = journals[key], first >= journal.row.start else { return [] }
    return page(of: journal.records, from: first - journal.row.start, count: count, bytes: bytes)
  }

  package func ownNodes(of key: SequenceKey, at number: UInt64) -> [Digest]? { journals[key]?.nodes[number] }

  package func ownCheckpoint(of key: SequenceKey, upTo length: UInt64) -> Checkpoint? {
    journals[key]?.checkpoints.last { $0.length <= length }
  }

  package func ownCheckpoint(of key: SequenceKey, beyond length: UInt64) -> Checkpoint? {
    journals[key]?.checkpoints.first { $0.length > length }
  }
}

extension InMemoryServerStore.State {
  package func feed() -> Feed { changeFeed }

  package func changed(after number: UInt64, count: Int) -> [(number: UInt64, subject: ChangedSubject)] {
    Array(changes[changes.partitionPoint { $0.number > number }...].prefix(max(0, count)))
  }

  package func changeNumber(of subject: ChangedSubject) -> UInt64? {
    let isHeld =
      switch subject {
      case .journal(let journal): journals[SequenceKey(journal: journal)] != nil
      case .file(let key): strings[key.first] != nil
      }
    return isHeld ? changeNumbers[subject] ?? 0 : nil
  }

  /// Moves it to the end of the feed.
  fileprivate mutating func note(_ subject: ChangedSubject) {
    if let old = changeNumbers[subject] { changes.remove(at: changes.partitionPoint { $0.number >= old }) }
    changeFeed.last += 1
    changes.append((number: changeFeed.last, subject: subject))
    changeNumbers[subject] = changeFeed.last
  }
}

extension InMemoryServerStore.State {
  package func trieDigest() -> HoldingsDigest? { digest }
  package func trieChildren(of prefix: TriePrefix) -> [Digest]? { trie[prefix] }

  package func trieLeaves(under prefix: TriePrefix, count: Int) -> [TrieLeaf] {
    let first = Digest(
      words: UInt64(truncatingIfNeeded: prefix.bits >> 64), UInt64(truncatingIfNeeded: prefix.bits), 0, 0)
    let index = trieLeaves.partitionPoint { $0.position >= first }
    return Array(trieLeaves[index...].prefix(count).prefix { prefix.contains($0.position) })
  }

  fileprivate mutating func forgetTrie() {
    digest = nil
    trie = [:]
    trieLeaves = []
  }

  fileprivate mutating func follow<Hasher: TreeHasher>(
    _ count: Int, _: Hasher.Type
  ) throws(StoreError) where Hasher.Value == Digest {
    guard let fold = try trieFold(count, Hasher.self) else { return }
    for leaf in fold.leaves {
      let index = trieLeaves.partitionPoint { $0.position >= leaf.position }
      if index < trieLeaves.count, trieLeaves[index].position == leaf.position {
        trieLeaves[index] = leaf
      } else {
        trieLeaves.insert(leaf, at: index)
      }
    }
    trie.merge(fold.inner) { $1 }
    digest = fold.digest
  }
}

extension InMemoryServerStore.State: ServerHoldingsView {
  package func journal(_ key: SequenceKey) -> HeldJournal? { journals[key]?.row }
  package func string(_ key: StringKey) -> StoredString? { strings[key] }
  package func isUnfinished(_ key: StringKey) -> Bool { unfinished.contains(key) }
  package func owner(ofName digest: Digest) -> StringKey? { names[digest] }
  package func hasLeaves(of key: StringKey) -> Bool { leaves[key] != nil }

  package func leaf(of key: StringKey, at index: UInt64) -> Digest? {
    leaves[key].flatMap { index < $0.first ? nil : $0.hashes.element(at: index - $0.first) }
  }

  package func heldPayload(of key: StringKey, at offset: UInt64) -> [UInt8]? {
    guard let entries = log[key] else { return nil }
    let index = entries.partitionPoint { $0.offset >= offset }
    return index < entries.count && entries[index].offset == offset ? entries[index].bytes : nil
  }

  /// Whether the feed has changed.
  fileprivate mutating func apply(_ batch: ServerBatch, in life: UUIDBytes?) -> Bool {
    let changed = batch.changes { strings[$0]?.committed ?? 0 }
    if let life, !changed.isEmpty { _ = changeFeed.begin(life) }
    for change in changed { note(change.subject) }
    for cursor in batch.cursors { cursors[Array(cursor.peer.utf8)] = cursor.cursor }
    for run in batch.records { append(run) }
    for row in batch.strings { put(row) }
    for promise in batch.promises { put(promise) }
    for promise in batch.met { remove(promise) }
    for range in batch.leaves {
      let first = leaves[range.key]?.first ?? range.first
      leaves[range.key, default: Leaves(first: first)].hashes.extend(from: range.first - first, with: range.hashes)
    }
    for payload in batch.log where !payload.bytes.isEmpty { put(payload) }
    for trim in batch.trims { self.trim(trim) }
    for file in batch.named {
      let born = BornFile(born: file.born, file: file.key.file)
      paths[LatestName(host: file.key.host, latest: file.latest), default: []].insert(born) {
        ($0.born, $0.file) >= (born.born, born.file)
      }
    }
    number += 1
    unfinished.formUnion(batch.unfinished)
    unfinished.subtract(batch.finished)
    return !changed.isEmpty
  }

  private mutating func append(_ run: ServerBatch.RecordRun) {
    let key = run.after.key
    if journals[key] == nil { journals[key] = Journal(row: run.after) }
    journals[key]?.row = run.after
    journals[key]?.records.append(contentsOf: run.encoded)
    for nodes in run.nodes { journals[key]?.nodes[nodes.number] = nodes.subtrees }
    journals[key]?.checkpoints.append(contentsOf: run.checkpoints)
    totals[run.after.host, default: HostTotals()].count(run)
  }

  private mutating func put(_ row: StoredString) {
    let old = strings.updateValue(row, forKey: row.key)
    if let old, old.stored != row.stored { names[old.nameDigest(H.self)] = nil }
    names[row.nameDigest(H.self)] = row.key
    totals[row.key.key.host, default: HostTotals()].count(row, insteadOf: old)
    let owner = Owner(host: row.key.key.host, identity: row.identity)
    let file = row.key.key.file
    identities[owner, default: []].insert(file) { $0 >= file }
  }

  private mutating func put(_ promise: Promise) {
    let all = promises[promise.key] ?? []
    let first = all.partitionPoint { $0.length >= promise.length }
    guard all[first...].prefix(while: { $0.length == promise.length }).count < Promise.mostRoots else { return }
    let isNew = promises[promise.key, default: []].insert(promise) {
      ($0.length, $0.root) >= (promise.length, promise.root)
    }
    if isNew { totals[promise.key.host, default: HostTotals()].promises += 1 }
  }

  private mutating func remove(_ promise: Promise) {
    guard let position = promises[promise.key]?.firstIndex(of: promise) else { return }
    promises[promise.key]?.remove(at: position)
    totals[promise.key.host]?.countMet()
    if promises[promise.key]?.isEmpty == true { promises[promise.key] = nil }
  }

  private mutating func put(_ payload: ServerBatch.LogPayload) {
    guard heldPayload(of: payload.key, at: payload.offset) == nil else { return }
    log[payload.key, default: []].append(LogEntry(offset: payload.offset, bytes: payload.bytes))
  }

  private mutating func trim(_ trim: ServerBatch.Trim) {
    log[trim.key]?.removeAll { $0.end <= trim.below }
    if log[trim.key]?.isEmpty == true { log[trim.key] = nil }
  }
}

extension Array {
  /// The index of the first element for which `isAfter` holds; elements for which it does come last.
  fileprivate func partitionPoint(_ isAfter: (Element) -> Bool) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if isAfter(self[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}

extension Array where Element: Equatable {
  /// Puts the element where `isNotBefore` begins to hold; false if an equal one is there.
  @discardableResult
  fileprivate mutating func insert(_ element: Element, where isNotBefore: (Element) -> Bool) -> Bool {
    let index = partitionPoint(isNotBefore)
    let isNew = index == count || self[index] != element
    if isNew { insert(element, at: index) }
    return isNew
  }
}
