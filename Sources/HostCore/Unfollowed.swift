import DataPlane
package import JournalModel

/// Why a name that a pattern finds isn't followed (G7: said, never silent).
package enum Unfollowed: Hashable, Sendable {
  /// A symbolic link on the way would lend the node's rights (D9): where it stands, whose it is, whose target it has.
  case link(BytePath?, owner: UInt32, target: UInt32)
  /// One of several hard links, in a directory where users make names who couldn't have read the file (D9).
  case hardLink(owner: UInt32)
  /// The node's own keys, data or logs (D9).
  case own
  /// Nothing that is appended to: what it is instead.
  case kind(String)
  /// Its path has so many bytes, more than a journal can hold.
  case tooLong(Int)
  /// EACCES, EIO, ...: says nothing about what it is (D10).
  case unknown(String)

  init(_ link: LentLink) { self = .link(link.path, owner: link.owner, target: link.target) }

  /// Whether bytes may be missing that should have been delivered: then nothing is settled.
  package var isOwed: Bool {
    switch self {
    case .link, .hardLink, .own, .kind: false
    case .tooLong, .unknown: true
    }
  }
}

extension FileFacts.Kind {
  /// What isn't followed, in words; nil for files and directories.
  var nature: String? {
    switch self {
    case .regular, .directory: nil
    case .fifo: "a FIFO"
    case .socket: "a socket"
    case .device: "a device"
    case .synthetic: "made up by the kernel when it is read"
    case .other: "no file"
    }
  }
}

extension FileFacts {
  /// The like of `protected_hardlinks`, for whoever made the name: whether everybody who may make names in the directory
  /// could have read this file, or owns it. A file with one name was put there by whoever could write to it.
  func isReadable(byNamersIn directory: FileFacts, user: UInt32) -> Bool {
    guard links > 1, mode & 0o004 == 0 else { return true }
    if directory.mode & 0o002 != 0 { return false }
    if directory.mode & 0o020 != 0, group != directory.group || mode & 0o040 == 0 { return false }
    return [0, user, owner].contains(directory.owner)
  }
}
