package import JournalModel
package import MerkleLog

/// Names one journal on a server.
package struct HostJournal: Hashable, Sendable, Comparable {
  package var host: HostName
  package var journal: JournalID
  package init(host: HostName, journal: JournalID) {
    self.host = host
    self.journal = journal
  }
  package static func < (l: HostJournal, r: HostJournal) -> Bool { (l.host, l.journal) < (r.host, r.journal) }
}

extension HeldJournal {
  package var key: HostJournal { HostJournal(host: host, journal: journal) }
}

/// What a batch of a server is checked against: the state that its commit would change.
package protocol ServerHoldingsView: ~Copyable {
  func journal(_ key: HostJournal) throws(StoreError) -> HeldJournal?
  func string(_ key: StringKey) throws(StoreError) -> StoredString?
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
  }

  /// Records go on where the held ones end, under the same key, and the row after them is theirs.
  private func checkRecords<H: TreeHasher, View: ServerHoldingsView & ~Copyable>(
    in view: borrowing View, hasher: H.Type
  ) throws(StoreError) where H.Value == Digest {
    var pending: [HostJournal: HeldJournal] = [:]
    for run in records {
      let after = run.after
      try StoreSubject.journal(after.key).refusing { () throws(StoreError) in
        try check(run, &pending, in: view, hasher: hasher)
      }
    }
  }

  private func check<H: TreeHasher, View: ServerHoldingsView & ~Copyable>(
    _ run: RecordRun, _ pending: inout [HostJournal: HeldJournal], in view: borrowing View, hasher: H.Type
  ) throws(StoreError) where H.Value == Digest {
    let after = run.after
    var held = pending[after.key]
    if held == nil { held = try view.journal(after.key) }
    let length = held?.length ?? 0
    guard run.first == length else {
      throw .failed("records of \(after.host) from \(run.first), but \(length) are held")
    }
    if let held, held.publicKey != after.publicKey {
      throw .corrupt("journal of \(after.host) is held under another key")
    }
    var frontier = Frontier<H>(size: length, subtrees: held?.frontier ?? [])
    for record in run.encoded { frontier.append(H.leaf(record.span.bytes)) }
    guard after.length == frontier.size, after.frontier == frontier.subtrees else {
      throw .failed("row of \(after.host)'s journal isn't that of its \(frontier.size) records")
    }
    guard run.encoded.isEmpty ? after.checkpoint == held?.checkpoint : after.isCovered(by: frontier.root) else {
      throw .failed("checkpoint of \(after.host)'s journal doesn't cover its \(frontier.size) records")
    }
    pending[after.key] = after
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

extension HeldJournal {
  fileprivate func isCovered(by root: Digest) -> Bool {
    guard let checkpoint else { return false }
    return checkpoint.signature.count == Checkpoint.signatureByteCount && checkpoint.host == host
      && checkpoint.journal == journal && checkpoint.length == length
      && checkpoint.root == root
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
