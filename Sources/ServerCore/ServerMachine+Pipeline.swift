import DataPlane
import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// The pipeline of a string (P2): verify, then into the log or straight to the plain file, then commit. `advance` starts
// whatever can be started; every input that changes a string ends in it.

extension ServerMachine where H.Value == Digest {
  /// Verified points of a string that may wait for a commit.
  private var mostPoints: Int { 1_024 }

  mutating func advance(_ index: Int) {
    guard phase == .serving || phase == .repairing else { return }
    takeWaiting(index)
    goOnProbing(index)
    verifyNext(index)
    writeNext(index)
    if nextPoint(index, logged: logged) != nil { enqueue(index) }
    noteOwed(index)
    settle(index)
  }

  // MARK: Verification (W3)

  private mutating func verifyNext(_ index: Int) {
    guard !strings[index].isVerifying else { return }
    guard strings[index].received > strings[index].verified else {
      strings[index].tail = .kept
      strings[index].gapAhead = nil
      return
    }
    readWindow(index)
    judgeGap(index)
    if strings[index].tail == .doomed { return discardTail(index) }
    if strings[index].isUnproven {
      if strings[index].plain == .broken, strings[index].tail == .ending { return discardTail(index) }
      return prove(index)
    }
    guard strings[index].points.count < mostPoints else { return }
    let from = strings[index].verified
    let next = strings[index].promises.verifiable(
      from: strings[index].examined, received: strings[index].received, span: UInt64(limits.syncSlice))
    guard !next.isEmpty else {
      if strings[index].nextPromise(after: strings[index].examined) == .unread { return }
      if strings[index].tail == .ending { return discardTail(index) }
      guard isHopeless(index) else { return }
      if strings[index].passedOver > strings[index].verified {
        refuseRoot(index, at: strings[index].passedOver)
      } else {
        giveUp(index, .busy, "no signed length is left that these bytes may have")
      }
      return discardTail(index)
    }
    let key = strings[index].row.key
    strings[index].verifying = next
    let promises = next.map { Promise(key: key.key, length: $0.length, root: $0.root) }
    out.append(
      .verify(key, strings[index].row.segment, from: from, root: strings[index].verifiedRoot, promises: promises))
  }

  mutating func verified(_ key: StringKey, _ answer: VerifyAnswer) {
    guard let index = index(of: key), strings[index].isVerifying else { return }
    let asked = strings[index].verifying
    strings[index].verifying = []
    if let reason = answer.unreadable {
      strings[index].tail = .doomed
      return fail(index, .unstorable, reason)
    }
    let from = strings[index].verified
    let isMet =
      answer.upTo > from && answer.upTo <= strings[index].received
      && asked.contains(PromiseWindow.Item(length: answer.upTo, root: answer.root))
    if isMet {
      strings[index].points.append(
        StringIntake.VerifiedPoint(
          end: answer.upTo, root: answer.root,
          met: answer.met.map { PromiseWindow.Item(length: $0.length, root: $0.root) }, leaves: answer.leaves))
      strings[index].verified = answer.upTo
      strings[index].verifiedRoot = answer.root
      strings[index].promises.pass(answer.upTo)
      if strings[index].row.branch != nil, strings[index].plain == .none { markRowDirty(index) }
    }
    if let failed = answer.failedAt {
      strings[index].passedOver = max(strings[index].passedOver, failed)
    } else if !isMet {
      refuseRoot(index, at: answer.upTo)
    }
    advance(index)
  }

  /// The rest of a half-sent extent won't come, unless it ends before the gap.
  private mutating func judgeGap(_ index: Int) {
    guard let gap = strings[index].gapAhead else { return }
    let received = strings[index].received
    switch strings[index].nextPromise(after: received) {
    case .unread: return
    case .at(let next) where next <= gap: break
    case .at, .none: if !strings[index].promises.contains(received) { endTail(index) }
    }
    strings[index].gapAhead = nil
  }

  // MARK: The window of promises (K4)

  /// Asks the store in time for what lies beyond the window.
  private mutating func readWindow(_ index: Int) {
    let (ahead, count) = (strings[index].examined, max(1, limits.promiseWindow))
    let wanted = ahead < strings[index].row.recorded ? (count + 1) / 2 : 0
    guard strings[index].promises.isShort(of: wanted, beyond: ahead) else { return }
    strings[index].promises.beginReading(strings[first(index)].newPromises)
    trimWindow(index)
    let key = strings[index].row.key
    read(.promises(key.key, beyond: strings[index].promises.horizon, count: count), for: .window(key))
  }

