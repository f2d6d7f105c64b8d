/// Makes a failing plan smaller as long as the same oracle fails: what comes after the failure, whole kinds of operation
/// and nodes, single operations by delta debugging (Zeller and Hildebrandt 2002), then nodes, numbers and knobs; again
/// from the start until nothing gives way any more.
///
/// Leaving out one operation shifts the world's latencies for all that follow, so that a race may be lost by chance. Where
/// nothing can be left out under the plan's own seed, other seeds are tried as well.
package struct Shrinker {
  private let oracle: OracleName
  package private(set) var plan: Plan
  package private(set) var runs = 0
  private var failedAt: UInt64
  private let run: (Plan) -> Outcome
  private let mostRuns: Int

  /// Nil when the plan doesn't fail.
  package init?(_ plan: Plan, mostRuns: Int = 10_000, run: @escaping (Plan) -> Outcome = Simulation.run) {
    guard let failure = run(plan).failure else { return nil }
    oracle = failure.oracle
    failedAt = failure.time
    self.plan = plan
    self.run = run
    self.mostRuns = mostRuns
  }

  /// So few operations can be read; from there on other seeds aren't worth their time.
  private static let few = 12
  private static let otherSeeds: ClosedRange<UInt64> = 1...6

  package mutating func shrink() -> Plan {
    while runs < mostRuns {
      let before = plan
      dropTheRest()
      dropGroups()
      dropOperations([plan.seed])
      dropNodes()
      resetKnobs()
      shrinkNumbers()
      if plan == before {
        guard plan.operations.count > Self.few else { break }
        dropOperations(Array(Self.otherSeeds))
        if plan == before { break }
      }
    }
    return plan
  }

  @discardableResult private mutating func fails(_ candidate: Plan) -> Bool {
    guard runs < mostRuns, candidate != plan else { return false }
    runs += 1
    guard let failure = run(candidate).failure, failure.oracle == oracle else { return false }
    plan = candidate
    failedAt = failure.time
    return true
  }

  // MARK: Operations

  /// What comes after the failure has no part in it.
  private mutating func dropTheRest() {
    var candidate = plan
    candidate.operations.removeAll { $0.time > failedAt }
    fails(candidate)
  }

  /// Everything of one kind, of one node, of one writer, about one path: the words of the operations' texts.
  private mutating func dropGroups() {
    var counts: [String: Int] = [:]
    for operation in plan.operations { for word in Self.words(operation) { counts[word, default: 0] += 1 } }
    let groups = counts.filter { $0.value > 1 && $0.value < plan.operations.count }
    for group in groups.sorted(by: { ($0.value, $0.key) > ($1.value, $1.key) }) {
      var candidate = plan
      candidate.operations.removeAll { Self.words($0).contains(group.key) }
      fails(candidate)
    }
  }

  private static func words(_ operation: TimedOperation) -> Set<String> {
    Set("\(operation.operation)".split(separator: " ").map(String.init).filter { UInt64($0) == nil })
  }

  private mutating func dropOperations(_ seeds: [UInt64]) {
    var size = max(1, plan.operations.count / 2)
    while runs < mostRuns {
      var start = 0
      var didShrink = false
      while start < plan.operations.count {
        var candidate = plan
        candidate.operations.removeSubrange(start..<min(start + size, plan.operations.count))
        let isSmaller = seeds.contains { seed in
          candidate.seed = seed
          return fails(candidate)
        }
        if isSmaller { didShrink = true } else { start += size }
      }
      if size == 1, !didShrink { return }
      if !didShrink { size = max(1, size / 2) }
    }
  }

  // MARK: Nodes, numbers, knobs

  private mutating func dropNodes() {
    for name in [Knobs.Name.hosts, .servers] {
      while plan.knobs[name] > 1 {
        var candidate = plan
        candidate.knobs[name] -= 1
        if !fails(candidate) { break }
      }
    }
  }

  /// Sizes, durations and counts, as the text has them: nothing, one, or half as much.
  private mutating func shrinkNumbers() {
    for index in plan.operations.indices {
      let count = "\(plan.operations[index].operation)".split(separator: " ").count
      for place in 1..<max(1, count) {
        while let candidate = smaller(index, place).first(where: { runs < mostRuns && fails($0) }), candidate == plan {}
      }
    }
  }

  private func smaller(_ index: Int, _ place: Int) -> [Plan] {
    var words = "\(plan.operations[index].operation)".split(separator: " ").map(String.init)
    guard words.indices.contains(place), let value = UInt64(words[place]), value > 0 else { return [] }
    return [0, 1, value / 2].filter { $0 < value }.compactMap { less in
      words[place] = "\(less)"
      let line = "\(plan.operations[index].time) " + words.joined(separator: " ")
      guard let operation = try? Plan(text: line).operations.first else { return nil }
      var candidate = plan
      candidate.operations[index] = operation
      return candidate
    }
  }

  private mutating func resetKnobs() {
    let own = Set([Knobs.Name.hosts, .servers])
    for name in Knobs.Name.allCases where plan.knobs[name] != Knobs.standard(name) && !own.contains(name) {
      var candidate = plan
      candidate.knobs[name] = Knobs.standard(name)
      if name == .loadEnd { candidate.knobs[name] = (plan.operations.last?.time ?? 0) + 1_000_000_000 }
      fails(candidate)
    }
  }
}
