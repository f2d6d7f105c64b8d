/// Runs plans.
package enum Simulation {
  package static func run(_ plan: Plan) -> Outcome { run(plan, observer: nil) }

  package static func run(_ plan: Plan, mutant: Mutant? = nil, observer: ((String) -> Void)?) -> Outcome {
    if let mutant, mutant.breaksMergeAlone { return Merge.outcome(of: plan, mutant: mutant) }
    do {
      let world = try World(plan, mutant: mutant)
      world.observer = observer
      return world.run()
    } catch {
      return Outcome(
        seed: plan.seed, failure: Failure(oracle: .crash, event: 0, time: 0, text: "no world: \(error)"))
    }
  }
}

extension Failure: CustomStringConvertible {
  package var description: String { "\(oracle.rawValue) at event \(event), \(time) ns: \(text)" }
}
