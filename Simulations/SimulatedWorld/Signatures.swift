import JournalModel
import ServerCore

/// Signatures by a keyed hash: whoever knows the public key can sign, so nothing here stands for cryptography.
struct SimulatedSignatures: SignatureVerifier {
  init() {}

  static func publicKey(of host: HostName, seed: UInt64) -> Digest {
    let word = Mix.word(Mix.hash(host.text) ^ seed)
    return Digest(words: word, Mix.word(word), 3, 4)
  }

  static func sign(_ bytes: [UInt8], publicKey: Digest) -> [UInt8] {
    var writer = ByteWriter(reserving: 64)
    var word = Mix.hash(bytes, seed: publicKey.words.0)
    for _ in 0..<8 {
      word = Mix.word(word)
      writer.write(word)
    }
    return writer.bytes
  }

  func isValid(_ checkpoint: Checkpoint, publicKey: Digest) -> Bool {
    checkpoint.signature == Self.sign(checkpoint.signedBytes, publicKey: publicKey)
  }

  func refusal(of opened: JournalOpened) -> String? {
    guard case .journalKey(let signature) = opened.binding else { return "not a binding of this world" }
    return signature == Self.sign(opened.bindingBytes, publicKey: opened.publicKey) ? nil : "the binding is wrong"
  }
}
