package import JournalModel

/// A glob pattern over paths (see `FollowRule`), compiled into components.
///
/// `*` and `?` match a leading dot as well [in doubt deliver, never lose]. A pattern that doesn't begin with `/` may
/// begin at any depth. `**` as a whole component stands for any number of components, none included; elsewhere it is
/// the same as `*`. A backslash takes the next byte literally. A `[` without its `]` is literal.
package struct PathPattern: Hashable, Sendable {
  enum Token: Hashable, Sendable {
    case byte(UInt8)
    case any
    case anyRun
    case set([ClosedRange<UInt8>], isNegated: Bool)

    /// A byte that it matches.
    var sample: UInt8 {
      switch self {
      case .byte(let byte): byte
      case .any, .anyRun: UInt8(ascii: "x")
      case .set(let ranges, let isNegated):
        (UInt8(ascii: "!")...0xFF).first { byte in
          byte != UInt8(ascii: "/") && ranges.contains { $0.contains(byte) } != isNegated
        } ?? UInt8(ascii: "x")
      }
    }
  }
  enum Component: Hashable, Sendable {
    case literal([UInt8])
    case glob(NamePattern)
    case anyDepth
  }
  let components: [Component]

  package init(_ pattern: BytePath) {
    var components = Self.split(pattern.bytes).map(Self.component)
    if pattern.bytes.first != UInt8(ascii: "/") { components.insert(.anyDepth, at: 0) }
    // `**/**` matches what `**` matches, in as many more ways as it is long.
    self.components = components.reduce(into: []) { kept, component in
      if component != .anyDepth || kept.last != .anyDepth { kept.append(component) }
    }
  }

  /// The longest literal directory that every match lies below.
  package var base: BytePath {
    var path: [UInt8] = []
    for component in components.dropLast() {
      guard case .literal(let name) = component else { break }
      path += [UInt8(ascii: "/")] + name
    }
    return BytePath(path.isEmpty ? [UInt8(ascii: "/")] : path)
  }

  /// A path that it matches.
  package var sample: BytePath {
    let names = components.compactMap { component -> [UInt8]? in
      switch component {
      case .literal(let name): name
      case .glob(let pattern): pattern.sample
      case .anyDepth: nil
      }
    }
    // One that ends in `**` matches everything below.
    let last = components.last == .anyDepth ? [[UInt8(ascii: "x")]] : []
    return BytePath((names + last).flatMap { [UInt8(ascii: "/")] + $0 })
  }

  package func matches(_ path: BytePath) -> Bool {
    var positions = start
    for name in Self.split(path.bytes) {
      positions = advance(positions, over: name, isLink: false)
      if positions.isEmpty { return false }
    }
    return isMatch(positions)
  }

  static func split(_ path: [UInt8]) -> [[UInt8]] { path.split(separator: UInt8(ascii: "/")).map(Array.init) }
}

// MARK: Walking component by component

extension PathPattern {
  /// Where in the pattern a walk from the root may stand: indices of the component that the next name has to match.
  typealias Positions = [Int]

  var start: Positions { closure([0]) }

  func isMatch(_ positions: Positions) -> Bool { positions.last == components.count }

  /// Whether a walk that stands at `positions` matches with `name` as its last: the same as to advance and look, without
  /// making anything.
  func isMatch(_ positions: Positions, ending name: [UInt8]) -> Bool {
    positions.contains { position in
      guard position < components.count else { return false }
      let isLast = position + 1 == components.count
      switch components[position] {
      case .anyDepth: return isLast
      case .literal(let wanted): return (isLast || isOpenEnd(position + 1)) && wanted == name
      case .glob(let pattern): return (isLast || isOpenEnd(position + 1)) && pattern.matches(name)
      }
    }
  }

  /// Whether the last component, which may stand for nothing, is at `position`.
  private func isOpenEnd(_ position: Int) -> Bool {
    position + 1 == components.count && components[position] == .anyDepth
  }

  /// Whether a name below may still match.
  func mayMatchBelow(_ positions: Positions) -> Bool { positions.contains { $0 < components.count } }

  /// Whether every path below matches: the pattern ends in `**` and a walk stands there.
  func matchesAllBelow(_ positions: Positions) -> Bool {
    guard components.last == .anyDepth else { return false }
    return positions.contains(components.count - 1)
  }

  /// `**` doesn't go through symbolic links; named components do.
  func advance(_ positions: Positions, over name: [UInt8], isLink: Bool) -> Positions {
    var next: Positions = []
    for position in positions where position < components.count {
      switch components[position] {
      case .anyDepth: if !isLink { next.append(position) }
      case .literal(let wanted): if wanted == name { next.append(position + 1) }
      case .glob(let pattern): if pattern.matches(name) { next.append(position + 1) }
      }
    }
    return closure(next)
  }

  /// With the positions behind every `**`, which may stand for nothing. Takes positions in order, and gives each once;
  /// no `**` stands behind another.
  private func closure(_ positions: Positions) -> Positions {
    var all: Positions = []
    for position in positions where position > all.last ?? -1 {
      all.append(position)
      if position < components.count, components[position] == .anyDepth { all.append(position + 1) }
    }
    return all
  }
}

// MARK: Within one component

extension PathPattern {
  private static func component(_ text: [UInt8]) -> Component {
    if text == [UInt8(ascii: "*"), UInt8(ascii: "*")] { return .anyDepth }
    let tokens = tokens(text[...])
    var literal: [UInt8] = []
    for token in tokens {
      guard case .byte(let byte) = token else { return .glob(NamePattern(tokens)) }
      literal.append(byte)
    }
    return .literal(literal)
  }

