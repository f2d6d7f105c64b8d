import JournalModel

/// The laws of a server's intake, which is a union of what hosts sign: delivering again changes nothing (idempotence),
/// and neither does another admissible order (commutativity).
///
/// A seed's plan runs with all its faults until everything is at rest. What its server holds then is the cargo. Couriers
/// bring the cargo in the hosts' place to an empty server of that name, each time in another way, and that server must
/// hold the same: records, checkpoints, rows, leaves, promises, bytes, plain files, their names, `latest`.
package enum Merge {
  package struct Report: LawReport {
    package var seed: UInt64
    package var deliveries = 0
    package var files = 0
    package var frames = 0
    package var repeats = 0
    package var failures: [String] = []
  }

  /// What of a plan the laws speak of.
  private static func base(of plan: Plan) -> Plan {
    var plan = plan.withoutSetbacks
    // When a server heard of a birth is its own (`StoredString.received`), and orders births that clocks put later.
    plan.operations.removeAll { if case .stepClock = $0.operation { true } else { false } }
    // A gap excuses one server from what another holds: with one, all that was ever delivered is the cargo.
    plan.knobs[.servers] = 1
    // Credit bounds how far payload may run ahead of its roots, which is the host's to plan (W1): here it may not bind.
    plan.knobs[.connectionCredit] = 1 << 24
    plan.knobs[.totalCredit] = 1 << 26
    return plan
  }

  package static func report(seed: UInt64) -> Report { report(of: PlanGenerator.plan(seed: seed), mutant: nil).0 }

  /// The outcome of a plan's run under a planted bug, a broken law being its failure.
  package static func outcome(of plan: Plan, mutant: Mutant) -> Outcome {
    var (report, outcome) = report(of: plan, mutant: mutant)
    if let first = report.failures.first, outcome.failure == nil {
      outcome.failure = Failure(oracle: .merge, event: outcome.events, time: outcome.simulated, text: first)
    }
    return outcome
  }

  private static func report(of plan: Plan, mutant: Mutant?) -> (Report, Outcome) {
    var report = Report(seed: plan.seed)
    var outcome = Outcome(seed: plan.seed, failure: nil)
    do {
      let world = try World(base(of: plan), mutant: mutant)
      world.atRest = { world in
        guard world.oracle.failure == nil else { return }
        do { try deliver(world, &report) } catch { report.failures.append("no cargo: \(error)") }
      }
      outcome = world.run()
      if let failure = outcome.failure, report.failures.isEmpty { report.failures.append("\(failure)") }
    } catch { report.failures.append("no world: \(error)") }
    return (report, outcome)
  }

  private static func deliver(_ world: World, _ report: inout Report) throws {
    for host in world.hosts { world.crash(.host(host.index)) }
    let server = world.servers[0]
    // Names under `latest` that a full disk refused are made again after every start (P1).
    world.crash(.server(server.index))
    world.start(.server(server.index))
    world.rest()
    let holdings = Holdings(of: server, world.oracle)
    let cargos = try world.hosts.map { try Cargo($0, holdings) }
    report.files = cargos.reduce(0) { $0 + $1.files.count }
    for habits in Delivery.Habits.all {
      world.crash(.server(server.index), silently: true)
      world.replaceEmpty(server.index)
      world.start(.server(server.index))
      let delivery = Delivery(cargos, to: server.index, habits, world)
      delivery.run()
      report.deliveries += 1
      report.frames += delivery.frames
      report.repeats += delivery.repeats
      if let failure = world.oracle.failure {
        return report.failures.append("\(habits.name): \(failure)")
      }
      if let difference = Holdings(of: server, world.oracle).difference(from: holdings) {
        report.failures.append("\(habits.name): \(difference)")
      }
    }
  }
}
