import COpenSSL
import Glibc
import JournalModel
import SecureTransport
import Testing

@Suite("Journal keys") struct JournalKeyTests {
  /// RFC 8032, 7.1, tests 1 to 3 and SHA(abc): seed, public key, message, signature.
  static let vectors: [(seed: String, publicKey: String, message: String, signature: String)] = [
    (
      "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
      "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    ),
    (
      "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
      "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    ),
    (
      "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
      "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
      "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    ),
    (
      "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
      "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
      "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
    ),
  ]

  static func bytes(_ hexadecimal: String) -> [UInt8] {
    stride(from: 0, to: hexadecimal.utf8.count, by: 2).map { offset in
      let start = hexadecimal.index(hexadecimal.startIndex, offsetBy: offset)
      return UInt8(hexadecimal[start..<hexadecimal.index(start, offsetBy: 2)], radix: 16)!
    }
  }

  @Test("signatures are those of RFC 8032, 7.1", arguments: vectors.indices)
  func rfc8032(index: Int) throws {
    let vector = Self.vectors[index]
    let key = try JournalKey(seed: Self.bytes(vector.seed))
    var reader = ByteReader(Self.bytes(vector.publicKey))
    let publicKey = try reader.readDigest()
    #expect(key.publicKey == publicKey)
    let message = Self.bytes(vector.message)
    let signature = Self.bytes(vector.signature)
    #expect(try key.sign(message) == signature)
    #expect(JournalKey.verify(signature, message, publicKey: publicKey))
  }

  @Test("a signature damaged at any byte, cut, lengthened, or over other bytes is none")
  func mutated() throws {
    let key = try JournalKey.make()
    let message = Array("nimbus".utf8)
    let signature = try key.sign(message)
    for index in signature.indices {
      var damaged = signature
      damaged[index] ^= 1
      #expect(!JournalKey.verify(damaged, message, publicKey: key.publicKey))
    }
    for other in [[], Array(signature.dropLast()), signature + [0]] {
      #expect(!JournalKey.verify(other, message, publicKey: key.publicKey))
    }
    #expect(!JournalKey.verify(signature, message + [0], publicKey: key.publicKey))
    #expect(!JournalKey.verify(signature, message, publicKey: try JournalKey.make().publicKey))
    #expect(!JournalKey.verify(signature, message, publicKey: .zero))
    #expect(ERR_peek_error() == 0, "the error queue is left empty")
  }

  @Test("a stored key comes back the same, is its owner's alone and is never replaced")
  func stored() throws {
    let scratch = try Scratch()
    let path = scratch.path + "/journal.key"
    let key = try JournalKey.make()
    try key.store(at: path)
    #expect(Scratch.mode(of: path) == 0o600)
    #expect(try JournalKey.load(path).publicKey == key.publicKey)
    let error = #expect(throws: TransportError.self) { try JournalKey.make().store(at: path) }
    #expect(error?.reason == "exists already and is not replaced")
    #expect(try JournalKey.load(path).publicKey == key.publicKey)
    #expect(Scratch.names(in: scratch.path) == ["journal.key"], "nothing temporary is left")
  }

  @Test("a key file that others may read, that is missing, damaged or of another type is refused")
  func refused() throws {
    let scratch = try Scratch()
    let path = scratch.path + "/journal.key"
    try JournalKey.make().store(at: path)
    for mode: mode_t in [0o640, 0o604, 0o644, 0o620] {
      chmod(path, mode)
      let error = #expect(throws: TransportError.self) { try JournalKey.load(path) }
      #expect(error?.hint == "chmod 600 \(path)")
    }
    let missing = #expect(throws: TransportError.self) { try JournalKey.load(path + ".none") }
    #expect(missing?.description == "\(path).none: can't be opened: No such file or directory")
    try Scratch.write(Array("nothing".utf8), to: scratch.path + "/empty")
    let damaged = #expect(throws: TransportError.self) { try JournalKey.load(scratch.path + "/empty") }
    #expect(damaged?.reason.hasPrefix("holds no usable private key") == true)
    let authority = try CertificateAuthority.make(in: scratch.path + "/ca")
    let other = #expect(throws: TransportError.self) { try JournalKey.load(authority.keyPath) }
    #expect(other?.reason == "is not an Ed25519 key")
    let directory = #expect(throws: TransportError.self) { try JournalKey.load(scratch.path) }
    #expect(directory?.reason == "is not a regular file")
  }

  /// Every encoding that OpenSSL reads as a point whose order divides 8: the eight points as they must be written (RFC
  /// 8032, 5.1.2), then the ways in which they mustn't: y not below 2^255 - 19, or the sign of an x that is 0.
  static let smallOrder: [String] = {
    func padded(_ low: String, _ middle: String, _ high: String) -> String {
      low + String(repeating: middle, count: 30) + high
    }
    let eighth = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc"
    let other = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03"
    return [
      padded("01", "00", "00"), padded("ec", "ff", "7f"), padded("00", "00", "00"), padded("00", "00", "80"),
      eighth + "05", eighth + "85", other + "7a", other + "fa", padded("01", "00", "80"), padded("ec", "ff", "ff"),
      padded("ed", "ff", "7f"), padded("ed", "ff", "ff"), padded("ee", "ff", "7f"), padded("ee", "ff", "ff"),
    ]
  }()

  @Test("a key for which anyone can sign is none, however it is written", arguments: smallOrder)
  func smallOrderKeys(text: String) throws {
    let bytes = Self.bytes(text)
    let key = try #require(Digest(bytes: bytes))
    #expect(JournalKey.objection(to: key)?.contains("of small order") == true)
    // R of order 8 at most and S = 0: OpenSSL takes one of the eight for most messages.
    let forgeries = Self.smallOrder.prefix(8).map { Self.bytes($0) + [UInt8](repeating: 0, count: 32) }
    var taken = 0
    for number in 0..<20 {
      let message = Array("nimbus checkpoint 1, whatever it says: \(number)".utf8)
      taken += forgeries.count { Self.openSSLTakes($0, message, bytes) }
      for forgery in forgeries { #expect(!JournalKey.verify(forgery, message, publicKey: key)) }
    }
    #expect(taken > 0, "the test forges nothing")
  }

  static func openSSLTakes(_ signature: [UInt8], _ message: [UInt8], _ publicKey: [UInt8]) -> Bool {
    let key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, publicKey, publicKey.count)
    let context = EVP_MD_CTX_new()
    defer {
      EVP_PKEY_free(key)
      EVP_MD_CTX_free(context)
      ERR_clear_error()
    }
    return EVP_DigestVerifyInit(context, nil, nil, nil, key) == 1
      && EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
  }

  @Test("y beyond the field is refused, honest keys are not")
  func canonicalKeys() throws {
    for low: UInt8 in 0xED...0xFF {
      for high: UInt8 in [0x7F, 0xFF] {
        let key = try #require(Digest(bytes: [low] + [UInt8](repeating: 0xFF, count: 30) + [high]))
        #expect(JournalKey.objection(to: key) != nil)
      }
    }
    for _ in 0..<200 { #expect(JournalKey.objection(to: try JournalKey.make().publicKey) == nil) }
  }

  @Test("S beyond the group's order, and an R of small order, make no signature (RFC 8032, 5.1.7)")
  func malleable() throws {
    let vector = Self.vectors[2]
    let message = Self.bytes(vector.message)
    let signature = Self.bytes(vector.signature)
    let key = try #require(Digest(bytes: Self.bytes(vector.publicKey)))
    // L = 2^252 + 27742317777372353535851937790883648493, in little-endian order.
    let order = Self.bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
    var moved = signature
    var carry = 0
    for index in 0..<32 {
      let sum = Int(moved[32 + index]) + Int(order[index]) + carry
      moved[32 + index] = UInt8(sum & 0xFF)
      carry = sum >> 8
    }
    #expect(JournalKey.verify(signature, message, publicKey: key))
    #expect(!JournalKey.verify(moved, message, publicKey: key))
    for text in Self.smallOrder {
      #expect(!JournalKey.verify(Self.bytes(text) + signature.suffix(32), message, publicKey: key))
    }
  }
}
