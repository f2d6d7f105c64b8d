package import JournalModel
package import MerkleLog

/// The whole decision of a host, sans-IO: following, journaling, one delivery for each server.
package struct HostMachine<H: TreeHasher>: ~Copyable where H.Value == Digest {
  package let settings: HostSettings

  package init(settings: HostSettings) { self.settings = settings }

  /// Takes one input and appends the effects that follow from it, in the order in which they are to be performed.
  /// `wall` is written into records and decides nothing.
  package mutating func step(
    _ input: HostInput, at now: Instant, wall: WallTime, into effects: inout [HostEffect]
  ) {
  }

  /// When `tick` is due next, if nothing else comes before.
  package var nextDeadline: Instant? { nil }
}
