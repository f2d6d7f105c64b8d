import CLinux
import Glibc

/// The same command once more in a child process that reads stores for this one (P5).
///
/// LMDB maps its file and trusts what it finds there: a damaged page can end the process that reads it, which the
/// parent then says. And who stops the command that he sees (Ctrl-Z, SIGSTOP) stops the parent, while the child ends its
/// transactions: one that stands still would keep the running node from using any page again.
package enum ProcessApart {
  package enum End: Sendable, Hashable {
    case status(Int32)
    /// By a signal that the process brought about itself.
    case crash(signal: Int32)
  }

  private static let mark = "NIMBUS_JOURNAL_CHILD_OF"
  private static let crashes = [SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP]

  /// Nil in the child, and where none can be made: the command is to be performed here. Ends this process as the child
  /// was ended where somebody else did that.
  package static func run() -> End? {
    if let parent = getenv(mark).flatMap({ pid_t(String(cString: $0)) }) {
      unsetenv(mark)
      guard linux_end_with_parent(parent) != 0 else { exit(EXIT_FAILURE) }
      // In a process group of its own it isn't the terminal's foreground job.
      signal(SIGTTOU, SIG_IGN)
      return nil
    }
    guard let child = spawn() else { return nil }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 { guard errno == EINTR else { return .status(EXIT_FAILURE) } }
    let number = status & 0x7F
    if number == 0 { return .status((status >> 8) & 0xFF) }
    if crashes.contains(number) { return .crash(signal: number) }
    signal(number, SIG_DFL)
    kill(getpid(), number)
    return .status(EXIT_FAILURE)
  }

  private static func spawn() -> pid_t? {
    setenv(mark, "\(getpid())", 1)
    defer { unsetenv(mark) }
    // A crash is said by the parent, in one sentence.
    setenv("SWIFT_BACKTRACE", "enable=no", 0)
    var attributes = posix_spawnattr_t()
    guard posix_spawnattr_init(&attributes) == 0 else { return nil }
    defer { posix_spawnattr_destroy(&attributes) }
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    posix_spawnattr_setpgroup(&attributes, 0)
    var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var child: pid_t = 0
    return posix_spawn(&child, "/proc/self/exe", nil, &attributes, &arguments, environ) == 0 ? child : nil
  }
}

/// What a node says when a damaged store, or a disk that can't be read, ends its process where no error can be thrown.
enum CrashNotice {
  nonisolated(unsafe) private static var text: UnsafeMutablePointer<CChar>?
  nonisolated(unsafe) private static var length = 0

  static func install(data: String) {
    let line =
      "nimbus-journal: reading a store in \(data) crashed: it is damaged or cut off, or its disk can't be read "
      + "(dmesg). `nimbus-journal inspect events` says more; README, Troubleshooting, says what to do\n"
    guard text == nil else { return }
    text = strdup(line)
    length = line.utf8.count
    // Nothing but stores is mapped, and nothing but LMDB follows pointers that come from a disk.
    for number in [SIGBUS, SIGSEGV] {
      signal(number) { number in
        if let text = CrashNotice.text { _ = write(2, text, CrashNotice.length) }
        signal(number, SIG_DFL)
      }
    }
  }
}
