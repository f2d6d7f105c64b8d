import JournalModel
import LinuxIO
import Logging
import Synchronization

// The page of `status.listen`.

extension Node {
  private static let pagePause = Interval.seconds(5)

  /// Serves `status.listen`. An address that can't be had is said and tried again: it keeps nobody from following.
  func openPage() {
    guard let section = configuration.status else { return }
    take(Result { try StatusServer(at: section.listen, node: self) })
  }

  private func take(_ opened: Result<StatusServer, any Error>) {
    switch opened {
    case .success(let server):
      page = server
      pageTrouble.withLock { $0 = nil }
    case .failure(let error):
      pageTrouble.withLock { $0 = "\(error)" }
      reports.log(
        ReportEvent(
          .error, "status page", "the status page can't be served, all else goes on; tried again until it can",
          ["why": "\(error)"]), at: Clocks.now())
      pageRetry = loop.schedule(after: Self.pagePause) { [unowned self] in reopenPage() }
    }
  }

  /// On a thread of its own: a name server may keep it waiting.
  private func reopenPage() {
    guard let section = configuration.status else { return }
    startThread { [self] in
      let opened = Result { try StatusServer(at: section.listen, node: self) }
      loop.post { [weak self] in self?.take(opened) }
    }
  }
}
