import JournalModel
import JournalStore

// Series: rows whose keys are a common prefix and a running number (records of a journal, leaves of a file).

private func numbered(_ prefix: [UInt8], _ number: UInt64) -> [UInt8] {
  encoded { writer in
    writer.write(raw: prefix)
    writer.write(number)
  }
}

extension Transaction {
  /// Records from `first`: at least one if there is one, at most `count` and about `bytes` bytes.
  func page(
    of table: Table, prefix: [UInt8], from first: UInt64, count: Int, bytes: Int
  ) throws(StoreError) -> [[UInt8]] {
    guard count > 0 else { return [] }
    var page: [[UInt8]] = []
    var size = 0
    try scan(table, from: numbered(prefix, first), prefix: prefix) { (entry) throws(StoreError) in
      guard entry.key == numbered(prefix, first + UInt64(page.count)) else {
        throw .corrupt("\(table.name) \(entry.key.hex): a row before it is missing")
      }
      if !page.isEmpty, size + entry.byteCount > bytes { return false }
      let record = try entry.value()
      page.append(record)
      size += record.count
      return page.count < count
    }
    return page
  }

  func leaf(in table: Table, prefix: [UInt8], at index: UInt64) throws(StoreError) -> Digest? {
    try row(numbered(prefix, index), in: table) { (reader: inout ByteReader) throws(DecodingFailure) in
      try reader.readDigest()
    }
  }

  func leaves(
    in table: Table, prefix: [UInt8], from first: UInt64 = 0, count: UInt64
  ) throws(StoreError) -> [Digest] {
    var leaves: [Digest] = []
    guard count > 0 else { return leaves }
    try scan(table, from: numbered(prefix, first), prefix: prefix) { (entry) throws(StoreError) in
      guard entry.key == numbered(prefix, first + UInt64(leaves.count)) else {
        throw .corrupt("\(table.name) \(entry.key.hex): a row before it is missing")
      }
      leaves.append(
        try entry.row { (reader: inout ByteReader) throws(DecodingFailure) in
          try reader.readRaw(count: reader.remaining)
        } value: { (_, reader: inout ByteReader) throws(DecodingFailure) in
          try reader.readDigest()
        })
      return UInt64(leaves.count) < count
    }
    guard UInt64(leaves.count) == count else { throw .outOfRange }
    return leaves
  }

  /// - Precondition: leaves that are stored already are equal.
  func put(_ leaves: [Digest], from first: UInt64, prefix: [UInt8], in table: Table) throws(StoreError) {
    for (position, leaf) in leaves.enumerated() {
      try put(encoded { $0.write(leaf) }, at: numbered(prefix, first + UInt64(position)), in: table)
    }
  }
}
