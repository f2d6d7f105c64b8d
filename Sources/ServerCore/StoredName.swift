package import JournalModel
package import MerkleLog

/// Names of plain files and links on a server (P1). Names from hosts are data: whatever bytes a host records, the result
/// stays below its own directory, within the bounds of Linux, and is readable where it can be.
///
/// Files carry `@` and a suffix, directories never contain `@`: a file and a directory can't want one name.
package enum StoredName<H: TreeHasher> where H.Value == Digest {
  /// NAME_MAX of `limits.h`.
  static var componentLimit: Int { 255 }
  /// PATH_MAX less room for the log root and for what a data plane appends when it sets a file aside.
  static var pathLimit: Int { 3_072 }

  /// The plain file relative to the log root: `files/<host>/<path>@<birth>-<short uuid>`. `attempt` counts the names
  /// that were taken: 0 is the short one, 1 has the full uuid, later ones a number besides. Those of branches have the
  /// full uuid and the string's number.
  package static func plain(
    host: HostName, path: BytePath, born: WallTime, file: FileUUID, string: UInt32 = 0, attempt: Int
  ) -> BytePath {
    var suffix = [UInt8(ascii: "@")] + UTCTime(born).basic + [UInt8(ascii: "-")]
    suffix += attempt == 0 && string == 0 ? Array(hex(file.bytes.high).prefix(8)) : canonical(file.bytes)
    if string > 0 { suffix += Array("-branch\(string)".utf8) }
    if attempt > 1 { suffix += Array(".\(attempt)".utf8) }
    return BytePath(Array("files/\(host.text)/".utf8) + relative(path, suffix: suffix))
  }

  /// The path below `latest/<host>/`.
  package static func latest(_ path: BytePath) -> BytePath { BytePath(relative(path, suffix: [])) }

  private static func relative(_ path: BytePath, suffix: [UInt8]) -> [UInt8] {
    var components = path.bytes.split(separator: slash).map { escaped($0) }
    let last = bounded(components.popLast() ?? Array("%2F".utf8), suffix: suffix)
    let directories = components.map { bounded($0, suffix: []) }
    let whole = joined(directories + [last])
    if whole.count <= pathLimit { return whole }
    // Too deep: what doesn't fit becomes one directory, named by the digest of the whole path.
    let marker = [tilde] + digest(path.bytes)
    var room = pathLimit - componentLimit - marker.count - 2
    var kept: [[UInt8]] = []
    for directory in directories {
      room -= directory.count + 1
      if room < 0 { break }
      kept.append(directory)
    }
    return joined(kept + [marker, last])
  }

  private static func joined(_ components: [[UInt8]]) -> [UInt8] { Array(components.joined(separator: [slash])) }

  /// Percent-escapes `%`, `@`, control characters, bytes that aren't UTF-8, and the components `.` and `..`.
  static func escaped(_ component: ArraySlice<UInt8>) -> [UInt8] {
    if component.elementsEqual([dot]) || component.elementsEqual([dot, dot]) {
      return component.flatMap { percent($0) }
    }
    var result: [UInt8] = []
    result.reserveCapacity(component.count)
    var rest = component
    while let byte = rest.first {
      let count = printableLength(rest)
      if count == 0 {
        result += percent(byte)
        rest = rest.dropFirst()
      } else {
        result += rest.prefix(count)
        rest = rest.dropFirst(count)
      }
    }
    return result
  }

  /// Cuts what is longer than a component may be with its suffix; `~` and a digest of the whole keep it distinct.
  private static func bounded(_ component: [UInt8], suffix: [UInt8]) -> [UInt8] {
    if component.count + suffix.count <= componentLimit { return component + suffix }
    let mark = [tilde] + digest(component)
    var end = componentLimit - suffix.count - mark.count
    while end > 0, component[end] & 0xC0 == 0x80 { end -= 1 }
    if let cut = component[..<end].suffix(2).lastIndex(of: percentSign) { end = cut }
    return component[..<end] + mark + suffix
  }

  /// How many bytes the printable character at the beginning has in UTF-8 (RFC 3629); 0 when there is none.
  private static func printableLength(_ bytes: ArraySlice<UInt8>) -> Int {
    guard let first = bytes.first else { return 0 }
    switch first {
    case 0x20...0x7E: return first == percentSign || first == at ? 0 : 1
    case 0xC2...0xDF: return isFollowed(bytes, by: [first == 0xC2 ? 0xA0...0xBF : 0x80...0xBF]) ? 2 : 0
    case 0xE0...0xEF:
      let second: ClosedRange<UInt8> = first == 0xE0 ? 0xA0...0xBF : first == 0xED ? 0x80...0x9F : 0x80...0xBF
      return isFollowed(bytes, by: [second, 0x80...0xBF]) ? 3 : 0
    case 0xF0...0xF4:
      let second: ClosedRange<UInt8> = first == 0xF0 ? 0x90...0xBF : first == 0xF4 ? 0x80...0x8F : 0x80...0xBF
      return isFollowed(bytes, by: [second, 0x80...0xBF, 0x80...0xBF]) ? 4 : 0
    default: return 0
    }
  }

  private static func isFollowed(_ bytes: ArraySlice<UInt8>, by ranges: [ClosedRange<UInt8>]) -> Bool {
    let rest = bytes.dropFirst().prefix(ranges.count)
    return rest.count == ranges.count && zip(rest, ranges).allSatisfy { $1.contains($0) }
  }

  private static func digest(_ bytes: [UInt8]) -> [UInt8] { hex(H.digest(bytes.span.bytes).words.0) }

  private static func percent(_ byte: UInt8) -> [UInt8] {
    [percentSign] + hexDigits(UInt64(byte), count: 2, letters: UInt8(ascii: "A"))
  }

  private static func hex(_ word: UInt64) -> [UInt8] { hexDigits(word, count: 16, letters: UInt8(ascii: "a")) }

  /// 8-4-4-4-12 of RFC 9562.
  private static func canonical(_ uuid: UUIDBytes) -> [UInt8] {
    let digits = hex(uuid.high) + hex(uuid.low)
    let groups = [digits[0..<8], digits[8..<12], digits[12..<16], digits[16..<20], digits[20..<32]]
    return Array(groups.joined(separator: [UInt8(ascii: "-")]))
  }

  private static func hexDigits(_ value: UInt64, count: Int, letters: UInt8) -> [UInt8] {
    (0..<count).reversed().map { index in
      let digit = UInt8(truncatingIfNeeded: value >> (4 * UInt64(index))) & 0xF
      return digit < 10 ? UInt8(ascii: "0") + digit : letters + (digit - 10)
    }
  }

  private static var slash: UInt8 { UInt8(ascii: "/") }
  private static var dot: UInt8 { UInt8(ascii: ".") }
  private static var at: UInt8 { UInt8(ascii: "@") }
  private static var tilde: UInt8 { UInt8(ascii: "~") }
  private static var percentSign: UInt8 { UInt8(ascii: "%") }
}

