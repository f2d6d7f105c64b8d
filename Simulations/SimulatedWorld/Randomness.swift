/// Cheap mixing functions; nothing here is meant to resist anybody.
package enum Mix {
  /// SplitMix64's finalizer.
  package static func word(_ value: UInt64) -> UInt64 {
    var z = value &+ 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  package static func hash(_ bytes: [UInt8], seed: UInt64 = 0xCBF2_9CE4_8422_2325) -> UInt64 {
    bytes.withUnsafeBytes { hash($0, seed: seed) }
  }

  package static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0xCBF2_9CE4_8422_2325) -> UInt64 {
    var value = seed ^ UInt64(bytes.count)
    var offset = 0
    while bytes.count - offset >= 8 {
      let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      value = (value ^ word) &* 0x9FB2_1C65_1E98_DF25
      value ^= value >> 29
      offset += 8
    }
    while offset < bytes.count {
      value = (value ^ UInt64(bytes[offset])) &* 0x0000_0100_0000_01B3
      offset += 1
    }
    return word(value)
  }

  package static func hash(_ text: String) -> UInt64 { hash(Array(text.utf8)) }
}

/// One stream for each (seed, entity, purpose), so that removing one fault doesn't shift the others (xoshiro256**,
/// Blackman and Vigna 2018).
package struct RandomStream: RandomNumberGenerator, Sendable {
  private var state: (UInt64, UInt64, UInt64, UInt64)

  package init(seed: UInt64, entity: String, purpose: String) {
    var word = Mix.word(seed ^ Mix.word(Mix.hash(entity) ^ Mix.word(Mix.hash(purpose))))
    func following() -> UInt64 {
      word = Mix.word(word)
      return word
    }
    state = (following(), following(), following(), following())
  }

  package mutating func next() -> UInt64 {
    let product = state.1 &* 5
    let result = ((product << 7) | (product >> 57)) &* 9
    let shifted = state.1 << 17
    state.2 ^= state.0
    state.3 ^= state.1
    state.1 ^= state.2
    state.0 ^= state.3
    state.2 ^= shifted
    state.3 = (state.3 << 45) | (state.3 >> 19)
    return result
  }

  /// 0 ..< `bound`; 0 when `bound` is 0.
  package mutating func below(_ bound: UInt64) -> UInt64 {
    bound == 0 ? 0 : next().multipliedFullWidth(by: bound).high
  }

  package mutating func below(_ bound: Int) -> Int { Int(below(UInt64(max(0, bound)))) }

  package mutating func within(_ range: ClosedRange<UInt64>) -> UInt64 {
    range.lowerBound + below(range.upperBound - range.lowerBound + 1)
  }

  package mutating func within(_ range: ClosedRange<Int>) -> Int {
    range.lowerBound + below(range.upperBound - range.lowerBound + 1)
  }

  /// True with a probability in millionths.
  package mutating func chance(_ millionths: UInt64) -> Bool {
    millionths > 0 && below(1_000_000 as UInt64) < millionths
  }

  package mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }

  package mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }

  /// A delay around `typical` nanoseconds with a long tail: once in 50 ten times, once in 1,000 a hundred times as long.
  package mutating func latency(_ typical: UInt64) -> UInt64 {
    let draw = below(1_000 as UInt64)
    let scale: UInt64 = draw == 0 ? 100 : draw < 20 ? 10 : 1
    return typical / 2 &* scale + below(typical &* scale + 1)
  }
}
