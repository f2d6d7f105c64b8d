import Foundation
import JournalModel
import Testing

@testable import LinuxIO

/// However much one host has made, another one's work waits for a piece of each (P6, G3).
@Suite struct ShareTests {
  @Test func `P6 a path's directories are made by turns, and from where they end`() throws {
    let acts = try LinuxFiles()
    let root = try LogRoot(acts.root)
    let names = (0..<200).map { "d\($0)" }
    let path = BytePath(names.joined(separator: "/"))
    var paving = Paving(path)
    var turns = 1
    while try !root.pave(&paving, most: 64) { turns += 1 }
    #expect(turns == 4)
    var again = Paving(path)
    #expect(try root.pave(&again, most: 64))
    var longer = Paving(path.appending(Array("e/f".utf8)))
    #expect(try root.pave(&longer, most: 2))
    // Somebody removed a part of them.
    try FileManager.default.removeItem(atPath: String(decoding: acts.root.bytes, as: UTF8.self) + "/d0/d1")
    _ = try root.makeDirectories(path)
    _ = try root.directory(path)
    var short = Paving(BytePath("d0/d1/x"))
    #expect(try root.pave(&short, most: 64))
    _ = try root.directory(BytePath("d0/d1/x"))
  }
}
