import CLinux
import DataPlane
import Glibc
package import JournalModel

/// What is the node's own and never followed, by whatever name (D9): its keys, its data, its logs. Known by inode, since a
/// hard link, a bind mount or a renewed key has another path; and by real path, for trees too large to be listed.
package final class OwnFiles: Sendable {
  private struct Known {
    var inodes: Set<InodeKey> = []
    /// Real paths of the trees.
    var roots: [BytePath] = []
    var walked: Instant?
  }
  private let files: [BytePath]
  private let trees: [BytePath]
  private let known = Monitor(Known())

  /// Trees are listed anew at most this often. What comes in between is known by the path that it has.
  private static let walkInterval = Interval.seconds(1)
  private static let deepest = 3
  private static let mostEntries = 4_096

  /// - Parameters:
  ///   - files: such as keys: looked up at every question, since they may be replaced.
  ///   - trees: directories with all that is in them.
  package init(files: [BytePath], trees: [BytePath]) {
    self.files = files
    self.trees = trees
    // Standard output and error, where they are files: the node's log.
    for number in [STDOUT_FILENO, STDERR_FILENO] {
      note(try? Descriptor.open(Array("/proc/self/fd/\(number)".utf8), in: AT_FDCWD, linux_O_PATH))
    }
    refresh()
  }

  /// Takes what is there now. What was the node's own once stays so.
  func refresh() {
    for file in files { note(try? Descriptor.open(file, linux_O_PATH)) }
    let now = Clocks.now()
    let isDue = known.withLock { known in
      guard known.walked.map({ now - $0 >= Self.walkInterval }) ?? true else { return false }
      known.walked = now
      return true
    }
    guard isDue else { return }
    let roots = trees.compactMap { try? Descriptor.open($0, linux_O_PATH | O_DIRECTORY) }
    known.withLock { $0.roots = roots.compactMap { $0.path() } }
    var left = Self.mostEntries
    for root in roots { walk(root, depth: 0, &left) }
  }

  private func walk(_ directory: Descriptor, depth: Int, _ left: inout Int) {
    note(directory)
    guard depth < Self.deepest, let names = try? Directory(directory).names() else { return }
    for name in names {
      guard left > 0, let entry = try? Descriptor.open(name, in: directory.number, linux_O_PATH | O_NOFOLLOW),
        let facts = try? entry.rawFacts()
      else { continue }
      left -= 1
      switch facts.mode & linux_file_type {
      case linux_directory: walk(entry, depth: depth + 1, &left)
      case linux_regular_file: note(entry)
      default: continue
      }
    }
  }

  private func note(_ descriptor: Descriptor?) {
    guard let descriptor, let facts = try? InodeFacts.of(descriptor), facts.kind == .regular || facts.kind == .directory
    else { return }
    known.withLock { _ = $0.inodes.insert(facts.inode) }
  }

  /// Whether an inode is the node's own, or a real path leads into one of its trees.
  func holds(_ inode: InodeKey?, at path: BytePath?) -> Bool {
    known.withLock { known in
      if let inode, known.inodes.contains(inode) { return true }
      guard let path else { return false }
      return known.roots.contains { path == $0 || path.bytes.starts(with: $0.bytes + [UInt8(ascii: "/")]) }
    }
  }
}
