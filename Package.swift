// swift-tools-version: 6.2
import PackageDescription

// Warnings are errors and the import arrows are held by Tests/ArchitectureTests: see design/architecture.md.
let strict: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .treatAllWarnings(as: .error),
]

func room(_ name: String, imports: [Target.Dependency] = [], path: String? = nil) -> Target {
  .target(name: name, dependencies: imports, path: path, swiftSettings: strict)
}

func tests(_ name: String, of imports: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: imports, swiftSettings: strict)
}

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let yams: Target.Dependency = .product(name: "Yams", package: "Yams")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
  name: "nimbus-journal",
  products: [
    .executable(name: "nimbus-journal", targets: ["nimbus-journal"]),
    .executable(name: "simulate", targets: ["simulate"]),
    .executable(name: "build-holdings", targets: ["build-holdings"]),
    .executable(name: "build-history", targets: ["build-history"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
  ],
  targets: [
    // System libraries as modules: `static inline` shims only.
    .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CLinux"),

    // The core: sans-IO, no clock, no Foundation, no payload bytes.
    room("JournalModel"),
    room("MerkleLog"),
    room("WireProtocol", imports: ["JournalModel"]),
    room("JournalStore", imports: ["JournalModel", "MerkleLog"]),
    room("DataPlane", imports: ["JournalModel", "MerkleLog"]),
    room("HostCore", imports: ["JournalModel", "MerkleLog", "WireProtocol", "JournalStore", "DataPlane"]),
    room("ServerCore", imports: ["JournalModel", "MerkleLog", "WireProtocol", "JournalStore", "DataPlane"]),

    // The world around it.
    room("LMDBStore", imports: ["JournalModel", "MerkleLog", "JournalStore", "CLMDB"]),
    room("LinuxIO", imports: ["JournalModel", "MerkleLog", "DataPlane", "CLinux", "COpenSSL"]),
    room("SecureTransport", imports: ["JournalModel", "CLinux", "COpenSSL"]),
    room(
      "NodeRuntime",
      imports: [
        "JournalModel", "MerkleLog", "WireProtocol", "JournalStore", "DataPlane", "HostCore",
        "ServerCore", "LMDBStore", "LinuxIO", "SecureTransport", "CLinux", yams, logging,
      ]),
    .executableTarget(
      name: "nimbus-journal", dependencies: ["NodeRuntime", argumentParser], swiftSettings: strict),

    // The deterministic simulator: the same core in a simulated world.
    room(
      "SimulatedWorld",
      imports: ["JournalModel", "MerkleLog", "WireProtocol", "JournalStore", "DataPlane", "HostCore", "ServerCore"],
      path: "Simulations/SimulatedWorld"),
    .executableTarget(
      name: "simulate", dependencies: ["SimulatedWorld", argumentParser], path: "Simulations/simulate",
      swiftSettings: strict),

    // Fills a server's store for `Benchmarks/holdings.py`.
    .executableTarget(
      name: "build-holdings",
      dependencies: [
        "JournalModel", "MerkleLog", "JournalStore", "ServerCore", "LMDBStore", "LinuxIO", argumentParser,
      ], path: "Benchmarks/build-holdings", swiftSettings: strict),
    // Fills a host's store for `Benchmarks/host_history.py`.
    .executableTarget(
      name: "build-history",
      dependencies: ["JournalModel", "MerkleLog", "JournalStore", "LMDBStore", "LinuxIO", argumentParser],
      path: "Benchmarks/build-history", swiftSettings: strict),

    tests("JournalModelTests", of: ["JournalModel"]),
    tests("MerkleLogTests", of: ["MerkleLog"]),
    tests("WireProtocolTests", of: ["WireProtocol", "JournalModel"]),
    tests("JournalStoreTests", of: ["JournalStore", "LMDBStore", "JournalModel", "MerkleLog"]),
    tests(
      "HostCoreTests", of: ["HostCore", "DataPlane", "JournalModel", "MerkleLog", "WireProtocol", "JournalStore"]),
    tests(
      "ServerCoreTests",
      of: ["ServerCore", "HostCore", "DataPlane", "JournalModel", "MerkleLog", "WireProtocol", "JournalStore"]),
    tests("DataPlaneTests", of: ["DataPlane", "JournalModel", "MerkleLog"]),
    tests("LinuxIOTests", of: ["LinuxIO", "DataPlane", "JournalModel", "MerkleLog", "SimulatedWorld"]),
    tests("SecureTransportTests", of: ["SecureTransport", "JournalModel", "COpenSSL", "SimulatedWorld"]),
    tests(
      "NodeRuntimeTests",
      of: [
        "NodeRuntime", "HostCore", "ServerCore", "WireProtocol", "SecureTransport", "LMDBStore", "LinuxIO",
        "JournalStore",
        "MerkleLog",
        "JournalModel",
      ]),
    tests(
      "SimulatedWorldTests",
      of: [
        "SimulatedWorld", "HostCore", "ServerCore", "DataPlane", "JournalStore", "WireProtocol", "JournalModel",
        "MerkleLog",
      ]),
    tests("ArchitectureTests", of: []),
  ],
  swiftLanguageModes: [.v6]
)
