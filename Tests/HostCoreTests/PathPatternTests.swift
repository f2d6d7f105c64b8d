@testable import HostCore
import JournalModel
import Testing

@Suite struct PathPatternTests {
  static let matching: [(String, String)] = [
    ("/var/log/syslog", "/var/log/syslog"),
    ("/var/log/*.log", "/var/log/a.log"),
    ("/var/log/*.log", "/var/log/.log"),
    ("/var/log/syslog*", "/var/log/syslog"),
    ("/var/log/syslog*", "/var/log/syslog.1.gz"),
    ("/var/log/**/*.log", "/var/log/a.log"),
    ("/var/log/**/*.log", "/var/log/x/y/z/a.log"),
    ("/var/log/**", "/var/log/x/y"),
    ("/**/b/**/c", "/b/c"),
    ("/**/b/**/c", "/a/b/b/x/c"),
    ("**/*.tmp", "/var/log/a.tmp"),
    ("*.tmp", "/var/log/a.tmp"),
    ("/a/?.log", "/a/x.log"),
    ("/a/[a-c]x", "/a/bx"),
    ("/a/[!a-c]x", "/a/dx"),
    ("/a/[]]x", "/a/]x"),
    ("/a/[a-]x", "/a/-x"),
    ("/a/[x", "/a/[x"),
    ("/a/\\*", "/a/*"),
    ("/a/*b*c", "/a/xbxbxc"),
    ("/a/a**b", "/a/axxb"),
    ("/a/*", "/a/\u{1}\n x"),
  ]
  @Test(arguments: (matching + other).map(\.0)) func matchesItsSample(pattern: String) {
    let pattern = PathPattern(BytePath(pattern))
    #expect(pattern.matches(pattern.sample))
  }

  @Test(arguments: matching) func matches(pattern: String, path: String) {
    #expect(PathPattern(BytePath(pattern)).matches(BytePath(path)))
  }

  /// What a walk asks of the last name is what advancing over it would have told.
  @Test(arguments: matching + other) func endsWhereItWouldAdvance(text: String, path: String) {
    let pattern = PathPattern(BytePath(text))
    var positions = pattern.start
    for name in PathPattern.split(Array(path.utf8)) {
      let next = pattern.advance(positions, over: name, isLink: false)
      #expect(pattern.isMatch(positions, ending: name) == pattern.isMatch(next), "\(text) \(path)")
      positions = next
    }
  }

  @Test func manyDepthsInARowAreOne() {
    let many = "/var/" + String(repeating: "**/", count: 1_300) + "*.log"
    let clock = ContinuousClock()
    let took = clock.measure {
      let pattern = PathPattern(BytePath(many))
      #expect(pattern == PathPattern(BytePath("/var/**/*.log")))
      #expect(pattern.matches(BytePath("/var/a/b/c.log")) && !pattern.matches(BytePath("/var/a/b/c.txt")))
    }
    #expect(took < .seconds(1))
  }

  /// A component of `*a*a...*b` and a name of 255 bytes, `**/a` in turn against a deep path: no more than the product
  /// of their lengths.
  @Test func nastyPatternsTakeNoLongerThanTheyAreLong() {
    let stars = PathPattern(BytePath("/" + String(repeating: "*a", count: 127) + "*b"))
    let depths = PathPattern(BytePath("/" + String(repeating: "**/a/", count: 8) + "b"))
    let clock = ContinuousClock()
    let took = clock.measure {
      for _ in 0..<20 { #expect(!stars.matches(BytePath("/" + String(repeating: "a", count: 255)))) }
      for _ in 0..<20 { #expect(!depths.matches(BytePath(String(repeating: "/a", count: 2_000)))) }
    }
    #expect(took < .seconds(10))
  }

  static let other: [(String, String)] = [
    ("/var/log/*.log", "/var/log/x/a.log"),
    ("/var/log/*.log", "/var/log/a.log.1"),
    ("/var/log/**/*.log", "/var/logs/a.log"),
    ("/var/log/**/*.log", "/var/a.log"),
    ("/a/?", "/a/"),
    ("/a/?", "/a/xy"),
    ("/a/[!a-c]x", "/a/ax"),
    ("/a/\\*", "/a/x"),
    ("/a/*b*c", "/a/xcxb"),
    ("/**/b/c", "/b/x/c"),
  ]
  @Test(arguments: other) func doesNotMatch(pattern: String, path: String) {
    #expect(!PathPattern(BytePath(pattern)).matches(BytePath(path)))
  }

  static let bases: [(String, String)] = [
    ("/var/log/**/*.log", "/var/log"), ("/var/log/syslog", "/var/log"), ("/*/x", "/"), ("**/x", "/"),
    ("/var/lo[g]/x/y", "/var"), ("/x", "/"),
  ]
  @Test(arguments: bases) func hasBase(pattern: String, base: String) {
    #expect(text(PathPattern(BytePath(pattern)).base) == base)
  }

  @Test func manyStarsStayFast() {
    let pattern = PathPattern(
      BytePath("/" + String(repeating: "*a", count: 200) + "/" + String(repeating: "**/", count: 100) + "x"))
    #expect(
      !pattern.matches(BytePath("/" + String(repeating: "a", count: 2_000) + String(repeating: "/a", count: 500))))
  }
}
