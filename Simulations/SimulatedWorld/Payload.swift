/// What writers write.
enum Payload {
  /// Bytes that depend on nothing but the arguments. `unique` lines say who wrote them, which one it is and how long,
  /// with a check; the other kinds repeat on purpose.
  static func bytes(_ kind: PayloadKind, host: Int, writer: Int, sequence: Int, count: Int) -> [UInt8] {
    switch kind {
    case .zero: return [UInt8](repeating: 0, count: count)
    case .line: return repeated("2026-01-01 INFO the same line for ever\n", count)
    case .banner: return repeated("### service started, version 1.2.3 ###\n", count)
    case .unique:
      var text = "w\(host).\(writer) #\(sequence) len=\(count) "
      var word = Mix.hash(text)
      while text.utf8.count < count {
        text += String(word, radix: 36)
        word = Mix.word(word)
      }
      var bytes = Array(text.utf8.prefix(max(0, count - 1)))
      bytes.append(UInt8(ascii: "\n"))
      return bytes
    }
  }

  private static func repeated(_ line: String, _ count: Int) -> [UInt8] {
    let line = Array(line.utf8)
    return (0..<count).map { line[$0 % line.count] }
  }
}
