import JournalModel

/// What the medium does below the file system: pages that can't be read, bits that flip, writes that are said to be done
/// and aren't, or are done elsewhere. Damage is silent: the page's own checksum, if it has one, is taken to be right.
extension SimulatedDisk {
  enum Misplacement: String, Hashable, Sendable { case lost, misdirected }

  /// Files with bytes, in the order of their making.
  private var candidates: [Inode] { everyFile.filter { $0.links > 0 && !$0.bytes.isEmpty } }

  private func candidate(_ number: Int) -> Inode? {
    let candidates = candidates
    return candidates.isEmpty ? nil : candidates[number % candidates.count]
  }

  /// A page of the `file`-th file, counted from its end, can't be read, once or until the answer is called.
  func spoil(file number: Int, page: Int, isOnce: Bool) -> (() -> Void)? {
    guard let inode = candidate(number) else { return nil }
    let last = (inode.bytes.count - 1) / pageSize
    let page = last - page % (last + 1)
    inode.badPages[page] = isOnce
    return { inode.badPages[page] = nil }
  }

  func mendPages() { for inode in everyFile { inode.badPages = [:] } }

  /// What was to strike with the next call doesn't.
  func heal() {
    mendPages()
    nextSyncFails = false
    nextDirectorySyncFails = false
    nextWriteIs = nil
  }

  /// How many of `count` bytes pread(2) gives before a page that can't be read; fails if that is the first one.
  func readable(_ inode: Inode, _ offset: Int, _ count: Int) throws(Failure) -> Int {
    guard !readsFail else {
      struck("read EIO")
      throw .inputOutput
    }
    guard !inode.badPages.isEmpty, count > 0 else { return count }
    for page in (offset / pageSize)...((offset + count - 1) / pageSize) {
      guard let isOnce = inode.badPages[page] else { continue }
      let before = page * pageSize - offset
      if before > 0 { return before }
      struck(isOnce ? "read EIO of a page once" : "read EIO of a page")
      if isOnce { inode.badPages[page] = nil }
      throw .inputOutput
    }
    return count
  }

  /// All of the bytes, or a failure.
  func read(_ inode: Inode, _ offset: Int, _ count: Int) throws(Failure) -> [UInt8] {
    guard inode.bytes.count >= offset + count, try readable(inode, offset, count) == count else { throw .inputOutput }
    return Array(inode.bytes[offset..<(offset + count)])
  }

  /// A bit of the `file`-th file flips on the disk, among those that are synced.
  func rot(file number: Int, position: Int) {
    guard let inode = candidate(number), !inode.durableBytes.isEmpty else { return }
    let index = position % inode.durableBytes.count
    inode.durableBytes[index] ^= 1 << UInt8(position % 8)
    if index < inode.bytes.count { inode.bytes[index] ^= 1 << UInt8(position % 8) }
    inode.isDamaged = true
    struck("bit rot")
  }

  /// Pages that this sync should write and doesn't; a misdirected one lies on another file's then.
  func misplaced(_ inode: Inode) -> [Int] {
    guard let kind = nextWriteIs, let page = unsyncedPages(inode).last else { return [] }
    nextWriteIs = nil
    inode.isDamaged = true
    inode.lostPages.insert(page)
    struck("write \(kind.rawValue)")
    guard kind == .misdirected, let other = candidates.first(where: { $0 !== inode && !$0.durableBytes.isEmpty }) else {
      return [page]
    }
    let bytes = inode.bytes[range(ofPage: page, in: inode.bytes)].prefix(
      min(other.bytes.count, other.durableBytes.count))
    other.bytes.replaceSubrange(0..<bytes.count, with: bytes)
    other.durableBytes.replaceSubrange(0..<bytes.count, with: bytes)
    other.isDamaged = true
    return [page]
  }

  /// A writer writes over its own bytes: another content, as after a truncation, but nothing tells it from the old one
  /// wherever D4 doesn't look (D6).
  func overwrite(_ inode: Inode, at position: Int, _ count: Int, entryPath: BytePath) {
    let end = min(inode.bytes.count, position + count)
    guard position < end else { return }
    let all = inode.bytes
    truncate(inode, to: 0)
    truncate(inode, to: all.count, entryPath: entryPath)
    for index in all.indices { inode.bytes[index] = (position..<end).contains(index) ? ~all[index] : all[index] }
    inode.isOverwritten = true
  }
}
