import JournalModel
import JournalStore
import WireProtocol

extension ExhaustiveServer {
  /// All that it holds is in plain files, and it has nothing left to do.
  var isAtRest: Bool { node.isAtRest && store.contents.ranges.isEmpty && store.contents.promises.isEmpty }

  /// What is said to the host must be what it has. Whether it would survive is asked of every state from then on.
  mutating func judge(_ frame: Frame) {
    switch frame {
    case .welcome(let welcome):
      if welcome.heads.count > 1 { complain("an honest host's journal is held as \(welcome.heads.count) sequences") }
      for head in welcome.heads { stateRecords(head) }
    case .recordsDurable(let head): stateRecords(head)
    case .payloadDurable(let held): for prefix in held { state(prefix.file, prefix.length, prefix.root) }
    case .resumeAnswer(let answers):
      for answer in answers { for string in answer.strings { state(answer.file, string.length, string.root) } }
    case .refusal(let refusal):
      if let file = refusal.file { state(file, refusal.length, journal.root(of: file, at: refusal.length)) }
    default: break
    }
  }

  private mutating func stateRecords(_ head: Checkpoint) {
    if head != journal.checkpoint(at: head.length) {
      complain("\(head.length) records stated with a checkpoint that isn't the host's")
    }
    stated.records = max(stated.records, head.length)
  }

  private mutating func state(_ file: FileUUID, _ length: UInt64, _ root: Digest) {
    guard let index = journal.index(of: file), length <= UInt64(journal.files[index].bytes.count),
      root == journal.root(of: file, at: length)
    else { return complain("\(length) bytes stated of \(file.text), with a root that isn't the host's") }
    stated.lengths[index] = max(stated.lengths[index], length)
  }

  /// Asked of every state.
  mutating func judge() {
    let held = store.contents.journals.first?.length ?? 0
    if held < stated.records { complain("\(stated.records) records stated, \(held) would survive a power cut now") }
    for (index, length) in stated.lengths.enumerated() where length > 0 {
      let survivors = store.row(journal.key(of: index)).map { durableBytes($0).count } ?? 0
      if survivors < length {
        complain("\(length) bytes stated of file \(index), \(survivors) would survive a power cut now")
      }
    }
    for row in store.contents.strings { judge(row) }
  }

  private mutating func judge(_ row: StoredString) {
    guard let original = journal.file(row.key)?.bytes else { return complain("a row of no file of the host") }
    let durable = durableBytes(row)
    if UInt64(durable.count) != row.committed {
      let path = Self.text(row.path)
      complain("\(row.committed) bytes committed of \(path), \(durable.count) would survive a power cut now")
    }
    if !original.starts(with: durable) { complain("durable bytes of \(Self.text(row.path)) aren't the host's") }
    // What a crash left is repaired before the server serves.
    if isServing, let plain = disk[row.stored]?.cache, !original.starts(with: plain) {
      complain("the plain file of \(Self.text(row.path)) holds what isn't the host's")
    }
  }

  private static func text(_ path: BytePath) -> String { String(decoding: path.bytes, as: UTF8.self) }

  /// What would be left of a string after a power cut now.
  private func durableBytes(_ row: StoredString) -> [UInt8] {
    var bytes = Array(disk[row.stored]?.durable?.prefix(Int(clamping: row.synced)) ?? [])
    for piece in store.log(of: row.key) where piece.offset + UInt64(piece.bytes.count) > UInt64(bytes.count) {
      guard piece.offset <= UInt64(bytes.count) else { break }
      bytes += piece.bytes.dropFirst(bytes.count - Int(piece.offset))
    }
    return bytes
  }

  /// Asked where nothing is left to do.
  mutating func judgeEnd() {
    let contents = store.contents
    if contents.records != [journal.records] { complain("at the end: other records than the host's") }
    if contents.strings.count != journal.bornFiles { complain("at the end: \(contents.strings.count) files") }
    if contents.unfinished.contains(where: { store.row($0) == nil }) { complain("at the end: 'unfinished' of no file") }
    for row in contents.strings {
      guard let original = journal.file(row.key)?.bytes else { continue }
      let length = UInt64(original.count)
      if row.committed != length || row.synced != length || row.recorded != length {
        complain("at the end: \(row.committed) bytes committed, \(row.synced) synced of \(length)")
      }
      if row.root != journal.root(of: row.key.key.file, at: length) { complain("at the end: another root") }
      let file = disk[row.stored]
      if file?.cache != original || file?.durable != original {
        complain("at the end: the plain file of \(Self.text(row.path)) isn't the host's")
      }
    }
    let names = Set(contents.strings.map(\.stored))
    if names.count != contents.strings.count || names != Set(disk.files.keys) {
      complain("at the end: \(disk.files.count) plain files of \(contents.strings.count) strings")
    }
    judgeTotals()
  }

  /// Each byte comes to each server once; where connections end or servers crash, what was on its way comes again.
  mutating func judgeSupplied(isFromHost: Bool) {
    guard !scope.isDisturbed, !setting.peers.isEmpty else { return }
    let lengths = isFromHost ? supplied.map { _ in 0 } : journal.files.map(\.bytes.count)
    if supplied != lengths { complain("at the end: peers sent \(supplied) bytes of the files, and not \(lengths)") }
  }

  /// K3: counted once, and known to the machine.
  private mutating func judgeTotals() {
    let counted = (try? InMemoryServerStore<SimulatedTree>(state: store.state).recount()) ?? [:]
    if store.contents.totals != counted { complain("at the end: totals differ from what is held") }
    if node.totals != counted { complain("at the end: the machine counts otherwise") }
  }
}
