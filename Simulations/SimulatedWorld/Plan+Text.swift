// A plan's text: one thing a line, words between spaces, paths with `%xx` for bytes that are no plain characters.
//
//     plan 1
//     seed 42
//     knob interleave 200000
//     strike server0 12 EIO
//     1500000 append host0 writer2 37 unique

extension Node: CustomStringConvertible {
  package var description: String {
    switch self {
    case .host(let index): "host\(index)"
    case .server(let index): "server\(index)"
    }
  }
}

extension Operation: CustomStringConvertible {
  package var description: String {
    func direction(_ toServer: Bool) -> String { toServer ? "up" : "down" }
    return switch self {
    case .open(let host, let writer, let path): "open host\(host) writer\(writer) \(path)"
    case .append(let host, let writer, let count, let kind):
      "append host\(host) writer\(writer) \(count) \(kind.rawValue)"
    case .close(let host, let writer): "close host\(host) writer\(writer)"
    case .rename(let host, let from, let to): "rename host\(host) \(from) \(to)"
    case .unlink(let host, let path): "unlink host\(host) \(path)"
    case .hardLink(let host, let from, let to): "link host\(host) \(from) \(to)"
    case .symbolicLink(let host, let target, let path): "symlink host\(host) \(target) \(path)"
    case .makeDirectory(let host, let path): "mkdir host\(host) \(path)"
    case .removeDirectory(let host, let path): "rmdir host\(host) \(path)"
    case .truncate(let host, let path, let length): "truncate host\(host) \(path) \(length)"
    case .copyTruncate(let host, let path, let copy, let delay): "copytruncate host\(host) \(path) \(copy) \(delay)"
    case .rotate(let host, let path, let keep, let pause, let creates):
      "rotate host\(host) \(path) \(keep) \(pause) \(creates ? "create" : "nocreate")"
    case .start(let node): "start \(node)"
    case .stop(let node): "stop \(node)"
    case .kill(let node): "kill \(node)"
    case .powerCut(let node): "powercut \(node)"
    case .killAfter(let node, let effects): "killafter \(node) \(effects)"
    case .pause(let node, let duration): "pause \(node) \(duration)"
    case .stepClock(let node, let seconds): "clock \(node) \(seconds)"
    case .reset(let host, let server): "reset host\(host) server\(server)"
    case .partition(let host, let server, let up, let duration):
      "partition host\(host) server\(server) \(direction(up)) \(duration)"
    case .clog(let host, let server, let up, let duration):
      "clog host\(host) server\(server) \(direction(up)) \(duration)"
    case .shred(let host, let server, let duration): "shred host\(host) server\(server) \(duration)"
    case .overflow(let host): "overflow host\(host)"
    case .dropHints(let host, let duration): "drophints host\(host) \(duration)"
    case .duplicateHints(let host, let duration): "duplicatehints host\(host) \(duration)"
    case .delayHints(let host, let duration): "delayhints host\(host) \(duration)"
    case .fault(let node, let kind, let duration): "fault \(node) \(kind.rawValue) \(duration)"
    case .deny(let host, let path, let duration): "deny host\(host) \(path) \(duration)"
    case .disturb(let disturbance): "\(disturbance)"
    }
  }
}

extension Plan: CustomStringConvertible {
  package var description: String {
    var lines = ["plan 1", "seed \(seed)"]
    for name in Knobs.Name.allCases where knobs[name] != Knobs.standard(name) {
      lines.append("knob \(name.rawValue) \(knobs[name])")
    }
    if let strike { lines.append("\(strike)") }
    lines += operations.map { "\($0.time) \($0.operation)" }
    return lines.joined(separator: "\n") + "\n"
  }

  package struct SyntaxError: Error, Hashable, Sendable, CustomStringConvertible {
    package var line: Int
    package var text: String
    package init(line: Int, text: String) {
      self.line = line
      self.text = text
    }

    package var description: String { "line \(line): can't read '\(text)'" }
  }

  /// Reads what `description` writes. Empty lines and lines that begin with `#` say nothing.
  package init(text: String) throws(SyntaxError) {
    self.init(seed: 0)
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let words = line.split(separator: " ").map(String.init)
      guard let first = words.first, !first.hasPrefix("#") else { continue }
      let error = SyntaxError(line: index + 1, text: String(line))
      switch (first, words.count) {
      case ("plan", 2): guard words[1] == "1" else { throw error }
      case ("seed", 2):
        guard let value = UInt64(words[1]) else { throw error }
        seed = value
      case ("knob", 3):
        guard let name = Knobs.Name(rawValue: words[1]), let value = UInt64(words[2]) else { throw error }
        knobs[name] = value
      case ("strike", 4):
        guard let read = Strike(node: words[1], effect: words[2], fault: words[3]) else { throw error }
        strike = read
      default:
        var reader = WordReader(words: words[1...])
        guard let time = UInt64(first), let operation = Operation(&reader), reader.isAtEnd else { throw error }
        operations.append(TimedOperation(time: time, operation: operation))
      }
    }
  }
}

struct WordReader {
  var words: ArraySlice<String>
  var isAtEnd: Bool { words.isEmpty }

  mutating func word() -> String? { words.popFirst() }
  mutating func int() -> Int? { word().flatMap { Int($0) } }
  mutating func time() -> UInt64? { word().flatMap { UInt64($0) } }

