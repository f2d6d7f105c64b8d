import JournalModel

/// Destination isolation (G3): what server 0 hears and says, and when, doesn't depend on how server 1 fares. Compared is
/// always with server 0 alone, server 1 being dead from the start.
///
/// What destinations share by design decides which law can hold:
/// - the journal: one commit at a time, notes of what was acknowledged ride in it; and a file's close and gaps are
///   recorded when every server has it, or lacks it;
/// - what the host knows of a file: a descriptor opened or a missing name found for one server serves the others, so
///   that a neighbour may make things earlier.
///
/// - `exact`: commits take no time, no file loses its name or bytes, the host's node lives on without a pause
///   and its disk is quick. Whatever befalls server 0: every frame is the same, byte for byte, at the same nanosecond.
/// - `bounded`: commits take time; files are renamed, and the host's node dies and comes back. Server 0 is healthy: it
///   acknowledges every length of every file at most `bound` later than alone.
package enum Isolation {
  package enum Law: String, Sendable, CaseIterable { case exact, bounded }

  package enum Neighbour: String, Sendable, CaseIterable {
    case dead, perfect, silent, slow, full, failing, flapping
  }

  package struct Report: LawReport {
    package var seed: UInt64
    package var events = 0
    /// Neighbours beside which server 0's frames were the same to the nanosecond.
    package var exact = 0
    /// The greatest lateness in nanoseconds, and in parts of a thousand of what is allowed.
    package var late: UInt64 = 0
    package var share: UInt64 = 0
    package var failures: [String] = []
  }

  // MARK: Plans

  /// What of the seed's plan the law speaks of.
  package static func plan(seed: UInt64, _ law: Law) -> Plan {
    var plan = PlanGenerator.plan(seed: seed)
    plan.knobs[.servers] = 2
    plan.knobs[.peers] = 0
    // Whose frame comes first when two hosts send at one nanosecond is nobody's promise.
    if law == .exact { plan.knobs[.hosts] = 1 }
    plan.knobs[.steady] = 1
    plan.knobs[.commitLatency] = law == .exact ? 0 : plan.knobs[.commitLatency]
    // These draw from streams that belong to the host as a whole.
    for name in [Knobs.Name.interleave, .splitFrames, .shortRead] { plan.knobs[name] = 0 }
    plan.operations = plan.operations.enumerated().compactMap { index, timed in
      kept(timed.operation, index, law).map { TimedOperation(time: timed.time, operation: $0) }
    }
    plan.knobs[.loadEnd] += 10_000_000_000
    return plan
  }

  /// Nothing is cut off or removed before server 1 has it: no rename over another file, no truncation.
  private static func kept(_ operation: Operation, _ index: Int, _ law: Law) -> Operation? {
    switch operation {
    case .open, .append, .close, .hardLink, .symbolicLink, .makeDirectory: operation
    case .rename(let host, let from, let to):
      law == .bounded ? .rename(host: host, from: from, to: "\(to).\(index)") : nil
    case .rotate(let host, let path, _, _, _):
      law == .bounded ? .rename(host: host, from: path, to: "\(path).\(index)") : nil
    // Not a host's effects, nor faults of its store: they are counted over both destinations.
    case .overflow, .dropHints, .duplicateHints, .delayHints, .stepClock: operation
    // After a pause all that is due and all that was heard comes at once, and answers of a slow disk come at the instants
    // of ticks; nobody promises in which order.
    case .start(.host), .stop(.host), .kill(.host), .powerCut(.host), .pause(.host, _), .fault(.host, .slowDisk, _):
      law == .bounded ? operation : nil
    default: law == .exact && concernsServer0(operation) ? operation : nil
    }
  }

  private static func concernsServer0(_ operation: Operation) -> Bool {
    switch operation {
    case .start(let node), .stop(let node), .kill(let node), .powerCut(let node), .killAfter(let node, _),
      .pause(let node, _), .fault(let node, _, _):
      node == .server(0)
    case .reset(_, let server), .partition(_, let server, _, _), .clog(_, let server, _, _), .shred(_, let server, _):
      server == 0
    default: false
    }
  }

  package static func beside(_ neighbour: Neighbour, _ plan: Plan) -> Plan {
    var plan = plan
    let all = plan.operations.map { ($0.time, $0.operation) } + befalling(neighbour, plan)
    plan.operations = all.enumerated().sorted { ($0.element.0, $0.offset) < ($1.element.0, $1.offset) }
      .map { TimedOperation(time: $0.element.0, operation: $0.element.1) }
    return plan
  }

  private static func befalling(_ neighbour: Neighbour, _ plan: Plan) -> [(UInt64, Operation)] {
    let load = plan.knobs[.loadEnd]
    let hosts = 0..<Int(plan.knobs[.hosts])
    switch neighbour {
    case .dead: return [(0, .kill(.server(1)))]
    case .perfect: return []
    case .silent:
      return hosts.flatMap { host in
        [true, false].map { (700_000_000, .partition(host: host, server: 1, toServer: $0, duration: load)) }
      }
    case .slow:
      let clogs: [(UInt64, Operation)] = hosts.flatMap { host in
        stride(from: 0, to: load, by: 1_000_000_000).map {
          ($0, .clog(host: host, server: 1, toServer: true, duration: 800_000_000))
        }
      }
      return [(0, .fault(.server(1), .slowDisk, duration: load))] + clogs
    case .full:
      return [FaultKind.diskFull, .storeFull].map { (0, .fault(.server(1), $0, duration: load)) }
    case .failing:
      return stride(from: 0, to: load, by: 2_000_000_000).map {
        ($0, .fault(.server(1), .failStoreSync, duration: 1))
      }
    case .flapping:
      return stride(from: 300_000_000, to: load, by: 700_000_000).flatMap { at in
        [(at, .kill(.server(1))), (at + 200_000_000, .start(.server(1)))]
      }
    }
  }

  // MARK: Comparing

  package static func report(seed: UInt64, _ law: Law) -> Report {
    do { return try check(seed: seed, law) } catch { return Report(seed: seed, failures: ["no world: \(error)"]) }
  }

  private static func check(seed: UInt64, _ law: Law) throws -> Report {
    let base = plan(seed: seed, law)
    var report = Report(seed: seed)
    let alone = try run(.dead, base, &report)
    report.events = alone.frames.count
    for neighbour in Neighbour.allCases where neighbour != .dead {
      let timeline = try run(neighbour, base, &report)
      if timeline.frames == alone.frames {
        report.exact += 1
      } else if law == .exact {
        report.failures.append("\(neighbour): \(difference(alone.frames, timeline.frames))")
      } else {
        compare(neighbour, alone, timeline, base, &report)
      }
    }
    return report
  }

  private static func run(_ neighbour: Neighbour, _ base: Plan, _ report: inout Report) throws -> Timeline {
    let world = try World(beside(neighbour, base))
    let timeline = Timeline(of: 0, in: world)
    world.timeline = timeline
    if let failure = world.run().failure { report.failures.append("\(neighbour): \(failure)") }
    return timeline
  }

  private static func difference(_ alone: [Timeline.Event], _ beside: [Timeline.Event]) -> String {
    let index = zip(alone, beside).enumerated().first { $0.element.0 != $0.element.1 }?.offset
    let place = index ?? min(alone.count, beside.count)
    func text(_ events: [Timeline.Event]) -> String {
      place < events.count ? "\(events[place].time) \(events[place].text)" : "nothing"
    }
    return "frame \(place) of \(alone.count): alone \(text(alone)); now \(text(beside))"
  }

  /// How much later an acknowledgement may come: a few commits, rounds and frames, one pause of a paced file (J3), and, since a
  /// death may fall before a birth's commit or after it, a file's turn among the pages of a resume.
  private static func bound(_ knobs: Knobs, files: Int, slowness: UInt64) -> UInt64 {
    let pages = UInt64(files) / max(1, knobs[.resumePage])
    let disk = slowness * (knobs[.commitLatency] + knobs[.diskLatency])
    let frame = knobs[.payloadFrameSize] * 1_000_000_000 / max(1, knobs[.bandwidth])
    return 4 * (disk + knobs[.networkLatency] + frame + knobs[.coalescing]) + 2 * pages * knobs[.networkLatency]
  }

  /// The bound for what is acknowledged at each instant. While a host's disk is slow, so are its commits, also one that
  /// begins just before or ends just after. While hints are lost, polls and scans find what is new, and a file or name
  /// that a server waits for may move them: their interval they keep, the instants they don't.
  private static func bounds(_ plan: Plan, files: Int) -> (UInt64) -> UInt64 {
    let usual = bound(plan.knobs, files: files, slowness: 1)
    let always = plan.knobs[.hintLoss] > 0 ? plan.knobs[.rescanInterval] : 0
    let slow = bound(plan.knobs, files: files, slowness: World.slowness)
    let scan = plan.knobs[.rescanInterval]
    let more: [(during: ClosedRange<UInt64>, bound: UInt64)] = plan.operations.compactMap { timed in
      let (duration, bound): (UInt64, UInt64)
      switch timed.operation {
      case .fault(.host, .slowDisk, let lasting): (duration, bound) = (lasting, slow - usual)
      case .dropHints(_, let lasting): (duration, bound) = (lasting, scan)
      default: return nil
      }
      return (timed.time - min(usual, timed.time)...timed.time + duration + slow + bound, bound)
    }
    return { time in usual + always + (more.filter { $0.during.contains(time) }.map(\.bound).max() ?? 0) }
  }

  private static func compare(
    _ neighbour: Neighbour, _ alone: Timeline, _ beside: Timeline, _ plan: Plan, _ report: inout Report
  ) {
    let bounds = bounds(plan, files: alone.acknowledged.count)
    for (file, lengths) in alone.acknowledged.sorted(by: { $0.key < $1.key }) {
      for (length, time) in lengths where time + bounds(time) < plan.knobs[.loadEnd] {
        let bound = bounds(time)
        let other = beside.acknowledged[file]?.first { $0.length >= length }
        let late = other.map { $0.time > time ? $0.time - time : 0 } ?? .max
        if late != .max {
          report.late = max(report.late, late)
          report.share = max(report.share, late * 1_000 / max(1, bound))
        }
        guard late > bound else { continue }
        let text = other == nil ? "never" : "\(late) ns late, \(bound) allowed"
        return report.failures.append(
          "\(neighbour): \(length) bytes of \(file.text) acknowledged \(text), alone at \(time)")
      }
    }
  }
}
