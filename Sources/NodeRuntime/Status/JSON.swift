import FoundationEssentials

/// JSON as this program writes it everywhere: keys in order, one line, `/` as it is.
package enum JSON {
  package static func line(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }

  static func decode<T: Decodable>(_: T.Type, from bytes: some Collection<UInt8>) throws -> T {
    try JSONDecoder().decode(T.self, from: Data(bytes))
  }
}
