import JournalModel
import WireProtocol

// What doesn't answer when its bytes are asked for costs its own files time and nobody else's (G3, D10). The first time is
// paid for: until `Limits.hungAfter` nobody knows, and the frame keeps its credit and its place. From then on one file
// tries for all that lie with it, and a byte is asked for, in no place that others wait for: else each file of a file
// system that hangs would in its turn keep the credit of the others for as long again.

extension Delivery {
  static let silence = "its file system doesn't answer"

  /// Whether the file may be read now: where nothing answers only one at a time is asked for.
  func mayTry(_ file: FollowedFile) -> Bool {
    let lane = file.inode.lane
    guard let trying = silent[lane], trying != file.id else { return true }
    if isTrying(trying) { return false }
    silent[lane] = file.id
    return true
  }

  private func isTrying(_ id: FileID) -> Bool {
    guard let cursor = cursors[id] else { return false }
    switch cursor.state {
    case .unasked, .asked, .comparing: return true
    case .active: return cursor.sent < cursor.promised || inFlight.values.contains { $0.file == id }
    case .unknown, .ahead, .parked, .retrying, .stuck: return false
    }
  }

  /// It didn't answer when it was last asked, or nothing where it lies does.
  func isDoubtful(_ file: FollowedFile, _ cursor: Cursor) -> Bool {
    cursor.isSilent || silent[file.inode.lane] != nil
  }

  /// Those that others wait for.
  var awaitedComparisons: Int {
    if silent.isEmpty { return comparing.count }
    return comparing.values.count { silent[$0] == nil }
  }

  func unanswered(_ id: ConnectionID, _ fileID: FileID, _ turn: inout Turn) {
    guard connection == id, let file = files[fileID], let cursor = cursors[fileID] else { return }
    if let (lane, bytes) = landed(fileID, where: { _ in true }) {
      fellSilent(fileID, lane, cursor)
      takeBack(bytes, of: fileID, Self.silence, &turn)
    } else if case .comparing = cursor.state, let lane = comparing.removeValue(forKey: fileID) {
      fellSilent(fileID, lane, cursor)
      isDue = true
      turn.checks.append(fileID)
      setAside(file, cursor, Self.silence, &turn)
    }
  }

  private func fellSilent(_ id: FileID, _ lane: UInt64, _ cursor: Cursor) {
    cursor.isSilent = true
    if silent[lane] == nil { silent[lane] = id }
  }

  func answered(_ file: FollowedFile, _ lane: UInt64) {
    cursors[file.id]?.isSilent = false
    silent[lane] = nil
  }
}