  mutating func windowRead(_ key: StringKey, _ file: LoadedFile?) {
    guard let index = index(of: key), let file else { return }
    strings[index].promises.endReading(file.promises, end: file.promisesEnd)
    trimWindow(index)
    noteOwed(index)
    advance(index)
  }

  mutating func trimWindow(_ index: Int) {
    strings[index].promises.trim(beyond: strings[index].examined, to: limits.promiseWindow)
  }

  /// Bytes failed a promise, and there is no later one that they may meet (other bytes may be meant by it, J4), or it lies
  /// further off than an extent: the credit needn't reach there, and what the file holds of it until then would be missing
  /// to all others of this connection (W1).
  private func isHopeless(_ index: Int) -> Bool {
    let string = strings[index]
    guard string.tail == .kept else { return false }
    // A branch begins with the leaf in which it leaves: before the extent that its first promise covers, which was met by
    // what it leaves as far as that has it.
    let before = string.row.branch == nil ? 0 : limits.leafSize
    switch string.nextPromise(after: string.examined) {
    case .at(let next):
      return string.passedOver > string.verified && next - string.verified > UInt64(max(0, limits.extentSize + before))
    case .none: return true
    case .unread: return false
    }
  }

  /// What was met is committed, the host is told what is held, and looks at its file again.
  private mutating func refuseRoot(_ index: Int, at length: UInt64) {
    giveUp(index, .rootMismatch, "the bytes up to \(length) don't have the recorded root")
  }

  /// What isn't verified is discarded, and its file refused when what is verified is committed.
  mutating func giveUp(_ index: Int, _ code: RefusalCode, _ text: String) {
    strings[index].refusal = (code, text)
    strings[index].isSetAside = true
    if let owner = strings[index].owner {
      connections[owner]?.session?.refused.insert(strings[index].row.key.key.file)
    }
    strings[index].tail = .doomed
  }

  /// Received bytes that no promise reaches are given up, once nothing is being done about the string.
  private mutating func discardTail(_ index: Int) {
    strings[index].tail = .doomed
    guard !strings[index].isWorkedOn else { return }
    strings[index].tail = .kept
    strings[index].passedOver = 0
    let from = strings[index].verified
    let bytes = strings[index].received - from
    guard bytes > 0 else { return }
    out.append(.discard(strings[index].row.key, from: from))
    strings[index].received = from
    unhold(bytes, tally: strings[index].tally)
    release(bytes, to: strings[index].owner)
  }

  /// The connection is gone, or the host begins anew with this file.
  mutating func abandon(_ index: Int, of id: ConnectionID) {
    guard strings[index].owner == id else { return }
    dropWaiting(index)
    strings[index].isComparisonVoid = strings[index].comparing != nil
    strings[index].refusal = nil
    endTail(index)
    advance(index)
  }

  /// What no promise reaches is given up when the rest is verified.
  mutating func endTail(_ index: Int) {
    if strings[index].tail == .kept, strings[index].received > strings[index].verified { strings[index].tail = .ending }
  }

  private mutating func dropWaiting(_ index: Int) {
    let frames = strings[index].waiting
    strings[index].waiting = []
    for frame in frames { drop(frame, tally: strings[index].tally) }
  }

  /// When nothing of a string is on its way any more, its connection lets go of it, and who waits for that is told.
  private mutating func settle(_ index: Int) {
    guard strings[index].isDrained else { return }
    if let owner = strings[index].owner {
      strings[index].owner = nil
      strings[index].isSetAside = isRefused(strings[index].row.key.key.file, tally: strings[index].tally)
      noteOwed(index)
      connections[owner]?.session?.owned.remove(index)
      if let refusal = strings[index].refusal { sendRefusal(index, refusal.code, refusal.text, to: owner) }
    }
    strings[index].refusal = nil
    releaseResumers(index)
    removeIfNothing(index)
  }

  // MARK: Writing (P2)

  func fitsLog(_ size: UInt64, logged: UInt64) -> Bool {
    let capacity = UInt64(max(0, limits.logCapacity))
    return !isLogSuspended && size <= UInt64(max(0, limits.logPayloadSize)) && logged <= capacity
      && size <= capacity - logged
  }

