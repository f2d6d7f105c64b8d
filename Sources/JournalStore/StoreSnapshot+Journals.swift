package import JournalModel
package import MerkleLog

// Sequences of a journal share their beginnings by reference (M1): what lies below a sequence's start is read in the one
// that it leaves. Of its tree a store has the greater perfect subtrees, the smaller ones follow from the records.

extension StoreSnapshot where Self: ~Copyable {
  /// A record may have a mebibyte.
  private static var bytesAtOnce: Int { 1 << 20 }

  /// Which sequences have the records of this one, in the records' order.
  private func parts(of key: SequenceKey) throws(StoreError) -> [(key: SequenceKey, numbers: Range<UInt64>)] {
    var parts: [(key: SequenceKey, numbers: Range<UInt64>)] = []
    var (key, end) = (key, UInt64.max)
    while let row = try journal(key) {
      end = min(end, row.length)
      if row.start < end { parts.append((key, row.start..<end)) }
      guard let fork = row.fork else { return parts.reversed() }
      guard fork.base < key.sequence else { throw .corrupt("sequence \(key.sequence) leaves \(fork.base)") }
      key.sequence = fork.base
      end = min(end, fork.start)
    }
    guard parts.isEmpty else { throw .corrupt("sequence \(key.sequence) of \(key.journal.host)'s journal is missing") }
    return []
  }

  package func records(
    of key: SequenceKey, from first: UInt64, count: Int, bytes: Int
  ) throws(StoreError) -> [[UInt8]] {
    var page: [[UInt8]] = []
    var size = 0
    for part in try parts(of: key) where part.numbers.upperBound > first && page.count < count && size < bytes {
      let next = max(first, part.numbers.lowerBound)
      let most = Int(clamping: part.numbers.upperBound - next)
      let records = try ownRecords(
        of: part.key, from: next, count: min(count - page.count, most), bytes: bytes - size)
      page += records
      size += records.reduce(0) { $0 + $1.count }
      // The rest of a part comes before the next one.
      if records.count < most { break }
    }
    return page
  }

  /// The frontier of the first `length` records of a sequence that has as many.
  package func frontier<H: TreeHasher>(
    of key: SequenceKey, at length: UInt64, hasher: H.Type
  ) throws(StoreError) -> Frontier<H> where H.Value == Digest {
    let parts = try parts(of: key)
    guard length <= parts.last?.numbers.upperBound ?? 0 else { throw .outOfRange }
    let whole = length - length % (1 << UInt64(JournalNodes.leastLevel))
    var frontier = try Frontier<H>.at(size: whole) { (address) throws(StoreError) in
      let number = (address.index + 1) << address.level - 1
      guard let part = parts.first(where: { $0.numbers.contains(number) }),
        let nodes = try ownNodes(of: part.key, at: number)?.element(at: UInt64(address.level - JournalNodes.leastLevel))
      else { throw .corrupt("nodes of \(key.journal.host)'s journal at record \(number) are missing") }
      return nodes
    }
    try append(to: &frontier, of: key, upTo: length)
    return frontier
  }

  private func append<H: TreeHasher>(
    to frontier: inout Frontier<H>, of key: SequenceKey, upTo length: UInt64
  ) throws(StoreError) where H.Value == Digest {
    try visit(frontier.size..<max(frontier.size, length), of: key) { frontier.append(H.leaf($0.span.bytes)) }
  }

  /// A page at a time.
  private func visit(
    _ numbers: Range<UInt64>, of key: SequenceKey, _ body: ([UInt8]) -> Void
  ) throws(StoreError) {
    var next = numbers.lowerBound
    while next < numbers.upperBound {
      let page = try records(
        of: key, from: next, count: Int(clamping: numbers.upperBound - next), bytes: Self.bytesAtOnce)
      guard !page.isEmpty else { throw .corrupt("record \(next) of \(key.journal.host)'s journal is missing") }
      for record in page { body(record) }
      next += UInt64(page.count)
    }
  }

  func heads<H: TreeHasher>(
    of journal: HostJournal, upTo most: UInt64, hasher: H.Type
  ) throws(StoreError) -> [TreeHead] where H.Value == Digest {
    var heads: Set<TreeHead> = []
    for row in try sequences(of: journal) {
      let end = min(row.length, most)
      let start = min(row.start, end)
      var lengths: Set<UInt64> = [start, end]
      var distance: UInt64 = 1
      while distance < end - start {
        lengths.insert(max(start, Self.cheap(end - distance, distance)))
        distance *= 2
      }
      try add(lengths.sorted(), of: row.key, to: &heads, hasher: hasher)
    }
    return heads.sorted { ($0.length, $0.root) < ($1.length, $1.root) }
  }

  /// Farther away a length for which the nodes suffice is as good.
  private static func cheap(_ length: UInt64, _ distance: UInt64) -> UInt64 {
    let nodes: UInt64 = 1 << UInt64(JournalNodes.leastLevel)
    return distance < nodes ? length : length - length % nodes
  }

  /// Lengths that lie close to one another are hashed in one pass.
  private func add<H: TreeHasher>(
    _ lengths: [UInt64], of key: SequenceKey, to heads: inout Set<TreeHead>, hasher: H.Type
  ) throws(StoreError) where H.Value == Digest {
    var frontier = Frontier<H>()
    for length in lengths where length > 0 {
      if length - frontier.size >= 1 << UInt64(JournalNodes.leastLevel) {
        frontier = try self.frontier(of: key, at: length, hasher: hasher)
      } else {
        try append(to: &frontier, of: key, upTo: length)
      }
      heads.insert(TreeHead(length: length, root: frontier.root))
    }
  }

  /// Each beginning once, as that of the least sequence that has it.
  func beginnings<H: TreeHasher>(
    of journal: HostJournal, length: UInt64, hasher: H.Type
  ) throws(StoreError) -> [JournalBeginning] where H.Value == Digest {
    var beginnings: [JournalBeginning] = []
    // One that begins there has what its base has.
    for row in try sequences(of: journal)
    where row.length >= length && (row.start < length || row.key.sequence == 0) {
      let frontier = try frontier(of: row.key, at: length, hasher: hasher)
      guard !beginnings.contains(where: { $0.frontier == frontier.subtrees }) else { continue }
      beginnings.append(
        JournalBeginning(
          sequence: row.key.sequence, length: length, frontier: frontier.subtrees,
          kept: try keptCheckpoint(of: row.key, upTo: length)))
    }
    return beginnings
  }

  private func keptCheckpoint(of key: SequenceKey, upTo length: UInt64) throws(StoreError) -> KeptCheckpoint {
    var kept = KeptCheckpoint()
    for part in try parts(of: key).reversed() where kept.length == 0 {
      let most = min(length, part.numbers.upperBound)
      kept.length = try ownCheckpoint(of: part.key, upTo: most)?.length ?? 0
    }
    var bytes: UInt64 = 0
    try visit(kept.length..<length, of: key) { bytes = bytes.saturatingAdding(UInt64($0.count)) }
    kept.bytesSince = bytes
    return kept
  }

  package func checkpoint(of key: SequenceKey, beyond length: UInt64) throws(StoreError) -> Checkpoint? {
    for part in try parts(of: key) where part.numbers.upperBound > length {
      guard let kept = try ownCheckpoint(of: part.key, beyond: length) else { continue }
      if kept.length <= part.numbers.upperBound { return kept }
    }
    let last = try journal(key)?.checkpoint
    return last.flatMap { $0.length > length ? $0 : nil }
  }
}
