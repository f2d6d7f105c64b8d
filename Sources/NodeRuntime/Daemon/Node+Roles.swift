import DataPlane
import Foundation
import HostCore
import JournalModel
import JournalStore
import LMDBStore
import LinuxIO
import Logging
import SecureTransport
import ServerCore

// How a node's roles are put together from configuration and data folder.

extension Configuration {
  /// The node's own keys, data and logs: never followed (D9). Its log file is known by its descriptor.
  var ownFiles: OwnFiles {
    OwnFiles(
      files: [tls.key, dataFolder.journalKey].map { BytePath($0) },
      trees: ([node.data] + (server.map { [$0.logs] } ?? [])).map { BytePath($0) })
  }

  var credentials: CredentialFiles {
    CredentialFiles(certificate: tls.certificate, key: tls.key, authorities: tls.authorities)
  }

  /// Why no other node would take this certificate as this node's.
  func objection(to identity: CertificateIdentity) -> String? {
    let name = node.name.text
    if !identity.names.contains(name) {
      let names = identity.names.isEmpty ? "nobody" : identity.names.joined(separator: ", ")
      return "\(tls.certificate) is for \(names), and node.name is \(name)"
    }
    guard host == nil || identity.writableHosts.contains(name) else {
      return "\(tls.certificate) does not permit to deliver as host \(name)"
    }
    return nil
  }
}

/// Something in the data folder or the configuration that the node can't start with.
struct StartFailure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

extension DataFolder {
  /// What is to be said of a journal without its key.
  var missingKey: String {
    "\(journalKey) is missing, and without it nobody can sign for the journal in \(hostStore): restore the key, or move "
      + "the journal away to begin a new one"
  }
}

extension Node {
  /// Makes the directory that the configuration names under `key`, and those above it, where there is none.
  static func makeDirectory(_ path: String, mode: Int, for key: String) throws {
    do {
      try FileManager.default.createDirectory(
        atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: mode])
    } catch {
      let cause = (error as? CocoaError)?.underlying as? POSIXError
      let reason = cause.map { SmallFile.describe($0.code.rawValue) } ?? error.localizedDescription
      throw StartFailure("\(key): the directory \(path) can't be made: \(reason)")
    }
  }

  // MARK: Damaged stores

  static let serverRemedy =
    "stop here and look at the disk (dmesg); then restore node.data and server.logs from one "
    + "backup, or move both away and start: hosts deliver again all that they still have"
  static let hostRemedy =
    "stop here and look at the disk (dmesg); then move node.data away (not the logs) and start: a "
    + "new journal begins, and files go on where the servers stand"

  /// Says of a store's damage which store it is and what helps.
  func explaining(_ store: String, _ remedy: String, _ body: () throws -> Void) throws {
    do { try body() } catch let error as StoreError {
      switch error {
      case .corrupt, .damaged, .refused: throw StartFailure("\(store): \(error)\nnothing was changed; \(remedy)")
      case .alreadyExists, .outOfRange, .full, .failedSync, .failed: throw StartFailure("\(store): \(error)")
      }
    }
  }

  // MARK: Server

  func makeServer(_ section: Configuration.ServerSection) throws -> (ServerDriver, counterMatches: Bool) {
    try Self.makeDirectory(section.logs, mode: 0o750, for: "server.logs")
    let store = try LMDBServerStore<SHA256Tree>(at: configuration.dataFolder.serverStore)
    // Another data folder's node would count its own starts there, and give out the same names.
    logRootLock = try DirectoryLock(section.logs)
    let own = BytePath(section.logs).appending(Array(".nimbus-journal".utf8))
    if LogRootMounts.of(BytePath(section.logs))?.below.contains(where: { $0.name == own.name }) == true {
      throw StartFailure("\(own.escaped) is a mount point: it belongs to the log root itself, unmount it")
    }
    let counter = try StartCounter(logs: section.logs)
    store.begin(counter.life)
    let matches = try counter.matches(store)
    if !matches {
      logger.warning(
        "node.data is older than server.logs: no plain file is cut, and what hosts deliver again gets a name of its own",
        metadata: ["data": "\(configuration.node.data)", "logs": "\(section.logs)"])
    }
    let limits = configuration.limits
    let files = try LinuxServerFiles(
      root: BytePath(section.logs), limits: limits,
      storedLeaves: { key, count in try store.leaves(of: key, count: count) },
      loggedBytes: { key, range in try store.logged(of: key, range) })
    logMounts = LogMounts(
      look: { files.mounts() }, report: { [reports] in reports.log($0, at: Clocks.now()) })
    let address = try section.listen.resolve()[0]
    let driver = ServerDriver(
      settings: ServerSettings(
        name: configuration.node.name.text, limits: limits, totalCredit: section.credit,
        jitterSeed: counter.life.high ^ counter.life.low, peers: section.peers.map(\.name.text)),
      verifier: CertificateVerifier(keys: keys), store: store, counter: counter, files: files,
      tls: { [keys] (side) throws(TransportError) in try keys.context(side) },
      peers: section.peers.map { .init(name: $0.name.text, address: $0.address) },
      listener: try .listening(at: address), loop: loop, workers: workers, connections: connections,
      report: { [reports] in reports.report($0, at: Clocks.now()) }, halt: { [unowned self] in halt($0) },
      onLinkFailure: { [reports] in reports.log(.unlinked($0, $1, $2), at: Clocks.now()) })
    return (driver, matches)
  }

  // MARK: Host

  func makeHost(_ section: Configuration.HostSection) throws -> HostDriver {
    let store = try LMDBHostStore<SHA256Tree>(at: configuration.dataFolder.hostStore)
    let known = try store.identity()
    let key = try journalKey(isNew: known == nil)
    let identity = try openJournal(store, known, key)
    let limits = configuration.limits
    let files = LinuxHostFiles(
      limits: limits, own: configuration.ownFiles,
      storedLeaves: { file, count in try store.leaves(of: file, count: count) },
      aside: { [workers] mount, id, work in workers.submit(.followed(mount), .file(id), work) })
    let settings = HostSettings(
      host: identity.host, journal: identity.journal, publicKey: identity.publicKey,
      servers: section.servers.map(\.name.text), follow: section.follow, user: geteuid(), limits: limits,
      mostHeld: files.mostPinned,
      jitterSeed: Randomness.uuid().low)
    return HostDriver(
      settings: settings, identity: identity, key: key, store: store, files: files,
      destinations: section.servers.map { .init(name: $0.name.text, address: $0.address) },
      tls: { [keys] () throws(TransportError) in try keys.context(.client) }, loop: loop, workers: workers,
      connections: connections, report: { [reports] in reports.report($0, at: Clocks.now()) },
      halt: { [unowned self] in halt($0) })
  }

  /// The key of the journal. One is made for a new journal only: no other could sign for one that is there.
  private func journalKey(isNew: Bool) throws -> JournalKey {
    let path = configuration.dataFolder.journalKey
    if SmallFile.exists(path) || errno != ENOENT { return try JournalKey.load(path) }
    guard isNew else { throw StartFailure(configuration.dataFolder.missingKey) }
    let key = try JournalKey.make()
    try key.store(at: path)
    return key
  }

  /// The journal of the data folder, begun if there is none: identity, then record 0 with the binding (W5).
  private func openJournal(
    _ store: LMDBHostStore<SHA256Tree>, _ known: JournalIdentity?, _ key: JournalKey
  ) throws -> JournalIdentity {
    let name = configuration.node.name
    let identity: JournalIdentity
    if let known {
      identity = known
    } else {
      identity = JournalIdentity(
        host: name, journal: JournalID(Randomness.uuid()), publicKey: key.publicKey)
      try store.create(identity)
    }
    if let objection = configuration.objection(toJournalOf: identity.host) { throw StartFailure(objection) }
    guard identity.publicKey == key.publicKey else {
      throw StartFailure(
        "\(configuration.dataFolder.journalKey) is not the key of the journal in \(configuration.dataFolder.hostStore): restore the key "
          + "that belongs to it, or move both away to begin a new journal")
    }
    if try store.length() == 0 { try begin(identity, in: store) }
    return identity
  }

  private func begin(_ identity: JournalIdentity, in store: LMDBHostStore<SHA256Tree>) throws {
    // Record 0 binds the journal to this certificate for ever: begun with a wrong one, no server would ever take it.
    if let complaint = keys.complaint { throw StartFailure("a new journal needs a good certificate: \(complaint)") }
    let bytes = JournalOpened.bindingBytes(
      host: identity.host, journal: identity.journal, publicKey: identity.publicKey)
    let (chain, signature) = try CertificateBinding.sign(bytes, with: configuration.credentials)
    let opened = JournalOpened(
      host: identity.host, journal: identity.journal, publicKey: identity.publicKey,
      binding: .certificate(chain: chain, signature: signature))
    var batch = HostBatch()
    batch.records = [Record(time: Clocks.wall(), body: .journalOpened(opened)).encoded()]
    _ = try store.commit(batch)
  }
}

