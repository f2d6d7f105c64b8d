package import JournalModel

/// What the running node answers to those who ask about it: the control socket, the HTTP listener. Called from their
/// threads.
package protocol NodeControl: Sendable {
  /// The state now. May take as long as the list of gaps is.
  func snapshot() -> NodeStatus
  /// The state now, but for long lists.
  func glance() -> NodeStatus
  /// Rescans everything, notes every length and the journal's head, and waits until all of it is durable on every
  /// server. Calls `done` exactly once, from any thread: when it is, or when `timeout` is over (then with the list of
  /// what is not), or when the node stops. Returns at once; what it returns gives up waiting, and may come late.
  func settle(timeout: Interval, done: @escaping @Sendable (SettleResult) -> Void) -> @Sendable () -> Void
}
