import JournalModel

/// What every process of a world has: a life, pauses, queues of work in order.
class SimulatedProcess {
  unowned let world: World
  let node: Node
  private(set) var isAlive = true
  private(set) var isPaused = false
  private var stalled: [() -> Void] = []
  private var busyUntil: [Lane: UInt64] = [:]
  private var pending: [Lane: Int] = [:]
  /// Jobs whose answer hasn't come.
  private(set) var unanswered = 0
  /// Dies instead of performing the effect after so many more.
  var effectsToLive: Int?
  /// What befalls the effect at hand.
  var struck: Strike.Fault?
  /// What befalls the work at hand.
  var befalling: Strike.Fault?
  private var armed: Instant?
  private var ticksAtOnce = 0
  private var lastTick = Instant(nanoseconds: .max)

  /// Work that is done one after the other.
  enum Lane: Hashable {
    case names, commit, sync
    case file(FileID)
    case string(StringKey)
    case free
  }

  init(world: World, node: Node) {
    self.world = world
    self.node = node
  }

  func end() {
    isAlive = false
    stalled = []
  }

  func pause(for duration: UInt64) {
    guard isAlive, !isPaused else { return }
    isPaused = true
    world.kernel.after(duration) { [self] in resume() }
  }

  func resume() {
    guard isPaused else { return }
    isPaused = false
    let waiting = stalled
    stalled = []
    for (index, action) in waiting.enumerated() {
      guard isAlive else { return }
      guard !isPaused else {
        stalled = Array(waiting[index...]) + stalled
        return
      }
      action()
    }
  }

  /// Runs when the process isn't paused; not at all when it is dead by then.
  func run(_ action: @escaping () -> Void) {
    guard isAlive else { return }
    if isPaused { stalled.append(action) } else { action() }
  }

  func after(_ delay: UInt64, _ action: @escaping () -> Void) {
    world.kernel.after(delay) { [self] in run(action) }
  }

  /// Work of a worker thread: done after a latency, answered after another, in order within its lane. A pause of the
  /// process stops its workers as well.
  ///
  /// - Parameter holds: takes what goes on with the work, when it can't be done now.
  func job<T>(
    _ lane: Lane, _ typical: UInt64, holds: ((@escaping () -> Void) -> Bool)? = nil, _ work: @escaping () -> T,
    answer: @escaping (T) -> Void
  ) {
    let strike = struck
    struck = nil
    let latency = world.latency(node, typical)
    let now = world.kernel.now.nanoseconds
    let begin = lane == .free ? now + latency : max(now + latency, (busyUntil[lane] ?? 0) + 1)
    let done = begin + world.latency(node, typical / 4)
    if lane != .free {
      busyUntil[lane] = done
      pending[lane, default: 0] += 1
    }
    unanswered += 1
    func perform() {
      if let holds, holds({ [self] in run(perform) }) { return }
      let result = under(strike, work)
      if lane != .free { pending[lane, default: 0] -= 1 }
      guard isAlive else { return }
      if let strike, strike.isDeath { return world.strikeDown(node, byPowerCut: strike == .powerCutUnanswered) }
      let answered = max(done, world.kernel.now.nanoseconds)
      world.kernel.at(Instant(nanoseconds: answered)) { [self] in
        run { [self] in
          unanswered -= 1
          answer(result)
        }
      }
    }
    world.kernel.at(Instant(nanoseconds: begin)) { [self] in run(perform) }
  }

  /// The world as the work finds it under a strike.
  func befall(_ fault: Strike.Fault?) {}

  private func under<T>(_ fault: Strike.Fault?, _ work: () -> T) -> T {
    guard let fault else { return work() }
    befall(fault)
    defer { befall(nil) }
    return work()
  }

  /// Work waits there that isn't done yet.
  func isBusy(_ lane: Lane) -> Bool { (pending[lane] ?? 0) > 0 }

  /// False when the process dies here instead (crash at every effect).
  func mayPerform(_ faults: @autoclosure () -> [Strike.Fault]) -> Bool {
    guard isAlive else { return false }
    struck = world.effects?.next(node, faults)
    if let struck, struck == .kill || struck == .powerCut {
      world.strikeDown(node, byPowerCut: struck == .powerCut)
      return false
    }
    guard let left = effectsToLive else { return true }
    guard left > 0 else {
      world.crash(node)
      return false
    }
    effectsToLive = left - 1
    return true
  }

  /// The connection breaks instead of taking what the effect sends.
  func takeReset() -> Bool {
    guard struck == .reset else { return false }
    struck = nil
    return true
  }

  func arm(_ deadline: Instant?, _ tick: @escaping () -> Void) {
    guard let deadline else { return }
    if let armed, armed <= deadline { return }
    armed = deadline
    world.kernel.at(deadline) { [self] in
      run { [self] in
        guard armed == deadline else { return }
        armed = nil
        countTick()
        tick()
      }
    }
  }

  private func countTick() {
    if lastTick != world.kernel.now { ticksAtOnce = 0 }
    lastTick = world.kernel.now
    ticksAtOnce += 1
    if ticksAtOnce > 1_000 { world.oracle.fail(.liveness, "\(node) ticks for ever at one instant") }
  }

  var wall: WallTime { world.wall(node) }
}
