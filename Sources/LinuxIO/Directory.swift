import CLinux
import DataPlane
import Glibc
import JournalModel

/// An open directory.
struct Directory {
  let descriptor: Descriptor

  /// - Parameter found: the directory, opened with O_PATH at least.
  init(_ found: Descriptor) throws(SystemError) {
    descriptor = try Descriptor.open([UInt8(ascii: ".")], in: found.number, O_RDONLY | O_DIRECTORY)
  }

  /// The named entries, or all of them, ordered by name. `here`: the directory's own facts. Links are walked by `follow`; a file whose facts `known` tells is
  /// asked no more (K6).
  func entries(
    _ names: [[UInt8]]?, of here: linux_facts, knowing known: SettledInodes,
    following follow: (_ link: [UInt8]) throws(SystemError) -> Way
  ) throws(SystemError) -> [DirectoryEntry] {
    let isPartial = names != nil
    var entries: [DirectoryEntry] = []
    let wanted = if let names { names } else { try self.names() }
    for name in wanted.sorted(by: { $0.lexicographicallyPrecedes($1) }) where Self.isName(name) {
      if let facts = known.facts(of: name, in: descriptor, here) {
        entries.append(DirectoryEntry(name: name, facts: facts, freshUUID: nil))
      } else if let entry = try entry(name, isPartial: isPartial, known, follow) {
        entries.append(entry)
      }
    }
    return entries
  }

  /// Every name but `.` and `..`.
  func names() throws(SystemError) -> [[UInt8]] {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
    defer { buffer.deallocate() }
    var names: [[UInt8]] = []
    while true {
      let count = try checked(
        "getdents64", linux_directory_entries(descriptor.number, buffer.baseAddress, buffer.count))
      if count == 0 { return names }
      var offset = 0
      while offset < count {
        // struct linux_dirent64: u64 inode, s64 offset, u16 record length, u8 type, name with NUL
        let length = Int(buffer.loadUnaligned(fromByteOffset: offset + 16, as: UInt16.self))
        let name = Array(buffer[(offset + 19)..<(offset + length)].prefix { $0 != 0 })
        if name != Array(".".utf8), name != Array("..".utf8) { names.append(name) }
        offset += length
      }
    }
  }

  /// Nil when a name that was asked for doesn't exist. Everything about the entry comes from one descriptor, so that
  /// it is about one inode whatever happens to the name meanwhile (S07).
  private func entry(
    _ name: [UInt8], isPartial: Bool, _ known: SettledInodes, _ follow: ([UInt8]) throws(SystemError) -> Way
  ) throws(SystemError) -> DirectoryEntry? {
    var entry = DirectoryEntry(name: name, facts: nil, freshUUID: Randomness.uuid())
    do {
      let asked = Clocks.wall()
      let itself = try Descriptor.open(name, in: descriptor.number, linux_O_PATH | O_NOFOLLOW)
      let raw = try itself.rawFacts()
      entry.isSymbolicLink = raw.mode & linux_file_type == linux_symbolic_link
      guard entry.isSymbolicLink else {
        let facts = try InodeFacts.of(itself, raw)
        known.note(facts, asked: asked)
        entry.facts = facts
        return entry
      }
      // The link's own owner and text, and all that lies behind it, are judged by the walk.
      let way = try follow(name)
      entry.facts = try InodeFacts.of(way.end)
      entry.realPath = way.end.path()
      entry.lent = way.lent
    } catch {
      // Without descriptors or memory nothing is known of any entry (D10).
      if [EMFILE, ENFILE, ENOMEM].contains(error.code) { throw error }
      if isPartial, !entry.isSymbolicLink, error.code == ENOENT { return nil }
      entry.facts = nil
      // A name that goes while it is looked at, and a link that leads nowhere: there is nothing to be followed.
      entry.trouble = [ENOENT, ENOTDIR, ELOOP].contains(error.code) ? nil : "\(error)"
    }
    return entry
  }

  private static func isName(_ name: [UInt8]) -> Bool {
    !name.isEmpty && !name.contains(UInt8(ascii: "/")) && !name.contains(0) && name != Array(".".utf8)
      && name != Array("..".utf8)
  }
}

extension Descriptor {
  /// The real path of what is open, as the kernel knows it now; nil where the kernel can't say it (PATH_MAX).
  func path() -> BytePath? {
    var buffer = [CChar](repeating: 0, count: BytePath.maximumByteCount + 1)
    let count = readlink("/proc/self/fd/\(number)", &buffer, buffer.count)
    guard count > 0, count < buffer.count else { return nil }
    return BytePath(buffer[..<count].map { UInt8(bitPattern: $0) })
  }
}
