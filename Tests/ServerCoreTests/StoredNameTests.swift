import JournalModel
import Testing

@testable import ServerCore

@Suite struct StoredNameTests {
  typealias Name = StoredName<MixHasher>
  let host = HostName("web1")!
  /// 2023-11-14 22:13:20 UTC.
  let born = WallTime(nanoseconds: 1_700_000_000_000_000_000)
  let file = FileUUID(UUIDBytes(high: 0x1234_5678_9ABC_8DEF, low: 0x8123_4567_89AB_CDEF))

  func plain(_ path: [UInt8], attempt: Int = 0) -> [UInt8] {
    Name.plain(host: host, path: BytePath(path), born: born, file: file, attempt: attempt).bytes
  }

  @Test(arguments: [
    ("/var/log/app.log", "files/web1/var/log/app.log@20231114T221320Z-12345678"),
    ("/a b/c\nd", "files/web1/a b/c%0Ad@20231114T221320Z-12345678"),
    ("/x@y/50%", "files/web1/x%40y/50%25@20231114T221320Z-12345678"),
    ("/../../etc/passwd", "files/web1/%2E%2E/%2E%2E/etc/passwd@20231114T221320Z-12345678"),
    ("/./a/..", "files/web1/%2E/a/%2E%2E@20231114T221320Z-12345678"),
    ("/.../..a", "files/web1/.../..a@20231114T221320Z-12345678"),
    ("//a///b//", "files/web1/a/b@20231114T221320Z-12345678"),
    ("/", "files/web1/%2F@20231114T221320Z-12345678"),
    ("", "files/web1/%2F@20231114T221320Z-12345678"),
    ("/Grüße/日本/🎉", "files/web1/Grüße/日本/🎉@20231114T221320Z-12345678"),
    ("/a~b", "files/web1/a~b@20231114T221320Z-12345678"),
  ]) func `P1 names are escaped and stay below the root`(path: String, name: String) {
    #expect(String(decoding: plain(Array(path.utf8)), as: UTF8.self) == name)
  }

  @Test(
    arguments: [
      ([0xFF], "%FF"), ([0xC3], "%C3"), ([0xC3, 0x28], "%C3("), ([0xED, 0xA0, 0x80], "%ED%A0%80"),
      ([0xC0, 0xAF], "%C0%AF"), ([0xF4, 0x90, 0x80, 0x80], "%F4%90%80%80"), ([0x7F], "%7F"), ([0x1B, 0x5B], "%1B["),
      ([0xC2, 0x9B], "%C2%9B"), ([0x00], "%00"), ([0xE2, 0x82], "%E2%82"),
    ] as [([UInt8], String)]) func `P1 what is no printable UTF-8 is escaped`(bytes: [UInt8], escaped: String)
  {
    #expect(Name.escaped(bytes[...]) == Array(escaped.utf8))
  }

  @Test func `P1 a clash takes the full uuid, then a number`() {
    let full = "files/web1/a@20231114T221320Z-12345678-9abc-8def-8123-456789abcdef"
    #expect(plain(Array("/a".utf8), attempt: 1) == Array(full.utf8))
    #expect(plain(Array("/a".utf8), attempt: 2) == Array("\(full).2".utf8))
  }

  @Test(arguments: [0, 1, 2]) func `P1 every component keeps to 255 bytes, and long names stay distinct`(attempt: Int) {
    var seen: Set<[UInt8]> = []
    for count in 180...255 {
      for byte in [UInt8(ascii: "a"), UInt8(ascii: "%"), 0xFF] {
        let name = plain([UInt8(ascii: "/")] + [UInt8](repeating: byte, count: count), attempt: attempt)
        let components = name.split(separator: UInt8(ascii: "/"))
        #expect(components.allSatisfy { $0.count <= 255 })
        #expect(seen.insert(name).inserted)
      }
    }
  }

  @Test func `P1 a cut splits neither an escape nor a character`() {
    for extra in 0..<4 {
      for unit in [[0xFF], Array("日".utf8), Array("🎉".utf8)] as [[UInt8]] {
        let component =
          [UInt8](repeating: UInt8(ascii: "x"), count: extra)
          + Array([[UInt8]](repeating: unit, count: 255 / unit.count).joined())
        let name = plain([UInt8(ascii: "/")] + component)
        #expect(String(validating: name, as: UTF8.self) != nil)
        let cut = name.split(separator: UInt8(ascii: "~"))[0]
        let escape = cut.lastIndex(of: UInt8(ascii: "%"))
        #expect(escape == nil || cut.endIndex - escape! >= 3)
      }
    }
  }

  @Test func `P1 a path of 4095 bytes stays storable, and keeps its name`() {
    let deep =
      [UInt8](Array([[UInt8]](repeating: Array("/0123456789abcdef".utf8), count: 240).joined()).prefix(4090))
      + Array("/last".utf8)
    let other = Array("/other".utf8) + deep.dropFirst(6)
    let name = plain(deep)
    #expect(name.count < 3_500)
    #expect(String(decoding: name, as: UTF8.self).contains("/last@2023"))
    #expect(plain(other) != name)
    #expect(Name.latest(BytePath(deep)).bytes.count < 3_500)
  }

  @Test func `P1 a directory never wants the name of a file`() {
    #expect(!Name.latest(BytePath("/x@20231114T221320Z-12345678/y")).bytes.contains(UInt8(ascii: "@")))
  }

  @Test(
    arguments: [
      (0, "19700101T000000Z"), (951_782_400, "20000229T000000Z"), (951_868_799, "20000229T235959Z"),
      (1_709_251_199, "20240229T235959Z"), (4_102_444_800, "21000101T000000Z"), (4_107_542_400, "21000301T000000Z"),
      (-1, "19691231T235959Z"), (-62_135, "19691231T064425Z"), (9_223_372_036, "22620411T234716Z"),
      (-9_223_372_036, "16770921T001244Z"),
    ] as [(Int64, String)]) func `Birth times are shown in UTC`(seconds: Int64, text: String)
  {
    #expect(UTCTime(WallTime(nanoseconds: seconds * 1_000_000_000)).basic == Array(text.utf8))
  }
}
