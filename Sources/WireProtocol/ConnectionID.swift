/// A connection, while the process runs. Never reused.
package struct ConnectionID: Hashable, Sendable, Comparable {
  package var value: UInt64
  package init(_ value: UInt64) { self.value = value }
  package static func < (l: ConnectionID, r: ConnectionID) -> Bool { l.value < r.value }
}
