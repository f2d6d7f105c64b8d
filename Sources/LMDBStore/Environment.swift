import CLMDB
import Glibc
import JournalModel
import JournalStore
import Synchronization

/// One LMDB environment: a directory with `data.mdb`, LMDB's own `lock.mdb`, and `writer.lock`, which whoever opens it
/// for writing holds locked (flock(2)).
///
/// Commits use LMDB's default durability: pages by pwrite(2), fdatasync(2), then the meta page through an O_DSYNC
/// descriptor. No MDB_NOSYNC, MDB_WRITEMAP or MDB_MAPASYNC, ever.
///
/// The map is address space, not memory or disk, so it is as large as it can ever be needed from the start and nothing
/// has to grow it while transactions run. Where address space is scarce (RLIMIT_AS) a smaller power of two is taken.
final class Environment: Sendable {
  enum Access {
    case writing
    /// Beside a running writer, or of a copied directory.
    case reading
  }

  static let mapSize = 1 << 40
  private static let smallestMapSize = 1 << 30
  private static let opened = Mutex<Set<DirectoryID>>([])

  let directory: String
  private nonisolated(unsafe) let handle: OpaquePointer
  private let identity: DirectoryID
  private let writerLock: Int32?
  /// Why no more is accepted (P4).
  private let failure = Mutex<String?>(nil)
  private let space = Mutex<Space>(Space())
  private let readers = Mutex<ReaderWatch>(ReaderWatch())

  init(at directory: String, _ access: Access, mapSize: Int = Environment.mapSize) throws(StoreError) {
    if access == .writing { try makeDirectory(directory) }
    let identity = try DirectoryID(of: directory)
    guard Self.opened.withLock({ $0.insert(identity).inserted }) else {
      throw .failed("\(directory) is open in this process already")
    }
    var writerLock: Int32?
    do throws(StoreError) {
      if access == .writing {
        writerLock = try lockForWriting(directory)
        dropPageCache(of: directory)
      }
      handle = try Self.open(directory, access, mapSize: mapSize)
    } catch {
      if let writerLock { unlock(writerLock) }
      Self.opened.withLock { _ = $0.remove(identity) }
      throw error
    }
    self.directory = directory
    self.identity = identity
    self.writerLock = writerLock
  }

  deinit {
    mdb_env_close(handle)
    if let writerLock { unlock(writerLock) }
    let identity = identity
    Self.opened.withLock { _ = $0.remove(identity) }
  }

  private static func open(_ directory: String, _ access: Access, mapSize: Int) throws(StoreError) -> OpaquePointer {
    var size = mapSize
    while true {
      var created: OpaquePointer?
      try check(mdb_env_create(&created), "create an environment")
      guard let handle = created else { throw .failed("LMDB gave no environment") }
      mdb_env_set_assert(handle, Self.giveUp)
      mdb_env_set_mapsize(handle, size)
      mdb_env_set_maxdbs(handle, 24)
      let flags = UInt32(MDB_NOTLS) | (access == .reading ? UInt32(MDB_RDONLY) : 0)
      let code = mdb_env_open(handle, directory, flags, 0o600)
      if code == 0 {
        do throws(StoreError) {
          try MetaPages.check(in: directory, handle)
          try MetaPages.checkRoots(in: directory, handle)
        } catch {
          mdb_env_close(handle)
          throw error
        }
        return handle
      }
      mdb_env_close(handle)
      guard code == ENOMEM, size > smallestMapSize else { throw storeError(code, "open \(directory)") }
      size /= 2
    }
  }

  /// Says that the store is damaged, and ends the process. LMDB calls this where what it finds in its pages can't be, and
  /// would print a line about its own source, and abort(3), if it returned (mdb_env_set_assert in lmdb.h).
  private static let giveUp: @convention(c) (OpaquePointer?, UnsafePointer<CChar>?) -> Void = { handle, assertion in
    var directory: UnsafePointer<CChar>?
    mdb_env_get_path(handle, &directory)
    let text =
      "nimbus-journal: the store in \(directory.map { String(cString: $0) } ?? "an unknown place") is damaged: README, "
      + "Troubleshooting, says what to do (LMDB: \(assertion.map { String(cString: $0) } ?? "no reason"))\n"
    _ = text.withCString { write(STDERR_FILENO, $0, strlen($0)) }
    abort()
  }

