package import JournalModel

/// A number with a unit, as configuration files and commands write it: `500ms`, `30s`, `5m`, `2h`, `1d`; `64MiB`,
/// `1GiB`. Whole numbers only.
package enum Quantity {
  package struct Failure: Error, Hashable, Sendable {
    package var message: String
  }

  private static let durations: [(unit: String, nanoseconds: UInt64)] = [
    ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
  ]
  private static let sizes: [(unit: String, bytes: UInt64)] = [
    ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40),
  ]

  package static func duration(_ text: String) throws(Failure) -> Interval {
    Interval(nanoseconds: try parse(text, units: durations.map { ($0.unit, $0.nanoseconds) }, example: "30s"))
  }

  /// In bytes.
  package static func size(_ text: String) throws(Failure) -> UInt64 {
    try parse(text, units: sizes.map { ($0.unit, $0.bytes) }, example: "64MiB")
  }

  private static func parse(
    _ text: String, units: [(unit: String, factor: UInt64)], example: String
  ) throws(Failure) -> UInt64 {
    let digits = text.prefix { ("0"..."9").contains($0) }
    let unit = text.dropFirst(digits.count)
    guard !digits.isEmpty else { throw Failure(message: "expected a whole number with a unit, such as `\(example)`") }
    guard !unit.isEmpty else {
      throw Failure(message: "`\(digits)` lacks its unit: write something like `\(example)`")
    }
    guard let factor = units.first(where: { $0.unit == unit })?.factor else {
      let known = units.map(\.unit).joined(separator: ", ")
      throw Failure(message: "`\(shown(String(unit)))` is not a unit here: use one of \(known)")
    }
    guard let number = UInt64(digits), case let (value, overflow) = number.multipliedReportingOverflow(by: factor),
      !overflow
    else { throw Failure(message: "\(shown(text)) is too large") }
    return value
  }

  /// The greatest unit that divides it.
  package static func text(_ interval: Interval) -> String {
    for (unit, factor) in durations.reversed() where interval.nanoseconds % factor == 0 && interval.nanoseconds > 0 {
      return "\(interval.nanoseconds / factor)\(unit)"
    }
    return "\(interval.nanoseconds)ns"
  }

  package static func text(bytes: UInt64) -> String {
    for (unit, factor) in sizes.reversed() where bytes % factor == 0 && bytes > 0 { return "\(bytes / factor)\(unit)" }
    return "\(bytes)B"
  }
}

/// What a message may quote of a file's text: one line, bounded, nothing that moves a terminal's cursor.
func shown(_ text: String, limit: Int = 80) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    guard result.unicodeScalars.count < limit else { return result + "..." }
    result += scalar.properties.generalCategory.isPrintable ? String(scalar) : scalar.escaped(asASCII: true)
  }
  return result
}

extension Unicode.GeneralCategory {
  /// Neither a control, format or line-breaking character nor half of something.
  var isPrintable: Bool {
    switch self {
    case .control, .format, .surrogate, .lineSeparator, .paragraphSeparator, .unassigned, .privateUse: false
    default: true
    }
  }
}
