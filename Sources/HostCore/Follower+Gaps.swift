import JournalModel
import JournalStore

// What a gap lacks on one server may stand on another one, and come from there (J4). The host asks about files with gaps
// when a connection opens and after each scan, and hears of the others as they come; once every server has a file up to
// its gap's end, under the root that is journaled, the gap is struck out. Its record stays.

extension Follower {
  func askAboutGaps() {
    for delivery in deliveries where delivery.mustAskAboutGaps { delivery.ask(about: gaps.filesWithEnd) }
  }

  /// What servers may lack of files that ended.
  func readEnded(_ turn: inout Turn) {
    for delivery in deliveries {
      guard let (query, connection) = delivery.readEnded(at: turn.now) else { continue }
      read(query, for: .ended(delivery, connection), &turn)
    }
  }

  /// Of files that are in memory.
  func strikeOutGaps(of ids: [FileID]) {
    for id in ids {
      guard let file = files[id], let end = gaps.end(of: file.uuid), end <= file.committedLength,
        deliveries.allSatisfy({ $0.durable(id) >= end })
      else { continue }
      strikeOutGaps(of: file.uuid)
      file.gapFrom = nil
      journal.markDirty(file)
    }
  }

  /// Of a row: no more of it will ever be read.
  func strikeOutGaps(of stored: StoredFile) {
    let file = stored.row.file
    guard files[file] == nil, let end = gaps.end(of: file), end <= stored.row.length,
      deliveries.allSatisfy({ $0.noted(stored) >= end })
    else { return }
    strikeOutGaps(of: file)
  }

  private func strikeOutGaps(of file: FileUUID) {
    for gap in gaps.heal(file) { journal.heal(gap) }
  }
}
