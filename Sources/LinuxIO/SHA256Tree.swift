import COpenSSL
package import JournalModel
import MerkleLog

/// SHA-256 (FIPS 180-4) for trees, by libcrypto.
package enum SHA256Tree: TreeHasher {
  package typealias Value = Digest

  // Fetched once: looking an algorithm up costs more than hashing a short input.
  nonisolated(unsafe) fileprivate static let algorithm: OpaquePointer = {
    guard let algorithm = EVP_MD_fetch(nil, "SHA256", nil) else { fatalError("libcrypto has no SHA-256") }
    return algorithm
  }()

  package static let empty = digest(RawSpan())

  package static func digest(_ bytes: RawSpan) -> Digest {
    bytes.withUnsafeBytes { bytes in
      withDigestBuffer { EVP_Digest(bytes.baseAddress, bytes.count, $0, nil, algorithm, nil) }
    }
  }

  package static func node(_ left: Digest, _ right: Digest) -> Digest {
    withUnsafeTemporaryAllocation(byteCount: 65, alignment: 8) { input in
      input[0] = 1
      left.store(into: input, at: 1)
      right.store(into: input, at: 33)
      return withDigestBuffer { EVP_Digest(input.baseAddress, 65, $0, nil, algorithm, nil) }
    }
  }

  /// The hash of one leaf, in pieces.
  package struct Leaf: LeafHasher {
    private let context: Context

    package init() {
      context = Context()
      var prefix: UInt8 = 0
      let isDone =
        EVP_DigestInit_ex2(context.pointer, algorithm, nil) == 1 && EVP_DigestUpdate(context.pointer, &prefix, 1) == 1
      precondition(isDone, "libcrypto can't hash")
    }

    private init(context: Context) { self.context = context }

    package mutating func update(_ bytes: RawSpan) {
      let isDone = bytes.withUnsafeBytes { EVP_DigestUpdate(context.pointer, $0.baseAddress, $0.count) }
      precondition(isDone == 1, "libcrypto can't hash")
    }

    package func value() -> Digest {
      let final = context.copy()
      return withDigestBuffer { EVP_DigestFinal_ex(final.pointer, $0, nil) }
    }

    package func copy() -> Leaf { Leaf(context: context.copy()) }
  }

  fileprivate final class Context {
    let pointer: OpaquePointer
    init() {
      guard let pointer = EVP_MD_CTX_new() else { fatalError("out of memory") }
      self.pointer = pointer
    }
    deinit { EVP_MD_CTX_free(pointer) }

    func copy() -> Context {
      let copy = Context()
      precondition(EVP_MD_CTX_copy_ex(copy.pointer, pointer) == 1, "libcrypto can't hash")
      return copy
    }
  }
}

private func withDigestBuffer(_ body: (UnsafeMutablePointer<UInt8>) -> Int32) -> Digest {
  withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Digest.byteCount) { buffer in
    guard let start = buffer.baseAddress else { preconditionFailure("an allocation has an address") }
    precondition(body(start) == 1, "libcrypto can't hash")
    let raw = UnsafeRawBufferPointer(buffer)
    func word(_ index: Int) -> UInt64 {
      UInt64(bigEndian: raw.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
    }
    return Digest(words: word(0), word(1), word(2), word(3))
  }
}

extension Digest {
  fileprivate func store(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) {
    buffer.storeBytes(of: words.0.bigEndian, toByteOffset: offset, as: UInt64.self)
    buffer.storeBytes(of: words.1.bigEndian, toByteOffset: offset + 8, as: UInt64.self)
    buffer.storeBytes(of: words.2.bigEndian, toByteOffset: offset + 16, as: UInt64.self)
    buffer.storeBytes(of: words.3.bigEndian, toByteOffset: offset + 24, as: UInt64.self)
  }
}
