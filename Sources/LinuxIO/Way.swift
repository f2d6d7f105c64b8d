import CLinux
import DataPlane
import Glibc
import JournalModel

/// The way by which a path leads to what it names, walked component by component: each name is looked up in the directory
/// that was found before it, by descriptors, so that what is judged is what is opened, however the names change meanwhile;
/// and there is no length that a path can't have.
struct Way {
  /// What the path leads to (O_PATH).
  let end: Descriptor
  /// The first symbolic link on the way that would lend the node's rights (D9).
  let lent: LentLink?

  /// As many links as the kernel follows.
  private static let mostLinks = 40

  private enum Part {
    case name([UInt8])
    /// A link's text ends here: what is reached now is what it leads to.
    case target(of: Link)
  }
  private struct Link {
    var facts: linux_facts
    var directory: Descriptor
    var name: [UInt8]
  }

  /// Follows every link on the way, the last component's too.
  ///
  /// - Parameters:
  ///   - start: where a relative path begins; the root if nil.
  ///   - user: whose links are trusted beside root's.
  ///   - visit: is told each directory and the name that is looked up in it next, before that happens. What comes later on
  ///     a way that leads nowhere isn't told.
  static func walk(
    _ path: [UInt8], from start: Descriptor?, user: UInt32, visit: (Descriptor, [UInt8]) -> Void
  ) throws(SystemError) -> Way {
    var parts = parts(of: path)
    var place = if let start, path.first != slash { start } else { try root() }
    var lent: LentLink?
    var links = 0
    while let part = parts.popLast() {
      switch part {
      case .target(let link):
        if lent == nil { lent = try judge(link, target: place, user: user) }
      case .name(let name):
        visit(place, name)
        let next = try Descriptor.open(name, in: place.number, linux_O_PATH | O_NOFOLLOW)
        let facts = try next.rawFacts()
        guard facts.mode & linux_file_type == linux_symbolic_link else {
          place = next
          continue
        }
        links += 1
        guard links <= mostLinks else { throw SystemError("open", code: ELOOP) }
        parts.append(.target(of: Link(facts: facts, directory: place, name: name)))
        if try FileSystem.of(next).type == FileSystem.proc {
          // Its text doesn't say where it leads: `/proc/1/root` is another namespace's `/`.
          place = try Descriptor.open(name, in: place.number, linux_O_PATH)
        } else {
          let text = try next.linkText()
          if text.first == slash { place = try root() }
          parts += Self.parts(of: text)
        }
      }
    }
    return Way(end: place, lent: lent)
  }

  private static let slash = UInt8(ascii: "/")
  private static func root() throws(SystemError) -> Descriptor {
    try Descriptor.open([slash], in: AT_FDCWD, linux_O_PATH)
  }

  /// The names of a path, the next one last.
  private static func parts(of path: [UInt8]) -> [Part] {
    path.split(separator: slash).filter { !$0.elementsEqual([UInt8(ascii: ".")]) }.reversed().map { .name(Array($0)) }
  }

  /// The kernel's rule of `protected_symlinks`, in every directory: a link counts whose owner is root, the node's user or
  /// the owner of what it leads to. A link with several names may stand where its owner never put it, and then leads
  /// elsewhere: it counts only where nobody else makes names.
  private static func judge(_ link: Link, target: Descriptor, user: UInt32) throws(SystemError) -> LentLink? {
    let owner = try target.rawFacts().owner
    var isTrusted = [0, user, owner].contains(link.facts.owner)
    if isTrusted, link.facts.links > 1 {
      let directory = try link.directory.rawFacts()
      isTrusted = [0, user].contains(directory.owner) && directory.mode & 0o022 == 0
    }
    guard !isTrusted else { return nil }
    return LentLink(path: link.directory.path()?.appending(link.name), owner: link.facts.owner, target: owner)
  }
}

extension Descriptor {
  func rawFacts() throws(SystemError) -> linux_facts {
    var raw = linux_facts()
    _ = try checked("statx", linux_facts(number, "", &raw))
    return raw
  }

  /// Where the symbolic link leads that is open (O_PATH | O_NOFOLLOW). Never empty.
  func linkText() throws(SystemError) -> [UInt8] {
    // The kernel takes no text of PATH_MAX bytes or more.
    var buffer = [CChar](repeating: 0, count: BytePath.maximumByteCount + 1)
    let count = try retrying("readlink") { readlinkat(number, "", &buffer, buffer.count) }
    guard count > 0 else { throw SystemError("readlink", code: ENOENT) }
    return buffer[..<count].map { UInt8(bitPattern: $0) }
  }
}
