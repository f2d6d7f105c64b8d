import HostCore
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
