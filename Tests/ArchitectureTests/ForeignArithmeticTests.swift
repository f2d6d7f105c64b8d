import Testing

/// Numbers that hosts, peers, stores and files bring are added and subtracted with `saturating...` where they are shown
/// or summed. What would end the process, or wrap to a wrong total, is found here by its shape; that every number can be
/// shown is held by NodeRuntimeTests ForeignNumbers.
struct ForeignArithmetic {
  struct Rule {
    var rooms: [String]
    /// A part of every line that has the shape: a regular expression costs a hundred times as much.
    var part: String
    var shape: String
    var instead: String
    /// Lines that may have the shape, and why they may.
    var except: [String] = []
  }

  static let rules = [
    Rule(
      rooms: ["NodeRuntime", "ServerCore", "HostCore", "LMDBStore", "nimbus-journal"],
      part: "reduce(0)", shape: #"reduce\(0\) \{ \$0 &?\+ (?!\$1\.count \})"#, instead: "saturatingSum"),
    Rule(
      rooms: ["JournalModel", "NodeRuntime", "SecureTransport", "ServerCore", "nimbus-journal"],
      part: "nanoseconds", shape: #"nanoseconds &?[-+*] "#, instead: "saturatingAdding and the like",
      // Of two points that were compared.
      except: ["Interval(nanoseconds: l < r ? 0 : l.nanoseconds - r.nanoseconds)"]),
    Rule(
      rooms: ["JournalModel", "NodeRuntime", "SecureTransport"],
      part: "&", shape: #"[^&]&[-+*]=? "#, instead: "saturatingAdding and the like",
      // A hash's own arithmetic, and a table's that it leads to.
      except: ["(hash >> 32)) &* 0x9E37_79B9_7F4A_7C15", "(place &- own) & (slots.count - 1)"]),
    Rule(
      rooms: ["NodeRuntime", "LinuxIO", "LMDBStore"],
      part: "st_size", shape: #"UInt64\(\w+\.st_size\)"#, instead: "UInt64(clamping:)"),
  ]

  @Test func numbersFromElsewhereMeetNoArithmeticThatTrapsOrWraps() throws {
    for rule in Self.rules {
      let shape = try Regex(rule.shape)
      for room in rule.rooms {
        for (file, text) in try ImportArrows.sources(of: room) {
          for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            guard line.contains(rule.part), line.contains(shape), !rule.except.contains(where: { line.contains($0) })
            else { continue }
            Issue.record("\(room)/\(file):\(number + 1): \(line): use \(rule.instead)")
          }
        }
      }
    }
  }

  @Test func theCheckItselfSees() throws {
    let seen = [
      "own.reduce(0) { $0 + $1.length }", "rest.nanoseconds - now", "a &+ b", "UInt64(status.st_size)",
    ]
    for (rule, line) in zip(Self.rules, seen) { #expect(line.contains(try Regex(rule.shape))) }
    #expect(!"fresh.reduce(0) { $0 + $1.count }".contains(try Regex(Self.rules[0].shape)))
  }
}
