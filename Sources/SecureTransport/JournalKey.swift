import COpenSSL
package import JournalModel

/// The key by which a node signs its journal's checkpoints: Ed25519 (RFC 8032). It lies outside the store (`journal.key`
/// in the data directory), is not the certificate's key and outlives certificates.
package final class JournalKey: @unchecked Sendable {
  package static let signatureByteCount = 64

  /// The 32 bytes of the public key.
  package let publicKey: Digest
  private let key: Owned

  private init(_ key: consuming Owned, _ subject: String) throws(TransportError) {
    guard EVP_PKEY_get_base_id(key.pointer) == EVP_PKEY_ED25519 else {
      throw TransportError(subject, "is not an Ed25519 key")
    }
    var bytes = [UInt8](repeating: 0, count: Digest.byteCount)
    var count = bytes.count
    guard EVP_PKEY_get_raw_public_key(key.pointer, &bytes, &count) == 1, let publicKey = Digest(bytes: bytes) else {
      throw TransportError(subject, OpenSSLErrors.drain() ?? "has no public key")
    }
    self.publicKey = publicKey
    self.key = key
  }

  /// A new random key, in memory only.
  package static func make() throws(TransportError) -> JournalKey {
    try JournalKey(Owned(nj_generate_ed25519(), { EVP_PKEY_free($0) }, "journal key"), "journal key")
  }

  /// The key of a 32-byte seed (RFC 8032, 5.1.5).
  package convenience init(seed: [UInt8]) throws(TransportError) {
    let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, seed.count)
    try self.init(Owned(key, { EVP_PKEY_free($0) }, "journal key"), "journal key")
  }

  /// Loads what `store` wrote. The file must be its owner's alone.
  package static func load(_ path: String) throws(TransportError) -> JournalKey {
    try JournalKey(PrivateKeyFile.load(path), path)
  }

  /// Writes the key (PKCS#8 PEM, mode 0600), wholly or not at all, durably; never replaces a file.
  package func store(at path: String) throws(TransportError) {
    try PrivateKeyFile.create(path, key)
  }

  /// 64 bytes. Usable from any thread.
  package func sign(_ bytes: [UInt8]) throws(TransportError) -> [UInt8] {
    try Signing.sign(bytes, with: key.pointer, "journal key")
  }

  /// Why `publicKey` can't be a journal's: nobody, or anybody, could sign for it. Nil if it can.
  package static func objection(to publicKey: Digest) -> String? {
    WeakKey.objection(toEd25519: publicKey.bytes).map { "the journal key \($0)" }
  }

  /// Whether `signature` is `publicKey`'s over `bytes`. False for anything malformed and for keys that prove nothing;
  /// usable from any thread.
  package static func verify(_ signature: [UInt8], _ bytes: [UInt8], publicKey: Digest) -> Bool {
    guard signature.count == signatureByteCount else { return false }
    guard let key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, publicKey.bytes, Digest.byteCount) else {
      OpenSSLErrors.clear()
      return false
    }
    defer { EVP_PKEY_free(key) }
    return Signing.verify(signature, bytes, with: key)
  }
}
