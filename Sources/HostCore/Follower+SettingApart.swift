package import JournalModel

// What the journal's store refuses of one file for good would keep all others waiting. So the file is set apart until the
// next start: it isn't read, nothing more is journaled of it, and a gap with an open end says so, at once and durably. What
// was committed of it goes on being delivered. If the store takes it after the start, its bytes arrive and the gap is
// healed.

extension Follower {
  func setApart(_ uuid: FileUUID, _ path: BytePath, _ why: String, _ turn: inout Turn) {
    turn.report(.setApart(uuid, path, why))
    apart[uuid] = SetApart(file: uuid, path: path, why: why)
    // Of one that ended meanwhile the gap was recorded then.
    guard let file = files[uuid] else { return }
    file.setApart(why)
    let gap = Gap(
      subject: file.isCommitted ? .file(uuid) : .path(path), lower: file.length, upper: .max, reason: .unreadable,
      provenLength: 0, provenRoot: source.empty)
    file.gapFrom = file.length
    record(gap, &turn)
    turn.report(.gap(gap, path, lacking: deliveries.map(\.index)))
    turn.touch(file.id)
  }

  /// One without a name is held for its delivery alone.
  func reviewApart(_ file: FollowedFile, _ turn: inout Turn) {
    if isOwed(file) { return schedulePoll(file, &turn) }
    letGo(of: file, &turn)
  }
}

/// A file that the journal's store refuses.
package struct SetApart: Hashable, Sendable {
  package var file: FileUUID
  package var path: BytePath
  package var why: String
}

extension FollowedFile {
  /// Back to what is committed.
  fileprivate func setApart(_ why: String) {
    self.apart = why
    journal(committedLength, committedRoot)
    isAwaited = false
  }
}