extension LMDBServerStore {
  /// What the log has of a range of a string, in order. What is folded between two readings is synced in its plain file.
  fileprivate func logged(
    of key: StringKey, _ range: Range<UInt64>
  ) throws(StoreError) -> [(offset: UInt64, bytes: [UInt8])] {
    var parts: [(offset: UInt64, bytes: [UInt8])] = []
    for part in try logRanges(of: key) {
      guard part.offset < range.upperBound, part.offset.saturatingAdding(UInt64(part.length)) > range.lowerBound else {
        continue
      }
      do throws(StoreError) {
        parts.append((part.offset, try logPayload(of: key, offset: part.offset)))
      } catch {
        guard error == .outOfRange else { throw error }
      }
    }
    return parts
  }
}

/// Signatures by OpenSSL.
struct CertificateVerifier: SignatureVerifier {
  let keys: NodeKeys

  func objection(toKey publicKey: Digest) -> String? { JournalKey.objection(to: publicKey) }

  func isValid(_ checkpoint: Checkpoint, publicKey: Digest) -> Bool {
    JournalKey.verify(checkpoint.signature, checkpoint.signedBytes, publicKey: publicKey)
  }

  func refusal(of opened: JournalOpened) -> String? {
    switch opened.binding {
    case .certificate(let chain, let signature):
      let bytes = JournalOpened.bindingBytes(
        host: opened.host, journal: opened.journal, publicKey: opened.publicKey)
      guard let authorities = keys.authorities else { return "this server's authorities can't be read at present" }
      return authorities.refusal(chain: chain, signature: signature, over: bytes, hostName: opened.host.text)
    case .journalKey:
      return "the journal is bound by its own key alone, and this server asks for certificates"
    }
  }
}
