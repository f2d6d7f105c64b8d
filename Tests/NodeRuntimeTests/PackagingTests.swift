import JournalModel
import Testing

@testable import NodeRuntime

/// What is shipped to operators is read by the reader that it is for.
@Suite struct PackagingTests {
  static let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()

  @Test(arguments: ["logs-a", "logs-b", "web1"])
  func theFleetsSamplesAreAcceptedWithoutWarnings(_ name: String) throws {
    let configuration = try Configuration.read(file: "\(Self.root)/Packaging/fleet/\(name).yaml")
    #expect(configuration.node.name.text == name)
    #expect(configuration.tls.key == "\(Self.root)/Packaging/fleet/\(name).key")
    #expect(configuration.warnings.isEmpty)
  }

  @Test func aMissingFileIsAProblemThatNamesIt() {
    do {
      _ = try Configuration.read(file: "/nowhere/node.yaml")
      Issue.record("read")
    } catch {
      #expect(error.description == "/nowhere/node.yaml: can't be read: No such file or directory")
    }
  }
}
