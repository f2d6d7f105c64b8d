/// The testable fault point of the in-memory stores: how the next commit goes wrong, and what becomes of a store
/// whose sync failed (P4).
package struct FaultPoint: Sendable {
  private var next: (error: StoreError, isApplied: Bool)?
  private var failedSync: String?

  package init() {}

  /// Makes the next commit (of any kind) throw `error`. Nothing of it becomes visible, unless `isApplied`, which
  /// is meant for `.failedSync` alone: the bytes reached the disk although the sync failed.
  package mutating func failNext(with error: StoreError?, isApplied: Bool) {
    next = error.map { ($0, isApplied) }
  }

  /// Refuses for ever after a failed sync.
  func checkUsable() throws(StoreError) {
    if let failedSync { throw .failedSync(failedSync) }
  }

  /// Called with the batch checked and `apply` about to make it visible.
  mutating func commit(_ apply: () throws(StoreError) -> Void) throws(StoreError) {
    guard let fault = next else { return try apply() }
    next = nil
    if case .failedSync(let reason) = fault.error { failedSync = reason }
    if fault.isApplied { try apply() }
    throw fault.error
  }
}
