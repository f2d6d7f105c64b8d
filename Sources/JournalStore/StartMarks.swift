package import JournalModel

/// One life of a server's process beside a store and a log root, and how far it counted (P3).
package struct StartMark: Hashable, Sendable {
  /// Random, new at each start.
  package var life: UUIDBytes
  package var number: UInt64
  package init(life: UUIDBytes, number: UInt64) {
    self.life = life
    self.number = number
  }
}

/// What a store has of that, to be compared with what stands beside the plain files.
///
/// By a number alone a store would pass that comes from another life of the same place: after both were moved away and
/// begun anew, or both restored, an older one may have the greater number.
package struct StartMarks: Hashable, Sendable {
  package var present: StartMark
  /// What stood beside the files when the present life began: a crash between the two leaves it there.
  package var earlier: StartMark?
  package init(present: StartMark, earlier: StartMark? = nil) {
    self.present = present
    self.earlier = earlier
  }

  /// Whether the store that has these is the one that went with plain files beside which that mark stands.
  package func matches(_ beside: StartMark) -> Bool {
    [present, earlier].contains { $0.map { $0.life == beside.life && $0.number >= beside.number } ?? false }
  }

  /// The next ones in a life, the store's before those beside the files.
  package static func next(after held: StartMarks?, beside: StartMark?, in life: UUIDBytes) -> StartMarks {
    let number = max(held?.present.number ?? 0, beside?.number ?? 0).saturatingAdding(1)
    let present = StartMark(life: life, number: number)
    return StartMarks(present: present, earlier: held?.present.life == life ? held?.earlier : beside)
  }
}
