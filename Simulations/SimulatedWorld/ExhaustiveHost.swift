import JournalModel
import WireProtocol

/// An honest host that keeps to the protocol, in the place of `HostCore`: its journal is complete, it sends whatever it
/// may as soon as it may, asks on each connection for every file, and of what it heard remembers nothing on the next.
struct ExhaustiveHost: Hashable {
  enum Sent: Hashable {
    case frame(Frame)
    case payload(PayloadHeader, [UInt8])

    /// Of one journal and its files: where records and payload begin and end says what they are.
    func hash(into hasher: inout Hasher) {
      switch self {
      case .frame(.records(let records)):
        hasher.combine(records.first)
        hasher.combine(records.encoded.count)
      case .frame(let frame): hasher.combine(frame)
      case .payload(let header, _): hasher.combine(header)
      }
    }
  }
  private(set) var isConnected = false
  private(set) var records: UInt64 = 0
  /// By file.
  private(set) var lengths: [UInt64]
  private(set) var refused: [Bool]

  init(_ journal: ExhaustiveJournal) {
    lengths = journal.files.map { _ in 0 }
    refused = journal.files.map { _ in false }
  }

  func isSettled(_ journal: ExhaustiveJournal) -> Bool {
    isConnected && records == UInt64(journal.records.count)
      && lengths == journal.files.map { UInt64($0.bytes.count) }
  }

  /// A refused file is asked for again.
  mutating func retry(_ journal: ExhaustiveJournal) -> [Sent] {
    let again = refused.indices.filter { refused[$0] }
    for file in again { refused[file] = false }
    return ask(again, journal)
  }

  private func ask(_ files: [Int], _ journal: ExhaustiveJournal) -> [Sent] {
    files.isEmpty ? [] : [.frame(.resumeQuery(files.map { journal.files[$0].id }))]
  }

  /// Appends what it sends to that, or says what an honest host must never be told.
  mutating func receive(_ frame: Frame, _ journal: ExhaustiveJournal, sending: inout [Sent]) -> String? {
    switch frame {
    case .welcome(let welcome):
      isConnected = true
      records = welcome.heads.first?.length ?? 0
      sending += journal.frames(from: records).map { .frame($0) }
      sending += ask(lengths.indices.filter { !journal.files[$0].bytes.isEmpty }, journal)
    case .recordsDurable(let head): records = max(records, head.length)
    case .payloadDurable(let prefixes):
      for held in prefixes {
        guard let file = journal.index(of: held.file) else { return "an acknowledgement of a file that isn't its own" }
        lengths[file] = max(lengths[file], held.length)
      }
    case .resumeAnswer(let answers):
      for answer in answers {
        guard let file = journal.index(of: answer.file) else { return "an answer about a file that isn't its own" }
        lengths[file] = max(lengths[file], answer.strings.first?.length ?? 0)
        sending += journal.payload(of: file, from: lengths[file])
      }
    case .refusal(let refusal):
      guard refusal.code == .busy, let file = refusal.file.flatMap({ journal.index(of: $0) }) else {
        return "an honest host is refused: \(refusal.code), \(refusal.text)"
      }
      refused[file] = true
    case .ping(let nonce): sending.append(.frame(.pong(nonce: nonce)))
    case .credit, .pong, .position: break
    case .journalAnswer: return "an answer that nobody asked for"
    case .goodbye(let code, let text): return "an honest host is sent away: \(code), \(text)"
    case .hello, .records, .journalQuery, .extendJournal, .resumeQuery, .extend, .payload:
      return "a server says what only hosts say"
    case .peerHello, .feed, .announce, .noted, .openChannel, .channel, .closeChannel, .wantRecords, .wantBytes,
      .askTrie, .trieParts, .trieBucket, .holdings:
      return "a server says to a host what servers say to one another"
    }
    return nil
  }
}
