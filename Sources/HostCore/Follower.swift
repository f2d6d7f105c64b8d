import DataPlane
import JournalModel
import JournalStore

/// Following: which names lead to which files, what is new in them, and when they end. Facts come in, records go to the
/// `JournalWriter`. Names are learnt from listings alone; hints only cause listings or reads (F1).
final class Follower {
  enum Timer: Hashable {
    case read(FileID)
    case poll(FileID)
    case directory(BytePath)
    case judge
    case places
  }
  /// One pass over all directories (F1). A name that no clean scan finds that began after it was missed is gone.
  struct Scan {
    var number: UInt64 = 0
    var isUnderWay = false
    var pending = 0
    var isClean = true
    /// A name is looked for that may be anywhere, also where nothing has changed (K6).
    var isSearch = false
    var isWantedAgain = false
    var due: Instant?
    var lastEnded: UInt64 = 0
    var lastClean: UInt64 = 0
  }
  let limits: Limits
  let excluded: Set<InodeKey>
  let user: UInt32
  let patterns: FollowPatterns
  let source: IdentitySource
  let files: FileTable
  let journal: JournalWriter
  let deliveries: [Delivery]

  var directories: [BytePath: Directory] = [:]
  var bases: [Directory] = []
  var scan = Scan()
  var listings: UInt64 = 0
  /// When it was last asked where all paths lead, and whether that is wanted again.
  var placesAsked: Instant?
  var arePlacesWanted = false
  /// Names that aren't followed although they should be.
  var owedNames = 0
  /// Listings asked for so far; the one whose answer is being taken.
  var requests: UInt64 = 0
  var answered: UInt64 = 0
  /// Numbers of deleted inodes, with the listings that had been asked for by then.
  var deletions: [UInt64: UInt64] = [:]
  var timers = Heap<Instant, Timer>()

  var readQueues: ReadQueues
  var reads = Unanswered<FileID>()
  var listingsUnderWay = Unanswered<BytePath>()

  /// Files that lost their last name, until that is certain or a name turns up.
  var missing: [FileID] = []
  var hasLookedForAbsent = false
  /// Files without a name that hold a descriptor, in the order in which they lost it; others among them are passed over.
  var held: [FileID] = []
  let mostHeld: Int
  var hasReportedUnknownWriters = false
  var gaps = StandingGaps()
  /// What the journal's store refuses, since this process began.
  var apart: [FileUUID: SetApart] = [:]
  /// Inodes that may be a file about which nothing is certain yet, in the order in which they came.
  var rivals: [Rival] = []

  /// What the store is asked (`Follower+Loading`).
  var loads: UInt64 = 0
  var readings: [LoadID: Reading] = [:]
  /// Inodes that it is asked about, by their number; those among them whose identity isn't usable.
  var questions: [UInt64: Int] = [:]
  var questionsByPath = 0
  /// What servers said of files that are being looked up.
  var wordCount = 0
  /// The listing that is being taken, with what the store told of it.
  var told: HeldListing?
  /// Files that may leave memory, in the order in which they ended.
  var retired = Fifo<FileID>()

  init(
    settings: HostSettings, source: IdentitySource, files: FileTable, journal: JournalWriter, deliveries: [Delivery]
  ) {
    limits = settings.limits
    readQueues = ReadQueues(limits: settings.limits)
    excluded = settings.excluded
    user = settings.user
    mostHeld = settings.mostHeld
    patterns = FollowPatterns(settings.follow)
    self.source = source
    self.files = files
    self.journal = journal
    self.deliveries = deliveries
  }

  func start(_ known: [StoredFile], _ standing: [StandingGap], _ turn: inout Turn) {
    for gap in standing { gaps.add(OpenGap(record: gap.record, file: gap.file, upper: gap.upper)) }
    for stored in known where stored.row.mayComeBack && files[stored.row.file] == nil {
      let file = insert(stored.row)
      for (delivery, noted) in zip(deliveries, stored.delivered) { delivery.enter(file, noted: noted, at: turn.now) }
    }
    for path in patterns.bases where directories[path] == nil {
      let base = Directory(path: path, parent: nil, position: patterns.position(at: path))
      directories[path] = base
      bases.append(base)
    }
    startScan(&turn)
  }

