import JournalModel
import JournalStore

/// What kind of store a directory holds, and in which version: the first thing to be read.
enum StoreKind: UInt8 {
  case host = 1
  case server = 2

  static let version: UInt32 = 1
  private static let meta = "meta"
  private static let key = Array("version".utf8)

  /// Opens the tables of a store of this kind, the table of versions first; makes them in a new store.
  func tables(_ names: [String], of environment: Environment, _ access: Environment.Access) throws(StoreError)
    -> [Table]
  {
    let names = [Self.meta] + names
    if let tables = try opened(names, of: environment) { return tables }
    guard access == .writing else { throw .failed("\(environment.directory) holds no store") }
    let transaction = try environment.begin(.writing)
    var tables: [Table] = []
    for name in names {
      guard let table = try transaction.table(name, creating: true) else { throw .failed("no table \(name)") }
      tables.append(table)
    }
    var version = ByteWriter()
    version.write(rawValue)
    version.write(Self.version)
    try transaction.put(version.bytes, at: Self.key, in: tables[0], .new)
    try transaction.commit()
    try sync(directory: environment.directory)
    return tables
  }

  private func opened(_ names: [String], of environment: Environment) throws(StoreError) -> [Table]? {
    let transaction = try environment.begin(.reading)
    guard let meta = try transaction.table(Self.meta) else { return nil }
    try check(
      try transaction.row(Self.key, in: meta) { reader throws(DecodingFailure) in
        (kind: try reader.read(UInt8.self), version: try reader.read(UInt32.self))
      }, in: environment.directory)
    var tables: [Table] = []
    for name in names {
      guard let table = try transaction.table(name) else {
        throw .corrupt("\(environment.directory) lacks table \(name)")
      }
      tables.append(table)
    }
    // Table handles outlive the transaction only if it is committed.
    try transaction.commit(usesReserve: true)
    return tables
  }

  private func check(_ found: (kind: UInt8, version: UInt32)?, in directory: String) throws(StoreError) {
    guard let found else { throw .corrupt("\(directory) has no version") }
    guard found.version == Self.version else {
      throw .failed("\(directory) was written in store version \(found.version); this program knows \(Self.version)")
    }
    guard found.kind == rawValue else { throw .failed("\(directory) holds another kind of store") }
  }
}
