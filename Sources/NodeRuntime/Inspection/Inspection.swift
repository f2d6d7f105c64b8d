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
  let damage = Damage()

  package struct Failure: Error, Sendable, CustomStringConvertible {
    package var description: String
  }

  /// Opens what is there; throws when there is nothing, or something that can't be read.
  package init(data: DataFolder, logs: String?, destinations: [String]) throws(Failure) {
    self.destinations = destinations
    self.logs = logs
    let path = data.path
    host = damage.open(data.hostStore) { () throws(StoreError) in try LMDBHostStore(readingAt: data.hostStore) }
    server = damage.open(data.serverStore) { () throws(StoreError) in try LMDBServerStore(readingAt: data.serverStore) }
    if host == nil, server == nil {
      try damage.complain()
      throw Failure(description: "\(path): there is no journal yet; has the node ever run with this data directory?")
    }
  }

  /// To be called when everything is printed: what could not be read is an error, and nothing else is kept back for it.
  package func complain() throws(Failure) { try damage.complain() }

  /// What could not be read so far. Belongs to one thread.
  final class Damage {
    private var lines: [String] = []
    private var known: Set<String> = []

    func note(_ line: String) { if known.insert(line).inserted { lines.append(line) } }
    func note(_ damage: [ListingDamage], in store: String) { for one in damage { note("\(store): \(one)") } }

    /// Nil, and noted, when it can't be had.
    func reading<T>(_ subject: String, _ body: () throws(StoreError) -> T) -> T? {
      do { return try body() } catch {
        note("\(subject): \(error)")
        return nil
      }
    }

    func open<S>(_ directory: String, _ body: () throws(StoreError) -> S) -> S? {
      SmallFile.exists(directory) ? reading(directory, body) : nil
    }

    func complain() throws(Failure) {
      guard !lines.isEmpty else { return }
      throw Failure(
        description: "this could not be read, and is left out of what was printed:\n  "
          + lines.joined(separator: "\n  ") + "\nREADME, Troubleshooting, says what to do about a damaged store")
    }
  }
}

// MARK: Journals

/// One journal that a data folder holds.
package struct InspectedJournal: Sendable {
  package var role: String
  package var host: HostName
  package var journal: JournalID
  /// In records.
  package var length: UInt64
  /// Of a server's: which of the journal's sequences it is, and the number of the first record that is its own; nil for
  /// the sequence that came first.
  package var sequence: UInt32 = 0
  package var fork: UInt64?
}

extension Inspection {
  /// All journals, or those of one host.
  package func journals(of filter: HostName? = nil) throws -> [InspectedJournal] {
    var result: [InspectedJournal] = []
    if let host, let identity = damage.reading("journal", host.identity) ?? nil {
      let length = damage.reading("journal", host.length) ?? damage.reading("journal", host.recordCount) ?? 0
      result.append(.init(role: "host", host: identity.host, journal: identity.journal, length: length))
    }
    if let server {
      let passedOver = try server.listJournals { held in
        result.append(
          .init(
            role: "server", host: held.host, journal: held.journal, length: held.length,
            sequence: held.key.sequence, fork: held.fork?.start))
        return true
      }
      damage.note(passedOver, in: "holdings")
    }
    return result.filter { filter == nil || $0.host == filter }
  }

  /// Calls `body` with each record of its own that can be read, in order; the others are noted as damage.
  package func forEachRecord(
    of journal: InspectedJournal, from first: UInt64? = nil, _ body: (UInt64, Record) throws -> Void
  ) throws {
    let first = first ?? journal.fork ?? 0
    var next = first
    func passOver(upTo end: UInt64) {
      guard next < end else { return }
      damage.note("\(journal.host) \(journal.role): records \(next) ..< \(end) are missing or damaged")
    }
    func take(_ number: UInt64, _ encoded: [UInt8]) throws -> Bool {
      guard number < journal.length else { return false }
      passOver(upTo: number)
      next = number + 1
      let record: Record
      do { record = try Record(decoding: encoded) } catch {
        damage.note("\(journal.host) record \(number): can't be decoded: \(error.reason)")
        return next < journal.length
      }
      try body(number, record)
      return next < journal.length
    }
    guard first < journal.length else { return }
    if journal.role == "host" {
      damage.note(try host?.listRecords(from: first, take) ?? [], in: "journal")
    } else {
      let key = SequenceKey(
        journal: HostJournal(host: journal.host, journal: journal.journal), sequence: journal.sequence)
      damage.note(try server?.listRecords(of: key, from: first, take) ?? [], in: "holdings")
    }
    passOver(upTo: journal.length)
  }
}
