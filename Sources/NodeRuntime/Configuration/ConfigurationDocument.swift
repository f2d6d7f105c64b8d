import Yams

/// A configuration file's text as nodes, with every syntax error and every repeated key as a problem.
///
/// Anchors and aliases are refused before parsing: no key needs them, and expanding (or, as a key, hashing) nested ones
/// takes time exponential in the size of the file.
enum ConfigurationDocument {
  /// Nil when the text is no YAML at all; `problems` then say why.
  static func compose(_ text: String, into reader: inout ConfigurationReader) -> Yams.Node? {
    if let line = lineOfAnchor(text) {
      reader.complain(
        line, "",
        "anchors (`&name`) are not used here; if it is part of a pattern, write `?` or a quoted `\\x26` for the `&`")
      return nil
    }
    var text = text
    for attempt in 0..<DuplicateKeys.most {
      do {
        return try Yams.compose(yaml: text, .basic)
      } catch let error as YamlError {
        guard case .duplicatedKeysInMapping(let names, let context) = error, let name = names.sorted().first,
          let renamed = DuplicateKeys.renaming(name, at: context.mark, in: text, attempt: attempt)
        else {
          describe(error, into: &reader)
          return nil
        }
        reader.complain(context.mark.line, shown(name), "is given more than once in the same section")
        text = renamed
      } catch {
        reader.complain(nil, "", "can't be read as YAML: \(shown(String(describing: error)))")
        return nil
      }
    }
    return nil
  }

  /// The first `&` that could begin an anchor. libyaml begins a token only at the start of a line, after a blank, an
  /// indicator or a closing quote, and an anchor's name is made of letters, digits, `_` and `-`; so an `&` behind a
  /// character of a path is text wherever it stands.
  private static func lineOfAnchor(_ text: String) -> Int? {
    var line = 1
    var previous: UInt8 = 0x0A
    var isPending = false
    for byte in text.utf8 {
      if isPending, isName(byte) || byte == UInt8(ascii: "-") { return line }
      isPending = byte == UInt8(ascii: "&") && !isName(previous) && !"-./&=+@~".utf8.contains(previous)
      if byte == 0x0A { line += 1 }
      previous = byte
    }
    return nil
  }

  private static func isName(_ byte: UInt8) -> Bool {
    (byte | 0x20) >= UInt8(ascii: "a") && (byte | 0x20) <= UInt8(ascii: "z")
      || byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") || byte == UInt8(ascii: "_")
  }

  private static func describe(_ error: YamlError, into reader: inout ConfigurationReader) {
    switch error {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      let hint =
        problem.contains("alias") || context?.text.contains("alias") == true
        ? "; put quotes around a pattern that begins with `*`"
        : problem.contains("tab") || problem.contains("cannot start any token")
          ? "; put quotes around text that begins with a special character, and indent with blanks" : ""
      let background = context.map { " \($0.text) (line \($0.mark.line))" } ?? ""
      reader.complain(mark.line, "", "is not YAML:\(background) \(problem)\(hint)")
    case .reader(let problem, _, let value, _):
      reader.complain(nil, "", "is not YAML: \(problem)\(value > 0 ? " (\(String(value, radix: 16)))" : "")")
    case .duplicatedKeysInMapping(let names, let context):
      let list = names.sorted().prefix(8).map { shown($0) }.joined(separator: ", ")
      reader.complain(context.mark.line, list, "is given more than once in the same section")
    default:
      reader.complain(nil, "", "can't be read as YAML")
    }
  }
}

/// Yams stops at the first key that stands twice in a mapping. So that everything wrong is told at once, the first of
/// the two is renamed to a key that the reader skips, and the text is read again.
enum DuplicateKeys {
  /// So many are renamed; more stop the reading.
  static let most = 16
  private static let prefix = "repeated-key-\u{FFFD}-"

  static func isPlaceholder(_ key: String) -> Bool { key.hasPrefix(prefix) }

  /// Nil when the key isn't where Yams says.
  static func renaming(_ name: String, at mark: Mark, in text: String, attempt: Int) -> String? {
    var line = 1
    var index = text.unicodeScalars.startIndex
    while line < mark.line {
      guard let end = text.unicodeScalars[index...].firstIndex(of: "\n") else { return nil }
      index = text.unicodeScalars.index(after: end)
      line += 1
    }
    guard
      let start = text.unicodeScalars.index(
        index, offsetBy: mark.column - 1, limitedBy: text.unicodeScalars.endIndex)
    else { return nil }
    for spelling in [name, "\"\(name)\"", "'\(name)'"] where text[start...].hasPrefix(spelling) {
      return text[..<start] + prefix + String(attempt) + text[start...].dropFirst(spelling.count)
    }
    return nil
  }
}
