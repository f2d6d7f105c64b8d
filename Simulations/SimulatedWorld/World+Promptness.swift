import JournalModel

// Rest alone can't show a hint that nobody heard: the next scan finds everything. So when all has settled, writers
// write once more to every file that a pattern finds, with hints that come, and then with none but an overflow; what
// they wrote must be journaled within what the rules grant (F1, J3), which is less than the time to the next scan.

extension World {
  /// Only in a world without faults, and without long tails of latencies: then the bounds are exact.
  func probePromptness() {
    // Where effects are counted a strike could fall into it.
    guard oracle.failure == nil, effects == nil else { return }
    isCalm = true
    for host in hosts {
      host.hintsDelayed = (0, 0)
      host.process?.calm()
    }
    // A stale descriptor or a page that fails once shows itself at a read only, and costs a retry.
    for host in hosts {
      writeEverywhere(host)
      deploy("a", on: host)
    }
    advance(to: kernel.now.nanoseconds + 4 * plan.knobs[.retry] + plan.knobs[.pollInterval])
    for host in hosts {
      writeEverywhere(host)
      deploy("b", on: host)
    }
    // Directories that can't be watched, and targets of links, are polled.
    expectPrompt(within: plan.knobs[.pollInterval], "hinted or polled")
    // A volume is mounted over a base: no watch says so, only that something was mounted somewhere.
    for host in hosts {
      let watcher = host.disk.watcher
      host.disk.watcher = nil
      deploy("c", on: host)
      host.disk.watcher = watcher
      host.process?.noteMount()
    }
    expectPrompt(within: 0, "after a mount")
    for host in hosts {
      let watcher = host.disk.watcher
      host.disk.watcher = nil
      writeEverywhere(host)
      try? host.disk.makeDirectories(BytePath("/log/unheard"))
      for path in ["/log/unheard.log", "/log/unheard/of.log"] { _ = try? host.disk.create(BytePath(path)) }
      host.disk.watcher = watcher
      host.process?.overflowHints()
    }
    expectPrompt(within: 0, "after an overflow")
    isCalm = false
  }

  /// A base begins to lead elsewhere, where a file waits already.
  private func deploy(_ release: String, on host: SimulatedHost) {
    let home = BytePath("/rel/probe-\(release)")
    let link = BytePath("/cur/now")
    try? host.disk.makeDirectories(home.appending(Array("log".utf8)))
    try? host.disk.makeDirectories(link.directory)
    if let file = try? host.disk.open(BytePath("/rel/probe-\(release)/log/new.log"), writing: true, creating: true) {
      try? host.disk.append(file, Payload.bytes(.unique, host: host.index, writer: 98, sequence: 1, count: 9))
      host.disk.close(file)
    }
    host.disk.era += 1
    try? host.disk.unlink(link)
    try? host.disk.symbolicLink(home, at: link)
  }

  func writeEverywhere(_ host: SimulatedHost) {
    for (path, _) in oracle.livingFiles(host) {
      guard let descriptor = try? host.disk.open(path, writing: true) else { continue }
      try? host.disk.append(descriptor, Payload.bytes(.unique, host: host.index, writer: 99, sequence: 1, count: 9))
      host.disk.close(descriptor)
    }
  }

  func expectPrompt(
    within wait: UInt64, _ how: String, where isMeant: (SimulatedDisk.Inode) -> Bool = { _ in true }
  ) {
    let bound = wait + (hosts.map(workTime).max() ?? 0)
    advance(to: kernel.now.nanoseconds + bound)
    for host in hosts {
      guard let path = oracle.unread(host, where: isMeant).first else { continue }
      oracle.fail(.promptness, "\(how), but not journaled within \(bound / 1_000_000) ms: \(path)")
    }
  }

  /// The most that the work takes: a scan under way and the one that an overflow asks for, each behind another request to
  /// every directory; then a read of every file, so many at once; the pace of a file; what the store is asked before a
  /// directory's new names are taken, one below the other; a commit under way and the next ones, of which each takes so
  /// many rows.
  private func workTime(_ host: SimulatedHost) -> UInt64 {
    let disk = 2 * plan.knobs[.diskLatency]
    let directories = host.disk.directoryCount(below: ["/log", "/srv", "/cur"])
    let files = oracle.livingFiles(host).count
    let listings = 4 * UInt64(directories + 4) * disk
    let reads = 3 * UInt64(files / Int(plan.knobs[.readsAtOnce]) + 1) * disk
    let commits = 8 + 2 * UInt64(files) / plan.knobs[.commitSize]
    return 2 * plan.knobs[.hintLatency] + listings + reads + 2 * plan.knobs[.coalescing]
      + 16 * plan.knobs[.loadLatency] + commits * plan.knobs[.commitLatency]
  }
}

extension SimulatedDisk {
  fileprivate func directoryCount(below bases: [String]) -> Int {
    var stack = bases.map { BytePath($0) }
    var count = 0
    while let path = stack.popLast() {
      guard let directory = inode(path, followLast: false), directory.kind == .directory else { continue }
      count += 1
      stack += names(of: directory).map { path.appending($0) }
    }
    return count
  }
}
