/// Patterns of `host.follow` as an operator writes them, made absolute (see `FollowRule` for what they match).
enum FollowPattern {
  enum Use { case include, exclude }

  struct Failure: Error, Hashable {
    var message: String
  }

  /// Each `**` multiplies the ways in which a path can match. `**/**` is the same as one.
  static let maximumDepths = 8

  /// - A pattern that begins with `/` stands as it is.
  /// - An `exclude` that begins with `**/` holds everywhere.
  /// - Any other is relative to the configuration file's directory, and must begin with a plain name.
  static func resolve(_ text: String, use: Use, base: String) throws(Failure) -> String {
    if use == .exclude, text.hasPrefix("**/") { return try checked("/" + text) }
    if text.hasPrefix("/") { return try checked(text) }
    guard let first = text.split(separator: "/", omittingEmptySubsequences: false).first, !isGlob(first) else {
      throw Failure(
        message: use == .include
          ? "`\(shown(text))` is not absolute: say in which directory, such as `/var/log/\(shown(text))`"
          : "`\(shown(text))` is not absolute: to exclude it everywhere, write `**/\(shown(text))`")
    }
    return try checked(base + "/" + text)
  }

  private static func checked(_ pattern: String) throws(Failure) -> String {
    var components: [Substring] = []
    for component in pattern.split(separator: "/") where component != "." {
      try check(component, in: pattern)
      if component == "**", components.last == "**" { continue }
      if component != ".." {
        components.append(component)
      } else if let last = components.popLast(), isGlob(last) {
        throw Failure(message: "`..` behind a wildcard means nothing")
      }
    }
    guard let last = components.last, !pattern.hasSuffix("/") else {
      throw Failure(message: "names a directory: to follow what is in it, write `\(shown(pattern))**`")
    }
    guard components.count(where: { $0 == "**" }) <= maximumDepths else {
      throw Failure(message: "more than \(maximumDepths) times `**` in `\(shown(pattern, limit: 80))`")
    }
    if last == "**" { components.append("*") }
    let result = "/" + components.joined(separator: "/")
    guard result.utf8.count <= 4_095 else { throw Failure(message: "the pattern is too long") }
    return result
  }

  private static func check(_ component: Substring, in pattern: String) throws(Failure) {
    if component.contains("**"), component != "**" {
      throw Failure(message: "`**` stands for whole directories: write `/**/` in `\(shown(pattern))`")
    }
    var rest = component
    while let open = rest.firstIndex(of: "[") {
      // A `]` that stands first is one of the set.
      var body = rest[rest.index(after: open)...]
      if body.first == "!" { body = body.dropFirst() }
      guard let close = body.dropFirst().firstIndex(of: "]") else {
        throw Failure(message: "`[` without `]` in `\(shown(pattern))`: for the character itself write `[[]`")
      }
      rest = rest[rest.index(after: close)...]
    }
  }

  static func isGlob(_ component: Substring) -> Bool { component.contains { "*?[".contains($0) } }

  /// The longest directory under which every match of an absolute pattern lies.
  static func base(of pattern: String) -> String {
    let components = pattern.split(separator: "/")
    let literal = components.dropLast().prefix { !isGlob($0) }
    return "/" + literal.joined(separator: "/")
  }
}
