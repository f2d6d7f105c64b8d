package import JournalModel
package import MerkleLog

/// What a batch of a server is checked against: the state that its commit would change.
package protocol ServerHoldingsView: StoreSnapshot, ~Copyable {
  /// Whose plain file has the name with this digest.
  func owner(ofName digest: Digest) throws(StoreError) -> StringKey?
  func leaf(of key: StringKey, at index: UInt64) throws(StoreError) -> Digest?
  /// Of its own.
  func hasLeaves(of key: StringKey) throws(StoreError) -> Bool
  /// The log's payload that begins exactly at `offset`.
  func heldPayload(of key: StringKey, at offset: UInt64) throws(StoreError) -> [UInt8]?
}

extension ServerBatch {
  /// The guard that every server store applies before it changes anything: storage is the last to hold G2 and G5,
  /// whatever the core believes.
  ///
  /// `.failed`: the batch doesn't continue what is held. `.corrupt`: it contradicts what is held. `.alreadyExists`, of a
  /// string: another one has the name that its plain file is to have.
  package func check<H: TreeHasher, View: ServerHoldingsView & ~Copyable>(
    in view: borrowing View, hasher: H.Type
  ) throws(StoreError) where H.Value == Digest {
    try checkRecords(in: view, hasher: hasher)
    try checkStrings(in: view)
    try checkNames(in: view, hasher: hasher)
    try checkLeaves(in: view)
    try checkTrims(in: view)
    try checkUnfinished(in: view)
    try checkNamed(in: view)
    try checkCursors()
  }

  /// Records go on where the held ones end, under the same key, and the row after them is theirs.
  private func checkRecords<H: TreeHasher, View: ServerHoldingsView & ~Copyable>(
    in view: borrowing View, hasher: H.Type
  ) throws(StoreError) where H.Value == Digest {
    var pending: [SequenceKey: HeldJournal] = [:]
    for run in records {
      try StoreSubject.journal(run.after.key).refusing { () throws(StoreError) in
        var held = pending[run.after.key]
        if held == nil { held = try view.journal(run.after.key) }
        if held == nil { held = try begin(run, in: view, hasher: hasher) }
        try run.check(after: held, hasher: hasher)
        pending[run.after.key] = run.after
      }
    }
  }

  /// What a new sequence goes on from: nothing, or as many records as another one has, of which the next differs.
  private func begin<H: TreeHasher, View: ServerHoldingsView & ~Copyable>(
    _ run: RecordRun, in view: borrowing View, hasher: H.Type
  ) throws(StoreError) -> HeldJournal? where H.Value == Digest {
    var row = run.after
    guard let fork = row.fork else {
      if row.key.sequence > 0 { throw .failed("sequence \(row.key.sequence) of \(row.host) leaves none") }
      return nil
    }
    let key = SequenceKey(journal: row.key.journal, sequence: fork.base)
    guard fork.base < row.key.sequence, let base = try view.journal(key), base.publicKey == row.publicKey,
      base.start <= fork.start, fork.start < base.length
    else { throw .failed("a sequence of \(row.host) leaves sequence \(fork.base) where that has no record") }
    guard try view.records(of: key, from: fork.start, count: 1, bytes: 1) != Array(run.encoded.prefix(1)) else {
      throw .failed("a sequence of \(row.host) leaves sequence \(fork.base) with the same record \(fork.start)")
    }
    row.length = fork.start
    row.frontier = try view.frontier(of: key, at: fork.start, hasher: hasher).subtrees
    row.checkpoint = nil
    row.kept.length = min(row.kept.length, fork.start)
    return row
  }

  /// Strings grow only, keep their root and plain file, and every byte that becomes committed is in this batch's log
  /// payload or in the plain file, synced (G2, P2).
  private func checkStrings<View: ServerHoldingsView & ~Copyable>(in view: borrowing View) throws(StoreError) {
    var rows: [StringKey: StoredString] = [:]
    var ends: [StringKey: UInt64] = [:]
    for row in strings { rows[row.key] = row }
    for payload in log where !payload.bytes.isEmpty {
      try StoreSubject.string(payload.key).refusing { () throws(StoreError) in
        let old = try view.string(payload.key)
        guard let row = rows[payload.key] ?? old else { throw .failed("log payload of an unknown \(payload.key)") }
        if let held = try view.heldPayload(of: payload.key, at: payload.offset) {
          guard held == payload.bytes else {
            throw .corrupt("log payload of \(payload.key) at \(payload.offset) differs from the stored one")
          }
          return
        }
        let start = ends[payload.key] ?? Self.logStart(of: row, after: old)
        guard payload.offset == start else {
          throw .failed("log payload of \(payload.key) at \(payload.offset) instead of \(start)")
        }
        ends[payload.key] = payload.offset + UInt64(payload.bytes.count)
      }
    }
    for row in strings {
      try StoreSubject.string(row.key).refusing { () throws(StoreError) in
        let old = try view.string(row.key)
        if let old { try row.checkContinues(old) }
        guard row.path.isStorable, row.stored.isStorable else {
          throw .failed("\(row.key) has a path that can't be stored")
        }
        guard row.isMade || row.committed == row.start else {
          throw .failed("\(row.key) commits bytes without a plain file")
        }
        guard row.synced <= row.committed else { throw .failed("\(row.key) is synced beyond its committed length") }
        try checkBranch(row, base: row.base.flatMap { rows[$0] }, in: view)
      }
    }
    for payload in log {
      guard let end = ends[payload.key] else { continue }
      try StoreSubject.string(payload.key).refusing { () throws(StoreError) in
        var row = rows[payload.key]
        if row == nil { row = try view.string(payload.key) }
        guard row?.committed == end else {
          throw .failed("log payload of \(payload.key) ends at \(end), not at its committed length")
        }
      }
    }
    for row in strings where ends[row.key] == nil {
      try StoreSubject.string(row.key).refusing { () throws(StoreError) in
        let start = Self.logStart(of: row, after: try view.string(row.key))
        guard row.committed <= start else {
          throw .failed("\(row.key) commits bytes that are neither logged nor synced")
        }
      }
    }
  }

