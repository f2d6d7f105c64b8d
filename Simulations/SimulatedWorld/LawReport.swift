/// What a metamorphic law, which compares several runs of a seed's plan, found in one seed.
package protocol LawReport: Sendable {
  var seed: UInt64 { get }
  var failures: [String] { get }
}

extension Plan {
  /// Without damage, setbacks of servers and hostile hosts: what a server holds then is what hosts delivered.
  var withoutSetbacks: Plan {
    var plan = self
    plan.knobs[.peers] = 0
    plan.operations.removeAll {
      if case .disturb(let disturbance) = $0.operation { disturbance.writesOn == nil } else { false }
    }
    return plan
  }
}
