import JournalModel
import JournalStore
import ServerCore
import WireProtocol

/// A world so small that everything which can happen in it can be tried: one host, one to three servers, two files. A
/// value, but for the machines.
///
/// Time stands still while anything can be done.
struct ExhaustiveWorld {
  /// What doesn't change.
  final class Setting {
    let scope: ExhaustiveScope
    let journal: ExhaustiveJournal
    let servers: [ExhaustiveServer.Setting]

    init?(_ scope: ExhaustiveScope) {
      guard let journal = ExhaustiveJournal(scope) else { return nil }
      self.scope = scope
      self.journal = journal
      let names = (0..<scope.servers).map { "logs\($0)" }
      servers = names.map { name in
        ExhaustiveServer.Setting(scope, journal, name: name, peers: names.filter { $0 != name })
      }
    }
  }

  struct Link {
    let id: ConnectionID
    var toServer: [ExhaustiveHost.Sent] = []
  }
  struct Faults: Hashable {
    var crashes: Int
    var breaks: Int
    var ticks: Int
  }

  let setting: Setting
  var scope: ExhaustiveScope { setting.scope }
  var journal: ExhaustiveJournal { setting.journal }

  var servers: [ExhaustiveServer] = []
  /// The host's, to the first server.
  var link: Link?
  var host: ExhaustiveHost
  /// Between servers, one for each two of them that are connected.
  var peerLinks: [ExhaustivePeerLink] = []
  var faults: Faults
  /// What an oracle has against what the servers do together.
  private var ownComplaint: String?
  /// What an oracle has against this state.
  var complaint: String? { servers.lazy.compactMap(\.complaint).first ?? ownComplaint }

  init(_ setting: Setting) throws(StoreError) {
    self.setting = setting
    host = ExhaustiveHost(setting.journal)
    faults = Faults(crashes: setting.scope.crashes, breaks: setting.scope.breaks, ticks: setting.scope.ticks)
    for server in setting.servers { servers.append(try ExhaustiveServer(server)) }
    carry()
  }

  mutating func complain(_ text: String) { ownComplaint = ownComplaint ?? text }

  /// Two worlds with one digest are one: what isn't in it follows from what is.
  var digest: Digest128 {
    struct State: Hashable {
      var servers: [ExhaustiveServer.State]
      var link: ConnectionID?
      var toServer: [ExhaustiveHost.Sent]
      var host: ExhaustiveHost
      var peerLinks: [ExhaustivePeerLink]
      var faults: Faults
    }
    return Digest128(
      State(
        servers: servers.map(\.state), link: link?.id, toServer: link?.toServer ?? [], host: host,
        peerLinks: peerLinks, faults: faults))
  }

  // MARK: Faults

  mutating func crashServer(_ index: Int, _ crash: ExhaustiveServer.Crash) {
    faults.crashes -= 1
    if index == 0 {
      link = nil
      host = ExhaustiveHost(journal)
    }
    servers[index].crash(crash)
    endPeerLinks(of: index)
  }

  /// What was on its way is lost; the host knows at once, the server whenever it hears.
  mutating func breakLink() {
    faults.breaks -= 1
    if let link { servers[0].ended.append(link.id) }
    link = nil
    host = ExhaustiveHost(journal)
  }

  // MARK: What servers say

  /// Brings on their way what servers said since the last time.
  mutating func carry() {
    while let index = servers.firstIndex(where: { !$0.said.isEmpty }) {
      switch servers[index].said.removeFirst() {
      case .frame(let id, let frame):
        if index == 0, link?.id == id { sendToHost(frame) } else { send(.frame(frame), from: index, on: id) }
      case .payload(let id, let header, let bytes): send(.payload(header, bytes), from: index, on: id)
      case .dial(let peer): dial(peer, from: index)
      case .awaitTaken(let id): if end(of: index, id) != nil { servers[index].input(.taken(id)) }
      case .cursor(let cursor): judge(cursor, of: index)
      case .close(let id, let code, let text):
        if index == 0, link?.id == id { complain("an honest host is cut off: \(code), \(text)") }
        close(id, code, text, by: index)
      }
    }
  }

  /// The host hears at once: all that it does about it is to send, and whether a frame is late on its way to the host or
  /// what follows from it on its way back is all the same to the server.
  mutating func sendToHost(_ frame: Frame) {
    servers[0].judge(frame)
    var sending: [ExhaustiveHost.Sent] = []
    if let wrong = host.receive(frame, journal, sending: &sending) { complain(wrong) }
    link?.toServer += sending
  }
}
