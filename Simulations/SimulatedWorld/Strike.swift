package import HostCore
import JournalModel
package import ServerCore

/// One failure at one effect: the k-th of a node, counted over all its lives from the beginning of the run.
///
/// A plan has at most one. `simulate every-effect` makes all of them for a plan, one run each.
package struct Strike: Hashable, Sendable {
  package var node: Node
  package var effect: Int
  package var fault: Fault

  package enum Fault: String, Hashable, Sendable, CaseIterable {
    /// The process dies instead of performing the effect.
    case kill
    /// The power fails instead.
    case powerCut
    /// The effect is performed; the process dies before it hears the answer.
    case killUnanswered
    case powerCutUnanswered
    /// The disk fails, or has no room, for this effect alone. Of a write a part may be done.
    case inputOutput = "EIO"
    case noSpace = "ENOSPC"
    /// The sync that belongs to the effect fails; what it was to make durable may be so or not.
    case failSync
    /// The connection breaks instead of taking the frame.
    case reset
  }

  package init(node: Node, effect: Int, fault: Fault) {
    self.node = node
    self.effect = effect
    self.fault = fault
  }
}

extension Strike.Fault {
  /// The process ends with the effect.
  var isDeath: Bool { [.kill, .powerCut, .killUnanswered, .powerCutUnanswered].contains(self) }
}

extension World {
  /// The struck node dies, and the service manager starts it again: at once, soon, or when others have gone on.
  func strikeDown(_ node: Node, byPowerCut: Bool) {
    if byPowerCut { powerCut(node) } else { crash(node) }
    let effect = UInt64(plan.strike?.effect ?? 0)
    var random = RandomStream(seed: plan.seed &+ effect, entity: "\(node)", purpose: "strike")
    let delay: UInt64 = random.pick([1_000_000, 20_000_000, 300_000_000])
    effects?.backAt = kernel.now.nanoseconds + delay
    kernel.after(delay) { [self] in start(node) }
  }
}

extension Strike: CustomStringConvertible {
  package var description: String { "strike \(node) \(effect) \(fault.rawValue)" }

  /// The words after `strike`.
  init?(node: String, effect: String, fault: String) {
    guard let node = Node(text: node), let effect = Int(effect), effect >= 0, let fault = Fault(rawValue: fault) else {
      return nil
    }
    self.init(node: node, effect: effect, fault: fault)
  }
}

extension Node {
  package init?(text: String) {
    if text.hasPrefix("host"), let index = Int(text.dropFirst(4)) {
      self = .host(index)
    } else if text.hasPrefix("server"), let index = Int(text.dropFirst(6)) {
      self = .server(index)
    } else {
      return nil
    }
  }
}

/// Counts the effects of every node and says where the strike falls.
final class EffectCounter {
  private let strike: Strike?
  /// What could befall each effect of a clean run.
  private(set) var census: [Node: [[Strike.Fault]]] = [:]
  private var counts: [Node: Int] = [:]
  /// When the node that was struck is back.
  var backAt: UInt64 = 0

  init(strike: Strike?) { self.strike = strike }

  /// Counts one effect; what befalls it.
  func next(_ node: Node, _ faults: () -> [Strike.Fault]) -> Strike.Fault? {
    guard let strike else {
      census[node, default: []].append(faults())
      return nil
    }
    guard node == strike.node else { return nil }
    defer { counts[node, default: 0] += 1 }
    return counts[node, default: 0] == strike.effect && faults().contains(strike.fault) ? strike.fault : nil
  }
}

extension Simulation {
  /// Runs a plan without a strike and lists all that could be made: one run each.
  package static func strikes(of plan: Plan) throws -> (clean: Outcome, strikes: [Strike]) {
    var clean = plan
    clean.strike = nil
    let world = try World(clean)
    let counter = EffectCounter(strike: nil)
    world.effects = counter
    let outcome = world.run()
    var strikes: [Strike] = []
    for (node, effects) in counter.census.sorted(by: { $0.key < $1.key }) {
      for (index, faults) in effects.enumerated() {
        strikes += faults.map { Strike(node: node, effect: index, fault: $0) }
      }
    }
    return (outcome, strikes)
  }
}

extension HostEffect {
  /// What can befall the effect. Those that are answered can also stay unanswered.
  package var possibleFaults: [Strike.Fault] {
    let always: [Strike.Fault] = [.kill, .powerCut]
    return switch self {
    case .watch: always + [.killUnanswered, .inputOutput, .noSpace]
    case .list, .ingest, .probeWriters, .computeRoot, .load: always + [.killUnanswered, .inputOutput]
    case .commit: always + [.killUnanswered, .inputOutput, .noSpace, .failSync]
    case .sendPayload: always + [.killUnanswered, .inputOutput, .reset]
    case .send, .sendRecords: always + [.reset]
    case .verifyHeads: always + [.killUnanswered]
    case .connect: always + [.reset]
    default: always
    }
  }
}

extension ServerEffect {
  package var possibleFaults: [Strike.Fault] {
    let always: [Strike.Fault] = [.kill, .powerCut]
    let unanswered = always + [.killUnanswered, .powerCutUnanswered]
    return switch self {
    case .repair, .create, .commit: unanswered + [.inputOutput, .noSpace, .failSync]
    case .write(_, _, _, _, let sync): unanswered + [.inputOutput, .noSpace] + (sync ? [.failSync] : [])
    case .sync: unanswered + [.failSync]
    case .compare, .computeRoot: unanswered + [.inputOutput]
    case .supply: unanswered + [.inputOutput, .reset]
    case .verify: unanswered
    case .link: always + [.noSpace]
    case .send: always + [.reset]
    default: always
    }
  }
}
