import Yams

/// Walks the nodes of a YAML document and gathers everything that is wrong with them, each with its line and key.
struct ConfigurationReader {
  typealias Value = Yams.Node

  let file: String
  /// Directory that relative paths are relative to.
  let base: String
  var problems: [ConfigurationProblem] = []
  var warnings: [ConfigurationProblem] = []

  init(file: String) {
    self.file = file
    base = file.lastIndex(of: "/").map { $0 == file.startIndex ? "/" : String(file[..<$0]) } ?? "/"
  }

  /// A key's value and where it stands.
  struct Entry {
    var key: String
    var value: Value
    var line: Int?
  }

  /// The entries of a mapping by the names of their keys.
  struct Section {
    var key: String
    var line: Int?
    var entries: [String: Entry] = [:]
    /// Stands for a mapping that couldn't be read: its missing keys are not worth a word.
    var isBroken = false
  }

  mutating func complain(_ line: Int?, _ key: String, _ message: String) {
    problems.append(ConfigurationProblem(file: file, line: line, key: key, message: message))
  }

  mutating func warn(_ line: Int?, _ key: String, _ message: String) {
    warnings.append(ConfigurationProblem(file: file, line: line, key: key, message: message))
  }

  // MARK: Structure

  mutating func section(_ entry: Entry, keys: [String]) -> Section {
    var section = Section(key: entry.key, line: entry.line)
    guard let mapping = entry.value.mapping else {
      complain(entry.line, entry.key, "expected keys and values, found \(Self.kind(of: entry.value))")
      section.isBroken = true
      return section
    }
    for (name, value) in mapping {
      let line = name.mark?.line ?? entry.line
      guard case .scalar(let scalar) = name else {
        complain(line, entry.key, "a key must be a word, not \(Self.kind(of: name))")
        continue
      }
      if DuplicateKeys.isPlaceholder(scalar.string) { continue }
      let path = entry.key.isEmpty ? shown(scalar.string) : "\(entry.key).\(shown(scalar.string))"
      guard keys.contains(scalar.string) else {
        complain(line, path, Self.unknown(scalar.string, among: keys))
        continue
      }
      section.entries[scalar.string] = Entry(key: path, value: value, line: line)
    }
    return section
  }

  /// The items of a list, at most `limit`.
  mutating func list(_ entry: Entry, limit: Int, of what: String) -> [Entry] {
    guard let sequence = entry.value.sequence else {
      complain(entry.line, entry.key, "expected a list of \(what), found \(Self.kind(of: entry.value))")
      return []
    }
    if sequence.isEmpty { complain(entry.line, entry.key, "the list of \(what) is empty") }
    if sequence.count > limit {
      complain(entry.line, entry.key, "\(sequence.count) \(what) are more than the \(limit) that are allowed")
    }
    return sequence.prefix(limit).enumerated().map { index, value in
      Entry(key: "\(entry.key)[\(index)]", value: value, line: value.mark?.line ?? entry.line)
    }
  }

  mutating func required(_ name: String, in section: Section, _ hint: String) -> Entry? {
    if let entry = section.entries[name] { return entry }
    if !section.isBroken {
      complain(section.line, section.key.isEmpty ? name : "\(section.key).\(name)", "is missing: \(hint)")
    }
    return nil
  }

  // MARK: Values

  /// Text as text: a number or a truth value needs quotes to be one.
  mutating func text(_ entry: Entry) -> String? {
    guard case .scalar(let scalar) = entry.value, entry.value.tag.rawValue == Tag.Name.str.rawValue else {
      complain(entry.line, entry.key, "expected text, found \(Self.kind(of: entry.value))")
      return nil
    }
    if scalar.style == .plain || scalar.style == .any, let kind = Self.kind(ofPlain: scalar.string) {
      complain(entry.line, entry.key, "expected text, found \(kind)")
      return nil
    }
    guard !scalar.string.isEmpty else {
      complain(entry.line, entry.key, "is empty")
      return nil
    }
    guard !scalar.string.unicodeScalars.contains("\0") else {
      complain(entry.line, entry.key, "contains a NUL byte")
      return nil
    }
    return scalar.string
  }

  /// A word or number as it stands, quoted or not.
  mutating func word(_ entry: Entry) -> String? {
    guard case .scalar(let scalar) = entry.value, !scalar.string.isEmpty else {
      complain(entry.line, entry.key, "expected a value, found \(Self.kind(of: entry.value))")
      return nil
    }
    return scalar.string
  }

  static func kind(of value: Value) -> String {
    switch value {
    case .mapping: "keys and values"
    case .sequence: "a list"
    case .alias: "an alias"
    case .scalar(let scalar): kind(ofPlain: scalar.string) ?? "text"
    }
  }

  private static func kind(ofPlain text: String) -> String? {
    switch text.lowercased() {
    case "", "~", "null": "nothing"
    case "true", "false", "yes", "no", "on", "off": "the truth value `\(text)` (put it in quotes if it is a name)"
    default:
      text.utf8.count < 64 && Double(text.replacing("_", with: "")) != nil
        ? "the number \(text) (put it in quotes if it is a name)" : nil
    }
  }

  // MARK: Suggestions

  private static func unknown(_ name: String, among keys: [String]) -> String {
    let near = keys.map { (key: $0, distance: editDistance(name, $0)) }.min { $0.distance < $1.distance }
    if let near, near.distance <= max(2, near.key.utf8.count / 3) {
      return "unknown key; did you mean `\(near.key)`?"
    }
    return "unknown key; known here: \(keys.joined(separator: ", "))"
  }

  /// Levenshtein's, of names too long to be a slip not at all.
  static func editDistance(_ l: String, _ r: String) -> Int {
    let left = Array(l.utf8), right = Array(r.utf8)
    guard left.count <= 64, right.count <= 64 else { return .max }
    var row = Array(0...right.count)
    for (i, a) in left.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, b) in right.enumerated() {
        let above = row[j + 1]
        row[j + 1] = min(above + 1, row[j] + 1, diagonal + (a == b ? 0 : 1))
        diagonal = above
      }
    }
    return row[right.count]
  }
}
