import JournalModel
import JournalStore

/// What a server holds of one host, to be delivered again: its records, and of each file the bytes.
struct Cargo {
  struct File {
    var file: FileUUID
    var bytes: [UInt8]
    /// The greatest length that a record states, by the number of records of the journal.
    fileprivate var lengths: [(records: Int, length: Int)] = []

    /// How many bytes may be sent after so many records (W3).
    func sendable(after records: Int) -> Int { min(bytes.count, lengths.last { $0.records <= records }?.length ?? 0) }
  }

  let host: SimulatedHost
  let records: [[UInt8]]
  private(set) var files: [File] = []
  /// Files whose gap a record states: what was half sent of them is given up (J4).
  private var gaps: [Int: [FileUUID]] = [:]

  init(_ host: SimulatedHost, _ holdings: Holdings) throws {
    self.host = host
    records = holdings.records(of: host.identity)
    var places: [FileUUID: Int] = [:]
    for (number, encoded) in records.enumerated() {
      switch try Record(decoding: encoded).body {
      case .fileBorn(let born):
        places[born.file] = files.count
        files.append(File(file: born.file, bytes: holdings.file(born.file, of: host.name)))
      case .bytesAppended(let appended): state(appended.end, of: places[appended.file], number)
      case .fileClosed(let closed): state(closed.length, of: places[closed.file], number)
      case .gap(let gap):
        guard case .file(let file) = gap.subject else { continue }
        gaps[number, default: []].append(file)
        state(gap.provenLength, of: places[file], number)
      case .journalOpened, .rotated, .unknown: break
      }
    }
  }

  private mutating func state(_ length: UInt64, of place: Int?, _ number: Int) {
    guard let place, Int(length) > files[place].lengths.last?.length ?? 0 else { return }
    files[place].lengths.append((number + 1, Int(length)))
  }

  func gaps(in range: Range<Int>) -> Set<FileUUID> { Set(range.flatMap { gaps[$0] ?? [] }) }

  func checkpoint(_ length: Int) throws(StoreError) -> Checkpoint {
    host.checkpoint(UInt64(length), try host.store.root(at: UInt64(length)))
  }
}
