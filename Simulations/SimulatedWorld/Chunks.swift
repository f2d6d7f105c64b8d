import JournalModel
import JournalStore

/// Independence of sizes: the same plan with other frames, extents, slices and reads leaves the same contents.
///
/// Sizes shift instants, and with them what a host still sees of bytes that are cut off or removed. So the law is, for
/// each incarnation of each inode: what a name finds in the end is held by every server with the same bytes whatever
/// the sizes are; of what is over, two runs hold one the beginning of the other's bytes.
package enum Chunks {
  package struct Report: LawReport {
    package var seed: UInt64
    package var strings = 0
    package var failures: [String] = []
    package init(seed: UInt64) { self.seed = seed }
  }

  /// What the servers of a finished world hold.
  struct Contents {
    struct Key: Hashable {
      var server: Int
      var host: Int
      var inode: Int
      var incarnation: Int
    }
    struct Held {
      var bytes: [UInt8]
      var isLiving: Bool
    }
    var held: [Key: Held] = [:]
    /// Of D4's stated limit: nothing is asked of them.
    var mixed: Set<Key> = []
    var living: UInt64 = 0
  }

  package static func variants(of base: Plan) -> [(name: String, plan: Plan)] {
    func with(_ name: String, _ changes: [(Knobs.Name, UInt64)]) -> (String, Plan) {
      var plan = base
      for (knob, value) in changes { plan.knobs[knob] = value }
      let extent = plan.knobs[.extentSize]
      plan.knobs[.connectionCredit] = max(plan.knobs[.connectionCredit], 2 * extent)
      plan.knobs[.totalCredit] = max(plan.knobs[.totalCredit], 4 * extent)
      return (name, plan)
    }
    return [
      with(
        "small frames", [(.payloadFrameSize, 7), (.recordsPerFrame, 1), (.recordWindow, 2), (.splitFrames, 500_000)]),
      with("large frames", [(.payloadFrameSize, 1_024), (.recordsPerFrame, 512), (.recordWindow, 8_192)]),
      with("small extents", [(.extentSize, 64), (.logPayloadSize, 0), (.syncSlice, 64)]),
      with("large extents", [(.extentSize, 16_384), (.logPayloadSize, 1_024), (.syncSlice, 16_384)]),
      with("short reads", [(.shortRead, 1_000_000), (.resumePage, 1), (.sendBuffer, 256)]),
      with("no log", [(.logCapacity, 0), (.syncSlice, 256), (.pageSize, 16)]),
    ]
  }

  package static func report(seed: UInt64) -> Report {
    var report = Report(seed: seed)
    // What a damaged or restored server lacks depends on what it had at that instant.
    var base = PlanGenerator.plan(seed: seed).withoutSetbacks
    // Writers do the same at the same time, whatever the node does.
    base.knobs[.interleave] = 0
    guard let first = contents(base, "as drawn", &report) else { return report }
    report.strings = first.held.count
    for (name, plan) in variants(of: base) {
      guard let other = contents(plan, name, &report) else { continue }
      compare(first, other, name, &report)
    }
    return report
  }

  private static func contents(_ plan: Plan, _ name: String, _ report: inout Report) -> Contents? {
    do {
      let world = try World(plan)
      var contents: Contents?
      world.atRest = { contents = $0.oracle.contents() }
      if let failure = world.run().failure {
        report.failures.append("\(name): \(failure)")
        return nil
      }
      return contents
    } catch {
      report.failures.append("\(name): no world: \(error)")
      return nil
    }
  }

  private static func compare(_ l: Contents, _ r: Contents, _ name: String, _ report: inout Report) {
    let mixed = l.mixed.union(r.mixed)
    for (key, held) in l.held where !mixed.contains(key) {
      let place = "\(name): server \(key.server), host \(key.host), inode \(key.inode).\(key.incarnation)"
      guard let other = r.held[key] else {
        if held.isLiving { report.failures.append("\(place) isn't there, \(held.bytes.count) bytes") }
        continue
      }
      let common = min(held.bytes.count, other.bytes.count)
      let isSame = held.isLiving || other.isLiving ? held.bytes == other.bytes : true
      if !isSame || !held.bytes.prefix(common).elementsEqual(other.bytes.prefix(common)) {
        report.failures.append("\(place): \(other.bytes.count) bytes, other than the \(held.bytes.count) before")
      }
    }
    for (key, other) in r.held where other.isLiving && l.held[key] == nil && !mixed.contains(key) {
      report.failures.append("\(name): server \(key.server), host \(key.host), inode \(key.inode) is new")
    }
    if mixed.isEmpty, l.living != r.living {
      report.failures.append("\(name): the digest over all living files differs")
    }
    report.failures.sort()
  }
}

extension Oracle {
  /// By inode in the order of creation: what a plan's operations make, whatever the host makes of it.
  func contents() -> Chunks.Contents {
    var contents = Chunks.Contents()
    for host in world.hosts {
      let order = Dictionary(
        uniqueKeysWithValues: host.disk.everyFile.enumerated().map { (ObjectIdentifier($1), $0) })
      let living = Set(livingFiles(host).map { ObjectIdentifier($0.1) })
      for known in followed[host.index].values.sorted(by: { $0.file < $1.file }) where known.isBorn {
        guard let inode = known.inode, let number = order[ObjectIdentifier(inode)] else { continue }
        let last = inode.incarnations.count - 1
        // A refill with the bytes that were journaled goes on as what was journaled (D4): either incarnation is right.
        let journaled = known.bytes.prefix(known.journaled)
        let goesOn = known.closed == nil && SimulatedDisk.content(of: inode, incarnation: last).starts(with: journaled)
        let incarnation = goesOn ? last : known.incarnation
        let isLast = incarnation == last && known.closed == nil
        for server in world.servers {
          let key = Chunks.Contents.Key(
            server: server.index, host: host.index, inode: number, incarnation: incarnation)
          if known.isMixed || inode.isOverwritten { contents.mixed.insert(key) }
          let string = StringKey(key: FileKey(host: host.name, file: known.file), string: 0)
          guard let row = server.store.snapshot().string(string) else { continue }
          let isLiving = isLast && living.contains(ObjectIdentifier(inode))
          let held = Chunks.Contents.Held(bytes: heldBytes(server, row), isLiving: isLiving)
          contents.held[key] = held
          // A sum: the order of the servers' rows says nothing.
          guard isLiving else { continue }
          let place = Mix.hash("\(server.index) \(host.index) \(number) \(incarnation)")
          contents.living &+= Mix.word(place ^ Mix.hash(held.bytes))
        }
      }
    }
    return contents
  }
}
