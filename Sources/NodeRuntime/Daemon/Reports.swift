package import HostCore
import JournalModel
package import Logging
import SecureTransport
package import ServerCore
import WireProtocol

/// One thing that an operator may want to know: what happened, where, and what to do about it.
package struct ReportEvent: Sendable, Hashable {
  package var level: Logger.Level
  package var message: String
  /// Reports of one kind and origin share a budget, so that a flood can't hide another's, or another kind.
  package var kind: String
  /// Who could make as many of them as they like.
  package var origin: Origin
  /// What makes two reports of a kind and origin the same. None for what a peer does: it can do as many different things
  /// as it likes, and a flood is one report. The reasons and files of the others are in the count that follows
  /// (`ReportLog`).
  package var subject: String
  package var pairs: [String: String]

  package enum Origin: Sendable, Hashable {
    case node
    /// Whoever may write there.
    case directory(String)
    /// A host or server that has shown who it is.
    case peer(String)
    /// One that hasn't, by its address.
    case stranger(String)
    /// All of a standing beyond those that are told apart.
    case others(Standing)
  }

  /// How well an origin is known.
  package enum Standing: Sendable, Hashable { case node, directory, peer, stranger }

  package init(
    _ level: Logger.Level, _ kind: String, _ message: String, of origin: Origin = .node, subject: String = "",
    _ pairs: [String: String] = [:]
  ) {
    self.level = level
    self.kind = kind
    self.message = message
    self.origin = origin
    self.subject = subject
    self.pairs = pairs
  }
}

extension ReportEvent.Origin {
  static func directory(of path: BytePath) -> Self { .directory(path.directory.escaped) }
  static func host(_ name: HostName) -> Self { .peer(name.text) }

  /// By the names that its certificate shows, else by where it comes from.
  static func peer(_ peer: Peer) -> Self {
    if !peer.names.isEmpty || !peer.servers.isEmpty { return .peer(peer.shownNames) }
    return .stranger((try? Address(peer.address))?.network ?? peer.address)
  }
}

extension Peer {
  /// A certificate may carry a thousand.
  fileprivate var shownNames: String {
    let all = names + servers.filter { !names.contains($0) }
    return all.prefix(8).joined(separator: ",") + (all.count > 8 ? ",..." : "")
  }
}

extension HostReport {
  /// `servers`: names in the order of the configuration.
  package func event(servers: [String]) -> ReportEvent {
    switch self {
    case .born, .rotated, .truncated, .closed: fileEvent
    case .gap(let gap, let path, let lacking):
      gap.event(at: path, lacking: lacking.map { Self.name($0, servers) })
    case .waiting(let file, let path, let why):
      ReportEvent(
        .warning, "waiting", "a file waits alone, all others go on", of: .directory(of: path),
        subject: "\(file) \(why)",
        ["file": file.text, "path": path.escaped, "why": why])
    case .resumed(let file, let path):
      ReportEvent(
        .notice, "resumed", "a file that waited goes on", of: .directory(of: path), subject: file.text,
        ["file": file.text, "path": path.escaped])
    case .beside(let server, let file, let path):
      ReportEvent(
        .warning, "beside", "a server holds other bytes under this file's uuid, this one's are delivered beside them",
        of: .directory(of: path), subject: "\(file) \(Self.name(server, servers))",
        ["file": file.text, "path": path.escaped, "server": Self.name(server, servers)])
    case .journalBeside(let server, let number):
      ReportEvent(
        .warning, "beside",
        "a server holds other records of this journal, this one's are delivered beside them: was node.data put back from "
          + "a backup, or does another machine have this one's keys?",
        subject: Self.name(server, servers), ["server": Self.name(server, servers), "from": "\(number)"])
    case .unreadable(let path, let why):
      ReportEvent(
        .warning, "unreadable", "can't be read, tried again until it can: check its permissions",
        of: .directory(of: path), subject: path.escaped,
        ["path": path.escaped, "why": why])
    case .unwatched(let path):
      ReportEvent(
        .warning, "unwatched",
        "no inotify watch is left for a directory, so it is polled: raise fs.inotify.max_user_watches",
        ["path": path.escaped])
    case .unfollowed(let path, let why):
      ReportEvent(
        why == .own ? .info : .warning, "unfollowed", "not followed, though a pattern finds it",
        of: .directory(of: path), subject: path.escaped, ["path": path.escaped, "why": why.description])
    case .writersUnknown(let path):
      ReportEvent(
        .warning, "writers unknown",
        "whether a writer still has a removed file open can't be told: such files are kept open for a day after their "
          + "last bytes, or fewer when descriptors run short. Give the node CAP_LEASE, or run it as the files' owner",
        ["path": path.escaped])
    case .gaveUp(let file, let path):
      ReportEvent(
        .warning, "gave up",
        "a removed file is no longer kept open: bytes that a writer adds to it from now on are lost unseen",
        of: .directory(of: path), subject: file.text, ["file": file.text, "path": path.escaped])
    case .serverUp(let server, let records):
      ReportEvent(
        .notice, "server up", "connected to a server", of: .peer(Self.name(server, servers)),
        ["server": Self.name(server, servers), "records": "\(records)"])
    case .serverLost(let server, let records, let acknowledged):
      ReportEvent(
        .warning, "server lost",
        "a server lost what it had acknowledged: was its data put back from a backup, or its disk replaced? What this "
          + "host still has is delivered to it again, what it hasn't only other servers have",
        of: .peer(Self.name(server, servers)),
        ["server": Self.name(server, servers), "records": "\(records)", "acknowledged": "\(acknowledged)"])
    case .serverPutBack(let server):
      ReportEvent(
        .notice, "server put back",
        "a server's store isn't the one that acknowledged what this host delivered, or an earlier state of it, put back "
          + "from a backup: all of it is asked about anew, and what is missing is delivered again as far as it is still here",
        of: .peer(Self.name(server, servers)), ["server": Self.name(server, servers)])
    case .serverDown(let server, let why):
      ReportEvent(
        .warning, "server down", "no connection to a server, tried again for ever",
        of: .peer(Self.name(server, servers)), subject: Self.ownWords(of: why),
        ["server": Self.name(server, servers), "why": why])
    case .refused(let server, let file, let path, let code, let text):
      refusal(Self.name(server, servers), file, path, code, text)
    case .journalBlocked(let why):
      ReportEvent(
        .error, "journal blocked", "the journal can't be written, so nothing new is delivered: is the disk full?",
        subject: why, ["why": why])
    case .journalUnblocked: ReportEvent(.notice, "journal unblocked", "the journal is written again")
    case .setApart(let file, let path, let why):
      ReportEvent(
        .error, "set apart",
        "the journal's store refuses this file: nothing more of it is journaled until a restart, others go on",
        of: .directory(of: path), subject: file.text, ["file": file.text, "path": path.escaped, "why": why])
    }
  }

