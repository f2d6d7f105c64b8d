import JournalModel
import JournalStore
import LMDBStore
import LinuxIO

extension NodeCheck {
  /// Whether the stores that are there are ones that this release reads and that are this node's: a start would refuse
  /// them in the same words.
  func checkStores(_ show: Show) {
    let data = configuration.dataFolder
    check(data.hostStore, show) { () throws(StoreError) in
      let identity = try LMDBHostStore<SHA256Tree>(readingAt: data.hostStore).identity()
      return identity.flatMap { configuration.objection(toJournalOf: $0.host) }
    }
    check(data.serverStore, show) { () throws(StoreError) in
      _ = try LMDBServerStore<SHA256Tree>(readingAt: data.serverStore)
      return nil
    }
  }

  /// - Parameter objection: opens the store, and says why it can't be this node's.
  private func check(_ store: String, _ show: Show, _ objection: () throws(StoreError) -> String?) {
    guard SmallFile.exists(store) else { return }
    do throws(StoreError) {
      if let objection = try objection() {
        show(Finding(.fail, "node.data", objection))
      } else {
        show(Finding(.ok, "node.data", "\(store) is readable"))
      }
    } catch {
      show(Finding(.fail, "node.data", "\(store): \(error)"))
    }
  }
}

extension Configuration {
  /// Why a journal in this node's data folder isn't this node's own; nil when it is.
  func objection(toJournalOf host: HostName) -> String? {
    guard host != node.name else { return nil }
    return "\(node.data) holds the journal of \(host), but node.name is \(node.name): "
      + "give the node a data folder of its own"
  }
}
