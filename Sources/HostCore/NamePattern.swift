import JournalModel

/// What one component with wildcards matches: a set of states that moves over a name byte by byte. It never comes back, so
/// it takes no more steps than the name has bytes, for each 64 tokens, whatever pattern and name are.
struct NamePattern: Hashable, Sendable {
  typealias Token = PathPattern.Token

  /// A byte for each token that takes one: the least that a name must have.
  let length: Int
  /// A name that it matches.
  let sample: [UInt8]
  /// A state for each number of tokens that are behind, 64 of them in a word.
  private let words: Int
  /// Which bytes are alike to all tokens.
  private let classes: [UInt16]
  /// For each class the states that go on to the next over such a byte.
  private let moves: [UInt64]
  /// The states that stay over any byte: a run begins there.
  private let stays: [UInt64]
  /// Tokens behind the last run; nil where there is no run.
  private let tail: Int?

  /// No run stands behind another.
  init(_ tokens: [Token]) {
    let steps = tokens.filter { $0 != .anyRun }
    length = steps.count
    sample = tokens.map(\.sample)
    let words = steps.count / 64 + 1
    self.words = words
    tail = tokens.lastIndex(of: .anyRun).map { tokens.count - 1 - $0 }
    var stays = [UInt64](repeating: 0, count: words)
    var behind = 0
    for token in tokens {
      if token == .anyRun { stays[behind / 64] |= 1 << UInt64(behind % 64) } else { behind += 1 }
    }
    self.stays = stays
    (classes, moves) = Self.table(of: steps, words: words)
  }

  private static func table(of steps: [Token], words: Int) -> (classes: [UInt16], moves: [UInt64]) {
    // The first class is of bytes that no token names.
    var classes = [UInt16](repeating: 0, count: 256)
    var count = 1
    let named: [[UInt8]] = steps.map { step in
      switch step {
      case .byte(let byte): [byte]
      case .set: (UInt8.min...UInt8.max).filter { step.matches($0) }
      case .any, .anyRun: []
      }
    }
    for byte in named.joined() where classes[Int(byte)] == 0 {
      classes[Int(byte)] = UInt16(count)
      count += 1
    }
    var moves = [UInt64](repeating: 0, count: count * words)
    for (index, step) in steps.enumerated() {
      let bit: UInt64 = 1 << UInt64(index % 64)
      for byte in named[index] { moves[Int(classes[Int(byte)]) * words + index / 64] |= bit }
      if step == .any { for row in 0..<count { moves[row * words + index / 64] |= bit } }
    }
    return (classes, moves)
  }

  func matches(_ name: [UInt8]) -> Bool { walk(name).isMatch }

  /// With the number of words of states that were looked at.
  func walk(_ name: [UInt8]) -> (isMatch: Bool, steps: Int) {
    guard name.count >= length, let (isMatch, steps) = endMatches(name) else { return (false, 1) }
    guard isMatch else { return (false, steps) }
    return words == 1 ? walkWord(name, steps) : walkWords(name, steps)
  }

  /// Nearly all names differ from nearly all patterns at their ends.
  private func endMatches(_ name: [UInt8]) -> (isMatch: Bool, steps: Int)? {
    guard let tail else { return name.count == length ? (true, 1) : nil }
    for back in 0..<tail where !moves(at: length - 1 - back, over: name[name.count - 1 - back]) {
      return (false, back + 1)
    }
    return (true, tail + 1)
  }

  private func moves(at state: Int, over byte: UInt8) -> Bool {
    moves[Int(classes[Int(byte)]) * words + state / 64] >> UInt64(state % 64) & 1 == 1
  }

  private func walkWord(_ name: [UInt8], _ before: Int) -> (isMatch: Bool, steps: Int) {
    var states: UInt64 = 1
    var steps = before
    for byte in name {
      states = (states & moves[Int(classes[Int(byte)])]) << 1 | states & stays[0]
      steps += 1
      if states == 0 { return (false, steps) }
    }
    return (states >> UInt64(length) & 1 == 1, steps)
  }

  private func walkWords(_ name: [UInt8], _ before: Int) -> (isMatch: Bool, steps: Int) {
    var states = [UInt64](repeating: 0, count: words)
    states[0] = 1
    var steps = before
    for byte in name {
      let row = Int(classes[Int(byte)]) * words
      var carried: UInt64 = 0
      var any: UInt64 = 0
      for word in 0..<words {
        let moved = states[word] & moves[row + word]
        states[word] = moved << 1 | carried | states[word] & stays[word]
        carried = moved >> 63
        any |= states[word]
      }
      steps += words
      if any == 0 { return (false, steps) }
    }
    return (states[length / 64] >> UInt64(length % 64) & 1 == 1, steps)
  }
}