  private static func logStart(of row: StoredString, after old: StoredString?) -> UInt64 {
    max(old?.committed ?? row.start, row.synced)
  }

  /// Strings above 0, and only they, leave an older one somewhere, where it has other bytes: what lies below is its.
  private func checkBranch<View: ServerHoldingsView & ~Copyable>(
    _ row: StoredString, base: StoredString?, in view: borrowing View
  ) throws(StoreError) {
    guard let branch = row.branch, let key = row.base else {
      if row.key.string > 0 { throw .failed("\(row.key) leaves no string") }
      return
    }
    guard branch.base < row.key.string else { throw .failed("\(row.key) leaves string \(branch.base)") }
    guard branch.start <= branch.divergence, row.synced >= branch.start else {
      throw .failed("\(row.key) has bytes before its start at \(branch.start)")
    }
    var base = base
    if base == nil { base = try view.string(key) }
    guard let base, branch.divergence < base.committed, base.start <= branch.start else {
      throw .failed("\(row.key) leaves string \(branch.base) at \(branch.divergence), which that doesn't have")
    }
  }

  /// No two strings share a plain file: their bytes would be written over one another (K5).
  private func checkNames<H: TreeHasher, View: ServerHoldingsView & ~Copyable>(
    in view: borrowing View, hasher: H.Type
  ) throws(StoreError) where H.Value == Digest {
    var claimed: [Digest: StringKey] = [:]
    for row in strings where try view.string(row.key)?.stored != row.stored {
      let name = row.nameDigest(hasher)
      var owner = claimed[name]
      if owner == nil { owner = try view.owner(ofName: name) }
      guard owner == nil || owner == row.key else { throw .refused(.string(row.key), .alreadyExists) }
      claimed[name] = row.key
    }
  }

  private func checkLeaves<View: ServerHoldingsView & ~Copyable>(in view: borrowing View) throws(StoreError) {
    var pending = PendingLeaves<StringKey>()
    for range in leaves {
      try StoreSubject.string(range.key).refusing { () throws(StoreError) in
        let before = try leafBefore(range, in: view)
        for (position, hash) in range.hashes.enumerated() {
          let index = range.first + UInt64(position)
          let previous = position == 0 ? before : try view.leaf(of: range.key, at: index - 1)
          try pending.add(
            hash, to: range.key, at: index, held: try view.leaf(of: range.key, at: index), hasPrevious: previous != nil)
        }
      }
    }
  }

  /// What its first leaf follows: another one, or nothing. The first one of a branch follows one of its base.
  private func leafBefore<View: ServerHoldingsView & ~Copyable>(
    _ range: Leaves, in view: borrowing View
  ) throws(StoreError) -> Digest? {
    let begins = range.key.string == 0 ? true : try !view.hasLeaves(of: range.key)
    if range.first == 0 { return begins ? range.hashes.first : nil }
    var key = range.key
    if begins, key.string > 0 {
      var row = strings.last { $0.key == key }
      if row == nil { row = try view.string(key) }
      guard let base = row?.base else { return nil }
      key = base
    }
    // A base may have its own from further on: then its base has it.
    while true {
      if let leaf = try view.leaf(of: key, at: range.first - 1) { return leaf }
      guard key != range.key, let base = try view.string(key)?.base else { return nil }
      key = base
    }
  }

  /// What is to be looked at by the next start has a row that says where.
  private func checkUnfinished<View: ServerHoldingsView & ~Copyable>(in view: borrowing View) throws(StoreError) {
    for key in unfinished where !strings.contains(where: { $0.key == key }) {
      guard try view.string(key) != nil else { throw .failed("unfinished bytes of an unknown \(key)") }
    }
  }

