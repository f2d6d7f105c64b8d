import JournalModel
import Testing

@Suite struct CheckpointEncodingTests {
  @Test func signedBytesAndEncoding() throws {
    #expect(Samples.checkpoint.signedBytes.hex == Vectors.checkpointSigned)
    #expect(Samples.checkpoint.encoded().hex == Vectors.checkpoint)
    #expect(try Checkpoint(decoding: #require([UInt8](hex: Vectors.checkpoint))) == Samples.checkpoint)
  }

  @Test("W6: what a binding signs")
  func bindingBytes() {
    #expect(Samples.opened.bindingBytes.hex == Vectors.binding)
  }

  @Test("What is signed names every field")
  func everyFieldIsSigned() throws {
    let base = Samples.checkpoint
    var changed: [[UInt8]] = []
    var other = base
    other.host = try #require(HostName("web2"))
    changed.append(other.signedBytes)
    other = base
    other.journal = JournalID(Samples.other.bytes)
    changed.append(other.signedBytes)
    other = base
    other.length += 1
    changed.append(other.signedBytes)
    other = base
    other.root = Samples.key
    changed.append(other.signedBytes)
    #expect(Set(changed + [base.signedBytes]).count == 5)
  }

  @Test func everyTruncationAndChange() {
    let bytes = Samples.checkpoint.encoded()
    for count in bytes.indices {
      #expect(throws: DecodingFailure.self) { try Checkpoint(decoding: Array(bytes[..<count])) }
      for value in UInt8.min...UInt8.max {
        var changed = bytes
        changed[count] = value
        guard let checkpoint = try? Checkpoint(decoding: changed) else { continue }
        #expect(checkpoint.encoded() == changed)
      }
    }
    #expect(throws: DecodingFailure.self) { try Checkpoint(decoding: bytes + [0]) }
  }

  @Test func fuzz() {
    var random = Seeded(4)
    let seed = Samples.checkpoint.encoded()
    for _ in 0..<200_000 {
      let bytes = random.mutated(seed)
      guard let checkpoint = try? Checkpoint(decoding: bytes) else { continue }
      if checkpoint.encoded() != bytes { Issue.record("not canonical: \(bytes.hex)") }
    }
  }

  @Test func theLongestEncodingIsAsStated() throws {
    var longest = Samples.checkpoint
    longest.host = try #require(HostName(String(repeating: "h", count: HostName.maximumByteCount)))
    #expect(longest.encoded().count == Checkpoint.maximumByteCount)
  }
}

@Suite struct IdentityTests {
  @Test func vectors() throws {
    for (identity, hex) in [
      (Samples.identity, Vectors.identity), (Samples.btrfs, Vectors.identityBtrfs),
      (Samples.bare, Vectors.identityBare),
    ] {
      #expect(identity.encoded().hex == hex)
      #expect(try InodeIdentity(decoding: #require([UInt8](hex: hex))) == identity)
    }
  }

  @Test func unknownFlagsAreRefused() {
    for flags in UInt8(8)...UInt8.max {
      #expect(throws: DecodingFailure.self) {
        try InodeIdentity(decoding: [flags] + [UInt8](repeating: 0, count: 40))
      }
    }
  }

  @Test("D1: the uuid of incarnation 0 is UUIDv8 of the digest over host and identity")
  func derivation() throws {
    let expected = try #require([UInt8](hex: Vectors.derivationDigest))
    let digest = try #require(Digest(bytes: expected))
    var hashed: [UInt8] = []
    let uuid = FileUUID.derived(host: Samples.host, identity: Samples.btrfs) { bytes in
      hashed = bytes.withUnsafeBytes { Array($0) }
      return digest
    }
    #expect(hashed.hex == Vectors.derivationInput)
    #expect(uuid.bytes.bytes.hex == Vectors.derivedUUID)
    #expect(Array(uuid.text)[14] == "8")
  }

  @Test("D1: every part of the identity is in the derivation")
  func derivationDistinguishes() {
    let base = Samples.btrfs
    var variants = [base, Samples.identity, Samples.bare]
    var other = base
    other.number += 1
    variants.append(other)
    other = base
    other.generation = nil
    variants.append(other)
    other = base
    other.birth = WallTime(nanoseconds: Samples.born.nanoseconds + 4_000_000)
    variants.append(other)
    other = base
    other.subvolume = Samples.other.bytes
    variants.append(other)
    let inputs = variants.map { FileUUID.derivationInput(host: Samples.host, identity: $0) }
    #expect(Set(inputs).count == variants.count)
  }
}
