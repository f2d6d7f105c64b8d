import Dispatch
import Foundation
import HostCore
import JournalModel
import LinuxIO
import Logging
import SecureTransport
import ServerCore
import Synchronization

/// The daemon: one loop, the machines of its roles with their drivers, and those who ask about it.
package final class Node: @unchecked Sendable {
  let configuration: Configuration
  let loop: EventLoop
  let workers = Workers(for: WorkKey.beneficiary)
  let connections = ConnectionNumbers()
  let reports: ReportLog
  let keys: NodeKeys
  let logger = LineLog.logger()
  let began = Clocks.now()
  private(set) var host: HostDriver?
  private(set) var server: ServerDriver?
  var logRootLock: DirectoryLock?
  var logMounts: LogMounts?
  var settlements = Settlements()
  var page: StatusServer?
  var pageRetry: EventLoop.Timer?
  /// Why there is no status page.
  let pageTrouble = Mutex<String?>(nil)
  private var stopLimit: EventLoop.Timer?
  private var exitStatus: Int32 = 0

  /// What hangs, as last looked at.
  var hanging: [Workers.Hung] = []
  /// How long a node that was asked to stop waits for its farewells to leave.
  private static let stopLimit = Interval.seconds(2)
  /// How long commits and plain files that are under way then have to end; what hangs is left to the kernel.
  private static let endLimit = Interval.milliseconds(1_500)

  /// Runs the node until SIGTERM or SIGINT; returns the process's exit status.
  package static func run(_ configuration: Configuration) throws -> Int32 {
    ignoreSIGPIPE()
    Heap.bound()
    let node = try Node(configuration)
    let status = try node.run()
    node.leave(status)
    return status
  }

  private init(_ configuration: Configuration) throws {
    self.configuration = configuration
    reports = ReportLog(logger: logger, servers: configuration.host?.servers.map(\.name.text) ?? [])
    keys = NodeKeys(configuration) { [reports] in reports.log($0, at: Clocks.now()) }
    loop = try EventLoop()
    try Self.makeDirectory(configuration.node.data, mode: 0o700, for: "node.data")
  }

  private func run() throws -> Int32 {
    for warning in configuration.warnings { logger.warning("\(warning)") }
    CrashNotice.install(data: configuration.node.data)
    if let section = configuration.server {
      try explaining(configuration.dataFolder.serverStore, Self.serverRemedy) {
        let (driver, counterMatches) = try makeServer(section)
        server = driver
        logMounts?.watch(on: loop)
        try driver.start(counterMatches: counterMatches)
      }
    }
    if let section = configuration.host {
      try explaining(configuration.dataFolder.hostStore, Self.hostRemedy) {
        host = try makeHost(section)
        try host?.start()
      }
    }
    for finding in DirectoryRights.findings(for: configuration) {
      logger.warning("\(finding.subject): \(finding.message)")
    }
    keys.watch()
    let signals = [SIGTERM, SIGINT, SIGHUP].map(handle)
    defer { for signal in signals { signal.cancel() } }
    let control = try ControlServer(at: configuration.dataFolder.controlSocket, node: self)
    defer { control.stop() }
    openPage()
    defer { page?.stop() }
    review()
    trimHeap()
    ServiceManager.notify("READY=1")
    logger.notice(
      "started",
      metadata: ["name": "\(configuration.node.name)", "roles": "\(configuration.roles.joined(separator: ","))"])
    try loop.run(deadline: { [unowned self] in nextDeadline }, onDeadline: { [unowned self] in tick() })
    keys.stop()
    endWork()
    reports.end()
    logger.notice("stopped")
    return exitStatus
  }

  /// Waits for what is worth waiting for: a followed file or a name server isn't.
  private func endWork() {
    _ = workers.awaitIdle(until: Clocks.now() + Self.endLimit) { !$0.isOneOfMany }
    workers.stop()
  }

  /// Ends the process here if file systems could keep it from ending.
  private func leave(_ status: Int32) {
    ProcessEnd.leave(status, isHung: !workers.isIdle { _ in true }, mounts: MountTable())
  }

  /// Looks at what hangs, and for what was left out of the log.
  private func review() {
    let now = Clocks.now()
    reports.flush(at: now)
    reviewHanging(at: now)
    host?.review(at: now)
    nextReview = loop.schedule(after: .seconds(1)) { [unowned self] in review() }
  }
  private var nextReview: EventLoop.Timer?

  private func trimHeap() {
    nextTrim = loop.schedule(after: .seconds(60)) { [unowned self] in
      host?.age()
      Heap.trim()
      trimHeap()
    }
  }
  private var nextTrim: EventLoop.Timer?

  private var nextDeadline: Instant? {
    [host?.machine.nextDeadline, server?.machine.nextDeadline].compactMap { $0 }.min()
  }

  private func tick() {
    let now = Clocks.now()
    if let due = host?.machine.nextDeadline, due <= now { host?.take(.tick) }
    if let due = server?.machine.nextDeadline, due <= now { server?.take(.tick) }
  }

  // MARK: Ends

  private func handle(_ number: Int32) -> any DispatchSourceSignal {
    signal(number, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: number)
    source.setEventHandler { [loop] in loop.post { [weak self] in self?.signalled(number) } }
    source.resume()
    return source
  }

  private func signalled(_ number: Int32) {
    if number == SIGHUP {
      logger.warning("SIGHUP: this version reads its configuration at start only; restart the node to change it")
    } else if stopLimit == nil {
      stop()
    }
  }

  private func stop() {
    ServiceManager.notify("STOPPING=1")
    host?.take(.stop)
    server?.stop()
    settlements.endAll(SettleResult(reached: false, unsettled: [], status: status()))
    stopLimit = loop.schedule(after: Self.stopLimit) { [unowned self] in loop.stop() }
    stopWhenQuiet()
  }

  /// The farewells have left when no connection is open any more.
  private func stopWhenQuiet() {
    if (host?.isQuiet ?? true) && (server?.isQuiet ?? true) { return loop.stop() }
    quietCheck = loop.schedule(after: .milliseconds(10)) { [unowned self] in stopWhenQuiet() }
  }
  private var quietCheck: EventLoop.Timer?

  /// The store must not go on (P4): the service manager starts the node anew.
  func halt(_ reason: String) {
    logger.critical("the store stops and the node with it, start it anew", metadata: ["reason": "\(reason)"])
    exitStatus = EX_IOERR
    loop.stop()
  }
}