  func begin(_ access: Access) throws(StoreError) -> Transaction {
    if access == .writing, let reason = failure.withLock({ $0 }) { throw .failedSync(reason) }
    var handle: OpaquePointer?
    let code = mdb_txn_begin(self.handle, nil, access == .reading ? UInt32(MDB_RDONLY) : 0, &handle)
    guard code == 0, let handle else { throw noted(storeError(code, "begin a transaction")) }
    if access == .writing {
      space.withLock { $0.begin() }
      readers.withLock { $0.look(at: self.handle) }
    }
    return Transaction(owning: handle, of: self)
  }

  /// Of the last transaction that was committed.
  var number: UInt64 {
    var info = MDB_envinfo()
    mdb_env_info(handle, &info)
    return UInt64(info.me_last_txnid)
  }

  /// Who keeps the store from using its room again; looked for when something is committed.
  var oldReader: OldReader? { readers.withLock { $0.oldest } }

  /// Counts what the present write transaction may need at most: its row's pages, and two for the leaf and the branch
  /// above it, which are copied or split.
  func willWrite(_ byteCount: Int, to table: MDB_dbi) { space.withLock { $0.count(byteCount, in: table) } }

  /// Makes sure that the pages of the present write transaction find room on the disk, and that `Space.reserve` is left
  /// after them for commits that only give room back (P4). Without this a full disk would look like a failing one: LMDB
  /// 0.9 reports a short write as EIO.
  func reserveSpace(for transaction: OpaquePointer?) throws(StoreError) {
    // Many small rows share pages: no page of a table, nor of LMDB's own two, is written more than once.
    // Eight bytes more for each page that is replaced by its copy, in the free list.
    let pages = space.withLock { space in
      let written = space.tables.saturatingSum { Self.pages(of: $0, transaction) }
      return min(space.pages, written.saturatingAdding(written / 256 + Space.slack))
    }
    var information = MDB_envinfo()
    mdb_env_info(handle, &information)
    var descriptor: Int32 = -1
    mdb_env_get_fd(handle, &descriptor)
    let last = information.me_last_pgno
    guard (0..<(information.me_mapsize / Space.pageSize)).contains(last) else {
      throw .corrupt("\(directory)/data.mdb: its last page is said to be number \(UInt(bitPattern: last))")
    }
    let code = space.withLock { $0.reserve(pages, after: last + 1, in: descriptor) }
    // A file system that can't reserve has to do without.
    if code != 0, code != EOPNOTSUPP, code != ENOSYS { throw noted(storeError(code, "reserve room in \(directory)")) }
  }

  private static func pages(of table: MDB_dbi, _ transaction: OpaquePointer?) -> Int {
    var statistics = MDB_stat()
    guard mdb_stat(transaction, table, &statistics) == 0 else { return Space.unknown }
    return [statistics.ms_branch_pages, statistics.ms_leaf_pages, statistics.ms_overflow_pages].saturatingSum {
      max(0, $0)
    }
  }

  /// Remembers a failed sync: from then on nothing is accepted.
  func noted(_ error: StoreError) -> StoreError {
    if case .failedSync(let reason) = error { failure.withLock { $0 = $0 ?? reason } }
    return error
  }

  /// What an error of a commit means. The pages of a commit that failed are rewritten by the next one before anything
  /// refers to them, so a full disk leaves nothing behind, even if only the sync noticed it; unless LMDB couldn't put
  /// the old meta page back, which it tells whoever begins the next transaction.
  func commitError(_ code: Int32) -> StoreError {
    guard case .full(let reason) = storeError(code, "commit") else {
      return noted(.failedSync("commit: \(message(code))"))
    }
    do throws(StoreError) {
      _ = try begin(.writing)
      return .full(reason)
    } catch {
      return noted(.failedSync(reason))
    }
  }
}

