/// Runs plans.
package enum Simulation {
  package static func run(_ plan: Plan) -> Outcome { run(plan, observer: nil) }

  package static func run(_ plan: Plan, mutant: Mutant? = nil, observer: ((String) -> Void)?) -> Outcome {
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

/// Makes a failing plan smaller as long as the same oracle fails: operations by delta debugging (Zeller and Hildebrandt
/// 2002), then knobs back to their defaults.
package struct Shrinker {
  private let oracle: OracleName
  package private(set) var plan: Plan
  package private(set) var runs = 0
  private let run: (Plan) -> Outcome
  private let mostRuns: Int

  /// Nil when the plan doesn't fail.
  package init?(_ plan: Plan, mostRuns: Int = 3_000, run: @escaping (Plan) -> Outcome = Simulation.run) {
    guard let failure = run(plan).failure else { return nil }
    oracle = failure.oracle
    self.plan = plan
    self.run = run
    self.mostRuns = mostRuns
  }

  package mutating func shrink() -> Plan {
    var before = -1
    while before != plan.operations.count, runs < mostRuns {
      before = plan.operations.count
      shrinkOperations()
      shrinkKnobs()
      shrinkNumbers()
    }
    return plan
  }

  private mutating func fails(_ candidate: Plan) -> Bool {
    guard runs < mostRuns else { return false }
    runs += 1
    guard run(candidate).failure?.oracle == oracle else { return false }
    plan = candidate
    return true
  }

  private mutating func shrinkOperations() {
    var size = max(1, plan.operations.count / 2)
    while true {
      var start = 0
      var didShrink = false
      while start < plan.operations.count {
        var candidate = plan
        candidate.operations.removeSubrange(start..<min(start + size, plan.operations.count))
        if fails(candidate) { didShrink = true } else { start += size }
      }
      if size == 1, !didShrink { return }
      if !didShrink { size = max(1, size / 2) }
    }
  }

  private mutating func shrinkKnobs() {
    for name in Knobs.Name.allCases where plan.knobs[name] != Knobs.standard(name) {
      var candidate = plan
      candidate.knobs[name] = Knobs.standard(name)
      if name == .loadEnd { candidate.knobs[name] = (plan.operations.last?.time ?? 0) + 1_000_000_000 }
      if candidate != plan { _ = fails(candidate) }
    }
  }

  private mutating func shrinkNumbers() {
    for index in plan.operations.indices {
      guard case .append(let host, let writer, let count, let kind) = plan.operations[index].operation, count > 1 else {
        continue
      }
      for smaller in [1, count / 2] where smaller < count {
        var candidate = plan
        candidate.operations[index].operation = .append(host: host, writer: writer, count: smaller, kind: kind)
        if fails(candidate) { break }
      }
    }
  }
}
