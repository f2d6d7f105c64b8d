import Glibc
import JournalModel
import LinuxIO
import Logging
import SecureTransport
import Synchronization

/// The node's certificate, key and authorities as they lie on disk, read again whenever the files change.
///
/// Whatever is wrong with them keeps nobody from following, journaling and holding: it is said, nothing is sent or taken
/// while there are none that can be used, and what is put right is taken up without a restart. Files that can't be used
/// leave those in force that were read before. A certificate whose time is over, or hasn't come, is used all the same: it
/// is the peers' clocks that judge it, and this machine's may be the wrong one.
final class NodeKeys: Sendable {
  private struct State {
    var contexts: [TLSContext.Side: TLSContext] = [:]
    var authorities: BindingAuthorities?
    /// Why the files as they are can't be used.
    var failure: TransportError?
    var stamps: [FileStamp?] = []
    var complaint: String?
    var complainedAt = Instant(nanoseconds: 0)
  }

  /// What changes when a file is written or another one put in its place.
  private struct FileStamp: Equatable {
    var device: UInt
    var inode: UInt
    var size: Int
    var modified: [Int]

    init?(_ path: String) {
      var status = stat()
      guard stat(path, &status) == 0 else { return nil }
      device = status.st_dev
      inode = status.st_ino
      size = status.st_size
      modified = [status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec]
    }
  }

  /// Time between two looks at the files, and between two reminders that something is wrong with them.
  private static let pause: Int32 = 2_000
  static let reminder = Interval.seconds(600)

  private let configuration: Configuration
  private let report: @Sendable (ReportEvent) -> Void
  private let state = Mutex(State())
  /// Held while the files are read; true when they are to be read no more.
  private let isStopped = Mutex(false)

  /// Reads the files.
  init(_ configuration: Configuration, report: @escaping @Sendable (ReportEvent) -> Void) {
    self.configuration = configuration
    self.report = report
    look()
  }

  /// Goes on looking, on a thread of its own: files may lie where reading hangs.
  func watch() {
    startThread { [self] in
      repeat { poll(nil, 0, Self.pause) } while look()
    }
  }

  /// Reads nothing from now on. Doesn't wait for a look that hangs.
  func stop() { isStopped.withLockIfAvailable { $0 = true } }

  // MARK: What there is

  /// What sessions of the side are made with.
  func context(_ side: TLSContext.Side) throws(TransportError) -> TLSContext {
    let (context, failure) = state.withLock { ($0.contexts[side], $0.failure) }
    if let context { return context }
    throw failure ?? TransportError("own keys", "are not there yet")
  }

  /// By which bindings are judged; nil while they can't be read.
  var authorities: BindingAuthorities? { state.withLock { $0.authorities } }

  /// What is wrong with the files as they are, for the operator; nil if nothing is.
  var complaint: String? { state.withLock { $0.complaint } }

  // MARK: Looking

  /// Reads the files if they changed, or couldn't be used when last read. False once stopped.
  @discardableResult
  func look() -> Bool {
    isStopped.withLock { isStopped in
      guard !isStopped else { return false }
      let files = configuration.credentials
      // Taken first: what changes while it is read is read again.
      let stamps = [files.certificate, files.key, files.authorities].map { FileStamp($0) }
      let before = state.withLock { $0 }
      let isNew = stamps != before.stamps || before.failure != nil
      let after = judged(isNew ? read(before, stamps) : before)
      state.withLock { $0 = after }
      say(before, after)
      return true
    }
  }

  private var sides: [TLSContext.Side] {
    (configuration.connects ? [.client] : []) + (configuration.server == nil ? [] : [.server])
  }

  private func read(_ before: State, _ stamps: [FileStamp?]) -> State {
    var state = before
    state.stamps = stamps
    state.failure = nil
    do throws(TransportError) {
      for side in sides {
        let context = try TLSContext(side, configuration.credentials)
        // Servers would take it for an attempt to write under another's name.
        if side == .client, let objection = configuration.objection(to: context.identity) {
          throw TransportError("own keys", objection)
        }
        state.contexts[side] = context
      }
      if configuration.server != nil {
        state.authorities = try BindingAuthorities(file: configuration.tls.authorities)
      }
    } catch { state.failure = error }
    return state
  }

  private func judged(_ read: State) -> State {
    var state = read
    state.complaint = nil
    if let failure = state.failure {
      state.complaint = failure.description
    } else if let context = sides.lazy.compactMap({ state.contexts[$0] }).first {
      state.complaint = configuration.objection(to: context.identity) ?? context.objection()?.description
    }
    return state
  }

  private func say(_ before: State, _ after: State) {
    let now = Clocks.now()
    if let complaint = after.complaint {
      guard complaint != before.complaint || now - after.complainedAt >= Self.reminder else { return }
      state.withLock { $0.complainedAt = now }
      report(
        ReportEvent(
          .error, "keys",
          "the node's own certificate, key or authorities are no good; all goes on but connections, which come when they "
            + "are put right, without a restart",
          subject: complaint, ["why": complaint]))
    } else if !before.stamps.isEmpty, before.complaint != nil || before.stamps != after.stamps {
      let certificate = configuration.tls.certificate
      report(ReportEvent(.notice, "keys", "new keys are in use", ["certificate": certificate]))
    }
  }
}