/// Room on the disk that `data.mdb` has beyond what it uses.
private struct Space {
  static let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))
  static let reserve = 1 << 20
  private static let step = 16 << 20
  /// Pages that were merged away.
  static let slack = 64
  static let unknown = Int(Int32.max)
  /// LMDB's free list and its table of tables (`lmdb.h`: FREE_DBI and MAIN_DBI).
  private static let own: Set<MDB_dbi> = [0, 1]
  /// What the present write transaction may need, counted by its rows, and the tables that it writes to.
  private(set) var pages = 0
  private(set) var tables = own
  private var end = 0

  mutating func begin() {
    pages = 0
    tables = Self.own
  }

  mutating func count(_ byteCount: Int, in table: MDB_dbi) {
    pages += 2 + byteCount / Self.pageSize
    tables.insert(table)
  }

  mutating func reserve(_ pages: Int, after usedPages: Int, in descriptor: Int32) -> Int32 {
    let used = usedPages * Self.pageSize
    let needed = used + pages * Self.pageSize + Self.reserve
    guard needed > end else { return 0 }
    var code: Int32 = 0
    for wanted in [needed + Self.step, needed] {
      code = nj_reserve(descriptor, off_t(used), off_t(wanted - used))
      if code == 0 {
        end = wanted
        break
      }
    }
    return code
  }
}

/// A directory as the kernel knows it. LMDB must not open one environment twice in one process (`lmdb.h`, Caveats).
private struct DirectoryID: Hashable, Sendable {
  var device: UInt64
  var inode: UInt64

  init(of directory: String) throws(StoreError) {
    var status = stat()
    guard stat(directory, &status) == 0 else { throw storeError(errno, "open \(directory)") }
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
  }
}

/// Makes the directory with its missing ancestors, durably; mode 0700.
private func makeDirectory(_ directory: String) throws(StoreError) {
  if mkdir(directory, 0o700) == 0 {
    try sync(directory: parent(of: directory))
    return
  }
  switch errno {
  case EEXIST: return
  case ENOENT where parent(of: directory) != directory:
    try makeDirectory(parent(of: directory))
    try makeDirectory(directory)
  default: throw storeError(errno, "make \(directory)")
  }
}

private func parent(of directory: String) -> String {
  let path = BytePath(directory.hasSuffix("/") && directory != "/" ? String(directory.dropLast()) : directory)
  let parent = path.directory.bytes
  return parent.isEmpty ? "." : String(decoding: parent, as: UTF8.self)
}

func sync(directory: String) throws(StoreError) {
  let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  guard descriptor >= 0 else { throw storeError(errno, "open \(directory)") }
  defer { close(descriptor) }
  guard fsync(descriptor) == 0 else { throw .failedSync("fsync \(directory): \(message(errno))") }
}

private func lockForWriting(_ directory: String) throws(StoreError) -> Int32 {
  let path = directory + "/writer.lock"
  let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw storeError(errno, "open \(path)") }
  guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
    let code = errno
    close(descriptor)
    guard code == EWOULDBLOCK else { throw storeError(code, "lock \(path)") }
    throw .failed("\(directory) is in use: another node writes to it")
  }
  return descriptor
}

/// What a failed sync left in the page cache isn't what the disk holds: a start believes the disk (P4). Above all a meta
/// page that reached it although its write was said to fail: with the one before it in the cache, the next commit would
/// write over pages that this one refers to. Unwritten pages stay; they are on their way.
private func dropPageCache(of directory: String) {
  let descriptor = open(directory + "/data.mdb", O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return }
  posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
  close(descriptor)
}

/// Unlocks explicitly: a child that this process just forked holds the descriptor, and with it the lock, until its exec.
private func unlock(_ descriptor: Int32) {
  flock(descriptor, LOCK_UN)
  close(descriptor)
}

func message(_ code: Int32) -> String { String(cString: mdb_strerror(code)) }

func check(_ code: Int32, _ operation: @autoclosure () -> String) throws(StoreError) {
  if code != 0 { throw storeError(code, operation()) }
}

/// What an error code of LMDB or the kernel means (P4).
func storeError(_ code: Int32, _ operation: String) -> StoreError {
  let text = "\(operation): \(message(code))"
  return switch code {
  case MDB_MAP_FULL, ENOSPC, EDQUOT: .full(text)
  case MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INVALID, MDB_VERSION_MISMATCH: .damaged(text)
  case MDB_PANIC, EIO: .failedSync(text)
  default: .failed(text)
  }
}
