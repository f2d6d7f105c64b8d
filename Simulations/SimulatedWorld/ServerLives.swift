import JournalModel
import JournalStore
import ServerCore
import WireProtocol

/// Everything that the real server machine ever answered, by what it had been told: a tree of inputs, each life of a
/// process a path from a root.
///
/// A machine can't be copied. It is a function of its inputs, so that an input that came after equal ones isn't asked
/// again, and a machine that is needed elsewhere is told everything once more. Lives that began alike and heard the same
/// are one: the number of a node stands for the whole state of the machine. If `merges`, machines that differ in no field
/// are one as well: a node is a state, and its path one of those that lead there.
final class ServerLives {
  fileprivate struct Step: Hashable {
    var after: Int?
    var input: ServerInput
    var now: Instant
  }
  struct Answer {
    fileprivate(set) var node: Int
    fileprivate(set) var effects: [ServerEffect]
  }
  struct Node {
    fileprivate var step: Step
    fileprivate(set) var deadline: Instant?
    fileprivate(set) var isAtRest = false
    fileprivate(set) var totals: [HostName: HostTotals] = [:]
    /// It and its peers hold the same, and know it.
    fileprivate(set) var isEqualToPeers = false
  }

  private let settings: ServerSettings
  private let wall: WallTime
  private let merges: Bool
  private(set) var nodes: [Node] = []
  private var known: [Step: Answer] = [:]
  /// Nodes by the fields of their machine.
  private var byFields: [Digest128: Int] = [:]
  private var machine: ServerMachine<SimulatedTree>
  /// Where the machine stands.
  private var position: Int?
  /// Inputs that a machine took, those that were told once more included.
  private(set) var steps = 0

  init(settings: ServerSettings, wall: WallTime, merges: Bool) {
    self.merges = merges
    self.settings = settings
    self.wall = wall
    machine = ServerMachine(settings: settings, verifier: SimulatedSignatures())
  }

  /// Where a machine stands that is told this, after what leads to a node, and what it asks for; nil: as the first thing
  /// of its life.
  func answer(after: Int?, _ input: ServerInput, at now: Instant) -> Answer {
    let step = Step(after: after, input: input, now: now)
    if let answer = known[step] { return answer }
    bring(to: after)
    var answer = Answer(node: 0, effects: [])
    tell(step, &answer.effects)
    answer.node = node(reachedBy: step)
    known[step] = answer
    position = answer.node
    return answer
  }

  private func node(reachedBy step: Step) -> Int {
    if merges {
      let fields = Reflection.digest(fieldsOf: machine, except: ["settings", "verifier"])
      if let node = byFields[fields] { return node }
      byFields[fields] = nodes.count
    }
    var node = Node(step: step)
    let status = machine.status
    node.deadline = machine.nextDeadline
    node.isAtRest = status.loggedBytes == 0 && status.pendingBytes == 0 && status.failing == 0
    node.isEqualToPeers = status.peers.allSatisfy(\.isEqual)
    for host in status.hosts { node.totals[host.name] = host.totals }
    nodes.append(node)
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