  private static func tokens(_ text: ArraySlice<UInt8>) -> [Token] {
    var tokens: [Token] = []
    var rest = text
    while let byte = rest.popFirst() {
      switch byte {
      case UInt8(ascii: "*"): if tokens.last != .anyRun { tokens.append(.anyRun) }
      case UInt8(ascii: "?"): tokens.append(.any)
      case UInt8(ascii: "["): tokens.append(set(&rest) ?? .byte(byte))
      case UInt8(ascii: "\\"): tokens.append(.byte(rest.popFirst() ?? byte))
      default: tokens.append(.byte(byte))
      }
    }
    return tokens
  }

  /// What stands behind `[`, up to its `]`; nil and nothing taken when there is none. A `]` right at the start is one
  /// of the set's bytes (POSIX, section 2.13.1).
  private static func set(_ text: inout ArraySlice<UInt8>) -> Token? {
    var rest = text
    let isNegated = rest.first == UInt8(ascii: "!") || rest.first == UInt8(ascii: "^")
    if isNegated { rest.removeFirst() }
    var ranges: [ClosedRange<UInt8>] = []
    while let low = rest.popFirst() {
      if low == UInt8(ascii: "]"), !ranges.isEmpty {
        text = rest
        return .set(ranges, isNegated: isNegated)
      }
      let isRange = rest.count >= 2 && rest[rest.startIndex] == UInt8(ascii: "-")
      if isRange, rest[rest.startIndex + 1] != UInt8(ascii: "]") {
        rest.removeFirst()
        let high = rest.removeFirst()
        ranges.append(min(low, high)...max(low, high))
      } else {
        ranges.append(low...low)
      }
    }
    return nil
  }
}

extension PathPattern.Token {
  func matches(_ byte: UInt8) -> Bool {
    switch self {
    case .byte(let wanted): wanted == byte
    case .any: true
    case .anyRun: false
    case .set(let ranges, let isNegated): ranges.contains { $0.contains(byte) } != isNegated
    }
  }
}

// MARK: Many patterns at once

/// All follow rules, as a walk down the directories sees them.
struct FollowPatterns {
  /// Where every pattern of every rule stands in one directory.
  struct Position: Hashable {
    fileprivate var include: [[PathPattern.Positions]]
    fileprivate var exclude: [[PathPattern.Positions]]
  }
  private let rules: [(include: [PathPattern], exclude: [PathPattern], followsAnyLink: Bool)]

  init(_ rules: [FollowRule]) {
    self.rules = rules.map {
      ($0.include.map(PathPattern.init), $0.exclude.map(PathPattern.init), $0.followsAnyLink)
    }
  }

  /// Where walks begin: the base of every include, once each, in the order of the configuration.
  var bases: [BytePath] {
    var bases: [BytePath] = []
    for base in rules.flatMap({ $0.include.map(\.base) }) where !bases.contains(base) { bases.append(base) }
    return bases
  }

  func position(at directory: BytePath) -> Position {
    var position = Position(
      include: rules.map { $0.include.map(\.start) }, exclude: rules.map { $0.exclude.map(\.start) })
    for name in PathPattern.split(directory.bytes) { position = advance(position, over: name, isLink: false) }
    return position
  }

  /// Whether the file `name` of the directory is to be followed. `isLent`: a link that leads to it lends rights (D9).
  func isFollowed(_ name: [UInt8], in directory: Position, isLent: Bool = false) -> Bool {
    rules.indices.contains { rule in
      (!isLent || rules[rule].followsAnyLink) && anyMatch(rules[rule].include, directory.include[rule], name)
        && !anyMatch(rules[rule].exclude, directory.exclude[rule], name)
    }
  }

  /// The position in the subdirectory `name`, nil when nothing below it can match.
  func descend(_ directory: Position, into name: [UInt8], isLink: Bool) -> Position? {
    let next = advance(directory, over: name, isLink: isLink)
    return mayFollow(below: next) ? next : nil
  }

  /// Whether anything below the directory can match. `isLent`: a link that leads to it lends rights (D9).
  func mayFollow(below directory: Position, isLent: Bool = false) -> Bool {
    rules.indices.contains { rule in
      guard !isLent || rules[rule].followsAnyLink else { return false }
      let excluded = zip(rules[rule].exclude, directory.exclude[rule]).contains { $0.matchesAllBelow($1) }
      return !excluded && zip(rules[rule].include, directory.include[rule]).contains { $0.mayMatchBelow($1) }
    }
  }

  private func anyMatch(_ patterns: [PathPattern], _ positions: [PathPattern.Positions], _ name: [UInt8]) -> Bool {
    zip(patterns, positions).contains { $0.isMatch($1, ending: name) }
  }

  private func advance(_ position: Position, over name: [UInt8], isLink: Bool) -> Position {
    var next = position
    for rule in rules.indices {
      for index in rules[rule].include.indices {
        let pattern = rules[rule].include[index]
        next.include[rule][index] = pattern.advance(position.include[rule][index], over: name, isLink: isLink)
      }
      for index in rules[rule].exclude.indices {
        let pattern = rules[rule].exclude[index]
        next.exclude[rule][index] = pattern.advance(position.exclude[rule][index], over: name, isLink: false)
      }
    }
    return next
  }
}
