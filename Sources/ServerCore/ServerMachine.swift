package import JournalModel
package import MerkleLog

/// The whole decision of a server, sans-IO: admission, records, payload, the order of durability, acknowledgements.
package struct ServerMachine<H: TreeHasher>: ~Copyable where H.Value == Digest {
  package let settings: ServerSettings
  private let verifier: any SignatureVerifier

  package init(settings: ServerSettings, verifier: any SignatureVerifier) {
    self.settings = settings
    self.verifier = verifier
  }

  /// Takes one input and appends the effects that follow from it, in the order in which they are to be performed.
  package mutating func step(
    _ input: ServerInput, at now: Instant, wall: WallTime, into effects: inout [ServerEffect]
  ) {
  }

  /// When `tick` is due next, if nothing else comes before.
  package var nextDeadline: Instant? { nil }
}
