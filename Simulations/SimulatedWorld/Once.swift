import JournalModel

/// In normal operation each byte moves once (M3): where nothing dies, breaks or is put back, peers send a server of each
/// file that no host delivers to it exactly what it holds in the end.
package enum Once {
  package struct Report: LawReport {
    package var seed: UInt64
    package var sent: UInt64 = 0
    package var failures: [String] = []
  }

  /// The seed's writers and sizes, and no fault; a host reaches some of the servers only.
  package static func plan(seed: UInt64) -> Plan {
    var plan = PlanGenerator.plan(seed: seed)
    var random = RandomStream(seed: seed, entity: "plan", purpose: "once")
    let (hosts, servers) = (Int(plan.knobs[.hosts]), random.within(2...3))
    plan.knobs[.servers] = UInt64(servers)
    plan.knobs[.peers] = 1
    plan.knobs[.announcementsAhead] = random.pick([16, 4_096])
    plan.knobs[.wantsAhead] = random.pick([1, 2, 16, 256])
    (plan.knobs[.failedLoad], plan.knobs[.staleLoad]) = (0, 0)
    // Where memory is scarce a server refuses what it can't keep.
    (plan.knobs[.connectionCredit], plan.knobs[.totalCredit]) = (1 << 20, 1 << 26)
    // Of what doesn't come within 5 s, for itself or behind others, another peer is asked.
    plan.knobs[.bandwidth] = max(plan.knobs[.bandwidth], 1_000_000)
    plan.knobs[.networkLatency] = min(plan.knobs[.networkLatency], 5_000_000)
    plan.knobs[.sendBuffer] = max(plan.knobs[.sendBuffer], 4_096)
    plan.operations.removeAll {
      if case .disturb(.overwrite) = $0.operation { return true }
      return $0.operation.writesOn == nil
    }
    var reach: [TimedOperation] = []
    for host in 0..<hosts {
      let kept = random.below(servers)
      for server in 0..<servers where server != kept && (servers == 2 || random.chance(500_000)) {
        reach.append(
          TimedOperation(time: 0, operation: .disturb(.configure(host: host, server: server, isConfigured: false))))
      }
    }
    plan.operations = reach + plan.operations
    return plan
  }

  package static func report(seed: UInt64) -> Report {
    var report = Report(seed: seed)
    do {
      let world = try World(plan(seed: seed))
      world.atRest = { world in
        guard world.oracle.failure == nil else { return }
        (report.sent, report.failures) = world.oracle.checkOnce()
      }
      if let failure = world.run().failure { report.failures.append("\(failure)") }
    } catch { report.failures.append("no world: \(error)") }
    return report
  }
}
