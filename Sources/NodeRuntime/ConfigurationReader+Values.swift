import JournalModel

extension ConfigurationReader {
  mutating func hostName(_ entry: Entry) -> HostName? {
    guard let text = text(entry) else { return nil }
    guard let name = HostName(text) else {
      complain(
        entry.line, entry.key,
        "`\(shown(text))` is not a name: 1 to \(HostName.maximumByteCount) letters, digits, `.`, `_` or `-`, not beginning "
          + "with `.` or `-`")
      return nil
    }
    return name
  }

  mutating func path(_ entry: Entry?, default fallback: String) -> String? {
    guard let entry else { return fallback }
    return path(entry)
  }

  /// Absolute and without `.`, `..` and doubled slashes.
  mutating func path(_ entry: Entry) -> String? {
    guard let text = text(entry) else { return nil }
    let path = Self.normalized(text.hasPrefix("/") ? text : base + "/" + text)
    guard path.utf8.count <= BytePath.maximumByteCount - 256 else {
      complain(entry.line, entry.key, "the path is too long")
      return nil
    }
    return path
  }

  static func normalized(_ path: String) -> String {
    var components: [Substring] = []
    for component in path.split(separator: "/") where component != "." {
      if component == ".." { _ = components.popLast() } else { components.append(component) }
    }
    return "/" + components.joined(separator: "/")
  }

  mutating func address(_ entry: Entry) -> Configuration.Address? {
    guard let text = text(entry) else { return nil }
    do {
      return try Configuration.Address(parsing: text)
    } catch {
      complain(entry.line, entry.key, error.message)
      return nil
    }
  }

  mutating func duration(
    _ entry: Entry?, default fallback: Interval, within range: ClosedRange<Interval>
  ) -> Interval? {
    guard let entry else { return fallback }
    guard let word = word(entry) else { return nil }
    do {
      let value = try Quantity.duration(word)
      if range.contains(value) { return value }
      complain(
        entry.line, entry.key,
        "\(shown(word)) is not within \(Quantity.text(range.lowerBound)) and \(Quantity.text(range.upperBound))")
    } catch {
      complain(entry.line, entry.key, error.message)
    }
    return nil
  }

  mutating func size(_ entry: Entry?, default fallback: UInt64, within range: ClosedRange<UInt64>) -> UInt64? {
    guard let entry else { return fallback }
    guard let word = word(entry) else { return nil }
    do {
      let value = try Quantity.size(word)
      if range.contains(value) { return value }
      complain(
        entry.line, entry.key,
        "\(shown(word)) is not within \(Quantity.text(bytes: range.lowerBound)) and "
          + Quantity.text(bytes: range.upperBound))
    } catch {
      complain(entry.line, entry.key, error.message)
    }
    return nil
  }
}

extension Configuration.Address {
  package struct Failure: Error, Hashable, Sendable {
    package var message: String
  }

  /// `host:port` or `[IPv6]:port`; ports 1 ... 65535.
  package init(parsing text: String) throws(Failure) {
    guard let colon = text.lastIndex(of: ":") else {
      throw Failure(message: "`\(shown(text))` lacks a port: write `host:port`")
    }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
      guard host.contains(":"), host.allSatisfy({ $0.isHexDigit || ":.%".contains($0) || $0.isASCII && $0.isLetter })
      else { throw Failure(message: "`\(shown(String(host)))` is not an IPv6 address") }
    } else if host.contains(":") {
      throw Failure(message: "put an IPv6 address in brackets, and the whole in quotes: `\"[::1]:7443\"`")
    } else {
      guard !host.isEmpty, host.utf8.count <= 253,
        host.utf8.allSatisfy({ "abcdefghijklmnopqrstuvwxyz0123456789.-_".utf8.contains($0 | 0x20) || $0 == 0x5F })
      else { throw Failure(message: "`\(shown(String(host)))` is neither a host name nor an IP address") }
    }
    let digits = text[text.index(after: colon)...]
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(digits), port > 0
    else { throw Failure(message: "`\(shown(String(digits)))` is not a port: 1 to 65535") }
    self.init(host: String(host), port: port)
  }
}
