import HostCore
import JournalModel
import JournalStore

// What a file system that doesn't answer may do: nothing to anybody else (G3), and to its own files nothing but delay
// (D10). Looked at when all is at rest, so that the bounds are exact.

extension World {
  private static let hung: UInt64 = 2
  private static let tokenWhileHung: UInt64 = 2

  func probeHanging() {
    guard oracle.failure == nil, effects == nil else { return }
    isCalm = true
    let ended = hosts.map { oracle.endedThoughLiving($0) }
    for host in hosts { hang(host, Self.hung, for: 3_600_000_000_000) }
    for host in hosts { writeEverywhere(host) }
    expectPromptElsewhere(within: plan.knobs[.pollInterval], "beside a file system that hangs")
    // The first scan meets it, the second waits for the first.
    for name in ["beside", "behind"] {
      for host in hosts { makeUnheard("/log/\(name).log", host) }
      expectPromptElsewhere(within: plan.knobs[.hungAfter], "after an overflow beside a file system that hangs")
    }
    for host in hosts { host.process?.run { host.process?.input(.settle(token: Self.tokenWhileHung)) } }
    advance(to: kernel.now.nanoseconds + 120_000_000_000)
    for host in hosts {
      if host.process?.settledTokens.contains(Self.tokenWhileHung) ?? false {
        oracle.fail(.promptness, "host \(host.index) says settled while a file system hangs")
      }
      if let path = oracle.undelivered(host, except: Self.hung).first {
        oracle.fail(.promptness, "beside a file system that hangs, but not delivered within 2 min: \(path)")
      }
    }
    for host in hosts { unhang(host) }
    // The kernel's own time stands still where nothing happens any more.
    var time = kernel.now.nanoseconds
    let deadline = time + plan.knobs[.settleWithin]
    while oracle.failure == nil, !isSettledAgain, time < deadline {
      time += 1_000_000_000
      advance(to: time)
    }
    if !isSettledAgain, !oracle.maySettleNever(Self.tokenWhileHung) {
      oracle.fail(.liveness, "after a file system hung: " + oracle.unsettled())
    }
    if hosts.map({ oracle.endedThoughLiving($0) }) != ended {
      oracle.fail(.lost, "what hung was taken for gone (D10)")
    }
    isCalm = false
  }

  private var isSettledAgain: Bool {
    hosts.allSatisfy { $0.process?.settledTokens.contains(Self.tokenWhileHung) ?? false }
  }

  private func makeUnheard(_ path: String, _ host: SimulatedHost) {
    let watcher = host.disk.watcher
    host.disk.watcher = nil
    _ = try? host.disk.create(BytePath(path))
    host.disk.watcher = watcher
    host.process?.overflowHints()
  }

  private func expectPromptElsewhere(within wait: UInt64, _ how: String) {
    expectPrompt(within: wait, how) { $0.fileSystem != Self.hung }
  }
}

extension Oracle {
  /// Files that a pattern finds and that the host's journal has ended.
  func endedThoughLiving(_ host: SimulatedHost) -> Set<FileUUID> {
    let living = Set(livingFiles(host).map { ObjectIdentifier($0.1) })
    let ended = ordered(host.index).filter { known in
      known.closed != nil && known.closed != .truncated
        && known.inode.map { living.contains(ObjectIdentifier($0)) } ?? false
    }
    return Set(ended.map(\.file))
  }

  /// Living files whose journaled bytes some server lacks to which their host delivers. What comes to others by peers has
  /// the feed's pace, which a plan makes as slow as one change in a round trip; that it comes is seen at rest.
  func undelivered(_ host: SimulatedHost, except fileSystem: UInt64) -> [String] {
    ordered(host.index).compactMap { known in
      guard known.isBorn, known.closed == nil, let inode = known.inode, inode.fileSystem != fileSystem,
        !inode.isOverwritten,
        isLiving(known, host), !known.isMixed
      else { return nil }
      let isLacking = world.servers.contains { server in
        host.configured.contains(server.index) && !mayWait(host, known, at: server)
          && Int(row(server, host, known)?.committed ?? 0) < known.journaled
      }
      return isLacking ? known.file.text : nil
    }
  }
}
