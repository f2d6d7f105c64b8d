import HostCore
import JournalModel

extension Unfollowed: CustomStringConvertible {
  /// What it is, and where it helps, what to do about it.
  package var description: String {
    switch self {
    case .link(let path, let owner, let target):
      "a link of user \(owner) leads to what belongs to user \(target), which would lend them this node's rights"
        + (path.map { " (\($0.escaped))" } ?? "")
        + ": give the link to root (chown -h root), or set `links: any` in the follow section"
    case .hardLink(let owner):
      "one of several hard links to a file of user \(owner), in a directory where others make names who may not read it: "
        + "remove the other names, or set `links: any` in the follow section"
    case .own: "the node's own: never followed"
    case .kind(let nature): "not a file that is appended to, but \(nature)"
    case .tooLong(let count):
      "its path has \(count) bytes, more than the \(BytePath.maximumByteCount) that can be journaled: follow it by a "
        + "shorter path (a link or bind mount)"
    case .unknown(let trouble): "can't be examined: \(trouble)"
    }
  }
}
