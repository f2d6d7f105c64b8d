import JournalModel
import JournalStore

/// What kind of store a directory holds, and in which version: the first thing to be read.
enum StoreKind: UInt8 {
  case host = 1
  case server = 2

  static let version: UInt32 = 2
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
    guard found.version == Self.version else { throw .failed(refusal(of: found.version, in: directory)) }
    guard found.kind == rawValue else {
      let what = StoreKind(rawValue: found.kind).map { "a \($0)'s store" } ?? "another kind of store"
      throw .failed("\(directory) holds \(what), not a \(self)'s: put each directory back to its place in node.data")
    }
  }

  /// Says what is there, what this program reads, and what to do: nothing converts a store.
  private func refusal(of found: UInt32, in directory: String) -> String {
    let (age, remedy) =
      found < Self.version
      ? ("an earlier release", "go on with the release that wrote it")
      : ("a later release", "install that release, or one after it")
    let consequence =
      switch self {
      case .host: "a new journal begins, and files go on where the servers stand"
      case .server:
        "hosts deliver again all that they still have, under names of their own beside the plain files that are there"
      }
    return "\(directory) is a store of version \(found), from \(age); this one reads version \(Self.version) and "
      + "changed nothing: \(remedy), or move \(directory) away and start: \(consequence)"
  }
}
