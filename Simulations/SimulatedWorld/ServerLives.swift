import JournalModel
import JournalStore
import ServerCore
import WireProtocol

/// Everything that the real server machine ever answered, by what it had been told: a tree of inputs, each life of a
/// process a path from a root.
///
/// A machine can't be copied. It is a function of its inputs, so that an input that came after equal ones isn't asked
/// again, and a machine that is needed elsewhere is told everything once more. Lives that began alike and heard the same
/// are one: the number of a node stands for the whole state of the machine.
final class ServerLives {
  fileprivate struct Step: Hashable {
    var after: Int?
    var input: ServerInput
    var now: Instant
  }
  struct Node {
    fileprivate var step: Step
    fileprivate(set) var effects: [ServerEffect] = []
    fileprivate(set) var deadline: Instant?
    fileprivate(set) var isAtRest = false
    fileprivate(set) var totals: [HostName: HostTotals] = [:]
  }

  private let settings: ServerSettings
  private let wall: WallTime
  private(set) var nodes: [Node] = []
  private var known: [Step: Int] = [:]
  private var machine: ServerMachine<SimulatedTree>
  /// Where the machine stands.
  private var position: Int?
  /// Inputs that a machine took, those that were told once more included.
  private(set) var steps = 0

  init(settings: ServerSettings, wall: WallTime) {
    self.settings = settings
    self.wall = wall
    machine = ServerMachine(settings: settings, verifier: SimulatedSignatures())
  }

  /// Where a machine stands that is told this, after what leads to a node; nil: as the first thing of its life.
  func node(after: Int?, _ input: ServerInput, at now: Instant) -> Int {
    let step = Step(after: after, input: input, now: now)
    if let node = known[step] { return node }
    bring(to: after)
    var node = Node(step: step)
    tell(step, &node.effects)
    let status = machine.status
    node.deadline = machine.nextDeadline
    node.isAtRest = status.loggedBytes == 0 && status.pendingBytes == 0 && status.failing == 0
    for host in status.hosts { node.totals[host.name] = host.totals }
    nodes.append(node)
    known[step] = nodes.count - 1
    position = nodes.count - 1
    return nodes.count - 1
  }

  private func bring(to node: Int?) {
    if node != nil, position == node { return }
    machine = ServerMachine(settings: settings, verifier: SimulatedSignatures())
    var path: [Step] = []
    var next = node
    while let index = next {
      path.append(nodes[index].step)
      next = nodes[index].step.after
    }
    var ignored: [ServerEffect] = []
    for step in path.reversed() { tell(step, &ignored) }
  }

  private func tell(_ step: Step, _ effects: inout [ServerEffect]) {
    steps += 1
    machine.step(step.input, at: step.now, wall: wall, into: &effects)
  }
}
