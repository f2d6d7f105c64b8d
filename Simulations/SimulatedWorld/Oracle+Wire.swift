import HostCore
import JournalModel
import WireProtocol

// What the two cores owe each other on the wire.

extension Oracle {
  func granted(_ id: ConnectionID, _ frame: Frame) {
    switch frame {
    case .welcome(let welcome): credits[id] = (welcome.credit, 0)
    case .credit(let total):
      guard let known = credits[id] else { return }
      credits[id] = (max(total, known.granted), known.sent)
    default: break
    }
  }

  /// No more than the credit allows (W1).
  func sendsPayload(_ id: ConnectionID, _ count: Int) {
    guard let credit = credits[id] else { return }
    credits[id]?.sent += UInt64(count)
    guard credit.sent + UInt64(count) > credit.granted else { return }
    fail(.bounds, "\(credit.sent + UInt64(count)) bytes of payload are sent, the credit is \(credit.granted) (W1)")
  }

  private func isRefilled(_ host: Int, _ file: FileUUID) -> Bool {
    guard let known = followed[host][file], let inode = known.inode else { return false }
    return !inode.bytes.prefix(known.journaled).elementsEqual(known.bytes.prefix(known.journaled))
  }

  /// A host of this world keeps to the protocol, so that a server which says otherwise, or the host, is wrong.
  func accused(_ server: SimulatedServer, _ host: Int, _ refusal: Refusal) {
    switch refusal.code {
    case .other where !server.refused.isEmpty: return
    // It was refilled to the same size behind what the host read: what is sent isn't what a peer brought meanwhile.
    case .conflict where refusal.file.map { isRefilled(host, $0) } ?? false: return
    case .rootMismatch, .diskFull, .unstorable, .quota, .busy, .superseded, .shuttingDown, .silence: return
    default: fail(.wire, "server \(server.index) accuses host \(host): \(refusal.code): \(refusal.text)")
    }
  }
}
