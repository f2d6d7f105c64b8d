/// Payload that one connection may send (P2): the host may have sent `granted` bytes in all since it connected.
struct CreditLine {
  /// What it may have in memory at any time.
  let base: UInt64
  /// What it may have besides while it has a turn.
  var allotment: UInt64 = 0
  private(set) var granted: UInt64
  private(set) var consumed: UInt64 = 0
  /// Committed or dropped.
  private(set) var released: UInt64 = 0
  /// Bytes that were put to what it sent: of a branch's first leaf, those that it shares.
  private var added: UInt64 = 0
  /// What frames that wait occupy beside their bytes.
  var overhead: UInt64 = 0

  init(base: UInt64) {
    self.base = base
    granted = base
  }

  var window: UInt64 { base + allotment }
  /// Sent, and neither committed nor dropped.
  var held: UInt64 { consumed + added - released }
  /// What the host may still send.
  var unused: UInt64 { granted - consumed }
  /// All that the host was granted beyond its base is committed or dropped.
  var isDrained: Bool { granted + added - released <= base }
  /// Whether what it has in memory fits into so much room: all of it, where more than a few frames wait.
  func fits(_ room: UInt64) -> Bool { held <= room && (overhead <= 4_096 || held + overhead <= room) }

  /// False when the host sends what it wasn't allowed to.
  mutating func consume(_ bytes: UInt64) -> Bool {
    let (sum, overflow) = consumed.addingReportingOverflow(bytes)
    guard !overflow, sum <= granted else { return false }
    consumed = sum
    return true
  }

  mutating func release(_ bytes: UInt64) { released += bytes }
  mutating func add(_ bytes: UInt64) { added += bytes }

  /// The new total with which the host has `target` bytes left, when that is worth a frame: a quarter of what it may send
  /// of long extents, which leave half of the base to others.
  mutating func grant(_ target: UInt64) -> UInt64? {
    guard target > unused, target - unused >= (target - min(target, base / 2)) / 4 else { return nil }
    granted = consumed + target
    return granted
  }
}