  mutating func numbered(_ prefix: String) -> Int? {
    guard let word = word(), word.hasPrefix(prefix) else { return nil }
    return Int(word.dropFirst(prefix.count))
  }
  mutating func host() -> Int? { numbered("host") }
  mutating func server() -> Int? { numbered("server") }
  mutating func writer() -> Int? { numbered("writer") }

  mutating func node() -> Node? {
    guard let word = words.first else { return nil }
    return word.hasPrefix("host") ? host().map(Node.host) : server().map(Node.server)
  }

  /// One of two words.
  mutating func choice(_ yes: String, _ no: String) -> Bool? {
    let word = word()
    return word == yes ? true : word == no ? false : nil
  }
}

extension Operation {
  fileprivate init?(_ reader: inout WordReader) {
    guard let verb = reader.word(),
      let read = Self.ofFiles(verb, &reader) ?? Self.ofNodes(verb, &reader) ?? Self.ofLinks(verb, &reader)
        ?? Self.ofHints(verb, &reader) ?? Disturbance(verb, &reader).map(Operation.disturb)
    else { return nil }
    self = read
  }

  private static func ofFiles(_ verb: String, _ r: inout WordReader) -> Operation? {
    switch verb {
    case "open":
      guard let host = r.host(), let writer = r.writer(), let path = r.word() else { return nil }
      return .open(host: host, writer: writer, path: path)
    case "append":
      guard let host = r.host(), let writer = r.writer(), let count = r.int(), count >= 0,
        let kind = r.word().flatMap({ PayloadKind(rawValue: $0) })
      else { return nil }
      return .append(host: host, writer: writer, count: count, kind: kind)
    case "close":
      guard let host = r.host(), let writer = r.writer() else { return nil }
      return .close(host: host, writer: writer)
    case "truncate":
      guard let host = r.host(), let path = r.word(), let length = r.int(), length >= 0 else { return nil }
      return .truncate(host: host, path: path, length: length)
    case "copytruncate":
      guard let host = r.host(), let path = r.word(), let copy = r.word(), let delay = r.time() else { return nil }
      return .copyTruncate(host: host, path: path, copy: copy, delay: delay)
    case "rotate":
      guard let host = r.host(), let path = r.word(), let keep = r.int(), let pause = r.time(),
        let creates = r.choice("create", "nocreate")
      else { return nil }
      return .rotate(host: host, path: path, keep: keep, pause: pause, creates: creates)
    case "unlink", "mkdir", "rmdir":
      guard let host = r.host(), let path = r.word() else { return nil }
      return verb == "unlink"
        ? .unlink(host: host, path: path)
        : verb == "mkdir" ? .makeDirectory(host: host, path: path) : .removeDirectory(host: host, path: path)
    case "rename", "link", "symlink":
      guard let host = r.host(), let from = r.word(), let to = r.word() else { return nil }
      return verb == "rename"
        ? .rename(host: host, from: from, to: to)
        : verb == "link"
          ? .hardLink(host: host, from: from, to: to) : .symbolicLink(host: host, target: from, path: to)
    default: return nil
    }
  }

  private static func ofNodes(_ verb: String, _ r: inout WordReader) -> Operation? {
    switch verb {
    case "start": r.node().map { .start($0) }
    case "stop": r.node().map { .stop($0) }
    case "kill": r.node().map { .kill($0) }
    case "powercut": r.node().map { .powerCut($0) }
    case "killafter": r.node().flatMap { node in r.int().map { .killAfter(node, effects: $0) } }
    case "pause": r.node().flatMap { node in r.time().map { .pause(node, duration: $0) } }
    case "clock": r.node().flatMap { node in r.int().map { .stepClock(node, seconds: $0) } }
    case "fault":
      r.node().flatMap { node in
        r.word().flatMap { FaultKind(rawValue: $0) }.flatMap { kind in
          r.time().map { .fault(node, kind, duration: $0) }
        }
      }
    default: nil
    }
  }

  private static func ofLinks(_ verb: String, _ r: inout WordReader) -> Operation? {
    guard ["reset", "shred", "partition", "clog"].contains(verb), let host = r.host(), let server = r.server() else {
      return nil
    }
    if verb == "reset" { return .reset(host: host, server: server) }
    if verb == "shred" { return r.time().map { .shred(host: host, server: server, duration: $0) } }
    guard let up = r.choice("up", "down"), let duration = r.time() else { return nil }
    return verb == "partition"
      ? .partition(host: host, server: server, toServer: up, duration: duration)
      : .clog(host: host, server: server, toServer: up, duration: duration)
  }

  private static func ofHints(_ verb: String, _ r: inout WordReader) -> Operation? {
    guard ["overflow", "drophints", "duplicatehints", "delayhints", "deny"].contains(verb), let host = r.host() else {
      return nil
    }
    if verb == "overflow" { return .overflow(host: host) }
    if verb == "deny" {
      guard let path = r.word() else { return nil }
      return r.time().map { .deny(host: host, path: path, duration: $0) }
    }
    guard let duration = r.time() else { return nil }
    return switch verb {
    case "drophints": .dropHints(host: host, duration: duration)
    case "duplicatehints": .duplicateHints(host: host, duration: duration)
    default: .delayHints(host: host, duration: duration)
    }
  }
}
