import JournalModel

/// One wait for 'all that exists now is on every server' (`status --settled`): a clean scan that begins after the
/// question, every file read to the size it had then, and all of that durable everywhere or in a gap.
struct Settlement {
  struct Target {
    var length: UInt64
    /// `FollowedFile.looks` must have come this far: what a listing shows of a size that moved may be a truncation.
    var looks: UInt64
    /// Its size isn't known before that: no listing shows it.
    var takesSizeThen = false
  }
  let token: UInt64
  /// A clean scan later than this one has to end first.
  let afterScan: UInt64
  private(set) var hasTargets = false
  private(set) var targets: [FileID: Target] = [:]
  /// Records that every server must hold.
  private(set) var head: UInt64 = 0

  init(token: UInt64, afterScan: UInt64) {
    self.token = token
    self.afterScan = afterScan
  }

  /// Takes what the step changed. True when all is settled. A server that lost what it had makes everything a target again:
  /// what was struck off was struck off by its word.
  mutating func review(_ follower: Follower, _ turn: Turn) -> Bool {
    if turn.hasLost { hasTargets = false }
    if !hasTargets {
      guard follower.scan.lastClean > afterScan, follower.rivals.isEmpty else { return false }
      note(follower)
      for file in follower.files.all { review(file.id, follower) }
    } else {
      for (old, next) in turn.reborn where targets[old] != nil {
        targets[old] = nil
        targets[next] = Target(length: 0, looks: 1, takesSizeThen: true)
      }
      for id in turn.touched { review(id, follower) }
    }
    return targets.isEmpty && follower.owedNames == 0
      && follower.deliveries.allSatisfy { lack(of: $0) == nil }
  }

  private mutating func note(_ follower: Follower) {
    hasTargets = true
    targets = [:]
    head = follower.journal.expectedLength
    for file in follower.files.all where file.isAttached || file.closed == nil {
      // An incarnation that began since the listing has shown no size yet.
      let isUnread = file.apart == nil && (file.isNameless || (file.isAttached && file.looks == 0 && file.length == 0))
      let mustLook = isUnread || file.needsCheck && file.apart == nil
      let looks: UInt64 = mustLook ? (file.reading == .underWay ? 2 : 1) : 0
      targets[file.id] = Target(
        length: file.extent, looks: file.looks &+ looks, takesSizeThen: isUnread)
      if mustLook { follower.check(file) }
    }
  }

  /// The journal will be this long at least: what its store refuses isn't recorded.
  mutating func expect(_ length: UInt64) { head = min(head, length) }

  private mutating func review(_ id: FileID, _ follower: Follower) {
    guard var target = targets[id] else { return }
    guard let file = follower.files[id] else {
      targets[id] = nil
      head = max(head, follower.journal.expectedLength)
      return
    }
    if target.takesSizeThen, file.looks >= target.looks {
      target.takesSizeThen = false
      target.length = max(target.length, file.extent)
      targets[id] = target
    }
    guard Self.lack(of: file, target, follower) == nil else { return }
    targets[id] = nil
    // The record of a gap by which it is reached may be on its way to the store: which number it gets isn't known then.
    let isDurable = file.apart == nil && file.change == nil && file.commitsAhead == 0
    head = max(head, isDurable ? file.lastRecord &+ 1 : follower.journal.expectedLength)
  }

  /// What a server still lacks beside the targets, nil when nothing: records, and files that ended before it was named
  /// or that it lost.
  func lack(of delivery: Delivery) -> HostStatus.Lack? {
    var lack = HostStatus.Lack(
      server: delivery.index, noted: head, durable: delivery.durableRecords, reason: "on its way")
    if delivery.durableRecords >= head {
      guard !delivery.hasEndedFiles else { return nil }
      lack.reason = Self.unverified
      if let files = delivery.lackedEnded {
        lack.reason = Self.lacked(files.count)
        lack.isElsewhere = true
      }
    }
    if !delivery.isOpen { lack.reason = "no connection" }
    return lack
  }

  private static let unverified = "the server hasn't said yet that it still has it"

  private static func lacked(_ count: Int) -> String {
    "it hasn't all of \(count) or more files that ended before it was named, or that it lost: its peers have to bring them"
  }

  /// What a file still lacks, nil when nothing.
  static func lack(of file: FollowedFile, _ target: Target, _ follower: Follower) -> HostStatus.Lack? {
    if file.closed == .vanished { return nil }
    // What was seen and cut off unread isn't waited for: a gap says so.
    let length = min(target.length, file.extent)
    let isLooked = file.apart != nil || file.looks >= target.looks
    func here(_ reason: String) -> HostStatus.Lack {
      HostStatus.Lack(server: nil, noted: length, durable: file.committedLength, reason: reason)
    }
    if !file.isAttached, file.gapFrom == nil, file.committedLength < length { return here("not found") }
    if file.committedLength < length || !isLooked {
      return here(follower.reads.isHung(file.id) ? "its file system doesn't answer" : file.unreadable ?? "being read")
    }
    let owed = min(length, file.gapStart)
    guard let delivery = follower.deliveries.first(where: { $0.durable(file.id) < owed }) else { return nil }
    return HostStatus.Lack(
      server: delivery.index, noted: owed, durable: delivery.durable(file.id),
      reason: delivery.cursors[file.id]?.trouble ?? (delivery.isOpen ? "on its way" : "no connection"))
  }
}