  /// A file as the journal has it.
  func insert(_ row: KnownFile) -> FollowedFile {
    let file = FollowedFile(id: files.makeID(), known: row)
    // Its row was refused when the gap was recorded: a read tells whether that stands.
    if file.gapFrom == nil, gaps.has(file.uuid) { file.gapFrom = file.length }
    // Its last record may be any of them.
    file.lastRecord = journal.position.length &- 1
    files.insert(file)
    return file
  }

  /// A scan that is due begins when the one under way has ended.
  var nextDeadline: Instant? {
    let hung = [reads.oldest, listingsUnderWay.oldest].compactMap { $0 }.min().map { $0 + limits.hungAfter }
    return [timers.leastKey, scan.isUnderWay ? nil : scan.due, hung].compactMap { $0 }.min()
  }

  func tick(_ turn: inout Turn) {
    callHung(&turn)
    // What becomes due meanwhile waits for the next tick.
    var rest = timers.count
    while rest > 0, let (due, timer) = timers.pop(if: { $0 <= turn.now }) {
      rest -= 1
      switch timer {
      case .read(let id):
        guard let file = files[id], file.readDue == due else { continue }
        file.readDue = nil
        check(file)
      case .poll(let id):
        guard let file = files[id], file.pollDue == due else { continue }
        file.pollDue = nil
        poll(file, &turn)
      case .directory(let path):
        guard let directory = directories[path], directory.pollDue == due else { continue }
        directory.pollDue = nil
        poll(directory, &turn)
      case .judge: judgeMissing(&turn)
      case .places: askPlaces(&turn)
      }
    }
    if let due = scan.due, due <= turn.now, !scan.isUnderWay { startScan(&turn) }
  }

  func hinted(_ hint: WatchHint, _ turn: inout Turn) {
    switch hint {
    case .modified(let path, let name):
      guard let directory = directories[path], !directory.isRemoved else { return }
      if let binding = directory.names[name] {
        if let file = files[binding.file] { wantRead(file, &turn) }
      } else if patterns.isFollowed(name, in: directory.position) {
        directory.want(name: name)
        request(directory, &turn)
      }
    case .changed(let path, let name):
      guard let directory = directories[path], !directory.isRemoved else { return }
      directory.want(name: name)
      request(directory, &turn)
    case .lost(let path):
      guard let directory = directories[path], !directory.isRemoved else { return }
      directory.isWatched = false
      directory.wantEverything()
      request(directory, &turn)
    case .overflow:
      wantScan(at: turn.now, &turn)
    case .mounted:
      wantPlaces(&turn)
    }
  }

  /// At once, but no more often than this: a machine may mount all day.
  private static let placesInterval = Interval.milliseconds(100)

  private func wantPlaces(_ turn: inout Turn) {
    guard !arePlacesWanted else { return }
    arePlacesWanted = true
    if let asked = placesAsked, turn.now < asked + Self.placesInterval {
      timers.push(asked + Self.placesInterval, .places)
    } else {
      askPlaces(&turn)
    }
  }

  private func askPlaces(_ turn: inout Turn) {
    arePlacesWanted = false
    placesAsked = turn.now
    for directory in directories.values.sorted(by: { $0.path < $1.path }) {
      directory.wanted.place = true
      request(directory, &turn)
    }
  }

  func request(_ directory: Directory, _ turn: inout Turn) {
    guard let effect = directory.nextRequest() else { return }
    requests &+= 1
    directory.request = requests
    listingsUnderWay.ask(directory.path, at: turn.now)
    turn.emit(effect)
  }

  /// A file system that doesn't answer keeps neither other reads nor the scan waiting; it is no sign that anything of it
  /// is gone (D10).
  private func callHung(_ turn: inout Turn) {
    guard turn.now.nanoseconds >= limits.hungAfter.nanoseconds else { return }
    let limit = Instant(nanoseconds: turn.now.nanoseconds - limits.hungAfter.nanoseconds)
    while let id = reads.nextHung(askedBy: limit) { readQueues.hangs(id) }
    while let path = listingsUnderWay.nextHung(askedBy: limit) {
      if let directory = directories[path] { discharge(directory, isClean: false) }
    }
    endScanIfDone(&turn)
  }
}

// MARK: Scans

