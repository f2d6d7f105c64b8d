import HostCore
import JournalModel
import SecureTransport
import Testing

@testable import NodeRuntime

/// Mutated samples: the reader neither crashes nor hangs, and what it accepts is what it promises.
@Suite struct ConfigurationFuzzTests {
  static let pieces = [
    "&a ", "*a", "!!str ", "!!binary ", "<<: ", "? ", ": ", "- ", "[", "]", "{", "}", "|\n", ">\n", "\"", "'", "\\",
    "#",
    "\t", "\n", "\r\n", "\u{FEFF}", "\u{85}", "\u{2028}", "%YAML 1.1\n", "---\n", "...\n", "~", "null", "yes", "1e9",
    "0x1F", "30s", "64MiB", "node:\n", "  name: web1\n", "host", "\0", "é", "\u{202E}", "@", "`", "%", ",",
  ]

  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func mutatedSamplesAreReadOrRefused(_ seed: UInt64) {
    var chance = SeededGenerator(seed: seed &* 0x9E37_79B9_7F4A_7C15)
    let clock = ContinuousClock()
    let began = clock.now
    var accepted = 0
    for round in 0..<1_000 {
      let bytes = Self.mutated(Array((round.isMultiple(of: 2) ? sample : minimal).utf8), &chance)
      let start = clock.now
      do {
        let configuration = try Configuration.parse(bytes, file: "/etc/nimbus/node.yaml")
        accepted += 1
        Self.check(configuration)
      } catch {
        #expect(!error.problems.isEmpty)
        #expect(
          error.description.split(separator: "\n").joined().unicodeScalars
            .allSatisfy { $0.properties.generalCategory.isPrintable })
      }
      #expect(clock.now - start < .seconds(5), "slow: \(bytes)")
    }
    #expect(accepted > 0, "a fuzz that never gets through tests little")
    #expect(clock.now - began < .seconds(120))
  }

  static func check(_ configuration: Configuration) {
    #expect(configuration.host != nil || configuration.server != nil)
    #expect(configuration.node.data.hasPrefix("/") && configuration.tls.key.hasPrefix("/"))
    for rule in configuration.host?.follow ?? [] {
      #expect(!rule.include.isEmpty)
      #expect((rule.include + rule.exclude).allSatisfy { $0.bytes.first == UInt8(ascii: "/") && !$0.bytes.contains(0) })
    }
    #expect((configuration.host?.servers ?? []).allSatisfy { $0.address.port > 0 })
  }

  static func mutated(_ bytes: [UInt8], _ chance: inout SeededGenerator) -> [UInt8] {
    var bytes = bytes
    for _ in 0..<Int.random(in: 1...4, using: &chance) {
      let at = Int.random(in: 0...bytes.count, using: &chance)
      let end = min(bytes.count, at + Int.random(in: 0...12, using: &chance))
      switch Int.random(in: 0..<5, using: &chance) {
      case 0: bytes.removeSubrange(at..<end)
      case 1: bytes.insert(contentsOf: Array(Self.pieces.randomElement(using: &chance)!.utf8), at: at)
      case 2: bytes.insert(contentsOf: bytes[at..<end], at: Int.random(in: 0...bytes.count, using: &chance))
      case 3: if at < bytes.count { bytes[at] = UInt8.random(in: 0...255, using: &chance) }
      default:
        if at < bytes.count { bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &chance) }
      }
    }
    return bytes
  }
}
