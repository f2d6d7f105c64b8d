package import JournalModel

extension BytePath {
  /// For people and JSON: as it is where it is printable UTF-8, everything else (and `%`) as `%XX` for each byte.
  /// Reversible, and never more than one line.
  package var escaped: String {
    var text = ""
    var rest = bytes[...]
    while let first = rest.first {
      let count = Self.lengthOfCharacter(first)
      let part = rest.prefix(count)
      if first != UInt8(ascii: "%"), let one = String(validating: part, as: UTF8.self), one.unicodeScalars.count == 1,
        one.unicodeScalars.allSatisfy({ $0.properties.generalCategory.isPrintable })
      {
        text += one
        rest = rest.dropFirst(count)
      } else {
        text += "%" + [first].hex.uppercased()
        rest = rest.dropFirst()
      }
    }
    return text
  }

  /// Of a UTF-8 sequence that begins with this byte; 1 for a byte that begins none.
  private static func lengthOfCharacter(_ first: UInt8) -> Int {
    switch first {
    case 0xC2...0xDF: 2
    case 0xE0...0xEF: 3
    case 0xF0...0xF4: 4
    default: 1
    }
  }
}
