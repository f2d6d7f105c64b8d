import JournalModel
import SecureTransport

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

  /// `HOST:PORT` with a port that others can be told.
  mutating func address(_ entry: Entry) -> Address? {
    guard let text = text(entry) else { return nil }
    do {
      let address = try Address(text)
      if address.port > 0 { return address }
      complain(entry.line, entry.key, "`\(shown(text))`: 0 is not a port")
    } catch {
      complain(
        entry.line, entry.key,
        "`\(shown(text))` \(shown(error.reason, limit: 200))\(error.hint.map { ": \($0)" } ?? "")")
    }
    return nil
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