extension Follower {
  /// A scan that begins not before now is wanted by then.
  func wantScan(at due: Instant, _ turn: inout Turn) {
    if scan.isUnderWay, due <= turn.now {
      scan.isWantedAgain = true
    } else if due <= turn.now {
      startScan(&turn)
    } else if scan.isUnderWay || scan.due.map({ due < $0 }) ?? true {
      // While one is under way `due` is kept for afterwards.
      scan.due = min(due, scan.due ?? due)
    }
  }

  func startScan(_ turn: inout Turn) {
    scan.number += 1
    scan.isUnderWay = true
    scan.isClean = true
    scan.isSearch = isUnsure || !hasLookedForAbsent || !rivals.isEmpty
    scan.isWantedAgain = false
    scan.pending = 0
    scan.due = nil
    for base in bases { include(base, &turn) }
    endScanIfDone(&turn)
  }

  private func include(_ directory: Directory, _ turn: inout Turn) {
    require(directory, &turn)
    let children = directory.children.sorted { $0.key.lexicographicallyPrecedes($1.key) }
    for child in children { include(child.value.directory, &turn) }
  }

  /// Lists the directory, all of it unless it is known and has stood still; a scan under way waits for it.
  func require(_ directory: Directory, _ turn: inout Turn) {
    if scan.isUnderWay, directory.neededByScan != scan.number {
      directory.neededByScan = scan.number
      scan.pending += 1
    }
    wantChanges(in: directory, at: turn.now)
    request(directory, &turn)
    if listingsUnderWay.isHung(directory.path) { discharge(directory, isClean: false) }
  }

  private func wantChanges(in directory: Directory, at now: Instant) {
    let isDue = directory.listedInFull + limits.fullListingInterval <= now
    if directory.known == nil || isDue || scan.isUnderWay && scan.isSearch {
      directory.wantEverything()
    } else {
      directory.wanted.changes = true
    }
  }

  func discharge(_ directory: Directory, isClean: Bool) {
    guard scan.isUnderWay, directory.neededByScan == scan.number, directory.doneInScan != scan.number else { return }
    directory.doneInScan = scan.number
    scan.pending -= 1
    if !isClean { scan.isClean = false }
  }

  func endScanIfDone(_ turn: inout Turn) {
    guard scan.isUnderWay, scan.pending == 0 else { return }
    scan.isUnderWay = false
    scan.lastEnded = scan.number
    if scan.isClean {
      scan.lastClean = scan.number
      forgetRivals()
      for delivery in deliveries { delivery.mustAskAboutGaps = true }
    }
    if scan.isClean, !hasLookedForAbsent {
      hasLookedForAbsent = true
      for file in files.all where file.presence == .absent && file.closed == nil { miss(file, &turn) }
      wakeRivals(of: nil, &turn)
    }
    judgeMissing(&turn)
    let regular = turn.now + limits.rescanInterval
    scan.due = min(scan.due ?? regular, regular)
    if isUnsure { wantScan(at: turn.now + (scan.isClean ? limits.pollInterval : limits.retry), &turn) }
    if scan.isWantedAgain { scan.due = turn.now }
  }

  /// No clean scan has begun since some file lost its last name.
  private var isUnsure: Bool {
    missing.contains { files[$0].map { $0.missedInScan >= scan.lastClean } ?? false }
  }

  func poll(_ directory: Directory, _ turn: inout Turn) {
    guard !directory.isRemoved else { return }
    if directory.isWatched, directory.condition == .listed {
      directory.wanted.place = !directory.isWayWatched
      for name in directory.links + directory.unexamined { directory.want(name: name) }
    } else {
      wantChanges(in: directory, at: turn.now)
    }
    request(directory, &turn)
  }

  /// Looks again where no watch tells: an unwatched or missing directory, one whose path may lead elsewhere, targets of
  /// links, entries that couldn't be examined.
  func schedulePoll(_ directory: Directory, _ turn: inout Turn) {
    let isSeen = directory.isWatched && directory.condition == .listed
    guard !isSeen || !directory.isWayWatched || !directory.links.isEmpty || !directory.unexamined.isEmpty else {
      return
    }
    let due = turn.now + (directory.condition == .failed ? limits.retry : limits.pollInterval)
    // What a failure put off comes earlier once a scan could list it.
    if let earlier = directory.pollDue, earlier <= due { return }
    directory.pollDue = due
    timers.push(due, .directory(directory.path))
  }
}
