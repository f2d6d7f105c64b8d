package import JournalModel
import JournalStore
import LMDBStore
import LinuxIO

/// What `inspect` reads: the journals of a data folder, also while the node runs, also of a copied folder.
package struct Inspection {
  let host: LMDBHostStore<SHA256Tree>?
  let server: LMDBServerStore<SHA256Tree>?
  /// Whose acknowledgements the host's journal has noted.
  let destinations: [String]
  /// Root of the plain files, where known.
  let logs: String?

  package struct Failure: Error, Sendable, CustomStringConvertible {
    package var description: String
  }

  /// Opens what is there; throws when there is nothing, or something that can't be read.
  package init(data: DataFolder, logs: String?, destinations: [String]) throws(Failure) {
    self.destinations = destinations
    self.logs = logs
    let path = data.path
    host = try Self.open(data.hostStore) { () throws(StoreError) in try LMDBHostStore(readingAt: data.hostStore) }
    server = try Self.open(data.serverStore) { () throws(StoreError) in try LMDBServerStore(readingAt: data.serverStore)
    }
    guard host != nil || server != nil else {
      throw Failure(description: "\(path): there is no journal yet; has the node ever run with this data directory?")
    }
  }

  private static func open<S>(_ directory: String, _ body: () throws(StoreError) -> S) throws(Failure) -> S? {
    guard SmallFile.exists(directory) else { return nil }
    return try checked(directory, body)
  }

  static func checked<T>(_ subject: String, _ body: () throws(StoreError) -> T) throws(Failure) -> T {
    do {
      return try body()
    } catch {
      throw Failure(description: "\(subject): \(error.explanation)")
    }
  }
}

extension StoreError {
  /// For operators.
  package var explanation: String {
    switch self {
    case .alreadyExists: "exists already"
    case .outOfRange: "asked for more than is held"
    case .full(let reason): "no room: \(reason)"
    case .corrupt(let reason), .damaged(let reason): "the stored data is damaged: \(reason)"
    case .failedSync(let reason): "a sync failed, nothing more is accepted until a restart: \(reason)"
    case .failed(let reason): reason
    case .refused(_, let why): why.explanation
    }
  }
}

// MARK: Journals

/// One journal that a data folder holds.
package struct InspectedJournal: Sendable {
  package var role: String
  package var host: HostName
  package var journal: JournalID
  package var length: UInt64
}

extension Inspection {
  /// All journals, or those of one host.
  package func journals(of filter: HostName? = nil) throws(Failure) -> [InspectedJournal] {
    var result: [InspectedJournal] = []
    if let host {
      let found = try Self.checked("journal") { () throws(StoreError) in (try host.identity(), try host.length()) }
      if let identity = found.0 {
        result.append(.init(role: "host", host: identity.host, journal: identity.journal, length: found.1))
      }
    }
    if let server {
      for held in try Self.checked("journals", { () throws(StoreError) in try server.journals() }) {
        result.append(.init(role: "server", host: held.host, journal: held.journal, length: held.length))
      }
    }
    return result.filter { filter == nil || $0.host == filter }
  }

  private static let page = 4_096

  /// Calls `body` with each record in order. A record that can't be read ends it with an error that names it.
  package func forEachRecord(
    of journal: InspectedJournal, from first: UInt64 = 0, _ body: (UInt64, Record) throws -> Void
  ) throws {
    var next = first
    while next < journal.length {
      let page = try Self.checked("\(journal.host) record \(next)") { () throws(StoreError) in
        if journal.role == "host" { return try host?.records(from: next, count: Self.page, bytes: 1 << 20) }
        return try server?.records(
          host: journal.host, journal: journal.journal, from: next, count: Self.page, bytes: 1 << 20)
      }
      guard let page, !page.isEmpty else { return }
      for encoded in page {
        let record: Record
        do {
          record = try Record(decoding: encoded)
        } catch {
          throw Failure(description: "\(journal.host) record \(next): can't be decoded: \(error.reason)")
        }
        try body(next, record)
        next += 1
      }
    }
  }
}
