package import JournalStore

/// Tries everything that can happen in a small world, nearest states first.
package struct Exhaustive {
  package struct Report: Sendable {
    package internal(set) var states = 0
    package internal(set) var transitions = 0
    /// States in which nothing is left to do but what a fault would bring.
    package internal(set) var ends = 0
    /// Choices that lead to the state that is farthest from the beginning.
    package internal(set) var depth = 0
    /// Distinct histories that a server's machine had, and inputs that machines took for that.
    package internal(set) var histories = 0
    package internal(set) var inputs = 0
    /// Every state of the scope was seen.
    package internal(set) var isComplete = false
    package internal(set) var failure: Failure?
  }

  package struct Failure: Sendable {
    package let complaint: String
    /// No shorter schedule fails.
    package let schedule: [String]
  }

  private struct Origin {
    let state: Int
    let choice: ExhaustiveWorld.Choice
  }

  private let scope: ExhaustiveScope
  private let first: ExhaustiveWorld
  private var seen: Set<Digest128>
  /// How each state was reached first; none for the first one.
  private var origins: [Origin?] = [nil]
  private var report = Report()
  /// States that are to be explored after those of the present depth.
  private var next: [(world: ExhaustiveWorld, state: Int)]
  /// No schedule of a correct server is nearly as long.
  private static let longest = 500

  private init(_ first: ExhaustiveWorld) {
    scope = first.scope
    self.first = first
    seen = [first.digest]
    next = [(first, 0)]
  }

  /// - Parameter progress: is told after each depth.
  package static func search(
    _ scope: ExhaustiveScope, progress: (Report) -> Void = { _ in }
  ) throws(StoreError) -> Report {
    guard let setting = ExhaustiveWorld.Setting(scope) else { return Report() }
    var search = Exhaustive(try ExhaustiveWorld(setting))
    search.run(progress)
    return search.report
  }

  private mutating func run(_ progress: (Report) -> Void) {
    while !next.isEmpty, report.failure == nil, origins.count < scope.mostStates {
      let layer = next
      next = []
      for (world, state) in layer where report.failure == nil { explore(world, state) }
      if !next.isEmpty { report.depth += 1 }
      if report.depth > Self.longest, let last = next.last {
        fail("no end after \(Self.longest) choices", schedule(to: last.state))
      }
      report.states = origins.count
      report.histories = first.setting.servers.reduce(0) { $0 + $1.lives.nodes.count }
      report.inputs = first.setting.servers.reduce(0) { $0 + $1.lives.steps }
      progress(report)
    }
    report.isComplete = next.isEmpty && report.failure == nil
  }

  private mutating func explore(_ world: ExhaustiveWorld, _ state: Int) {
    let steps = world.steps
    if steps.isEmpty { report.ends += 1 }
    for choice in steps + world.strokes {
      var after = world
      after.take(choice)
      if after.steps.isEmpty { after.judgeEnd() }
      report.transitions += 1
      if let complaint = after.complaint { return fail(complaint, schedule(to: state) + [choice]) }
      guard seen.insert(after.digest).inserted else { continue }
      origins.append(Origin(state: state, choice: choice))
      next.append((after, origins.count - 1))
    }
  }

  private func schedule(to state: Int) -> [ExhaustiveWorld.Choice] {
    var choices: [ExhaustiveWorld.Choice] = []
    var state = state
    while let origin = origins[state] {
      choices.append(origin.choice)
      state = origin.state
    }
    return choices.reversed()
  }

  private mutating func fail(_ complaint: String, _ choices: [ExhaustiveWorld.Choice]) {
    var world = first
    var schedule: [String] = []
    for choice in choices {
      schedule.append(world.text(choice))
      world.take(choice)
    }
    report.failure = Failure(complaint: complaint, schedule: schedule)
  }
}