  /// A link leads to a plain file that is made.
  private func checkNamed<View: ServerHoldingsView & ~Copyable>(in view: borrowing View) throws(StoreError) {
    guard !named.isEmpty else { return }
    let made = Set(strings.lazy.filter(\.isMade).map(\.key))
    for file in named where !made.contains(file.key.first) {
      guard try view.string(file.key.first)?.isMade == true else {
        throw .refused(.string(file.key.first), .failed("it has a name under latest, and no plain file"))
      }
    }
  }

  /// Nothing leaves the log that isn't synced in its plain file (G2).
  private func checkTrims<View: ServerHoldingsView & ~Copyable>(in view: borrowing View) throws(StoreError) {
    guard !trims.isEmpty else { return }
    var rows: [StringKey: StoredString] = [:]
    for row in strings { rows[row.key] = row }
    for trim in trims {
      try StoreSubject.string(trim.key).refusing { () throws(StoreError) in
        var row = rows[trim.key]
        if row == nil { row = try view.string(trim.key) }
        guard let row, trim.below <= row.synced else {
          throw .failed("log of \(trim.key) trimmed below \(trim.below), beyond what is synced")
        }
      }
    }
  }
}

extension ServerBatch.RecordRun {
  /// Its records go on where the held ones end, under the same key; what is said of them is so.
  fileprivate func check<H: TreeHasher>(
    after held: HeldJournal?, hasher: H.Type
  ) throws(StoreError) where H.Value == Digest {
    let length = held?.length ?? 0
    guard first == length else { throw .failed("records of \(after.host) from \(first), but \(length) are held") }
    if let held, held.publicKey != after.publicKey {
      throw .corrupt("journal of \(after.host) is held under another key")
    }
    guard held.map({ $0.fork == after.fork }) ?? (after.fork == nil) else {
      throw .failed("a sequence of \(after.host) would leave another one elsewhere")
    }
    var roots: [UInt64: Digest] = [:]
    var (frontier, completed) = (Frontier<H>(size: length, subtrees: held?.frontier ?? []), [JournalNodes]())
    let signed = Set(checkpoints.map(\.length))
    if signed.contains(length) { roots[length] = frontier.root }
    for record in encoded {
      if let nodes = frontier.append(record: record) { completed.append(nodes) }
      if signed.contains(frontier.size) { roots[frontier.size] = frontier.root }
    }
    guard after.length == frontier.size, after.frontier == frontier.subtrees, nodes == completed else {
      throw .failed("row of \(after.host)'s journal isn't that of its \(frontier.size) records")
    }
    guard encoded.isEmpty ? after.checkpoint == held?.checkpoint : after.isCovered(by: frontier.root) else {
      throw .failed("checkpoint of \(after.host)'s journal doesn't cover its \(frontier.size) records")
    }
    var last = held?.kept.length ?? 0
    for checkpoint in checkpoints {
      guard checkpoint.length > last, let root = roots[checkpoint.length], after.isCovered(by: root, checkpoint) else {
        throw .failed("a checkpoint of \(after.host)'s journal over \(checkpoint.length) records isn't one of them")
      }
      last = checkpoint.length
    }
    guard after.kept.length == last else {
      throw .failed("the last checkpoint of \(after.host)'s journal that stays is at \(last)")
    }
  }
}

extension Frontier where H.Value == Digest {
  /// Appends a journal's record. Returns what of it is kept in a row.
  package mutating func append(record: [UInt8]) -> JournalNodes? {
    var subtrees: [Digest] = []
    append(H.leaf(record.span.bytes)) { address, root in
      if address.level >= JournalNodes.leastLevel { subtrees.append(root) }
    }
    return subtrees.isEmpty ? nil : JournalNodes(number: size - 1, subtrees: subtrees)
  }
}

extension HeldJournal {
  fileprivate func isCovered(by root: Digest) -> Bool {
    guard let checkpoint, checkpoint.length == length else { return false }
    return isCovered(by: root, checkpoint)
  }

  fileprivate func isCovered(by root: Digest, _ checkpoint: Checkpoint) -> Bool {
    checkpoint.signature.count == Checkpoint.signatureByteCount && checkpoint.host == host
      && checkpoint.journal == journal && checkpoint.root == root
  }
}

extension StoredString {
  fileprivate func checkContinues(_ old: StoredString) throws(StoreError) {
    guard committed >= old.committed else {
      throw .failed("\(key) would shrink from \(old.committed) to \(committed)")
    }
    guard committed > old.committed || root == old.root else {
      throw .corrupt("\(key) has another root at its committed length \(committed)")
    }
    guard !old.isMade || isMade && stored == old.stored else { throw .failed("\(key) would change its plain file") }
    guard branch == old.branch else { throw .failed("\(key) would leave its base elsewhere") }
  }

  /// The key of the plain file's name in the table of names: SHA-256 in a real store.
  package func nameDigest<H: TreeHasher>(_ hasher: H.Type) -> Digest where H.Value == Digest {
    H.digest(stored.bytes.span.bytes)
  }
}
