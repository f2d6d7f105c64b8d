import JournalModel

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

  mutating func bytes(_ count: ClosedRange<Int>) -> [UInt8] {
    (0..<Int.random(in: count, using: &self)).map { _ in UInt8(truncatingIfNeeded: next() >> 24) }
  }

  mutating func chance(_ one: Int, in all: Int) -> Bool { Int.random(in: 0..<all, using: &self) < one }

  /// One to three edits: a byte changed, bytes inserted, removed, repeated, or the end cut off.
  mutating func mutated(_ bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    for _ in 0..<Int.random(in: 1...3, using: &self) {
      let place = Int.random(in: 0...bytes.count, using: &self)
      switch Int.random(in: 0..<6, using: &self) {
      case 0 where place < bytes.count: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &self)
      case 1 where place < bytes.count: bytes[place] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &self) ?? 0
      case 2: bytes.insert(contentsOf: self.bytes(1...9), at: place)
      case 3: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...9, using: &self)))
      case 4: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 16)], at: place)
      default: bytes.removeSubrange(place...)
      }
    }
    return bytes
  }
}

/// Arbitrary records, within their bounds.
extension Seeded {
  mutating func digest() -> Digest { Digest(words: next(), next(), next(), next()) }
  mutating func uuid() -> UUIDBytes { UUIDBytes(high: next(), low: next()) }
  mutating func file() -> FileUUID { FileUUID(uuid()) }
  mutating func time() -> WallTime { WallTime(nanoseconds: Int64(bitPattern: next())) }

  /// 0 ... 2^62 - 1, all magnitudes alike.
  mutating func length() -> UInt64 { next() >> UInt64.random(in: 2...63, using: &self) }

  mutating func host() -> HostName {
    let letters = Array("abcXYZ019._-")
    let rest = (0..<Int.random(in: 0...30, using: &self)).map { _ in letters.randomElement(using: &self) ?? "a" }
    return HostName("h" + String(rest)) ?? Samples.host
  }

  mutating func path() -> BytePath {
    let longest = chance(1, in: 50) ? BytePath.maximumByteCount - 1 : 40
    return BytePath([UInt8(ascii: "/")] + bytes(0...longest).map { $0 == 0 ? 1 : $0 })
  }

  mutating func identity(isUsable: Bool) -> InodeIdentity {
    InodeIdentity(
      number: next(), generation: isUsable || chance(1, in: 2) ? next() : nil,
      birth: isUsable || chance(1, in: 2) ? time() : nil, subvolume: chance(1, in: 4) ? uuid() : nil)
  }

  mutating func binding() -> Binding {
    if chance(1, in: 2) { return .journalKey(signature: bytes(64...64)) }
    let chain = (0..<Int.random(in: 1...8, using: &self)).map { _ in bytes(1...60) }
    return .certificate(chain: chain, signature: bytes(1...80))
  }

  mutating func opened() -> JournalOpened {
    JournalOpened(
      host: host(), journal: JournalID(uuid()), publicKey: digest(), binding: binding(),
      earlier: (0..<Int.random(in: 0...3, using: &self)).map { _ in
        JournalHead(journal: JournalID(uuid()), length: length(), root: digest())
      },
      files: (0..<Int.random(in: 0...3, using: &self)).map { _ in
        FileHead(file: file(), identity: identity(isUsable: chance(1, in: 2)), length: length(), root: digest())
      },
      gapSince: chance(1, in: 2) ? time() : nil)
  }

  mutating func born() -> FileBorn {
    let isDerived = chance(1, in: 2)
    let whys: [Parent.Why] = [.truncated, .rewound, .journalLost]
    let parent = Parent(
      file: file(), length: length(), root: digest(), why: whys.randomElement(using: &self) ?? .truncated)
    return FileBorn(
      file: file(), identity: identity(isUsable: isDerived), isDerived: isDerived, path: path(), realPath: path(),
      mode: UInt32(truncatingIfNeeded: next()), owner: UInt32(truncatingIfNeeded: next()),
      group: UInt32(truncatingIfNeeded: next()), born: time(), modified: time(),
      parent: chance(1, in: 2) ? parent : nil)
  }

  mutating func gap() -> Gap {
    let lower = length()
    let reasons: [Gap.Reason] = [.truncated, .vanished, .changedInPlace, .unreadable]
    return Gap(
      subject: chance(1, in: 2) ? .file(file()) : .path(path()), lower: lower,
      upper: chance(1, in: 3) ? .max : lower + length(), reason: reasons.randomElement(using: &self) ?? .truncated,
      provenLength: length(), provenRoot: digest())
  }

  mutating func record() -> Record {
    let reasons: [FileClosed.Reason] = [.deleted, .truncated, .vanished]
    let body: RecordBody =
      switch Int.random(in: 0..<7, using: &self) {
      case 0: .journalOpened(opened())
      case 1: .fileBorn(born())
      case 2: .bytesAppended(BytesAppended(file: file(), offset: length(), length: length() + 1, root: digest()))
      case 3: .rotated(Rotated(file: file(), from: path(), to: chance(1, in: 2) ? path() : nil))
      case 4:
        .fileClosed(
          FileClosed(
            file: file(), length: length(), root: digest(), reason: reasons.randomElement(using: &self) ?? .deleted))
      case 5: .gap(gap())
      default: .unknown(type: UInt16.random(in: 7 ... .max, using: &self), body: bytes(0...100))
      }
    return Record(time: time(), body: body)
  }
}
