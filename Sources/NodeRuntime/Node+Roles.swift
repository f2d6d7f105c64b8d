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

  // MARK: Server

  func makeServer(_ section: Configuration.ServerSection) throws -> (ServerDriver, counterMatches: Bool) {
    try Self.makeDirectory(section.logs, mode: 0o750, for: "server.logs")
    let store = try LMDBServerStore<SHA256Tree>(at: configuration.dataFolder.serverStore)
    // Another data folder's node would count its own starts there, and give out the same names.
    logRootLock = try DirectoryLock(section.logs)
    let counter = try StartCounter(logs: section.logs)
    let matches = try counter.matches(store)
    let limits = configuration.limits
    let files = try LinuxServerFiles(
      root: BytePath(section.logs), limits: limits,
      storedLeaves: { key, count in try store.leaves(of: key, count: count) },
      loggedBytes: { key, offset, count in try loggedBytes(of: key, offset..<(offset + UInt64(count)), in: store) })
    let address = try section.listen.resolve()[0]
    let driver = ServerDriver(
      settings: ServerSettings(name: configuration.node.name.text, limits: limits, totalCredit: section.credit),
      verifier: CertificateVerifier(authorities: try BindingAuthorities(file: configuration.tls.authorities)),
      store: store, counter: counter, files: files, tls: try TLSContext(.server, configuration.credentials),
      listener: try .listening(at: address), loop: loop, workers: workers, connections: connections,
      report: { [reports] in reports.report($0, at: Clocks.now()) }, halt: { [unowned self] in halt($0) },
      onLinkFailure: { [logger] host, path, reason in
        logger.warning(
          "latest/ can't show the newest file",
          metadata: ["host": "\(host)", "path": "\(path.escaped)", "reason": "\(reason)"])
      })
    return (driver, matches)
  }

  // MARK: Host

  func makeHost(_ section: Configuration.HostSection) throws -> HostDriver {
    let store = try LMDBHostStore<SHA256Tree>(at: configuration.dataFolder.hostStore)
    let key = try loadOrMakeKey()
    let identity = try openJournal(store, key)
    let limits = configuration.limits
    let files = LinuxHostFiles(
      limits: limits, storedLeaves: { file, count in try store.leaves(of: file, count: count) })
    let settings = HostSettings(
      host: identity.host, journal: identity.journal, publicKey: identity.publicKey,
      servers: section.servers.map(\.name.text), follow: section.follow, excluded: ownInodes(files), limits: limits,
      mostHeld: files.mostPinned,
      jitterSeed: Randomness.uuid().low)
    return HostDriver(
      settings: settings, identity: identity, key: key, store: store, files: files,
      destinations: section.servers.map { .init(name: $0.name.text, address: $0.address) },
      tls: try TLSContext(.client, configuration.credentials), loop: loop, workers: workers,
      connections: connections, report: { [reports] in reports.report($0, at: Clocks.now()) },
      halt: { [unowned self] in halt($0) })
  }

  private func loadOrMakeKey() throws -> JournalKey {
    let path = configuration.dataFolder.journalKey
    if FileManager.default.fileExists(atPath: path) { return try JournalKey.load(path) }
    let key = try JournalKey.make()
    try key.store(at: path)
    return key
  }

  /// The journal of the data folder, begun if there is none: identity, then record 0 with the binding (W5).
  private func openJournal(_ store: LMDBHostStore<SHA256Tree>, _ key: JournalKey) throws -> JournalIdentity {
    let name = configuration.node.name
    let identity: JournalIdentity
    if let known = try store.identity() {
      identity = known
    } else {
      identity = JournalIdentity(
        host: name, journal: JournalID(Randomness.uuid()), publicKey: key.publicKey)
      try store.create(identity)
    }
    guard identity.host == name else {
      throw StartFailure(
        "\(configuration.node.data) holds the journal of \(identity.host), but node.name is \(name): "
          + "give the node a data folder of its own")
    }
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
    if let objection = configuration.objection(to: try TLSContext(.client, configuration.credentials).identity) {
      throw StartFailure(objection)
    }
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

  /// The node's own data, log root and log file: never followed (D9).
  private func ownInodes(_ files: LinuxHostFiles) -> Set<InodeKey> {
    var paths = [configuration.node.data]
    if let logs = configuration.server?.logs { paths.append(logs) }
    if let standardError = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/2"),
      standardError.hasPrefix("/"), !standardError.hasPrefix("/dev/")
    {
      paths.append(standardError)
    }
    return Set(paths.compactMap { inode(of: BytePath($0), files) })
  }

  private func inode(of path: BytePath, _ files: LinuxHostFiles) -> InodeKey? {
    guard case .entries(let entries, _) = files.list(path.directory, names: [path.name]).outcome else { return nil }
    return entries.first?.facts?.inode
  }
}

/// A range of a string's bytes, put together from the log's ranges. Rare: what the log holds is mostly in memory too, and
/// folded at once.
private func loggedBytes(
  of key: StringKey, _ range: Range<UInt64>, in store: LMDBServerStore<SHA256Tree>
) throws(StoreError) -> [UInt8] {
  var bytes: [UInt8] = []
  for part in try store.logRanges() where part.key == key {
    let next = range.lowerBound + UInt64(bytes.count)
    let end = part.offset + UInt64(part.length)
    guard part.offset <= next, next < end else { continue }
    let payload = try store.logPayload(of: key, offset: part.offset)
    bytes += payload[Int(next - part.offset)..<Int(min(end, range.upperBound) - part.offset)]
    if UInt64(bytes.count) == range.upperBound - range.lowerBound { return bytes }
  }
  throw .outOfRange
}

/// Signatures by OpenSSL.
struct CertificateVerifier: SignatureVerifier {
  let authorities: BindingAuthorities

  func isValid(_ checkpoint: Checkpoint, publicKey: Digest) -> Bool {
    JournalKey.verify(checkpoint.signature, checkpoint.signedBytes, publicKey: publicKey)
  }

  func refusal(of opened: JournalOpened) -> String? {
    switch opened.binding {
    case .certificate(let chain, let signature):
      let bytes = JournalOpened.bindingBytes(
        host: opened.host, journal: opened.journal, publicKey: opened.publicKey)
      return authorities.refusal(chain: chain, signature: signature, over: bytes, hostName: opened.host.text)
    case .journalKey:
      return "the journal is bound by its own key alone, and this server asks for certificates"
    }
  }
}
