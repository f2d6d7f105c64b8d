package import JournalModel

/// Virtual time: a heap of actions ordered by (time, sequence), run one after the other in one thread.
///
/// Two actions due at the same nanosecond run in the order in which they were scheduled, so a run depends on nothing
/// but its plan.
package final class Kernel {
  package private(set) var now = Instant(nanoseconds: 0)
  package private(set) var eventCount: UInt64 = 0
  package var trace = TraceDigest()

  private struct Entry {
    var time: UInt64
    var sequence: UInt64
    var slot: Int32
    func isBefore(_ other: Entry) -> Bool { (time, sequence) < (other.time, other.sequence) }
  }
  private var heap: [Entry] = []
  private var actions: [(() -> Void)?] = []
  private var freeSlots: [Int32] = []
  private var sequence: UInt64 = 0

  package init() {}

  package var isEmpty: Bool { heap.isEmpty }
  package var nextTime: Instant? { heap.first.map { Instant(nanoseconds: $0.time) } }

  package func after(_ delay: UInt64, _ action: @escaping () -> Void) {
    at(Instant(nanoseconds: now.nanoseconds &+ delay), action)
  }

  /// A time that has passed already is taken as now.
  package func at(_ time: Instant, _ action: @escaping () -> Void) {
    let slot: Int32
    if let free = freeSlots.popLast() {
      slot = free
      actions[Int(free)] = action
    } else {
      slot = Int32(actions.count)
      actions.append(action)
    }
    heap.append(Entry(time: max(time, now).nanoseconds, sequence: sequence, slot: slot))
    sequence += 1
    siftUp()
  }

  /// Runs the next action; false when there is none or it lies beyond `limit`.
  package func step(until limit: Instant) -> Bool {
    guard let first = heap.first, first.time <= limit.nanoseconds else { return false }
    removeFirst()
    now = Instant(nanoseconds: first.time)
    eventCount += 1
    trace.mix(first.time)
    let action = actions[Int(first.slot)]
    actions[Int(first.slot)] = nil
    freeSlots.append(first.slot)
    action?()
    return true
  }

  /// Forgets everything that is scheduled: breaks the reference cycles of a finished run.
  package func clear() {
    heap = []
    actions = []
    freeSlots = []
  }

  private func siftUp() {
    var index = heap.count - 1
    let entry = heap[index]
    while index > 0 {
      let parent = (index - 1) / 2
      guard entry.isBefore(heap[parent]) else { break }
      heap[index] = heap[parent]
      index = parent
    }
    heap[index] = entry
  }

  private func removeFirst() {
    let last = heap.removeLast()
    guard !heap.isEmpty else { return }
    var index = 0
    while true {
      var child = 2 * index + 1
      guard child < heap.count else { break }
      if child + 1 < heap.count, heap[child + 1].isBefore(heap[child]) { child += 1 }
      guard heap[child].isBefore(last) else { break }
      heap[index] = heap[child]
      index = child
    }
    heap[index] = last
  }
}

/// A rolling digest of all that happened. Equal plans give equal digests, whatever the process's hash seed.
package struct TraceDigest: Hashable, Sendable {
  package private(set) var value: UInt64 = 0x9E37_79B9_7F4A_7C15

  package mutating func mix(_ word: UInt64) {
    value = (value ^ word) &* 0xFF51_AFD7_ED55_8CCD
    value ^= value >> 32
  }

  package mutating func mix(_ bytes: [UInt8]) { mix(Mix.hash(bytes)) }
}
