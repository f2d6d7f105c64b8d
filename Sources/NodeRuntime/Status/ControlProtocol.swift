/// What is asked of a running node over its control socket: one line of JSON, answered by one line.
/// `{"status":{}}`, `{"settle":{"timeout":60}}` (seconds).
package enum ControlRequest: Codable, Sendable, Hashable {
  case status
  case settle(timeout: Double)

  static let maximumByteCount = 4_096
  /// The longest wait that can be asked for, in seconds.
  package static let longestTimeout = 86_400.0
}

/// Exactly one of the three is there.
package struct ControlAnswer: Codable, Sendable, Hashable {
  package var status: NodeStatus?
  package var settle: SettleResult?
  package var error: String?

  static let maximumByteCount = 64 << 20
}

/// Why a node can't be asked, or can't be made askable.
package struct ControlFailure: Error, Hashable, Sendable, CustomStringConvertible {
  package var message: String
  package var description: String { message }
}
