/// A connection, while the process runs. Never reused.
package struct ConnectionID: Hashable, Sendable, Comparable {
  package var value: UInt64
  package init(_ value: UInt64) { self.value = value }
  package static func < (l: ConnectionID, r: ConnectionID) -> Bool { l.value < r.value }
}

extension ConnectionID {
  /// Channels between two servers are numbered apart from what a transport numbers: each counts as a connection of its own.
  package static func channel(_ number: UInt64) -> ConnectionID { ConnectionID(1 << 63 | number) }
  package var isChannel: Bool { value >> 63 == 1 }
}
