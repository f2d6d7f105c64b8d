package import JournalModel

/// Sizes, durations and probabilities of a run. Only what differs from the default stands in a plan's text.
package struct Knobs: Hashable, Sendable {
  package enum Name: String, Hashable, Sendable, CaseIterable {
    case hosts, servers
    // Limits of the core.
    case leafSize, extentSize, payloadFrameSize, connectionCredit, totalCredit, recordsPerFrame, recordBytesPerFrame
    case residentStrings, residentFiles, promiseWindow, commitSize
    case recordWindow, resumePage, logPayloadSize, logCapacity, syncSlice, tailSize
    case coalescing, rescanInterval, pollInterval, backoffFirst, backoffLast, heartbeat, silence, retry
    case readsAtOnce, hungAfter
    /// 1: every server is every other one's peer.
    case peers
    case peerPatience, peerPatienceMost, announcementsAhead, wantsAhead
    // The world: bytes, nanoseconds, millionths.
    case pageSize, birthStep, hintQueue, watchLimit
    /// Steps of the times of directories, and how long one must have stood still to be taken to do so.
    case directoryStep, timeMargin
    case hintLoss, hintDuplicate, hintLatency
    case shortRead, interleave
    case networkLatency, bandwidth, sendBuffer, splitFrames
    case diskLatency, commitLatency, loadLatency
    /// How often a server's store answers from an old snapshot.
    case staleLoad
    /// How often what a host's store is asked can't be read.
    case failedLoad
    /// 1: latencies don't vary and no inode number is given out twice, so that nothing which one server does shifts a draw
    /// for another.
    case steady
    /// How often a planted bug strikes.
    case mutation
    /// When the load ends and everything heals.
    case loadEnd
    /// How much virtual time the world has to settle after that.
    case settleWithin
  }

  private var values: [UInt64]

  package init() { values = Name.allCases.map(Self.standard) }

  package subscript(name: Name) -> UInt64 {
    get { values[Self.index(name)] }
    set { values[Self.index(name)] = newValue }
  }

  private static let indices: [Name: Int] = Dictionary(
    uniqueKeysWithValues: Name.allCases.enumerated().map { ($1, $0) })
  private static func index(_ name: Name) -> Int { indices[name] ?? 0 }

  package static func standard(_ name: Name) -> UInt64 {
    let millisecond: UInt64 = 1_000_000
    return switch name {
    case .hosts: 1
    case .servers: 2
    case .leafSize: 64
    case .extentSize: 1_024
    case .payloadFrameSize: 200
    case .connectionCredit: 2_048
    case .totalCredit: 8_192
    case .recordsPerFrame: 16
    case .recordBytesPerFrame: 4_096
    case .recordWindow: 64
    case .resumePage: 4
    case .residentStrings, .residentFiles: 2
    case .promiseWindow: 2
    case .commitSize: 4
    case .logPayloadSize: 256
    case .logCapacity: 4_096
    case .syncSlice: 1_024
    case .tailSize: 32
    case .coalescing: 10 * millisecond
    case .rescanInterval: 60_000 * millisecond
    case .pollInterval: 500 * millisecond
    case .backoffFirst: 200 * millisecond
    case .backoffLast: 30_000 * millisecond
    case .heartbeat: 5_000 * millisecond
    case .silence: 20_000 * millisecond
    case .retry: 5_000 * millisecond
    case .readsAtOnce: 8
    case .hungAfter: 5_000 * millisecond
    case .peers: 0
    case .peerPatience: 2_000 * millisecond
    case .peerPatienceMost: 30_000 * millisecond
    case .announcementsAhead: 4_096
    case .wantsAhead: 256
    case .pageSize: 64
    case .birthStep, .directoryStep: 4 * millisecond
    case .timeMargin: 5_000 * millisecond
    case .hintQueue: 64
    case .watchLimit: 1_000
    case .hintLoss, .hintDuplicate, .shortRead, .interleave, .splitFrames, .steady, .failedLoad: 0
    case .staleLoad: 10_000
    case .hintLatency: 50_000
    case .networkLatency: 200_000
    case .bandwidth: 100_000_000
    case .sendBuffer: 4_096
    case .diskLatency: 50_000
    case .commitLatency: 300_000
    case .loadLatency: 100_000
    case .mutation: 20_000
    case .loadEnd: 2_000 * millisecond
    case .settleWithin: 1_800_000 * millisecond
    }
  }

  package var limits: Limits {
    var limits = Limits()
    limits.leafSize = Int(self[.leafSize])
    limits.extentSize = Int(self[.extentSize])
    limits.payloadFrameSize = Int(self[.payloadFrameSize])
    limits.connectionCredit = Int(self[.connectionCredit])
    limits.recordsPerFrame = Int(self[.recordsPerFrame])
    limits.recordBytesPerFrame = Int(self[.recordBytesPerFrame])
    limits.recordWindow = Int(self[.recordWindow])
    limits.resumePage = Int(self[.resumePage])
    limits.residentStrings = Int(self[.residentStrings])
    limits.residentFiles = Int(self[.residentFiles])
    limits.promiseWindow = Int(self[.promiseWindow])
    limits.commitSize = Int(self[.commitSize])
    limits.logPayloadSize = Int(self[.logPayloadSize])
    limits.logCapacity = Int(self[.logCapacity])
    limits.syncSlice = Int(self[.syncSlice])
    limits.tailSize = Int(self[.tailSize])
    limits.coalescing = Interval(nanoseconds: self[.coalescing])
    limits.rescanInterval = Interval(nanoseconds: self[.rescanInterval])
    limits.pollInterval = Interval(nanoseconds: self[.pollInterval])
    limits.backoffFirst = Interval(nanoseconds: self[.backoffFirst])
    limits.backoffLast = Interval(nanoseconds: self[.backoffLast])
    limits.heartbeat = Interval(nanoseconds: self[.heartbeat])
    limits.silence = Interval(nanoseconds: self[.silence])
    limits.retry = Interval(nanoseconds: self[.retry])
    limits.readsAtOnce = Int(self[.readsAtOnce])
    limits.hungAfter = Interval(nanoseconds: self[.hungAfter])
    limits.peerPatience = Interval(nanoseconds: self[.peerPatience])
    limits.peerPatienceMost = Interval(nanoseconds: self[.peerPatienceMost])
    limits.announcementsAhead = Int(self[.announcementsAhead])
    limits.wantsAhead = Int(self[.wantsAhead])
    return limits
  }
}
