import Foundation
import Testing

/// Holds the table of `design/architecture.md`: who may import whom, and what the core may never use.
struct ImportArrows {
  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  static let model = ["JournalModel", "MerkleLog"]
  static let core = model + ["WireProtocol", "JournalStore", "DataPlane", "HostCore", "ServerCore"]

  static let mayImport: [String: [String]] = [
    "JournalModel": [], "MerkleLog": [],
    "WireProtocol": ["JournalModel"],
    "JournalStore": model + ["Synchronization"],
    "DataPlane": model,
    "HostCore": model + ["WireProtocol", "JournalStore", "DataPlane"],
    "ServerCore": model + ["WireProtocol", "JournalStore", "DataPlane"],
    "LMDBStore": model + ["JournalStore", "CLMDB", "Glibc", "Synchronization"],
    "LinuxIO": model + ["DataPlane", "CLinux", "COpenSSL", "Glibc", "Synchronization"],
    "SecureTransport": ["JournalModel", "CLinux", "COpenSSL", "Glibc", "Synchronization"],
    "SimulatedWorld": core + ["Swift", "Synchronization"],
  ]

  static func sources(of target: String) throws -> [(file: String, text: String)] {
    let folders = ["Sources/\(target)", "Simulations/\(target)"].map { root.appending(path: $0) }
    return try folders.filter { FileManager.default.fileExists(atPath: $0.path) }.flatMap { folder in
      try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".swift") }.map {
        ($0, try String(contentsOf: folder.appending(path: $0), encoding: .utf8))
      }
    }
  }

  static func imports(in text: String) -> [String] {
    text.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ")
      guard let at = words.firstIndex(of: "import"), words[..<at].allSatisfy(isModifier), at + 1 < words.count else {
        return nil
      }
      return String(words.last!.split(separator: ".").first!)
    }
  }

  static func isModifier(_ word: Substring) -> Bool {
    word.hasPrefix("@") || ["package", "public", "internal", "private", "fileprivate"].contains(word)
  }

  @Test(arguments: mayImport.keys.sorted())
  func targetImportsOnlyWhatItsRowAllows(target: String) throws {
    let allowed = Set(Self.mayImport[target]!)
    let sources = try Self.sources(of: target)
    #expect(!sources.isEmpty, "\(target) has no sources: was it renamed?")
    for (file, text) in sources {
      for module in Self.imports(in: text) {
        #expect(allowed.contains(module), "\(target)/\(file) imports \(module)")
      }
    }
  }

  @Test(arguments: core)
  func coreReadsNoClockAndHasNoRandomness(target: String) throws {
    let forbidden = ["ContinuousClock", "SuspendingClock", "SystemRandomNumberGenerator", ".random(", "clock_gettime"]
    for (file, text) in try Self.sources(of: target) {
      for word in forbidden { #expect(!text.contains(word), "\(target)/\(file) uses \(word)") }
    }
  }

  @Test(arguments: core)
  func coreHasNoConcurrency(target: String) throws {
    for (file, text) in try Self.sources(of: target) {
      for word in [" async ", "await ", "Task {", "DispatchQueue"] {
        #expect(!text.contains(word), "\(target)/\(file) uses \(word)")
      }
    }
  }

  @Test func packageDeclaresNoOtherArrows() throws {
    let manifest = try String(contentsOf: Self.root.appending(path: "Package.swift"), encoding: .utf8)
    for (target, allowed) in Self.mayImport {
      guard let start = manifest.range(of: "\"\(target)\"") else {
        Issue.record("\(target) is not in Package.swift")
        continue
      }
      // The room's own declaration: up to the closing bracket of its import list.
      let rest = manifest[start.upperBound...]
      guard let list = rest.prefix(while: { $0 != ")" }).split(separator: "[").dropFirst().first else { continue }
      let declared = list.prefix(while: { $0 != "]" }).split(separator: "\"").filter { $0.allSatisfy(\.isLetter) }
      for module in declared.map(String.init) {
        #expect(allowed.contains(module), "Package.swift lets \(target) import \(module)")
      }
    }
  }

  @Test func theCheckItselfSeesImports() {
    #expect(
      Self.imports(in: "package import Foundation\n@testable import struct Glibc.stat\nimport A\n// import B") == [
        "Foundation", "Glibc", "A",
      ])
  }
}
