package import JournalModel

extension Records {
  /// The frames that carry consecutive records: as few as the bounds on count and bytes allow, each with a checkpoint of
  /// its own (J2).
  /// - Parameter checkpoint: signs over so many records of the journal.
  package static func frames<E: Error>(
    first: UInt64, encoded: [[UInt8]], limits: Limits, checkpoint: (UInt64) throws(E) -> Checkpoint
  ) throws(E) -> [Frame] {
    var frames: [Frame] = []
    var rest = encoded[...]
    var next = first
    while !rest.isEmpty {
      let run = rest.prefix(fitting(rest, limits))
      rest = rest.dropFirst(run.count)
      let end = next + UInt64(run.count)
      frames.append(.records(Records(first: next, encoded: Array(run), checkpoint: try checkpoint(end))))
      next = end
    }
    return frames
  }

  /// How many of the records fit into one frame; at least one.
  private static func fitting(_ records: ArraySlice<[UInt8]>, _ limits: Limits) -> Int {
    var count = 0
    var size = 0
    for record in records.prefix(limits.recordsPerFrame) {
      size += record.count
      guard count == 0 || size <= limits.recordBytesPerFrame else { break }
      count += 1
    }
    return count
  }
}
