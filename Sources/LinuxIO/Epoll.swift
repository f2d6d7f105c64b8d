import CLinux
import Glibc
package import JournalModel

/// `epoll(7)`, level-triggered unless `EPOLLET` is asked for. Used by one thread; `Wakeup` reaches it from others.
package final class Epoll {
  package static let readable = EPOLLIN.rawValue
  package static let writable = EPOLLOUT.rawValue
  /// Told once, until the descriptor is modified.
  package static let once = EPOLLONESHOT.rawValue
  /// What isn't data: that `/proc/self/mountinfo` changed.
  package static let exceptional = EPOLLPRI.rawValue

  private let descriptor: Descriptor
  private let events: UnsafeMutableBufferPointer<epoll_event>

  /// - Parameter batch: how many events one `wait` takes at most.
  package init(batch: Int = 256) throws(SystemError) {
    descriptor = Descriptor(owning: try checkedErrno("epoll_create1", epoll_create1(Int32(EPOLL_CLOEXEC))))
    events = .allocate(capacity: batch)
    events.initialize(repeating: epoll_event())
  }

  deinit { events.deallocate() }

  /// Registers a descriptor for `events` (EPOLLIN ...); `token` comes back with them.
  package func add(_ number: Int32, events: UInt32, token: UInt64) throws(SystemError) {
    _ = try checked("epoll_ctl", linux_epoll_control(descriptor.number, EPOLL_CTL_ADD, number, events, token))
  }

  package func modify(_ number: Int32, events: UInt32, token: UInt64) throws(SystemError) {
    _ = try checked("epoll_ctl", linux_epoll_control(descriptor.number, EPOLL_CTL_MOD, number, events, token))
  }

  /// To be called before the descriptor is closed.
  package func remove(_ number: Int32) throws(SystemError) {
    _ = try checked("epoll_ctl", linux_epoll_control(descriptor.number, EPOLL_CTL_DEL, number, 0, 0))
  }

  /// Waits for events, at most `timeout` (nil: for ever), and gives each with its token. A signal ends the wait early.
  package func wait(timeout: Interval?, _ body: (_ token: UInt64, _ events: UInt32) -> Void) throws(SystemError) {
    let count: Int32
    if let timeout {
      var time = timespec(
        tv_sec: Int(timeout.nanoseconds / 1_000_000_000), tv_nsec: Int(timeout.nanoseconds % 1_000_000_000))
      count = linux_epoll_wait(descriptor.number, events.baseAddress, Int32(events.count), &time)
    } else {
      count = linux_epoll_wait(descriptor.number, events.baseAddress, Int32(events.count), nil)
    }
    if count == -EINTR { return }
    for index in 0..<Int(try checked("epoll_wait", count)) {
      withUnsafePointer(to: events[index]) { body(linux_epoll_token($0), $0.pointee.events) }
    }
  }
}

/// Wakes a thread that waits in `Epoll` (`eventfd(2)`). Register `number` for EPOLLIN.
package final class Wakeup: Sendable {
  private let descriptor: Descriptor
  package var number: Int32 { descriptor.number }

  package init() throws(SystemError) {
    let flags = Int32(EFD_CLOEXEC | EFD_NONBLOCK)
    descriptor = Descriptor(owning: try checkedErrno("eventfd", eventfd(0, flags)))
  }

  package func signal() { eventfd_write(number, 1) }

  /// Takes all signals so far. Call it before looking at what they announce.
  package func clear() {
    var count: eventfd_t = 0
    eventfd_read(number, &count)
  }
}