  /// A write begins where the plain file ends. Earlier committed bytes come first: they are folded before a later range
  /// goes straight to the file.
  private mutating func writeNext(_ index: Int) {
    guard strings[index].writing == nil, strings[index].plain == .named, strings[index].failure == nil else { return }
    let committed = strings[index].committed
    let written = strings[index].written
    if written < committed { return write(index, upTo: committed, sync: false) }
    if strings[index].bulk == nil, !strings[index].isPayloadInFlight, let first = strings[index].points.first,
      !fitsLog(first.end - committed, logged: logged)
    {
      let slice = UInt64(limits.syncSlice)
      strings[index].bulk = strings[index].points.last { $0.end - committed <= slice }?.end ?? first.end
      requestSyncIfLogIsFull(first.end - committed)
    }
    if let bulk = strings[index].bulk, written < bulk, mayExceed(index) {
      write(index, upTo: written + min(bulk - written, UInt64(max(1, limits.syncSlice))), sync: true)
    }
  }

  /// Bytes may go to the plain file ahead of their commit: should a crash come between, the next start knows (K2).
  private mutating func mayExceed(_ index: Int) -> Bool {
    if strings[index].unfinished == .absent {
      strings[index].unfinished = .wanted
      markRowDirty(index)
    }
    return strings[index].unfinished == .durable
  }

  /// What is too large for the log will go straight to the plain file: the row that it needs comes with its record.
  /// Not before the plain file was looked at: a row that says so would make what is too long a crash's leftover (P3).
  mutating func announceBulk(_ index: Int, upTo length: UInt64) {
    guard !strings[index].isUnproven else { return }
    let begin = max(strings[index].committed, strings[index].promises.last(before: length) ?? 0)
    if strings[index].unfinished == .absent, length - begin > UInt64(max(0, limits.logPayloadSize)) {
      strings[index].unfinished = .wanted
    }
  }

  private mutating func write(_ index: Int, upTo end: UInt64, sync: Bool) {
    strings[index].writing = end
    strings[index].attempted = max(strings[index].attempted, end)
    let row = strings[index].row
    out.append(.write(row.key, row.segment, from: strings[index].written, upTo: end, sync: sync))
  }

  mutating func written(_ key: StringKey, upTo: UInt64, _ outcome: DiskOutcome) {
    guard let index = index(of: key), strings[index].plain == .named, let end = strings[index].writing else { return }
    strings[index].writing = nil
    switch outcome {
    case .done:
      let isFold = strings[index].bulk == nil
      let bytes = end - strings[index].written
      strings[index].written = end
      if isFold {
        unfolded -= bytes
        out.append(.free(key, below: end))
        noteUnsynced(index, bytes)
      }
    case .failed(let text): fail(index, .diskFull, text)
    case .unusable(let text): fail(index, .unstorable, text)
    case .failedSync(let text): return halt("syncing \(key.key.file) of \(key.key.host): \(text)")
    }
    advance(index)
  }

  /// Writing, making or reading the plain file failed: this file's payload is refused for now, what is verified is kept,
  /// and it is tried again (P4).
  mutating func fail(_ index: Int, _ code: RefusalCode, _ text: String) {
    if strings[index].failure == nil { failing.append(index) }
    strings[index].failure = (code, text)
    if failingRetry == nil { failingRetry = now + limits.retry }
    dropWaiting(index)
    endTail(index)
    report(index, code, text)
    if let owner = strings[index].owner { sendRefusal(index, code, text, to: owner) }
    releaseResumers(index)
    advance(index)
  }

  /// A frame's worth of strings in a step: a host decides how many can't be made.
  mutating func retryFailing() {
    failingRetry = nil
    if retrying.isEmpty {
      for index in failing { retrying.append(index) }
      failing = []
    }
    for _ in 0..<max(1, limits.recordsPerFrame) {
      guard let index = retrying.popFirst() else { break }
      guard strings[index].apart == nil else { continue }
      strings[index].failure = nil
      switch strings[index].plain {
      case .failed: createAgain(index)
      case .broken: repair(index)
      case .none, .claiming, .creating, .made, .named, .unproven, .proving: break
      }
      advance(index)
    }
    if !retrying.isEmpty { failingRetry = now } else if !failing.isEmpty { failingRetry = now + limits.retry }
  }
}
