import Glibc
import JournalModel
package import Logging
import Synchronization

/// Writes each event as one line to standard error: time (RFC 3339, UTC), level, message, then `key=value` pairs in the
/// order of their keys. Whatever is not plainly harmless is quoted and escaped, so that no file name, host name or text
/// from afar can forge a line, a pair or a terminal's command.
package struct LineLog: LogHandler {
  package var logLevel: Logger.Level
  package var metadata: Logger.Metadata = [:]
  private let write: @Sendable (String) -> Void

  package init(level: Logger.Level = .info, write: @escaping @Sendable (String) -> Void = LineLog.standardError) {
    logLevel = level
    self.write = write
  }

  package static func logger(level: Logger.Level = .info) -> Logger {
    Logger(label: "nimbus-journal") { _ in LineLog(level: level) }
  }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    let pairs = metadata.merging(event.metadata ?? [:]) { _, own in own }
    write(Self.line(WallTime.now, event.level, "\(event.message)", pairs.mapValues { "\($0)" }))
  }

  static func line(_ time: WallTime, _ level: Logger.Level, _ message: String, _ pairs: [String: String]) -> String {
    let tail = pairs.sorted { $0.key < $1.key }.map { " \(shown($0.key))=\(value($0.value))" }.joined()
    return "\(time.rfc3339) \(level.rawValue) \(shown(message, limit: 1_000))\(tail)\n"
  }

  /// As it is if it consists of harmless characters, else in quotes.
  static func value(_ text: String) -> String {
    let harmless = !text.isEmpty && text.utf8.count <= limit && text.utf8.allSatisfy(isHarmless)
    if harmless { return text }
    var result = "\""
    for (index, scalar) in text.unicodeScalars.enumerated() {
      if index == limit {
        result += "..."
        break
      }
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      default:
        result +=
          scalar.properties.generalCategory.isPrintable ? String(scalar) : scalar.escaped(asASCII: true)
      }
    }
    return result + "\""
  }

  /// PATH_MAX in percent escapes, and some room.
  private static let limit = 3 * 4_096 + 256

  private static func isHarmless(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: "_-./:@%+,*[]".utf8.contains(byte)
    }
  }

  package static let standardError: @Sendable (String) -> Void = { [writer = LineWriter(STDERR_FILENO)] in
    writer.write($0)
  }
}

/// Writes lines to a file, pipe or socket, and waits for no reader: one that stops reading would stop whoever logs. Lines
/// that find no room are lost, and their number is said as soon as there is some.
final class LineWriter: Sendable {
  /// How long a reader may hold up a line, once; as long as it doesn't read, further lines aren't kept waiting.
  private static let patience: Int32 = 50
  /// What a pipe takes without waiting when it says that it takes something (pipe(7), PIPE_BUF).
  private static let piece = 4_096

  private struct State {
    var isStuck = false
    var lost = 0
  }
  private let number: Int32
  private let state = Mutex(State())

  init(_ number: Int32) { self.number = number }

  /// Lines of several threads don't mix.
  func write(_ line: String) {
    state.withLock { state in
      if state.isStuck {
        guard hasRoom(within: 0) else {
          state.lost += 1
          return
        }
        _ = put("\(WallTime.now.rfc3339) warning \(state.lost) lines were lost: nobody read the log\n")
        state = State()
      }
      guard put(line) else {
        state = State(isStuck: true, lost: 1)
        return
      }
    }
  }

  /// False when there was no room for all of it. Nothing is done about a reader that is gone.
  private func put(_ line: String) -> Bool {
    var rest = Array(line.utf8)[...]
    while !rest.isEmpty {
      guard hasRoom(within: Self.patience) else { return false }
      let count = rest.prefix(Self.piece).withUnsafeBytes { Glibc.write(number, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR || errno == EAGAIN { continue }
      guard count > 0 else { return true }
      rest = rest.dropFirst(count)
    }
    return true
  }

  private func hasRoom(within milliseconds: Int32) -> Bool {
    var entry = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
    // Interrupted: the next write finds out.
    return poll(&entry, 1, milliseconds) != 0
  }
}
