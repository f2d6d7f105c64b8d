package import JournalModel

/// The number of a frame's type on the wire. Never reused.
package enum FrameType: UInt8, Hashable, Sendable, CaseIterable {
  case hello = 1
  case welcome = 2
  case records = 3
  case recordsDurable = 4
  case resumeQuery = 5
  case resumeAnswer = 6
  case payload = 7
  case payloadDurable = 8
  case credit = 9
  case refusal = 10
  case ping = 11
  case pong = 12
  case goodbye = 13
  case extend = 14
  case journalQuery = 15
  case journalAnswer = 16
  case extendJournal = 17
  case peerHello = 18
  case feed = 19
  case announce = 20
  case noted = 21
  case openChannel = 22
  case channel = 23
  case closeChannel = 24
  case wantRecords = 25
  case wantBytes = 26
  case askTrie = 27
  case trieParts = 28
  case trieBucket = 29
  case holdings = 30
  case position = 31

  /// The least and the greatest body, in bytes, that a frame of this type can have. A frame outside is refused by its
  /// header, before anything of it is held.
  package func bodySizes(_ limits: Limits) -> ClosedRange<Int> {
    let features = 4 + FrameBounds.features * (4 + FrameBounds.featureSize)
    switch self {
    case .hello: return 62...(81 + HostName.maximumByteCount + features)
    case .welcome:
      return
        24...(44 + FrameBounds.serverNameSize + FrameBounds.sequencesPerJournal * Checkpoint.maximumByteCount
        + features)
    case .records: return 142...Self.recordsBodySize(limits)
    case .recordsDurable: return 126...Checkpoint.maximumByteCount
    case .credit, .ping, .pong, .journalQuery: return 8...8
    case .extend: return 56...56
    case .journalAnswer: return 4...(4 + FrameBounds.heads * 40)
    case .extendJournal: return 40...40
    case .resumeQuery: return 4...(4 + limits.resumePage * 16)
    case .resumeAnswer: return 4...(4 + limits.resumePage * (20 + FrameBounds.stringsPerFile * 40))
    case .payload:
      return (FrameBounds.payloadHeaderSize + 1)...(FrameBounds.payloadHeaderSize + limits.payloadFrameSize)
    case .payloadDurable: return 4...(4 + FrameBounds.acknowledgements * 56)
    case .refusal: return 15...(31 + FrameBounds.textSize)
    case .goodbye: return 6...(6 + FrameBounds.textSize)
    case .peerHello: return 14...(41 + FrameBounds.serverNameSize + features)
    case .feed: return 9...9
    case .announce: return 28...(28 + FrameBounds.announcements * Self.changeSize)
    case .noted: return 16...16
    case .openChannel: return 57...(56 + HostName.maximumByteCount)
    case .channel: return 4...4
    case .closeChannel: return 10...(10 + FrameBounds.textSize)
    case .wantRecords: return 44...44
    case .wantBytes: return 64...(64 + FrameBounds.stringsPerFile * 40)
    case .askTrie: return 17...17
    case .trieParts: return TriePrefix.fanOut * Digest.byteCount...TriePrefix.fanOut * Digest.byteCount
    case .trieBucket: return 5...(5 + FrameBounds.announcements * Self.changeSize)
    case .holdings: return 40...40
    case .position: return 24...24
    }
  }

  /// Whether `side` may send one, as its first frame or as a later one. What it may not send is refused by its header,
  /// so that of one who hasn't said hello nothing else is ever held.
  package func isAllowed(from side: FrameSender, isFirst: Bool) -> Bool {
    switch (self, side) {
    case (.hello, .host), (.welcome, .server), (.peerHello, .host), (.peerHello, .peer): isFirst
    case (.goodbye, .peer): true
    case (.hello, .peer), (.resumeQuery, .peer), (.resumeAnswer, .peer), (.position, .peer): false
    case (_, .peer): !isFirst
    case (.goodbye, .server), (.refusal, .server): true
    case (.records, .host), (.journalQuery, .host), (.extendJournal, .host), (.resumeQuery, .host), (.extend, .host),
      (.payload, .host), (.goodbye, .host), (.recordsDurable, .server), (.journalAnswer, .server),
      (.resumeAnswer, .server), (.payloadDurable, .server), (.position, .server), (.credit, .server),
      (.ping, _), (.pong, _):
      !isFirst
    default: false
    }
  }

  private static var changeSize: Int {
    8 + 1 + 4 + HostName.maximumByteCount + 16 + 1 + Digest.byteCount + 4 + FrameBounds.stringsPerFile * 40
  }

  /// A record of the greatest size fits even where a simulation shrinks `recordBytesPerFrame` below it.
  private static func recordsBodySize(_ limits: Limits) -> Int {
    12 + limits.recordsPerFrame * 4 + max(limits.recordBytesPerFrame, Record.maximumByteCount)
      + Checkpoint.maximumByteCount
  }
}

/// Which side a frame comes from. Who connects is a host until its first frame says that it is a server.
package enum FrameSender: Hashable, Sendable { case host, server, peer }

/// Bounds of the protocol that no configuration changes; the others stand in `Limits`.
package enum FrameBounds {
  /// Length and type, before every body.
  package static let headerSize = 5
  /// File and offset, before a payload frame's bytes.
  package static let payloadHeaderSize = 24
  package static let features = 64
  package static let featureSize = 64
  package static let serverNameSize = 253
  /// Strings of one file in a resume answer.
  package static let stringsPerFile = 64
  /// Sequences of one journal in a welcome, and heads in an answer about them: for each of them one at its start and one
  /// for each power of two.
  package static let sequencesPerJournal = 64
  package static let heads = sequencesPerJournal * 64
  /// Files in one payload-durable frame; a longer list is written as several frames.
  package static let acknowledgements = 1_024
  /// Changes in one announcement.
  package static let announcements = 256
  /// Bytes of text for operators in refusal and goodbye; longer text is cut.
  package static let textSize = 512
}

/// Why bytes on a connection are no frame. `at` is the offset of the frame's first byte on the connection.
package enum FrameError: Error, Hashable, Sendable {
  case unknownType(UInt8, at: UInt64)
  /// Not one that this side may send, or not as its first frame (or only so).
  case unexpected(FrameType, isFirst: Bool, at: UInt64)
  case badSize(FrameType, size: Int, allowed: ClosedRange<Int>, at: UInt64)
  case malformed(FrameType, DecodingFailure, at: UInt64)
}

extension FrameError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .unknownType(let type, let at):
      "frame at byte \(at): unknown type \(type)"
    case .unexpected(let type, let isFirst, let at):
      "frame at byte \(at): a \(type) \(isFirst ? "as the first frame" : "is not for this side to send, or not any more")"
    case .badSize(let type, let size, let allowed, let at):
      "frame at byte \(at): a \(type) of \(size) bytes, allowed are \(allowed.lowerBound) to \(allowed.upperBound)"
    case .malformed(let type, let failure, let at):
      "frame at byte \(at): body of a \(type), \(failure)"
    }
  }
}
