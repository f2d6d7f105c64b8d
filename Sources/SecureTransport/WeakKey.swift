import COpenSSL

/// Ed25519 public keys that prove nothing, or that can be written in two ways.
///
/// Under a key whose order divides 8 anyone can sign: with the neutral point, R neutral and S = 0 fit every message.
/// OpenSSL takes such keys, and encodings that aren't the canonical one of their point (RFC 8032, 5.1.3), both in raw
/// keys and in certificates; so they are refused wherever a key or a signature comes from outside.
enum WeakKey {
  /// Why `publicKey`, 32 bytes, is worth nothing as an Ed25519 key; nil if it may be used.
  static func objection(toEd25519 publicKey: [UInt8]) -> String? {
    guard publicKey.count == 32 else { return "is not an Ed25519 key" }
    if isSmallOrder(publicKey[...]) { return "is of small order: anyone could sign for it" }
    return isBelowP(withoutSign(publicKey[...])) ? nil : "is not written as its point must be (RFC 8032, 5.1.3)"
  }

  /// The same of a key of any type; those that aren't Ed25519 are OpenSSL's to judge.
  static func objection(to key: OpaquePointer) -> String? {
    guard EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 else { return nil }
    var bytes = [UInt8](repeating: 0, count: 32)
    var count = bytes.count
    guard EVP_PKEY_get_raw_public_key(key, &bytes, &count) == 1, count == bytes.count else {
      OpenSSLErrors.clear()
      return "has no public key"
    }
    return objection(toEd25519: bytes)
  }

  /// Whether the 32 bytes name, in whatever way, one of the eight points whose order divides 8. Those are told by y
  /// alone: 1 has order 1, -1 order 2, 0 order 4, and the two roots of 2y² = 1 - dy⁴ that lie on the curve order 8.
  static func isSmallOrder(_ point: ArraySlice<UInt8>) -> Bool {
    let y = withoutSign(point)
    // Beyond p = 2²⁵⁵ - 19 only the lowest byte differs.
    return smallOrder.contains(isBelowP(y) ? y : [y[0] - 0xED] + [UInt8](repeating: 0, count: 31))
  }

  /// y, in little-endian order, without the sign of x in its highest bit.
  private static func withoutSign(_ point: ArraySlice<UInt8>) -> [UInt8] {
    var y = Array(point)
    y[31] &= 0x7F
    return y
  }

  private static func isBelowP(_ y: [UInt8]) -> Bool {
    y[0] < 0xED || y[31] != 0x7F || y[1..<31].contains { $0 != 0xFF }
  }

  private static let smallOrder: [[UInt8]] = [
    [UInt8](repeating: 0, count: 32),
    [1] + [UInt8](repeating: 0, count: 31),
    [0xEC] + [UInt8](repeating: 0xFF, count: 30) + [0x7F],
    [
      0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0,
      0xD5, 0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05,
    ],
    [
      0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F,
      0x2A, 0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A,
    ],
  ]
}
