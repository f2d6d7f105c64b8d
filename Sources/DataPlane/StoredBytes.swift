/// Committed bytes of a string that aren't in memory. Shared by the daemon and the simulator.
package enum StoredBytes {
  /// What the log has comes from there, the rest from the plain file. The log's part isn't known to be on the disk anywhere
  /// else: in a plain file that nobody has repaired since a crash anything may stand there (P3).
  ///
  /// - Parameters:
  ///   - log: what it has of the range and around it, in order.
  ///   - plain: so many bytes of the string from an offset on, fewer where the plain file ends.
  /// - Throws: `SourceFailure` where neither has them.
  package static func read(
    _ range: Range<UInt64>, log: [(offset: UInt64, bytes: [UInt8])], plain: (UInt64, Int) throws -> [UInt8]
  ) throws -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(range.count)
    func readPlain(upTo end: UInt64) throws {
      let next = range.lowerBound + UInt64(bytes.count)
      guard next < end else { return }
      let read = try plain(next, Int(end - next))
      guard UInt64(read.count) == end - next else { throw SourceFailure("the plain file is too short") }
      bytes += read
    }
    for part in log where part.offset < range.upperBound {
      try readPlain(upTo: part.offset)
      let next = range.lowerBound + UInt64(bytes.count)
      guard part.offset <= next else { continue }
      bytes += part.bytes.dropFirst(Int(clamping: next - part.offset)).prefix(Int(range.upperBound - next))
    }
    try readPlain(upTo: range.upperBound)
    return bytes
  }
}