  private var fileEvent: ReportEvent {
    switch self {
    case .born(let file, let path):
      ReportEvent(
        .debug, "born", "following a file", of: .directory(of: path), subject: file.text,
        ["file": file.text, "path": path.escaped])
    case .rotated(let file, let from, let to):
      ReportEvent(
        to == nil ? .info : .debug, "rotated",
        to == nil ? "a file lost its last name and is followed further" : "a file was renamed",
        of: .directory(of: from), subject: "\(file) \(from.escaped)",
        ["file": file.text, "from": from.escaped, "to": to?.escaped ?? "-"])
    case .truncated(let file, let path, let length, let next):
      ReportEvent(
        .notice, "truncated", "a file was truncated or rewritten: what it holds now is delivered as a new file",
        of: .directory(of: path), subject: file.text,
        ["file": file.text, "path": path.escaped, "length": "\(length)", "next": next.text])
    case .closed(let file, let path, let length, let reason):
      ReportEvent(
        .debug, "closed", "a file is complete", of: .directory(of: path), subject: file.text,
        ["file": file.text, "path": path.escaped, "length": "\(length)", "reason": "\(reason)"])
    default: ReportEvent(.debug, "other", "\(self)")
    }
  }

  private func refusal(
    _ server: String, _ file: FileUUID?, _ path: BytePath?, _ code: RefusalCode, _ text: String
  ) -> ReportEvent {
    var pairs = ["server": server, "code": "\(code)", "why": text]
    if let file { pairs["file"] = file.text }
    if let path { pairs["path"] = path.escaped }
    return ReportEvent(
      .warning, "refused", file == nil ? "a server refuses this journal" : "a server refuses a file",
      of: .peer(server), pairs)
  }

  /// Why a server is gone, without what it chose itself: the text behind a code, numbers. Another reason is news also
  /// while the last one is fresh, but a server must not be able to make one after another.
  private static func ownWords(of why: String) -> String {
    String(why.split(separator: ": ").prefix(2).joined(separator: ": ").filter { !$0.isNumber })
  }

  private static func name(_ server: ServerIndex, _ servers: [String]) -> String {
    servers.indices.contains(server.value) ? servers[server.value] : "server \(server.value)"
  }
}

