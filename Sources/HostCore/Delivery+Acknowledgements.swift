import JournalModel
import WireProtocol

// What a server states that it holds of a file, whoever supplied it. Roots are compared where the file's own is at hand,
// which costs nothing: at its journaled length, hence always before a file counts as delivered. Below that, what was sent
// on this connection is believed without its root: the server takes the bytes of a file in their order and compares
// those that it has, so that other bytes come to light by a refusal (W3). All else is asked about, as at a resume (W2).

extension Delivery {
  func payloadDurable(_ held: [DurablePrefix], _ turn: inout Turn) {
    for prefix in held {
      if files[prefix.file] == nil { hearOf(prefix.file, .durable(prefix), &turn) } else { take(prefix, &turn) }
    }
  }

  func take(_ held: DurablePrefix, _ turn: inout Turn) {
    guard let file = files[held.file], file.isCommitted, let cursor = cursors[file.id] else { return }
    take(held, file, cursor, &turn)
  }

  private func take(_ held: DurablePrefix, _ file: FollowedFile, _ cursor: Cursor, _ turn: inout Turn) {
    guard held.length > cursor.durable else { return }
    switch cursor.state {
    // The answer will say as much, or said more.
    case .unasked, .asked, .ahead: return
    case .unknown, .comparing, .active, .parked, .retrying, .stuck:
      guard held.length == file.committedLength else { break }
      guard held.root == file.committedRoot else { return contradicted(file, cursor, &turn) }
      return wholeIsHeld(file, cursor, &turn)
    }
    switch cursor.state {
    case .active where held.length <= cursor.sent, .retrying where held.length <= cursor.sent:
      advance(file, cursor, to: held.length, &turn)
    case .active, .unknown:
      cursor.claimed = held.length
      askAnew(file, cursor)
    default: break
    }
  }

  /// Nothing that is journaled is missing, and its root was compared.
  private func wholeIsHeld(_ file: FollowedFile, _ cursor: Cursor, _ turn: inout Turn) {
    switch cursor.state {
    case .active where cursor.sent >= file.committedLength, .unknown, .parked, .retrying, .stuck:
      advance(file, cursor, to: file.committedLength, &turn)
      cursor.proven = file.committedLength
    default:
      comparing[file.id] = nil
      activate(file, cursor, from: file.committedLength, &turn)
    }
  }

  private func advance(_ file: FollowedFile, _ cursor: Cursor, to length: UInt64, _ turn: inout Turn) {
    cursor.durable = length
    if file.gapFrom != nil { turn.advanced.append(file.id) }
    cursor.mark(file.committedLength, at: turn.now)
    if cursor.state == .active || length == file.committedLength { resumed(file, cursor, &turn) }
    noteDirty(file.id, cursor)
    noteProgress()
    turn.touch(file.id)
  }

  /// The server holds other bytes than were sent to it: what it acknowledged since a root was compared may be theirs.
  func takeBackUnproven(_ file: FollowedFile, _ cursor: Cursor, _ turn: inout Turn) {
    guard cursor.proven < cursor.durable else { return }
    cursor.durable = cursor.proven
    cursor.mark(file.committedLength, at: turn.now)
    turn.hasLost = true
    noteDirty(file.id, cursor)
    turn.touch(file.id)
  }
}
