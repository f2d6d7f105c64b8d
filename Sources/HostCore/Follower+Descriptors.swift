import JournalModel

// Nameless files hold descriptors, which are few: delivery must never stop for want of them. A file whose writers can't
// be told (F2: leases are for the owner, or take CAP_LEASE) would hold one for ever.

extension Follower {
  /// Before anything else, those of which only a writer that nobody can see could still want something.
  private var mostUnknown: Int { mostHeld - mostHeld / 4 }

  func makeRoom(_ turn: inout Turn) {
    guard held.count > mostUnknown else { return }
    held.removeAll { id in files[id].map { !$0.isNameless } ?? true }
    while held.count > mostUnknown, let file = leastWanted {
      held.removeAll { $0 == file.id }
      giveUp(file, &turn)
    }
  }

  /// The longest still of those that are delivered; when there is no other way, the last one that isn't.
  private var leastWanted: FollowedFile? {
    let all = held.compactMap { files[$0] }
    let delivered = all.filter { !isOwed($0) }
    func longestStill(_ some: [FollowedFile]) -> FollowedFile? { some.min { $0.stillSince < $1.stillSince } }
    if let file = longestStill(delivered.filter(\.writersUnknown)) { return file }
    guard held.count > mostHeld else { return nil }
    return longestStill(delivered) ?? all.last
  }

  /// Its descriptor goes. What a writer adds from now on can't be known; what wasn't delivered is a gap.
  func giveUp(_ file: FollowedFile, _ turn: inout Turn) {
    turn.report(.gaveUp(file.uuid, file.path))
    // With a name elsewhere it goes on when that turns up.
    guard file.links == 0 || isOwed(file) else { return loseSight(of: file, &turn) }
    vanish(file, &turn)
    if file.links == 0 { forget(file, &turn) }
  }

  func reportUnknownWriters(_ file: FollowedFile, _ turn: inout Turn) {
    guard !hasReportedUnknownWriters else { return }
    hasReportedUnknownWriters = true
    turn.report(.writersUnknown(file.path))
  }
}