extension ServerReport {
  package var event: ReportEvent {
    switch self {
    case .hostConnected(let host, let journal, let records):
      ReportEvent(
        .notice, "host connected", "a host is connected", of: .host(host),
        ["host": host.text, "journal": journal.text, "records": "\(records)"])
    case .hostDisconnected(let host, let why):
      ReportEvent(
        .info, "host disconnected", "a host's connection ended", of: .host(host),
        ["host": host.text, "why": why])
    case .peerRefused(let peer, let code, let why):
      ReportEvent(
        .warning, "refused", "a peer was refused and cut off", of: .peer(peer),
        ["names": peer.shownNames, "address": peer.address, "code": "\(code)", "why": why]
          .filter { $0.key != "code" || code != .other })
    case .born(let key, let stored):
      ReportEvent(
        .debug, "born", "a new file", of: .host(key.host), subject: key.file.text,
        ["host": key.host.text, "file": key.file.text, "stored": stored.escaped])
    case .branched(let key, let stored, let offset):
      ReportEvent(
        .warning, "branch", "other bytes than those held came for a file: both are kept", of: .host(key.host),
        subject: "\(key.file.text) \(offset)",
        ["host": key.host.text, "file": key.file.text, "stored": stored.escaped, "from": "\(offset)"])
    case .forked(let journal, let number):
      ReportEvent(
        .warning, "equivocation",
        "other records than those held came of a journal: both are kept; a cloned or rolled-back machine, or a thief's",
        of: .host(journal.host), subject: "\(journal.journal.text) \(number)",
        ["host": journal.host.text, "journal": journal.journal.text, "from": "\(number)"])
    case .gap(let host, let gap):
      gap.event(of: host)
    case .refused(let key, let path, let code, let why):
      ReportEvent(
        .warning, "refused", "bytes of a file were refused; nothing that is held has changed",
        of: .host(key.host),
        [
          "host": key.host.text, "file": key.file.text, "path": path?.escaped ?? "-", "code": "\(code)", "why": why,
        ])
    case .setAside(let key, let path):
      ReportEvent(
        .error, "set aside",
        "a plain file held more than its journal knows: it was kept aside and rebuilt; was the journal restored?",
        of: .host(key.host), subject: key.file.text,
        ["host": key.host.text, "file": key.file.text, "kept": path.escaped])
    case .repairFailed(let key, let why):
      ReportEvent(
        .error, "repair failed", "a plain file couldn't be repaired at the start and is not served",
        of: .host(key.host), subject: key.file.text,
        ["host": key.host.text, "file": key.file.text, "why": why])
    case .journalSetApart(let host, let journal, let why):
      ReportEvent(
        .error, "set apart", "the store refuses this journal: nothing of it is stored until a restart, others go on",
        of: .host(host), subject: journal.text, ["host": host.text, "journal": journal.text, "why": why])
    case .fileSetApart(let key, let path, let why):
      ReportEvent(
        .error, "set apart", "the store refuses this file: nothing of it is stored until a restart, others go on",
        of: .host(key.host), subject: key.file.text,
        ["host": key.host.text, "file": key.file.text, "path": path.escaped, "why": why])
    case .peerConnected(let name, let isDialed):
      ReportEvent(
        .notice, "peer connected", "a peer is connected", of: .peer(name),
        ["server": name, "by": isDialed ? "this server" : "the peer"])
    case .peerDisconnected(let name, let why):
      ReportEvent(
        .warning, "peer disconnected", "the connection to a peer ended; it is tried again", of: .peer(name),
        ["server": name, "why": why])
    case .storeBlocked(let why):
      ReportEvent(
        .error, "store blocked", "nothing can be stored: is the disk full? Hosts keep their bytes and try again",
        subject: why, ["why": why])
    case .storeUnblocked: ReportEvent(.notice, "store unblocked", "storing again")
    }
  }
}

extension ReportEvent {
  static func unlinked(_ host: HostName, _ path: BytePath, _ why: String) -> ReportEvent {
    ReportEvent(
      .warning, "latest", "latest/ can't show the newest file", of: .host(host),
      ["host": host.text, "path": path.escaped, "reason": why])
  }
}

extension Gap {
  /// On a server `host` says whose it is, on a host `lacking` who hasn't all of it.
  func event(of host: HostName? = nil, at path: BytePath? = nil, lacking: [String] = []) -> ReportEvent {
    var pairs = ["from": "\(lower)", "to": upper == .max ? "unknown" : "\(upper)", "reason": "\(reason)"]
    if let host { pairs["host"] = host.text }
    switch subject {
    case .file(let file): pairs["file"] = file.text
    case .path(let path): pairs["path"] = path.escaped
    }
    if let path { pairs["path"] = path.escaped }
    if !lacking.isEmpty { pairs["lacking"] = lacking.joined(separator: ",") }
    return ReportEvent(
      .warning, "gap", "bytes were gone before every server had them",
      of: host.map { .host($0) } ?? path.map { .directory(of: $0) } ?? .node,
      subject: host == nil ? "\(pairs["file"] ?? pairs["path"] ?? "") \(lower)" : "", pairs)
  }
}