/// A wall time as a calendar shows it in UTC (proleptic Gregorian; whole seconds, rounded down).
struct UTCTime: Hashable {
  let year: Int64
  let month: Int64
  let day: Int64
  let hour: Int64
  let minute: Int64
  let second: Int64

  init(_ time: WallTime) {
    let (seconds, _) = Self.floored(time.nanoseconds, by: 1_000_000_000)
    let (days, inDay) = Self.floored(seconds, by: 86_400)
    // Days since 0000-03-01 in eras of 400 years: leap days then fall at the end of a year.
    let (era, dayOfEra) = Self.floored(days + 719_468, by: 146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    day = dayOfYear - (153 * shifted + 2) / 5 + 1
    month = shifted < 10 ? shifted + 3 : shifted - 9
    year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    hour = inDay / 3_600
    minute = inDay / 60 % 60
    second = inDay % 60
  }

  /// `yyyymmddThhmmssZ` (ISO 8601, basic format).
  var basic: [UInt8] {
    Self.digits(year, 4) + Self.digits(month, 2) + Self.digits(day, 2) + [UInt8(ascii: "T")]
      + Self.digits(hour, 2) + Self.digits(minute, 2) + Self.digits(second, 2) + [UInt8(ascii: "Z")]
  }

  private static func digits(_ value: Int64, _ count: Int) -> [UInt8] {
    var rest = value
    var result = [UInt8](repeating: 0, count: count)
    for index in result.indices.reversed() {
      result[index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
      rest /= 10
    }
    return result
  }

  private static func floored(_ value: Int64, by divisor: Int64) -> (Int64, Int64) {
    let (quotient, remainder) = value.quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }
}
