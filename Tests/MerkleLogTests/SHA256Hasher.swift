import MerkleLog

/// SHA-256 (FIPS 180-4), for tests only: slow, short and without dependencies.
struct SHA256 {
  private static let constants: [UInt32] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
  ]

  static func hash(_ message: [UInt8]) -> [UInt8] {
    var state: [UInt32] = [
      0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    ]
    var padded = message + [0x80]
    while padded.count % 64 != 56 { padded.append(0) }
    let bits = UInt64(message.count) * 8
    padded += (0..<8).map { UInt8(truncatingIfNeeded: bits >> UInt64(56 - 8 * $0)) }
    for block in stride(from: 0, to: padded.count, by: 64) { compress(padded[block..<(block + 64)], into: &state) }
    return state.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(24 - 8 * $0)) } }
  }

  private static func compress(_ block: ArraySlice<UInt8>, into state: inout [UInt32]) {
    let bytes = Array(block)
    var w = [UInt32](repeating: 0, count: 64)
    for i in 0..<16 {
      w[i] = UInt32(bytes[4 * i]) << 24 | UInt32(bytes[4 * i + 1]) << 16
      w[i] |= UInt32(bytes[4 * i + 2]) << 8 | UInt32(bytes[4 * i + 3])
    }
    for i in 16..<64 {
      let a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >> 3)
      let b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >> 10)
      w[i] = w[i - 16] &+ a &+ w[i - 7] &+ b
    }
    var v = state
    for i in 0..<64 {
      let high = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25)
      let choice = (v[4] & v[5]) ^ (~v[4] & v[6])
      let first = v[7] &+ high &+ choice &+ constants[i] &+ w[i]
      let low = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22)
      let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2])
      for j in (1..<8).reversed() { v[j] = v[j - 1] }
      v[0] = first &+ low &+ majority
      v[4] = v[4] &+ first
    }
    for i in 0..<8 { state[i] = state[i] &+ v[i] }
  }

  private static func rotate(_ value: UInt32, _ count: UInt32) -> UInt32 { value >> count | value << (32 - count) }
}

enum SHA256Hasher: TreeHasher {
  static func digest(_ bytes: RawSpan) -> [UInt8] { SHA256.hash(bytes.withUnsafeBytes { Array($0) }) }
  static var empty: [UInt8] { SHA256.hash([]) }
  static func node(_ left: [UInt8], _ right: [UInt8]) -> [UInt8] { SHA256.hash([1] + left + right) }

  struct Leaf: LeafHasher {
    private var bytes: [UInt8] = [0]
    mutating func update(_ span: RawSpan) { span.withUnsafeBytes { bytes.append(contentsOf: $0) } }
    func value() -> [UInt8] { SHA256.hash(bytes) }
    func copy() -> Leaf { self }
  }
}

/// A cheap hash (FNV-1a) for properties over many trees; its leaf is a reference, so that a forgotten `copy()` shows.
enum CheapHasher: TreeHasher {
  static func mix(_ start: UInt64, _ bytes: some Sequence<UInt8>) -> UInt64 {
    bytes.reduce(start) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
  private static let basis: UInt64 = 0xcbf2_9ce4_8422_2325

  static func digest(_ bytes: RawSpan) -> UInt64 { bytes.withUnsafeBytes { mix(basis, $0) } }
  static var empty: UInt64 { basis }
  static func node(_ left: UInt64, _ right: UInt64) -> UInt64 {
    [left, right].reduce(mix(basis, [1])) { hash, value in
      mix(hash, (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) })
    }
  }

  final class Leaf: LeafHasher {
    private var state = CheapHasher.mix(CheapHasher.basis, [0])
    init() {}
    func update(_ bytes: RawSpan) { state = bytes.withUnsafeBytes { CheapHasher.mix(state, $0) } }
    func value() -> UInt64 { state }
    func copy() -> Leaf {
      let copy = Leaf()
      copy.state = state
      return copy
    }
  }
}

/// The definition of RFC 6962, section 2.1, word for word: split at the greatest power of two below the size.
func naiveRoot<H: TreeHasher>(_: H.Type, _ leaves: ArraySlice<H.Value>) -> H.Value {
  guard let first = leaves.first else { return H.empty }
  if leaves.count == 1 { return first }
  var split = 1
  while split * 2 < leaves.count { split *= 2 }
  let middle = leaves.startIndex + split
  return H.node(naiveRoot(H.self, leaves[..<middle]), naiveRoot(H.self, leaves[middle...]))
}

func hex(_ bytes: [UInt8]) -> String {
  bytes.map { byte in
    let digits = String(byte, radix: 16)
    return byte < 16 ? "0" + digits : digits
  }.joined()
}

func bytes(hex: String) -> [UInt8] {
  let digits = Array(hex)
  return stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0...($0 + 1)]), radix: 16) }
}

/// SplitMix64: the same values for the same seed, everywhere.
struct Seeded: RandomNumberGenerator {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
